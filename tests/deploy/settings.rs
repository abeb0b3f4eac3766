//! Settings of the configuration, and the messages about mistakes in them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use serde_json::Value;

use crate::support::rig::{HOST, Rig};
use crate::support::system::Host;

#[test]
fn mistakes_are_named_by_run_and_check_config() {
    let mut rig = Rig::new();
    rig.settings.branch = "operation = \"swich\"\n".into();
    rig.settings.system = "flakedir = \".\"\n".into();
    rig.write_config();
    let text = std::fs::read_to_string(rig.config()).unwrap();
    let text = text.replace("interval = \"200ms\"", "interval = \"-5s\"");
    std::fs::write(rig.config(), text).unwrap();
    for command in ["run", "check-config"] {
        let (code, said) = rig.tell(&[command]);
        assert_eq!(code, 2, "{said}");
        for word in ["swich", "switch", "flakedir", "flake_dir", "-5s"] {
            assert!(said.contains(word), "{command}: no {word} in {said}");
        }
    }
    assert!(!rig.state().exists());
}

#[test]
fn a_host_has_its_own_flake() {
    let (rig, _) = Rig::deployed_with(|rig| {
        rig.settings.system = "flake_dir = \"hosts/{hostname}\"\n".into();
        rig.tree.host_flake(HOST);
    });
    assert_eq!(rig.version(), "one");
    let two = rig.push("release", &Host::new("two"));
    rig.wait_in_sync(two);
    assert_eq!(rig.version(), "two");
}

#[test]
fn a_host_has_no_flake_at_all() {
    let (rig, _) = Rig::deployed_with(|rig| {
        rig.settings.system = "kind = \"file\"\nfile = \"default.nix\"\n".into();
    });
    assert_eq!(rig.version(), "one");
    let two = rig.push("release", &Host::new("two"));
    rig.wait_in_sync(two);
    assert_eq!(rig.version(), "two");
}

#[test]
fn the_configuration_of_another_machine_is_held() {
    let mut rig = Rig::new();
    let (ours, other) = ("0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210");
    let file = rig.root().join("etc/machine-id");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, format!("{other}\n")).unwrap();
    rig.settings.top = format!("machine_id = \"{ours}\"\n");
    let one = rig.push("release", &Host::new("one"));
    rig.start();
    let status = rig.wait_held("machine-id");
    assert_eq!(status["held"]["evidence"]["found"], other);
    assert_eq!(status["held"]["evidence"]["configured"], ours);
    rig.wait_polls();
    assert_eq!((rig.version().as_str(), rig.switched().len()), ("", 0));
    assert!(rig.verdicts(one).is_empty());
    std::fs::write(&file, format!("{ours}\n")).unwrap();
    rig.wait_in_sync(one);
}

#[test]
fn every_channel_tells_the_same() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (rig, one) = Rig::deployed_with(|rig| {
        rig.settings.sections = format!("[metrics]\nlisten = \"{port}\"\n");
    });
    let system = rig.boot_default().unwrap();
    let status: Value = serde_json::from_str(&page(port, "/status")).unwrap();
    assert_eq!(status["state"], "up-to-date");
    assert_eq!(status["running"]["commit"], one.to_string());
    assert_eq!(page(port, "/healthz"), "the loop turns\n");
    let metrics = page(port, "/metrics");
    for line in [
        "fort_agent_state{state=\"up-to-date\"} 1",
        "fort_agent_state{state=\"held\"} 0",
        "fort_agent_in_sync 1",
        "fort_agent_drift 0",
        "fort_agent_reboot_required 0",
        &format!("fort_agent_running_info{{commit=\"{one}\",system=\"{system}\"}} 1"),
        "fort_agent_deployments_total{operation=\"switch\",verdict=\"good\"} 1",
    ] {
        assert!(metrics.lines().any(|have| have == line), "no {line} in\n{metrics}");
    }
    rig.delete_branch("release");
    rig.wait_held("branch-missing");
    let metrics = page(port, "/metrics");
    assert!(metrics.contains("fort_agent_state{state=\"held\"} 1"), "{metrics}");
    assert!(metrics.contains("fort_agent_held{cause=\"branch-missing\"} 1"), "{metrics}");
    let status: Value = serde_json::from_str(&page(port, "/status")).unwrap();
    assert_eq!(status["held"]["cause"], "branch-missing");
    let (_, text) = rig.tell(&["status"]);
    assert!(text.contains("branch") && text.contains("release"), "{text}");
}

/// The body of a page that is there.
fn page(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[test]
fn another_configuration_is_taken_up_and_one_with_mistakes_is_not() {
    let (mut rig, _) = Rig::deployed();
    let pid = rig.pid();
    let usual = std::fs::read_to_string(rig.config()).unwrap();
    std::fs::write(rig.config(), format!("{usual}\nperiod = 5\n")).unwrap();
    rig.wait_for("the mistake to be said", || {
        let log = rig.log();
        log.contains("has changed and cannot be used")
            && log.contains("unknown key `health.period`")
    });
    // Whoever asks would read it as well.
    let noted = || std::fs::read_to_string(rig.state().join("status.json")).unwrap_or_default();
    rig.push("release", &Host::new("two"));
    rig.wait_for("the next deployment", || rig.version() == "two");
    rig.wait_for("the mistake in the status", || noted().contains("unknown key `health.period`"));

    rig.settings.activation = "confirm = \"manual\"\n".into();
    rig.write_config();
    rig.wait("the new agent", |status| status["notes"] == serde_json::json!([]));
    let three = rig.push("release", &Host::new("three"));
    let status = rig.wait("a question", |status| status["gate"]["kind"] == "confirm");
    assert_eq!(status["gate"]["commit"], three.to_string());
    assert_eq!((rig.pid(), rig.version().as_str()), (pid, "two"));
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
    assert_eq!(name.trim(), "fort-agent");
}
