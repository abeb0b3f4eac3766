use proptest::prelude::*;

use super::*;

const EXAMPLE: &str = include_str!("../../../config.example.toml");

/// Stands for a password wherever one is put by mistake.
const SECRET: &str = "hunter2";

/// The least that is a configuration.
const LEAST: &str = r#"
    activation.runner = "direct"
    [[remote]]
    name = "origin"
    url = "https://git.example.org/infra/nixos.git"
"#;

/// What is read of a text. Whatever that is, it shows no secret.
fn parsed(text: &str) -> Result<Config, Problems> {
    let parsed = parse(text, Path::new("config.toml"), "joker");
    let shown = format!("{parsed:?}");
    assert!(!shown.contains(SECRET), "{shown}");
    parsed
}

fn good(text: &str) -> Config {
    parsed(text).unwrap_or_else(|problems| panic!("{problems}\nin:\n{text}"))
}

/// The least configuration, and these lines before it.
fn with(lines: &str) -> Result<Config, Problems> {
    parsed(&format!("{lines}\n{LEAST}"))
}

/// Returns the problems of these lines, without the place.
fn wrong(lines: &str) -> String {
    let problems = with(lines).expect_err(lines);
    let messages: Vec<_> = problems.iter().map(|p| p.message.as_str()).collect();
    messages.join("\n")
}

