//! Work beside the loop: each piece has a deadline, at which it is cut off, and a message
//! for the status while it fails.
//!
//! The loop waits for the event that a piece of work ends with, and does not
//! begin another like it before. So that event comes whatever happens: the work
//! ends, fails, panics, or is cut off. What is to be done then is decided by
//! whoever takes the event in; here it is only said.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::Event;
use crate::clock;
use crate::core::types::Wall;

/// A kind of work. Kinds that wait for others have deadlines of their own inside: these
/// here are what is left should one of them not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Work {
    /// Asking a remote, and fetching what is new there.
    Poll,
    /// Looking up how commits are related.
    Compare,
    /// Keeping systems from the garbage collector.
    Roots,
    /// Whether a system may be activated.
    Preflight,
    /// Whether a remote answers.
    Look,
    /// A round of health checks.
    Checks,
    /// Noting which units have failed although the system is good.
    Units,
    /// Asking logind which sessions and inhibitors stand against a reboot.
    AgainstReboot,
    /// Rebooting this host through logind.
    Reboot,
    /// Telling the boot loader not to boot a system once.
    Disarm,
    /// Having systemd start a job.
    Start,
    /// Having systemd stop a job.
    Stop,
}

impl Work {
    /// Returns the deadline, which is longer than anything in the work may take.
    fn limit(self) -> Duration {
        let seconds = match self {
            // A fetch may take an hour.
            Self::Poll => 3600 + 30 * 60,
            Self::Compare => 90,
            // A store that is being collected answers late, and for each root.
            Self::Roots => 10 * 60,
            Self::Preflight => 60,
            Self::Look | Self::Checks | Self::Units | Self::AgainstReboot => 60,
            // The host has two minutes to go down.
            Self::Reboot => 3 * 60,
            Self::Disarm => 90,
            Self::Start | Self::Stop => 2 * 60,
        };
        Duration::from_secs(seconds)
    }

    /// Returns the name of the work, and how its failure is handled, both for the status.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Poll => ("asking a remote", "it is asked again"),
            Self::Compare => ("looking into the clone", "it is fetched anew"),
            Self::Roots => ("keeping systems from the garbage collector", "it is tried again"),
            Self::Preflight => {
                ("looking at a system before its activation", "its switch will say what is wrong")
            }
            Self::Look => ("looking for a remote", "it is tried again"),
            Self::Checks => ("checking the system's health", "it is checked again"),
            Self::Units => ("noting which units have failed", "it is tried at the next verdict"),
            Self::AgainstReboot => {
                ("asking logind who is against a reboot", "it is asked again; no reboot until then")
            }
            Self::Reboot => ("rebooting", "it is tried again"),
            Self::Disarm => (
                "telling the boot loader not to boot a system once",
                "that boot will be recognised",
            ),
            Self::Start => ("having systemd start a job", "it is started again"),
            Self::Stop => ("having systemd stop a job", "it is signalled"),
        }
    }

    /// Returns the pause before a failure is reported, so that it is not tried again at once.
    fn pause(self) -> Duration {
        match self {
            Self::Roots => Duration::from_secs(10),
            Self::Poll
            | Self::Compare
            | Self::Preflight
            | Self::Look
            | Self::Checks
            | Self::Units
            | Self::AgainstReboot
            | Self::Reboot
            | Self::Disarm
            | Self::Start
            | Self::Stop => Duration::ZERO,
        }
    }
}

/// Record of work that failed the last time.
struct TaskFailure {
    since: Wall,
    cause: String,
}

/// Runs work beside the loop, and knows which kinds do not work.
#[derive(Clone)]
pub(super) struct Beside {
    events: mpsc::UnboundedSender<Event>,
    troubles: Arc<Mutex<BTreeMap<Work, TaskFailure>>>,
}

impl Beside {
    pub(super) fn new(events: mpsc::UnboundedSender<Event>) -> Self {
        Self { events, troubles: Arc::default() }
    }

    /// Sends the event of work that was begun in another way and has ended.
    pub(super) fn tell(&self, event: Event) {
        let _ = self.events.send(event);
    }

