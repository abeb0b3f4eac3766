//! `status --watch`: goes on showing how things stand, as the agent says that
//! they changed. Nothing is polled but for an agent that does not answer.
//!
//! A terminal gets its alternate screen, drawn anew with each change and each
//! second, so that distances in time stay true; what was shown last is left on
//! the normal one. Anything else gets a line per change; with `--json` that
//! line is the status.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;

use crate::bus::{Client, ClientError};
use crate::config::Places;
use crate::core::status::Status;

use super::{Said, client, status};
use crate::wording::text::{Clock, Look, Tone, clean, wrap};

/// Pause between two looks for an agent that does not answer.
const AGAIN: Duration = Duration::from_millis(500);
/// Pause after which distances in time are drawn anew.
const TICK: Duration = Duration::from_secs(1);

const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// Rows of a terminal that does not say how many it has.
const ROWS: u16 = 24;

pub(super) fn watch(places: &Places, json: bool) -> Said {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    let screen = match (json, io::stdout().is_terminal() && !dumb) {
        (true, _) => Screen::Json,
        (false, true) => Screen::Terminal,
        (false, false) => Screen::Lines,
    };
    let mut watcher = Watcher { screen, heard: Heard::Nothing, printed: String::new() };
    match client::block_on(watcher.watch(places)) {
        Ok(()) => Said::done(String::new()),
        Err(trouble) => client::failed(&trouble),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Screen {
    Terminal,
    Lines,
    Json,
}

/// Last news of the agent.
enum Heard {
    Nothing,
    Status(Box<Status>),
    /// Readable part of the status of another version.
    Gist(String),
    /// Why the agent is silent, and its last status before that.
    Silence(String, Option<Box<Status>>),
}

struct Watcher {
    screen: Screen,
    heard: Heard,
    /// Line that was printed last.
    printed: String,
}

/// Reason why watching ends.
enum End {
    /// Somebody ended it, or nobody reads on.
    Left,
    Failed(ClientError),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::Left;
        }
        Self::Failed(ClientError::Failed(format!("cannot write: {error}")))
    }
}

impl Watcher {
    async fn watch(&mut self, places: &Places) -> Result<(), ClientError> {
        let signals = Signals::new();
        let mut signals = signals.map_err(|error| ClientError::Failed(error.to_string()))?;
        // Whoever may not look is told so, on a screen that stays.
        let first = client::connect(places).await;
        if let Err(refused @ (ClientError::Refused(_) | ClientError::Invalid(_))) = first {
            return Err(refused);
        }
        if self.screen == Screen::Terminal {
            let _ = write(ENTER);
        }
        let end = self.go_on(places, first, &mut signals).await;
        if self.screen == Screen::Terminal {
            let _ = write(&format!("{LEAVE}{}", self.frame(usize::MAX)));
        }
        match end {
            End::Left => Ok(()),
            End::Failed(trouble) => Err(trouble),
        }
    }

    async fn go_on(
        &mut self,
        places: &Places,
        first: Result<Client, ClientError>,
        signals: &mut Signals,
    ) -> End {
        let mut client = first;
        loop {
            let lost = match client {
                Ok(client) => match self.follow(&client, signals).await {
                    Ok(why) => why,
                    Err(end) => return end,
                },
                Err(trouble) => trouble.to_string(),
            };
            if let Err(end) = self.learn_silence(lost) {
                return end;
            }
            let again = async {
                sleep(AGAIN).await;
                client::connect(places).await
            };
            tokio::pin!(again);
            client = loop {
                tokio::select! {
                    client = &mut again => break client,
                    event = signals.next() => match event {
                        Event::End => return End::Left,
                        Event::Resized => if let Err(end) = self.show() { return end; },
                    },
                }
            };
        }
    }

    /// Follows the agent until it is heard no more, and returns why.
    async fn follow(&mut self, client: &Client, signals: &mut Signals) -> Result<String, End> {
        let opened = async {
            let changes = client.changes().await?;
            Ok::<_, ClientError>((changes, client.status().await?))
        };
        let opened = tokio::select! {
            opened = opened => opened,
            () = signals.end() => return Err(End::Left),
        };
        let (mut changes, status) = match opened {
            Ok(opened) => opened,
            Err(trouble) => return Ok(trouble.to_string()),
        };
        self.learn(&status)?;
        loop {
            tokio::select! {
                change = changes.next() => match change {
                    Some(status) => self.learn(&status)?,
                    None => return Ok("the agent does not answer any more".into()),
                },
                () = sleep(TICK), if self.screen == Screen::Terminal => self.show()?,
                event = signals.next() => match event {
                    Event::End => return Err(End::Left),
                    Event::Resized => self.show()?,
                },
            }
        }
    }

