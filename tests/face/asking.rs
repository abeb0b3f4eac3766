//! Questions and orders to the agent's loop, by their names on the bus.

use std::sync::Mutex;

use tokio::net::UnixListener;

use super::*;

#[tokio::test]
async fn an_explanation_comes_from_the_loop() {
    let mut played = Played::new();
    let heard = played.obey();
    let told = played.run(&["explain", "7777777"]).await;
    assert_eq!((told.code, told.err.as_str()), (Some(0), ""));
    assert!(told.out.starts_with("no remote has named 7777777\n"), "{}", told.out);
    assert!(told.out.contains("yes  remote        origin has 1a2b3c4"), "{}", told.out);
    let told = played.run(&["explain", "--json"]).await;
    assert_eq!((told.code, told.out.trim_end()), (Some(0), EXPLAINED));
    let told = played.run(&["explain", "main"]).await;
    assert_eq!((told.code, told.out.as_str()), (Some(2), ""));
    assert!(told.err.contains("is not a commit"), "{}", told.err);
    // What no system is known of cannot be compared.
    let told = played.run(&["diff", "7777777"]).await;
    assert_eq!((told.code, told.out.as_str()), (Some(1), ""));
    assert_eq!(told.err, "fort-agent: no remote has named 7777777\n");
    played.stop().await;
    let Played { control, shows, .. } = played;
    drop((control, shows));
    let heard = within(heard).await.unwrap();
    let asked: Vec<_> = heard
        .iter()
        .map(|command| match command {
            Command::Explain(commit) => commit.as_ref().map(ToString::to_string),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(asked, [Some("7777777".into()), None, Some("7777777".into())]);
}

#[tokio::test]
async fn a_stuck_loop_explains_nothing_and_says_so() {
    let played = Played::new();
    for _ in 0..4 {
        let (reply, _) = oneshot::channel();
        played.control.commands.try_send(Told { command: Command::Poll, reply }).unwrap();
    }
    let told = played.run(&["explain"]).await;
    assert_eq!(told.code, Some(1));
    assert!(told.err.contains("stuck"), "{}", told.err);
}

/// An agent that only hears what it is told of gates.
struct Gates(Arc<Mutex<Vec<String>>>);

#[zbus::interface(name = "network.gisi.fort.Agent1")]
impl Gates {
    fn confirm(&self, commit: &str) -> String {
        self.hears(format!("confirm {commit}"))
    }

    fn suspend(&self, reason: &str, seconds: u64) -> String {
        self.hears(format!("suspend {reason:?} {seconds}"))
    }

    fn resume(&self) -> String {
        self.hears("resume".into())
    }

    fn rollback(&self, reason: &str) -> String {
        self.hears(format!("rollback {reason:?}"))
    }

    fn rollback_to(&self, commit: &str, reason: &str) -> String {
        self.hears(format!("rollback to {commit} {reason:?}"))
    }
}

impl Gates {
    fn hears(&self, what: String) -> String {
        let answer = format!("{what}: done");
        self.0.lock().unwrap().push(what);
        answer
    }
}

#[tokio::test]
async fn gates_are_told_by_their_names_and_answer_in_a_sentence() {
    let mut played = Played::new();
    played.stop().await;
    let heard = Arc::new(Mutex::new(Vec::new()));
    let listener = UnixListener::bind(played.socket()).unwrap();
    let gates = heard.clone();
    tokio::spawn(async move {
        let mut connections = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            let built = zbus::connection::Builder::unix_stream(stream.into_std().unwrap())
                .server(zbus::Guid::generate())
                .p2p()
                .serve_at(bus::PATH, Gates(gates.clone()))
                .build();
            connections.push(built.await.unwrap());
        }
    });
    for (typed, wanted) in [
        (&["confirm", "1A2B3C4"][..], "confirm 1A2B3C4"),
        (&["suspend"], "suspend \"\" 0"),
        (&["suspend", "--for", "2h", "--reason", "a party"], "suspend \"a party\" 7200"),
        (&["resume"], "resume"),
        (&["rollback", "--reason", "it is slow"], "rollback \"it is slow\""),
        (&["rollback", "1a2b3c4"], "rollback to 1a2b3c4 \"\""),
    ] {
        let told = played.run(typed).await;
        assert_eq!((told.code, told.err.as_str()), (Some(0), ""), "{typed:?}");
        assert_eq!(told.out, format!("{wanted}: done\n"));
        assert_eq!(heard.lock().unwrap().pop().as_deref(), Some(wanted));
    }
    let told = played.run(&["resume", "--json"]).await;
    assert_eq!(told.out, "{\"done\":\"resume: done\"}\n");
    for typed in [
        &["confirm", "main"][..],
        &["rollback", "main"],
        &["suspend", "--for", "soon"],
        &["suspend", "--for", "0s"],
    ] {
        let told = played.run(typed).await;
        assert_eq!((told.code, told.out.as_str()), (Some(2), ""), "{typed:?}: {}", told.err);
    }
    assert_eq!(*heard.lock().unwrap(), ["resume"]);
}
