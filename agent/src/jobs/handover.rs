//! Where a switch job and the agent that comes next meet, whatever a
//! configuration says: `/run/fort-agent-handover/DEPLOYMENT` is a link to the
//! job's directory. No `RuntimeDirectory=`: systemd deletes those.
//!
//! Whoever takes the outcome in removes the link. A directory of another state
//! directory stays: the agent that comes back there takes it in as well.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::dir::{self, JobDir};
use crate::core::job::DeploymentId;
use crate::files;
use crate::sight::{Unreadable, at};

/// More links than this are not looked at: there is one at a time.
const MOST: usize = 16;

/// Leaves the link.
pub fn leave(handover: &Path, deployment: &DeploymentId, job: &JobDir) -> io::Result<()> {
    files::private_directory(handover)?;
    remove(handover, deployment)?;
    std::os::unix::fs::symlink(job.path(), link(handover, deployment))
}

/// Removes the link; fine if there is none.
pub fn remove(handover: &Path, deployment: &DeploymentId) -> io::Result<()> {
    match std::fs::remove_file(link(handover, deployment)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The jobs of other state directories. Nobody else may have put a link there.
/// Fails where that cannot be looked at: a switch may be at work there.
pub fn of_others(handover: &Path, state_dir: &Path) -> Result<Vec<JobDir>, Unreadable> {
    let ours = |data: &std::fs::Metadata| {
        data.uid() == rustix::process::geteuid().as_raw() && data.mode() & 0o077 == 0
    };
    match std::fs::symlink_metadata(handover) {
        Ok(data) if ours(&data) => {}
        Ok(_) => return Ok(Vec::new()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(at(handover)(error)),
    }
    let own = dir::all(state_dir);
    let mut jobs = Vec::new();
    for entry in std::fs::read_dir(handover).map_err(at(handover))?.take(MOST) {
        let link = entry.map_err(at(handover))?.path();
        let place = match std::fs::read_link(&link) {
            Ok(place) => place,
            // It is gone, or not one that was left here.
            Err(error) if is_none(&error) || error.kind() == io::ErrorKind::InvalidInput => {
                continue;
            }
            Err(error) => return Err(at(link)(error)),
        };
        let job = JobDir::at(&place);
        if place.parent() == Some(&own) || job.id().is_none() {
            continue;
        }
        let spec = place.join("spec.json");
        match std::fs::symlink_metadata(&spec) {
            Ok(_) => jobs.push(job),
            Err(error) if is_none(&error) => {}
            Err(error) => return Err(at(spec)(error)),
        }
    }
    Ok(jobs)
}

fn is_none(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn link(handover: &Path, deployment: &DeploymentId) -> PathBuf {
    handover.join(deployment.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_jobs_of_others_are_found_and_only_in_a_private_directory() {
        use std::os::unix::fs::PermissionsExt as _;
        let root = tempfile::tempdir().unwrap();
        let handover = root.path().join("handover");
        let deployment: DeploymentId = "20260101T000000Z-01234567-1".parse().unwrap();
        for state in ["ours", "others"] {
            let job = dir::all(&root.path().join(state)).join(format!("switch-{deployment}"));
            std::fs::create_dir_all(&job).unwrap();
            std::fs::write(job.join("spec.json"), "{}").unwrap();
            leave(&handover, &deployment, &JobDir::at(&job)).unwrap();
            let found = of_others(&handover, &root.path().join("ours")).unwrap();
            assert_eq!(found.len(), usize::from(state == "others"));
        }
        std::fs::set_permissions(&handover, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(of_others(&handover, &root.path().join("ours")).unwrap().is_empty());
        remove(&handover, &deployment).unwrap();
        remove(&handover, &deployment).unwrap();
    }
}
