//! Builds that are under way, called off or too slow.

use super::*;

#[test]
fn progress_is_told_while_it_builds() {
    let mut host = Host::new("one");
    host.parts = 4;
    let (bench, commit) = Bench::of(&host);
    let mut seen: Vec<Progress> = Vec::new();
    built(block(realise(&bench.spec(commit), None, |progress| seen.push(progress), pending())));
    assert_eq!(seen[0], Progress::default());
    let building = seen.iter().filter(|p| p.phase == Phase::Building);
    assert_eq!(building.clone().map(|p| p.to_build).max(), Some(5));
    assert_eq!(building.clone().map(|p| p.built).max(), Some(5));
    assert!(building.clone().any(|p| p.current.as_deref() == Some("system-joker")));
    assert!(seen.windows(2).all(|two| two[0] != two[1]));
}

pub(super) fn slow(mark: &str) -> (Bench, Commit) {
    let mut host = Host::new("slow");
    host.build_seconds = 300;
    host.mark = mark.into();
    Bench::of(&host)
}

pub(super) fn cancelled_while_building(spec: &RealiseSpec, mark: &str) -> RealiseOutcome {
    let (begun, seen) = tokio::sync::oneshot::channel::<()>();
    let mut begun = Some(begun);
    block(realise(
        spec,
        None,
        |progress| {
            let builds = progress.current.as_deref() == Some("system-joker");
            if builds && let Some(begun) = begun.take() {
                eventually("a builder runs", || !processes_with(mark).is_empty());
                begun.send(()).unwrap();
            }
        },
        async { seen.await.unwrap_or_default() },
    ))
}

#[test]
fn a_cancelled_build_leaves_no_builder() {
    let mark = "cancelled-build-c2a1";
    let (bench, commit) = slow(mark);
    let spec = bench.spec(commit);
    let outcome = cancelled_while_building(&spec, mark);
    assert_eq!(outcome, RealiseOutcome::Cancelled);
    assert_eq!(processes_with(mark), Vec::<u32>::new());
    assert_eq!(roots::kept(&spec.out_link).unwrap(), None);
}

#[test]
fn a_build_that_takes_too_long_is_stopped() {
    let mark = "late-build-77d0";
    let (bench, commit) = slow(mark);
    let spec = RealiseSpec { timeout: Duration::from_secs(3), ..bench.spec(commit) };
    let mut begun = false;
    let note = |progress: Progress| begun |= progress.current.is_some();
    assert_eq!(block(realise(&spec, None, note, pending())), RealiseOutcome::TimedOut);
    assert!(begun);
    assert_eq!(processes_with(mark), Vec::<u32>::new());
}
