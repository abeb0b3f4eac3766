//! The system profile: numbered generations, of which one is current.
//!
//! `PROFILE` is a link to `PROFILE-N-link`, and that one a link to a system.
//! Both are read, never followed: the system's path is logical. Written only
//! through `nix-env`, which locks the profile and registers its roots.

use std::future::pending;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Nix, NixFailed, succeed};
use fort_core::types::{StorePath, Wall};
use fort_core::unseen::Odd;
use fort_sys::clock;
use fort_sys::error_chain;
use fort_sys::sight::{Unreadable, at};

/// A generation of a profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Number of the generation: the next one made gets a higher one.
    pub number: u64,
    /// System that the generation links to.
    pub system: StorePath,
}

/// State of a profile, as found at its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Profile {
    /// No file is at the profile's path.
    Absent,
    /// Something that `nix-env` did not make.
    Odd(Odd),
    /// The profile has this current generation.
    Current(Generation),
}

/// Looks at a profile. Fails where the system does not let it be read: what
/// `nix-env` did not make is no failure.
pub fn look(profile: &Path) -> Result<Profile, Unreadable> {
    let link = match target(profile)? {
        Link::Absent => return Ok(Profile::Absent),
        Link::Other => return Ok(Profile::Odd(Odd::NoLink)),
        Link::To(link) => link,
    };
    let Some(number) = generation_number(profile, &link) else {
        return Ok(Profile::Odd(Odd::Elsewhere { target: link.display().to_string() }));
    };
    // Relative to the profile's directory, as nix-env writes it; joining an
    // absolute one leaves it as it is.
    let system = match target(&directory(profile).join(link))? {
        Link::Absent => return Ok(Profile::Odd(Odd::Dangling { number })),
        Link::Other => None,
        Link::To(system) => system.to_str().and_then(|path| path.parse().ok()),
    };
    Ok(match system {
        Some(system) => Profile::Current(Generation { number, system }),
        None => Profile::Odd(Odd::NoSystem { number }),
    })
}

/// The current generation; `None` when there is no profile, or none that `nix-env`
/// made.
pub fn current(profile: &Path) -> Result<Option<Generation>, Unreadable> {
    Ok(match look(profile)? {
        Profile::Current(generation) => Some(generation),
        Profile::Absent | Profile::Odd(_) => None,
    })
}

/// All generations, by their numbers. What has the name of one and is none of a
/// system is left out.
pub fn generations(profile: &Path) -> Result<Vec<Generation>, Unreadable> {
    let directory = directory(profile);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(at(directory))? {
        let name = entry.map_err(at(directory))?.file_name();
        let Some(number) = generation_number(profile, Path::new(&name)) else { continue };
        if let Link::To(system) = target(&directory.join(&name))?
            && let Some(system) = system.to_str().and_then(|path| path.parse().ok())
        {
            found.push(Generation { number, system });
        }
    }
    found.sort_by_key(|generation: &Generation| generation.number);
    Ok(found)
}

/// A name that nothing has yet. Not with the profile's name in front: nix-env would
/// take it for a generation.
fn aside(directory: &Path, name: &str, now: Wall) -> Result<PathBuf, Unreadable> {
    let mut nth = 0;
    loop {
        let path = directory.join(format!("moved-aside.{}.{nth}.{name}", now.compact()));
        match path.symlink_metadata() {
            Ok(_) => nth += 1,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(path),
            Err(error) => return Err(at(path)(error)),
        }
    }
}

enum Link {
    Absent,
    /// A file or directory.
    Other,
    To(PathBuf),
}

fn target(link: &Path) -> Result<Link, Unreadable> {
    match std::fs::read_link(link) {
        Ok(target) => Ok(Link::To(target)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Link::Absent),
        // What readlink(2) says of anything else.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(Link::Other),
        Err(error) => Err(at(link)(error)),
    }
}

fn directory(profile: &Path) -> &Path {
    profile.parent().unwrap_or(Path::new("/"))
}

/// Moves aside what stands where `nix-env` wants to have links: it refuses to do
/// anything to a profile then. Nothing is removed.
fn make_way(profile: &Path, now: Wall) -> Result<(), Unreadable> {
    let directory = directory(profile);
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(at(directory)(error)),
    };
    for entry in entries {
        let name = entry.map_err(at(directory))?.file_name();
        let path = directory.join(&name);
        let concerned = path == profile || generation_number(profile, Path::new(&name)).is_some();
        if !concerned {
            continue;
        }
        if let Link::Other = target(&path)? {
            let aside = aside(directory, &name.to_string_lossy(), now)?;
            tracing::warn!("{} is no link: it is now {}", path.display(), aside.display());
            std::fs::rename(&path, &aside).map_err(at(&path))?;
        }
    }
    Ok(())
}

