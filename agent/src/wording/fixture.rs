//! A host that the tests of every face show.

use super::text::Clock;
use crate::core::job::{DeploymentId, Ending, Stages};
use crate::core::memory::Entry;
use crate::core::policy::Operation;
use crate::core::status::{
    AgentView, BlindView, BootView, Desired, GoodView, Next, RemoteView, RunningView, State, Status,
};
use crate::core::types::{Commit, StorePath, Wall};
use crate::core::unseen::{Part, Unseen};

pub(crate) const NOW: Wall = Wall::from_millis(1_767_276_120_000);
pub(crate) fn at() -> Clock {
    Clock { now: NOW, zone: crate::windows::TimeZone::UTC }
}

pub(crate) fn commit(n: u8) -> Commit {
    Commit::from_bytes([n.wrapping_mul(0x1b); 20])
}

pub(crate) fn system(n: u8) -> StorePath {
    let digit = char::from(b'0' + n % 10);
    let hash: String = std::iter::repeat_n(digit, 32).collect();
    format!("/nix/store/{hash}-nixos-system-joker-25.11").parse().unwrap()
}

pub(crate) fn before(seconds: i64) -> Wall {
    Wall::from_millis(NOW.as_millis() - seconds * 1000)
}

pub(crate) fn entry(n: u8, verdict: Ending, cause: Option<&str>, ago: i64) -> Entry {
    Entry {
        id: DeploymentId::new(before(ago + 34), commit(n), 1),
        commit: commit(n),
        system: Some(system(n)),
        previous: None,
        operation: Operation::Switch,
        verdict,
        cause: cause.map(str::to_owned),
        why: None,
        fault: None,
        started: before(ago + 34),
        ended: before(ago),
        stages: Stages { realise: Some(30_000), activate: Some(3_500), ..Stages::default() },
        checks: Vec::new(),
    }
}

/// Status of a host on which all is well, with commit 1.
pub(crate) fn well() -> Status {
    Status {
        version: 1,
        hostname: "joker".into(),
        state: State::UpToDate,
        reason: format!("{} runs and was verified", commit(1).short()),
        next: Some(Next { action: "poll".into(), at: before(-20) }),
        desired: Some(desired(1)),
        running: RunningView {
            specialisation: None,
            commit: Some(commit(1)),
            system: Some(system(1)),
            revision: Some(commit(1).to_string()),
            since: Some(before(200)),
            drift: false,
        },
        boot: BootView {
            default: Some(system(1)),
            commit: Some(commit(1)),
            booted: Some(system(0)),
            reboot_required: false,
            why: None,
        },
        last_good: Some(GoodView { commit: Some(commit(1)), system: system(1) }),
        deployment: None,
        blind: None,
        held: None,
        lift: None,
        suspended: None,
        gate: None,
        remotes: vec![RemoteView {
            name: "origin".into(),
            reachable: true,
            last_success: Some(before(10)),
            head: Some(commit(1)),
            error: None,
        }],
        publish: None,
        quarantine: Vec::new(),
        last_deployment: Some(entry(1, Ending::Good, None, 200)),
        notes: Vec::new(),
        agent: AgentView { version: "0.1.0".into(), started: before(7_200), unconfined: None },
    }
}

/// Status of the same host, when the system that it runs cannot be looked at.
pub(crate) fn blind() -> Status {
    let unseen = Unseen {
        part: Part::Running,
        path: "/run/current-system".into(),
        errno: Some(5),
        error: "Input/output error (os error 5)".into(),
    };
    let since = before(600);
    let lift = unseen.lift().to_owned();
    let mut status = well();
    status.state = State::Blind;
    status.reason = format!(
        "this host cannot be looked at: {unseen}, since {since}; the remotes are asked, nothing \
         else is done"
    );
    (status.running.system, status.running.commit) = (None, None);
    status.next = Some(Next { action: "look".into(), at: before(-5) });
    status.lift = Some(lift.clone().into());
    status.blind = Some(BlindView { unseen, since, lift, more: Vec::new() });
    status
}

pub(crate) fn desired(n: u8) -> Desired {
    Desired {
        commit: commit(n),
        source: commit(n),
        branch: "release".into(),
        remote: "origin".into(),
        operation: Operation::Switch,
        system: Some(system(n)),
        first_seen: before(300),
    }
}
