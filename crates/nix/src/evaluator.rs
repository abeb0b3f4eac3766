//! User that evaluates commits: one of its own, that can open nothing of this host.
//!
//! Evaluating runs what a commit says before anybody has looked at it. Purity does not
//! make that harmless: an input names any file of the host that the evaluating user can
//! read. So it is done by a user that can read what everybody can, through Nix's daemon
//! and as one that the daemon does not trust.
//!
//! The user is [`USER`] where there is one, as module.nix makes it; else
//! `nobody`, which other services may be as well.
//!
//! What surprises: settings do not come as options. What a client that is not
//! trusted says otherwise than the daemon is ignored with a warning that looks
//! like an error; what stands in its nix.conf is not passed on.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{ALWAYS, NETRC_FILE, Nix};
use crate::store;
use fort_core::status::Unconfined;
use fort_sys::command::Credentials;
use fort_sys::files::{self, Durability};

/// The user that module.nix makes for this.
pub const USER: &str = "fort-agent-eval";
/// The user that everybody has.
const NOBODY: &str = "nobody";
/// User id of `nobody` where it is not listed, as the kernel has it.
const NOBODY_ID: u32 = 65_534;

/// Where its directories are seen in the unit of a realise job, whatever is above
/// them on the host.
pub const PLACE: &str = "/run/fort-agent-evaluation";

/// The directory of its settings and of what it keeps, in the state directory.
const OWN: &str = "evaluation";
/// The directory of the exported trees, in the state directory.
const EXPORTS: &str = "exports";
/// In its own directory: HOME and XDG_CACHE_HOME.
const HOME: &str = "home";
const CACHE: &str = "cache";
/// Where Nix looks for its settings, in the directory that NIX_CONF_DIR names.
const SETTINGS: &str = "nix.conf";

/// A user that evaluates, and what it gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evaluator {
    /// The user's name, for people.
    pub user: String,
    /// The user as the kernel knows it.
    pub credentials: Credentials,
    /// Directory of the user's settings and of what is kept between evaluations.
    pub own: Lent,
    /// The trees to evaluate, which it may only read.
    pub exports: Lent,
}

/// A directory that is lent to the user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lent {
    /// Path of the directory on the host.
    pub at: PathBuf,
    /// Path of the directory as the user sees it.
    pub seen: PathBuf,
}

/// How the user comes to what it is lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The realise job is a unit, in which the directories are seen at [`PLACE`].
    Unit,
    /// The directories are seen where they are.
    Plain,
}

impl Evaluator {
    /// Chooses the user that evaluates on this host. The error says why only the agent
    /// itself can.
    pub fn choose(store: &str, state_dir: &Path, way: Way) -> Result<Self, Unconfined> {
        if !store::has_daemon(store) {
            return Err(Unconfined::NoDaemon { store: store.into() });
        }
        if !rustix::process::geteuid().is_root() {
            return Err(Unconfined::NotRoot);
        }
        let (user, credentials) = chosen_user();
        match way {
            Way::Unit => {}
            // What a job may do in a unit of its own, this process need not.
            Way::Plain if !may_become_others() => return Err(Unconfined::NoCapability),
            Way::Plain => {
                let above = state_dir.parent().unwrap_or(state_dir);
                if let Some(path) = closed_to(above, &credentials) {
                    return Err(Unconfined::NoWay { user, path: path.display().to_string() });
                }
            }
        }
        let lent = |name: &str| {
            let at = state_dir.join(name);
            let seen = match way {
                Way::Unit => Path::new(PLACE).join(name),
                Way::Plain => at.clone(),
            };
            Lent { at, seen }
        };
        Ok(Self { user, credentials, own: lent(OWN), exports: lent(EXPORTS) })
    }

    /// Makes the directories that it is lent, for root alone so far: there they can
    /// be seen elsewhere.
    pub fn make_directories(&self) -> io::Result<()> {
        files::private_directory(&self.own.at)?;
        files::private_directory(&self.exports.at)
    }

    /// Lets it pass through the state directory, where that is its way: what else is
    /// in there is closed to everybody.
    pub fn open_way(&self, state_dir: &Path) -> io::Result<()> {
        if self.own.at != self.own.seen {
            return Ok(());
        }
        for entry in fs::read_dir(state_dir)? {
            let entry = entry?;
            let (path, found) = (entry.path(), entry.metadata()?);
            let mode = found.permissions().mode();
            let lent = path == self.own.at || path == self.exports.at;
            if !lent && !found.is_symlink() && mode & 0o077 != 0 {
                fs::set_permissions(&path, fs::Permissions::from_mode(mode & !0o077))?;
            }
        }
        let mode = fs::metadata(state_dir)?.permissions().mode();
        fs::set_permissions(state_dir, fs::Permissions::from_mode(mode | 0o011))
    }

