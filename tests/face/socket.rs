//! The agent over its own socket.

use super::*;

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
    played.serve(bus::BusLimits::default());
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
    let played = Played::with(bus::BusLimits { connections: 3, ..bus::BusLimits::default() });
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
    let limits = bus::BusLimits {
        connections: 2,
        handshake: Duration::from_millis(300),
        idle: Duration::from_millis(300),
        ..bus::BusLimits::default()
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
    assert!(began.elapsed() < bus::BusLimits::default().handshake, "{:?}", began.elapsed());
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
