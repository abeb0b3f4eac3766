//! Looks at parts of the host, and keeps which of them failed: an error of the
//! system's is never taken for an answer.

use std::io;
use std::path::PathBuf;

use fort_core::unseen::{Part, Unseen};

/// A file, link or directory that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot look at {}", path.display())]
pub struct Unreadable {
    /// Path of the file, link or directory.
    pub path: PathBuf,
    /// Error of the system.
    pub source: io::Error,
}

impl Unreadable {
    /// Returns the part of the host that cannot be seen for this error.
    pub fn unseen(&self, part: Part) -> Unseen {
        let errno = self.source.raw_os_error();
        let error = match errno.map(rustix::io::Errno::from_raw_os_error) {
            // What readlink(2) says of anything else.
            Some(rustix::io::Errno::INVAL) => "is no link".into(),
            Some(_) | None => self.source.to_string(),
        };
        Unseen { part, path: self.path.display().to_string(), errno, error }
    }
}

/// Names the path that an error is of.
pub fn at(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Unreadable {
    move |source| Unreadable { path: path.into(), source }
}

/// Collection of what a look could not see.
#[derive(Debug, Default)]
pub struct Gaps(Vec<Unseen>);

impl Gaps {
    /// Returns what was seen; `None` where it could not be, which is kept.
    pub fn see<T>(&mut self, part: Part, looked: Result<T, Unreadable>) -> Option<T> {
        looked.map_err(|unreadable| self.0.push(unreadable.unseen(part))).ok()
    }

    /// Takes in what is known to be unseen.
    pub fn add(&mut self, unseen: Unseen) {
        self.0.push(unseen);
    }

    /// Returns all gaps, in the order in which they were met.
    pub fn into_unseen(self) -> Vec<Unseen> {
        self.0
    }

    /// Returns the first gap.
    pub fn first(self) -> Option<Unseen> {
        self.0.into_iter().next()
    }
}

/// Number of descriptors that have to be free for a look to mean anything: for files that
/// are read and written, and for whoever asks what is wrong.
const DESCRIPTORS: usize = 16;

/// Looks whether this process can still open files, and returns why not. Where their
/// number leaves room for doubt, or is not told, by opening some: that says more than
/// counting.
pub fn descriptors() -> Option<Unseen> {
    if has_many_left() {
        return None;
    }
    let stderr = io::stderr();
    let mut taken = Vec::with_capacity(DESCRIPTORS);
    for _ in 0..DESCRIPTORS {
        match rustix::io::fcntl_dupfd_cloexec(&stderr, 0) {
            Ok(descriptor) => taken.push(descriptor),
            Err(error @ rustix::io::Errno::MFILE) => {
                let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
                let limit = limit.map_or_else(|| "no".into(), |limit| limit.to_string());
                return Some(Unseen {
                    part: Part::Descriptors,
                    path: format!("/proc/{}/fd", std::process::id()),
                    errno: Some(error.raw_os_error()),
                    error: format!(
                        "too many open files: fewer than {DESCRIPTORS} of {limit} descriptors \
                         are free"
                    ),
                });
            }
            // Closed, or not to be had twice: says nothing of the room.
            Err(_) => return None,
        }
    }
    None
}

/// Whether far fewer files are open than may be, by what Linux 6.2 and later tell of a
/// process: proc_pid_fd(5), the size of the directory.
fn has_many_left() -> bool {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let open = std::fs::metadata("/proc/self/fd").map_or(0, |directory| directory.len());
    open > 0 && limit.is_none_or(|limit| open.saturating_add(2 * DESCRIPTORS as u64) <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_keeps_its_path_and_number() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let below = file.join("below");
        let looked = std::fs::read(&below).map_err(at(&below));
        let mut gaps = Gaps::default();
        assert_eq!(gaps.see(Part::Jobs, looked), None);
        let linked = std::fs::read_link(&file).map_err(at(&file));
        assert_eq!(gaps.see(Part::Running, linked), None);
        assert_eq!(gaps.see(Part::Booted, Ok(1)), Some(1));
        let unseen = gaps.into_unseen();
        let path = |path: &std::path::Path| path.display().to_string();
        assert_eq!(unseen.len(), 2);
        assert_eq!((unseen[0].part, unseen[0].errno), (Part::Jobs, Some(20)));
        assert_eq!(
            unseen[0].to_string(),
            format!("{}: Not a directory (os error 20)", path(&below))
        );
        assert_eq!(unseen[1].to_string(), format!("{}: is no link", path(&file)));
    }
}
