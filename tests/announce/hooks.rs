//! The operator's own programs: when they are run, with what, and that nothing
//! waits for them.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::nix::processes_with;
use crate::support::rig::{HOST, Rig};
use crate::support::system::Host;

/// A program in the host's directory.
fn program(rig: &Rig, name: &str, script: &str) -> PathBuf {
    let path = rig.store.dir().join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    path
}

/// Writes down what it is told: a line for each run, its environment as JSON.
fn telling(rig: &Rig, name: &str, more: &str) -> String {
    let told = rig.store.dir().join("told").display().to_string();
    let script = format!(
        "env -0 | tr '\\n\\0' ' \\n' | sort | tr '\\n' '\\t' >> {told}\n\
         printf 'HOOK={name} %s\\n' \"$*\" >> {told}\n{more}"
    );
    program(rig, name, &script).display().to_string()
}

/// The runs, each with its variables.
fn told(rig: &Rig) -> Vec<Vec<(String, String)>> {
    let text = std::fs::read_to_string(rig.store.dir().join("told")).unwrap_or_default();
    let variables = |line: &str| {
        let pairs = line.split('\t').filter_map(|pair| pair.split_once('='));
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    };
    // The last one may be half written.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(variables).collect()
}

fn of<'a>(run: &'a [(String, String)], key: &str) -> &'a str {
    run.iter().find(|(name, _)| name == key).map_or("(not set)", |(_, value)| value)
}

fn wait_told(rig: &Rig, runs: usize) -> Vec<Vec<(String, String)>> {
    rig.wait_for("the hooks", || told(rig).len() >= runs);
    let told = told(rig);
    assert_eq!(told.len(), runs, "{told:#?}");
    told
}

fn hooks(rig: &mut Rig, list: &[&[&str]], timeout: &str) {
    rig.settings.sections = format!("[hooks]\non_verdict = {list:?}\ntimeout = \"{timeout}\"\n");
}

/// A host whose only hook writes down what it is told.
fn told_of_each() -> Rig {
    let mut rig = Rig::new();
    let hook = telling(&rig, "hook", "");
    hooks(&mut rig, &[&[&hook, "--from", "fort agent"]], "60s");
    rig
}

fn note(status: &Value, words: &str) -> bool {
    let notes = status["notes"].as_array().unwrap();
    notes.iter().any(|note| note.as_str().unwrap().contains(words))
}

#[test]
fn a_good_verdict_and_one_that_was_put_back_are_told_with_what_they_are_about() {
    let mut rig = told_of_each();
    rig.settings.retry = "first = \"10m\"\nmax = \"10m\"\n".into();
    let one = rig.push("release", &Host::new("one"));
    rig.start();
    let status = rig.wait_in_sync(one);
    let system = status["running"]["system"].as_str().unwrap().to_owned();
    let run = wait_told(&rig, 1).remove(0);
    let entry = &rig.history()[0];
    let path = of(&run, "PATH").to_owned();
    assert!(path.contains("/bin"), "{path}");
    // All there is, but for what the shell itself adds.
    let variables: Vec<(&str, &str)> = run
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .filter(|(key, _)| !["PATH", "PWD", "OLDPWD", "SHLVL", "_"].contains(key))
        .collect();
    let commit = one.to_string();
    assert_eq!(
        variables,
        [
            ("FORT_AGENT_CAUSE", ""),
            ("FORT_AGENT_COMMIT", &commit),
            ("FORT_AGENT_DEPLOYMENT", entry["id"].as_str().unwrap()),
            ("FORT_AGENT_HOSTNAME", HOST),
            ("FORT_AGENT_OPERATION", "switch"),
            ("FORT_AGENT_PREVIOUS_SYSTEM", ""),
            ("FORT_AGENT_SOURCE", &commit),
            ("FORT_AGENT_SYSTEM", &system),
            ("FORT_AGENT_TRY", "1"),
            ("FORT_AGENT_VERDICT", "good"),
            ("LANG", "C.UTF-8"),
            ("HOOK", "hook --from fort agent"),
        ]
    );
    let bad = rig.push("release", &Host::exits("bad", "test", 2));
    let entry = rig.wait_verdict(bad, "rolled-back");
    let run = wait_told(&rig, 2).remove(1);
    assert_eq!(of(&run, "FORT_AGENT_VERDICT"), "rolled-back");
    assert_eq!(of(&run, "FORT_AGENT_COMMIT"), bad.to_string());
    assert_eq!(of(&run, "FORT_AGENT_SYSTEM"), entry["system"].as_str().unwrap());
    assert_eq!(of(&run, "FORT_AGENT_PREVIOUS_SYSTEM"), system);
    assert_eq!(of(&run, "FORT_AGENT_CAUSE"), entry["cause"].as_str().unwrap());
}

