//! `push`: gives the cache the closures of store paths, for CI.

use std::cell::Cell;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::core::bytes::bytes;
use crate::core::job::{PublishOutcome, PublishPhase, PublishProgress};
use crate::core::types::StorePath;
use crate::nix::{Nix, StoreRoot};
use crate::publish::{self, PublishLimits, publish};

use super::{Exit, Said};
use crate::wording::text::{Look, clean, fit, shorten_paths, took};

/// Time between two lines of progress, where nobody watches.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Width of the progress bar, in characters.
const BAR: usize = 20;

pub(super) fn push(config: &Config, paths: &[PathBuf], json: bool) -> Said {
    let Some(cache) = &config.cache else {
        let what = "fort-agent: no cache is configured: add [cache] to the configuration";
        return Said::not(Exit::Usage, what);
    };
    let Some(settings) = cache.publish_settings() else {
        let what = "fort-agent: `cache.token_file` is missing: pushing takes a token";
        return Said::not(Exit::Usage, what);
    };
    let search_path = std::env::var_os("PATH").unwrap_or_default();
    let nix = match Nix::find(config.nix_settings(), &search_path) {
        Ok(nix) => nix,
        Err(error) => return Said::not(Exit::Failed, format!("fort-agent: {error}")),
    };
    let root = nix.store_root();
    let found: Result<Vec<_>, _> = paths.iter().map(|path| store_path(path, &root)).collect();
    let paths = match found {
        Ok(paths) => paths,
        Err(what) => return Said::not(Exit::Usage, format!("fort-agent: {what}")),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(pushed(&nix, &settings, &paths, json)),
        Err(error) => return Said::not(Exit::Failed, format!("fort-agent: {error}")),
    };
    said(&outcome, json)
}

async fn pushed(
    nix: &Nix,
    settings: &publish::Settings,
    paths: &[StorePath],
    quiet: bool,
) -> PublishOutcome {
    let stderr = std::io::stderr();
    let bar = !quiet && stderr.is_terminal();
    let look = Look::of_stdout();
    let told = Cell::new(Instant::now());
    let progress = |now: &PublishProgress| {
        if bar {
            let _ = write!(stderr.lock(), "\r\x1b[K{}", drawn(now, look.width.saturating_sub(1)));
        } else if !quiet && told.get().elapsed() >= LINE_EVERY {
            told.set(Instant::now());
            let _ = writeln!(stderr.lock(), "{}", line(now));
        }
    };
    let interrupted = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let outcome = publish(nix, settings, &PublishLimits::PUSH, paths, progress, interrupted).await;
    if bar {
        let _ = write!(stderr.lock(), "\r\x1b[K");
    }
    outcome
}

/// Returns the store path that a path on the command line means: a store path, anything
/// in one, or a link to one such as `./result`.
fn store_path(path: &Path, root: &StoreRoot) -> Result<StorePath, String> {
    let shown = clean(&path.display().to_string());
    let written = path.to_str().and_then(|text| StorePath::containing(text).ok());
    if let Some(written) = written {
        return Ok(written);
    }
    let real = path.canonicalize().map_err(|error| format!("{shown}: {error}"))?;
    let logical = match real.strip_prefix(root.directory()) {
        Ok(below) => Path::new("/nix/store").join(below),
        Err(_) => real,
    };
    let found = logical.to_str().and_then(|text| StorePath::containing(text).ok());
    found.ok_or_else(|| format!("{shown} is not in the Nix store"))
}

/// Renders the line of progress that is drawn again and again.
fn drawn(now: &PublishProgress, width: usize) -> String {
    let share = |of: usize| {
        let filled = now.bytes.min(now.bytes_expected) * of as u64;
        filled.checked_div(now.bytes_expected).and_then(|n| usize::try_from(n).ok()).unwrap_or(0)
    };
    let filled = share(BAR);
    let bar = format!("[{}{}]", "#".repeat(filled), " ".repeat(BAR - filled));
    fit(&format!("{bar} {}", line(now)), width)
}

fn line(now: &PublishProgress) -> String {
    let trouble = now.trouble.as_ref().map(|trouble| match now.patience {
        Some(more) => format!("{}: trying again, {more} s more at most", clean(trouble)),
        None => format!("{}: trying again", clean(trouble)),
    });
    if now.to_send == 0 && now.phase != PublishPhase::Waiting {
        return trouble.unwrap_or_else(|| "asking the cache what it lacks".into());
    }
    let what = match (trouble, &now.current) {
        (Some(trouble), _) => format!(" {trouble}"),
        (None, _) if now.phase == PublishPhase::Waiting => {
            " waiting for another host that gives the same".into()
        }
        (None, Some(current)) => format!(" {}", shorten_paths(&clean(current))),
        (None, None) => String::new(),
    };
    format!(
        "{} of {} paths, {} of {}{what}",
        now.sent,
        now.to_send,
        bytes(now.bytes),
        bytes(now.bytes_expected),
    )
}

