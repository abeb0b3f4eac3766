//! Wakes whoever waits for something to change in directories: a file renamed
//! into place, or one that was written and closed, such as a lock whose holder
//! died.
//!
//! The kernel grants each user so many inotify instances and watches, and other
//! programs may have used them up. Nothing here relies on being woken: whoever
//! waits looks now and then as well, and says what is lacking.

use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

/// Watches directories, as far as the kernel lets it.
#[derive(Debug, Default)]
pub struct Watch {
    /// inotify instance; `None` until it was had.
    descriptor: Option<AsyncFd<OwnedFd>>,
}

/// Resource that is lacking for directories to be watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lack {
    /// No inotify instance is left for this user.
    Instances(Limit),
    /// No inotify watch is left for this user.
    Watches(Limit),
    /// No file descriptor is left for this process.
    Descriptors,
    /// Another error, in words.
    Other(String),
}

/// Sysctl that is a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Name of the sysctl, with dots.
    pub sysctl: &'static str,
    /// Value of the limit, if it could be read.
    pub value: Option<u64>,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instances(limit) => write!(f, "no inotify instance is left: raise {limit}"),
            Self::Watches(limit) => write!(f, "no inotify watch is left: raise {limit}"),
            Self::Descriptors => f.write_str("too many open files: raise LimitNOFILE of the unit"),
            Self::Other(error) => write!(f, "inotify: {error}"),
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value {
            Some(value) => write!(f, "the sysctl {} (now {value})", self.sysctl),
            None => write!(f, "the sysctl {}", self.sysctl),
        }
    }
}

impl Watch {
    /// Gets ready to watch, if that could not be done yet. Needs a runtime with I/O.
    pub fn open(&mut self) -> Result<(), Lack> {
        if self.descriptor.is_none() {
            let descriptor = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
            let descriptor = descriptor.map_err(lack)?;
            #[expect(deprecated, reason = "sound for an OwnedFd; its successor is unsafe to call")]
            let descriptor = AsyncFd::new(descriptor);
            self.descriptor = Some(descriptor.map_err(|error| Lack::Other(error.to_string()))?);
        }
        Ok(())
    }

    /// Watches this directory as well; twice is as once. The kernel forgets one that is removed.
    pub fn add(&mut self, directory: &Path) -> Result<(), Lack> {
        self.open()?;
        let Some(descriptor) = &self.descriptor else { return Ok(()) };
        let changes = WatchFlags::MOVED_TO | WatchFlags::CLOSE_WRITE | WatchFlags::ONLYDIR;
        match inotify::add_watch(descriptor.get_ref(), directory, changes) {
            // It has just been removed.
            Ok(_) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(lack(error)),
        }
    }

    /// Waits for a change; for ever, if nothing can be watched. Several at once are one.
    pub async fn changed(&mut self) -> io::Result<()> {
        let Some(descriptor) = &mut self.descriptor else { return std::future::pending().await };
        let mut ready = descriptor.readable().await?;
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(ready.get_inner(), &mut buffer);
        loop {
            match events.next() {
                Ok(_) => {}
                Err(Errno::WOULDBLOCK) => {
                    ready.clear_ready();
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Returns what is lacking. The same number stands for two limits: which of them it is
/// shows in whether this process can still open a file.
fn lack(error: Errno) -> Lack {
    match error {
        Errno::MFILE => match rustix::io::fcntl_dupfd_cloexec(io::stderr(), 0) {
            Err(Errno::MFILE) => Lack::Descriptors,
            Ok(_) | Err(_) => Lack::Instances(lower(
                "fs.inotify.max_user_instances",
                "user.max_inotify_instances",
            )),
        },
        Errno::NOSPC => {
            Lack::Watches(lower("fs.inotify.max_user_watches", "user.max_inotify_watches"))
        }
        error => Lack::Other(io::Error::from(error).to_string()),
    }
}

/// Returns the host's limit, or that of this user namespace, whichever is lower: in a
/// container raising the other would not help.
fn lower(host: &'static str, namespace: &'static str) -> Limit {
    let value = |sysctl: &str| {
        let path = format!("/proc/sys/{}", sysctl.replace('.', "/"));
        std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok()
    };
    let (of_host, of_namespace) = (value(host), value(namespace));
    match (of_host, of_namespace) {
        (Some(of_host), Some(below)) if below < of_host => {
            Limit { sysctl: namespace, value: Some(below) }
        }
        (value, _) => Limit { sysctl: host, value },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const LONG: Duration = Duration::from_secs(10);

    #[tokio::test(flavor = "current_thread")]
    async fn a_lock_that_is_let_go_and_a_file_that_appears_are_changes() {
        let dir = tempfile::tempdir().unwrap();
        let mut watch = Watch::default();
        watch.add(dir.path()).unwrap();
        let lock = crate::files::lock(&dir.path().join("lock")).unwrap();
        drop(lock);
        tokio::time::timeout(LONG, watch.changed()).await.unwrap().unwrap();
        let file = dir.path().join("x.json");
        crate::files::write_json(&file, &1, crate::files::Durability::Passing).unwrap();
        tokio::time::timeout(LONG, watch.changed()).await.unwrap().unwrap();
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_directory_that_is_gone_is_nothing_to_watch() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Watch::default().add(&dir.path().join("gone")), Ok(()));
        let lack = Watch::default().add(Path::new("/dev/null"));
        assert!(matches!(lack, Err(Lack::Other(_))), "{lack:?}");
    }

    #[test]
    fn what_is_lacking_is_told_with_the_sysctl_that_gives_more() {
        let sysctl = "fs.inotify.max_user_instances";
        let lacking = |value| Lack::Instances(Limit { sysctl, value }).to_string();
        assert_eq!(
            lacking(Some(128)),
            "no inotify instance is left: raise the sysctl fs.inotify.max_user_instances (now 128)"
        );
        assert!(lacking(None).ends_with("raise the sysctl fs.inotify.max_user_instances"));
    }
}
