//! Remotes that give no answer, or a wrong one.

use super::play::{Stage, Stall};
use crate::support::forge::{Fault, Forge, Repo, TOKEN};
use crate::support::rig::settings::remote;
use crate::support::system::Host;

/// Stall in which no remote answers. The status says so after three failed polls
/// running; each remote's error is told with the first.
const SILENCE: Stall = Stall {
    state: "unreachable",
    lift: &["bring network or forge back"],
    polls: 3,
    undo: |stage| {
        stage.rig.forge.fault(Fault::None);
        stage.one
    },
    ..Stall::USUAL
};

fn fault(stage: &Stage, fault: Fault) {
    stage.rig.forge.fault(fault);
}

pub(super) fn unreachable() -> Stall {
    Stall {
        cause: |stage| fault(stage, Fault::Refused),
        words: &["no remote answers", "unreachable:"],
        ..SILENCE
    }
}

pub(super) fn silent() -> Stall {
    Stall {
        settings: |stage| {
            let rig = &mut stage.rig;
            rig.settings.remotes = Some(remote("origin", &rig.forge, &rig.repo, "2s"));
        },
        cause: |stage| fault(stage, Fault::Hang),
        words: &["no remote answers", "no answer within"],
        ..SILENCE
    }
}

pub(super) fn token_absent() -> Stall {
    Stall {
        cause: |stage| std::fs::remove_file(stage.rig.forge.token_file()).unwrap(),
        words: &["waiting for a token", "is absent or empty"],
        undo: |stage| {
            std::fs::write(stage.rig.forge.token_file(), TOKEN).unwrap();
            stage.one
        },
        lift: &["put a valid token there"],
        ..SILENCE
    }
}

pub(super) fn token_refused() -> Stall {
    Stall {
        cause: |stage| stage.rig.forge.accept_token("another-t0ken"),
        words: &["the forge does not accept the token (401)", "put a valid one in"],
        undo: |stage| {
            std::fs::write(stage.rig.forge.token_file(), "another-t0ken").unwrap();
            stage.one
        },
        lift: &["put a valid token there"],
        ..SILENCE
    }
}

pub(super) fn forbidden() -> Stall {
    Stall {
        cause: |stage| fault(stage, Fault::Status(403)),
        words: &["the forge forbids reading", "(403)", "give the token's user access"],
        lift: &["give the token's user access"],
        ..SILENCE
    }
}

pub(super) fn no_repository() -> Stall {
    Stall {
        cause: |stage| fault(stage, Fault::Status(404)),
        words: &["there is no such repository", "(404)", "check the url"],
        lift: &["correct url, or the token's rights"],
        ..SILENCE
    }
}

pub(super) fn forge_broken() -> Stall {
    Stall {
        cause: |stage| fault(stage, Fault::Status(502)),
        words: &["the forge answers with HTTP status 502", "see its log"],
        lift: &["see the forge's log"],
        ..SILENCE
    }
}

pub(super) fn not_git() -> Stall {
    Stall {
        cause: |stage| fault(stage, Fault::Html),
        words: &["not git", "check that the url is that of a repository"],
        lift: &["correct url"],
        ..SILENCE
    }
}

pub(super) fn forge_says() -> Stall {
    Stall {
        cause: |stage| fault(stage, Fault::Says("access denied or repository not exported".into())),
        words: &["the forge says: access denied or repository not exported"],
        lift: &["see the forge's log"],
        ..SILENCE
    }
}

pub(super) fn redirected() -> Stall {
    Stall {
        cause: |stage| fault(stage, Fault::Redirect("https://127.0.0.1:1".into())),
        words: &["the forge redirects to https://127.0.0.1:1", "make it the url"],
        lift: &["correct url"],
        ..SILENCE
    }
}

/// With other settings of the remote, from now on.
fn becomes(stage: &mut Stage, from: &str, to: &str) {
    let usual = remote("origin", &stage.rig.forge, &stage.rig.repo, "3s");
    assert!(usual.contains(from), "{usual}");
    stage.rig.settings.remotes = Some(usual.replace(from, to));
    stage.rig.write_config();
}

fn as_before(stage: &mut Stage) -> fort_agent::core::types::Commit {
    stage.rig.settings.remotes = None;
    stage.rig.write_config();
    stage.one
}

pub(super) fn tls_untrusted() -> Stall {
    Stall {
        cause: |stage| {
            let other = Forge::start();
            let ours = stage.rig.forge.ca_file().display().to_string();
            becomes(stage, &ours, &other.ca_file().display().to_string());
            stage.kept.push(Box::new(other));
        },
        words: &["TLS: the certificate", "set ca_file"],
        undo: as_before,
        lift: &["set ca_file, or mend the certificate"],
        ..SILENCE
    }
}

pub(super) fn name_unknown() -> Stall {
    Stall {
        cause: |stage| {
            let url = stage.rig.forge.url();
            becomes(stage, &url, "https://no-such-forge.invalid");
        },
        words: &["no remote answers", "name lookup"],
        undo: as_before,
        ..SILENCE
    }
}

pub(super) fn pack_damaged() -> Stall {
    Stall {
        cause: |stage| {
            fault(stage, Fault::CorruptedPack);
            stage.head = stage.rig.push("release", &Host::new("two"));
        },
        words: &["no remote answers", "pack"],
        undo: |stage| {
            stage.rig.forge.fault(Fault::None);
            stage.head
        },
        lift: &["mend the forge, or the proxy in between"],
        ..SILENCE
    }
}

pub(super) fn mirror_stale() -> Stall {
    Stall {
        settings: |stage| {
            let forge = Forge::start();
            let mirror = forge.repo("mirror");
            stage.rig.push_to(&mirror, "release");
            let first = remote("origin", &stage.rig.forge, &stage.rig.repo, "3s");
            stage.rig.settings.remotes = Some(first + &remote("mirror", &forge, &mirror, "3s"));
            stage.kept.push(Box::new((forge, mirror)));
        },
        cause: |stage| {
            let two = stage.rig.push("release", &Host::new("two"));
            stage.rig.wait_in_sync(two);
            stage.head = stage.one;
            fault(stage, Fault::Refused);
        },
        state: "up-to-date",
        words: &["is older than what was accepted", "{head}"],
        lift: &["bring that remote up to date"],
        // Asked for the first time when the one before has been silent for three.
        polls: 4,
        undo: |stage| {
            let (_, mirror) = stage.kept[0].downcast_ref::<(Forge, Repo)>().unwrap();
            stage.rig.push_to(mirror, "release");
            stage.rig.tree.git(&["rev-parse", "HEAD"]).parse().unwrap()
        },
        ..Stall::USUAL
    }
}
