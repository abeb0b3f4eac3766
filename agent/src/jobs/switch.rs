//! The guardian as a process: looks, asks the core what to do, does it.
//!
//! It is the old binary and outlives the agent; see `core::guardian` for what
//! it decides. Every phase is made durable before it begins.

mod programs;

use std::collections::BTreeSet;
use std::future::pending;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use tracing::Instrument as _;

use super::dir::{JobDir, JobFile};
use super::recovery;
use super::spec::SwitchSpec;
use super::traces::{Listener, remove_lists};
use super::{free_lock, handover};
use crate::command::{Command, End};
use crate::core::cause::Broken;
use crate::core::guardian::lock::{Lock, Whom};
use crate::core::guardian::{Act, Done, LOCKED, Phase, Progress, Sight, Traces, act};
use crate::core::job::{Generation, Verdict};
use crate::core::types::{Mono, StorePath};
use crate::core::unseen::Part;
use crate::crash::{self, Place};
use crate::files::Durability;
use crate::sight::Gaps;
use crate::specialisation;
use crate::systemd::baseline::Baseline;
use crate::watch::Watch;
use crate::{boot_loader, clock, switch_lock};

/// Least limit of one `switch-to-configuration` on the way back, if that of an activation is
/// shorter: it may have to wait for more than the way forward.
const BACK_AT_LEAST: Duration = Duration::from_secs(20);
/// Limit of one `switch-to-configuration boot`.
const BOOT_LIMIT: Duration = Duration::from_secs(5 * 60);
/// Exit code of `switch-to-configuration`: `activate` failed.
const ACTIVATE_FAILED: i32 = 2;
/// Exit code of `switch-to-configuration`: a unit is failed, whatever else was.
const UNITS_FAILED: i32 = 4;
/// Longest time between two looks for the verdict.
const LOOK: Duration = Duration::from_secs(1);

/// Runs the switch job of a directory to its end.
pub async fn run(directory: &Path) -> anyhow::Result<()> {
    let dir = JobDir::at(directory);
    if !directory.exists() {
        // Killed after its outcome was written, which the agent has taken in
        // since. To fail would be to be started again for ever.
        tracing::info!("the job is over");
        return Ok(());
    }
    let Some((_lock, spec)) = dir.begin::<SwitchSpec>()? else { return Ok(()) };
    let order = &spec.order.order;
    let span = tracing::info_span!(
        "switch",
        deployment = %order.deployment,
        commit = %order.target.commit,
        stage = "activate"
    );
    let mut guardian = Guardian::new(dir, spec)?;
    guardian.hand_over();
    crash::place(Place::HandedOver);
    guardian.work().instrument(span).await
}

/// Whether the old system comes back if this phase is not written down: then nobody
/// judges the candidate, or it was judged already.
fn leads_back(phase: &Phase) -> bool {
    match phase {
        Phase::Activated { .. } | Phase::PuttingBack(_) => true,
        Phase::Ready
        | Phase::Activating { .. }
        | Phase::Committing
        | Phase::Deferring { .. }
        | Phase::Returning { .. } => false,
    }
}

struct Guardian {
    dir: JobDir,
    spec: SwitchSpec,
    progress: Progress,
    own: bool,
    last: Option<Done>,
    traces: Traces,
    /// Process that held the lock when the last program asked for it.
    lock: Lock,
    /// Files that were the lock's before: no switch may begin on them while this one works.
    locks_before: Vec<std::fs::File>,
    watch: Option<Watch>,
    /// Moment since which the host cannot be looked at.
    blind_since: Option<Mono>,
}

impl Guardian {
    fn new(dir: JobDir, spec: SwitchSpec) -> anyhow::Result<Self> {
        // Progress that cannot be read is of a job that died at its first
        // write: renaming is atomic.
        let progress = dir.read(JobFile::Progress).context("cannot read the progress")?;
        let progress = progress.unwrap_or_else(|| Progress::ready(clock::mono()));
        let mut watch = Watch::default();
        let watched = watch.add(dir.path());
        if let Err(lack) = &watched {
            tracing::warn!("the verdict is looked for ten times a second: {lack}");
        }
        // Without it a verdict that is left there is seen a second later.
        let _ = watch.add(&spec.host.machine.handover());
        let watch = watched.is_ok().then_some(watch);
        Ok(Self {
            dir,
            spec,
            progress,
            own: false,
            last: None,
            traces: Traces::default(),
            lock: Lock::Free,
            locks_before: Vec::new(),
            watch,
            blind_since: None,
        })
    }

