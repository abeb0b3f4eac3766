//! Where a switch job and the agent that comes next meet, whatever a
//! configuration says: `/run/fort-agent-handover/DEPLOYMENT` is a link to the
//! job's directory. No `RuntimeDirectory=`: systemd deletes those.
//!
//! The agent that comes next may have another state directory, and a unit that lets
//! it write to that one alone: it then leaves its verdict beside the link.
//!
//! Whoever takes the outcome in removes the link, and the verdict. A directory of another state
//! directory stays: the agent that comes back there takes it in as well.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::dir::{self, JobDir, JobFile};
use crate::core::job::{DeploymentId, Verdict};
use crate::files::{self, Durability};
use crate::sight::{Unreadable, at};

/// Largest number of links that are looked at: there is one at a time.
const MOST: usize = 16;

/// Leaves the link to a job's directory, in place of one that is there.
pub fn leave(handover: &Path, deployment: &DeploymentId, job: &JobDir) -> io::Result<()> {
    files::private_directory(handover)?;
    remove(handover, deployment)?;
    std::os::unix::fs::symlink(job.path(), link(handover, deployment))
}

/// Removes the link and the verdict; fine if there is none.
pub fn remove(handover: &Path, deployment: &DeploymentId) -> io::Result<()> {
    for file in [link(handover, deployment), verdict_file(handover, deployment)] {
        match std::fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Leaves a verdict for a guardian to whose directory this agent cannot write.
pub fn leave_verdict(
    handover: &Path,
    deployment: &DeploymentId,
    verdict: &Verdict,
) -> io::Result<()> {
    files::write_json(&verdict_file(handover, deployment), verdict, Durability::Passing)
}

/// Returns the verdict that was left so, if it was and nobody else can have left it.
pub fn verdict(handover: &Path, deployment: &DeploymentId) -> io::Result<Option<Verdict>> {
    if !is_ours(handover) {
        return Ok(None);
    }
    files::read_json(&verdict_file(handover, deployment))
}

/// Returns the jobs of other state directories. Nobody else may have put a link there.
/// Fails where that cannot be looked at: a switch may be at work there.
pub fn of_others(handover: &Path, state_dir: &Path) -> Result<Vec<JobDir>, Unreadable> {
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
        let spec = job.file(JobFile::Spec);
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

/// Whether nobody else can put anything there.
fn is_ours(handover: &Path) -> bool {
    std::fs::symlink_metadata(handover).is_ok_and(|data| ours(&data))
}

fn ours(directory: &std::fs::Metadata) -> bool {
    directory.uid() == rustix::process::geteuid().as_raw() && directory.mode() & 0o022 == 0
}

fn verdict_file(handover: &Path, deployment: &DeploymentId) -> PathBuf {
    handover.join(format!("{deployment}.verdict.json"))
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
            std::fs::write(job.join(JobFile::Spec.name()), "{}").unwrap();
            leave(&handover, &deployment, &JobDir::at(&job)).unwrap();
            let found = of_others(&handover, &root.path().join("ours")).unwrap();
            assert_eq!(found.len(), usize::from(state == "others"));
        }
        let good = Verdict::good(None);
        leave_verdict(&handover, &deployment, &good).unwrap();
        assert_eq!(
            of_others(&handover, &root.path().join("ours")).unwrap().len(),
            1,
            "it is no job"
        );
        assert_eq!(verdict(&handover, &deployment).unwrap(), Some(good));
        std::fs::set_permissions(&handover, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(verdict(&handover, &deployment).unwrap(), None);
        assert!(of_others(&handover, &root.path().join("ours")).unwrap().is_empty());
        remove(&handover, &deployment).unwrap();
        remove(&handover, &deployment).unwrap();
    }
}
