//! Wakes whoever waits for something to change in directories: a file renamed
//! into place, or one that was written and closed, such as a lock whose holder
//! died.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

/// Watches directories.
#[derive(Debug)]
pub struct Watch {
    descriptor: AsyncFd<OwnedFd>,
}

impl Watch {
    /// Watches nothing yet. Needs a runtime with I/O.
    pub fn new() -> io::Result<Self> {
        let descriptor = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        #[expect(deprecated, reason = "sound for an OwnedFd; its successor is unsafe to call")]
        let descriptor = AsyncFd::new(descriptor)?;
        Ok(Self { descriptor })
    }

    /// Watches this directory as well; twice is as once. The kernel forgets
    /// one that is removed.
    pub fn add(&self, directory: &Path) -> io::Result<()> {
        let changes = WatchFlags::MOVED_TO | WatchFlags::CLOSE_WRITE | WatchFlags::ONLYDIR;
        inotify::add_watch(self.descriptor.get_ref(), directory, changes)?;
        Ok(())
    }

    /// Waits for a change. Several at once are one.
    pub async fn changed(&mut self) -> io::Result<()> {
        let mut ready = self.descriptor.readable().await?;
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(ready.get_inner(), &mut buffer);
        loop {
            match events.next() {
                Ok(_) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    ready.clear_ready();
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
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
        let mut watch = Watch::new().unwrap();
        watch.add(dir.path()).unwrap();
        let lock = crate::files::lock(&dir.path().join("lock")).unwrap();
        drop(lock);
        tokio::time::timeout(LONG, watch.changed()).await.unwrap().unwrap();
        let file = dir.path().join("x.json");
        crate::files::write_json(&file, &1, crate::files::Durability::Passing).unwrap();
        tokio::time::timeout(LONG, watch.changed()).await.unwrap().unwrap();
    }
}