    async fn work(&mut self) -> anyhow::Result<()> {
        loop {
            let sight = self.look();
            let next = act(&self.spec.order, &self.progress, &sight, clock::mono());
            tracing::debug!(?next, "next");
            let _passing = crash::act(&next);
            self.last = match next {
                Act::Note(progress) => {
                    tracing::info!(phase = ?progress.phase, "now");
                    let written = self.dir.write(JobFile::Progress, &progress, Durability::Durable);
                    match written {
                        Ok(()) => {}
                        // A full disk must not keep the old system away. Should
                        // this process be killed, the next one finds an earlier
                        // phase, and that leads back as well.
                        Err(error) if leads_back(&progress.phase) => {
                            tracing::error!(%error, "cannot write the progress; going on");
                        }
                        Err(error) => return Err(error).context("cannot write the progress"),
                    }
                    self.progress = progress;
                    self.own = true;
                    None
                }
                Act::Finish(outcome) => {
                    tracing::info!(ending = ?outcome.ending, cause = outcome.cause, "over");
                    let written = self.dir.write(JobFile::Outcome, &outcome, Durability::Durable);
                    let Err(error) = written else { return Ok(()) };
                    // To begin again would be to put back again: it is done.
                    tracing::error!(%error, "cannot write the outcome; trying again");
                    tokio::time::sleep(LOOK).await;
                    self.last.take()
                }
                Act::Pause(pause) => {
                    tokio::time::sleep(pause).await;
                    Some(Done::Waited)
                }
                Act::LookAgain(pause) => {
                    tokio::time::sleep(pause).await;
                    self.last.take()
                }
                Act::AwaitVerdict(until) => {
                    self.await_verdict(until).await;
                    None
                }
                Act::FreeLock(whom) => Some(self.free_lock(whom).await),
                Act::Activate => Some(self.activate().await),
                Act::ActivateOld(old) => Some(self.activate_old(&old).await),
                Act::RestartBus => {
                    recovery::restart_bus().await;
                    Some(Done::Bus)
                }
                Act::ReviveOld(old) => Some(self.revive_old(&old).await),
                Act::StartUnits => {
                    let failed = recovery::start_units(self.baseline().as_ref()).await;
                    Some(Done::Units(failed))
                }
                Act::EndUnits(units) => {
                    recovery::end_units(&units).await;
                    Some(Done::UnitsEnded(units))
                }
                Act::Reboot => {
                    tracing::error!("the old system cannot be put back: rebooting into it");
                    recovery::reboot().await;
                    Some(Done::Bus)
                }
                Act::SetProfile => Some(Done::Profile(self.set_profile().await)),
                Act::RestoreProfile(old) => Some(Done::Profile(self.restore_profile(&old).await)),
                Act::WriteBoot => {
                    let candidate = self.spec.order.candidate.clone();
                    Some(self.switch(&candidate, "boot", &[], BOOT_LIMIT).await)
                }
                Act::SetOneshot { next, default } => {
                    Some(Done::Oneshot(self.set_oneshot(&next, &default).await))
                }
                Act::ReturnProfile(before) => {
                    Some(Done::Profile(self.return_profile(&before).await))
                }
                Act::WriteOldBoot(old) => {
                    let unchecked = [("NIXOS_NO_CHECK", "1")];
                    Some(self.switch(&old, "boot", &unchecked, BOOT_LIMIT).await)
                }
            };
            if let Some(Done::Exit(LOCKED)) = self.last {
                self.look_who_holds_the_lock().await;
            }
        }
    }

