//! Hazard: people. Those who only look must see all of it, live, without being
//! root; those who change something must be allowed to, and told what to do if
//! they are not; and who is told by a hook must be told the truth, from within
//! the unit that shuts the agent in.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::Child;
use std::sync::{Arc, Mutex};

use fort_agent::core::types::Commit;

use crate::support::{Host, Machine, Pace, on_each};

const AGENT: &str = "/run/current-system/sw/bin/fort-agent";
const ACTION: &[u8] =
    include_bytes!("../agent/share/polkit-1/actions/network.gisi.fort.agent1.policy");
/// As the action's own file proposes it.
const RULE: &[u8] = b"polkit.addRule(function(action, subject) {\n\
    if (action.id == \"network.gisi.fort.agent1.manage\" &&\n\
        subject.isInGroup(\"deployers\")) return polkit.Result.YES;\n});\n";
/// Anna is one of the deployers, Bob is not.
const PEOPLE: &str = "echo 'anna:x:2000:2000::/nonexistent:/bin/sh' >> /etc/passwd\n\
    echo 'bob:x:2001:2001::/nonexistent:/bin/sh' >> /etc/passwd\n\
    echo 'deployers:x:3000:anna' >> /etc/group\n";
const ANNA: [&str; 5] = ["setpriv", "--reuid=2000", "--regid=2000", "--init-groups", AGENT];
const BOB: [&str; 5] = ["setpriv", "--reuid=2001", "--regid=2001", "--init-groups", AGENT];

struct Told {
    code: Option<i32>,
    out: String,
    err: String,
}

