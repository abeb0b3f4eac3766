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
pub fn of_others(handover: &Path, state_dir: &Path) -> Vec<JobDir> {
    let ours = |data: std::fs::Metadata| {
        data.uid() == rustix::process::geteuid().as_raw() && data.mode() & 0o077 == 0
    };
    if !std::fs::symlink_metadata(handover).is_ok_and(ours) {
        return Vec::new();
    }
    let own = dir::all(state_dir);
    let Ok(links) = std::fs::read_dir(handover) else { return Vec::new() };
    links
        .flatten()
        .take(MOST)
        .filter_map(|link| std::fs::read_link(link.path()).ok())
        .filter(|place| place.parent() != Some(&own) && place.join("spec.json").exists())
        .map(JobDir::at)
        .filter(|job| job.id().is_some())
        .collect()
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
            let found = of_others(&handover, &root.path().join("ours"));
            assert_eq!(found.len(), usize::from(state == "others"));
        }
        std::fs::set_permissions(&handover, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(of_others(&handover, &root.path().join("ours")).is_empty());
        remove(&handover, &deployment).unwrap();
        remove(&handover, &deployment).unwrap();
    }
}
