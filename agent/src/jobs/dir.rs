//! A job's directory: its files, and whether it lives.
//!
//! A job is alive while it holds the lock on its `lock`, and nothing else is
//! trusted: no pid, no start time, no unit's state. Each file has one writer.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::core::job::{JobId, Order};
use crate::core::observed::{Life, Remains};
use crate::core::types::{BootId, Mono};
use crate::crash::{self, Place};
use crate::files::{self, Durability};
use crate::sight::{Unreadable, at};

/// Time without taking its lock after which a job that was ordered will not take it.
const STARTING: Duration = Duration::from_secs(10);

/// Prefix, in the lock, of the reason that kept a job from writing down its outcome.
const UNWRITTEN: &str = "unwritten: ";
/// Largest part of a lock's file that is read, in bytes.
const MOST_WORDS: u64 = 1 << 10;

/// A file of a job's directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobFile {
    /// Order of the job, written by the agent that starts it.
    Spec,
    /// Progress of the job, written by the job.
    Progress,
    /// Outcome of the job, written by the job.
    Outcome,
    /// Whether the activated system works, by the agent.
    Verdict,
    /// The lock that the job holds while it lives.
    Lock,
    /// Copy of the journal as it was when the switch was ordered, written by the agent:
    /// the one that a deployment brings may be of any version, or do anything.
    Memory,
    /// The host's units before the switch, by the agent.
    Baseline,
}

impl JobFile {
    /// Returns the file's name within the directory.
    pub fn name(self) -> &'static str {
        match self {
            Self::Spec => "spec.json",
            Self::Progress => "progress.json",
            Self::Outcome => "outcome.json",
            Self::Verdict => "verdict.json",
            Self::Lock => "lock",
            Self::Memory => "memory.json",
            Self::Baseline => "baseline.json",
        }
    }
}

/// The directory of one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobDir {
    path: PathBuf,
}

/// Returns the directory that holds the jobs' directories.
pub fn all(state_dir: &Path) -> PathBuf {
    state_dir.join("jobs")
}

impl JobDir {
    /// Names the job directory at a path, without looking at it.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Returns the path of one of its files.
    pub fn file(&self, file: JobFile) -> PathBuf {
        self.path.join(file.name())
    }

    /// Makes the directory of a job, with its order in it: it appears whole or not at all.
    pub fn create(state_dir: &Path, id: &JobId, spec: &impl Serialize) -> io::Result<Self> {
        let jobs = all(state_dir);
        files::private_directory(&jobs)?;
        let beside = jobs.join(format!(".new-{id}"));
        if beside.exists() {
            fs::remove_dir_all(&beside)?;
        }
        files::private_directory(&beside)?;
        files::write_json(&beside.join(JobFile::Spec.name()), spec, Durability::Durable)?;
        let path = jobs.join(id.to_string());
        fs::rename(&beside, &path)?;
        files::sync_directory(&jobs)?;
        crash::place(Place::JobMade);
        Ok(Self { path })
    }

    /// Returns the path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the job's name, if the directory has the name of one.
    pub fn id(&self) -> Option<JobId> {
        self.path.file_name()?.to_str()?.parse().ok()
    }

    /// Reads one of its files; `None` if it is not there.
    pub fn read<T: DeserializeOwned>(&self, file: JobFile) -> io::Result<Option<T>> {
        files::read_json(&self.file(file))
    }

