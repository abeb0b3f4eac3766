//! Reboots of this host: which sessions and inhibitors stand against one, and whether the
//! boot loader has given a system up.

use std::path::PathBuf;
use std::time::Duration;

use super::Event;
use super::tasks::{Beside, Work};
use crate::config::Config;
use crate::core::job::Generation;
use crate::core::observed::Against;
use crate::core::types::{Mono, StorePath};
use crate::error_chain;
use crate::sight::Unreadable;
use crate::systemd::Failed;
use crate::systemd::logind::Logind;
use crate::{boot_loader, clock};

/// Time within which a host that was told to reboot does so, or not at all.
const REBOOTS: Duration = Duration::from_secs(120);

/// State of reboots: what stands against one, and which are under way.
pub(super) struct Reboots {
    root: PathBuf,
    /// Whether the boot loader gave the default up, looked up once for each default:
    /// counters change only with a boot.
    given_up: Option<(Generation, bool)>,
    pub(super) against: Option<Against>,
    pub(super) rebooting: bool,
    pub(super) disarmed: Option<(StorePath, Mono)>,
    pub(super) disarming: bool,
}

impl Reboots {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            root: config.root.clone(),
            given_up: None,
            against: None,
            rebooting: false,
            disarmed: None,
            disarming: false,
        }
    }

    /// Whether the boot loader has given the default up and booted another.
    pub(super) fn gave_up(
        &mut self,
        default: Option<&Generation>,
        booted: Option<&StorePath>,
    ) -> Result<bool, Unreadable> {
        let (Some(default), Some(booted)) = (default, booted) else { return Ok(false) };
        if default.system == *booted {
            return Ok(false);
        }
        if let Some((known, given_up)) = &self.given_up
            && known == default
        {
            return Ok(*given_up);
        }
        let given_up = boot_loader::given_up(&self.root, default)?;
        self.given_up = Some((default.clone(), given_up));
        Ok(given_up)
    }

    /// Tells the boot loader not to boot a system once, beside the loop. Once:
    /// should it fail, that boot is recognised as not wanted.
    pub(super) fn disarm(&mut self, system: StorePath, beside: &Beside) {
        self.disarming = true;
        let (root, began, which) = (self.root.clone(), clock::mono(), system.clone());
        let doing = async move {
            let cleared = boot_loader::clear_oneshot(&root, &system).await;
            cleared.map_err(|error| error_chain::line(&error))
        };
        beside.run(Work::Disarm, doing, move |_| Event::Disarmed(which, began));
    }

    /// Takes in that the boot loader was told not to boot a system once.
    pub(super) fn learn_disarmed(&mut self, system: StorePath, began: Mono) {
        (self.disarming, self.disarmed) = (false, Some((system, began)));
    }

    /// Takes in what stands against a reboot.
    pub(super) fn learn(&mut self, against: Option<Against>) {
        self.rebooting = false;
        if against.is_some() {
            self.against = against;
        }
    }

    /// Finds out what stands against a reboot, beside the loop.
    pub(super) fn ask(&mut self, beside: &Beside) {
        self.rebooting = true;
        let doing = async {
            let look = async { Logind::connect().await?.against_reboot().await };
            look.await.map_err(|error| error.to_string())
        };
        beside.run(Work::AgainstReboot, doing, |found| {
            let whom = found.unwrap_or_else(|error| vec![format!("logind: {error}")]);
            Event::Against(Some(Against { ended: clock::mono(), whom }))
        });
    }

    /// Reboots, beside the loop; an inhibitor that came since may still be against it.
    pub(super) fn reboot(&mut self, beside: &Beside) {
        self.rebooting = true;
        let doing = async {
            let reboot = async { Logind::connect().await?.reboot().await };
            match reboot.await {
                Ok(()) => {
                    tokio::time::sleep(REBOOTS).await;
                    Ok(None)
                }
                Err(late @ Failed::Late { .. }) => Err(late.to_string()),
                Err(error) => Ok(Some(format!("logind refuses: {error}"))),
            }
        };
        beside.run(Work::Reboot, doing, |ended| {
            let against = ended.unwrap_or_else(Some);
            let against = against.map(|whom| Against { ended: clock::mono(), whom: vec![whom] });
            Event::Against(against)
        });
    }
}
