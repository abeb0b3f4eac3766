//! The system profile: numbered generations, of which one is current.
//!
//! `PROFILE` is a link to `PROFILE-N-link`, and that one a link to a system.
//! Both are read, never followed: the system's path is logical. Written only
//! through `nix-env`, which locks the profile and registers its roots.

use std::future::pending;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Nix, NixFailed, succeed};
use crate::core::types::StorePath;

/// A generation of a profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Its number: the next one made gets a higher one.
    pub number: u64,
    /// What it is a generation of.
    pub system: StorePath,
}

/// The current generation; `None` when there is no profile.
///
/// Fails with `InvalidData` when the links are there and are not what
/// `nix-env` makes.
pub fn current(profile: &Path) -> io::Result<Option<Generation>> {
    let link = match std::fs::read_link(profile) {
        Ok(link) => link,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let odd = |what: &Path| {
        let said = format!("{} is no generation of {}", what.display(), profile.display());
        io::Error::new(io::ErrorKind::InvalidData, said)
    };
    let number = generation_number(profile, &link).ok_or_else(|| odd(&link))?;
    // Relative to the profile's directory, as nix-env writes it; joining an
    // absolute one leaves it as it is.
    let link = profile.parent().unwrap_or(Path::new("/")).join(link);
    let system = std::fs::read_link(&link)?;
    let system = system.to_str().and_then(|path| path.parse().ok()).ok_or_else(|| odd(&link))?;
    Ok(Some(Generation { number, system }))
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
            Err(error) => Err(refused(error.to_string())),
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
        assert_eq!(current(&profile).unwrap(), None);
        symlink("system-12-link", &profile).unwrap();
        assert_eq!(current(&profile).unwrap_err().kind(), io::ErrorKind::NotFound);
        symlink(SYSTEM, dir.path().join("system-12-link")).unwrap();
        let generation = current(&profile).unwrap().unwrap();
        assert_eq!((generation.number, generation.system.as_str()), (12, SYSTEM));
    }

    #[test]
    fn a_profile_that_nix_env_did_not_make_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        for (n, target) in [SYSTEM, "other-1-link", "p-x-link", "p--1-link", ""].iter().enumerate()
        {
            let profile = dir.path().join(format!("{n}/p"));
            std::fs::create_dir(profile.parent().unwrap()).unwrap();
            if symlink(target, &profile).is_ok() {
                let error = current(&profile).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{target}");
            }
        }
    }
}
