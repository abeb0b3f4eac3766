//! Uploads: which are accepted, how others are refused, and which parts are never looked at.

use serde_json::{Value, json};

use super::ask::{Answer, Subject, contents, info, unique};

const SMALL: usize = 1000;
const LARGE: usize = 100_000;

fn upload(subject: &Subject, info: &Value, nar: &[u8]) -> Answer {
    subject.upload(info, nar).bearer(&subject.token(&["w"])).send()
}

fn with(mut info: Value, field: &str, value: Value) -> Value {
    info[field] = value;
    info
}

#[track_caller]
fn assert_bad(answer: &Answer, why: &str) {
    let (code, error, message) = answer.error();
    assert_eq!((code, error.as_str()), (400, "RequestError"));
    assert_eq!(message, format!("General request error: {why}"));
}

/// Whether the path was stored.
fn is_there(subject: &Subject, info: &Value) -> bool {
    let hash = info["store_path_hash"].as_str().unwrap();
    let path = format!("/{}/{hash}.narinfo", subject.cache);
    match subject.ask("GET", &path).bearer(&subject.token(&["r"])).send().status {
        200 => true,
        404 => false,
        other => panic!("{other}"),
    }
}

#[test]
fn what_is_sent_is_stored() {
    let subject = Subject::new();
    for length in [40, SMALL, LARGE, 3_000_000] {
        let nar = contents(length);
        let info = info(&subject.cache, &nar);
        assert!(!is_there(&subject, &info));
        let answer = upload(&subject, &info, &nar).json();
        assert_eq!((&answer["kind"], answer["file_size"].is_u64()), (&json!("Uploaded"), true));
        // As it is kept, which is not as it came.
        assert_ne!(answer["file_size"], json!(length));
        // A fraction only of what is cut into chunks.
        assert_eq!(answer["frac_deduplicated"].is_null(), length < 65_536, "{answer}");
        let hash = info["store_path_hash"].as_str().unwrap();
        let path = format!("/{}/nar/{hash}.nar", subject.cache);
        let stored = subject.ask("GET", &path).bearer(&subject.token(&["r"])).send();
        assert_eq!(stored.header("content-type"), Some("application/x-nix-nar"));
        assert_eq!(stored.contents().is_some(), subject.is_ours());
        assert!(stored.contents().is_none_or(|stored| stored == nar));
        assert_eq!(stored.header("transfer-encoding"), Some("chunked"));
    }
}

#[test]
fn it_may_come_in_chunks_and_with_its_information_in_front() {
    let subject = Subject::new();
    let token = subject.token(&["w"]);
    let nar = contents(LARGE);
    let info = info(&subject.cache, &nar);
    let ask = subject.upload_with_preamble(&info, &nar).bearer(&token);
    assert_eq!(ask.send_chunked(77).json()["kind"], "Uploaded");
    assert!(is_there(&subject, &info));
}

#[test]
fn a_path_of_many_references_fits_in_front_of_its_contents() {
    let subject = Subject::new();
    let token = subject.token(&["w"]);
    let nar = contents(SMALL);
    let of = |count: usize| {
        let references: Vec<String> =
            (0..count).map(|n| format!("{}-part-{n}", unique())).collect();
        with(info(&subject.cache, &nar), "references", json!(references))
    };
    let (many, more) = (of(8000), of(20_000));
    let preamble = |info| subject.upload_with_preamble(info, &nar).bearer(&token).send().status;
    assert_eq!((preamble(&many), preamble(&more)), (200, 200));
    assert!(is_there(&subject, &many) && is_there(&subject, &more));
    // Heads of some 400 KiB are read; most proxies allow 8 KiB.
    let header = |info| subject.upload(info, &nar).bearer(&token).send().status;
    assert_eq!((header(&of(8000)), header(&of(20_000))), (200, 431));
}

#[test]
fn information_that_is_no_information_is_refused() {
    let subject = Subject::new();
    let token = subject.token(&["w"]);
    let put = || subject.ask("PUT", "/_api/v1/upload-path").bearer(&token);
    let preamble = |size: &str| put().header("X-Attic-Nar-Info-Preamble-Size", size);
    assert_bad(&put().send(), "X-Attic-Nar-Info must be set");
    let malformed = "X-Attic-Nar-Info-Preamble-Size must be a valid unsigned integer";
    assert_bad(&preamble("-1").send(), malformed);
    assert_bad(&preamble("1048577").send(), "Upload info is too large");
    assert_bad(&preamble("10").body(b"{}").send(), "Upload info doesn't match specified size");
    let nonsense = put().header("X-Attic-Nar-Info", "nonsense").send();
    assert_bad(&nonsense, "expected ident at line 1 column 2");
    let (code, error, _) = put().header("X-Attic-Nar-Info", "{}").send().error();
    assert_eq!((code, error.as_str()), (400, "RequestError"));
}

