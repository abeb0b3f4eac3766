//! A work tree from which tests commit and push. git runs with an environment
//! of its own: no configuration of the machine's, one author, times that go up
//! by a second with each commit, so that ids are the same in every run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicI64, Ordering};

use fort_agent::core::types::Commit;

/// When the first commit of every work tree is made.
pub(crate) const EPOCH: i64 = 1_750_000_000;

/// A work tree whose pushes go to one repository.
pub(crate) struct Work {
    dir: PathBuf,
    time: AtomicI64,
}

impl Work {
    pub(crate) fn create(dir: &Path, origin: &Path) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        git(dir, 0, &["init", "--quiet", "-b", "main"]);
        git(dir, 0, &["remote", "add", "origin", origin.to_str().unwrap()]);
        Self { dir: dir.to_owned(), time: AtomicI64::new(EPOCH) }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn write(&self, path: &str, text: impl AsRef<[u8]>) -> &Self {
        let path = self.dir.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    pub(crate) fn executable(&self, path: &str) -> &Self {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(self.dir.join(path), mode).unwrap();
        self
    }

    pub(crate) fn symlink(&self, target: &str, path: &str) -> &Self {
        std::os::unix::fs::symlink(target, self.dir.join(path)).unwrap();
        self
    }

    /// A file or a directory.
    pub(crate) fn remove(&self, path: &str) -> &Self {
        let path = self.dir.join(path);
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap();
        } else {
            std::fs::remove_file(path).unwrap();
        }
        self
    }

    /// Commits everything there is, or nothing new.
    pub(crate) fn commit(&self, message: &str) -> Commit {
        self.git(&["add", "--all", "--force"]);
        self.git(&["commit", "--quiet", "--allow-empty", "-m", message]);
        self.head()
    }

    pub(crate) fn head(&self) -> Commit {
        self.git(&["rev-parse", "HEAD"]).parse().unwrap()
    }

    /// Moves here and now to any commit; the tree follows.
    pub(crate) fn reset(&self, to: Commit) {
        self.git(&["reset", "--quiet", "--hard", &to.to_string()]);
    }

    pub(crate) fn push(&self, branch: &str) {
        self.git(&["push", "--quiet", "origin", &format!("HEAD:refs/heads/{branch}")]);
    }

    pub(crate) fn force_push(&self, branch: &str) {
        self.git(&["push", "--quiet", "origin", &format!("+HEAD:refs/heads/{branch}")]);
    }

    pub(crate) fn delete_branch(&self, branch: &str) {
        self.git(&["push", "--quiet", "origin", &format!(":refs/heads/{branch}")]);
    }

    /// Runs git here and returns what it said, without the last newline.
    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        git(&self.dir, self.time.fetch_add(1, Ordering::SeqCst), arguments)
    }
}

/// Runs git with nothing of the machine's; `time` is the author's clock.
pub(crate) fn git(dir: &Path, time: i64, arguments: &[&str]) -> String {
    let output = hermetic(dir, time).args(arguments).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {arguments:?} in {}: {stderr}", dir.display());
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// A git command for what [`git`] does not fit.
pub(crate) fn hermetic(dir: &Path, time: i64) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(dir)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("LANG", "C.UTF-8")
        .env("HOME", dir)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .envs([("GIT_AUTHOR_NAME", "Ann"), ("GIT_COMMITTER_NAME", "Ann")])
        .envs([("GIT_AUTHOR_EMAIL", "a@b.c"), ("GIT_COMMITTER_EMAIL", "a@b.c")])
        .env("GIT_AUTHOR_DATE", format!("{time} +0000"))
        .env("GIT_COMMITTER_DATE", format!("{time} +0000"))
        .stdin(Stdio::null());
    command
}
