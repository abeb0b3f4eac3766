//! The cache, and those who are told.

use super::*;

#[test]
fn hooks_are_programs_by_absolute_paths() {
    let hooks = |text: &str| good(&format!("{text}\n{LEAST}")).hooks;
    assert_eq!(hooks("").on_verdict, Vec::<Vec<String>>::new());
    let two = hooks("hooks.on_verdict = [['/a/notify', '--from', ''], ['/b']]\nhooks.timeout='5s'");
    assert_eq!(two.on_verdict, [vec!["/a/notify", "--from", ""], vec!["/b"]]);
    assert_eq!(two.timeout, Duration::from_secs(5));
    for (value, must) in [
        ("'/a'", "must be a list of lists of strings"),
        ("['/a', 'b']", "must be a list of lists of strings"),
        ("[['/a', 1]]", "must be a list of strings"),
        ("[[]]", "must name a program"),
        ("[['/a'], ['']]", "must name a program"),
        ("[['notify']]", "must name each program by an absolute path"),
        ("[['bin/notify']]", "absolute path"),
    ] {
        let message = wrong(&format!("hooks.on_verdict = {value}"));
        assert!(message.starts_with("`hooks.on_verdict` "), "{message}");
        assert!(message.contains(must) && message.lines().count() == 1, "{value}: {message}");
    }
    assert_eq!(wrong("hooks.timeout = '0s'"), "`hooks.timeout` must be longer than zero");
    assert_eq!(
        wrong("hooks.onverdict = []"),
        "unknown key `hooks.onverdict`; did you mean `hooks.on_verdict`?"
    );
}

#[test]
fn a_report_needs_a_place_and_a_token() {
    const REPORT: &str = "[report]\nforgejo = 'https://git.example.org/forge/'\n\
        repository = 'infra/nixos'\ntoken_file = '/t'\n";
    let report = |text: &str| parsed(&format!("{LEAST}{text}"));
    let wrong = |text: &str| report(text).unwrap_err().to_string();
    let whole = report(REPORT).unwrap().report.unwrap();
    assert_eq!(whole.forgejo, "https://git.example.org/forge");
    assert_eq!((whole.repository.as_str(), whole.ca_file), ("infra/nixos", None));
    assert_eq!(good(LEAST).report, None);
    assert_eq!(wrong("[report]").lines().count(), 3);
    for key in ["forgejo", "repository", "token_file"] {
        let message = wrong(&REPORT.replace(key, "#"));
        assert!(message.contains(&format!("`report.{key}` is missing")), "{message}");
    }
    for (line, what) in [
        ("forgejo = 'git.example.org'", "must be a URL"),
        ("forgejo = 'https://me@git.example.org'", "not name a user"),
        ("forgejo = 'https://git.example.org/?token=x'", "no `?`"),
        ("forgejo = 'http://git.example.org'", "in clear"),
        ("repository = 'nixos'", "owner and name"),
        ("repository = 'infra/nixos/x'", "owner and name"),
        ("repository = '../nixos'", "owner and name"),
        ("repository = 'infra/nix?s'", "owner and name"),
        ("token_file = 't'", "absolute"),
        ("ca_file = 't'", "absolute"),
        ("token = 'secret'", "unknown key `report.token`"),
    ] {
        let key = line.split(' ').next().unwrap();
        let kept = REPORT.lines().filter(|l| l.split(' ').next() != Some(key));
        let message = wrong(&format!("{}\n{line}\n", kept.collect::<Vec<_>>().join("\n")));
        assert!(message.contains(what), "{line}: {message}");
        assert!(!message.contains("secret"), "{message}");
    }
    let local = REPORT.replace("https://git.example.org/forge/", "http://[::1]:3000");
    assert!(report(&local).is_ok());
}

pub(super) const CACHE: &str = "[cache]\nendpoint = 'https://cache.example.org/'\nname = 'fort'\n\
    token_file = '/t'\npublic_key = 'fort:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA='\n";

#[test]
fn a_cache_needs_what_it_is_used_for() {
    let cache = |text: &str| parsed(&format!("{LEAST}{text}"));
    let wrong = |text: &str| cache(text).unwrap_err().to_string();
    let whole = cache(CACHE).unwrap().cache.unwrap();
    assert_eq!(whole.endpoint, "https://cache.example.org");
    assert!(whole.substitute && whole.publish && whole.jobs == 4);
    assert_eq!(good(LEAST).cache, None);

    let without = |key: &str| CACHE.replace(key, "#");
    assert!(wrong(&without("public_key")).contains("`cache.public_key` is missing"));
    assert!(cache(&(without("public_key") + "substitute = false")).is_ok());
    assert!(wrong(&without("token_file")).contains("`cache.token_file` is missing"));
    assert!(cache(&(without("token_file") + "publish = 'off'")).is_ok());
    assert_eq!(wrong("[cache]").lines().count(), 4);
    for (line, what) in [
        ("jobs = 0", "from 1 to 32"),
        ("jobs = 33", "from 1 to 32"),
        ("upstream_keys = 'a:b'", "(no colon)"),
        ("publish = 'always'", "must be \"after-success\" or \"off\""),
    ] {
        let found = wrong(&format!("{CACHE}{line}"));
        assert!(found.contains(what), "{line}: {found}");
    }
}

#[test]
fn a_token_is_not_sent_in_clear_but_to_this_host() {
    const REPORT: &str = "[report]\nforgejo = 'https://cache.example.org/'\n\
        repository = 'infra/nixos'\ntoken_file = '/t'\n";
    for (endpoint, good) in [
        ("http://cache.example.org", false),
        ("HTTP://cache.example.org", false),
        ("http://localhost.example.org", false),
        ("http://127.0.0.1:8080", true),
        ("Http://LOCALHOST:8080", true),
        ("http://[::1]:8080", true),
        ("https://cache.example.org:8080/attic/", true),
        ("HTTPS://cache.example.org", true),
        ("https://user@cache.example.org", false),
        ("https://user:pass@cache.example.org", false),
        ("ftp://cache.example.org", false),
        ("https://cache.example.org/?x", false),
        ("https:cache.example.org", false),
        ("https:\\\\cache.example.org", false),
    ] {
        for section in [CACHE, REPORT] {
            let text = section.replace("https://cache.example.org/", endpoint);
            let parsed = parsed(&format!("{LEAST}{text}"));
            assert_eq!(parsed.is_ok(), good, "{endpoint}: {parsed:?}");
        }
    }
    // What anybody may read is signed: only who changes it is to be noticed.
    let public = CACHE.replace("token_file", "#").replace("https", "http");
    assert!(parsed(&format!("{LEAST}{public}publish = 'off'")).is_ok());
}

#[test]
fn more_than_one_key_can_sign_and_each_is_one() {
    let key = "fort:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let keys = |value: &str| {
        let text = CACHE.replace(&format!("'{key}'"), value);
        parsed(&format!("{LEAST}{text}")).map(|config| config.cache.unwrap().public_keys)
    };
    assert_eq!(keys(&format!("['{key}', '{key}']")).unwrap().len(), 2);
    for bad in ["'fort'", "'fort:AAAA='", "':AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA='", "7"] {
        assert!(keys(bad).is_err(), "{bad}");
    }
}