#[test]
fn what_could_not_be_realised_or_was_overtaken_is_told_as_well() {
    let mut rig = told_of_each();
    rig.settings.retry = "first = \"10m\"\nmax = \"10m\"\n".into();
    let one = rig.push("release", &Host::new("one"));
    rig.start();
    rig.wait_in_sync(one);
    let mut host = Host::new("two");
    host.evaluation_error = Some("there is no such option".into());
    let evaluated = rig.push("release", &host);
    rig.wait_verdict(evaluated, "failed");
    wait_told(&rig, 2);
    let mut host = Host::new("three");
    host.build_fails = "the compiler has had enough".into();
    let built = rig.push("release", &host);
    rig.wait_verdict(built, "failed");
    wait_told(&rig, 3);
    let mut host = Host::new("four");
    host.build_seconds = 600;
    let overtaken = rig.push("release", &host);
    rig.wait_state("realising");
    let five = rig.push("release", &Host::new("five"));
    rig.wait_in_sync(five);
    let runs = wait_told(&rig, 5);
    let all: Vec<(String, &str)> = runs
        .iter()
        .map(|run| (of(run, "FORT_AGENT_COMMIT").into(), of(run, "FORT_AGENT_VERDICT")))
        .collect();
    let expected = [
        (one, "good"),
        (evaluated, "failed"),
        (built, "failed"),
        (overtaken, "superseded"),
        (five, "good"),
    ];
    assert_eq!(all, expected.map(|(commit, verdict)| (commit.to_string(), verdict)));
    assert!(of(&runs[1], "FORT_AGENT_CAUSE").contains("there is no such option"));
    assert!(of(&runs[2], "FORT_AGENT_CAUSE").contains("the compiler has had enough"));
    assert_eq!(of(&runs[1], "FORT_AGENT_SYSTEM"), "");
    assert_eq!(
        of(&runs[1], "FORT_AGENT_PREVIOUS_SYSTEM"),
        of(&runs[0], "FORT_AGENT_SYSTEM"),
        "what runs is not said"
    );
}

#[test]
fn one_that_hangs_is_cut_off_and_named_and_nothing_waits_for_it() {
    let mut rig = Rig::new();
    // It hangs the first time, and does not even end when it is told to.
    let (hung, go) = (rig.store.dir().join("hung"), rig.store.dir().join("go"));
    let more = format!(
        "if test -e {hung}; then until test -e {go}; do sleep 0.1; done; exit 0; fi\n\
         touch {hung}; trap '' TERM; while :; do sleep 600; done",
        hung = hung.display(),
        go = go.display(),
    );
    let hanging = telling(&rig, "hanging", &more);
    let second = telling(&rig, "second", "");
    hooks(&mut rig, &[&[&hanging], &[&second]], "20s");
    let one = rig.push("release", &Host::new("one"));
    rig.start();
    rig.wait_in_sync(one);
    let run = wait_told(&rig, 1).remove(0);
    let id = of(&run, "FORT_AGENT_DEPLOYMENT");
    assert!(!processes_with(id).is_empty());
    // Before it is cut off a whole deployment has come and gone.
    let two = rig.push("release", &Host::new("two"));
    rig.wait_in_sync(two);
    assert_eq!(told(&rig).len(), 1, "it took longer than the hook may");
    rig.wait("it is named", |status| {
        note(status, "hanging failed for") && note(status, "timed out")
    });
    let log = rig.log();
    assert!(log.contains(": timed out; mend it"), "{log}");
    assert!(processes_with(id).is_empty(), "something of it is left");
    std::fs::write(&go, "").unwrap();
    let runs = wait_told(&rig, 4);
    let told: Vec<_> =
        runs.iter().map(|run| (of(run, "HOOK"), of(run, "FORT_AGENT_COMMIT").to_owned())).collect();
    let (one, two) = (one.to_string(), two.to_string());
    let in_order = [("hanging ", &one), ("second ", &one), ("hanging ", &two), ("second ", &two)];
    assert_eq!(told, in_order.map(|(hook, commit)| (hook, commit.clone())));
    rig.wait("all is well again", |status| !note(status, "hook"));
}

