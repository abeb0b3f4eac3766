//! Hosts that follow a branch.

use crate::support::{Cluster, Host, Image, on, on_each};

#[test]
fn a_pushed_commit_becomes_the_running_and_default_system() {
    on_each(|cluster| {
        let host = following(cluster);
        cluster.push("release", &[&host]);
        let joker = cluster.booted(&host);
        let one = joker.default().unwrap();
        let commit = cluster.push("release", &[&host.at("two")]);
        let status = joker.wait_in_sync(commit);
        assert_eq!((joker.version().as_str(), joker.failed_units().as_str()), ("two", ""));
        assert_ne!(joker.running(), Some(one));
        assert_eq!(joker.default(), joker.running());
        assert_eq!(status["boot"]["default"], status["running"]["system"]);
        joker.reboot();
        joker.wait_in_sync(commit);
        assert_eq!((joker.version().as_str(), joker.booted()), ("two", joker.running()));
    });
}

#[test]
fn an_agent_that_changed_is_restarted_and_never_stopped() {
    on(Image::Trixie, |cluster| {
        let host = following(cluster);
        let commit = cluster.push("release", &[&host]);
        let joker = cluster.booted(&host);
        joker.wait_in_sync(commit);
        let agent = |what: &str| joker.unit("fort-agent.service", what);
        let before = (agent("MainPID"), agent("ExecStart"));
        joker.receive(&cluster.other_agent("another"));
        let two = joker.build(cluster.tree());
        let (code, said) = joker.switch(&two, "test");
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("restarting the following units: fort-agent.service"), "{said}");
        assert!(!said.contains("stopping the following"), "{said}");
        let after = (agent("MainPID"), agent("ExecStart"));
        assert!(before.0 != after.0 && before.1 != after.1, "{before:?} {after:?}");
        joker.wait_status("the other agent", |status| !status["state"].is_null());
    });
}

/// A host with the agent in it.
fn following(cluster: &Cluster) -> Host {
    Host::new("joker", "one").agent(&cluster.agent_config(""))
}
