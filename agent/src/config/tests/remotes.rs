//! Remotes and branches: what is taken, refused and warned of.

use super::cache::CACHE;
use super::*;

#[test]
fn a_scheme_is_read_in_any_case_and_is_one_from_there_on() {
    let remote = |url: &str, more: &str| {
        let text = LEAST.replace("https://git.example.org/infra/nixos.git", url);
        good(&format!("{text}{more}")).remotes.remove(0).url
    };
    assert_eq!(
        remote("HTTPS://Git.example.org/Infra.git", ""),
        "https://Git.example.org/Infra.git"
    );
    assert_eq!(remote("File:///srv/r.git", ""), "file:///srv/r.git");
    let keys = "ssh_key_file = '/k'\nknown_hosts = '/h'";
    assert_eq!(remote("SSH://git@h/r", keys), "ssh://git@h/r");
    let cache = CACHE.replace("https", "HTTPS");
    assert_eq!(
        good(&format!("{LEAST}{cache}")).cache.unwrap().endpoint,
        "https://cache.example.org"
    );
    let check = "health.check = [{ name = 'a', http = 'HTTP://127.0.0.1/Healthz' }]";
    let check = with(check).unwrap().health.checks.remove(0);
    assert_eq!(check.probe, Probe::Http("http://127.0.0.1/Healthz".to_owned()));
}

#[test]
fn what_comes_in_clear_is_taken_from_this_host_or_where_that_is_said() {
    let remote = |url: &str, more: &str| {
        let text = LEAST.replace("https://git.example.org/infra/nixos.git", url);
        parsed(&format!("{text}{more}"))
    };
    for local in ["http://127.0.0.1:3000/r", "http://[::1]/r", "HTTP://localhost/r"] {
        assert!(remote(local, "").is_ok(), "{local}: {:?}", remote(local, ""));
        let said = remote(local, "insecure_http = true").unwrap_err().to_string();
        assert!(said.contains("`remote.insecure_http` is for an http:// `url`"), "{said}");
    }
    for other in ["http://git.example.org/r", "HTTP://10.0.0.1/r", "http://localhost.evil.org/r"] {
        let said = remote(other, "").unwrap_err().to_string();
        assert!(said.contains("`remote.url` must be an https:// or ssh:// URL"), "{said}");
        assert!(said.contains("insecure_http = true"), "{said}");
        let taken = remote(other, "insecure_http = true").unwrap();
        assert!(taken.remotes[0].insecure_http);
        let token = "insecure_http = true\ntoken_file = '/t'";
        let said = remote(other, token).unwrap_err().to_string();
        assert!(said.contains("`remote.token_file` would be sent in clear"), "{said}");
    }
    let said = remote("https://h/r", "insecure_http = true").unwrap_err().to_string();
    assert!(said.contains("is for an http:// `url` on another host only"), "{said}");
}

#[test]
fn what_lets_others_in_is_warned_of() {
    let warnings = |lines: &str| good(&format!("{LEAST}{lines}")).warnings();
    assert_eq!(warnings(""), [""; 0]);
    let warned = |lines: &str, words: &[&str]| {
        let warnings = warnings(lines);
        let [warning] = &warnings[..] else { panic!("{warnings:?}") };
        for word in words {
            assert!(warning.contains(word), "{word}: {warning}");
        }
    };
    warned("[branch]\ntesting = 'release-{hostname}-test'", &["release-joker-test", "root"]);
    let report = "[report]\nforgejo = 'https://git.example.org'\nrepository = 'infra/nixos'\n\
                  token_file = '/t'\n";
    warned(report, &["`report.token_file`", "push", "every branch"]);
    let second = "[[remote]]\nname = 'b'\nurl = ";
    let clear = format!("{second}'http://10.0.0.1/r'\ninsecure_http = true");
    warned(&clear, &["`remote.insecure_http` of b", "on the way"]);
    warned(&format!("{second}'file:///srv/r.git'"), &["`remote.url` of b", "for tests"]);
    for name in ["remote", "units"] {
        let check = format!("[[health.check]]\nname = '{name}'\ntcp = 'h:1'");
        warned(&check, &[&format!("`health.check` {name}"), "cannot be told apart"]);
    }
}

