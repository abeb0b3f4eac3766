//! Permissions: which token allows what, and the answers where it does not.

use base64::Engine as _;
use serde_json::{Value, json};

use super::ask::{Answer, Subject, contents, info, unique};
use crate::support::attic::Claims;

const UNAUTHORIZED: (u16, &str, &str) = (401, "Unauthorized", "Unauthorized.");
const NO_CACHE: (u16, &str, &str) = (404, "NoSuchCache", "The requested cache does not exist.");
const ACCESS: (u16, &str, &str) =
    (403, "AccessError", "Access error: User does not have permission to complete this action.");

#[track_caller]
fn assert_error(answer: &Answer, (code, error, message): (u16, &str, &str)) {
    assert_eq!(answer.error(), (code, error.to_owned(), message.to_owned()));
    assert_eq!(answer.header("www-authenticate"), None);
}

/// The three calls of an agent.
fn all_three(subject: &Subject, cache: &str, token: &str) -> [Answer; 3] {
    let nar = contents(10);
    [
        subject.config(cache).bearer(token).send(),
        subject.missing(cache, &[unique()]).bearer(token).send(),
        subject.upload(&info(cache, &nar), &nar).bearer(token).send(),
    ]
}

#[test]
fn a_token_that_is_not_good_counts_as_none() {
    let subject = Subject::new();
    let good = || Claims::new(&subject.cache, &["r", "w"]);
    let forged = good().sign(b"another secret");
    let token = subject.token(&["r", "w"]);
    let (first, last) = token.split_at(60);
    let damaged = format!("{first}{}", last.replacen(|_: char| true, "_", 1));
    for token in [
        subject.sign(&good().expires_in(-1)),
        subject.sign(&good().begins_in(30)),
        subject.sign(&Claims::new("other", &["r", "w"])),
        subject.sign(&Claims::new("other-*", &["r", "w"])),
        forged,
        damaged,
        "nonsense".into(),
        String::new(),
    ] {
        // Whether there is such a cache or not.
        for cache in [&subject.cache, "absent"] {
            for answer in all_three(&subject, cache, &token) {
                assert_error(&answer, UNAUTHORIZED);
            }
        }
    }
    assert_error(&subject.config(&subject.cache).send(), UNAUTHORIZED);
}

#[test]
fn time_is_taken_exactly() {
    let subject = Subject::new();
    let at = |claims: Claims| {
        subject.config(&subject.cache).bearer(&subject.sign(&claims)).send().status
    };
    let claims = || Claims::new(&subject.cache, &["r"]);
    assert_eq!(at(claims().begins_in(0)), 200);
    assert_eq!(at(claims().begins_in(5)), 401);
    assert_eq!(at(claims().expires_in(5)), 200);
    assert_eq!(at(claims().expires_in(-1)), 401);
}

#[test]
fn a_token_that_names_no_time_is_good_at_any() {
    let subject = Subject::new();
    let token = subject.sign(&Claims::new(&subject.cache, &["r"]).for_ever());
    assert_eq!(subject.config(&subject.cache).bearer(&token).send().status, 200);
}

#[test]
fn whoever_may_do_something_else_is_told_so() {
    let subject = Subject::new();
    let with = |bits: &[&str]| all_three(&subject, &subject.cache, &subject.token(bits));
    let [config, missing, upload] = with(&["r"]);
    assert_eq!(config.status, 200);
    assert_error(&missing, ACCESS);
    assert_error(&upload, ACCESS);
    let [config, missing, upload] = with(&["w"]);
    assert_error(&config, ACCESS);
    assert_eq!((missing.status, upload.status), (200, 200));
    for answer in with(&["d"]) {
        assert_error(&answer, ACCESS);
    }
    assert_eq!(with(&["r", "w"]).map(|answer| answer.status), [200; 3]);
}

#[test]
fn an_absent_cache_is_told_to_whoever_may_know() {
    let subject = Subject::new();
    let token = subject.sign(&Claims::new("absent-*", &["r"]));
    for answer in all_three(&subject, "absent-one", &token) {
        assert_error(&answer, NO_CACHE);
    }
}

