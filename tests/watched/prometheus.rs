//! The forge's alerts and its dashboard, against a real Prometheus that scrapes
//! a really running agent.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::forge::wait_for;
use crate::support::pages::needed;
use crate::support::prometheus::Prometheus;
use crate::support::rig::Rig;
use crate::support::sshd::free_port;

fn forge(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../forge").join(file).canonicalize().unwrap()
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap()
}

/// Every value of this key, however deep.
fn all<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                match value.as_str() {
                    Some(text) if name == key => found.push(text),
                    _ => all(value, key, found),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| all(value, key, found)),
        _ => {}
    }
}

/// The metrics of ours that an expression names.
fn metrics(expression: &str) -> BTreeSet<String> {
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    let words = expression.split(word).filter(|word| word.starts_with("fort_agent_"));
    words.map(str::to_owned).collect()
}

/// The alerts, as Prometheus has read them.
fn alerts(prometheus: &Prometheus) -> Vec<Value> {
    let data = prometheus.ask("rules", &[]).unwrap();
    let groups = data["groups"].as_array().unwrap().iter();
    groups.flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

#[test]
fn each_alert_fires_when_it_should_and_not_otherwise() {
    let promtool = needed("promtool", "prometheus");
    for args in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts.test.yml"]] {
        let ran = Command::new(&promtool).args(args).current_dir(forge("")).output().unwrap();
        let said = [ran.stdout, ran.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(ran.status.success(), "{said}");
    }
}

#[test]
fn every_expression_is_answered_from_what_an_agent_shows() {
    let pages = free_port();
    let (rig, _) = Rig::deployed_with(|rig| {
        rig.settings.sections = format!("[metrics]\nlisten = \"{pages}\"\n");
        rig.publish();
    });
    rig.wait_published();
    let prometheus = Prometheus::start(pages, &forge("alerts.yml"));
    let names = prometheus.ask("label/__name__/values", &[]).unwrap();
    let scraped: BTreeSet<&str> =
        names.as_array().unwrap().iter().filter_map(Value::as_str).collect();

    let dashboard: Value = serde_json::from_str(&read(&forge("dashboard.json"))).unwrap();
    let mut shown = Vec::new();
    all(&dashboard, "expr", &mut shown);
    all(&dashboard, "definition", &mut shown);
    assert!(shown.len() > 20, "{shown:?}");
    // Before the first scrape the agent was absent.
    let quiet = |rule: &Value| rule["health"] == "ok" && rule["state"] == "inactive";
    wait_for("the rules to be evaluated, and quiet on a host that is well", || {
        let alerts = alerts(&prometheus);
        !alerts.is_empty() && alerts.iter().all(quiet)
    });
    let alerts = alerts(&prometheus);
    let mut expressions: Vec<&str> = Vec::new();
    for rule in &alerts {
        expressions.push(rule["query"].as_str().unwrap());
    }
    assert!(expressions.len() >= 11, "{expressions:?}");
    expressions.extend(&shown);

    let mut unnamed = BTreeSet::new();
    for expression in expressions {
        for metric in metrics(expression) {
            if !scraped.contains(metric.as_str()) {
                unnamed.insert(metric);
            }
        }
        if expression.starts_with("label_values(") {
            continue;
        }
        let asked = expression.replace("$host", ".*").replace("$__rate_interval", "1m");
        let answer = prometheus.ask("query", &[("query", &asked)]);
        assert!(answer.is_ok(), "{asked}: {answer:?}");
    }
    assert!(unnamed.is_empty(), "nothing is scraped by these names: {unnamed:?}");

    // A metric of the interface that no name leads to would be a lie, too.
    for name in ["in_sync", "state", "held", "suspended", "drift", "reboot_required"] {
        let asked = format!("fort_agent_{name}{{job=\"fort-agent\"}}");
        let data = prometheus.ask("query", &[("query", &asked)]).unwrap();
        assert!(!data["result"].as_array().unwrap().is_empty(), "{asked}");
    }
}

/// Alerts are read at three in the morning.
#[test]
fn every_alert_says_what_to_do_and_is_tested() {
    let text = read(&forge("alerts.yml"));
    let tests = read(&forge("alerts.test.yml"));
    let manual = read(&forge("../docs/operations.md"));
    let rules: Vec<&str> = text.split("- alert: ").skip(1).collect();
    assert!(rules.len() >= 11, "{}", rules.len());
    for rule in rules {
        let name = rule.lines().next().unwrap();
        for annotation in ["summary: ", "description: ", "runbook: "] {
            assert_eq!(rule.matches(annotation).count(), 1, "{name}: {annotation}");
        }
        let (_, anchor) = rule.split_once("docs/operations.md#").expect(name);
        let anchor = anchor.split('"').next().unwrap();
        assert!(manual.contains(&format!("\n### {anchor}\n")), "{name}: #{anchor}");
        let fires = format!("alertname: {name}\n        exp_alerts:\n");
        let silent = format!("alertname: {name}, exp_alerts: []");
        assert!(tests.contains(&fires) && tests.contains(&silent), "{name} is not tested");
    }
}