    fn learn(&mut self, text: &str) -> Result<(), End> {
        if self.screen == Screen::Json {
            return self.print(text.to_owned());
        }
        self.heard = match serde_json::from_str::<Status>(text) {
            Ok(status) => Heard::Status(Box::new(status)),
            Err(error) => Heard::Gist(
                client::gist(text).map_or_else(|| client::unreadable(&error), |said| said.out),
            ),
        };
        self.show()
    }

    fn learn_silence(&mut self, why: String) -> Result<(), End> {
        let last = match std::mem::replace(&mut self.heard, Heard::Nothing) {
            Heard::Status(last) => Some(last),
            Heard::Silence(_, last) => last,
            Heard::Nothing | Heard::Gist(_) => None,
        };
        self.heard = Heard::Silence(why, last);
        self.show()
    }

    fn show(&mut self) -> Result<(), End> {
        let clock = Clock::here();
        match (self.screen, &self.heard) {
            (Screen::Terminal, _) => {
                let frame = self.frame(rows());
                // The last line without its end: the screen never scrolls.
                let drawn = frame.trim_end_matches('\n').replace('\n', "\x1b[K\r\n");
                Ok(write(&format!("\x1b[H{drawn}\x1b[K\x1b[J"))?)
            }
            (Screen::Json, Heard::Silence(why, _)) => {
                let line = json!({ "error": clean(why) }).to_string();
                self.print(line)
            }
            (Screen::Lines, Heard::Status(status)) => {
                let line = status::line(status, &clock);
                self.print(line)
            }
            (Screen::Lines, Heard::Gist(said)) => {
                let line = clean(said);
                self.print(line)
            }
            (Screen::Lines, Heard::Silence(why, _)) => {
                let line = clean(why);
                self.print(line)
            }
            (Screen::Lines, Heard::Nothing)
            | (Screen::Json, Heard::Nothing | Heard::Status(_) | Heard::Gist(_)) => Ok(()),
        }
    }

    /// Prints a line, unless it is the same as the last one.
    fn print(&mut self, line: String) -> Result<(), End> {
        if line == self.printed {
            return Ok(());
        }
        match self.screen {
            Screen::Json => write(&format!("{line}\n"))?,
            Screen::Lines | Screen::Terminal => {
                write(&format!("{} {line}\n", Clock::here().second()))?;
            }
        }
        self.printed = line;
        Ok(())
    }

    /// Renders at most `rows` lines: what comes first matters most.
    fn frame(&self, rows: usize) -> String {
        let (clock, look) = (Clock::here(), Look::of_stdout());
        let frame = match &self.heard {
            Heard::Nothing => String::new(),
            Heard::Status(status) => status::render(status, &clock, look),
            Heard::Gist(said) => said.clone(),
            Heard::Silence(why, last) => {
                let why = wrap(&clean(why), look.width, 3);
                let why = why.iter().map(|line| look.paint(Tone::Bad, line) + "\n");
                let last = last.iter().map(|last| {
                    let head = look.paint(Tone::Faint, "it said last:");
                    format!("{head}\n{}", status::render(last, &clock, look))
                });
                why.chain(last).collect()
            }
        };
        frame.lines().take(rows).map(|line| format!("{line}\n")).collect()
    }
}

fn rows() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
    usize::from(size.map(|size| size.ws_row).filter(|rows| *rows > 0).unwrap_or(ROWS))
}

fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Signal that the watcher reacts to.
enum Event {
    End,
    Resized,
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    resized: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            resized: signal(SignalKind::window_change())?,
        })
    }

    async fn next(&mut self) -> Event {
        tokio::select! {
            _ = self.interrupt.recv() => Event::End,
            _ = self.terminate.recv() => Event::End,
            _ = self.hangup.recv() => Event::End,
            _ = self.resized.recv() => Event::Resized,
        }
    }

    async fn end(&mut self) {
        while let Event::Resized = self.next().await {}
    }
}
