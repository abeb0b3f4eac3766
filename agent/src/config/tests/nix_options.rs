//! Options of Nix, and paths.

use super::*;

#[test]
fn paths_stay_where_they_belong() {
    for key in ["state_dir", "run_dir", "root", "nix.bin_dir"] {
        for bad in ["", "x", "./x", "/x/../y", "~/x"] {
            let message = wrong(&format!("{key} = '{bad}'"));
            assert!(message.starts_with(&format!("`{key}` must")), "{key} {bad}: {message}");
        }
    }
    for key in ["system.flake_dir", "system.file"] {
        for bad in ["", "/x", "..", "x/../y"] {
            let message = wrong(&format!("{key} = '{bad}'"));
            assert!(message.starts_with(&format!("`{key}` must")), "{key} {bad}: {message}");
        }
    }
    let long = format!("run_dir = '/r/{}'", "x".repeat(101));
    assert_eq!(wrong(&long), "`run_dir` must be shorter: a socket's path has 107 bytes");
    assert!(with(&long.replacen('x', "", 1)).is_ok());
}

#[test]
fn the_agents_directories_are_nobody_elses() {
    let shared = ["/", "/persist", "/persist/", "/run/", "/var/lib", "/var//lib/", "/./run/user"];
    for (key, good) in [("state_dir", "/persist/fort-agent"), ("run_dir", "/run/a/b")] {
        assert!(with(&format!("{key} = '{good}'")).is_ok());
        for shared in shared {
            let message = wrong(&format!("{key} = '{shared}'"));
            let must = format!("`{key}` must be a directory of the agent's own");
            assert!(message.starts_with(&must), "{shared}: {message}");
        }
    }
}

#[test]
fn nix_options_are_written_as_nix_reads_them() {
    let options = "nix.options = { sandbox = true, cores = 0x10, substituters = '', \
                   system-features = ['kvm', 'big'], accept-flake-config = false }";
    let options = with(options).unwrap().nix.options;
    let options: Vec<_> = options.iter().map(|(n, v)| format!("{n}={v}")).collect();
    let rendered = "accept-flake-config=false cores=16 sandbox=true substituters= \
                    system-features=kvm big";
    assert_eq!(options.join(" "), rendered);
}

#[test]
fn nix_options_that_undo_safety_are_refused() {
    for fine in [
        "max-jobs = 2",
        "build-cores = 1",
        "substituters = ''",
        "extra-substituters = ['https://cache.example.org?priority=10', 'file:///srv/cache']",
        "builders = ''",
        "sandbox = true",
        "build-use-sandbox = 'true'",
        "require-sigs = true",
        "build-users-group = ''",
        "extra-experimental-features = ['ca-derivations']",
    ] {
        assert!(with(&format!("nix.options = {{ {fine} }}")).is_ok(), "{fine}");
    }
    let systemd = LEAST.replace("\"direct\"", "\"systemd\"");
    let users = parsed(&format!("nix.options = {{ build-users-group = '' }}\n{systemd}"));
    assert!(users.unwrap_err().to_string().contains("builders run as root"));
    for bad in [
        "require-sigs = false",
        "sandbox = false",
        "sandbox = 'relaxed'",
        "build-use-sandbox = false",
        "build-use-chroot = false",
        "sandbox-fallback = true",
        "sandbox-paths = ['/etc']",
        "extra-sandbox-paths = ['/etc']",
        "build-sandbox-paths = '/etc'",
        "extra-build-chroot-dirs = '/etc'",
        "allowed-impure-host-deps = '/etc'",
        "extra-allowed-impure-host-deps = '/etc'",
        "plugin-files = '/x.so'",
        "extra-plugin-files = '/x.so'",
        "post-build-hook = '/x'",
        "pre-build-hook = '/x'",
        "build-hook = '/x'",
        "diff-hook = '/x'",
        "run-diff-hook = true",
        "external-builders = '[]'",
        "filter-syscalls = false",
        "allow-new-privileges = true",
        "builders = 'ssh://elsewhere'",
        "trusted-public-keys = 'x:y'",
        "extra-trusted-public-keys = 'x:y'",
        "binary-cache-public-keys = 'x:y'",
        "substituters = 'https://cache.example.org?trusted=1'",
        "extra-substituters = ['https://a', 'https://b?priority=1&%74rusted=true']",
        "binary-caches = 'file:///srv?trusted=true'",
        "substituters = 'https://user:hunter2@cache.example.org'",
        "substituters = 'https://hunter2@cache.example.org'",
        "impure-env = 'KEY=hunter2'",
        "nix-path = 'nixpkgs=/x'",
        "trusted-users = '*'",
        "start-id = 0",
        "an-option-of-tomorrow = true",
        "accept-flake-config = true",
        "pure-eval = false",
        "allow-unsafe-native-code-during-evaluation = true",
        "access-tokens = 'github.com=hunter2'",
        "extra-access-tokens = 'github.com=hunter2'",
        "store = 'daemon'",
        "x = 1.5",
        "x = ['a b']",
        "x = {}",
        "'--impure' = true",
        "x = \"a\\nb\"",
    ] {
        let message = wrong(&format!("nix.options = {{ {bad} }}"));
        assert!(message.starts_with("`nix.options."), "{bad}: {message}");
        assert!(!message.contains("hunter2"), "{message}");
    }
}

#[test]
fn an_option_that_is_not_taken_is_told_with_what_was_meant_or_where_it_goes() {
    assert_eq!(
        wrong("nix.options = { max-job = 2 }"),
        "`nix.options.max-job` is not known to be harmless: did you mean `max-jobs`? If not, for \
         all of Nix it is said in nix.conf"
    );
    assert_eq!(
        wrong("nix.options = { require-sigs = false }"),
        "`nix.options.require-sigs` is refused: it would have a cache believed whatever it sends"
    );
    for store in
        ["local?root=/x&require-sigs=false", "local?re%71uire-sigs=0", "auto?require-sigs="]
    {
        let said = wrong(&format!("nix.store = '{store}'"));
        assert!(said.starts_with("`nix.store` must not switch off `require-sigs`"), "{said}");
    }
    assert!(with("nix.store = 'local?root=/x&require-sigs=true'").is_ok());
}
