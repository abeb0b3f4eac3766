//! Log of the program: to the journal with fields when under systemd, else
//! line by line on stderr.
//!
//! `FORT_AGENT_LOG` sets the level, in tracing's words (`debug`, `info,zbus=warn`); the
//! default is `info`.
//!
//! A surprise: one event is one line, whatever is in it. What a remote or a
//! build prints ends up in events, and must not be able to forge a line of ours
//! or to speak to a terminal.

use std::io::{self, IsTerminal as _, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::core::plain::is_obeyed;

/// Environment variable that sets the log level, as a filter of tracing.
pub const VARIABLE: &str = "FORT_AGENT_LOG";

/// Starts logging. Of several calls only the first has an effect.
pub fn init() {
    let wanted = std::env::var(VARIABLE).unwrap_or_default();
    let (filter, problem) = filter(&wanted);
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt::layer()
        .compact()
        .with_ansi(colour)
        .with_target(false)
        // It would print that printing failed, and panic when that fails too.
        .log_internal_errors(false)
        .with_writer(OneLine { colour });
    let registry = tracing_subscriber::registry().with(filter);
    // systemd says by this variable that stderr is the journal's: then the
    // journal gets fields (FORT_COMMIT, FORT_DEPLOYMENT, ...) instead of text.
    let journal = std::env::var_os("JOURNAL_STREAM").and_then(|_| journal().ok());
    let begun = match journal {
        Some(journal) => registry.with(journal).try_init(),
        None => registry.with(lines).try_init(),
    };
    if let (Ok(()), Some(problem)) = (begun, problem) {
        tracing::warn!("{VARIABLE}: {problem}; it is taken as \"info\"");
    }
}

fn journal() -> io::Result<tracing_journald::Layer> {
    let layer = tracing_journald::layer()?;
    Ok(layer.with_field_prefix(Some("FORT".into())).with_syslog_identifier("fort-agent".into()))
}

fn filter(wanted: &str) -> (EnvFilter, Option<String>) {
    let default = || EnvFilter::new("info");
    if wanted.trim().is_empty() {
        return (default(), None);
    }
    match EnvFilter::try_new(wanted) {
        Ok(filter) => (filter, None),
        Err(problem) => (default(), Some(problem.to_string())),
    }
}

/// Makes writers that keep an event on one line.
struct OneLine {
    colour: bool,
}

impl<'a> MakeWriter<'a> for OneLine {
    type Writer = LineWriter<io::Stderr>;

    fn make_writer(&'a self) -> Self::Writer {
        LineWriter { inner: io::stderr(), colour: self.colour }
    }
}

/// Writer that takes one whole event per write, which is how `tracing_subscriber::fmt` writes.
struct LineWriter<W> {
    inner: W,
    colour: bool,
}

impl<W: Write> Write for LineWriter<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let body = text.strip_suffix('\n').unwrap_or(&text);
        let mut line: String = body
            .chars()
            .map(|c| if is_obeyed(c) && !(self.colour && c == '\x1b') { ' ' } else { c })
            .collect();
        line.push('\n');
        self.inner.write_all(line.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_whatever_is_in_it() {
        let mut writer = LineWriter { inner: Vec::new(), colour: false };
        writer
            .write_all("INFO build failed: a\nINFO all is \u{202e}well\r\x1b[2J\n".as_bytes())
            .unwrap();
        assert_eq!(writer.inner, b"INFO build failed: a INFO all is  well  [2J\n");
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_said_and_taken_as_info() {
        let (taken, problem) = filter("fort_agent=shouting");
        assert_eq!(taken.to_string(), "info");
        assert!(problem.is_some());
        assert!(filter("").1.is_none());
        assert_eq!(filter("warn").0.to_string(), "warn");
    }
}
