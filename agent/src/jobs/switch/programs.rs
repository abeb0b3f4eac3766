//! The programs of a switch: switch-to-configuration, the profile, the boot loader.

use super::*;
use crate::error_chain;

impl Guardian {
    /// Revives the old system without `switch-to-configuration`, which may not be able to
    /// do anything.
    pub(super) async fn revive_old(&mut self, old: &StorePath) -> Done {
        self.clear_up();
        let old = &self.specialised(old, self.spec.order.old_specialisation.as_deref());
        // It needs no lock. Where that can be had nobody else begins meanwhile.
        let _lock = switch_lock::take(&self.spec.host.machine.root);
        let test = [("NIXOS_ACTION", "test")];
        let done = self.execute(old, "activate", None, &test, self.back_limit()).await;
        if self.spec.order.units {
            recovery::revive(self.baseline().as_ref()).await;
        }
        done
    }

    pub(super) async fn switch(
        &mut self,
        system: &StorePath,
        action: &str,
        more: &[(&str, &str)],
        limit: Duration,
    ) -> Done {
        self.execute(system, "bin/switch-to-configuration", Some(action), more, limit).await
    }

    /// Runs one of a system's own programs.
    pub(super) async fn execute(
        &mut self,
        system: &StorePath,
        program: &str,
        action: Option<&str>,
        more: &[(&str, &str)],
        limit: Duration,
    ) -> Done {
        let root = &self.spec.host.machine.root;
        let path = self.spec.host.nix.store_root().physical(system).join(program);
        let handed_on = ["PATH", "LOCALE_ARCHIVE"]
            .into_iter()
            .filter_map(|name| Some((name.into(), std::env::var_os(name)?)));
        let mut environment: Vec<(std::ffi::OsString, std::ffi::OsString)> = handed_on.collect();
        environment.push(("NIXOS_INSTALL_BOOTLOADER".into(), "0".into()));
        environment.extend(more.iter().map(|(name, value)| (name.into(), value.into())));
        if root != Path::new("/") {
            environment.push(("FORT_AGENT_ROOT".into(), root.into()));
        }
        tracing::info!(%system, action, "{}", program.trim_start_matches("bin/"));
        let Ok(agent) = std::env::current_exe() else {
            return Done::Broke(Broken::off("the agent's own program is not known"));
        };
        // It dies with this process: a second guardian must not meet it.
        let command = Command::new(agent)
            .args(["job", "exec"])
            .arg(std::process::id().to_string())
            .arg(path)
            .args(action)
            .environment(environment)
            .time_limit(limit);
        let units = self.spec.order.units && action != Some("boot");
        let jobs_before = if units { recovery::jobs().await } else { BTreeSet::new() };
        let mut listener = Listener::default();
        let lines = command.run_with_lines(pending(), |_, line| {
            let line = crate::command::plain(line);
            listener.hear(&line);
            tracing::info!("{line}");
        });
        let lines = lines.await;
        let incomplete = listener.incomplete();
        self.traces = listener.traces(root);
        match lines {
            Ok(finished) => match finished.end {
                End::Exit(UNITS_FAILED) if incomplete => Done::Exit(ACTIVATE_FAILED),
                End::Exit(code) => Done::Exit(code),
                End::TimedOut => {
                    if units {
                        self.traces.hanging = recovery::hanging(&jobs_before).await;
                    }
                    Done::Broke(Broken::late(finished.end.to_string()))
                }
                End::Signal(_) | End::Cancelled => {
                    Done::Broke(Broken::off(finished.end.to_string()))
                }
            },
            Err(error) => Done::Broke(Broken::off(error_chain::line(&error))),
        }
    }

    pub(super) async fn set_profile(&self) -> Result<(), String> {
        let profile = self.spec.host.machine.profile_path();
        let made = async {
            if let Some(directory) = profile.parent() {
                std::fs::create_dir_all(directory)?;
            }
            self.spec.host.nix.set_profile(&profile, &self.spec.order.candidate).await?;
            anyhow::Ok(())
        };
        made.await.map_err(|error| format!("{error:#}"))
    }

    pub(super) async fn set_oneshot(
        &self,
        next: &Generation,
        default: &Generation,
    ) -> Result<(), String> {
        let root = &self.spec.host.machine.root;
        let set = boot_loader::set_oneshot(root, next, default).await;
        set.map_err(|error| {
            let error = error_chain::line(&error);
            tracing::info!(error, "it becomes the default at once");
            error
        })
    }

    pub(super) async fn return_profile(&self, before: &Generation) -> Result<(), String> {
        let profile = self.spec.host.machine.profile_path();
        let returned = self.spec.host.nix.switch_generation(&profile, before.number).await;
        returned.map_err(|error| error_chain::line(&error))
    }

    /// Sets the profile back to the old system's own generation, then removes those that
    /// were made for the candidate since.
    pub(super) async fn restore_profile(&self, old: &StorePath) -> Result<(), String> {
        let (machine, nix) = (&self.spec.host.machine, &self.spec.host.nix);
        let profile = machine.profile_path();
        let restored = async {
            let generations = machine.generations()?;
            let before = self.spec.order.profile.as_ref();
            let of_old = before
                .filter(|before| before.system == *old)
                .or_else(|| generations.iter().rev().find(|known| known.system == *old));
            match of_old {
                Some(generation) => nix.switch_generation(&profile, generation.number).await?,
                None => {
                    nix.set_profile(&profile, old).await?;
                }
            }
            // What was there before is the candidate's own generation where it
            // was made the default first, to be verified after a boot.
            let candidate = &self.spec.order.candidate;
            let first_made = before.map_or(1, |before| {
                if before.system == *candidate { before.number } else { before.number + 1 }
            });
            for made in generations {
                if made.system == *candidate && made.number >= first_made {
                    nix.delete_generation(&profile, made.number).await?;
                }
            }
            anyhow::Ok(())
        };
        restored.await.map_err(|error| format!("{error:#}"))
    }
}