fn said(outcome: &PublishOutcome, json: bool) -> Said {
    let whole = outcome.cause.is_none() && !outcome.cancelled;
    let exit = if whole { Exit::Done } else { Exit::Failed };
    if json {
        return match serde_json::to_string_pretty(outcome) {
            Ok(text) => Said { out: format!("{text}\n"), err: String::new(), exit },
            Err(error) => Said::not(Exit::Failed, error.to_string()),
        };
    }
    let paths = |count: u64| if count == 1 { "1 path".into() } else { format!("{count} paths") };
    let elsewhere = match outcome.elsewhere {
        0 => String::new(),
        1 => "1 path came from another host meanwhile\n".into(),
        more => format!("{more} paths came from another host meanwhile\n"),
    };
    let out = match outcome.sent {
        0 if whole && elsewhere.is_empty() => "the cache has everything\n".into(),
        0 => elsewhere,
        sent => {
            let (size, time) = (bytes(outcome.bytes), took(outcome.took));
            format!("published {}, {size}, in {time}\n{elsewhere}", paths(sent))
        }
    };
    if whole {
        return Said::done(out);
    }
    let mut err = String::new();
    for failed in &outcome.failed {
        err += &format!("{}: {}\n", failed.path.base_name(), clean(&failed.why));
    }
    let left = match outcome.left {
        0 => String::new(),
        left => format!("{} not published: ", paths(left)),
    };
    let why = outcome.cause.as_deref().unwrap_or("interrupted");
    err += &format!("fort-agent: {left}{}", clean(why));
    Said { out, err, exit }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::job::FailedPath;

    fn halfway() -> PublishProgress {
        PublishProgress {
            phase: PublishPhase::Sending,
            sent: 12,
            to_send: 40,
            bytes: 240_000_000,
            bytes_expected: 480_000_000,
            current: Some(format!("{}-glibc-2.40", "a".repeat(32))),
            ..PublishProgress::default()
        }
    }

    #[test]
    fn the_bar_is_never_wider_than_the_terminal() {
        for width in 20..120 {
            assert!(drawn(&halfway(), width).chars().count() <= width);
        }
        insta::assert_snapshot!(drawn(&halfway(), 100), @"[##########          ] 12 of 40 paths, 228.9 MiB of 457.8 MiB aaaaaaa…-glibc-2.40");
        assert_eq!(line(&PublishProgress::default()), "asking the cache what it lacks");
    }

    #[test]
    fn what_was_not_published_is_named_and_fails() {
        let path = format!("/nix/store/{}-x", "a".repeat(32)).parse().unwrap();
        let failed = vec![FailedPath { path, why: "too\x1b large".into() }];
        let outcome = PublishOutcome {
            sent: 1,
            bytes: 1_250_000,
            left: 2,
            cause: Some("x: too large".into()),
            took: 2000,
            failed,
            ..PublishOutcome::default()
        };
        let told = said(&outcome, false);
        assert_eq!(told.exit, Exit::Failed);
        assert_eq!(told.out, "published 1 path, 1.2 MiB, in 2 s\n");
        insta::assert_snapshot!(told.err, @r"
        aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-x: too large
        fort-agent: 2 paths not published: x: too large
        ");
        let cancelled = PublishOutcome { cancelled: true, ..PublishOutcome::default() };
        assert_eq!(said(&cancelled, true).exit, Exit::Failed);
        let nothing = said(&PublishOutcome::default(), false);
        assert_eq!(
            (nothing.exit, nothing.out.as_str()),
            (Exit::Done, "the cache has everything\n")
        );
    }

    #[test]
    fn a_path_is_meant_however_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let base = format!("{}-x", "a".repeat(32));
        let store = dir.path().join("nix/store");
        std::fs::create_dir_all(store.join(&base).join("bin")).unwrap();
        let link = dir.path().join("result");
        std::os::unix::fs::symlink(store.join(&base), &link).unwrap();
        let root = StoreRoot::of(&format!("local?root={}", dir.path().display()));
        for written in [format!("/nix/store/{base}"), format!("/nix/store/{base}/bin/y")] {
            assert_eq!(store_path(Path::new(&written), &root).unwrap().base_name(), base);
        }
        assert_eq!(store_path(&link, &root).unwrap().base_name(), base);
        assert_eq!(store_path(&link.join("bin"), &root).unwrap().base_name(), base);
        assert!(store_path(dir.path(), &root).unwrap_err().contains("not in the Nix store"));
        assert!(store_path(Path::new("/no/such"), &root).is_err());
    }
}