#[test]
fn a_remote_over_ssh_has_a_key_and_known_hosts_and_no_token() {
    let ssh = |lines: &str| {
        let remote = LEAST.replace("https://git.example.org/infra/nixos.git", "ssh://git@h:22/r");
        parsed(&format!("{remote}\n{lines}"))
    };
    let keys = "ssh_key_file = '/k'\nknown_hosts = '/h'";
    let remote = &ssh(keys).unwrap().remotes[0];
    assert_eq!(remote.ssh_key_file.as_deref(), Some("/k".as_ref()));
    assert_eq!(remote.known_hosts.as_deref(), Some("/h".as_ref()));
    for (lines, key) in [
        ("ssh_key_file = '/k'", "`remote.known_hosts` is missing"),
        ("known_hosts = '/h'", "`remote.ssh_key_file` is missing"),
        ("ssh_key_file = 'k'\nknown_hosts = '/h'", "`remote.ssh_key_file` must"),
        ("ssh_key_file = '/k'\nknown_hosts = '/a b'", "`remote.known_hosts` must"),
        ("ssh_key_file = '/%k'\nknown_hosts = '/h'", "`remote.ssh_key_file` must"),
        (&format!("{keys}\ntoken_file = '/t'"), "`remote.token_file` is not for"),
        (&format!("{keys}\nca_file = '/c'"), "`remote.ca_file` is not for"),
        (&format!("{keys}\nusername = 'x'"), "`remote.username` is not for"),
    ] {
        let problems = ssh(lines).unwrap_err().to_string();
        assert!(problems.contains(key), "{lines}: {problems}");
        assert_eq!(problems.lines().count(), 1, "{problems}");
    }
    for key in ["ssh_key_file = '/k'", "known_hosts = '/h'"] {
        let problems = parsed(&format!("{LEAST}\n{key}")).unwrap_err().to_string();
        assert!(problems.contains("is for an ssh:// `url` only"), "{problems}");
    }
}

#[test]
fn a_configuration_needs_a_remote() {
    for text in ["", "remote = []"] {
        let problems = parsed(&format!("{text}\nactivation.runner = 'direct'")).unwrap_err();
        assert_eq!(problems.iter().count(), 1, "{problems}");
        assert!(problems.to_string().contains("at least one `[[remote]]`"), "{problems}");
    }
    let single = LEAST.replace("[[remote]]", "[remote]");
    assert!(parsed(&single).unwrap_err().to_string().contains("be written as `[[remote]]`"));
}

#[test]
fn a_remote_is_https_or_a_file_or_http_on_this_host_without_a_token() {
    let url = |url: &str| parsed(&LEAST.replace("https://git.example.org/infra/nixos.git", url));
    for good in ["https://h/r.git", "https://[::1]:8443/r", "file:///srv/r.git", "http://[::1]/r"] {
        assert!(url(good).is_ok(), "{good}: {:?}", url(good));
    }
    for bad in [
        "",
        "r.git",
        "/srv/r.git",
        "https://",
        "https://h",
        "https:///",
        "h/r",
        "git+ssh://git@h/r",
        "ssh://git@h",
        "ssh://git@h/",
        "ssh:///r",
        "ssh://git:hunter2@h/r",
        "ssh://-oProxyCommand=x/r",
        "ssh://-l@h/r",
        "ssh://a%20b@h/r",
        "ssh://git@h:0/r",
        "ssh://git@h/r?x",
        "git@h:r.git",
        "git.example.org:r.git",
        "git://h/r",
        "ftp://h/r",
        "https://h:99999/r",
        "https://user@h/r",
        "https://user:hunter2@h/r",
        "https://h/r?private_token=hunter2",
        "https://h/r#x",
        "file://h/r",
        "file:///",
        "https://h/{hostname}.git",
        "https://h h/r",
        "https://h/r x",
        " https://h/r",
        "https:h/r",
        "https:/h/r",
        "https:///h/r",
        "https:\\\\h\\r",
        "https://h\\r",
        "file:/srv/r.git",
        "file://localhost/srv/r.git",
        "ext::https://h/r",
        "ws://h/r",
        "javascript:alert(1)",
    ] {
        let problems = url(bad).expect_err(bad).to_string();
        assert!(problems.contains("`remote.url` must"), "{bad}: {problems}");
        assert!(!problems.contains("hunter2"), "{problems}");
    }
    let token = "token_file = '/run/token'";
    let clear = LEAST.replace("https://git.example.org", "HTTP://127.0.0.1");
    let problems = parsed(&format!("{clear}\n{token}")).unwrap_err().to_string();
    assert!(problems.contains("would be sent in clear"), "{problems}");
    assert!(parsed(&format!("{LEAST}\n{token}")).is_ok());
}

#[test]
fn a_secret_put_in_the_wrong_place_is_not_repeated() {
    for line in [
        "token_file = 'hunter2'",
        "token = 'hunter2'",
        "ca_file = 'hunter2'",
        "username = 'me:hunter2'",
    ] {
        let problems = parsed(&format!("{LEAST}\n{line}")).expect_err(line).to_string();
        assert!(!problems.contains("hunter2"), "{problems}");
    }
    let problems = parsed("token = \"hunter2").unwrap_err().to_string();
    assert!(!problems.contains("hunter2"), "{problems}");
}

#[test]
fn branches_are_what_git_allows() {
    for bad in
        ["", "a..b", "-a", "a b", "a~1", "a.lock", "/a", "a/", "HEAD", "refs/heads/a", "@{0}"]
    {
        let message = wrong(&format!("branch.release = '{bad}'"));
        assert!(message.starts_with("`branch.release` must"), "{bad}: {message}");
    }
    assert!(with("branch.release = 'team/release'").is_ok());
    assert!(wrong("branch.testing = 'release'").contains("another branch"));
}