    /// Makes what it is lent, for it alone; root's to change but for what it keeps.
    /// `nix`: whose settings it gets.
    pub fn prepare(&self, nix: &Nix) -> io::Result<()> {
        self.lend(&self.exports.at)?;
        self.lend(&self.own.at)?;
        for part in [HOME, CACHE] {
            self.give(&self.own.at.join(part))?;
        }
        let settings = self.own.at.join(SETTINGS);
        files::write_private(&settings, settings_of(nix).as_bytes(), Durability::Passing)?;
        self.lend_file(&settings)
    }

    /// Where the user sees a path that is in what it is lent; where it is, for
    /// every other.
    pub(super) fn sees(&self, path: &Path) -> PathBuf {
        let lent = [&self.own, &self.exports];
        let seen = lent.iter().find_map(|lent| {
            let below = path.strip_prefix(&lent.at).ok()?;
            Some(lent.seen.join(below))
        });
        seen.unwrap_or_else(|| path.to_owned())
    }

    /// Where it is given a repository, for versions of Nix that need one.
    pub(super) fn repositories(&self) -> PathBuf {
        self.own.at.join("repositories")
    }

    /// The environment that makes it a client of the daemon, and of nothing else.
    pub(super) fn environment(&self, store: &str) -> Vec<(OsString, OsString)> {
        let own = |part: &str| self.own.seen.join(part).into_os_string();
        let store = if store == "auto" { "daemon" } else { store };
        vec![
            ("HOME".into(), own(HOME)),
            ("XDG_CACHE_HOME".into(), own(CACHE)),
            ("NIX_CONF_DIR".into(), self.own.seen.clone().into()),
            // What it could write into its own HOME says nothing.
            ("NIX_USER_CONF_FILES".into(), "/dev/null".into()),
            ("NIX_REMOTE".into(), store.into()),
        ]
    }

    /// A directory of root's that the user can read, and nobody else.
    pub(super) fn lend(&self, directory: &Path) -> io::Result<()> {
        files::private_directory(directory)?;
        chown(directory, Some(0), Some(self.credentials.gid))?;
        fs::set_permissions(directory, fs::Permissions::from_mode(0o750))
    }

    fn lend_file(&self, file: &Path) -> io::Result<()> {
        chown(file, Some(0), Some(self.credentials.gid))?;
        fs::set_permissions(file, fs::Permissions::from_mode(0o640))
    }

    /// A directory of the user's own. What another user kept there goes.
    fn give(&self, directory: &Path) -> io::Result<()> {
        match directory.symlink_metadata() {
            Ok(found) if found.is_dir() && found.uid() == self.credentials.uid => return Ok(()),
            Ok(found) if found.is_dir() => fs::remove_dir_all(directory)?,
            Ok(_) => fs::remove_file(directory)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        fs::DirBuilder::new().mode(0o700).create(directory)?;
        chown(directory, Some(self.credentials.uid), Some(self.credentials.gid))
    }
}

/// Lets a tree be read by those who can reach it, whatever umask it was made
/// under: files that did not change are those of an earlier tree.
pub(super) fn open_to_readers(path: &Path, found: &fs::Metadata) -> io::Result<()> {
    let mode = found.permissions().mode();
    let all = if found.is_dir() || mode & 0o100 != 0 { 0o555 } else { 0o444 };
    if found.is_symlink() || mode & all == all {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode | all))
}

/// The host's settings, with those of the configuration, and what makes an
/// evaluation's: it has no names and passwords, remembers no failure, and no
/// repository configures it.
fn settings_of(nix: &Nix) -> String {
    let mut text = String::from("!include /etc/nix/nix.conf\n");
    let ours = [
        ("extra-experimental-features", "nix-command flakes"),
        (NETRC_FILE, "/dev/null"),
        ("eval-cache", "false"),
    ];
    let ours = ours.into_iter().chain(ALWAYS);
    let theirs = nix.options().iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in theirs.filter(fits).chain(ours) {
        text.push_str(&format!("{name} = {value}\n"));
    }
    text
}

/// Options that cannot be written into a nix.conf, which has no quotes: they have
/// to be said, whatever a daemon answers.
pub(super) fn unwritable(nix: &Nix) -> Vec<(String, String)> {
    let pairs = nix.options().iter();
    pairs.filter(|(name, value)| !fits(&(name, value)) && name != NETRC_FILE).cloned().collect()
}

