//! Stalls: every cause that keeps a host from what it should run is named, by every
//! channel alike, with what lifts it; and doing just that lifts it.
//!
//! Each stall is brought about for real; those that need a whole host in
//! vm-tests/stalls.rs. `docs/operations.md` has a row for
//! each by the name that it has here.

use self::play::play;
use crate::support::pages::get;
use crate::support::rig::Rig;
use crate::support::sshd::free_port;
use crate::support::told::ON_WHOLE_HOSTS;

mod besides;
mod blind;
mod boots;
mod disk;
mod gates;
mod heads;
mod play;
mod remotes;
mod switches;
mod systems;

/// The table: a test for each stall, in its part.
macro_rules! stalls {
    ($($part:ident: $($name:ident)*;)*) => {
        /// As in the manual: with hyphens.
        const NAMES: &[&str] = &[$($(stringify!($name)),*),*];

        mod stall {
            $($(
                #[test]
                fn $name() {
                    super::play(stringify!($name), &super::$part::$name());
                }
            )*)*
        }
    };
}

stalls! {
    remotes: unreachable silent token_absent token_refused forbidden no_repository forge_broken
        not_git forge_says redirected tls_untrusted name_unknown pack_damaged mirror_stale;
    heads: force_push rewind branch_missing no_such_host lock_incomplete
        testing_stale testing_undone;
    systems: evaluation_error evaluator_refused build_failure build_timeout nix_settings
        no_builder no_room boot_full closure_lost machine_id;
    switches: exit_code switch_refuses switch_hangs check_fails quarantined rolled_back_by_hand
        lock_stuck rollback_failed drift;
    disk: state_full journal_unwritable pack_too_large tree_too_large;
    boots: inhibited bus_changed reboot_required;
    gates: confirmation window suspended;
    besides: publish_refused publish_unreachable hook_fails report_fails configuration_wrong
        journal_newer;
    blind: jobs_unreadable descriptors profile_odd inotify;
}

/// Stalls that leave channels without an answer, and so have a test of their own.
const OTHERS: &[&str] = &["port_busy", "agent_absent"];

#[test]
fn the_manual_has_every_cause() {
    let manual = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
    let manual = std::fs::read_to_string(manual).unwrap();
    let row = |name: &str| format!("| `{}` |", name.replace('_', "-"));
    let names = NAMES.iter().chain(OTHERS).chain(ON_WHOLE_HOSTS);
    let missing: Vec<_> = names.clone().filter(|name| !manual.contains(&row(name))).collect();
    assert!(missing.is_empty(), "docs/operations.md has no row for {missing:?}");
    assert!(NAMES.len() >= 30, "{}", NAMES.len());
    // Nor one for what is none any more.
    let (_, table) = manual.split_once("## Every cause").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(rows, names.count());
}

#[test]
fn a_port_that_is_busy_is_named_where_it_can_be() {
    let pages = free_port();
    let busy = std::net::TcpListener::bind(pages).unwrap();
    let (rig, one) = Rig::deployed_with(|rig| {
        rig.settings.sections = format!("[metrics]\nlisten = \"{pages}\"\n");
    });
    let said = format!("{pages} cannot be listened on, tried again");
    rig.wait("a note", |status| status["notes"].to_string().contains(&said));
    for channel in [rig.tell(&["status"]).1, rig.tell(&["explain"]).1, rig.log()] {
        let channel = channel.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(channel.contains(&said), "{channel}");
    }
    drop(busy);
    rig.wait("it is had", |status| status["notes"] == serde_json::json!([]));
    assert_eq!(get(pages, "/healthz").unwrap().0, 200);
    rig.wait_in_sync(one);
}

#[test]
fn an_agent_that_is_gone_is_named_with_what_it_last_said() {
    let (mut rig, one) = Rig::deployed();
    rig.delete_branch("release");
    rig.wait_held("branch-missing");
    rig.kill();
    let (code, said) = rig.tell(&["status"]);
    assert_eq!(code, 3, "{said}");
    for words in ["the agent does not answer", "branch release", "push a branch release"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let (code, said) = rig.tell(&["explain"]);
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("the agent does not answer on "), "{said}");
    rig.push_head("release");
    rig.start();
    rig.wait_in_sync(one);
}
