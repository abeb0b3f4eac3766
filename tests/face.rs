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
use fort_agent::bus::{self, Client, Trouble};
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
        Self::with(bus::Limits::default())
    }

    fn with(limits: bus::Limits) -> Self {
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

    fn serve(&mut self, limits: bus::Limits) {
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
async fn status_and_history_are_told_over_the_socket() {
    let played = Played::new();
    let told = played.run(&["status"]).await;
    assert_eq!((told.code, told.err.as_str()), (Some(0), ""));
    assert!(told.out.starts_with("in sync with 1a2b3c4 since 2026-01-01 00:00\n"), "{}", told.out);
    let told = played.run(&["status", "--json"]).await;
    assert_eq!(serde_json::from_str::<Status>(&told.out).unwrap(), well());
    let told = played.run(&["history", "-n", "2", "--json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&told.out).unwrap(), json!([entry(3), entry(2)]));
    let told = played.run(&["history"]).await;
    assert_eq!((told.code, told.out.lines().count()), (Some(0), 4), "{}", told.out);
    assert!(told.out.contains("rolled-back  20 s  check web: refused"), "{}", told.out);
}

#[tokio::test]
async fn what_is_told_reaches_the_loop_and_a_refusal_has_its_own_exit_code() {
    let mut played = Played::new();
    let heard = played.obey();
    let told = played.run(&["accept", "1a2b3c4"]).await;
    assert_eq!((told.code, told.out.as_str()), (Some(0), "1a2b3c4 is accepted\n"), "{}", told.err);
    let told = played.run(&["accept", "FFFFFFF"]).await;
    assert_eq!((told.code, told.out.as_str()), (Some(4), ""));
    assert!(told.err.contains("fffffff is not waiting to be accepted"), "{}", told.err);
    let told = played.run(&["accept", "nonsense"]).await;
    assert_eq!(told.code, Some(2), "{}", told.err);
    let told = played.run(&["retry", "--json"]).await;
    assert_eq!((told.code, told.out.as_str()), (Some(0), "{\"done\":\"tried again now\"}\n"));
    let told = played.run(&["poll"]).await;
    assert_eq!(told.code, Some(0), "{}", told.err);
    assert!(told.out.starts_with("origin: 1a2b3c4, answered "), "{}", told.out);
    played.stop().await;
    let Played { control, shows, .. } = played;
    drop((control, shows));
    let heard = within(heard).await.unwrap();
    assert_eq!(heard.len(), 4, "{heard:?}");
    assert_eq!(heard[2..], [Command::Ask(Request::Retry(None)), Command::Poll]);
}

#[tokio::test]
async fn a_refusal_has_its_own_error_name() {
    let mut played = Played::new();
    let _heard = played.obey();
    let connection = speak(&played.socket()).await;
    let call = |method: &'static str, argument: &'static str| {
        let connection = connection.clone();
        async move {
            let body = (argument,);
            let call =
                connection.call_method(None::<&str>, bus::PATH, Some(bus::NAME), method, &body);
            match within(call).await {
                Err(zbus::Error::MethodError(name, _, _)) => name.to_string(),
                Err(error) => error.to_string(),
                Ok(reply) => panic!("{reply:?}"),
            }
        }
    };
    let refused = "network.gisi.fort.Agent1.Error.Refused";
    assert_eq!(call("Accept", "fffffff").await, refused);
    let invalid = "network.gisi.fort.Agent1.Error.InvalidArgument";
    assert_eq!(call("Accept", "../../x").await, invalid);
    assert!(call("Reboot", "now").await.contains("Unknown method"));
}

#[tokio::test]
async fn a_stuck_loop_is_a_failure_and_the_status_is_still_told() {
    let played = Played::new();
    for _ in 0..4 {
        let (reply, _) = oneshot::channel();
        played.control.commands.try_send(Told { command: Command::Poll, reply }).unwrap();
    }
    let told = played.run(&["retry"]).await;
    assert_eq!(told.code, Some(1));
    assert!(told.err.contains("stuck"), "{}", told.err);
    assert_eq!(played.run(&["status"]).await.code, Some(0));
}

#[tokio::test]
async fn changes_are_announced() {
    let played = Played::new();
    let connection = speak(&played.socket()).await;
    let proxy: zbus::Proxy<'_> = zbus::proxy::Builder::new(&connection)
        .destination("network.gisi.fort.Agent1")
        .path(bus::PATH)
        .interface(bus::NAME)
        .cache_properties(zbus::proxy::CacheProperties::No)
        .build()
        .await
        .unwrap();
    assert_eq!(proxy.get_property::<String>("State").await.unwrap(), "up-to-date");
    assert!(proxy.get_property::<bool>("InSync").await.unwrap());
    assert_eq!(proxy.get_property::<String>("RunningCommit").await.unwrap(), COMMIT);
    let mut messages = zbus::MessageStream::from(&connection);
    let mut held = well();
    held.state = State::Held;
    held.reason = "release was force-pushed".into();
    held.desired = None;
    played.shows.send_replace(shown(held.clone()));
    let mut changed = Vec::new();
    loop {
        let message = within(messages.next()).await.unwrap().unwrap();
        match message.header().member().map(ToString::to_string).as_deref() {
            Some("PropertiesChanged") => {
                let body = message.body();
                let (_, properties, _): (
                    String,
                    std::collections::HashMap<String, zbus::Variant<'_>>,
                    Vec<String>,
                ) = body.deserialize().unwrap();
                changed.extend(properties.into_keys());
            }
            Some("StatusChanged") => {
                let said: String = message.body().deserialize().unwrap();
                assert_eq!(serde_json::from_str::<Status>(&said).unwrap(), held);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    changed.sort();
    assert_eq!(changed, ["DesiredCommit", "InSync", "Reason", "State"]);
    assert_eq!(proxy.get_property::<String>("State").await.unwrap(), "held");
    assert_eq!(proxy.get_property::<String>("DesiredCommit").await.unwrap(), "");
}

#[tokio::test]
async fn the_socket_is_for_root_alone_replaces_a_stale_one_and_goes_away() {
    let mut played = Played::new();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&played.run_dir()), 0o700);
    assert_eq!(mode(&played.socket()), 0o600);
    played.stop().await;
    assert!(!played.socket().exists());
    // As a killed agent leaves it.
    drop(std::os::unix::net::UnixListener::bind(played.socket()).unwrap());
    assert_eq!(played.run(&["retry"]).await.code, Some(3));
    played.serve(bus::Limits::default());
    assert!(fs::metadata(played.socket()).unwrap().file_type().is_socket());
    assert_eq!(played.run(&["status"]).await.code, Some(0));
}

#[tokio::test]
async fn another_user_is_refused_even_where_the_modes_would_let_him_in() {
    assert!(rustix::process::geteuid().is_root(), "becoming another user needs root");
    let mut played = Played::new();
    let _heard = played.obey();
    let copy = played.dir.path().join("fort-agent");
    fs::copy(env!("CARGO_BIN_EXE_fort-agent"), &copy).unwrap();
    let open = |path: &Path| fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
    [played.dir.path(), &played.config(), &copy].into_iter().for_each(open);
    let ask = async |what: &str| {
        let mut command = program(Path::new("setpriv"));
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]);
        command.arg(&copy).arg("--config").arg(played.config()).args(what.split(' '));
        ran(command).await
    };
    let kept_out = ask("status").await;
    assert_eq!((kept_out.code, kept_out.out.as_str()), (Some(4), ""), "{}", kept_out.err);
    [played.run_dir(), played.socket()].iter().for_each(|path| open(path));
    for what in ["status", "accept 1a2b3c4"] {
        let turned_away = ask(what).await;
        assert_eq!((turned_away.code, turned_away.out.as_str()), (Some(4), ""), "{what}");
        assert!(turned_away.err.contains("only root"), "{}", turned_away.err);
    }
    assert_eq!(played.run(&["accept", "1a2b3c4"]).await.code, Some(0));
}

#[tokio::test]
async fn nonsense_on_the_socket_ends_only_its_own_connection() {
    let played = Played::with(bus::Limits { connections: 3, ..bus::Limits::default() });
    let uid: String = rustix::process::geteuid()
        .as_raw()
        .to_string()
        .bytes()
        .map(|b| format!("{b:02x}"))
        .collect();
    let begun = format!("\0AUTH EXTERNAL {uid}\r\nBEGIN\r\n").into_bytes();
    // A method call whose body is said to have 100 MiB.
    let huge = [begun.clone(), b"l\x01\0\x01\0\0\x40\x06\x01\0\0\0\0\0\0\0".to_vec()].concat();
    let garbage = [begun, vec![0xff; 4096]].concat();
    for sent in [b"\n".to_vec(), vec![b'x'; 1 << 20], huge, garbage] {
        let mut peer = UnixStream::connect(played.socket()).await.unwrap();
        // It may be cut off before it has said all.
        let _ = within(peer.write_all(&sent)).await;
        let mut answer = Vec::new();
        let _ = within(peer.read_to_end(&mut answer)).await;
        assert!(answer.len() < 1024);
    }
    assert_eq!(played.run(&["status"]).await.code, Some(0));
}

#[tokio::test]
async fn connections_to_the_bus_are_limited_and_silent_ones_end() {
    let limits = bus::Limits {
        connections: 2,
        handshake: Duration::from_millis(300),
        idle: Duration::from_millis(300),
        ..bus::Limits::default()
    };
    let played = Played::with(limits);
    let mut silent = UnixStream::connect(played.socket()).await.unwrap();
    let idle = speak(&played.socket()).await;
    // The third takes the place of the oldest.
    assert_eq!(played.run(&["status"]).await.code, Some(0));
    assert_eq!(within(silent.read(&mut [0; 16])).await.unwrap(), 0);
    within(idle.closed()).await;
}

#[tokio::test]
async fn two_hundred_who_say_nothing_do_not_keep_anybody_from_asking() {
    let played = Played::new();
    let mut silent = Vec::new();
    for n in 0..200 {
        // Half of them are let in first.
        if n % 2 == 0 {
            silent.push(within(UnixStream::connect(played.socket())).await.unwrap());
        } else {
            let (mut stream, uid) =
                (within(UnixStream::connect(played.socket())).await.unwrap(), own_uid());
            let hello = format!("\0AUTH EXTERNAL {uid}\r\nBEGIN\r\n");
            within(stream.write_all(hello.as_bytes())).await.unwrap();
            silent.push(stream);
        }
    }
    let began = std::time::Instant::now();
    assert_eq!(played.run(&["status"]).await.code, Some(0));
    // Before any of them was late.
    assert!(began.elapsed() < bus::Limits::default().handshake, "{:?}", began.elapsed());
    // Those that were too many are gone.
    let mut rest = Vec::new();
    within(silent[0].read_to_end(&mut rest)).await.unwrap();
}

/// User id of this process as the handshake wants it: its digits in hexadecimal.
fn own_uid() -> String {
    use std::os::unix::fs::MetadataExt as _;
    let uid = fs::metadata("/proc/self").unwrap().uid().to_string();
    uid.bytes().map(|digit| format!("{digit:02x}")).collect()
}

#[tokio::test]
async fn before_the_first_turn_and_without_an_agent_there_is_no_answer() {
    let mut played = Played::new();
    played.shows.send_replace(None);
    let client = Client::connect(&played.run_dir()).await.unwrap();
    let trouble = within(client.status()).await.unwrap_err();
    assert!(
        matches!(&trouble, Trouble::Silent { why, .. } if why.contains("started")),
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

/// On the loopback, and of this process alone: a port that the kernel chose
/// and that was freed again may be another's by then.
fn free_address() -> SocketAddr {
    static TAKEN: AtomicU16 = AtomicU16::new(9101);
    // Process ids have 22 bits.
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let port = TAKEN.fetch_add(1, Ordering::Relaxed);
    SocketAddr::from(([127, 64 | high & 63, middle, low], port))
}

/// HTTP, served as the agent does.
struct Web {
    address: SocketAddr,
    turns: Arc<AtomicBool>,
    shows: watch::Sender<Option<Arc<Shown>>>,
    _stop: oneshot::Sender<()>,
}

impl Web {
    fn on(address: SocketAddr, limits: web::Limits) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let (shows, watched) = watch::channel(shown(well()));
        let turns = Arc::new(AtomicBool::new(true));
        let metrics = Arc::new(Metrics::new());
        metrics.observe(&well());
        let turned = turns.clone();
        let pages = web::Pages {
            metrics,
            shown: watched,
            turns: Arc::new(move || turned.load(Ordering::Relaxed)),
            notes: Notes::new(|| ()),
            names: web::Names::new(["joker"], &[]),
        };
        drop(web::serve(address, pages, limits, async move { drop(stopped.await) }));
        Self { address, turns, shows, _stop: stop }
    }

    fn new(limits: web::Limits) -> Self {
        Self::on(free_address(), limits)
    }

    async fn connect(&self) -> TcpStream {
        within(async {
            loop {
                match TcpStream::connect(self.address).await {
                    Ok(stream) => return stream,
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        })
        .await
    }

    async fn ask(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        let request = format!("{request} HTTP/1.1\r\nHost: joker\r\n\r\n");
        within(stream.write_all(request.as_bytes())).await.unwrap();
        let mut answer = String::new();
        within(stream.read_to_string(&mut answer)).await.unwrap();
        answer
    }
}

#[tokio::test]
async fn the_pages_say_what_the_loop_shows() {
    let web = Web::new(web::Limits::default());
    let metrics = web.ask("GET /metrics").await;
    assert!(metrics.starts_with("HTTP/1.1 200 "), "{metrics}");
    let kind = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n";
    assert!(metrics.contains(kind), "{metrics}");
    assert!(metrics.contains("\nfort_agent_in_sync 1\n") && metrics.ends_with("# EOF\n"));
    let status = web.ask("GET /status?x=y").await;
    let (head, body) = status.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-type: application/json"), "{head}");
    assert_eq!(serde_json::from_str::<Status>(body).unwrap(), well());
    let head = web.ask("HEAD /metrics").await;
    assert!(head.contains(kind) && head.ends_with("\r\n\r\n"), "{head}");
    let people = web.ask("GET /").await;
    assert!(people.starts_with("HTTP/1.1 200 "), "{people}");
    assert!(people.contains("content-type: text/html; charset=utf-8\r\n"), "{people}");
    let policy = "content-security-policy: default-src 'none'; style-src 'sha256-";
    assert!(people.contains(policy) && people.contains("nosniff"), "{people}");
    assert!(people.contains("<h1>In sync</h1>") && people.contains("rolled back"), "{people}");
    assert!(web.ask("POST /").await.starts_with("HTTP/1.1 405 "));
    let refused = web.ask("POST /status").await;
    assert!(refused.starts_with("HTTP/1.1 405 ") && refused.contains("allow: GET, HEAD\r\n"));
    assert!(web.ask("GET /etc/passwd").await.starts_with("HTTP/1.1 404 "));
    assert!(web.ask("GET /healthz").await.starts_with("HTTP/1.1 200 "));
    web.shows.send_replace(shown(blind()));
    let blind = web.ask("GET /healthz").await;
    assert!(blind.starts_with("HTTP/1.1 503 ") && blind.contains("cannot be looked at"), "{blind}");
    web.turns.store(false, Ordering::Relaxed);
    assert!(web.ask("GET /healthz").await.starts_with("HTTP/1.1 503 "));
    web.shows.send_replace(None);
    assert!(web.ask("GET /status").await.starts_with("HTTP/1.1 503 "));
    let people = web.ask("GET /").await;
    assert!(people.starts_with("HTTP/1.1 503 ") && people.contains("only just been started"));
}

#[tokio::test]
async fn who_sends_slowly_is_cut_off() {
    let limits = web::Limits {
        head: Duration::from_millis(200),
        connection: Duration::from_millis(600),
        ..web::Limits::default()
    };
    let web = Web::new(limits);
    // A head that never ends, and one byte at a time.
    let mut stuck = web.connect().await;
    stuck.write_all(b"GET /metrics HTTP/1.1\r\nX: ").await.unwrap();
    let mut dripping = web.connect().await;
    let drip = async {
        while dripping.write_all(b"G").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(drip).await;
    let mut rest = Vec::new();
    let _ = within(stuck.read_to_end(&mut rest)).await;
    assert!(!rest.windows(12).any(|window| window == b"HTTP/1.1 200"), "{rest:?}");
    let huge = format!("GET /{}", "x".repeat(64 << 10));
    let mut stream = web.connect().await;
    let _ = within(stream.write_all(huge.as_bytes())).await;
    let _ = within(stream.read_to_end(&mut rest)).await;
    assert!(web.ask("GET /healthz").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn whoever_asks_is_answered_however_many_are_silent() {
    // None of them goes by itself.
    let (head, connection) = (DEADLINE * 10, DEADLINE * 10);
    let web = Web::new(web::Limits { head, connection, ..web::Limits::default() });
    drop(web.connect().await);
    let mut silent = Vec::new();
    for neighbour in 0..16 {
        for _ in 0..8 {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::from(([127, 3, 0, neighbour + 1], 0))).unwrap();
            let mut stream = within(socket.connect(web.address)).await.unwrap();
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: jo").await.unwrap();
            silent.push(stream);
        }
    }
    for _ in 0..8 {
        let mut own = web.connect().await;
        own.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
        silent.push(own);
    }
    assert!(web.ask("GET /healthz").await.starts_with("HTTP/1.1 200 "));
    // The youngest of each were not in anybody's way.
    let mut youngest = silent.pop().unwrap();
    within(youngest.write_all(b"Host: joker\r\n\r\n")).await.unwrap();
    let mut answer = String::new();
    within(youngest.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn a_request_for_another_host_is_misdirected() {
    let web = Web::new(web::Limits::default());
    let asked = async |target: &str, host: &str| {
        let mut stream = web.connect().await;
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        within(stream.write_all(request.as_bytes())).await.unwrap();
        let mut answer = String::new();
        within(stream.read_to_string(&mut answer)).await.unwrap();
        answer
    };
    let address = web.address.to_string();
    for page in ["/", "/status", "/metrics", "/healthz"] {
        for host in [address.as_str(), "joker", "localhost:9101"] {
            let answer = asked(page, host).await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{host}: {answer}");
        }
        let absolute = format!("http://attacker.example{page}");
        for (target, host) in [(page, "attacker.example"), (&absolute, "joker")] {
            let answer = asked(target, host).await;
            assert!(answer.starts_with("HTTP/1.1 421 "), "{host}: {answer}");
            assert!(answer.contains("[metrics]") && !answer.contains("1a2b3c4"), "{answer}");
        }
    }
}

#[tokio::test]
async fn a_busy_port_is_tried_again() {
    let address = free_address();
    let busy = TcpListener::bind(address).await.unwrap();
    let listen_again = Duration::from_millis(20);
    let web = Web::on(address, web::Limits { listen_again, ..web::Limits::default() });
    // It has met the busy port once this is answered by somebody else.
    let (accepted, _) = within(async { tokio::join!(busy.accept(), web.connect()) }).await;
    drop((accepted, busy));
    within(async {
        loop {
            let Ok(mut stream) = TcpStream::connect(address).await else {
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            };
            let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: joker\r\n\r\n").await;
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer).await;
            if answer.starts_with("HTTP/1.1 200 ") {
                return;
            }
        }
    })
    .await;
}

/// A D-Bus client that is not ours.
async fn speak(socket: &Path) -> zbus::Connection {
    let stream = UnixStream::connect(socket).await.unwrap().into_std().unwrap();
    within(zbus::connection::Builder::unix_stream(stream).p2p().build()).await.unwrap()
}