    /// Reads one of its files; `None` if it is not there, or not what it should be: a
    /// job that died at its first write. Fails where it cannot be read.
    pub fn look<T: DeserializeOwned>(&self, file: JobFile) -> Result<Option<T>, Unreadable> {
        match self.read(file) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
            read => read.map_err(at(self.file(file))),
        }
    }

    /// Writes one of its files.
    pub fn write(&self, file: JobFile, value: &impl Serialize, how: Durability) -> io::Result<()> {
        files::write_json(&self.file(file), value, how)
    }

    /// Takes the lock: from now on the job lives, until the value is dropped.
    /// `None` if another process is this job.
    pub fn lock(&self) -> io::Result<Option<File>> {
        let path = self.file(JobFile::Lock);
        for _ in 0..20 {
            if let Some(mut lock) = files::lock(&path)? {
                // Between making the file and locking it, it looks like that
                // of a job that has ended: a mark tells the two apart.
                lock.write_all(b"taken\n")?;
                return Ok(Some(lock));
            }
            // An agent that looks whether it is held holds it for a moment.
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(None)
    }

    /// Makes this process the job: its order, and the lock that it lives by.
    /// `None` if another process is it, or it is over.
    pub fn begin<T: DeserializeOwned>(&self) -> anyhow::Result<Option<(File, T)>> {
        let Some(lock) = self.lock().context("cannot take the job's lock")? else {
            tracing::info!("another process is this job");
            return Ok(None);
        };
        let spec = self.read(JobFile::Spec).context("cannot read the order")?;
        let spec = spec.context("there is no order")?;
        let is_over = self.file(JobFile::Outcome).exists();
        Ok((!is_over).then_some((lock, spec)))
    }

    /// Whether the job lives. `resumed`: when it was last started again.
    pub fn life(&self, order: &Order, boot: &BootId, resumed: Option<Mono>, now: Mono) -> Life {
        let path = self.file(JobFile::Lock);
        let file = match File::open(&path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            // It cannot be looked at, so it may be held: the safe side.
            Err(_) => return Life::Running,
        };
        let mut taken = false;
        if let Some(file) = file {
            use rustix::fs::{FlockOperation, flock};
            match flock(&file, FlockOperation::NonBlockingLockShared) {
                Ok(()) => taken = file.metadata().is_ok_and(|file| file.len() > 0),
                Err(_) => return Life::Running,
            }
        }
        // Whoever finds an outcome has nothing to do, so nobody will start.
        if self.file(JobFile::Outcome).exists() {
            return Life::Ended;
        }
        let started = resumed.or((!taken && order.boot_id == *boot).then_some(order.ordered));
        match started {
            Some(started) if now.since(started) < STARTING => Life::Starting,
            Some(_) | None => Life::Ended,
        }
    }

    /// Leaves word in the lock's file that the job's outcome could not be written: that
    /// file has room for it on a full disk.
    pub fn leave_word(&self, lock: &mut File, error: &io::Error) {
        if let Err(error) = writeln!(lock, "{UNWRITTEN}{error}") {
            tracing::warn!(%error, "not even word of that could be left");
        }
    }

    /// Returns what a job that has ended left in its lock: whether it began, and why it
    /// could not write its outcome.
    pub fn remains(&self) -> Remains {
        let mut text = String::new();
        let lock = File::open(self.file(JobFile::Lock));
        let read = lock.and_then(|lock| lock.take(MOST_WORDS).read_to_string(&mut text));
        match read {
            Ok(0) => Remains::NotBegun,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Remains::NotBegun,
            Ok(_) | Err(_) => match text.lines().find_map(|line| line.strip_prefix(UNWRITTEN)) {
                Some(why) => Remains::Unwritten(why.to_owned()),
                None => Remains::Begun,
            },
        }
    }

    /// Whether a process holds the lock, whatever the order says.
    pub fn is_held(&self) -> bool {
        use rustix::fs::{FlockOperation, flock};
        let file = File::open(self.file(JobFile::Lock));
        file.is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockShared).is_err())
    }

    /// Removes the directory, exported tree and all.
    pub fn remove(&self) -> io::Result<()> {
        // Renamed first: half of a job must not be taken for one.
        let gone = self.path.with_file_name(match self.path.file_name() {
            Some(name) => format!(".gone-{}", name.to_string_lossy()),
            None => return Ok(()),
        });
        match fs::rename(&self.path, &gone) {
            Ok(()) => {
                crash::place(Place::JobUnnamed);
                fs::remove_dir_all(&gone)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Lists the jobs' directories, by name; and clears away what an interrupted creation or
/// removal left.
pub fn list(state_dir: &Path) -> Result<Vec<JobDir>, Unreadable> {
    let all = all(state_dir);
    let entries = match fs::read_dir(&all) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(at(all)(error)),
    };
    let mut jobs = Vec::new();
    for entry in entries {
        let job = JobDir::at(entry.map_err(at(&all))?.path());
        if job.id().is_some() {
            jobs.push(job);
        } else if job.path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.')) {
            let _ = fs::remove_dir_all(&job.path);
        }
    }
    jobs.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(jobs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::job::{DeploymentId, JobKind, Target};
    use crate::core::policy::Operation;
    use crate::core::types::Wall;

    const SOON: Mono = Mono::from_millis(5_000);

    fn ordered(state_dir: &Path) -> (JobDir, Order, BootId) {
        let commit = "0123456789abcdef0123456789abcdef01234567".parse().unwrap();
        let now = Wall::from_millis(0);
        let boot = BootId("boot".into());
        let order = Order {
            deployment: DeploymentId::new(now, commit, 1),
            target: Target {
                commit,
                branch: "release".into(),
                remote: "origin".into(),
                operation: Operation::Switch,
                first_seen: now,
            },
            attempt: 1,
            started: now,
            recipe: "flake".into(),
            boot_id: boot.clone(),
            ordered: Mono::from_millis(0),
        };
        let id = JobId { kind: JobKind::Realise, deployment: order.deployment.clone() };
        (JobDir::create(state_dir, &id, &order).unwrap(), order, boot)
    }

    #[test]
    fn a_lock_that_was_made_and_not_taken_yet_is_of_a_job_that_starts() {
        let state = tempfile::tempdir().unwrap();
        let (dir, order, boot) = ordered(state.path());
        assert_eq!(dir.life(&order, &boot, None, SOON), Life::Starting);
        File::create(dir.file(JobFile::Lock)).unwrap();
        assert_eq!(dir.life(&order, &boot, None, SOON), Life::Starting);
        let lock = dir.lock().unwrap().unwrap();
        assert_eq!(dir.life(&order, &boot, None, SOON), Life::Running);
        drop(lock);
        assert_eq!(dir.life(&order, &boot, None, SOON), Life::Ended);
    }

    #[test]
    fn a_job_that_never_began_is_told_from_one_that_was_killed_or_could_not_write() {
        let state = tempfile::tempdir().unwrap();
        let (dir, _, _) = ordered(state.path());
        assert_eq!(dir.remains(), Remains::NotBegun);
        // Made, and died before it took it.
        File::create(dir.file(JobFile::Lock)).unwrap();
        assert_eq!(dir.remains(), Remains::NotBegun);
        let mut lock = dir.lock().unwrap().unwrap();
        assert_eq!(dir.remains(), Remains::Begun);
        let full = io::Error::from(rustix::io::Errno::NOSPC);
        dir.leave_word(&mut lock, &full);
        assert_eq!(dir.remains(), Remains::Unwritten(full.to_string()));
    }

    #[test]
    fn a_resumed_job_with_an_outcome_has_ended() {
        let state = tempfile::tempdir().unwrap();
        let (dir, order, boot) = ordered(state.path());
        drop(dir.lock().unwrap().unwrap());
        let resumed = Some(Mono::from_millis(4_000));
        assert_eq!(dir.life(&order, &boot, resumed, SOON), Life::Starting);
        dir.write(JobFile::Outcome, &1, Durability::Passing).unwrap();
        assert_eq!(dir.life(&order, &boot, resumed, SOON), Life::Ended);
    }
}