#[test]
fn patterns_match_and_the_very_name_goes_first() {
    let subject = Subject::new();
    let config = |claims| subject.config(&subject.cache).bearer(&subject.sign(&claims)).send();
    assert_eq!(config(Claims::new("*", &["r"])).status, 200);
    assert_eq!(config(Claims::new("test-*", &["r"])).status, 200);
    assert_error(&config(Claims::new("*-test", &["r"])), UNAUTHORIZED);
    let both = Claims::new("*", &["r"]).and(&subject.cache, &["w"]);
    assert_error(&config(both), ACCESS);
}

#[test]
fn the_token_may_be_a_password() {
    let subject = Subject::new();
    let pair = format!("anybody:{}", subject.token(&["r"]));
    let basic = base64::engine::general_purpose::STANDARD.encode(pair);
    for scheme in ["Basic", "bAsIc"] {
        let ask = subject.config(&subject.cache);
        assert_eq!(ask.header("Authorization", &format!("{scheme} {basic}")).send().status, 200);
    }
}

#[test]
fn everybody_reads_a_public_cache_and_nobody_is_unknown_to_it() {
    let subject = Subject::public();
    let nar = contents(10);
    let info = info(&subject.cache, &nar);
    assert_eq!(subject.upload(&info, &nar).bearer(&subject.token(&["w"])).send().status, 200);
    let hash = info["store_path_hash"].as_str().unwrap();
    for file in ["nix-cache-info", &format!("{hash}.narinfo"), &format!("nar/{hash}.nar")] {
        let answer = subject.ask("GET", &format!("/{}/{file}", subject.cache)).send();
        assert_eq!(answer.status, 200, "{file}");
        assert_eq!(answer.header("x-attic-cache-visibility"), Some("public"));
    }
    // So an expired token is no 401 here.
    let expired = subject.sign(&Claims::new(&subject.cache, &["r", "w"]).expires_in(-1));
    let [config, missing, upload] = all_three(&subject, &subject.cache, &expired);
    assert_eq!(config.status, 200);
    assert_error(&missing, ACCESS);
    assert_error(&upload, ACCESS);
}

#[test]
fn a_private_cache_is_read_by_whoever_may() {
    let subject = Subject::new();
    let nar = contents(10);
    let info = info(&subject.cache, &nar);
    assert_eq!(subject.upload(&info, &nar).bearer(&subject.token(&["w"])).send().status, 200);
    let hash = info["store_path_hash"].as_str().unwrap();
    for file in ["nix-cache-info", &format!("{hash}.narinfo"), &format!("nar/{hash}.nar")] {
        let ask = || subject.ask("GET", &format!("/{}/{file}", subject.cache));
        assert_error(&ask().send(), UNAUTHORIZED);
        assert_error(&ask().bearer(&subject.token(&["w"])).send(), ACCESS);
        let answer = ask().bearer(&subject.token(&["r"])).send();
        assert_eq!(answer.status, 200, "{file}");
        assert_eq!(answer.header("x-attic-cache-visibility"), None);
    }
}

#[test]
fn a_cache_is_made_once_by_whoever_may() {
    let subject = Subject::new();
    let name = format!("new-{}", unique());
    let with = |bits: &[&str]| {
        let token = subject.sign(&Claims::new(&name, bits));
        subject.create(&name, true).bearer(&token).send()
    };
    assert_error(&subject.create(&name, true).send(), UNAUTHORIZED);
    assert_error(&with(&["r", "w"]), ACCESS);
    assert_eq!(with(&["cc"]).status, 200);
    let exists = (400, "CacheAlreadyExists", "The cache already exists.");
    assert_error(&with(&["cc"]), exists);
    let config = subject.config(&name).send().json();
    assert_eq!(config["is_public"], true);
    assert_eq!(config["upstream_cache_key_names"], serde_json::json!(["up-1"]));
}

