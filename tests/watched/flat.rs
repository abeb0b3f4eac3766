//! An agent grows with nothing that it does again and again.

use std::time::Duration;

use crate::support::memory_use::polled;
use crate::support::rig::Rig;

/// As many as fit into the time; `make bench` has a hundred thousand.
const POLLS: u64 = 20_000;
const TIME: Duration = Duration::from_secs(60);
/// KiB. A byte lost with each poll would be 20 of them, an allocation at least
/// 300; the allocator's own coming and going is less.
const GROWTH: u64 = 256;

#[test]
fn memory_files_and_threads_are_flat_over_thousands_of_polls() {
    let (mut rig, _) = Rig::deployed();
    rig.stop();
    let flat = polled(&mut rig, POLLS, TIME);
    eprintln!("{flat:?}");
    assert!(flat.polls > 1_000, "too few polls to tell: {flat:?}");
    let (before, after) = (flat.before, flat.after);
    assert!(after.anon <= before.anon + GROWTH, "{flat:?}");
    assert!(after.rss <= before.rss + GROWTH, "{flat:?}");
    // One more of either may be on its way at the moment.
    assert!(after.files <= before.files + 1, "{flat:?}");
    assert!(after.threads <= before.threads + 1, "{flat:?}");
}
