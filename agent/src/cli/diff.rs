//! `diff`: the changes that a commit's system would make to the running one.

use serde_json::json;

use crate::bus::ClientError;
use crate::changes::{self, Changes, Package, Size, Units};
use crate::config::{Config, Places, Runner};
use crate::core::bytes::bytes;
use crate::core::explain::Explanation;
use crate::core::request::Prefix;
use crate::core::status::Status;
use crate::core::types::{Commit, StorePath};
use crate::error_chain;
use crate::nix::Nix;
use crate::store::Store;
use crate::systemd::Systemd;

use super::{Exit, Said, client};
use crate::wording::status::short;
use crate::wording::text::{Look, Tone, clean, columns, pad, wrap};

/// Lines that one package, or the units of one kind, may take.
const LINES: usize = 12;
/// Lines that the versions of one package may take.
const PACKAGE_LINES: usize = 3;

/// The two systems that are compared.
#[derive(Debug)]
struct Pair {
    commit: Commit,
    old: StorePath,
    new: StorePath,
}

pub(super) fn diff(config: &Config, commit: Option<&str>, execute: bool, json: bool) -> Said {
    if let Some(Err(problem)) = commit.map(Prefix::parse) {
        return Said::not(Exit::Usage, problem);
    }
    let asked = client::block_on(async {
        let client = client::connect(&Places::of(config)).await?;
        let explained = client.explain(commit).await?;
        Ok((explained, client.status().await?))
    });
    let (explained, status) = match asked {
        Ok(asked) => asked,
        Err(trouble) => return client::failed(&trouble),
    };
    let read = (serde_json::from_str::<Explanation>(&explained), serde_json::from_str(&status));
    let (explained, status): (Explanation, Status) = match read {
        (Ok(explained), Ok(status)) => (explained, status),
        (Err(error), _) | (_, Err(error)) => {
            return Said::not(Exit::Failed, client::unreadable(&error));
        }
    };
    let pair = match pair(&explained, &status) {
        Ok(pair) => pair,
        Err(why) => return Said::not(Exit::Failed, format!("fort-agent: {}", clean(&why))),
    };
    if execute && let Err(why) = may_run(&explained) {
        return Said::not(Exit::Refused, format!("fort-agent: {}", clean(&why)));
    }
    match client::block_on(compared(config, &pair, execute)) {
        Ok((changes, units)) if json => Said::done(format!("{}\n", told(&pair, &changes, &units))),
        Ok((changes, units)) => Said::done(render(&pair, &changes, &units, Look::of_stdout())),
        Err(trouble) => client::failed(&trouble),
    }
}

/// Returns the two systems to compare. Fails with what to do.
fn pair(explained: &Explanation, status: &Status) -> Result<Pair, String> {
    let Some(commit) = explained.commit else { return Err(explained.conclusion.clone()) };
    let short = commit.short();
    let Some(new) = explained.system.clone() else {
        let lift = explained.lift.as_ref().map(|lift| format!(" ({lift})")).unwrap_or_default();
        return Err(format!(
            "the system of {short} is not known, since it was not realised: {}{lift}; \
             fort-agent status --watch shows when it is",
            explained.conclusion
        ));
    };
    let Some(old) = status.running.system.clone() else {
        return Err("no system runs that it could be compared with".into());
    };
    Ok(Pair { commit, old, new })
}

/// Whether a program of the commit's may run as root on this host, which is what a
/// gate is closed against. Fails with what is in the way, and what to do.
fn may_run(explained: &Explanation) -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("--execute runs a program of that system as root: run this as root".into());
    }
    let Some(gates) = &explained.gates else {
        return Err(
            "the agent does not say whether a gate is closed: --execute needs one of this \
                    version"
                .into(),
        );
    };
    match &gates.closed {
        None => Ok(()),
        Some(gate) => Err(format!(
            "--execute would run a program of {} as root, and a gate is closed ({}): {}; without \
             --execute the files are compared, and nothing of it runs",
            gate.commit.short(),
            gate.kind,
            gate.lift
        )),
    }
}

