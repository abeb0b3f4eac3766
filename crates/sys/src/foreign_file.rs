//! Reads files that belong to somebody else: tokens, keys, certificates, a netrc.
//!
//! The agent may read every file of the host. Whoever owns the directory that such a
//! file is expected in could leave a link there to a file of root's, and have the
//! agent send that to a server; or a pipe, and have it wait for ever. So each link on
//! the way is looked at, in the last place and before it: it is followed if it is
//! root's or this user's, or if it leads to a file of the owner of the link. What is
//! opened is what was looked at, whatever is put in its place meanwhile.
//!
//! A program that is told of such a file, as ssh is, opens it by itself later; for
//! that there is [`look`].

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path};

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat};

/// Largest number of links on the way to a file, as many as the kernel follows.
const MOST_LINKS: usize = 40;

/// Reason why a file is not read.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("not a regular file")]
    NotRegular,
    #[error("larger than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error(
        "it is reached by a link of user {link}, which leads to a file of user {file}: \
         only root's links are followed to files of others"
    )]
    Link { link: u32, file: u32 },
    #[error("too many links")]
    Links,
}

impl From<Refused> for io::Error {
    fn from(refused: Refused) -> Self {
        Self::other(refused)
    }
}

/// Reads a regular file's contents, at most `limit` bytes of them.
///
/// Fails with `NotFound` if there is no such file, and otherwise if it is none, is
/// larger, or is reached by a link that is not followed.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let taken = open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(taken).unwrap_or(u64::MAX) > limit {
        return Err(Refused::TooLarge { limit }.into());
    }
    Ok(bytes)
}

/// Returns the size of a regular file that [`read`] would read.
pub fn look(path: &Path) -> io::Result<u64> {
    Ok(open(path)?.metadata()?.len())
}

/// Opens the same file to read from, however large it is.
pub fn open(path: &Path) -> io::Result<File> {
    let LinkPlace { directory, name, links } = LinkPlace::of(path)?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    // A device is not even opened: that alone can do something.
    let seen = fstat(openat(&directory, &name, OFlags::PATH | OFlags::NOFOLLOW | CLOEXEC, NONE)?)?;
    must_be_regular(&seen)?;
    let file = openat(&directory, &name, flags | CLOEXEC, NONE)?;
    let found = fstat(&file)?;
    must_be_regular(&found)?;
    let own = rustix::process::geteuid().as_raw();
    match links.into_iter().find(|link| !follows(*link, found.st_uid, own)) {
        Some(link) => Err(Refused::Link { link, file: found.st_uid }.into()),
        None => Ok(file.into()),
    }
}

/// Whether a link of one user is followed to a file of another by a third.
fn follows(link: u32, file: u32, own: u32) -> bool {
    link == ROOT || link == own || link == file
}

const ROOT: u32 = 0;
const CLOEXEC: OFlags = OFlags::CLOEXEC;
const NONE: Mode = Mode::empty();

fn must_be_regular(file: &Stat) -> Result<(), Refused> {
    let regular = FileType::from_raw_mode(file.st_mode) == FileType::RegularFile;
    if regular { Ok(()) } else { Err(Refused::NotRegular) }
}

/// Place that a path leads to, with all links on the way followed.
struct LinkPlace {
    directory: OwnedFd,
    /// Name of the last component, which was no link when it was looked at.
    name: OsString,
    /// Users that own the links on the way.
    links: Vec<u32>,
}

impl LinkPlace {
    fn of(path: &Path) -> io::Result<Self> {
        let on_the_way = OFlags::PATH | OFlags::DIRECTORY | CLOEXEC;
        let mut directory = openat(CWD, ".", on_the_way, NONE)?;
        let mut links = Vec::new();
        let mut ahead: VecDeque<OsString> = steps(path).collect();
        while let Some(name) = ahead.pop_front() {
            let found = openat(&directory, &name, OFlags::PATH | OFlags::NOFOLLOW | CLOEXEC, NONE)?;
            let data = fstat(&found)?;
            if FileType::from_raw_mode(data.st_mode) == FileType::Symlink {
                links.push(data.st_uid);
                if links.len() > MOST_LINKS {
                    return Err(Refused::Links.into());
                }
                let target = readlinkat(&found, "", Vec::new())?.into_bytes();
                for step in steps(Path::new(&OsString::from_vec(target))).rev() {
                    ahead.push_front(step);
                }
            } else if ahead.is_empty() {
                return Ok(Self { directory, name, links });
            } else {
                directory = found;
            }
        }
        Err(Refused::NotRegular.into())
    }
}

/// Returns the names to go by one after the other, `/` and `..` among them.
fn steps(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    path.components().map(Component::as_os_str).map(OsStr::to_owned)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_leads_to_files_of_its_owner_only_but_for_roots_and_our_own() {
        for (link, file, own, followed) in [
            (0, 0, 0, true),
            (0, 1000, 0, true),
            (1000, 1000, 0, true),
            (1000, 0, 0, false),
            (1000, 1001, 0, false),
            (1000, 0, 1000, true),
            (0, 1001, 1000, true),
            (1001, 0, 1000, false),
        ] {
            assert_eq!(follows(link, file, own), followed, "{link} -> {file}, by {own}");
        }
    }

    #[test]
    fn links_are_followed_wherever_they_are_on_the_way() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::create_dir_all(at("real/deep")).unwrap();
        fs::write(at("real/deep/token"), "secret").unwrap();
        symlink("real/deep", at("directory")).unwrap();
        symlink("../real/./deep/token", at("real/relative")).unwrap();
        symlink(at("real/relative"), at("absolute")).unwrap();
        for path in ["real/deep/token", "directory/token", "directory/../relative", "absolute"] {
            assert_eq!(read(&at(path), 6).unwrap(), b"secret", "{path}");
            assert_eq!(look(&at(path)).unwrap(), 6, "{path}");
        }
        assert!(read(&at("absolute"), 5).unwrap_err().to_string().contains("larger than 5 bytes"));
    }

    #[test]
    fn what_is_no_file_is_an_error_at_once() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let pipe = std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap();
        assert!(pipe.success());
        symlink("pipe", at("to-pipe")).unwrap();
        symlink("gone", at("dangling")).unwrap();
        symlink("round", at("round")).unwrap();
        fs::write(at("file"), "").unwrap();
        for (path, words) in [
            ("pipe", "not a regular file"),
            ("to-pipe", "not a regular file"),
            ("", "not a regular file"),
            ("round", "too many links"),
            ("file/below", "Not a directory"),
            ("gone", "No such file"),
            ("dangling", "No such file"),
        ] {
            let error = read(&at(path), 9).unwrap_err();
            assert!(error.to_string().contains(words), "{path}: {error}");
        }
        for path in ["gone", "dangling", "gone/token"] {
            assert_eq!(read(&at(path), 9).unwrap_err().kind(), io::ErrorKind::NotFound, "{path}");
        }
        assert!(read(Path::new("/dev/null"), 9).is_err());
    }
}