    /// Runs work. Its result, if only that it was cut off, becomes an event.
    pub(super) fn run<T: Send + 'static>(
        &self,
        work: Work,
        doing: impl Future<Output = Result<T, String>> + Send + 'static,
        event: impl FnOnce(Result<T, String>) -> Event + Send + 'static,
    ) {
        self.run_within(work, patience(work.limit()), doing, event);
    }

    fn run_within<T: Send + 'static>(
        &self,
        work: Work,
        limit: Duration,
        doing: impl Future<Output = Result<T, String>> + Send + 'static,
        event: impl FnOnce(Result<T, String>) -> Event + Send + 'static,
    ) {
        let beside = self.clone();
        tokio::spawn(async move {
            let mut task = tokio::spawn(doing);
            let ended = match timeout(limit, &mut task).await {
                Ok(Ok(ended)) => ended,
                Ok(Err(_)) => Err("it broke off: a mistake in this program".into()),
                Err(_) => {
                    task.abort();
                    Err(format!("cut off after {} s", limit.as_secs_f32()))
                }
            };
            beside.note(work, ended.as_ref().err());
            if ended.is_err() {
                sleep(work.pause()).await;
            }
            beside.tell(event(ended));
        });
    }

    /// Returns the kinds of work that fail now, in words.
    pub(super) fn notes(&self) -> Vec<String> {
        let troubles = self.troubles();
        let said = troubles.iter().map(|(work, TaskFailure { since, cause })| {
            let (what, then) = work.words();
            format!("{what} does not work since {since}: {cause}; {then}")
        });
        said.collect()
    }

    fn note(&self, work: Work, error: Option<&String>) {
        let mut troubles = self.troubles();
        let Some(cause) = error else {
            if troubles.remove(&work).is_some() {
                tracing::info!("{} works again", work.words().0);
            }
            return;
        };
        let (what, then) = work.words();
        tracing::warn!(error = cause, "{what} did not work; {then}");
        let trouble = troubles
            .entry(work)
            .or_insert_with(|| TaskFailure { since: clock::now().wall, cause: String::new() });
        trouble.cause.clone_from(cause);
    }

    fn troubles(&self) -> MutexGuard<'_, BTreeMap<Work, TaskFailure>> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the deadline to use: tests shorten it (`FORT_AGENT_PATIENCE`, in
/// milliseconds). Only in builds with debug assertions, as with `crash`.
fn patience(limit: Duration) -> Duration {
    if !cfg!(debug_assertions) {
        return limit;
    }
    let shorter = std::env::var("FORT_AGENT_PATIENCE").ok().and_then(|text| text.parse().ok());
    shorter.map_or(limit, |millis| limit.min(Duration::from_millis(millis)))
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::dbus::{self, Takes};

    const LONG: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(50);

    fn block<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
    }

    /// Runs work that has little time, and returns what the event was made of, and what
    /// is noted then.
    fn ends<T: Send + 'static>(
        beside: &Beside,
        happened: &mut mpsc::UnboundedReceiver<Event>,
        work: Work,
        doing: impl Future<Output = Result<T, String>> + Send + 'static,
    ) -> (Option<String>, Vec<String>) {
        let (error, told) = std::sync::mpsc::channel();
        block(async {
            beside.run_within(work, SHORT, doing, move |ended| {
                error.send(ended.err()).unwrap();
                Event::Noted
            });
            let event = timeout(LONG, happened.recv()).await;
            assert!(matches!(event, Ok(Some(Event::Noted))));
        });
        (told.recv().unwrap(), beside.notes())
    }

    #[test]
    fn work_that_hangs_is_cut_off_and_named_until_it_works() {
        let (events, mut happened) = mpsc::unbounded_channel();
        let beside = Beside::new(events);
        let hangs = pending::<Result<(), String>>();
        let (error, notes) = ends(&beside, &mut happened, Work::Disarm, hangs);
        assert_eq!(error.as_deref(), Some("cut off after 0.05 s"));
        assert_eq!(notes.len(), 1);
        let named = "telling the boot loader not to boot a system once does not work since 20";
        assert!(notes[0].starts_with(named), "{notes:?}");
        assert!(notes[0].ends_with("cut off after 0.05 s; that boot will be recognised"));

        // It is dated by the first time.
        let fails = std::future::ready(Err::<(), _>("no bootctl".to_owned()));
        let (_, later) = ends(&beside, &mut happened, Work::Disarm, fails);
        let since = |note: &str| note[named.len()..named.len() + 17].to_owned();
        assert_eq!(since(&later[0]), since(&notes[0]));
        assert!(later[0].contains("no bootctl"));

        let works = std::future::ready(Ok(()));
        assert_eq!(ends(&beside, &mut happened, Work::Disarm, works), (None, vec![]));
    }

    #[test]
    fn work_that_panics_ends_all_the_same() {
        let (events, mut happened) = mpsc::unbounded_channel();
        let beside = Beside::new(events);
        let panics = async { panic!("on purpose") };
        let panics: std::pin::Pin<Box<dyn Future<Output = Result<(), String>> + Send>> =
            Box::pin(panics);
        let (error, notes) = ends(&beside, &mut happened, Work::Look, panics);
        assert!(error.unwrap().contains("mistake"));
        assert!(notes[0].contains("looking for a remote"), "{notes:?}");
    }

    #[test]
    fn a_bus_that_accepts_and_never_answers_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("bus");
        let _listens = UnixListener::bind(&socket).unwrap();
        let address = format!("unix:path={}", socket.display());
        let (events, mut happened) = mpsc::unbounded_channel();
        let beside = Beside::new(events);
        let doing = async move {
            let address =
                address.as_str().try_into().map_err(|error: zbus::Error| error.to_string())?;
            let bus = dbus::bus(address, Takes::ASKING).await.map_err(|error| error.to_string())?;
            let bus = bus.build().await.map_err(|error| error.to_string())?;
            let logind = crate::systemd::logind::Logind::on(&bus).await;
            logind
                .map_err(|error| error.to_string())?
                .against_reboot()
                .await
                .map_err(|e| e.to_string())
        };
        let (error, notes) = ends(&beside, &mut happened, Work::AgainstReboot, doing);
        assert_eq!(error.as_deref(), Some("cut off after 0.05 s"));
        assert!(notes[0].contains("logind"), "{notes:?}");
    }
}
