//! Where tests kill this program.
//!
//! A *point* is a moment at which the host, or what is on disk, has just become
//! different, or is about to: every step of the loop, every act of the guardian,
//! every phase of a realise job, every file that agent and jobs write. They are
//! enumerated ([`all`]); a step or act that is not in its list does not compile.
//!
//! Only in builds with debug assertions: what is shipped contains none of it.
//! There `FORT_AGENT_CRASH` names a directory. Each point that is passed becomes
//! a line `PROCESS POINT` of its file `passed`; and the process that has written
//! the line for the Nth time that the file `kill` asks for (`N PROCESS POINT`)
//! removes that file and kills itself.

use std::path::Path;

use crate::core::decide::Step;
use crate::core::guardian::Act;
use crate::nix::Phase;

/// What jobs get of the agent's environment for it.
pub const HANDED_ON: &[&str] = if cfg!(debug_assertions) { &["FORT_AGENT_CRASH"] } else { &[] };

/// The names of an enum's variants, once for all and once for each value.
macro_rules! names {
    ($all:ident, $name:ident: $of:ident { $($variant:ident)* }) => {
        const $all: &[&str] = &[$(stringify!($variant)),*];

        fn $name(value: &$of) -> &'static str {
            match value {
                $($of::$variant { .. } => stringify!($variant),)*
            }
        }
    };
}

names!(STEPS, step_name: Step {
    Wait Poll Compare Follow KeepRoots StartRealise StopJob RemoveJob StartSwitch StartPublish ResumeSwitch
    RunChecks Preflight Look Disarm LookAgainstReboot Reboot WriteVerdict Settle
    AskToConfirm GiveUp
});

names!(ACTS, act_name: Act {
    Note FreeLock Activate AwaitVerdict Pause LookAgain SetProfile WriteBoot ActivateOld RestartBus
    ReviveOld StartUnits EndUnits Reboot RestoreProfile WriteOldBoot SetOneshot ReturnProfile Finish
});

names!(PHASES, phase_name: Phase { Evaluating Fetching Building });

/// Places that are none of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A job's directory has its name.
    JobMade,
    /// It has lost it, and is about to be removed.
    JobUnnamed,
    /// The guardian can be found by the next agent.
    HandedOver,
    /// The commit's tree is there.
    Exported,
    /// Nix has ended.
    Realised,
}

names!(PLACES, place_name: Place { JobMade JobUnnamed HandedOver Exported Realised });

/// Who passes a place.
const OF_PLACES: [(&str, Place); 5] = [
    ("agent", Place::JobMade),
    ("agent", Place::JobUnnamed),
    ("switch", Place::HandedOver),
    ("realise", Place::Exported),
    ("realise", Place::Realised),
];

/// Who writes which file.
const FILES: [(&str, &[&str]); 4] = [
    (
        "agent",
        &[
            "accepted.json",
            "journal.json",
            "status.json",
            "spec.json",
            "memory.json",
            "baseline.json",
            "verdict.json",
            "failed-when-good.json",
        ],
    ),
    ("realise", &["progress.json", "outcome.json"]),
    ("switch", &["progress.json", "outcome.json"]),
    ("publish", &["progress.json", "outcome.json"]),
];

/// All points, each as `PROCESS POINT`.
pub fn all() -> Vec<String> {
    let around = |process: &'static str, kind: &'static str, names: &'static [&'static str]| {
        let moments = ["before", "after"].into_iter();
        moments.flat_map(move |moment| {
            names.iter().map(move |name| format!("{process} {moment} {kind} {name}"))
        })
    };
    let files = FILES.iter().flat_map(|(process, files)| {
        files.iter().map(move |file| format!("{process} wrote {file}"))
    });
    debug_assert_eq!(PLACES.len(), OF_PLACES.len(), "every place has its process");
    around("agent", "step", STEPS)
        .chain(around("switch", "act", ACTS))
        .chain(PHASES.iter().map(|phase| format!("realise phase {phase}")))
        .chain(OF_PLACES.iter().map(|(who, place)| format!("{who} place {}", place_name(place))))
        .chain(files)
        .collect()
}

/// Something that is being done: one point where it begins, one where it ends.
#[must_use = "it ends where this is dropped"]
#[derive(Debug)]
pub struct Passing {
    kind: &'static str,
    name: &'static str,
}

impl Passing {
    fn begin(kind: &'static str, name: &'static str) -> Self {
        pass(|| format!("before {kind} {name}"));
        Self { kind, name }
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        pass(|| format!("after {} {}", self.kind, self.name));
    }
}

/// A step of the loop begins.
pub fn step(step: &Step) -> Passing {
    Passing::begin("step", step_name(step))
}

/// An act of the guardian begins.
pub fn act(act: &Act) -> Passing {
    Passing::begin("act", act_name(act))
}

/// Nix is in this phase.
pub fn phase(phase: &Phase) {
    pass(|| format!("phase {}", phase_name(phase)));
}

/// The process is at this place.
pub fn place(place: Place) {
    pass(|| format!("place {}", place_name(&place)));
}

/// A file was written.
pub fn wrote(path: &Path) {
    pass(|| format!("wrote {}", path.file_name().unwrap_or_default().to_string_lossy()));
}

#[cfg(not(debug_assertions))]
#[inline(always)]
fn pass(_point: impl FnOnce() -> String) {}

#[cfg(debug_assertions)]
fn pass(point: impl FnOnce() -> String) {
    use std::sync::OnceLock;
    static ASKED: OnceLock<Option<std::path::PathBuf>> = OnceLock::new();
    let asked = ASKED.get_or_init(|| std::env::var_os(HANDED_ON.first()?).map(Into::into));
    if let Some(directory) = asked
        && let Err(error) = pass_in(directory, &format!("{} {}\n", process(), point()))
    {
        tracing::error!("a point could not be recorded: {error}");
    }
}

#[cfg(debug_assertions)]
fn pass_in(directory: &Path, line: &str) -> std::io::Result<()> {
    use std::fs;
    use std::io::Write as _;
    let passed = directory.join("passed");
    let mut file = fs::OpenOptions::new().append(true).create(true).open(&passed)?;
    file.write_all(line.as_bytes())?;
    let kill = directory.join("kill");
    let wanted = fs::read_to_string(&kill).unwrap_or_default();
    let Some((nth, point)) = wanted.split_once(' ') else { return Ok(()) };
    let times = || {
        let passed = fs::read_to_string(&passed).unwrap_or_default();
        passed.lines().filter(|passed| *passed == line.trim_end()).count().to_string()
    };
    if point.trim_end() == line.trim_end() && times() == nth {
        fs::remove_file(&kill)?;
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)?;
    }
    Ok(())
}

/// `agent`, or the kind of job that this process is.
#[cfg(debug_assertions)]
fn process() -> String {
    let mut words = std::env::args().skip_while(|word| word != "job").skip(1);
    words.next().unwrap_or_else(|| "agent".into())
}
