//! Jobs that systemd has queued or runs now.

use super::{CALL, Failed, Systemd, limited};

/// A job of systemd's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Number of the job, which no other job has in this boot.
    pub number: u32,
    /// Unit that the job is about.
    pub unit: String,
    /// Kind of the job, as in `start` or `stop`.
    pub kind: String,
    /// Whether the job is being done, rather than waited for.
    pub runs: bool,
}

impl Systemd {
    /// Lists the jobs that systemd has now.
    pub async fn jobs(&self) -> Result<Vec<Job>, Failed> {
        let listed = limited("the list of jobs", CALL, self.manager.list_jobs()).await?;
        let jobs = listed.into_iter().map(|(number, unit, kind, state, ..)| {
            let runs = state == "running";
            Job { number, unit, kind, runs }
        });
        Ok(jobs.collect())
    }

    /// Kills all processes of a unit, by SIGKILL. Its jobs go on with what is left.
    pub async fn kill_unit(&self, name: &str) -> Result<(), Failed> {
        let killed = self.manager.kill_unit(name, "all", rustix::process::Signal::KILL.as_raw());
        limited("killing a unit", CALL, killed).await
    }
}