fn fits((name, value): &(&str, &str)) -> bool {
    let plain = |text: &str| !text.contains(['#', '\n', '\r']);
    plain(name) && plain(value) && !name.contains(char::is_whitespace)
}

/// The user of that name; else nobody.
fn chosen_user() -> (String, Credentials) {
    let read = |file: &str| files::read_bounded(Path::new(file)).ok().flatten().unwrap_or_default();
    let (users, groups) = (read("/etc/passwd"), read("/etc/group"));
    let (users, groups) = (String::from_utf8_lossy(&users), String::from_utf8_lossy(&groups));
    let found = [USER, NOBODY].into_iter().find_map(|name| {
        let credentials = listed(name, &users, &groups).filter(|user| user.uid != 0)?;
        Some((name.to_owned(), credentials))
    });
    found.unwrap_or_else(|| {
        let (uid, gid) = (NOBODY_ID, NOBODY_ID);
        (NOBODY.to_owned(), Credentials { uid, gid, groups: Vec::new() })
    })
}

/// From what passwd(5) and group(5) say.
fn listed(name: &str, users: &str, groups: &str) -> Option<Credentials> {
    let of_line = |line: &str| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then_some(())?;
        let mut numbers = fields.skip(1).map(|field| field.parse::<u32>().ok());
        Some((numbers.next()??, numbers.next()??))
    };
    let (uid, gid) = users.lines().find_map(of_line)?;
    let of_group = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let [_, _, number, members] = fields[..] else { return None };
        members.split(',').any(|member| member == name).then(|| number.parse().ok())?
    };
    Some(Credentials { uid, gid, groups: groups.lines().filter_map(of_group).collect() })
}

/// The first directory on the way to this one that a user cannot enter.
fn closed_to(directory: &Path, user: &Credentials) -> Option<PathBuf> {
    let real = fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
    let mut above: Vec<&Path> = real.ancestors().collect();
    above.reverse();
    let closed = above.into_iter().find(|path| {
        // One that is not there yet is made, for root alone.
        path.metadata().map_or(true, |found| {
            let enters = if found.uid() == user.uid {
                0o100
            } else if found.gid() == user.gid || user.groups.contains(&found.gid()) {
                0o010
            } else {
                0o001
            };
            found.mode() & enters == 0
        })
    });
    closed.map(Path::to_owned)
}

/// Whether this process may become another user.
fn may_become_others() -> bool {
    use rustix::thread::{CapabilitySet, capabilities};
    let needed = CapabilitySet::SETUID | CapabilitySet::SETGID;
    capabilities(None).is_ok_and(|sets| sets.effective.contains(needed))
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\nnobody:x:65534:65533::/:/x\n\
                         fort-agent-eval:x:990:989:who evaluates:/var/empty:/x\n";
    const GROUPS: &str = "nix-users:x:30:a,fort-agent-eval\nbroken\nothers:x:31:b\n";

    #[test]
    fn users_and_their_groups_are_read_from_where_they_are_listed() {
        let of = |name: &str| listed(name, USERS, GROUPS);
        let expected = Credentials { uid: 990, gid: 989, groups: vec![30] };
        assert_eq!(of("fort-agent-eval"), Some(expected));
        assert_eq!(of("nobody").map(|user| (user.uid, user.gid)), Some((65534, 65533)));
        assert_eq!((of("broken"), of("fort-agent"), of("")), (None, None, None));
    }

    #[test]
    fn a_way_is_closed_where_the_first_directory_is() {
        let user = Credentials { uid: 990, gid: 989, groups: vec![] };
        let top = tempfile::Builder::new().prefix("way").tempdir_in("/tmp").unwrap();
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let below = top.path().join("a/b");
        fs::create_dir_all(&below).unwrap();
        mode(top.path(), 0o711);
        assert_eq!(closed_to(&below, &user), None);
        mode(&top.path().join("a"), 0o700);
        assert_eq!(closed_to(&below, &user), Some(top.path().join("a")));
        assert_eq!(closed_to(top.path(), &user), None);
        chown(top.path().join("a"), None, Some(989)).unwrap();
        mode(&top.path().join("a"), 0o710);
        assert_eq!(closed_to(&below, &user), None);
        // One that the user's own bits keep out is out, whatever others may do.
        chown(top.path().join("a"), Some(990), None).unwrap();
        mode(&top.path().join("a"), 0o077);
        assert_eq!(closed_to(&below, &user), Some(top.path().join("a")));
    }
}
