//! Looks before an activation, beside the loop: whether the system may be activated here,
//! and whether a remote answers, so that the cause of losing it can be told.

use std::path::PathBuf;
use std::time::Duration;

use super::{inhibitors, interfaces};
use crate::config::OnBusChange;
use crate::core::job::Refusal;
use crate::core::observed::{Look, Preflight};
use crate::core::types::{Mono, StorePath};
use crate::health::{Lookout, any_remote};
use crate::machine::RebootCheck;
use crate::nix::{Nix, StoreRoot};
use crate::{clock, network, preflight};

/// Latest results of a preflight and of a look for a remote, and whether one of either runs.
#[derive(Default)]
pub(super) struct Before {
    pub(super) preflight: Option<Preflight>,
    pub(super) preflighting: bool,
    pub(super) look: Option<Look>,
    pub(super) looking: bool,
}

/// Result of a preflight, or of a look for a remote.
pub(super) enum Found {
    Preflight(Preflight),
    Look(Look),
}

impl Found {
    /// Why the system may not be activated, if that was found.
    pub(super) fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Preflight(preflight) => preflight.refusal.as_ref(),
            Self::Look(_) => None,
        }
    }
}

impl Before {
    pub(super) fn learn(&mut self, found: Found) {
        match found {
            Found::Preflight(preflight) => {
                self.preflighting = false;
                self.preflight = Some(preflight);
            }
            Found::Look(look) => {
                self.looking = false;
                self.look = Some(look);
            }
        }
    }
}

/// Input of a preflight.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) root: PathBuf,
    pub(super) store: StoreRoot,
    pub(super) nix: Nix,
    pub(super) system: StorePath,
    pub(super) default: Option<StorePath>,
    pub(super) needs_agent: bool,
    pub(super) writes_boot: bool,
    /// System that runs on the host now.
    pub(super) running: Option<StorePath>,
    /// System that was booted, if one with another kernel is left to the next boot.
    pub(super) booted: Option<StorePath>,
    /// Policy for a system that brings another message bus.
    pub(super) on_bus_change: OnBusChange,
}

impl Asked {
    /// Returns why the system may not be activated here; `None` if it may.
    pub(super) async fn refusal(&self) -> Result<Option<Refusal>, String> {
        let candidate = preflight::Candidate {
            root: &self.root,
            store: &self.store,
            nix: &self.nix,
            system: &self.system,
            running: self.running.as_ref(),
            default: self.default.as_ref(),
            needs_agent: self.needs_agent,
            writes_boot: self.writes_boot,
        };
        let found = preflight::before_switch(&candidate).await;
        Ok(found.map_err(|error| format!("{error:#}"))?.err())
    }

    /// Makes the result of the preflight. If nothing could be found out, that says
    /// nothing against the system: the switch itself will say what is wrong.
    pub(super) fn found(self, refusal: Result<Option<Refusal>, String>) -> Preflight {
        let (deferral, refusal) = (self.deferral(), refusal.unwrap_or_default());
        let (system, needs_agent, writes_boot) = (self.system, self.needs_agent, self.writes_boot);
        Preflight { system, needs_agent, writes_boot, ended: clock::mono(), refusal, deferral }
    }

    fn deferral(&self) -> Option<String> {
        let (booted, system) = (self.booted.as_ref(), Some(&self.system));
        let check = RebootCheck::default().why(&self.store, booted, system, clock::mono());
        // A kernel that cannot be compared may be another one.
        let kernel = check.unwrap_or_else(|unseen| Some(format!("cannot compare {unseen}")));
        let (store, running) = (&self.store, self.running.as_ref());
        let inhibited = || inhibitors::inhibited(store, running, &self.system);
        let exchanged = || match self.on_bus_change {
            OnBusChange::Boot => interfaces::differ(store, running, &self.system),
            OnBusChange::Switch => None,
        };
        kernel.or_else(inhibited).or_else(exchanged)
    }
}

/// Looks for a remote; if none answers, at this host's own network.
pub(super) async fn look(remotes: &[Lookout], branch: &str, limit: Duration) -> Look {
    let began = clock::mono();
    let (reached, network, detail) = match any_remote(remotes, branch, limit).await {
        Ok(detail) => (true, None, detail),
        Err(error) => {
            let network = network::look().await;
            (false, network.works, format!("{error}; {}", network.detail))
        }
    };
    Look { began, ended: clock::mono(), reached, network, detail }
}

/// Result of a look that did not end: nothing was found out.
pub(super) fn no_look(began: Mono, error: String) -> Look {
    Look { began, ended: clock::mono(), reached: false, network: None, detail: error }
}
