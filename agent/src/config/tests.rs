mod activation;
mod cache;
mod nix_options;
mod remotes;

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