#[test]
fn one_that_fails_is_reported_until_all_is_well_again_and_changes_nothing() {
    let mut rig = Rig::new();
    let fails = telling(&rig, "fails", "echo password; echo hunter2 >&2; test -e mended || exit 3");
    let absent = rig.store.dir().join("absent").display().to_string();
    hooks(&mut rig, &[&[&absent], &[&fails]], "60s");
    let one = rig.push("release", &Host::new("one"));
    rig.start();
    rig.wait_in_sync(one);
    let status = rig.wait("it is named", |status| note(status, "exit code 3"));
    assert_eq!(status["state"], "up-to-date");
    assert_eq!(rig.verdicts(one), ["good"]);
    let log = rig.log();
    assert!(log.contains("absent") && log.contains("it cannot be run: No such file"), "{log}");
    assert!(log.contains(": exit code 3; mend it"), "{log}");
    // What it says is for the log, which only root reads.
    assert!(log.contains("hunter2") && log.contains("password"), "{log}");
    assert!(!status.to_string().contains("hunter2"), "{status}");
    std::fs::write(&absent, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&absent, Permissions::from_mode(0o755)).unwrap();
    telling(&rig, "fails", "");
    let two = rig.push("release", &Host::new("two"));
    rig.wait_in_sync(two);
    rig.wait("it is well again", |status| !note(status, "hook"));
}

#[test]
fn a_restart_at_the_verdict_loses_none_and_an_old_history_is_no_news() {
    let mut rig = Rig::new();
    let one = rig.push("release", &Host::new("one"));
    rig.start();
    rig.wait_in_sync(one);
    rig.stop();
    // From now on there is a hook.
    let go = rig.store.dir().join("go");
    let hook =
        telling(&rig, "hook", &format!("until test -e {}; do sleep 0.1; done", go.display()));
    hooks(&mut rig, &[&[&hook]], "60s");
    rig.start();
    rig.wait_in_sync(one);
    let two = rig.push("release", &Host::new("two"));
    // The hook is at work when it is killed.
    let first = wait_told(&rig, 1).remove(0);
    assert_eq!(of(&first, "FORT_AGENT_COMMIT"), two.to_string());
    rig.kill();
    std::fs::write(&go, "").unwrap();
    rig.start();
    rig.wait_in_sync(two);
    let runs = wait_told(&rig, 2);
    assert_eq!(of(&runs[1], "FORT_AGENT_DEPLOYMENT"), of(&first, "FORT_AGENT_DEPLOYMENT"));
    assert_eq!((of(&first, "FORT_AGENT_TRY"), of(&runs[1], "FORT_AGENT_TRY")), ("1", "2"));
    assert!(rig.log().contains("the hooks are run once more"), "{}", rig.log());
    // It was told to the end: not once more.
    rig.stop();
    rig.start();
    rig.wait_in_sync(two);
    rig.wait_polls();
    assert_eq!(told(&rig).len(), 2, "{:#?}", told(&rig));
    // An end of which the agent learns only after its restart.
    let mut host = Host::new("three");
    host.switch.hang_after.insert("test", 600);
    let three = rig.push("release", &host);
    rig.wait_for("the activation", || rig.version() == "three");
    rig.kill();
    rig.go();
    rig.wait_for("it to be put back", || rig.version() == "two");
    rig.wait_for("the job's end", || rig.job_processes("switch").is_empty());
    rig.start();
    rig.wait_for("the hooks", || told(&rig).len() >= 3);
    let runs = told(&rig);
    assert_eq!(of(&runs[2], "FORT_AGENT_COMMIT"), three.to_string());
    assert_eq!(of(&runs[2], "FORT_AGENT_VERDICT"), "rolled-back");
}

#[test]
fn one_that_ends_the_agent_each_time_is_not_run_for_ever() {
    let mut rig = Rig::new();
    let hook = telling(&rig, "hook", "kill -9 $PPID");
    hooks(&mut rig, &[&[&hook]], "60s");
    let one = rig.push("release", &Host::new("one"));
    rig.start();
    for _ in 0..3 {
        rig.wait_dead();
        rig.start();
    }
    let status = rig.wait("it is given up", |status| note(status, "not run again"));
    assert_eq!(status["running"]["commit"], one.to_string());
    assert_eq!(told(&rig).len(), 3);
    rig.wait_polls();
    assert_eq!(told(&rig).len(), 3);
}
