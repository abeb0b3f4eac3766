//! Brings a stall about, asks every channel, lifts it.

use std::any::Any;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fort_agent::core::types::Commit;
use serde_json::Value;

use crate::support::mounts::in_own_mounts;
use crate::support::pages::get;
use crate::support::rig::{LONG, Rig};
use crate::support::site::Site;
use crate::support::sshd::free_port;

/// What keeps a host from what it should run, and how that is to be told.
pub(super) struct Stall {
    /// Whether it mounts file systems.
    pub(super) mounts: bool,
    /// Before the agent is first started.
    pub(super) settings: fn(&mut Stage),
    /// Brings it about.
    pub(super) cause: fn(&mut Stage),
    pub(super) state: &'static str,
    pub(super) held: Option<&'static str>,
    /// All channels have these words of the cause and its evidence; `{head}` is
    /// the short name of the stage's commit.
    pub(super) words: &'static [&'static str],
    /// And these of what lifts it.
    pub(super) lift: &'static [&'static str],
    /// Besides those of the state.
    pub(super) metrics: &'static [&'static str],
    /// Within so many polls; none where something else has to end first.
    pub(super) polls: Option<u64>,
    /// Does what is said to lift it; the commit that runs then.
    pub(super) undo: fn(&mut Stage) -> Commit,
}

impl Stall {
    pub(super) const USUAL: Self = Self {
        mounts: false,
        settings: |_| {},
        cause: |_| {},
        state: "held",
        held: None,
        words: &[],
        lift: &[],
        metrics: &[],
        polls: None,
        undo: |stage| stage.one,
    };
}

/// A host, and what belongs to its story.
pub(super) struct Stage {
    pub(super) rig: Rig,
    pages: SocketAddr,
    /// The first commit, which was deployed.
    pub(super) one: Commit,
    /// The commit that it is about.
    pub(super) head: Commit,
    pub(super) site: Site,
    /// What must not go before the end.
    pub(super) kept: Vec<Box<dyn Any>>,
}

impl Stage {
    /// Runs a command of the agent's, which is done.
    pub(super) fn run(&self, arguments: &[&str]) {
        let (code, said) = self.rig.tell(arguments);
        assert_eq!(code, 0, "{arguments:?}: {said}");
    }

    /// Another boot, of what boots by default.
    pub(super) fn reboot(&mut self, id: &str) {
        self.rig.stop();
        self.rig.boot(id);
        self.rig.start();
    }

    /// The status as it is over HTTP: the cheapest way to ask often.
    fn status(&self) -> Option<Value> {
        let (code, body) = get(self.pages, "/status").ok()?;
        (code == 200).then(|| serde_json::from_str(&body).unwrap())
    }