#[test]
fn a_cache_is_changed_by_whoever_may() {
    let subject = Subject::new();
    let config = || subject.config(&subject.cache).bearer(&subject.token(&["r"])).send().json();
    let with = |bits: &[&str], change: Value| {
        subject.change(&subject.cache, &change).bearer(&subject.token(bits)).send()
    };
    let public = json!({"is_public": true, "priority": 7, "store_dir": null});
    assert_error(&subject.change(&subject.cache, &public).send(), UNAUTHORIZED);
    assert_error(&with(&["r", "w"], public.clone()), ACCESS);
    let before = config();
    let changed = with(&["cr"], public);
    assert_eq!((changed.status, changed.text()), (200, String::new()));
    let after = config();
    assert_eq!((&after["is_public"], &after["priority"]), (&json!(true), &json!(7)));
    for same in ["store_dir", "public_key", "upstream_cache_key_names"] {
        assert_eq!(after[same], before[same]);
    }
    let nothing = "General request error: No modifiable fields were set.";
    assert_error(&with(&["cr"], json!({})), (400, "RequestError", nothing));
    let kept = json!({"retention_period": {"Period": 60}});
    assert_error(&with(&["cr"], kept.clone()), ACCESS);
    assert_eq!(with(&["cr", "cq"], kept.clone()).status, 200);
    assert_eq!(config()["retention_period"], kept["retention_period"]);
    assert_eq!(with(&["cr"], json!({"keypair": "Generate"})).status, 200);
    assert_ne!(config()["public_key"], before["public_key"]);
}

#[test]
fn a_cache_is_removed_by_whoever_may() {
    let subject = Subject::new();
    let remove = |bits: &[&str]| {
        let path = format!("/_api/v1/cache-config/{}", subject.cache);
        subject.ask("DELETE", &path).bearer(&subject.token(bits)).send()
    };
    assert_error(&remove(&["cr"]), ACCESS);
    assert_eq!(remove(&["cd"]).status, 200);
    let config = subject.config(&subject.cache).bearer(&subject.token(&["r"])).send();
    assert_error(&config, NO_CACHE);
}

#[test]
fn a_key_can_be_brought_along() {
    let subject = Subject::new();
    // RFC 8032, test 1.
    let seed = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";
    let public = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    let decode = |text: &str| base64::engine::general_purpose::STANDARD.decode(text).unwrap();
    let both = [decode(seed), decode(public)].concat();
    let secret = base64::engine::general_purpose::STANDARD.encode(&both);
    let name = format!("own-{}", unique());
    let with = |key: &str| {
        let token = subject.sign(&Claims::new(&name, &["cc"]));
        let key = json!({"Keypair": key});
        subject.create_with_key(&name, true, &key).bearer(&token).send()
    };
    let short = base64::engine::general_purpose::STANDARD.encode(&both[..32]);
    for wrong in ["nothing", &format!("mine:{short}"), "mine:!"] {
        assert_eq!(with(wrong).plain_error().0, 422, "{wrong}");
    }
    assert_eq!(with(&format!("mine:{secret}")).status, 200);
    assert_eq!(subject.config(&name).send().json()["public_key"], format!("mine:{public}"));
}

#[test]
fn a_refusal_does_not_wait_for_the_body() {
    let subject = Subject::new();
    let info = info(&subject.cache, &contents(10));
    // A body that is announced, and never sent.
    let refused = |token: Option<String>| {
        let ask = subject.upload(&info, &[]);
        match token {
            Some(token) => ask.bearer(&token),
            None => ask,
        }
        .send_head(1 << 30)
    };
    assert_error(&refused(None), UNAUTHORIZED);
    assert_error(&refused(Some(subject.token(&["r"]))), ACCESS);
}

#[test]
fn whoever_still_writes_when_refused_can_read_why() {
    let subject = Subject::new();
    let nar = contents(20_000_000);
    assert_error(&subject.upload(&info(&subject.cache, &nar), &nar).send(), UNAUTHORIZED);
}
