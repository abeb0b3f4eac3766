//! The agent's faces, served from a loop that the test plays: the bus on its
//! socket, asked by the real program, and HTTP.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::Duration;

use fort_agent::announce::Notes;
use fort_agent::bus::{self, Client, ClientError};
use fort_agent::control::{Command, Control, Shown, Told};
use fort_agent::core::request::Request;
use fort_agent::core::status::{State, Status};
use fort_agent::metrics::Metrics;
use fort_agent::web;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

mod asking;
mod pages;
mod socket;
mod watching;

const COMMIT: &str = "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d";
/// Explanation that the test's loop returns.
const EXPLAINED: &str = r#"{"version":1,"commit":null,"about":"unknown","system":null,"runs":false,"state":"up-to-date","conclusion":"no remote has named 7777777","cause":null,"lift":null,"rules":[{"rule":"remote","holds":true,"evidence":"origin has 1a2b3c4 on release","lift":null}]}"#;
const SYSTEM: &str = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-nixos-system-joker";
/// Nothing here takes long; a wait that is over means that it never comes.
const DEADLINE: Duration = Duration::from_secs(20);

/// As the interface writes it.
fn well() -> Status {
    serde_json::from_value(json!({
        "version": 1, "hostname": "joker", "state": "up-to-date",
        "reason": "1a2b3c4 runs and was verified",
        "next": {"action": "poll", "at": "2026-01-01T00:00:30Z"},
        "desired": {"commit": COMMIT, "source": COMMIT, "branch": "release", "remote": "origin",
            "operation": "switch", "system": SYSTEM, "first_seen": "2026-01-01T00:00:00Z"},
        "running": {"commit": COMMIT, "system": SYSTEM, "since": "2026-01-01T00:00:20Z",
            "drift": false},
        "boot": {"default": SYSTEM, "booted": null, "reboot_required": false, "why": null},
        "last_good": {"commit": COMMIT, "system": SYSTEM},
        "deployment": null, "held": null, "suspended": null,
        "remotes": [{"name": "origin", "reachable": true, "last_success": "2026-01-01T00:00:29Z",
            "head": COMMIT, "error": null}],
        "publish": null, "quarantine": [], "last_deployment": null, "notes": [],
        "agent": {"version": "0.1.0", "started": "2026-01-01T00:00:00Z"},
    }))
    .unwrap()
}

/// Of the same host, which cannot be looked at.
fn blind() -> Status {
    let mut status = serde_json::to_value(well()).unwrap();
    status["state"] = json!("blind");
    status["blind"] = json!({"part": "jobs", "path": "/var/lib/fort-agent/jobs", "errno": 5,
        "error": "Input/output error (os error 5)", "since": "2026-01-01T00:00:10Z",
        "lift": "mend that path", "more": []});
    serde_json::from_value(status).unwrap()
}

fn entry(n: u32) -> Value {
    json!({"id": format!("20260101T00000{n}Z-1a2b3c4d-1"), "commit": COMMIT, "system": SYSTEM,
        "operation": "switch", "verdict": if n == 2 { "rolled-back" } else { "good" },
        "cause": if n == 2 { json!("check web: refused") } else { Value::Null },
        "started": "2026-01-01T00:00:00Z", "ended": "2026-01-01T00:00:20Z",
        "stages": {"realise": 15000, "activate": 3000}, "checks": []})
}

fn shown(status: Status) -> Option<Arc<Shown>> {
    let history = serde_json::from_value(json!([entry(1), entry(2), entry(3)])).unwrap();
    Some(Arc::new(Shown { status, history: Arc::new(history) }))
}

/// A loop that the test plays, with its bus.
struct Played {
    dir: tempfile::TempDir,
    shows: watch::Sender<Option<Arc<Shown>>>,
    control: Control,
    told: Option<mpsc::Receiver<Told>>,
    stop: Option<oneshot::Sender<()>>,
    bus: Option<JoinHandle<()>>,
}

impl Played {
    fn new() -> Self {
        Self::with(bus::BusLimits::default())
    }

    fn with(limits: bus::BusLimits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (shows, watched) = watch::channel(shown(well()));
        let (commands, told) = mpsc::channel(4);
        let control = Control { shown: watched, commands };
        let mut played = Self { dir, shows, control, told: Some(told), stop: None, bus: None };
        let config = format!(
            "hostname = \"joker\"\nstate_dir = \"{state}\"\nrun_dir = \"{run}\"\n\
             activation.runner = \"direct\"\n[[remote]]\nname = \"origin\"\n\
             url = \"https://git.example.org/x.git\"\n",
            state = played.dir.path().display(),
            run = played.run_dir().display(),
        );
        fs::write(played.config(), config).unwrap();
        played.serve(limits);
        played
    }