#[test]
fn a_hash_is_hex_or_nix32_and_never_sri() {
    let subject = Subject::new();
    let nar = contents(SMALL);
    let digest = ring::digest::digest(&ring::digest::SHA256, &nar);
    let of = |hash: String| with(info(&subject.cache, &nar), "nar_hash", json!(hash));
    let nix32 = nix_base32::to_nix_base32(digest.as_ref());
    assert_eq!(upload(&subject, &of(format!("sha256:{nix32}")), &nar).status, 200);
    let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, digest);
    for (hash, why) in [
        (format!("sha256-{base64}"), "The string lacks a colon separator."),
        (format!("sha512:{nix32}"), "Hash algorithm sha512 is not supported."),
        (format!("sha256:{base64}"), "got 44."),
    ] {
        let info = of(hash);
        let (code, error, message) = upload(&subject, &info, &nar).error();
        assert_eq!((code, error.as_str()), (400, "RequestError"));
        assert!(message.starts_with("General request error: Hashing error: "), "{message}");
        assert!(message.contains(why), "{message}");
        assert!(!is_there(&subject, &info));
    }
}

#[test]
fn contents_that_are_not_those_announced_are_refused() {
    let subject = Subject::new();
    for (length, why) in [(SMALL, "Bad chunk hash or size"), (LARGE, "Bad NAR Hash or Size")] {
        let nar = contents(length);
        let announced = info(&subject.cache, &nar);
        // Other contents, fewer, and a size that is not theirs.
        assert_bad(&upload(&subject, &announced, &contents(length)), why);
        assert_bad(&upload(&subject, &announced, &nar[..length - 1]), why);
        let smaller = with(announced.clone(), "nar_size", json!(length - 1));
        assert_bad(&upload(&subject, &smaller, &nar), why);
        assert!(!is_there(&subject, &announced));
        assert_eq!(upload(&subject, &announced, &nar).status, 200);
    }
}

#[test]
fn what_comes_after_the_announced_size_is_not_looked_at() {
    let subject = Subject::new();
    for length in [SMALL, LARGE] {
        let nar = contents(length);
        let info = info(&subject.cache, &nar);
        assert_eq!(upload(&subject, &info, &[&nar[..], b"more"].concat()).status, 200);
        assert!(is_there(&subject, &info));
    }
}

#[test]
fn an_upload_that_breaks_off_leaves_nothing_and_can_be_tried_again() {
    let subject = Subject::new();
    for (length, half) in [(SMALL, 500), (LARGE, 50_000)] {
        let nar = contents(length);
        let info = info(&subject.cache, &nar);
        let ask = subject.upload(&info, &nar[..half]).announcing(length);
        let answer = ask.bearer(&subject.token(&["w"])).send();
        if length == SMALL {
            let (code, error, _) = answer.error();
            assert_eq!((code, error.as_str()), (500, "InternalServerError"));
        } else {
            assert_bad(&answer, "error reading a body from connection");
        }
        assert!(!is_there(&subject, &info));
        let token = subject.token(&["w"]);
        let hashes = [info["store_path_hash"].as_str().unwrap().to_owned()];
        let missing = subject.missing(&subject.cache, &hashes).bearer(&token).send().json();
        assert_eq!(missing["missing_paths"], json!(hashes));
        assert_eq!(upload(&subject, &info, &nar).json()["kind"], "Uploaded");
    }
}

#[test]
fn contents_that_are_there_already_are_deduplicated_once_they_were_proven() {
    let subject = Subject::new();
    for length in [SMALL, LARGE] {
        let nar = contents(length);
        assert_eq!(upload(&subject, &info(&subject.cache, &nar), &nar).status, 200);
        let another = info(&subject.cache, &nar);
        let why = "Bad NAR Hash or Size";
        assert_bad(&upload(&subject, &another, &contents(length)), why);
        assert_bad(&upload(&subject, &another, &[&nar[..], b"more"].concat()), why);
        let ask = subject.upload(&another, &nar[..length / 2]).announcing(length);
        let broken = ask.bearer(&subject.token(&["w"])).send();
        assert_bad(&broken, "error reading a body from connection");
        assert!(!is_there(&subject, &another));
        let answer = upload(&subject, &another, &nar).json();
        assert_eq!(answer, json!({"kind": "Deduplicated", "frac_deduplicated": null}));
        assert!(is_there(&subject, &another));
        // The very same again, too.
        assert_eq!(upload(&subject, &another, &nar).json()["kind"], "Deduplicated");
    }
}

#[test]
fn nothing_else_is_looked_at() {
    let subject = Subject::new();
    let nar = contents(SMALL);
    let garbage = with(info(&subject.cache, &nar), "store_path", json!("/some/where"));
    let garbage = with(garbage, "references", json!(["nothing", "of", "the kind"]));
    let garbage = with(garbage, "deriver", json!("none"));
    assert_eq!(upload(&subject, &garbage, &nar).status, 200);
    assert!(is_there(&subject, &garbage));
}

#[test]
fn a_path_that_is_sent_again_is_what_it_was_last() {
    let subject = Subject::new();
    let (old, new) = (contents(SMALL), contents(SMALL));
    let first = info(&subject.cache, &old);
    assert_eq!(upload(&subject, &first, &old).status, 200);
    let second =
        with(info(&subject.cache, &new), "store_path_hash", first["store_path_hash"].clone());
    assert_eq!(upload(&subject, &second, &new).json()["kind"], "Uploaded");
    let hash = first["store_path_hash"].as_str().unwrap();
    let path = format!("/{}/nar/{hash}.nar", subject.cache);
    let stored = subject.ask("GET", &path).bearer(&subject.token(&["r"])).send();
    assert!(stored.contents().is_none_or(|stored| stored == new));
}
