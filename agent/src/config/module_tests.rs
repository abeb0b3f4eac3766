//! Tests that what the NixOS module says of the configuration is so. It is known here
//! by what nix/check generates from it, and compares with it where nixpkgs is.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::*;

/// Every option, with the agent's default in words.
const OPTIONS: &str = include_str!("../../../docs/options.md");
/// Configurations that the module writes: with one remote and nothing else, and with all it has.
const LEAST: &str = include_str!("../../../nix/rendered/least.toml");
const EVERY: &str = include_str!("../../../nix/rendered/every.toml");

/// Keys that the module leaves to whoever knows what they are for.
const NOT_DECLARED: [&str; 3] = ["activation.runner", "nix.bin_dir", "root"];

/// Every section, and what it needs.
const SECTIONS: &str = r#"
    [[remote]]
    name = "origin"
    url = "https://git.example.org/infra/nixos.git"
    [[health.check]]
    name = "nginx"
    unit = "nginx.service"
    [cache]
    endpoint = "https://cache.example.org"
    name = "fort"
    token_file = "/token"
    public_key = "fort:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
    [reboot]
    [report]
    forgejo = "https://git.example.org"
    repository = "infra/nixos"
    token_file = "/token"
"#;

/// An option of `settings`: the key, and what is said of its default.
struct Described {
    key: &'static str,
    default: Option<&'static str>,
}

fn described() -> Vec<Described> {
    let entries = OPTIONS.split("### `services.fort-agent.settings.").skip(1);
    let read = |entry: &'static str| Described {
        key: entry.split('`').next().unwrap(),
        default: entry.lines().find_map(|line| {
            line.strip_prefix("- Default: `null # the agent's: ")?.strip_suffix('`')
        }),
    };
    let all: Vec<_> = entries.map(read).collect();
    assert!(all.len() > 60, "{} options were found", all.len());
    all
}

fn parsed(text: &str) -> Result<Config, Problems> {
    parse(text, Path::new("fort-agent.toml"), "joker")
}

fn good(text: &str) -> Config {
    parsed(text).unwrap_or_else(|problems| panic!("{problems}\nin:\n{text}"))
}

/// `a.*.b` is `b` of the first in the list `a`.
fn set(table: &mut Table, key: &str, value: Value) {
    let Some((section, rest)) = key.split_once('.') else {
        table.insert(key.to_owned(), value);
        return;
    };
    let next = table.entry(section).or_insert_with(|| Table::new().into());
    match rest.strip_prefix("*.") {
        Some(rest) => set(next[0].as_table_mut().unwrap(), rest, value),
        None => set(next.as_table_mut().unwrap(), rest, value),
    }
}

fn named(table: &Table, path: &str, into: &mut BTreeSet<String>) {
    for (key, value) in table {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let items = value.as_array().into_iter().flatten();
        let tables = items.chain([value]).filter_map(Value::as_table);
        tables.for_each(|table| named(table, &path, into));
        into.insert(path);
    }
}

#[test]
fn the_defaults_that_its_options_name_are_the_agents() {
    let without = good(SECTIONS);
    let mut compared = 0;
    for Described { key, default } in described() {
        let value = match default {
            None | Some("none" | "no listener" | "the host's" | "networking.hostName") => continue,
            Some("always") => Value::Array(Vec::new()),
            Some(default) => {
                let table: Table = format!("it = {default}").parse().unwrap();
                table["it"].clone()
            }
        };
        let mut table: Table = SECTIONS.parse().unwrap();
        set(&mut table, key, value);
        assert_eq!(good(&table.to_string()), without, "{key}");
        compared += 1;
    }
    assert!(compared > 35, "only {compared} defaults were compared");
}

#[test]
fn its_options_are_the_agents_keys() {
    let declared: BTreeSet<String> =
        described().iter().map(|option| option.key.replace(".*", "")).collect();
    let mut known: BTreeSet<String> = document::Document::schema(|root| {
        sections::config(&root, "joker");
    })
    .into_iter()
    .filter(|key| !unbuilt::key(key) && !key.starts_with("system.limits."))
    .collect();
    for key in NOT_DECLARED {
        assert!(known.remove(key), "{key}");
    }
    assert_eq!(declared, known);
}

#[test]
fn what_it_writes_is_accepted() {
    let least = "hostname = 'joker'\n[[remote]]\nname = 'origin'\n\
                 url = 'https://git.example.org/infra/nixos.git'\n\
                 token_file = '/var/lib/fort-git/deploy-token'\n";
    assert_eq!(good(LEAST), good(least));
    good(EVERY);
    let mut set = BTreeSet::new();
    named(&EVERY.parse().unwrap(), "", &mut set);
    for Described { key, .. } in described() {
        assert!(set.contains(&key.replace(".*", "")), "{key} is not in nix/rendered/every.toml");
    }
}

#[test]
fn what_it_does_not_know_is_refused_with_its_place() {
    let problems = parsed(&LEAST.replace("[poll]", "[poll]\nintervall = \"30s\"")).unwrap_err();
    let line = LEAST.lines().position(|line| line == "[poll]").unwrap() + 2;
    assert_eq!(
        problems.to_string(),
        format!(
            "fort-agent.toml:{line}:1: unknown key `poll.intervall`; did you mean `poll.interval`?"
        )
    );
}
