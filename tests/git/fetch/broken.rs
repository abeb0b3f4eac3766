//! Fetches that a forge breaks off or refuses.

use super::*;

/// A fault during a first clone and during a later fetch: the same error,
/// nothing left, and it works afterwards.
fn fetched_with(fault: &Fault) -> FetchError {
    let host = Host::new();
    host.forge.fault(fault.clone());
    let mut request = host.request(&["main"]);
    request.remote.timeout = Duration::from_millis(700);
    let first = run(&request).unwrap_err();
    assert!(files(host.dir.path()).iter().all(|f| ends(f, "lock")), "no half-made clone");
    host.forge.fault(Fault::None);
    let before = host.fetch(&["main"]).unwrap();
    let refs = git(&host.clone(), 0, &["for-each-ref"]);

    let next = host.repo.work.write("more", bulk(9)).commit("more");
    host.repo.work.push("main");
    host.forge.fault(fault.clone());
    let later = run(&request).unwrap_err();
    assert_eq!(std::mem::discriminant(&first), std::mem::discriminant(&later));
    let told = format!("{first}{first:?}{later}{later:?}");
    assert!(!told.contains(TOKEN) && !later.to_string().contains('\n'), "{told}");
    println!("{first}\n{later}");
    host.assert_nothing_is_left_behind();
    assert_eq!(git(&host.clone(), 0, &["for-each-ref"]), refs);

    host.forge.fault(Fault::None);
    let reply = host.fetch(&["main"]).unwrap();
    assert_eq!((reply.heads["main"], reply.recloned), (next, false), "the clone was not blamed");
    assert_ne!(before.heads["main"], next);
    host.fsck();
    first
}

#[test]
fn a_truncated_pack_leaves_nothing_behind() {
    let error = fetched_with(&Fault::TruncatedPack);
    assert!(matches!(error, FetchError::Remote(PollError::Protocol(_))), "{error:?}");
}

#[test]
fn a_corrupted_pack_leaves_nothing_behind() {
    let error = fetched_with(&Fault::CorruptedPack);
    assert!(matches!(error, FetchError::Remote(PollError::Protocol(_))), "{error:?}");
}

#[test]
fn a_connection_cut_in_a_pack_is_unreachable() {
    let error = fetched_with(&Fault::CutPack);
    assert!(matches!(error, FetchError::Remote(PollError::Unreachable(_))), "{error:?}");
}

#[test]
fn silence_in_a_pack_is_stalled() {
    let error = fetched_with(&Fault::HangInPack);
    assert!(matches!(error, FetchError::Remote(PollError::Stalled { .. })), "{error:?}");
}

#[test]
fn a_refused_token_is_told_as_when_polling() {
    let error = fetched_with(&Fault::Status(401));
    assert!(matches!(error, FetchError::Remote(PollError::Unauthorized { .. })), "{error:?}");
}

#[test]
fn a_missing_token_is_told_as_when_polling() {
    let host = Host::new();
    std::fs::remove_file(host.forge.token_file()).unwrap();
    let error = host.fetch(&["main"]).unwrap_err();
    assert!(matches!(error, FetchError::Remote(PollError::NoToken { .. })), "{error:?}");
}
