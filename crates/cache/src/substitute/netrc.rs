//! The file that Nix reads names and passwords from: the host's own, and
//! before it the cache's token.
//!
//! The format is curl's (`lib/netrc.c`), in which a machine has no port: the
//! token is for every server of that name. Its first entry that fits is
//! taken, and `default` fits all, so ours comes first; unless the host's own
//! has one for that very machine, which may be there for more than the cache.

use std::io;
use std::path::{Path, PathBuf};

use fort_http::Secret;
use zeroize::Zeroizing;

use crate::attic::LOGIN;
use fort_sys::files::{self, Durability};
use fort_sys::foreign_file;

/// Largest netrc that is read, in bytes: a larger one was not written by a person.
const LARGEST: u64 = 256 << 10;

/// Reason for which the cache's token is not in the file.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoEntry {
    #[error("{} has an entry for {machine}, which Nix takes instead of cache.token_file", file.display())]
    Theirs { file: PathBuf, machine: String },
    #[error("the token cannot be written into a netrc: it has characters that no token has")]
    Odd,
    #[error("{} cannot be read, and its entries have to stay", file.display())]
    Unreadable { file: PathBuf, source: io::Error },
    #[error("{} cannot be written", file.display())]
    Unwritable { file: PathBuf, source: io::Error },
}

/// Writes the file, for its owner alone: the token for a machine, and
/// everything that `own` has, if it is there.
pub(super) fn write(file: &Path, own: &Path, machine: &str, token: &Secret) -> Result<(), NoEntry> {
    let entries = match foreign_file::read(own, LARGEST) {
        Ok(entries) => Zeroizing::new(entries),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Zeroizing::default(),
        Err(source) => return Err(NoEntry::Unreadable { file: own.into(), source }),
    };
    if names(&String::from_utf8_lossy(&entries), machine) {
        return Err(NoEntry::Theirs { file: own.into(), machine: machine.into() });
    }
    let entry = entry(machine, token.expose()).ok_or(NoEntry::Odd)?;
    let text = Zeroizing::new([entry.as_bytes(), &entries].concat());
    files::write_private(file, &text, Durability::Passing)
        .map_err(|source| NoEntry::Unwritable { file: file.into(), source })
}

/// Entry of one machine. Without a login some versions of curl find nothing in it (7.83, 8.11).
fn entry(machine: &str, token: &str) -> Option<Zeroizing<String>> {
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '#');
    let fits = !token.is_empty() && token.chars().all(plain);
    fits.then(|| format!("machine {machine}\nlogin {LOGIN}\npassword {token}\n\n").into())
}

/// Whether there is an entry for this machine.
fn names(entries: &str, machine: &str) -> bool {
    let lines = entries.lines().filter(|line| !line.trim_start().starts_with('#'));
    let words: Vec<&str> = lines.flat_map(str::split_whitespace).collect();
    words.windows(2).any(|pair| {
        matches!(pair, ["machine", name] if name.trim_matches('"').eq_ignore_ascii_case(machine))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn written(own: Option<&str>, token: &str) -> Result<String, NoEntry> {
        let dir = tempfile::tempdir().unwrap();
        let (file, theirs) = (dir.path().join("netrc"), dir.path().join("own"));
        if let Some(own) = own {
            std::fs::write(&theirs, own).unwrap();
        }
        write(&file, &theirs, "cache.example.org", &token.to_owned().into())?;
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        Ok(std::fs::read_to_string(file).unwrap())
    }

    #[test]
    fn the_hosts_own_entries_follow_the_caches() {
        let ours = "machine cache.example.org\nlogin fort-agent\npassword t.o-k_en=\n\n";
        assert_eq!(written(None, "t.o-k_en=").unwrap(), ours);
        let own = "machine git.example.org login a password b\ndefault login c password d";
        assert_eq!(written(Some(own), "t.o-k_en=").unwrap(), format!("{ours}{own}"));
    }

    #[test]
    fn the_hosts_own_entry_for_that_machine_stays_the_one_that_counts() {
        for own in [
            "machine cache.example.org password b",
            "# it\nmachine a password b machine\n  Cache.Example.Org login x",
            "machine \"cache.example.org\" password b",
        ] {
            assert!(matches!(written(Some(own), "t"), Err(NoEntry::Theirs { .. })), "{own}");
        }
        for own in ["# machine cache.example.org\n", "machine cache.example.org.evil password b"] {
            assert!(written(Some(own), "t").is_ok(), "{own}");
        }
    }

    #[test]
    fn what_would_be_read_as_something_else_is_not_written() {
        for token in ["", "a b", "a\nmachine x", "\"a\"", "a\\b", "a#b", "ü"] {
            assert!(matches!(written(None, token), Err(NoEntry::Odd)), "{token}");
        }
    }
}
