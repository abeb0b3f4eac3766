//! The points at which tests kill this program ([`fort_sys::crash`]).
//!
//! Every step of the loop, every act of the guardian, every phase of a realise job,
//! every file that agent and jobs write. They are enumerated ([`all`]); a step or act
//! that is not in its list does not compile.

use fort_sys::crash::{Passing, pass};

use crate::core::decide::Step;
use crate::core::guardian::Act;
use crate::nix::Phase;

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

/// Places in the code that are neither steps, acts, phases nor files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A job's directory has its name.
    JobMade,
    /// The directory has lost its name, and is about to be removed.
    JobUnnamed,
    /// The guardian can be found by the next agent.
    HandedOver,
    /// The commit's tree is there.
    Exported,
    /// Nix has ended, and the outcome is still to be written.
    Realised,
}

names!(PLACES, place_name: Place { JobMade JobUnnamed HandedOver Exported Realised });

/// Process that passes each place.
const OF_PLACES: [(&str, Place); 5] = [
    ("agent", Place::JobMade),
    ("agent", Place::JobUnnamed),
    ("switch", Place::HandedOver),
    ("realise", Place::Exported),
    ("realise", Place::Realised),
];

/// Files that each process writes.
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

/// Lists all points, each as `PROCESS POINT`.
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

/// Marks the beginning and end of a step of the loop.
pub fn step(step: &Step) -> Passing {
    Passing::begin("step", step_name(step))
}

/// Marks the beginning and end of an act of the guardian.
pub fn act(act: &Act) -> Passing {
    Passing::begin("act", act_name(act))
}

/// Marks that Nix is in this phase.
pub fn phase(phase: &Phase) {
    pass(|| format!("phase {}", phase_name(phase)));
}

/// Marks that the process is at this place.
pub fn place(place: Place) {
    pass(|| format!("place {}", place_name(&place)));
}