    fn serve(&mut self, limits: bus::BusLimits) {
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move { drop(stopped.await) };
        let bus = bus::serve_with(self.control.clone(), &self.run_dir(), limits, shutdown);
        (self.stop, self.bus) = (Some(stop), Some(bus.unwrap()));
    }

    async fn stop(&mut self) {
        drop(self.stop.take());
        within(self.bus.take().unwrap()).await.unwrap();
    }

    /// Answers what it is told: accepts nothing but `1a2b3c4`.
    fn obey(&mut self) -> JoinHandle<Vec<Command>> {
        let mut told = self.told.take().unwrap();
        let shows = self.shows.clone();
        tokio::spawn(async move {
            let mut heard = Vec::new();
            while let Some(Told { command, reply }) = told.recv().await {
                let answer = match &command {
                    Command::Poll => {
                        shows.send_modify(|shown| {
                            let mut new = Shown::clone(shown.as_ref().unwrap());
                            new.status.remotes[0].last_success =
                                Some("2100-01-01T00:00:00Z".parse().unwrap());
                            *shown = Some(Arc::new(new));
                        });
                        Ok("polling".to_owned())
                    }
                    Command::Ask(Request::Accept(prefix)) if prefix.to_string() == "1a2b3c4" => {
                        Ok("1a2b3c4 is accepted".into())
                    }
                    Command::Ask(Request::Accept(prefix)) => {
                        Err(format!("{prefix} is not waiting to be accepted; no head is"))
                    }
                    Command::Ask(Request::Retry(_)) => Ok("tried again now".into()),
                    Command::Ask(
                        Request::Confirm(_)
                        | Request::Suspend { .. }
                        | Request::Resume
                        | Request::Rollback { .. },
                    ) => Ok("so be it".into()),
                    Command::Explain(_) => Ok(EXPLAINED.into()),
                };
                heard.push(command);
                // Whoever asked may be gone.
                let _ = reply.send(answer);
            }
            heard
        })
    }

    fn run_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    fn socket(&self) -> PathBuf {
        self.run_dir().join("bus")
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("config.toml")
    }

    async fn run(&self, args: &[&str]) -> Ran {
        let mut command = program(Path::new(env!("CARGO_BIN_EXE_fort-agent")));
        command.arg("--config").arg(self.config()).args(args);
        ran(command).await
    }
}

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

fn program(path: &Path) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(path);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("COLUMNS", "100").env("TZ", "UTC").stdin(Stdio::null()).kill_on_drop(true);
    // An agent of this machine is none of the tests' business.
    command.env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere/bus");
    command
}

async fn ran(mut command: tokio::process::Command) -> Ran {
    let Output { status, stdout, stderr } = within(command.output()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: status.code(), out: text(stdout), err: text(stderr) }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.expect("it takes too long")
}

#[tokio::test]
async fn before_the_first_turn_and_without_an_agent_there_is_no_answer() {
    let mut played = Played::new();
    played.shows.send_replace(None);
    let client = Client::connect(&played.run_dir()).await.unwrap();
    let trouble = within(client.status()).await.unwrap_err();
    assert!(
        matches!(&trouble, ClientError::Silent { why, .. } if why.contains("started")),
        "{trouble}"
    );
    played.stop().await;
    let told = played.run(&["status"]).await;
    assert_eq!((told.code, told.out.as_str()), (Some(3), ""));
    assert!(told.err.contains("does not answer") && told.err.contains("nothing is recorded"));
    fs::write(played.dir.path().join("status.json"), &serde_json::to_vec(&well()).unwrap()[..99])
        .unwrap();
    let told = played.run(&["status"]).await;
    assert_eq!((told.code, told.out.as_str()), (Some(3), ""));
    assert!(told.err.contains("is damaged"), "{}", told.err);
}

#[tokio::test]
async fn a_dead_agents_last_word_is_told_as_such() {
    let mut played = Played::new();
    played.stop().await;
    let recorded = serde_json::to_vec(&well()).unwrap();
    fs::write(played.dir.path().join("status.json"), recorded).unwrap();
    let told = played.run(&["status"]).await;
    assert_eq!(told.code, Some(3));
    let mut lines = told.out.lines();
    assert!(lines.next().unwrap().starts_with("the agent does not answer; last recorded "));
    assert!(lines.next().unwrap().starts_with("in sync with 1a2b3c4"), "{}", told.out);
    let told = played.run(&["status", "--json"]).await;
    let value: Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!((told.code, &value["state"]), (Some(3), &json!("up-to-date")));
    assert!(value["recorded"].is_string());
    assert_eq!(played.run(&["history"]).await.code, Some(3));
}

