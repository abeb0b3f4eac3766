//! `status --watch`: on a terminal, in a pipe, and across a restart.

use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

use super::*;

struct Watching {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watching {
    fn start(played: &Played, arguments: &[&str]) -> Self {
        let mut command = program(Path::new(env!("CARGO_BIN_EXE_fort-agent")));
        command.arg("--config").arg(played.config()).args(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    async fn line(&mut self) -> String {
        within(self.lines.next_line()).await.unwrap().expect("it has ended")
    }

    /// Without the time of day before it.
    async fn said(&mut self) -> String {
        let line = self.line().await;
        let (time, said) = line.split_once(' ').unwrap();
        assert_eq!((time.len(), time.matches(':').count()), (8, 2), "{line}");
        said.to_owned()
    }

    async fn interrupt(self) {
        let pid = self.child.id().unwrap().to_string();
        let kill = tokio::process::Command::new("kill").args(["-INT", &pid]).status();
        assert!(within(kill).await.unwrap().success());
        let ended = within(self.child.wait_with_output()).await.unwrap();
        assert_eq!((ended.status.code(), ended.stderr.as_slice()), (Some(0), &b""[..]));
    }
}

fn realising(built: u64) -> Status {
    let mut status = serde_json::to_value(well()).unwrap();
    status["state"] = json!("realising");
    status["reason"] = json!("building 1a2b3c4");
    status["deployment"] = json!({"id": "20260101T000001Z-1a2b3c4d-1", "commit": COMMIT,
        "stage": "realise", "started": "2026-01-01T00:00:01Z", "attempt": 1,
        "progress": {"phase": "building", "built": built, "to_build": 12, "current": "linux-6.12.5"}});
    serde_json::from_value(status).unwrap()
}

fn shows(played: &Played, status: Status) {
    played.shows.send_replace(shown(status));
}

#[tokio::test]
async fn in_a_pipe_each_change_is_a_line_and_an_agent_may_come_and_go() {
    let mut played = Played::new();
    let mut watching = Watching::start(&played, &["status", "--watch"]);
    assert_eq!(watching.said().await, "in sync with 1a2b3c4 since 2026-01-01 00:00");
    // A poll changes nothing that is said.
    let mut polled = well();
    polled.remotes[0].last_success = Some("2026-01-01T00:00:59Z".parse().unwrap());
    shows(&played, polled);
    shows(&played, realising(3));
    assert_eq!(watching.said().await, "building 1a2b3c4; 3 of 12 built, linux-6.12.5");
    played.stop().await;
    let gone = watching.said().await;
    assert!(gone.contains("the agent does not answer"), "{gone}");
    shows(&played, realising(7));
    played.serve(bus::BusLimits::default());
    loop {
        // Until it is there it may be silent in more than one way.
        let said = watching.said().await;
        if !said.contains("does not answer") {
            assert_eq!(said, "building 1a2b3c4; 7 of 12 built, linux-6.12.5");
            break;
        }
    }
    watching.interrupt().await;
}

#[tokio::test]
async fn for_programs_each_change_is_the_status() {
    let played = Played::new();
    let mut watching = Watching::start(&played, &["status", "--watch", "--json"]);
    let status = |line: String| serde_json::from_str::<Status>(&line).unwrap();
    assert_eq!(status(watching.line().await), well());
    shows(&played, realising(3));
    assert_eq!(status(watching.line().await), realising(3));
    watching.interrupt().await;
}

#[tokio::test]
async fn whoever_reads_no_more_ends_it() {
    let played = Played::new();
    let mut watching = Watching::start(&played, &["status", "--watch"]);
    watching.said().await;
    drop(watching.lines);
    shows(&played, realising(3));
    let ended = within(watching.child.wait_with_output()).await.unwrap();
    assert_eq!((ended.status.code(), ended.stderr.as_slice()), (Some(0), &b""[..]));
}

/// Reads on until this was drawn.
fn until(screen: &mut std::process::ChildStdout, seen: &mut String, wanted: &str) {
    use std::io::Read as _;
    let mut bytes = [0; 4096];
    let began = std::time::Instant::now();
    // It is drawn anew each second: reading never takes longer.
    while !seen.contains(wanted) {
        assert!(began.elapsed() < DEADLINE, "never came: {wanted:?} in {seen:?}");
        let read = screen.read(&mut bytes).unwrap();
        assert!(read > 0, "never came: {wanted:?} in {seen:?}");
        seen.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
}

#[tokio::test]
async fn on_a_terminal_it_is_drawn_in_colour_and_ctrl_c_gives_the_terminal_back() {
    let played = Played::new();
    let config = played.config().display().to_string();
    let arguments = ["--config", &config, "status", "--watch"];
    let shows = played.shows.clone();
    let watched = tokio::task::spawn_blocking({
        let arguments = arguments.map(str::to_owned);
        move || {
            let arguments = arguments.each_ref().map(String::as_str);
            let mut terminal = crate::terminal::Terminal::run(&arguments, &[]);
            let mut screen = terminal.screen();
            let mut seen = String::new();
            until(&mut screen, &mut seen, "in sync with 1a2b3c4");
            shows.send_replace(shown(realising(3)));
            until(&mut screen, &mut seen, "linux-6.12.5");
            terminal.press("\x03");
            until(&mut screen, &mut seen, "\x1b[?1049l");
            // What is left on the screen that stays.
            let left = seen.len();
            let mut rest = seen.split_off(left);
            std::io::Read::read_to_string(&mut screen, &mut rest).unwrap();
            (seen + &rest, terminal.end())
        }
    });
    let (seen, ended) = within(watched).await.unwrap();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert!(seen.starts_with("\x1b[?1049h\x1b[?25l"), "{seen:?}");
    assert!(seen.contains("\x1b[32min sync with 1a2b3c4"), "{seen:?}");
    let (drawn, left) = seen.split_once("\x1b[?25h\x1b[?1049l").unwrap();
    assert!(!drawn.contains('\n') || drawn.contains("\r\n"), "{drawn:?}");
    assert!(left.contains("building 1a2b3c4") && !left.contains("\x1b[?"), "{left:?}");
    for line in drawn.split("\r\n").chain(left.lines()) {
        let line = bare(line);
        assert!(line.chars().count() <= 60, "{line:?}");
    }
}

/// Without what steers the terminal.
fn bare(line: &str) -> String {
    let mut bare = String::new();
    // A frame begins at the top.
    let line = line.rsplit("\x1b[H").next().unwrap();
    let mut rest = line.trim_end_matches('\r');
    while let Some((before, after)) = rest.split_once("\x1b[") {
        bare.push_str(before);
        let end = after.find(|c: char| c.is_ascii_alphabetic()).unwrap();
        rest = &after[end + 1..];
    }
    bare + rest
}

#[tokio::test]
async fn a_status_on_a_terminal_fits_it_and_respects_no_color() {
    let played = Played::new();
    let mut held = well();
    held.state = State::Held;
    held.reason = "release was force-pushed: 9f8e7d6 does not descend from 1a2b3c4".into();
    let cause = json!({"cause": "force-push", "evidence": {}, "lift": "fort-agent accept 9f8e7d6"});
    held.held = Some(serde_json::from_value(cause).unwrap());
    shows(&played, held);
    let config = played.config().display().to_string();
    for (environment, coloured) in [(vec![], true), (vec![("NO_COLOR", "1")], false)] {
        let config = config.clone();
        let shown = tokio::task::spawn_blocking(move || {
            let arguments = ["--config", config.as_str(), "status"];
            crate::terminal::Terminal::run(&arguments, &environment).end()
        });
        let shown = within(shown).await.unwrap();
        let text = String::from_utf8(shown.stdout).unwrap();
        assert_eq!((shown.status.code(), text.contains('\x1b')), (Some(0), coloured), "{text:?}");
        assert!(text.lines().all(|line| bare(line).chars().count() <= 60), "{text}");
        let first = bare(text.lines().next().unwrap());
        assert_eq!(first, "HELD: release was force-pushed: 9f8e7d6 does not descend");
    }
}