impl Nix {
    /// Makes a system the current generation: a new one, unless the current
    /// one is of that system already. Says which.
    pub async fn set_profile(
        &self,
        profile: &Path,
        system: &StorePath,
    ) -> Result<Generation, NixFailed> {
        self.change_profile(profile, &["--set", system.as_str()]).await?;
        match current(profile) {
            Ok(Some(generation)) if generation.system == *system => Ok(generation),
            Ok(other) => Err(refused(format!("it is {other:?} after setting {system}"))),
            Err(error) => Err(refused(error_chain::line(&error))),
        }
    }

    /// Makes an existing generation the current one.
    pub async fn switch_generation(&self, profile: &Path, number: u64) -> Result<(), NixFailed> {
        self.change_profile(profile, &["--switch-generation", &number.to_string()]).await
    }

    /// Removes a generation, which must not be the current one; fine if it is
    /// not there.
    pub async fn delete_generation(&self, profile: &Path, number: u64) -> Result<(), NixFailed> {
        // nix-env ignores the wish to remove the current one, and says so
        // only to people.
        if current(profile).is_ok_and(|current| current.is_some_and(|c| c.number == number)) {
            return Err(refused(format!("generation {number} is the current one")));
        }
        self.change_profile(profile, &["--delete-generations", &number.to_string()]).await
    }

    async fn change_profile(&self, profile: &Path, how: &[&str]) -> Result<(), NixFailed> {
        make_way(profile, clock::now().wall).map_err(|error| refused(error_chain::line(&error)))?;
        let command = self.old("nix-env").arg("--profile").arg(profile).args(how.iter().copied());
        succeed("changing the profile", command.run(pending()).await?)?;
        Ok(())
    }
}

fn refused(said: String) -> NixFailed {
    NixFailed::Refused { what: "the profile".into(), said }
}

/// From `NAME-N-link`, where NAME is the profile's.
fn generation_number(profile: &Path, link: &Path) -> Option<u64> {
    let name = profile.file_name()?.to_str()?;
    let number = link.file_name()?.to_str()?.strip_prefix(name)?.strip_prefix('-')?;
    number.strip_suffix("-link")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const SYSTEM: &str = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-system";

    #[test]
    fn the_links_are_read_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let profile = dir.path().join("system");
        assert_eq!(look(&profile).unwrap(), Profile::Absent);
        symlink("system-12-link", &profile).unwrap();
        symlink(SYSTEM, dir.path().join("system-12-link")).unwrap();
        let generation = current(&profile).unwrap().unwrap();
        assert_eq!((generation.number, generation.system.as_str()), (12, SYSTEM));
    }

    #[test]
    fn a_profile_that_nix_env_did_not_make_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let made = |n: usize| dir.path().join(format!("{n}/p"));
        for (n, target) in [SYSTEM, "other-1-link", "p-x-link", "p--1-link", "p"].iter().enumerate()
        {
            std::fs::create_dir(made(n).parent().unwrap()).unwrap();
            symlink(target, made(n)).unwrap();
            let odd = Odd::Elsewhere { target: (*target).into() };
            assert_eq!(look(&made(n)).unwrap(), Profile::Odd(odd));
        }
        std::fs::create_dir_all(made(5)).unwrap();
        assert_eq!(look(&made(5)).unwrap(), Profile::Odd(Odd::NoLink));
        std::fs::create_dir_all(made(6).with_file_name("p-3-link")).unwrap();
        symlink("p-3-link", made(6)).unwrap();
        assert_eq!(look(&made(6)).unwrap(), Profile::Odd(Odd::NoSystem { number: 3 }));
        symlink("p-4-link", made(6).with_file_name("q")).unwrap();
        std::fs::rename(made(6).with_file_name("q"), made(6)).unwrap();
        assert_eq!(look(&made(6)).unwrap(), Profile::Odd(Odd::Dangling { number: 4 }));
        assert_eq!(current(&made(6)).unwrap(), None);
    }

    #[test]
    fn a_profile_that_cannot_be_read_is_an_error_with_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = look(&file.join("system")).unwrap_err();
        assert_eq!(error.path, file.join("system"));
        assert_eq!(error.source.kind(), io::ErrorKind::NotADirectory);
    }

    #[test]
    fn what_is_no_link_makes_way_and_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let profile = dir.path().join("system");
        std::fs::create_dir(&profile).unwrap();
        std::fs::write(profile.join("kept"), "").unwrap();
        std::fs::write(dir.path().join("system-3-link"), "").unwrap();
        std::fs::write(dir.path().join("other"), "").unwrap();
        symlink(SYSTEM, dir.path().join("system-4-link")).unwrap();
        make_way(&profile, Wall::from_millis(0)).unwrap();
        let mut names: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let aside = "moved-aside.19700101T000000Z.0.system";
        let expected = [aside, &format!("{aside}-3-link"), "other", "system-4-link"];
        assert_eq!(names, expected);
        assert!(dir.path().join(aside).join("kept").exists());
        assert_eq!(generations(&profile).unwrap().len(), 1);
    }
}
