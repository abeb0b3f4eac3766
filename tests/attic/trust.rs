//! Metadata that Nix reads of a path, and the signature by which Nix trusts it.

use base64::Engine as _;
use ring::signature::{ED25519, UnparsedPublicKey};
use serde_json::{Value, json};

use super::ask::{Answer, Subject, contents, info, unique};

fn get(subject: &Subject, file: &str) -> Answer {
    let path = format!("/{}/{file}", subject.cache);
    subject.ask("GET", &path).bearer(&subject.token(&["r"])).send()
}

/// Uploads, and returns what Nix would read.
fn narinfo(subject: &Subject, info: &Value, nar: &[u8]) -> Answer {
    let answer = subject.upload(info, nar).bearer(&subject.token(&["w"])).send();
    assert_eq!(answer.status, 200);
    get(subject, &format!("{}.narinfo", info["store_path_hash"].as_str().unwrap()))
}

fn decoded(named: &str) -> (String, Vec<u8>) {
    let (name, key) = named.split_once(':').unwrap();
    (name.to_owned(), base64::engine::general_purpose::STANDARD.decode(key).unwrap())
}

#[test]
fn a_path_is_described_line_by_line() {
    let subject = Subject::new();
    let nar = contents(1000);
    let mut info = info(&subject.cache, &nar);
    let hash = info["store_path_hash"].as_str().unwrap().to_owned();
    let references = [format!("{}-b", unique()), format!("{}-a", unique())];
    info["references"] = json!(references);
    info["deriver"] = json!("0c0ycmvhzs0ka2mhsqxrnnpj4bkzjl9h-thing.drv");
    info["system"] = json!("x86_64-linux");
    info["sigs"] = json!(["other:c2ln"]);
    info["ca"] = json!("fixed:r:sha256:abc");
    let answer = narinfo(&subject, &info, &nar);
    assert_eq!(answer.header("content-type"), Some("text/x-nix-narinfo"));
    let text = answer.text();
    let lines: Vec<(&str, &str)> = text.lines().map(|l| l.split_once(": ").unwrap()).collect();
    let signature = lines[7].1;
    assert_eq!(
        lines,
        [
            ("StorePath", info["store_path"].as_str().unwrap()),
            ("URL", &format!("nar/{hash}.nar")),
            ("Compression", "zstd"),
            ("NarHash", info["nar_hash"].as_str().unwrap()),
            ("NarSize", "1000"),
            ("References", &references.join(" ")),
            ("Deriver", "0c0ycmvhzs0ka2mhsqxrnnpj4bkzjl9h-thing.drv"),
            ("Sig", signature),
            ("CA", "fixed:r:sha256:abc"),
        ]
    );

    // Signed in the order in which they were sent.
    let key = subject.config(&subject.cache).bearer(&subject.token(&["r"])).send().json();
    let (key_name, key) = decoded(key["public_key"].as_str().unwrap());
    let (signer, signature) = decoded(signature);
    assert_eq!(signer, key_name);
    let digest = ring::digest::digest(&ring::digest::SHA256, &nar);
    let digest = nix_base32::to_nix_base32(digest.as_ref());
    let [first, second] = &references;
    let signed = format!(
        "1;/nix/store/{hash}-thing;sha256:{digest};1000;/nix/store/{first},/nix/store/{second}"
    );
    UnparsedPublicKey::new(&ED25519, key).verify(signed.as_bytes(), &signature).unwrap();
}

/// Signed, too: whoever reads it has to look at the path himself.
#[test]
fn a_path_that_is_none_is_described_as_it_was_sent() {
    let subject = Subject::new();
    let nar = contents(10);
    let mut info = info(&subject.cache, &nar);
    for (path, dir) in [("/some/where", "/some"), ("garbage", "")] {
        info["store_path"] = json!(path);
        info["references"] = json!(["of", "no kind"]);
        let text = narinfo(&subject, &info, &nar).text();
        assert!(text.starts_with(&format!("StorePath: {path}\n")), "{text}");
        assert!(text.contains("\nReferences: of no kind\n"), "{text}");
        let signature = text.lines().find_map(|line| line.strip_prefix("Sig: ")).unwrap();
        let key = subject.config(&subject.cache).bearer(&subject.token(&["r"])).send().json();
        let (_, key) = decoded(key["public_key"].as_str().unwrap());
        let digest = ring::digest::digest(&ring::digest::SHA256, &nar);
        let digest = nix_base32::to_nix_base32(digest.as_ref());
        let signed = format!("1;{path};sha256:{digest};10;{dir}/of,{dir}/no kind");
        let (_, signature) = decoded(signature);
        UnparsedPublicKey::new(&ED25519, key).verify(signed.as_bytes(), &signature).unwrap();
    }
}

#[test]
fn a_path_without_references_has_an_empty_line_of_them() {
    let subject = Subject::new();
    let nar = contents(10);
    let text = narinfo(&subject, &info(&subject.cache, &nar), &nar).text();
    assert!(text.contains("\nReferences: \nSig: "), "{text}");
}

#[test]
fn a_cache_says_what_nix_wants_to_know() {
    let subject = Subject::new();
    let answer = get(&subject, "nix-cache-info");
    assert_eq!(answer.header("content-type"), Some("text/x-nix-cache-info"));
    assert_eq!(answer.text(), "WantMassQuery: 1\nStoreDir: /nix/store\nPriority: 41\n");
}

#[test]
fn what_is_not_there_is_not_found() {
    let subject = Subject::new();
    for file in [format!("{}.narinfo", unique()), format!("nar/{}.nar", unique())] {
        let (code, error, message) = get(&subject, &file).error();
        assert_eq!((code, error.as_str()), (404, "NoSuchObject"));
        assert_eq!(message, "The requested object does not exist.");
        // Whoever asks, and whatever cache it is.
        for cache in [&subject.cache, "absent"] {
            let answer = subject.ask("GET", &format!("/{cache}/{file}")).send();
            assert_eq!(answer.error().1, "NoSuchObject");
        }
    }
    let (code, error, message) = get(&subject, "nonsense.narinfo").error();
    assert_eq!((code, error.as_str()), (500, "InvalidStorePathHash"));
    assert_eq!(message, "Error from the common components.");
}

#[test]
fn whether_it_is_there_can_be_asked_without_reading_it() {
    let subject = Subject::new();
    let nar = contents(10);
    let info = info(&subject.cache, &nar);
    assert_eq!(narinfo(&subject, &info, &nar).status, 200);
    let hash = info["store_path_hash"].as_str().unwrap();
    for (file, status) in [(format!("{hash}.narinfo"), 200), (format!("{}.narinfo", unique()), 404)]
    {
        let path = format!("/{}/{file}", subject.cache);
        let answer = subject.ask("HEAD", &path).bearer(&subject.token(&["r"])).send();
        assert_eq!((answer.status, answer.text()), (status, String::new()));
    }
}
