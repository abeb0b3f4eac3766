//! The points at which agent and jobs can be killed (`fort_agent::crash`): which
//! were passed, and where the next one is to die.

use std::path::PathBuf;
use std::time::SystemTime;

use super::Rig;

impl Rig {
    fn crash_dir(&self) -> PathBuf {
        self.store.dir().join("crash")
    }

    /// From the next start on the points that are passed are written down.
    pub(crate) fn record_points(&self) {
        std::fs::create_dir_all(self.crash_dir()).unwrap();
    }

    pub(super) fn crash_environment(&self) -> Option<(&'static str, PathBuf)> {
        let directory = self.crash_dir();
        directory.is_dir().then_some(("FORT_AGENT_CRASH", directory))
    }

    /// Crash points that were passed since they were last forgotten, in their order:
    /// each as `PROCESS POINT`.
    pub(crate) fn passed(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.crash_dir().join("passed")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub(crate) fn forget_passed(&self) {
        std::fs::write(self.crash_dir().join("passed"), "").unwrap();
    }

    /// The process that passes this point for the `nth` time dies there.
    pub(crate) fn kill_at(&self, point: &str, nth: usize) {
        // Whole or not at all: it is read at every point.
        let (beside, kill) = (self.crash_dir().join("kill.new"), self.crash_dir().join("kill"));
        std::fs::write(&beside, format!("{nth} {point}")).unwrap();
        std::fs::rename(beside, kill).unwrap();
    }

    /// Whether somebody is still to die.
    pub(crate) fn kill_pending(&self) -> bool {
        self.crash_dir().join("kill").exists()
    }

    /// Nobody is to die any more.
    pub(crate) fn kill_nobody(&self) {
        let _ = std::fs::remove_file(self.crash_dir().join("kill"));
    }

    /// When the agent last wrote down something new.
    pub(crate) fn written(&self) -> [Option<SystemTime>; 2] {
        ["journal.json", "status.json"].map(|file| {
            std::fs::metadata(self.state().join(file)).and_then(|file| file.modified()).ok()
        })
    }

    /// Starts the agent again if it has died.
    pub(crate) fn revive(&mut self) {
        if !self.lives() {
            self.start();
        }
    }

    /// Waits until the agent has died by itself.
    pub(crate) fn wait_dead(&mut self) {
        let began = std::time::Instant::now();
        while self.lives() {
            assert!(began.elapsed() < super::LONG, "it lives on");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    pub(crate) fn lives(&mut self) -> bool {
        self.agent.as_mut().is_some_and(|agent| agent.try_wait().unwrap().is_none())
    }
}