async fn compared(
    config: &Config,
    pair: &Pair,
    execute: bool,
) -> Result<(Changes, Result<Units, String>), ClientError> {
    let search_path = std::env::var_os("PATH").unwrap_or_default();
    let failed = |error: anyhow::Error| ClientError::Failed(format!("{error:#}"));
    let nix =
        Nix::find(config.nix_settings(), &search_path).map_err(|error| failed(error.into()))?;
    let mut store = Store::of(&nix);
    let changes = changes::between(&mut store, &pair.old, &pair.new).await;
    let changes = changes.map_err(|error| match error {
        changes::CannotCompare::Absent(system) => ClientError::Failed(format!(
            "{system} is not in the store any more: it was collected, and only the desired \
             commit's is got again"
        )),
        changes::CannotCompare::Store(error) => failed(error.into()),
    })?;
    let units = units(config, &nix, pair, execute).await;
    // Its connection has kept both systems in the store until now.
    drop(store);
    Ok((changes, units))
}

/// Returns the units that would be touched. Fails with why they are not known.
async fn units(config: &Config, nix: &Nix, pair: &Pair, execute: bool) -> Result<Units, String> {
    if pair.old == pair.new {
        return Ok(Units::default());
    }
    if config.activation.runner == Runner::Direct {
        return Err("with [activation] runner = \"direct\" nobody looks after units".into());
    }
    if !execute {
        let active = async { Systemd::connect().await?.active().await }.await;
        let active = active.map_err(|error| error_chain::line(&error));
        return changes::by_files(&nix.store_root(), &pair.old, &pair.new, active)
            .map_err(|error| format!("their files cannot be read: {error}"));
    }
    let interrupted = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let units =
        changes::dry_activate(&pair.new, &nix.store_root(), &config.root, interrupted).await?;
    Ok(units.joined())
}

fn told(pair: &Pair, changes: &Changes, units: &Result<Units, String>) -> String {
    json!({
        "commit": pair.commit,
        "before": { "system": pair.old, "paths": changes.before.paths, "bytes": changes.before.bytes },
        "after": { "system": pair.new, "paths": changes.after.paths, "bytes": changes.after.bytes },
        "added": changes.added,
        "removed": changes.removed,
        "changed": changes.changed,
        "rebuilt": changes.rebuilt,
        "units": units.as_ref().ok(),
        "units_unknown": units.as_ref().err(),
    })
    .to_string()
}

fn render(pair: &Pair, changes: &Changes, units: &Result<Units, String>, look: Look) -> String {
    let mut out = String::new();
    let head =
        format!("{} = {}, instead of {}", pair.commit.short(), short(&pair.new), short(&pair.old));
    if pair.old == pair.new {
        let head =
            format!("{} = {} runs: nothing would change", pair.commit.short(), short(&pair.new));
        return lines(&wrap(&head, look.width, PACKAGE_LINES));
    }
    out.push_str(&lines(&wrap(&head, look.width, PACKAGE_LINES)));
    let versions = |versions: &[String]| {
        if versions.is_empty() { "no version".into() } else { versions.join(", ") }
    };
    let changed = changes.changed.iter().map(|it| {
        (it.name.clone(), format!("{} -> {}", versions(&it.before), versions(&it.after)))
    });
    let listed = |packages: &[Package]| -> Vec<(String, String)> {
        packages.iter().map(|it| (it.name.clone(), it.versions.join(", "))).collect()
    };
    for (tone, heading, rows) in [
        (Tone::Busy, "changed", changed.collect::<Vec<_>>()),
        (Tone::Good, "added", listed(&changes.added)),
        (Tone::Bad, "removed", listed(&changes.removed)),
    ] {
        out.push_str(&section(tone, heading, &rows, look));
    }
    let mut rows = vec![("closure".to_owned(), closure(changes.before, changes.after))];
    if changes.rebuilt > 0 {
        let what = format!("{} more in the same version, built anew", paths(changes.rebuilt));
        rows.push(("rebuilt".into(), what));
    }
    match units {
        Err(why) => rows.push(("units".into(), format!("not known: {why}"))),
        Ok(units) => {
            if units.by_action().next().is_none() {
                rows.push(("units".into(), "none would be touched".into()));
            }
            for (what, names) in units.by_action() {
                rows.push((what.into(), names.join(" ")));
            }
            if units.systemd {
                rows.push(("systemd".into(), "begins anew; units go on".into()));
            }
            if let Some(why) = &units.assumed {
                rows.push(("units".into(), format!("as if all ran that can: {why}")));
            }
        }
    }
    let width = rows.iter().map(|(label, _)| columns(label)).max().unwrap_or(0);
    for (label, fact) in rows {
        out.push_str(&row(&label, width.max(8), &fact, Tone::Faint, LINES, look));
    }
    out
}

