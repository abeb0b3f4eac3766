//! The agent on whole hosts: as the unit that it is meant to be, with its jobs
//! in transient units, Nix through its daemon, and others looking over D-Bus.

mod failures;

use fort_agent::core::types::Commit;
use serde_json::{Value, json};

use crate::support::{Cluster, Host, Image, Machine, on, on_each, service};

/// The agent's program, in whatever runs.
const AGENT: &str = "/run/current-system/sw/bin/fort-agent";

fn host(cluster: &Cluster, name: &str) -> Host {
    Host::new(name, "one").agent(&cluster.agent_config(""))
}

/// A host that runs its first system, with the agent in it.
fn started(cluster: &Cluster, host: &Host) -> Machine {
    cluster.forge();
    cluster.booted(host)
}

fn history(machine: &Machine) -> Vec<Value> {
    serde_json::from_str(&machine.must(&[AGENT, "history", "--json"])).unwrap()
}

fn verdicts(machine: &Machine, commit: Commit) -> Vec<String> {
    let of_commit = |entry: &&Value| entry["commit"] == commit.to_string();
    let history = history(machine);
    let verdicts = history.iter().rev().filter(of_commit);
    verdicts.map(|entry| entry["verdict"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_a_commit_would_change_is_said_and_nothing_of_it_is_run() {
    on_each(|cluster| {
        let odd = |more: &str| {
            format!(
                "{}[Service]\n{more}",
                service("X-Restart-Triggers=@version@", "sleep infinity")
            )
        };
        let one = host(cluster, "joker")
            .unit("old.service", &service("", "sleep infinity"))
            .unit("stays.service", &odd("X-RestartIfChanged=false"))
            .unit("reloads.service", &odd("X-ReloadIfChanged=true\nExecReload=true"))
            .unit("restarts.service", &odd("X-StopIfChanged=false"));
        let joker = started(cluster, &one);
        let first = cluster.push("release", &[&one]);
        joker.wait_in_sync(first);
        joker.must(&[AGENT, "suspend"]);
        let two = one
            .at("two")
            .without_unit("old.service")
            .unit("new.service", &service("", "sleep infinity"))
            .check("echo $0 >> /run/a-program-of-it-ran");
        let commit = cluster.push("release", &[&two]);
        joker.wait_status("the gate", |status| status["gate"]["commit"] == commit.to_string());
        let names = ["web", "stays", "reloads", "restarts"];
        let units: Vec<String> = names.iter().map(|name| format!("{name}.service")).collect();
        let main = |unit: &String| joker.unit(unit, "MainPID");
        let before: Vec<String> = units.iter().map(main).collect();

        let diff = |arguments: &[&str]| -> Value {
            let said = joker.must(&[&[AGENT, "diff", "--json"], arguments].concat());
            serde_json::from_str(&said).unwrap()
        };
        let told = diff(&[&commit.to_string()])["units"].clone();
        assert_eq!(told["stop"], json!(["old.service"]), "{told}");
        assert_eq!(told["restart"], json!(["restarts.service", "web.service"]), "{told}");
        assert_eq!(told["start"], json!(["new.service"]), "{told}");
        assert_eq!(told["reload"], json!(["reloads.service"]), "{told}");
        assert_eq!(told["left"], json!(["stays.service"]), "{told}");
        // Whoever may ask Nix's daemon may look, and ask why; on Debian that is a group.
        let nobody =
            ["setpriv", "--reuid", "65534", "--regid", "65534", "--groups", "nix-users", AGENT];
        let seen = joker.must(&[&nobody[..], &["diff", "--json"]].concat());
        assert_eq!(serde_json::from_str::<Value>(&seen).unwrap()["units"], told);
        let explained = joker.must(&[&nobody[..], &["explain"]].concat());
        assert!(explained.contains("deployments are suspended"), "{explained}");
        let refused = joker.run(&[AGENT, "diff", "--execute"]);
        let why = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(4), "{why}");
        assert!(why.contains("fort-agent resume"), "{why}");
        assert_eq!(joker.tell(&["ls", "/run/a-program-of-it-ran"]).trim(), "", "it was run");
        assert_eq!(units.iter().map(main).collect::<Vec<_>>(), before, "nothing was touched");

        // And so it is done.
        joker.must(&[AGENT, "resume"]);
        joker.wait_in_sync(commit);
        assert!(joker.is_active("new.service") && !joker.is_active("old.service"));
        let again = units.iter().zip(&before).filter(|(unit, was)| main(unit) != **was);
        let again: Vec<&String> = again.map(|(unit, _)| unit).collect();
        assert_eq!(again, ["web.service", "restarts.service"]);
        // The program says the same of the way back, but for what is new there.
        let first = first.to_string();
        let (files, program) = (diff(&[&first]), diff(&[&first, "--execute"]));
        for what in ["stop", "restart", "reload", "left"] {
            assert_eq!(files["units"][what], program["units"][what], "{what}: {program}");
        }
        assert_eq!(files["units"]["start"], json!(["old.service"]));
        assert_eq!(joker.version(), "two");
    });
}

#[test]
fn a_commit_becomes_units_and_survives_a_reboot() {
    on_each(|cluster| {
        let one = host(cluster, "joker").unit("old.service", &service("", "sleep infinity"));
        let joker = started(cluster, &one);
        assert!(joker.is_active("old.service"));
        let web = joker.unit("web.service", "MainPID");
        let two = one
            .at("two")
            .without_unit("old.service")
            .unit("new.service", &service("", "sleep infinity"));
        let commit = cluster.push("release", &[&two]);
        let status = joker.wait_in_sync(commit);

        assert_eq!(joker.version(), "two");
        assert_eq!(joker.unit("web.service", "Description"), "The web, two");
        assert_ne!(joker.unit("web.service", "MainPID"), web, "a changed unit is restarted");
        assert!(joker.is_active("new.service") && !joker.is_active("old.service"));
        assert_eq!(joker.default().as_deref(), status["running"]["system"].as_str());
        assert_eq!(verdicts(&joker, commit), ["good"]);
        // Nothing is left of the jobs.
        assert_eq!(joker.must(&["ls", "/var/lib/fort-agent/jobs"]), "");
        assert_eq!(joker.must(&["ls", "/run/fort-agent-handover"]), "");

        joker.reboot();
        let status = joker.wait_in_sync(commit);
        assert_eq!(joker.booted().as_deref(), status["running"]["system"].as_str());
        assert_eq!(verdicts(&joker, commit), ["good"], "nothing is deployed twice");
    });
}

#[test]
fn an_agent_that_its_own_switch_restarts_finds_the_outcome() {
    on(Image::Trixie, |cluster| {
        let one = host(cluster, "joker");
        let joker = started(cluster, &one);
        joker.wait_status("the agent to answer", |_| true);
        let before = joker.unit("fort-agent.service", "MainPID");
        // Another configuration: the unit's restart trigger changes.
        let two =
            one.at("two").agent(&cluster.agent_config("[metrics]\nlisten = \"127.0.0.1:9101\""));
        let commit = cluster.push("release", &[&two]);
        joker.wait_in_sync(commit);
        assert_ne!(joker.unit("fort-agent.service", "MainPID"), before);
        assert_eq!(verdicts(&joker, commit), ["good"]);
        let switches: Vec<String> = joker.switches().into_iter().map(|(what, _)| what).collect();
        assert_eq!(switches, ["test", "boot"], "nothing is activated twice");
    });
}

#[test]
fn a_deployment_upgrades_the_agent() {
    on_each(|cluster| {
        let one = host(cluster, "joker");
        let joker = started(cluster, &one);
        let program = || {
            let pid = joker.unit("fort-agent.service", "MainPID");
            joker.must(&["readlink", &format!("/proc/{pid}/exe")])
        };
        let before = program();
        joker.receive(&cluster.other_agent("another build"));
        let commit = cluster.push("release", &[&one.at("two")]);
        joker.wait_in_sync(commit);
        assert_ne!(program(), before);
        assert_eq!(verdicts(&joker, commit), ["good"]);
        // The new one goes on by itself.
        let commit = cluster.push("release", &[&one.at("three")]);
        joker.wait_in_sync(commit);
        assert_eq!(joker.version(), "three");
    });
}

#[test]
fn a_testing_branch_is_undone_by_a_reboot() {
    on(Image::Trixie, |cluster| {
        let tries = "[branch]\ntesting = \"release-{hostname}-test\"\n";
        let one = Host::new("joker", "one").agent(&cluster.agent_config(tries));
        let joker = started(cluster, &one);
        let release = cluster.push("release", &[&one]);
        joker.wait_in_sync(release);
        let default = joker.default();
        let test = cluster.push("release-joker-test", &[&one.at("trial")]);
        joker.wait_in_sync(test);
        assert_eq!((joker.version().as_str(), joker.default()), ("trial", default.clone()));

        joker.power_cut();
        joker.boot();
        let status = joker.wait_status("the test to be undone", |status| {
            status["reason"].as_str().is_some_and(|reason| reason.contains("undone by a reboot"))
        });
        assert_eq!(status["running"]["commit"], release.to_string());
        assert_eq!((joker.version().as_str(), joker.default()), ("one", default));
        joker.must(&[AGENT, "retry"]);
        joker.wait_in_sync(test);
        assert_eq!(joker.version(), "trial");
    });
}

#[test]
fn a_host_with_a_flake_of_its_own_follows_it() {
    on_each(|cluster| {
        let own = cluster.agent_config("[system]\nflake_dir = \"hosts/{hostname}\"");
        let one = Host::new("joker", "one").agent(&own);
        cluster.tree().host_flake("joker");
        let joker = started(cluster, &one);
        let commit = cluster.push("release", &[&one.at("two")]);
        joker.wait_in_sync(commit);
        assert_eq!(joker.version(), "two");
    });
}

#[test]
fn a_stranger_may_look_and_do_nothing_else() {
    on_each(|cluster| {
        let one = host(cluster, "joker");
        let joker = started(cluster, &one);
        let commit = cluster.push("release", &[&one.at("two")]);
        joker.wait_in_sync(commit);
        let stranger = |words: &[&str]| {
            let mut command =
                vec!["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", AGENT];
            command.extend(words);
            joker.run(&command)
        };
        let looked = stranger(&["status", "--json"]);
        assert!(looked.status.success(), "{}", String::from_utf8_lossy(&looked.stderr));
        let status: Value = serde_json::from_slice(&looked.stdout).unwrap();
        assert_eq!(status["state"], "up-to-date");
        let owner = || {
            let name = "org.freedesktop.DBus";
            let call = ["busctl", "call", name, "/org/freedesktop/DBus", name, "GetNameOwner"];
            joker.must(&[&call[..], &["s", "network.gisi.fort.Agent1"]].concat())
        };
        let connection = owner();
        for words in [&["poll"][..], &["retry"], &["accept", "0123456"]] {
            let refused = stranger(words);
            assert_eq!(refused.status.code(), Some(4), "{words:?}");
        }
        assert_eq!(owner(), connection, "nobody can put it off the bus");
        let property = joker.must(&[
            "busctl",
            "get-property",
            "network.gisi.fort.Agent1",
            "/network/gisi/fort/Agent1",
            "network.gisi.fort.Agent1",
            "RunningCommit",
        ]);
        assert_eq!(property, format!("s \"{commit}\""));
    });
}

#[test]
fn the_journal_of_one_deployment_is_one_field_away() {
    on(Image::Trixie, |cluster| {
        let one = host(cluster, "joker");
        let joker = started(cluster, &one);
        // The journal learns a line's unit from the process that wrote it, if
        // that still lives.
        let mut two = one.at("two");
        two.knobs.build_seconds = 1;
        let commit = cluster.push("release", &[&two]);
        joker.wait_in_sync(commit);
        let id = history(&joker)[0]["id"].as_str().unwrap().to_owned();
        let lines = joker.journal(&[&format!("FORT_DEPLOYMENT={id}"), "-o", "json"]);
        let lines: Vec<Value> =
            lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let units: std::collections::BTreeSet<&str> =
            lines.iter().filter_map(|line| line["_SYSTEMD_UNIT"].as_str()).collect();
        let expected = [
            format!("fort-agent-realise-{id}.service"),
            format!("fort-agent-switch-{id}.service"),
            "fort-agent.service".to_owned(),
        ];
        assert_eq!(units.into_iter().collect::<Vec<_>>(), expected);
        for line in &lines {
            assert!(line["MESSAGE"].is_string(), "{line}");
        }
        assert!(lines.iter().any(|line| line["FORT_COMMIT"] == commit.to_string()));
        assert!(lines.iter().any(|line| line["FORT_STAGE"] == "realise"));
    });
}

#[test]
fn building_is_limited_as_configured_and_shows_nobody_a_proxys_password() {
    const PROXY: &str = "https_proxy=http://fort:h$\"nter2@127.0.0.1:9";
    on(Image::Trixie, |cluster| {
        let limits =
            cluster.agent_config("[system]\nlimits = { memory_high = \"512M\", cpu_weight = 20 }");
        // The forge is asked without it.
        let proxies = format!("[Service]\nEnvironment='{PROXY}' 'no_proxy=*'\n");
        let one = Host::new("joker", "one")
            .agent(&limits)
            .unit("fort-agent.service.d/proxy.conf", &proxies);
        let joker = started(cluster, &one);
        let mut slow = one.at("two");
        slow.knobs.build_seconds = 600;
        cluster.push("release", &[&slow]);
        let status = joker.wait_status("it to build", |status| status["state"] == "realising");
        let id = status["deployment"]["id"].as_str().unwrap().to_owned();
        let unit = format!("fort-agent-realise-{id}.service");
        joker.wait_until("its unit", || joker.is_active(&unit));
        assert_eq!(joker.unit(&unit, "CPUWeight"), "20");
        assert_eq!(joker.unit(&unit, "MemoryHigh"), (512 << 20).to_string());
        for unit in [unit.as_str(), "fort-agent.service"] {
            assert_eq!(joker.unit(unit, "LimitCORE"), "0", "{unit}");
            assert_eq!(joker.unit(unit, "LimitCORESoft"), "0", "{unit}");
        }
        let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
        let shown = joker.must(&[&nobody[..], &["systemctl", "show", &unit]].concat());
        assert!(shown.contains("Environment=PATH="), "{shown}");
        assert!(!shown.contains("nter2"), "{shown}");
        let pid = joker.unit(&unit, "MainPID");
        let given = joker.must(&["cat", &format!("/proc/{pid}/environ")]);
        assert!(given.split('\0').any(|variable| variable == PROXY), "{given}");
        let kept = joker.must(&["stat", "-c", "%a", &environment_file(&id)]);
        assert_eq!(kept.trim(), "600");
        // A newer commit stops it, and its unit goes.
        let commit = cluster.push("release", &[&one.at("three")]);
        joker.wait_in_sync(commit);
        joker.wait_until("its unit to go", || !joker.is_active(&unit));
    });
}

fn environment_file(id: &str) -> String {
    format!("/var/lib/fort-agent/jobs/realise-{id}/environment")
}

#[test]
fn a_commit_that_moves_the_state_directory_is_deployed_and_followed_from_there() {
    on(Image::Trixie, |cluster| {
        let one = host(cluster, "joker");
        let joker = started(cluster, &one);
        let first = cluster.push("release", &[&one]);
        joker.wait_in_sync(first);
        let moved = one.at("two").agent_at(&cluster.agent_config(""), "/persist/fort-agent");
        let second = cluster.push("release", &[&moved]);
        joker.wait_in_sync(second);
        assert_eq!(verdicts(&joker, second), ["good"]);
        // The new unit lets nobody write to the old place.
        let unit = "fort-agent.service";
        assert_eq!(joker.unit(unit, "ReadWritePaths").matches("/persist/fort-agent").count(), 1);
        assert_eq!(joker.unit(unit, "StateDirectory"), "");
        joker.must(&["test", "-e", "/persist/fort-agent/journal.json"]);
        let third = cluster.push("release", &[&moved.at("three")]);
        joker.wait_in_sync(third);
        assert_eq!(
            (joker.version().as_str(), verdicts(&joker, third)),
            ("three", vec!["good".into()])
        );
        assert_eq!(joker.must(&["ls", "/run/fort-agent-handover"]), "");
    });
}

#[test]
fn four_hosts_follow_one_forge() {
    on(Image::Trixie, |cluster| {
        let names = ["joker", "riddler", "penguin", "catwoman"];
        let hosts: Vec<Host> = names.iter().map(|name| host(cluster, name)).collect();
        cluster.forge();
        let machines: Vec<Machine> = hosts.iter().map(|host| cluster.installed(host)).collect();
        machines.iter().for_each(Machine::switch_on);
        machines.iter().for_each(Machine::wait_booted);
        let next: Vec<Host> = hosts.iter().map(|host| host.at("two")).collect();
        let commit = cluster.push("release", &next.iter().collect::<Vec<_>>());
        for machine in &machines {
            machine.wait_in_sync(commit);
            assert_eq!(machine.version(), "two");
        }
    });
}
