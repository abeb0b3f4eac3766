//! The kill matrix: agent and jobs are killed at every step, every act and after
//! every file that they write, and the host still ends where it should, with the
//! right history.
//!
//! The points come from the program itself (`fort_agent::crash`). A story is
//! played once to see which points it passes, and then once for each of them,
//! with a death there. A point at which no story dies fails the last test.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use fort_agent::crash;

mod plays;
mod stage;
mod stories;

use self::stage::Stage;
use self::stories::{STORIES, Story};

/// Points that no story can pass, and why.
const OUT_OF_REACH: [(&str, &str); 17] = [
    ("agent wrote baseline.json", "runner systemd: vm-tests"),
    ("agent wrote failed-when-good.json", "runner systemd: vm-tests"),
    ("agent before step LookAgainstReboot", "runner systemd: vm-tests/reboots.rs"),
    ("agent after step LookAgainstReboot", "runner systemd: vm-tests/reboots.rs"),
    ("agent before step Reboot", "runner systemd: vm-tests/reboots.rs"),
    ("agent after step Reboot", "runner systemd: vm-tests/reboots.rs"),
    ("switch before act RestartBus", "runner systemd: vm-tests"),
    ("switch after act RestartBus", "runner systemd: vm-tests"),
    ("switch before act StartUnits", "runner systemd: vm-tests"),
    ("switch after act StartUnits", "runner systemd: vm-tests"),
    ("switch before act EndUnits", "runner systemd: vm-tests/broken_switch.rs"),
    ("switch after act EndUnits", "runner systemd: vm-tests/broken_switch.rs"),
    ("switch before act Reboot", "reboots by systemd: vm-tests"),
    ("switch after act Reboot", "reboots by systemd: vm-tests"),
    ("switch before act LookAgain", "it only waits: simulation, core/tests/blind.rs"),
    ("switch after act LookAgain", "it only waits: simulation, core/tests/blind.rs"),
    ("realise phase Fetching", "the stories have no binary cache; it only reads"),
];

/// A point may be passed once more or less, as events happen to coincide.
const TRIES: usize = 3;

/// Plays a story with a death at each of its points that are of a process.
fn play_all(story: &Story, process: &str) {
    let mut stage = Stage::of(story);
    let points = deaths(story, &mut stage);
    let mut played = 0;
    for (point, times) in points.iter().filter(|(point, _)| point.starts_with(process)) {
        for nth in 1..=*times {
            let began = Instant::now();
            let died = (0..TRIES).any(|_| stage.play_with_death(story, point, nth));
            // Only the first time is certain to come.
            assert!(died || nth > 1, "{}: nobody passed {point:?}", story.name);
            played += 1;
            let (name, took) = (story.name, began.elapsed());
            eprintln!("{name}: {point} ({nth}){} {took:.1?}", if died { "" } else { " MISSED" });
        }
    }
    assert!(played > 0, "{}: {process} passes nothing", story.name);
}

/// The points of a story that are worth a death, and how often each.
fn deaths(story: &Story, stage: &mut Stage) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::<String, usize>::new();
    for point in stage.play(story) {
        *counts.entry(point).or_default() += 1;
    }
    counts.retain(|point, times| {
        *times = (story.deaths)(point).min(*times);
        *times > 0
    });
    counts
}

macro_rules! matrix {
    ($($test:ident: $story:ident, $process:literal;)*) => {$(
        #[test]
        fn $test() {
            play_all(&stories::$story, $process);
        }
    )*};
}

matrix! {
    the_agent_dies_during_a_good_deployment: GOOD, "agent";
    the_guardian_dies_during_a_good_deployment: GOOD, "switch";
    the_build_dies_during_a_good_deployment: GOOD, "realise";
    the_agent_dies_while_a_commit_waits_to_be_confirmed: CONFIRMED, "agent";
    the_agent_dies_while_a_person_goes_back: ROLLED_BACK, "agent";
    the_guardian_dies_while_a_person_goes_back: ROLLED_BACK, "switch";
    the_agent_dies_while_a_bad_system_is_put_back: BAD, "agent";
    the_guardian_dies_while_a_bad_system_is_put_back: BAD, "switch";
    the_agent_dies_around_a_deferred_boot: DEFERRED, "agent";
    the_guardian_dies_around_a_deferred_boot: DEFERRED, "switch";
    the_agent_dies_around_what_is_booted_once: BOOTED_ONCE, "agent";
    the_guardian_dies_around_what_is_booted_once: BOOTED_ONCE, "switch";
    the_agent_dies_around_what_does_not_come_up: DID_NOT_COME_UP, "agent";
    the_guardian_dies_around_what_does_not_come_up: DID_NOT_COME_UP, "switch";
    the_agent_dies_while_what_was_to_be_booted_once_is_not: NOT_BOOTED_AFTER_ALL, "agent";
    the_guardian_dies_while_the_default_is_put_back: NO_BOOT_LOADER, "switch";
    the_guardian_dies_on_the_ladder: LADDER, "switch";
    the_agent_dies_while_a_guardian_is_resumed: RESUMED, "agent";
    the_agent_dies_while_a_build_is_cancelled: CANCELLED, "agent";
    the_build_dies_while_it_is_cancelled: CANCELLED, "realise";
    the_agent_dies_where_nothing_is_to_be_activated: SAME, "agent";
    the_agent_dies_where_a_quarantined_system_comes_again: GIVEN_UP, "agent";
    the_agent_dies_when_it_has_just_started: RESTARTED, "agent";
    the_agent_dies_while_a_system_is_tried: TRIED, "agent";
    the_guardian_dies_while_a_system_is_tried: TRIED, "switch";
    the_agent_dies_while_it_compares: STALE_MIRROR, "agent";
    the_agent_dies_with_another_hand_at_work: DRIFT, "agent";
    the_guardian_dies_with_another_hand_at_work: TAKEN_OVER, "switch";
    the_agent_dies_around_a_publication: PUBLISHED, "agent";
    the_publication_dies: PUBLISHED, "publish";
}

#[test]
fn there_is_a_death_at_every_point() {
    let all: BTreeSet<String> = crash::all().into_iter().collect();
    let mut died = BTreeSet::new();
    for story in STORIES {
        let mut stage = Stage::of(story);
        died.extend(deaths(story, &mut stage).into_keys());
        let passed: BTreeSet<String> = stage.all_passed().into_iter().collect();
        let unknown: Vec<_> = passed.difference(&all).collect();
        assert!(unknown.is_empty(), "{}: not in crash::all(): {unknown:?}", story.name);
    }
    let excused: BTreeSet<String> = OUT_OF_REACH.map(|(point, _)| point.to_owned()).into();
    let missing: Vec<_> = all.difference(&died).filter(|point| !excused.contains(*point)).collect();
    assert!(missing.is_empty(), "nobody dies here: {missing:#?}");
    let stale: Vec<_> = excused.iter().filter(|e| died.contains(*e) || !all.contains(*e)).collect();
    assert!(stale.is_empty(), "not out of reach: {stale:#?}");
}