    fn look(&mut self) -> Sight {
        let machine = &self.spec.host.machine;
        let mut gaps = Gaps::default();
        let boot_id = gaps.see(Part::Boot, machine.boot_id());
        let running = gaps.see(Part::Running, machine.running()).flatten();
        let booted = gaps.see(Part::Booted, machine.booted()).flatten();
        let (profile, _) = gaps.see(Part::Profile, machine.profile()).unwrap_or_default();
        let (order, store) = (&self.spec.order, self.spec.host.nix.store_root());
        let named = profile.as_ref().map(|generation| &generation.system);
        let before = order.profile.as_ref().map(|generation| &generation.system);
        let matter = || {
            let ordered = [Some(&order.candidate), order.old.as_ref(), order.running.as_ref()];
            ordered.into_iter().chain([named, before]).flatten()
        };
        let (running, _) = machine.whole(&store, running, matter());
        let (booted, _) = machine.whole(&store, booted, matter());
        let unseen = gaps.first();
        match (&unseen, self.blind_since) {
            (Some(unseen), None) => {
                tracing::error!("this host cannot be looked at: {unseen}");
                self.blind_since = Some(clock::mono());
            }
            (None, Some(_)) => {
                tracing::info!("this host can be looked at again");
                self.blind_since = None;
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
        // A verdict that cannot be read is none yet: without a good one in
        // time the old system comes back.
        let beside = || handover::verdict(&machine.handover(), &self.spec.order.order.deployment);
        let verdict: Option<Verdict> = self.dir.read(JobFile::Verdict).unwrap_or_default();
        let verdict = verdict.or_else(|| beside().unwrap_or_default());
        Sight {
            unseen: unseen.zip(self.blind_since),
            boot_id: boot_id.unwrap_or_else(|| self.spec.order.order.boot_id.clone()),
            running,
            booted,
            profile,
            verdict,
            own: self.own,
            last: self.last.clone(),
            traces: self.traces.clone(),
            lock: self.lock.clone(),
        }
    }

    async fn free_lock(&mut self, whom: Whom) -> Done {
        let root = &self.spec.host.machine.root;
        let freed = free_lock::free(root, whom, self.spec.order.units).await;
        self.lock = freed.left;
        self.locks_before.extend(freed.before);
        Done::Lock(freed.told)
    }

    /// Notes which process holds the lock. If none does, it was let go since the program
    /// asked for it, and the one that was noted just before stays.
    async fn look_who_holds_the_lock(&mut self) {
        let root = &self.spec.host.machine.root;
        match free_lock::look(root, self.spec.order.units).await {
            Lock::Free => {}
            found @ (Lock::Held(_) | Lock::Unknown) => self.lock = found,
        }
    }

    async fn await_verdict(&mut self, until: Mono) {
        let left = until.since(clock::mono()).min(LOOK);
        match &mut self.watch {
            Some(watch) => {
                let _ = tokio::time::timeout(left, watch.changed()).await;
            }
            None => tokio::time::sleep(left.min(Duration::from_millis(100))).await,
        }
    }

    async fn activate(&mut self) -> Done {
        let order = &self.spec.order;
        let candidate = self.specialised(&order.candidate, order.specialisation.as_deref());
        let limit = order.activation_timeout;
        self.switch(&candidate, "test", &[], limit).await
    }

    async fn activate_old(&mut self, old: &StorePath) -> Done {
        self.clear_up();
        let old = &self.specialised(old, self.spec.order.old_specialisation.as_deref());
        // Its own checks may refuse; it ran before, so it may run again.
        self.switch(old, "test", &[("NIXOS_NO_CHECK", "1")], self.back_limit()).await
    }

    /// Returns the specialisation of that name, where the system has it; else the system.
    fn specialised(&self, system: &StorePath, name: Option<&str>) -> StorePath {
        let Some(name) = name else { return system.clone() };
        let found = specialisation::within(&self.spec.host.nix.store_root(), system, name);
        found.unwrap_or_else(|| {
            tracing::warn!(%system, "it has no specialisation {name}: it is activated without");
            system.clone()
        })
    }

    fn back_limit(&self) -> Duration {
        self.spec.order.activation_timeout.max(BACK_AT_LEAST)
    }

    /// Clears away what a killed candidate left: it would be started by the old system,
    /// or be in its way.
    fn clear_up(&self) {
        remove_lists(&self.spec.host.machine.root);
        recovery::end_leftovers();
    }

    /// Returns the units before the switch; `None` where a person leaves the system: what
    /// ran under it is no measure for another.
    fn baseline(&self) -> Option<Baseline> {
        if self.spec.order.how.asked().is_some() {
            return None;
        }
        self.dir.read(JobFile::Baseline).ok().flatten()
    }

    /// Leaves the job for the agent that comes next. Best effort: that usually has the
    /// same state directory, and finds the job there.
    fn hand_over(&self) {
        let (handover, order) = (self.spec.host.machine.handover(), &self.spec.order.order);
        if let Err(error) = handover::leave(&handover, &order.deployment, &self.dir) {
            tracing::warn!(%error, "cannot leave a link for the next agent");
        }
    }
}