fn section(tone: Tone, heading: &str, rows: &[(String, String)], look: Look) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut out = format!("{}\n", look.paint(tone, &format!("{heading} ({})", rows.len())));
    // A name may be long; the others are not to be pushed away by it.
    let width = rows.iter().map(|(name, _)| columns(name)).max().unwrap_or(0);
    let width = width.min(look.width / 2);
    for (name, what) in rows {
        out.push_str(&row(&clean(name), width, &clean(what), Tone::Plain, PACKAGE_LINES, look));
    }
    out
}

fn row(label: &str, width: usize, fact: &str, tone: Tone, most: usize, look: Look) -> String {
    let room = look.width.saturating_sub(width + 4);
    let mut out = String::new();
    let mut label = pad(&crate::wording::text::fit(label, width.max(8)), width);
    for line in wrap(fact, room, most) {
        let line = format!("  {}  {line}", look.paint(tone, &label));
        out.push_str(&format!("{}\n", line.trim_end()));
        label = " ".repeat(width);
    }
    out
}

fn lines(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn closure(before: Size, after: Size) -> String {
    let (sign, difference) = match after.bytes.checked_sub(before.bytes) {
        Some(more) => ("+", more),
        None => ("-", before.bytes - after.bytes),
    };
    format!(
        "{} -> {} ({sign}{}), {} -> {}",
        bytes(before.bytes),
        bytes(after.bytes),
        bytes(difference),
        before.paths,
        paths(after.paths)
    )
}

fn paths(count: u64) -> String {
    if count == 1 { "1 path".into() } else { format!("{count} paths") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::changes::Change;
    use crate::wording::fixture::{commit, system};

    fn changes() -> Changes {
        let list = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        let package =
            |name: &str, versions: &[&str]| Package { name: name.into(), versions: list(versions) };
        Changes {
            before: Size { paths: 812, bytes: 2_400_000_000 },
            after: Size { paths: 815, bytes: 2_412_345_678 },
            added: vec![package("htop", &["3.4"]), package("unit-web.service", &[])],
            removed: vec![package("nano", &["8.0"])],
            changed: vec![
                Change {
                    name: "linux".into(),
                    before: list(&["6.12.5"]),
                    after: list(&["6.12.9"]),
                },
                Change {
                    name: "openssl".into(),
                    before: list(&["3.0.15", "3.3.2"]),
                    after: list(&["3.0.16", "3.3.3"]),
                },
            ],
            rebuilt: 41,
        }
    }

    fn pair() -> Pair {
        Pair { commit: commit(2), old: system(1), new: system(2) }
    }

    fn units() -> Units {
        let list = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect();
        Units {
            stop: list(&["old.service"]),
            restart: list(&["nginx.service", "sshd.service"]),
            start: list(&["web.service"]),
            systemd: true,
            assumed: Some("the system bus did not answer within 10 s".into()),
            ..Units::default()
        }
    }

    #[test]
    fn what_would_change_reads_like_this_and_fits() {
        let shown = |width, units: &Result<Units, String>| {
            render(&pair(), &changes(), units, Look { width, colour: false })
        };
        let unknown = Err("with [activation] runner = \"direct\" nobody looks after units".into());
        for width in [40, 80] {
            let shown = shown(width, &unknown);
            assert!(shown.lines().all(|line| columns(line) <= width), "{shown}");
        }
        let same = Pair { new: system(1), ..pair() };
        let same = render(
            &same,
            &Changes::default(),
            &Ok(Units::default()),
            Look { width: 80, colour: false },
        );
        insta::assert_snapshot!(format!(
            "{}\n== not known\n{}\n== the same system\n{same}",
            shown(80, &Ok(units())),
            shown(80, &unknown)
        ));
    }

    #[test]
    fn what_is_done_with_units_is_told_in_full_however_long_it_is() {
        let list = || vec!["x.service".to_owned()];
        let units = Units {
            stop: list(),
            restart: list(),
            start: list(),
            reload: list(),
            left: list(),
            ..Units::default()
        };
        let actions: Vec<_> = units.by_action().map(|(what, _)| what).collect();
        for width in [40, 80] {
            let look = Look { width, colour: false };
            let shown = render(&pair(), &changes(), &Ok(units.clone()), look);
            for what in &actions {
                let row = shown.lines().find(|line| line.trim_start().starts_with(what));
                assert!(row.is_some_and(|row| row.ends_with("x.service")), "{what}: {shown}");
            }
        }
    }
}
