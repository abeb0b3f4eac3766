//! Everybody may look; who may change something is up to polkit, and without it
//! only to root.

use std::time::{Duration, Instant};

use super::on;
use crate::support::bus::{Called, SystemBus};

const NOBODY: u32 = 65534;
const DAEMON: u32 = 1;
const ROOT: u32 = 0;

/// All methods that change something, with arguments that they take.
fn manages(bus: &SystemBus) -> Vec<(String, Vec<String>)> {
    let described = bus.look(ROOT, &["org.freedesktop.DBus.Introspectable", "Introspect"]).said;
    let xml = described.replace("\\n", "\n").replace("\\\"", "\"");
    let own = xml.split("<interface name=\"network.gisi.fort.Agent1\">").nth(1).unwrap();
    let own = own.split("</interface>").next().unwrap();
    let mut methods = Vec::new();
    for method in own.split("<method name=\"").skip(1) {
        let (name, rest) = method.split_once('"').unwrap();
        let body =
            if rest.starts_with("/>") { "" } else { rest.split("</method>").next().unwrap() };
        let inputs = body.split("<arg ").filter(|argument| argument.contains("direction=\"in\""));
        let types: Vec<&str> = inputs
            .map(|argument| argument.split("type=\"").nth(1).unwrap().split('"').next().unwrap())
            .collect();
        let mut arguments = Vec::new();
        if !types.is_empty() {
            arguments.push(types.concat());
            arguments.extend(types.iter().map(|kind| match *kind {
                "s" => "1a2b3c4".into(),
                _ => "1".into(),
            }));
        }
        if !["Status", "History", "Explain"].contains(&name) {
            methods.push((name.to_owned(), arguments));
        }
    }
    assert!(methods.len() >= 3, "{xml}");
    methods
}

fn call(bus: &SystemBus, uid: u32, (method, arguments): &(String, Vec<String>)) -> Called {
    bus.call(uid, method, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

fn looks(bus: &SystemBus, uid: u32) {
    let status = bus.call(uid, "Status", &[]);
    assert!(status.ok && status.said.contains("up-to-date"), "{}", status.said);
    let history = bus.call(uid, "History", &["u", "5"]);
    assert!(history.ok && history.said.contains("verdict"), "{}", history.said);
    let explained = bus.call(uid, "Explain", &["s", ""]);
    assert!(explained.ok && explained.said.contains("rule"), "{}", explained.said);
    let all = ["org.freedesktop.DBus.Properties", "GetAll", "s", "network.gisi.fort.Agent1"];
    let properties = bus.look(uid, &all);
    assert!(properties.ok, "{}", properties.said);
    for property in ["State", "Reason", "DesiredCommit", "RunningCommit", "InSync"] {
        assert!(properties.said.contains(property), "{}", properties.said);
    }
}

/// Nothing is changed by him, and he learns why.
fn changes_nothing(bus: &SystemBus, uid: u32, why: &str) {
    for method in manages(bus) {
        let called = call(bus, uid, &method);
        assert!(!called.ok && called.said.contains(why), "{method:?}: {}", called.said);
    }
}

#[test]
fn an_unprivileged_user_reads_everything_and_changes_nothing() {
    let mut bus = SystemBus::start();
    bus.polkit("");
    let rig = on(&bus);
    let polled = rig.forge.counts().requests;
    looks(&bus, NOBODY);
    changes_nothing(&bus, NOBODY, "polkit does not let user 65534 do this");
    assert_eq!(rig.forge.counts().requests, polled);
    // Root may, and needs nobody's leave.
    bus.hold_polkit(true);
    let called = bus.call(ROOT, "Poll", &[]);
    assert!(called.ok, "{}", called.said);
    rig.wait_for("a poll", || rig.forge.counts().requests > polled);
    bus.hold_polkit(false);
}

#[test]
fn a_rule_of_polkits_lets_one_user_and_no_other() {
    let mut bus = SystemBus::start();
    bus.polkit(
        "polkit.addRule(function(action, subject) {\n\
         if (action.id == 'network.gisi.fort.agent1.manage' && subject.user == 'nobody')\n\
         return polkit.Result.YES; });\n",
    );
    let rig = on(&bus);
    let polled = rig.forge.counts().requests;
    changes_nothing(&bus, DAEMON, "polkit does not let user 1 do this");
    assert_eq!(rig.forge.counts().requests, polled);
    let called = bus.call(NOBODY, "Poll", &[]);
    assert!(called.ok, "{}", called.said);
    rig.wait_for("a poll", || rig.forge.counts().requests > polled);
    // He is told what root is told.
    let called = bus.call(NOBODY, "Accept", &["s", "1a2b3c4"]);
    assert!(!called.ok && !called.said.contains("polkit"), "{}", called.said);
    let log = rig.log();
    assert!(log.contains("polkit lets the caller") && log.contains("65534"), "{log}");
}

#[test]
fn a_password_that_nobody_can_be_asked_for_is_said() {
    let mut bus = SystemBus::start();
    bus.polkit("polkit.addRule(function() { return polkit.Result.AUTH_ADMIN; });\n");
    let _rig = on(&bus);
    changes_nothing(&bus, NOBODY, "only after authentication");
}

#[test]
fn without_polkit_only_root_may() {
    let bus = SystemBus::start();
    let _rig = on(&bus);
    looks(&bus, NOBODY);
    changes_nothing(&bus, NOBODY, "only root may do this, not user 65534: there is no polkit");
    assert!(bus.call(ROOT, "Poll", &[]).ok);
}

#[test]
fn who_waits_for_polkit_keeps_nobody_else_waiting() {
    let mut bus = SystemBus::start();
    bus.polkit("");
    let rig = on(&bus);
    bus.hold_polkit(true);
    let began = Instant::now();
    // One that a person may be asked for is waited for longer.
    let short = bus.calling_as(NOBODY, "no", "Poll", &[]);
    let long = bus.calling(NOBODY, "Poll", &[]);
    rig.wait_for("both to wait", || rig.log().matches("asking polkit").count() == 2);
    let busy = bus.call(NOBODY, "Poll", &[]);
    assert!(!busy.ok && busy.said.contains("too many of your calls"), "{}", busy.said);
    looks(&bus, NOBODY);
    looks(&bus, DAEMON);
    assert!(bus.call(ROOT, "Poll", &[]).ok);
    assert_eq!(rig.tell(&["status"]).0, 0);
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    let called = short.called();
    assert!(!called.ok && called.said.contains("not answer within 5 s"), "{}", called.said);
    bus.hold_polkit(false);
    let called = long.called();
    assert!(!called.ok && called.said.contains("polkit does not let"), "{}", called.said);
    // Theirs are free again.
    changes_nothing(&bus, NOBODY, "polkit does not let user 65534 do this");
}