#[tokio::test]
async fn usage_and_configuration_errors_have_exit_code_2() {
    let played = Played::new();
    for args in [&["release"][..], &["frobnicate"], &["accept"], &["status", "--xml"], &[]] {
        let told = played.run(args).await;
        assert_eq!((told.code, told.out.as_str()), (Some(2), ""), "{args:?}");
        assert!(!told.err.is_empty());
    }
    let told = played.run(&["release"]).await;
    assert!(told.err.contains("`release` is not supported by this version"), "{}", told.err);
    fs::write(played.config(), "[poll]\ninterval = \"-5s\"\n").unwrap();
    for args in ["status", "run", "check-config"] {
        let told = played.run(&[args]).await;
        assert_eq!(told.code, Some(2), "{args}");
        assert!(told.err.contains("config.toml:2:"), "{}", told.err);
    }
    let told = played.run(&["--version"]).await;
    assert_eq!(told.code, Some(0));
    assert!(told.out.starts_with("fort-agent "), "{}", told.out);
}

#[tokio::test]
async fn an_agent_whose_file_was_spoilt_is_still_asked() {
    let mut played = Played::new();
    let _heard = played.obey();
    let good = fs::read_to_string(played.config()).unwrap();
    fs::write(played.config(), good.clone() + "[poll]\ninterval = \"-5s\"\nevery = 3\n").unwrap();
    let hint = format!(
        "fort-agent: 2 mistakes in {}: the agent goes on with what it read before; run \
         `fort-agent check-config`\n",
        played.config().display()
    );
    for (args, code) in [
        (&["status"][..], 0),
        (&["status", "--json"], 0),
        (&["explain"], 0),
        (&["history"], 0),
        (&["poll"], 0),
        (&["suspend", "--for", "2h"], 0),
        (&["resume"], 0),
        (&["retry"], 0),
        (&["confirm", "1a2b3c4"], 0),
        (&["rollback"], 0),
        (&["accept", "1a2b3c4"], 0),
        (&["accept", "fffffff"], 4),
    ] {
        let told = played.run(args).await;
        assert_eq!(told.code, Some(code), "{args:?}: {}", told.err);
        assert!(told.err.ends_with(&hint), "{args:?}: {}", told.err);
        if args.contains(&"--json") {
            assert_eq!(serde_json::from_str::<Status>(&told.out).unwrap(), well());
        }
    }
    // What needs all of it says what is wrong with it.
    let told = played.run(&["diff"]).await;
    assert_eq!((told.code, told.out.as_str()), (Some(2), ""));
    assert!(told.err.contains("config.toml:9:"), "{}", told.err);
    // What it left, and what keeps it from being started again.
    fs::write(played.dir.path().join("status.json"), serde_json::to_string(&well()).unwrap())
        .unwrap();
    played.stop().await;
    let told = played.run(&["status"]).await;
    assert_eq!(told.code, Some(2), "{}", told.err);
    assert!(told.out.contains("last recorded"), "{}", told.out);
    assert!(
        told.err.contains("config.toml:9:") && told.err.contains("not running"),
        "{}",
        told.err
    );
    // Nobody else's agent is told instead.
    fs::write(played.config(), good.replace("run_dir", "run_dri")).unwrap();
    let told = played.run(&["rollback"]).await;
    assert_eq!(told.code, Some(2), "{}", told.err);
    assert!(told.err.contains("did you mean `run_dir`?"), "{}", told.err);
}

#[tokio::test]
async fn nobody_reading_is_no_panic() {
    let played = Played::new();
    for args in ["status", "history", "--help", "check-config"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = program(Path::new(env!("CARGO_BIN_EXE_fort-agent")));
        command.arg("--config").arg(played.config()).arg(args);
        command.stdout(writer.try_clone().unwrap()).stderr(Stdio::piped());
        let told = within(command.spawn().unwrap().wait_with_output()).await.unwrap();
        assert_eq!((told.status.code(), told.stderr.as_slice()), (Some(0), &b""[..]), "{args}");
    }
}

/// A D-Bus client that is not ours.
async fn speak(socket: &Path) -> zbus::Connection {
    let stream = UnixStream::connect(socket).await.unwrap().into_std().unwrap();
    within(zbus::connection::Builder::unix_stream(stream).p2p().build()).await.unwrap()
}