    fn metrics(&self) -> String {
        // The agent may be becoming itself again, under another configuration.
        let began = Instant::now();
        loop {
            match get(self.pages, "/metrics") {
                Ok((_, body)) => return body,
                Err(error) => assert!(began.elapsed() < LONG, "/metrics: {error}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// How often remotes were asked.
    fn polls(&self) -> u64 {
        let metrics = self.metrics();
        let polls = metrics.lines().filter(|line| line.starts_with("fort_agent_polls_total{"));
        polls.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    /// The agent's own words.
    fn log(&self) -> String {
        let log = self.rig.log();
        log.split("\n--- ").next().unwrap().to_owned()
    }

    fn wait(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        let mut last = None;
        // Some are looked at again only once in a minute.
        while began.elapsed() < 2 * LONG {
            match self.status() {
                Some(status) if wanted(&status) => return status,
                Some(status) => last = Some(status),
                None => {}
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("never came: {what}\nstatus: {last:#?}");
    }
}

/// What a status says is wrong, and what lifts it; nothing of the past.
fn told(status: &Value) -> String {
    let mut told = Vec::new();
    for part in ["reason", "lift", "held", "gate", "suspended", "notes"] {
        told.push(status[part].to_string());
    }
    let remotes = status["remotes"].as_array().unwrap().iter();
    told.extend(remotes.map(|remote| remote["error"].to_string()));
    told.push(status["publish"]["last_error"].to_string());
    told.join("\n")
}

fn explained(explanation: &Value) -> String {
    let rules = explanation["rules"].as_array().unwrap().iter();
    let rules = rules.filter(|rule| rule["holds"] != true).map(Value::to_string);
    let parts = ["conclusion", "cause", "lift", "notes"].map(|part| explanation[part].to_string());
    parts.into_iter().chain(rules).collect::<Vec<_>>().join("\n")
}

/// As one line: people's lines are broken where they end.
fn unbroken(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What a browser shows of a page.
fn readable(page: &str) -> String {
    let page = page.rsplit("</style>").next().unwrap();
    let mut text = String::new();
    let mut inside = false;
    for c in page.chars() {
        match c {
            '<' => inside = true,
            '>' => inside = false,
            _ if !inside => text.push(c),
            _ => {}
        }
    }
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
    unbroken(&text.replace("&amp;", "&"))
}

/// The whole story of one stall.
pub(super) fn play(name: &str, stall: &Stall) {
    if stall.mounts {
        in_own_mounts(&format!("stalls::stall::{name}"), || play_here(name, stall));
    } else {
        play_here(name, stall);
    }
}

fn play_here(name: &str, stall: &Stall) {
    let mut stage = set(stall);
    (stall.cause)(&mut stage);
    // Before the agent is started again its counters are, too.
    let before = stage.status().map_or(0, |_| stage.polls());
    let head = stage.head.short();
    let all = stall.words.iter().chain(stall.lift).map(|word| word.replace("{head}", &head));
    let all: Vec<String> = all.collect();
    let lacks = |text: &str| all.iter().find(|word| !text.contains(word.as_str())).cloned();
    let is_so = |status: &Value| {
        status["state"] == stall.state && lacks(&unbroken(&told(status))).is_none()
    };
    let status = stage.wait(&format!("{name}: {} with {all:?}", stall.state), is_so);
    if let Some(polls) = stall.polls {
        let took = stage.polls() - before;
        assert!(took <= polls, "{name} was seen after {took} polls");
    }
    assert_eq!(status["held"]["cause"].as_str(), stall.held, "{name}: {status:#}");

    // What is under way shows before it has ended, and is logged.
    stage.rig.wait_for("the words in the log", || lacks(&unbroken(&stage.log())).is_none());
    let json = stage.rig.status().unwrap();
    let metrics = stage.metrics();
    let explanation = stage.rig.tell(&["explain", "--json"]);
    assert_eq!(explanation.0, 0, "{}", explanation.1);
    let explanation: Value = serde_json::from_str(&explanation.1).unwrap();
    for (channel, text) in [
        ("status --json", told(&json)),
        ("status", stage.rig.tell(&["status"]).1),
        ("explain --json", explained(&explanation)),
        ("explain", stage.rig.tell(&["explain"]).1),
        ("the page", readable(&get(stage.pages, "/").unwrap().1)),
        ("the log", stage.log()),
    ] {
        let lacking = lacks(&unbroken(&text));
        assert_eq!(lacking, None, "{name}: {channel} lacks it:\n{text}");
        if std::env::var_os("FORT_STALLS_SHOW").is_some() && channel == "status" {
            println!("== {name}\n{text}");
        }
    }
    assert_eq!(json["state"], stall.state, "{name}");
    assert_eq!(explanation["state"], stall.state, "{name}");
    assert_eq!(explanation["cause"], json["held"]["cause"], "{name}");
    assert_eq!(explanation["conclusion"], json["reason"], "{name}");
    let state = format!("fort_agent_state{{state=\"{}\"}} 1", stall.state);
    let held: Vec<&str> = metrics
        .lines()
        .filter(|line| line.starts_with("fort_agent_held{") && line.ends_with(" 1"))
        .collect();
    let cause = stall.held.map(|cause| format!("fort_agent_held{{cause=\"{cause}\"}} 1"));
    assert_eq!(held, cause.iter().map(String::as_str).collect::<Vec<_>>(), "{name}");
    for line in stall.metrics.iter().copied().chain([state.as_str()]) {
        assert!(metrics.lines().any(|have| have == line), "{name}: no {line} in\n{metrics}");
    }

    let end = (stall.undo)(&mut stage);
    let first = stall.words[0].replace("{head}", &head);
    stage.wait(&format!("{name}: lifted"), |status| {
        status["state"] == "up-to-date"
            && status["running"]["commit"] == end.to_string()
            && status["lift"].is_null()
            && status["held"].is_null()
            && status["gate"].is_null()
            && !unbroken(&told(status)).contains(&first)
    });
}

/// A host on which the first commit was deployed.
fn set(stall: &Stall) -> Stage {
    let rig = Rig::new();
    let one = rig.push("release", &crate::support::system::Host::new("one"));
    let pages = free_port();
    let (site, kept) = (Site::open(), Vec::new());
    site.answer(200, "well");
    let mut stage = Stage { rig, pages, one, head: one, site, kept };
    stage.rig.settings.sections = format!("[metrics]\nlisten = \"{pages}\"\n");
    // None of them is lifted by the next try, unless it says so.
    stage.rig.settings.retry = "first = \"10m\"\nmax = \"10m\"\n".into();
    (stall.settings)(&mut stage);
    stage.rig.start();
    stage.rig.wait_in_sync(one);
    stage
}