fn told(machine: &Machine, who: &[&str], words: &[&str]) -> Told {
    let output = machine.run(&[who, words].concat());
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Told { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn short(commit: Commit) -> String {
    commit.to_string()[..7].to_owned()
}

/// `status --watch`, by somebody, and what it has printed by now.
struct Watcher {
    process: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Watcher {
    fn start(machine: &Machine, who: &[&str]) -> Self {
        let script = "echo $$ > /run/watcher; exec \"$@\"";
        let command = [&["sh", "-c", script, "sh"], who, &["status", "--watch"]].concat();
        let mut process = machine.spawn(&command);
        let out = BufReader::new(process.stdout.take().unwrap());
        let lines = Arc::new(Mutex::new(Vec::new()));
        let printed = lines.clone();
        std::thread::spawn(move || {
            out.lines().map_while(Result::ok).for_each(|line| printed.lock().unwrap().push(line));
        });
        Self { process, lines }
    }

    fn wait(&self, machine: &Machine, words: &str) {
        let seen = || self.lines.lock().unwrap().iter().any(|line| line.contains(words));
        machine.wait_until(&format!("the watcher to see: {words}"), seen);
    }

    /// As Ctrl-C does: all that it has printed.
    fn stop(mut self, machine: &Machine) -> Vec<String> {
        machine.must(&["sh", "-c", "kill -INT $(cat /run/watcher)"]);
        let end = self.process.wait().unwrap();
        assert_eq!(end.code(), Some(0), "{end}");
        self.lines.lock().unwrap().clone()
    }
}

#[test]
fn everybody_sees_everything_live_and_changes_what_polkit_lets_him() {
    on_each(|cluster| {
        let one = Host::new("joker", "one").agent(&cluster.agent_config(""));
        cluster.forge();
        let joker = cluster.installed(&one);
        // On NixOS both come with the system, by `environment.systemPackages`
        // and `security.polkit.extraConfig`.
        let action = "/usr/share/polkit-1/actions/network.gisi.fort.agent1.policy";
        joker.write(action, ACTION);
        joker.write("/etc/polkit-1/rules.d/50-deployers.rules", RULE);
        joker.boot();
        joker.must(&["sh", "-euc", PEOPLE]);
        let first = cluster.push("release", &[&one]);
        joker.wait_in_sync(first);

        let watcher = Watcher::start(&joker, &BOB);
        watcher.wait(&joker, &format!("in sync with {}", short(first)));
        let mut two = one.at("two");
        two.knobs.build_seconds = 1;
        let commit = cluster.push("release", &[&two]);
        joker.wait_in_sync(commit);
        watcher.wait(&joker, &format!("in sync with {}", short(commit)));
        // It goes on with the next agent.
        joker.must(&["systemctl", "restart", "fort-agent.service"]);
        let three = cluster.push("release", &[&one.at("three")]);
        joker.wait_in_sync(three);
        watcher.wait(&joker, &format!("in sync with {}", short(three)));
        let lines = watcher.stop(&joker);
        // Nor is anything said before it is so.
        let journal = joker.journal(&["-u", "fort-agent.service"]);
        for commit in [commit, three] {
            let first = journal.lines().find(|line| line.contains(&short(commit))).unwrap();
            assert!(first.ends_with(&format!("{} is next", short(commit))), "{first}");
        }
        eprintln!("{}", lines.join("\n"));
        let order = [short(first), format!("building {}", short(commit)), short(three)];
        let at = |words: &String| lines.iter().position(|line| line.contains(words));
        let places: Vec<_> = order.iter().map(|words| at(words).expect(words)).collect();
        assert!(places.is_sorted(), "{places:?} {lines:#?}");

        for (words, expected) in [
            (&["status"][..], format!("in sync with {}", short(three))),
            (&["explain"], "runs and was verified".into()),
            (&["explain", &short(commit)], short(commit)),
            (&["history"], "good".into()),
        ] {
            let told = told(&joker, &BOB, words);
            assert_eq!((told.code, told.err.as_str()), (Some(0), ""), "{words:?}");
            assert!(told.out.contains(&expected), "{words:?}: {}", told.out);
        }

        let before = joker.status().unwrap();
        let digits = short(commit);
        let changes = [
            &["suspend", "--reason", "because"][..],
            &["resume"],
            &["confirm", &digits],
            &["rollback"],
            &["accept", &digits],
            &["retry"],
            &["poll"],
        ];
        for words in changes {
            let refused = told(&joker, &BOB, words);
            eprint!("{words:?}: {}", refused.err);
            assert_eq!((refused.code, refused.out.as_str()), (Some(4), ""), "{words:?}");
            assert!(refused.err.contains("polkit does not let user 2001 do this"), "{words:?}");
            assert!(refused.err.contains("run it as root, or allow that action"), "{words:?}");
        }
        let after = joker.status().unwrap();
        for key in ["state", "desired", "running", "suspended", "quarantine", "last_deployment"] {
            assert_eq!(before[key], after[key], "{key}");
        }
        joker.assert_stands("three");

        let suspended =
            told(&joker, &ANNA, &["suspend", "--for", "2h", "--reason", "moving house"]);
        assert_eq!(suspended.code, Some(0), "{}", suspended.err);
        let four = cluster.push("release", &[&one.at("four")]);
        joker.wait_status("it to wait", |status| {
            status["gate"]["kind"] == "suspended" && status["desired"]["commit"] == four.to_string()
        });
        let waits = told(&joker, &BOB, &["status"]).out;
        assert!(waits.contains(&short(four)) && waits.contains("moving house"), "{waits}");
        assert_eq!(joker.version(), "three");
        assert_eq!(told(&joker, &ANNA, &["resume"]).code, Some(0));
        joker.wait_in_sync(four);
        assert_eq!(told(&joker, &ANNA, &["poll"]).code, Some(0));
        // What does not make sense is no more so for her than for root.
        let refused = told(&joker, &ANNA, &["confirm", &digits]);
        assert_eq!(refused.code, Some(4), "{}", refused.out);
        assert!(refused.err.contains("no commit has to be confirmed"), "{}", refused.err);
        let back = told(&joker, &ANNA, &["rollback", "--reason", "too slow"]);
        assert_eq!(back.code, Some(0), "{}", back.err);
        joker.wait_status("the system before", |status| {
            status["held"]["cause"] == "quarantined" && status["deployment"].is_null()
        });
        joker.assert_stands("three");
        let log = joker.journal(&["-u", "fort-agent.service"]);
        assert!(log.contains("polkit lets the caller"), "{log}");

        // Root knows what is wrong with the agent; others that it is not there.
        joker.must(&["systemctl", "stop", "fort-agent-revive.timer", "fort-agent.service"]);
        for words in [["status"], ["history"], ["poll"]] {
            let silent = told(&joker, &BOB, &words);
            eprint!("{words:?}: {}", silent.err);
            assert_eq!((silent.code, silent.out.as_str()), (Some(3), ""), "{words:?}");
            assert!(silent.err.contains("not on the system bus"), "{}", silent.err);
        }
        let recorded = told(&joker, &[AGENT], &["status"]);
        assert_eq!(recorded.code, Some(3));
        assert!(recorded.out.contains("last recorded"), "{}", recorded.out);
    });
}

/// Says what it is told, where the agent's unit lets it, and what that forbids.
const HOOK: &str = "file=/var/cache/fort-agent/told-$FORT_AGENT_DEPLOYMENT-$FORT_AGENT_TRY\n\
    {\n\
    env | grep ^FORT_AGENT_\n\
    echo \"WORDS=$*\"\n\
    echo \"UID=$(id -u)\"\n\
    echo \"UNIT=$(grep ^0:: /proc/self/cgroup)\"\n\
    for place in /etc /root /var/lib; do\n\
    if touch $place/by-hook 2>/dev/null; then echo \"WROTE=$place\"; fi\n\
    done\n\
    } > $file.new\n\
    mv $file.new $file\n";

/// Returns the variables that the hook of a commit's only deployment was given, once.
fn hooked(machine: &Machine, commit: Commit) -> BTreeMap<String, String> {
    let endings = machine.endings(commit);
    assert_eq!(endings.len(), 1, "{endings:#?}");
    let file = format!("told-{}-", endings[0]["id"].as_str().unwrap());
    let mut found = Vec::new();
    machine.wait_until("the hook", || {
        let all = machine.tell(&["ls", "/var/cache/fort-agent"]);
        let of_it = all.lines().filter(|name| name.starts_with(&file) && !name.ends_with(".new"));
        found = of_it.map(str::to_owned).collect();
        !found.is_empty()
    });
    assert_eq!(found, [format!("{file}1")]);
    let text = machine.read(&format!("/var/cache/fort-agent/{}", found[0]));
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn assert_hooked(machine: &Machine, commit: Commit, previous: &str, verdict: &str, cause: &str) {
    let told = hooked(machine, commit);
    let ending = machine.endings(commit).remove(0);
    let text = |key: &str| ending[key].as_str().unwrap_or_default().to_owned();
    let expected = [
        ("FORT_AGENT_CAUSE", text("cause")),
        ("FORT_AGENT_COMMIT", commit.to_string()),
        ("FORT_AGENT_DEPLOYMENT", text("id")),
        ("FORT_AGENT_HOSTNAME", "joker".into()),
        ("FORT_AGENT_OPERATION", "switch".into()),
        ("FORT_AGENT_PREVIOUS_SYSTEM", previous.into()),
        ("FORT_AGENT_SOURCE", commit.to_string()),
        ("FORT_AGENT_SYSTEM", text("system")),
        ("FORT_AGENT_TRY", "1".into()),
        ("FORT_AGENT_VERDICT", verdict.into()),
        ("UID", "0".into()),
        ("UNIT", "0::/system.slice/fort-agent.service".into()),
        ("WORDS", "--from fort agent".into()),
    ];
    let expected = expected.map(|(key, value)| (key.to_owned(), value));
    assert_eq!(told.into_iter().collect::<Vec<_>>(), expected);
    assert!(text("cause").contains(cause), "{ending:#}");
}

#[test]
fn hooks_are_told_of_each_verdict_within_the_agents_own_unit() {
    on_each(|cluster| {
        let hooks = "[hooks]\non_verdict = \
                     [[\"/bin/sh\", \"/etc/hook/tell\", \"--from\", \"fort agent\"]]\n";
        let pace = Pace { activations: 1, health: "6s", ..Pace::default() };
        let config = cluster.agent_config_at(&pace, hooks);
        let host = |version| Host::new("joker", version).file("hook/tell", HOOK);
        let one = host("one").agent(&config);
        cluster.forge();
        let joker = cluster.booted(&one);
        let first = cluster.push("release", &[&one]);
        joker.wait_in_sync(first);

        let previous = joker.running().unwrap();
        let two = cluster.push("release", &[&one.at("two")]);
        joker.wait_in_sync(two);
        assert_hooked(&joker, two, &previous, "good", "");

        let previous = joker.running().unwrap();
        let fails = "[Service]\nType=oneshot\nExecStart=false\n\
                     [Install]\nWantedBy=multi-user.target\n";
        let bad = cluster.push("release", &[&one.at("bad").unit("broken.service", fails)]);
        joker.wait_quarantined(bad);
        joker.assert_stands("two");
        assert_hooked(&joker, bad, &previous, "rolled-back", "broken.service");

        // One that restarts the agent just before its verdict.
        let other = host("three").agent(&format!("{config}# Another one.\n"));
        let pid = joker.unit("fort-agent.service", "MainPID");
        let three = cluster.push("release", &[&other]);
        joker.wait_in_sync(three);
        assert_ne!(joker.unit("fort-agent.service", "MainPID"), pid);
        assert_hooked(&joker, three, &previous, "good", "");
        let notes = joker.status().unwrap()["notes"].clone();
        assert_eq!(notes, serde_json::json!([]));
    });
}
