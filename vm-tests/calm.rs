//! Hazard: a false alarm. Healthy deployments on a host on which much goes on:
//! slow starts, oneshots, timers whose jobs fail, a backup that always fails,
//! and a user's units that fail and are restarted. None is put back.

use crate::support::{Host, Image, Pace, on};

const DEPLOYMENTS: usize = 50;

#[test]
fn fifty_healthy_deployments_are_all_good() {
    on(Image::Trixie, |cluster| {
        let pace = Pace {
            activations: 1,
            first: "100ms",
            grace: "100ms",
            health: "20s",
            ..Pace::default()
        };
        let wanted = "[Install]\nWantedBy=multi-user.target\n";
        let timer = |every: &str| {
            format!("[Timer]\nOnActiveSec=0\nOnUnitInactiveSec={every}\nAccuracySec=10ms\n{wanted}")
        };
        let fails = "[Service]\nType=oneshot\nExecStart=false\n";
        let one = Host::new("joker", "one")
            .agent(&cluster.agent_config_at(&pace, ""))
            // Changes each time, and takes its time.
            .unit(
                "slow.service",
                &format!(
                    "[Unit]\nDescription=@version@\n[Service]\nType=notify\n\
                     ExecStart=sh -c 'sleep 0.5; exec systemd-notify --ready --exec \";\" sleep infinity'\n\
                     {wanted}"
                ),
            )
            // Is not waited for by anybody, and not ready when checks begin.
            .unit(
                "slower.service",
                &format!(
                    "[Unit]\nDescription=@version@\n[Service]\nType=exec\n\
                     ExecStartPre=sleep 0.3\nExecStart=sleep infinity\n{wanted}"
                ),
            )
            .unit(
                "once.service",
                &format!("[Unit]\nDescription=@version@\n[Service]\nType=oneshot\nExecStart=true\n{wanted}"),
            )
            .unit(
                "stays.service",
                &format!(
                    "[Unit]\nDescription=@version@\n[Service]\nType=oneshot\nRemainAfterExit=yes\n\
                     ExecStart=sleep 0.1\n{wanted}"
                ),
            )
            .unit("backup.service", fails)
            .unit("backup.timer", &timer("700ms"))
            .unit("often.service", fails)
            .unit("often.timer", &timer("100ms"))
            // A job that is running when the switch comes, and then fails.
            .unit("long.service", "[Service]\nType=oneshot\nExecStart=sh -c 'sleep 0.4; exit 1'\n")
            .unit("long.timer", &timer("200ms"));
        cluster.forge();
        let joker = cluster.installed(&one);
        // A user whose own units fail, once and in a loop.
        for (file, line) in [
            ("/etc/passwd", "user:x:1000:1000::/tmp:/bin/sh\n"),
            ("/etc/group", "user:x:1000:\n"),
            ("/etc/shadow", "user:*:20000::::::\n"),
        ] {
            let text = joker.read(file);
            joker.write(file, format!("{text}\n{line}").as_bytes());
        }
        let own = "/usr/lib/systemd/user";
        joker.write(
            &format!("{own}/breaks.service"),
            b"[Service]\nExecStart=false\nRestart=always\nRestartSec=100ms\n[Unit]\nStartLimitIntervalSec=0\n",
        );
        joker.write(&format!("{own}/fails.service"), b"[Service]\nType=oneshot\nExecStart=false\n");
        for unit in ["breaks.service", "fails.service"] {
            let text = format!("[Unit]\nWants={unit}\n");
            joker.write(&format!("{own}/default.target.d/{unit}.conf"), text.as_bytes());
        }
        joker.boot();
        let first = cluster.push("release", &[&one]);
        joker.wait_in_sync(first);
        joker.must(&["systemctl", "start", "user@1000.service"]);
        let as_user = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"];
        let of_user = ["env", "XDG_RUNTIME_DIR=/run/user/1000", "systemctl", "--user", "show"];
        let of_user = [&as_user[..], &of_user[..], &["--value", "-p"]].concat();
        let of_user = |what: &[&str]| joker.tell(&[&of_user[..], what].concat());
        joker.wait_until("the user's unit to fail", || {
            of_user(&["ActiveState", "fails.service"]) == "failed"
        });
        let began = std::time::Instant::now();
        for n in 0..DEPLOYMENTS {
            let version = format!("v{n}");
            let commit = cluster.push("release", &[&one.at(&version)]);
            joker.wait_in_sync(commit);
            assert_eq!(joker.verdicts(commit), ["good"], "{:#?}", joker.endings(commit));
            assert_eq!(joker.version(), version);
        }
        eprintln!("{DEPLOYMENTS} deployments: {} s", began.elapsed().as_secs());
        // It may just be trying again.
        joker.wait_until("the backup to fail once more", || {
            joker.failed_units().contains("backup.service")
        });
        let restarts: u32 = of_user(&["NRestarts", "breaks.service"]).parse().unwrap();
        assert!(restarts > 50, "{restarts}");
        let tests = joker.switches().into_iter().filter(|(what, _)| what == "test").count();
        assert_eq!(tests, DEPLOYMENTS, "each was activated once and none was put back");
        assert_eq!(joker.boots(), 1);
    });
}