/// The example with everything in it switched on.
fn whole_example() -> String {
    let is_key = |rest: &str| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[');
    let line = |line: &'static str| line.strip_prefix('#').filter(|r| is_key(r)).unwrap_or(line);
    EXAMPLE.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_sets_the_defaults() {
    let mut least = good(&LEAST.replace("activation.runner = \"direct\"", ""));
    least.remotes[0].token_file = Some("/var/lib/fort-git/deploy-token".into());
    assert_eq!(good(EXAMPLE), least);
}

#[test]
fn the_example_names_every_supported_key() {
    fn keys(table: &toml::Table, path: &str, into: &mut document::Schema) {
        for (key, value) in table {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            if let Some(table) = value.as_table() {
                keys(table, &path, into);
            }
            let items = value.as_array().into_iter().flatten();
            items.filter_map(|v| v.as_table()).for_each(|table| keys(table, &path, into));
            into.insert(path);
        }
    }
    let whole = whole_example();
    let mut named = document::Schema::new();
    keys(&whole.parse().unwrap(), "", &mut named);
    let mut schema = document::Document::schema(|root| {
        sections::config(&root, "joker");
    });
    schema.retain(|key| !unbuilt::key(key));
    assert_eq!(named, schema);
    assert_eq!(good(&whole).health.checks.len(), 4);
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    insta::assert_debug_snapshot!(good(LEAST));
}

#[test]
fn fifteen_mistakes_are_all_named_at_once() {
    let problems = parsed(include_str!("mistakes.toml")).unwrap_err();
    insta::assert_snapshot!(problems);
    assert_eq!(problems.iter().count(), 15);
}

#[test]
fn problems_serialise_as_a_list() {
    let problems = parsed("[poll]\ninterval = '-5s'").unwrap_err();
    let json = serde_json::to_value(&problems).unwrap();
    let message = "`poll.interval` must not be negative (it is \"-5s\")";
    let expected = serde_json::json!({
        "file": "config.toml", "line": 2, "column": 12, "key": "poll.interval", "message": message,
    });
    assert!(json.as_array().unwrap().contains(&expected), "{json:#}");
}

#[test]
fn a_misspelt_key_is_refused_with_the_right_one() {
    assert_eq!(
        wrong("poll.intervall = '30s'"),
        "unknown key `poll.intervall`; did you mean `poll.interval`?"
    );
    assert_eq!(
        wrong("pol.intervall = '30s'"),
        "unknown section `pol`; did you mean `poll`?\n\
         unknown key `poll.intervall`; did you mean `poll.interval`?"
    );
    assert_eq!(wrong("rootdir = '/'"), "unknown key `rootdir`; did you mean `root`?");
    assert_eq!(wrong("state-dir = '/x/y'"), "unknown key `state-dir`; did you mean `state_dir`?");
    assert_eq!(
        wrong("poll.operation = 'boot'"),
        "unknown key `poll.operation`; did you mean `branch.operation`?"
    );
    assert_eq!(wrong("colour = 'blue'"), "unknown key `colour`");
    assert_eq!(
        wrong("'poll.interval' = '5s'"),
        "unknown key `\"poll.interval\"`; did you mean `poll.interval`?"
    );
}

#[test]
fn a_misspelt_key_is_still_checked_and_not_missed() {
    let text = "activation.runner = 'direct'\n[[remote]]\nname = 'a'\nulr = 'git@host:x'";
    let problems = parsed(text).unwrap_err().to_string();
    assert_eq!(
        problems,
        "config.toml:4:1: unknown key `remote.ulr`; did you mean `remote.url`?\n\
         config.toml:4:7: `remote.url` must be a URL: for ssh, ssh://USER@HOST/PATH"
    );
}

#[test]
fn a_negative_interval_is_refused() {
    assert_eq!(
        wrong("poll.interval = \"-5s\""),
        "`poll.interval` must not be negative (it is \"-5s\")"
    );
    assert_eq!(wrong("poll.interval = '0s'"), "`poll.interval` must be longer than zero");
    assert_eq!(good(&format!("poll.jitter='0s'\n{LEAST}")).poll.jitter, Duration::ZERO);
}

#[test]
fn a_misspelt_operation_is_refused() {
    assert_eq!(
        wrong("branch.operation = \"swich\""),
        "`branch.operation` must be \"switch\" or \"boot\", not \"swich\"; did you mean \"switch\"?"
    );
}

#[test]
fn what_is_not_built_is_refused_and_not_ignored() {
    let lines =
        ["secrets.preflight = 'off'", "branch.allowed_signers = '/x'", "system.evaluate = 'never'"];
    for line in lines {
        let message = wrong(line);
        assert!(message.contains("is not supported by this version"), "{line}: {message}");
        assert_eq!(message.lines().count(), 1, "{line}: {message}");
    }
}

#[test]
fn a_value_that_never_was_one_is_not_called_unsupported() {
    for line in [
        "activation.confirm = 'perhaps'",
        "activation.runner2 = 'x'",
        "activation.windows = 'always'",
        "activation.drift = 'reverse'",
        "system.evaluate = true",
    ] {
        assert!(!wrong(line).contains("not supported"), "{line}");
    }
}

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

const CACHE: &str = "[cache]\nendpoint = 'https://cache.example.org/'\nname = 'fort'\n\
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

#[test]
fn what_only_systemd_can_do_is_refused_without_it() {
    for line in [
        "system.limits = { cpu_weight = 50 }",
        "health.check = [{ name = 'a', unit = 'a.service' }]",
        "activation.on_rollback_failure = 'reboot'",
        "reboot.allow = true",
    ] {
        assert!(wrong(line).contains("needs `activation.runner`"), "{line}");
        let systemd = LEAST.replace("\"direct\"", "\"systemd\"");
        good(&format!("{line}\n{systemd}"));
    }
}

#[test]
fn the_agent_reboots_only_where_it_is_allowed_to() {
    let systemd = LEAST.replace("\"direct\"", "\"systemd\"");
    let reboot = |lines: &str| good(&format!("{lines}\n{systemd}")).reboot;
    assert_eq!(reboot(""), None);
    assert_eq!(reboot("reboot = {}"), Some(Reboot { allow: false, windows: Windows::default() }));
    let windows = ["Mon..Fri 02:00-05:00", "Sat,Sun 22:00-08:00"];
    let both = format!("reboot.windows = {windows:?}");
    let windows = Windows::parse(&windows).unwrap();
    assert_eq!(reboot(&both), Some(Reboot { allow: false, windows: windows.clone() }));
    let both = format!("{both}\nreboot.allow = true");
    assert_eq!(reboot(&both), Some(Reboot { allow: true, windows }));
    // Where nothing reboots by itself, nothing is wrong with saying so.
    assert!(with("reboot.allow = false\nactivation.on_rollback_failure = 'report'").is_ok());
}

#[test]
fn what_is_no_window_or_time_zone_is_named_with_what_was_meant() {
    let list = "`reboot.windows` must be a list of windows such as \"Mon..Fri 02:00-05:00\"";
    for (line, message) in [
        ("reboot.windows = '02:00-05:00'", format!("{list}, not a string")),
        ("reboot.windows = [2]", list.to_owned()),
        ("reboot.windows = [02:00:00]", list.to_owned()),
        (
            "reboot.windows = ['02:00-05:00', 'mon 02:00-05:00']",
            format!(
                "{list}: \"mon 02:00-05:00\" names \"mon\", which is none of the days Mon, Tue, \
                 Wed, Thu, Fri, Sat, Sun; did you mean \"Mon\"?"
            ),
        ),
        (
            "activation.time_zone = 'Europe/Berlim'",
            "`activation.time_zone` must be the name of a time zone such as \"Europe/Berlin\", \
             not \"Europe/Berlim\"; did you mean \"Europe/Berlin\"?"
                .to_owned(),
        ),
        (
            "activation.time_zone = 'CEST'",
            "`activation.time_zone` must be the name of a time zone such as \"Europe/Berlin\", \
             not \"CEST\"; did you mean \"CET\"?"
                .to_owned(),
        ),
        ("activation.time_zone = ''", "`activation.time_zone` must not be empty".to_owned()),
        (
            "activation.time_zone = 2",
            "`activation.time_zone` must be a string, not an integer".to_owned(),
        ),
        ("reboot.allow = 'yes'", "`reboot.allow` must be true or false, not a string".to_owned()),
        ("reboot = true", "`reboot` must be a section, `[reboot]`, not a boolean".to_owned()),
        (
            "reboot.alow = true",
            "unknown key `reboot.alow`; did you mean `reboot.allow`?\n\
             `reboot.allow` = true needs `activation.runner` to be \"systemd\""
                .to_owned(),
        ),
        (
            "reboot.window = []",
            "unknown key `reboot.window`; did you mean `reboot.windows`?".to_owned(),
        ),
        (
            "reboot.time_zone = 'UTC'",
            "unknown key `reboot.time_zone`; did you mean `activation.time_zone`?".to_owned(),
        ),
        (
            "activation.on_kernel_change = 'reboot'",
            "`activation.on_kernel_change` must be \"switch\" or \"boot\", not \"reboot\"; did \
             you mean \"boot\"?"
                .to_owned(),
        ),
        (
            "activation.on_rollback_failure = true",
            "`activation.on_rollback_failure` must be \"report\" or \"reboot\", not a boolean"
                .to_owned(),
        ),
    ] {
        assert_eq!(wrong(line), message, "{line}");
    }
}

#[test]
fn the_gates_are_open_and_can_be_closed() {
    let activation = |lines: &str| good(&format!("{lines}\n{LEAST}")).activation;
    let usual = activation("");
    assert_eq!((usual.confirm, usual.drift), (Confirm::No, Drift::Report));
    assert_eq!(usual.windows, Windows::default());
    let ten_minutes = Confirm::After(Duration::from_secs(600));
    for (written, confirm) in
        [("no", Confirm::No), ("manual", Confirm::Manual), ("10m", ten_minutes)]
    {
        assert_eq!(activation(&format!("activation.confirm = '{written}'")).confirm, confirm);
    }
    assert_eq!(activation("activation.drift = 'revert'").drift, Drift::Revert);
    let written = ["Mon..Fri 02:00-05:00"];
    let windows = activation(&format!("activation.windows = {written:?}")).windows;
    assert_eq!(windows, Windows::parse(&written).unwrap());
    for (line, message) in [
        (
            "activation.confirm = 'perhaps'",
            "`activation.confirm` must be \"no\", \"manual\" or a duration such as \"30s\", \
             \"5m\" or \"2h\"",
        ),
        ("activation.confirm = '0s'", "`activation.confirm` must be longer than zero, or \"no\""),
        ("activation.confirm = '-1s'", "`activation.confirm` must not be negative"),
        ("activation.confirm = true", "`activation.confirm` must be a string, not a boolean"),
    ] {
        assert_eq!(wrong(line), message, "{line}");
    }
}

#[test]
fn what_follows_a_kernel_or_a_failed_way_back_is_chosen() {
    let systemd = LEAST.replace("\"direct\"", "\"systemd\"");
    let activation = good(&systemd).activation;
    assert_eq!(activation.on_kernel_change, OnKernelChange::Switch);
    assert_eq!(activation.on_bus_change, OnBusChange::Boot);
    assert_eq!(activation.on_rollback_failure, OnRollbackFailure::Report);
    assert_eq!(activation.time_zone, None);
    let lines = "activation.on_kernel_change = 'boot'\nactivation.on_bus_change = 'switch'\n\
                 activation.on_rollback_failure = 'reboot'\n\
                 activation.time_zone = 'Europe/Berlin'";
    let activation = good(&format!("{lines}\n{systemd}")).activation;
    assert_eq!(activation.on_kernel_change, OnKernelChange::Boot);
    assert_eq!(activation.on_bus_change, OnBusChange::Switch);
    assert_eq!(activation.on_rollback_failure, OnRollbackFailure::Reboot);
    assert_eq!(activation.time_zone, crate::windows::zone("Europe/Berlin"));
    assert!(activation.time_zone.is_some());
}

#[test]
fn limits_are_sizes_and_weights_as_systemd_has_them() {
    let systemd = LEAST.replace("\"direct\"", "\"systemd\"");
    let limits = |lines: &str| parsed(&format!("system.limits = {{ {lines} }}\n{systemd}"));
    let good = limits("memory_high = '2G', cpu_weight = 50").unwrap().system.limits;
    assert_eq!(
        (good.memory_high, good.cpu_weight, good.io_weight),
        (Some(2 << 30), Some(50), None)
    );
    for bad in [
        "memory_high = '2'G",
        "memory_max = '0'",
        "memory_max = 2",
        "cpu_weight = 0",
        "io_weight = 10001",
    ] {
        assert!(limits(bad).is_err(), "{bad}");
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
fn two_remotes_or_checks_of_one_name_are_refused() {
    let twice = format!("{LEAST}\n[[remote]]\nname = 'origin'\nurl = 'https://b/r'");
    let problems = parsed(&twice).unwrap_err().to_string();
    assert!(problems.contains("\"origin\" is already that of another remote"), "{problems}");
    let checks = "health.check = [{name='a',tcp='h:1'},{name='a',tcp='h:2'}]";
    assert_eq!(wrong(checks), "`health.check.name` \"a\" is already that of another check");
}

#[test]
fn a_check_asks_in_exactly_one_way() {
    let check = |keys: &str| wrong(&format!("health.check = [{{ name = 'a'{keys} }}]"));
    assert_eq!(check(""), "`[[health.check]]` needs one of `http`, `command`, `tcp` and `unit`");
    assert_eq!(
        check(", tcp = 'h:1', command = ['true']"),
        "`[[health.check]]` must have only one of `http`, `command`, `tcp` and `unit`"
    );
    for bad in [
        "tcp = 'h'",
        "tcp = 'h:0'",
        "tcp = ':22'",
        "tcp = 'h:+1'",
        "tcp = '::1:22'",
        "tcp = 22",
        "http = 'h/x'",
        "http = 'ftp://h/'",
        "http = 'http://u:p@h/'",
        "command = []",
        "command = 'true'",
        "command = ['']",
        "command = ['bin/x']",
        "command = [1]",
        "command = [\"x\\u0000\"]",
    ] {
        let message = check(&format!(", {bad}"));
        assert!(message.starts_with("`health.check."), "{bad}: {message}");
    }
    let checks = "health.check = [{name='a',tcp='[::1]:22'},{name='b',command=['true','']}]";
    let checks = with(checks).unwrap().health.checks;
    assert_eq!(checks[0].probe, Probe::Tcp("[::1]:22".to_owned()));
    assert_eq!(checks[1].probe, Probe::Command(vec!["true".to_owned(), String::new()]));
}

#[test]
fn the_hostname_is_put_into_branches_and_directory() {
    let lines = "system.flake_dir = './hosts/{hostname}/'\nbranch.testing = '{hostname}-test'";
    let config = with(lines).unwrap();
    assert_eq!(config.branch.testing.as_deref(), Some("joker-test"));
    assert_eq!(config.system.flake_dir, Path::new("hosts/joker"));
    let toplevel = "nixosConfigurations.{hostname}.config.system.build.toplevel";
    assert_eq!(config.system.attribute, toplevel);
    for none in ["", "\nbranch.testing = ''"] {
        let config = with(&format!("hostname = 'penny'{none}")).unwrap();
        assert_eq!((config.hostname.as_str(), config.branch.testing), ("penny", None));
    }
    for line in [
        "branch.release = '{host}'",
        "branch.testing = '{hostname'",
        "system.attribute = 'a.{}'",
        "system.flake_dir = 'hosts/hostname}'",
        "state_dir = '/var/lib/{hostname}'",
    ] {
        assert!(wrong(line).contains("must"), "{line}");
    }
}

#[test]
fn a_host_without_a_usable_name_must_be_given_one() {
    for kernel in ["", "(none)", "../etc", "a b"] {
        let problems = parse(LEAST, Path::new("c"), kernel).unwrap_err().to_string();
        assert!(problems.contains("`hostname` must be set"), "{problems}");
        let named = format!("hostname = 'a'\n{LEAST}");
        assert!(parse(&named, Path::new("c"), kernel).is_ok());
    }
    assert!(wrong("hostname = 'a/b'").starts_with("`hostname` must be a name"));
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

#[test]
fn paths_stay_where_they_belong() {
    for key in ["state_dir", "run_dir", "root", "nix.bin_dir"] {
        for bad in ["", "x", "./x", "/x/../y", "~/x"] {
            let message = wrong(&format!("{key} = '{bad}'"));
            assert!(message.starts_with(&format!("`{key}` must")), "{key} {bad}: {message}");
        }
    }
    for key in ["system.flake_dir", "system.file"] {
        for bad in ["", "/x", "..", "x/../y"] {
            let message = wrong(&format!("{key} = '{bad}'"));
            assert!(message.starts_with(&format!("`{key}` must")), "{key} {bad}: {message}");
        }
    }
    let long = format!("run_dir = '/r/{}'", "x".repeat(101));
    assert_eq!(wrong(&long), "`run_dir` must be shorter: a socket's path has 107 bytes");
    assert!(with(&long.replacen('x', "", 1)).is_ok());
}

#[test]
fn the_agents_directories_are_nobody_elses() {
    let shared = ["/", "/persist", "/persist/", "/run/", "/var/lib", "/var//lib/", "/./run/user"];
    for (key, good) in [("state_dir", "/persist/fort-agent"), ("run_dir", "/run/a/b")] {
        assert!(with(&format!("{key} = '{good}'")).is_ok());
        for shared in shared {
            let message = wrong(&format!("{key} = '{shared}'"));
            let must = format!("`{key}` must be a directory of the agent's own");
            assert!(message.starts_with(&must), "{shared}: {message}");
        }
    }
}

#[test]
fn nix_options_are_written_as_nix_reads_them() {
    let options = "nix.options = { sandbox = true, cores = 0x10, substituters = '', \
                   system-features = ['kvm', 'big'], accept-flake-config = false }";
    let options = with(options).unwrap().nix.options;
    let options: Vec<_> = options.iter().map(|(n, v)| format!("{n}={v}")).collect();
    let rendered = "accept-flake-config=false cores=16 sandbox=true substituters= \
                    system-features=kvm big";
    assert_eq!(options.join(" "), rendered);
}

#[test]
fn nix_options_that_undo_safety_are_refused() {
    for fine in [
        "max-jobs = 2",
        "build-cores = 1",
        "substituters = ''",
        "extra-substituters = ['https://cache.example.org?priority=10', 'file:///srv/cache']",
        "builders = ''",
        "sandbox = true",
        "build-use-sandbox = 'true'",
        "require-sigs = true",
        "build-users-group = ''",
        "extra-experimental-features = ['ca-derivations']",
    ] {
        assert!(with(&format!("nix.options = {{ {fine} }}")).is_ok(), "{fine}");
    }
    let systemd = LEAST.replace("\"direct\"", "\"systemd\"");
    let users = parsed(&format!("nix.options = {{ build-users-group = '' }}\n{systemd}"));
    assert!(users.unwrap_err().to_string().contains("builders run as root"));
    for bad in [
        "require-sigs = false",
        "sandbox = false",
        "sandbox = 'relaxed'",
        "build-use-sandbox = false",
        "build-use-chroot = false",
        "sandbox-fallback = true",
        "sandbox-paths = ['/etc']",
        "extra-sandbox-paths = ['/etc']",
        "build-sandbox-paths = '/etc'",
        "extra-build-chroot-dirs = '/etc'",
        "allowed-impure-host-deps = '/etc'",
        "extra-allowed-impure-host-deps = '/etc'",
        "plugin-files = '/x.so'",
        "extra-plugin-files = '/x.so'",
        "post-build-hook = '/x'",
        "pre-build-hook = '/x'",
        "build-hook = '/x'",
        "diff-hook = '/x'",
        "run-diff-hook = true",
        "external-builders = '[]'",
        "filter-syscalls = false",
        "allow-new-privileges = true",
        "builders = 'ssh://elsewhere'",
        "trusted-public-keys = 'x:y'",
        "extra-trusted-public-keys = 'x:y'",
        "binary-cache-public-keys = 'x:y'",
        "substituters = 'https://cache.example.org?trusted=1'",
        "extra-substituters = ['https://a', 'https://b?priority=1&%74rusted=true']",
        "binary-caches = 'file:///srv?trusted=true'",
        "substituters = 'https://user:hunter2@cache.example.org'",
        "substituters = 'https://hunter2@cache.example.org'",
        "impure-env = 'KEY=hunter2'",
        "nix-path = 'nixpkgs=/x'",
        "trusted-users = '*'",
        "start-id = 0",
        "an-option-of-tomorrow = true",
        "accept-flake-config = true",
        "pure-eval = false",
        "allow-unsafe-native-code-during-evaluation = true",
        "access-tokens = 'github.com=hunter2'",
        "extra-access-tokens = 'github.com=hunter2'",
        "store = 'daemon'",
        "x = 1.5",
        "x = ['a b']",
        "x = {}",
        "'--impure' = true",
        "x = \"a\\nb\"",
    ] {
        let message = wrong(&format!("nix.options = {{ {bad} }}"));
        assert!(message.starts_with("`nix.options."), "{bad}: {message}");
        assert!(!message.contains("hunter2"), "{message}");
    }
}

#[test]
fn an_option_that_is_not_taken_is_told_with_what_was_meant_or_where_it_goes() {
    assert_eq!(
        wrong("nix.options = { max-job = 2 }"),
        "`nix.options.max-job` is not known to be harmless: did you mean `max-jobs`? If not, for \
         all of Nix it is said in nix.conf"
    );
    assert_eq!(
        wrong("nix.options = { require-sigs = false }"),
        "`nix.options.require-sigs` is refused: it would have a cache believed whatever it sends"
    );
    for store in
        ["local?root=/x&require-sigs=false", "local?re%71uire-sigs=0", "auto?require-sigs="]
    {
        let said = wrong(&format!("nix.store = '{store}'"));
        assert!(said.starts_with("`nix.store` must not switch off `require-sigs`"), "{said}");
    }
    assert!(with("nix.store = 'local?root=/x&require-sigs=true'").is_ok());
}

#[test]
fn a_default_gives_way_to_what_was_written() {
    let config = with("health.timeout = '5s'\nretry.max = '10s'").unwrap();
    assert_eq!(config.health.grace, Duration::from_secs(5));
    assert_eq!(config.retry.first, Duration::from_secs(10));
    let config = with("health.grace = '1h'\nretry.first = '1h'").unwrap();
    assert_eq!(config.health.timeout, Duration::from_secs(3600));
    assert_eq!(config.retry.max, Duration::from_secs(3600));
    assert!(wrong("health.grace = '2s'\nhealth.timeout = '1s'").contains("`health.grace` must"));
    assert!(wrong("retry.first = '2s'\nretry.max = '1s'").contains("`retry.max` must"));
}

#[test]
fn wrong_types_are_named() {
    for (line, message) in [
        ("poll = 3", "`poll` must be a section, `[poll]`, not an integer"),
        ("health.remote = 'yes'", "`health.remote` must be true or false, not a string"),
        ("poll.interval = 30", "not an integer"),
        ("poll.interval = '30'", "the unit (ms, s, m, h or d) is missing"),
        ("retry.activations = 0", "must be a whole number from 1 to"),
        ("retry.activations = 1.5", "must be a whole number, not a float"),
        ("branch.operation = ['boot']", "must be \"switch\" or \"boot\", not a list"),
        ("health.check = 'x'", "must be written as `[[health.check]]`"),
        ("health.check = ['x']", "must be written as `[[health.check]]`"),
        ("nix.options = []", "must be a table, not a list"),
        ("machine_id = 'uninitialized'", "`machine_id` must be the 32"),
        ("metrics.listen = 'localhost:9101'", "`metrics.listen` must be an IP address and a port"),
    ] {
        assert!(wrong(line).contains(message), "{line}: {}", wrong(line));
    }
}

#[test]
fn a_mistake_in_the_syntax_has_a_line_and_hides_none_before_it() {
    let text = "[poll]\nintervall = '5s'\njitter = 5s\n[report]\n";
    insta::assert_snapshot!(parsed(text).unwrap_err());
}

#[test]
fn a_bracket_that_is_never_closed_is_one_mistake() {
    let rest =
        "[health]\ngrace = \"1s\"\n[[health.check]]\nname = \"web\"\ncommand = [\"a\", \"b\"]\n";
    let text = format!("{LEAST}\n[reboot]\nwindows = [\n{}", rest.repeat(10));
    let problems = parsed(&text).unwrap_err();
    let line = text.lines().position(|line| line == "windows = [").unwrap() + 1;
    assert_eq!(
        problems.to_string(),
        format!("config.toml:{line}:11: not TOML: this `[` is never closed")
    );
    // What is before it is told as ever.
    let text = format!("[poll]\nintervall = \"5s\"\njitter = 5s\n[branch]\nrelease = [\n{rest}");
    let problems = parsed(&text).unwrap_err();
    let lines: Vec<_> = problems.iter().filter_map(|problem| problem.line).collect();
    assert_eq!(lines, [2, 3, 5], "{problems}");
}

#[test]
fn a_key_given_twice_is_refused() {
    let problems = parsed(&format!("{LEAST}\nname = 'b'")).unwrap_err().to_string();
    assert!(problems.starts_with("config.toml:7:1: not TOML: duplicate key"), "{problems}");
}

#[test]
fn columns_count_characters() {
    let problems = with("system = { 'ä' = 1, flake_dir = 1 }").unwrap_err();
    let columns: Vec<_> = problems.iter().filter_map(|p| p.column).collect();
    assert_eq!(columns, [12, 33]);
}

#[test]
fn a_file_that_cannot_be_used_is_a_problem() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    let problem = || load(&file).unwrap_err().to_string();
    assert!(problem().contains("config.toml: cannot be read: No such file"));
    std::fs::write(&file, b"# \xff\n").unwrap();
    assert!(problem().contains("line 1 is not UTF-8"));
    std::fs::write(&file, " ".repeat(MOST_BYTES + 1)).unwrap();
    assert!(problem().contains("is larger than 1 MiB"));
    std::fs::write(&file, format!("hostname = 'joker'\n{LEAST}")).unwrap();
    assert_eq!(load(&file), Ok(good(LEAST)));
    assert!(load(dir.path()).unwrap_err().to_string().contains("cannot be read"));
}

#[test]
fn rubbish_as_large_as_allowed_is_refused_in_time_and_in_few_words() {
    for piece in ["a = 1\n", "[x]\n", "[[remote]]\n", "x", "[", "\"", "'\n", "intervall.", "=\n"] {
        let text = piece.repeat(MOST_BYTES / piece.len());
        let started = std::time::Instant::now();
        let problems = parsed(&text).expect_err(piece);
        assert!(problems.iter().count() <= 200, "{piece:?}");
        assert!(started.elapsed() < Duration::from_secs(60), "{piece:?} {:?}", started.elapsed());
    }
    let keys: String = (0..60_000).map(|n| format!("intervall{n} = 1\n")).collect();
    assert!(parsed(&keys).unwrap_err().iter().count() <= 200);
}

fn check_places(text: &str) {
    if let Err(problems) = parsed(text) {
        let lines = text.matches('\n').count() + 1;
        for problem in &problems {
            assert!(problem.line.is_some_and(|line| (1..=lines).contains(&line)), "{problem}");
            assert!(problem.column.is_some_and(|column| column >= 1), "{problem}");
            assert!(!problem.to_string().contains('\n'), "{problem}");
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        check_places(&text);
    }

    #[test]
    fn text_made_of_toml_never_panics(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "[", "]", "[[", "]]", "{", "}", "=", ".", ",", "\n", "\"", "'", "\"\"\"", "#", "é",
                "remote", "health", "check", "poll", "name", "url", "options", "nix", "1", "true",
                "-5s", "{hostname}", "1979-05-27", " ", "\\u0000", "\r\n",
            ]),
            0..40,
        )
    ) {
        check_places(&words.concat());
    }

    #[test]
    fn a_damaged_configuration_never_panics(
        at in any::<prop::sample::Index>(),
        cut in 0_usize..40,
        put in prop::string::string_regex("[\\[\\]{}='\"#.,\n a-z0-9é-]{0,6}").unwrap(),
    ) {
        let mut text: Vec<char> = whole_example().chars().collect();
        let at = at.index(text.len());
        let end = (at + cut).min(text.len());
        text.splice(at..end, put.chars());
        check_places(&text.into_iter().collect::<String>());
    }
}
