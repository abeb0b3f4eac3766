//! Deployments that fail, and agents that are killed.

use super::*;

#[test]
fn an_agent_that_is_gone_comes_back() {
    on(Image::Trixie, |cluster| {
        let joker = started(cluster, &host(cluster, "joker"));
        joker.wait_status("the agent to answer", |_| true);
        let before = joker.unit("fort-agent.service", "MainPID");
        // Restart= does not bring back what was stopped.
        joker.must(&["systemctl", "stop", "fort-agent.service"]);
        assert!(!joker.is_active("fort-agent.service"));
        joker.wait_until("it to come back", || joker.is_active("fort-agent.service"));
        assert_ne!(joker.unit("fort-agent.service", "MainPID"), before);
    });
}

#[test]
fn a_unit_that_newly_fails_brings_the_old_system_back() {
    on_each(|cluster| {
        let one = host(cluster, "joker");
        let joker = started(cluster, &one);
        let good = cluster.push("release", &[&one]);
        joker.wait_in_sync(good);
        let default = joker.default();
        let fails =
            "[Service]\nType=oneshot\nExecStart=false\n[Install]\nWantedBy=multi-user.target\n";
        let commit = cluster.push("release", &[&one.at("two").unit("broken.service", fails)]);
        let status = joker.wait_status("it to be put back", |status| {
            status["last_deployment"]["commit"] == commit.to_string()
        });
        assert_eq!(status["last_deployment"]["verdict"], "rolled-back");
        let cause = status["last_deployment"]["cause"].as_str().unwrap();
        assert!(cause.contains("broken.service has failed"), "{cause}");
        assert_eq!((joker.version().as_str(), joker.default()), ("one", default));
        assert_eq!(joker.failed_units(), "");
        assert!(joker.is_active("web.service"));
    });
}

#[test]
fn a_service_in_a_restart_loop_brings_the_old_system_back() {
    on(Image::Trixie, |cluster| {
        let one = host(cluster, "joker");
        let joker = started(cluster, &one);
        let good = cluster.push("release", &[&one]);
        joker.wait_in_sync(good);
        let dies = "[Service]\nExecStart=sh -c 'sleep 0.3; exit 1'\nRestart=always\nRestartSec=100ms\n\
                    StartLimitIntervalSec=0\n[Install]\nWantedBy=multi-user.target\n";
        let commit = cluster.push("release", &[&one.at("two").unit("loop.service", dies)]);
        let status = joker.wait_status("it to be put back", |status| {
            status["last_deployment"]["commit"] == commit.to_string()
        });
        assert_eq!(status["last_deployment"]["verdict"], "rolled-back");
        let cause = status["last_deployment"]["cause"].as_str().unwrap();
        assert!(cause.contains("loop.service"), "{cause}");
        assert_eq!(joker.version(), "one");
    });
}

#[test]
fn a_backup_that_always_fails_does_not() {
    on(Image::Trixie, |cluster| {
        let fails = "[Service]\nType=oneshot\nExecStart=false\n";
        let timer = "[Timer]\nOnActiveSec=0\nOnUnitInactiveSec=1s\nAccuracySec=10ms\n\
                     [Install]\nWantedBy=multi-user.target\n";
        let old = format!("{fails}[Install]\nWantedBy=multi-user.target\n");
        let one = host(cluster, "joker")
            .unit("backup.service", fails)
            .unit("backup.timer", timer)
            .unit("old.service", &old);
        let joker = started(cluster, &one);
        let commit = cluster.push("release", &[&one.at("two")]);
        joker.wait_in_sync(commit);
        assert_eq!(verdicts(&joker, commit), ["good"]);
        // What was good all the same is named.
        let cause = history(&joker)[0]["cause"].as_str().unwrap_or_default().to_owned();
        assert!(cause.contains("not counted: ") && cause.contains("old.service"), "{cause}");
        assert!(joker.failed_units().contains("backup.service"), "{}", joker.failed_units());
    });
}

#[test]
fn an_agent_that_is_killed_finds_its_jobs_again() {
    on(Image::Trixie, |cluster| {
        let one = host(cluster, "joker");
        let joker = started(cluster, &one);
        let mut slow = one.at("two");
        slow.knobs.switch.hang.insert("test", 3);
        let commit = cluster.push("release", &[&slow]);
        joker.wait_status("it to activate", |status| status["state"] == "activating");
        joker.must(&["systemctl", "kill", "--signal=KILL", "fort-agent.service"]);
        joker.wait_in_sync(commit);
        assert_eq!(verdicts(&joker, commit), ["good"]);
        let tests = joker.switches().into_iter().filter(|(what, _)| what == "test").count();
        assert_eq!(tests, 1, "it is not started twice");
    });
}

#[test]
fn a_guardian_that_is_killed_puts_the_old_system_back() {
    on(Image::Trixie, |cluster| {
        let one = host(cluster, "joker");
        let joker = started(cluster, &one);
        let good = cluster.push("release", &[&one]);
        joker.wait_in_sync(good);
        let mut slow = one.at("two");
        slow.knobs.switch.hang_after.insert("test", 600);
        let commit = cluster.push("release", &[&slow]);
        joker.wait_until("the candidate to run", || joker.version() == "two");
        let status = joker.status().unwrap();
        let id = status["deployment"]["id"].as_str().unwrap().to_owned();
        let unit = format!("fort-agent-switch-{id}.service");
        joker.must(&["systemctl", "kill", "--signal=KILL", &unit]);
        joker.wait_status("the old one to be back", |status| {
            status["last_deployment"]["commit"] == commit.to_string()
        });
        assert_eq!(joker.version(), "one");
        assert_eq!(verdicts(&joker, commit)[0], "interrupted");
        assert!(joker.is_active("web.service"));
    });
}
