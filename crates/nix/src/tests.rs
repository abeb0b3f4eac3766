use super::*;

fn settings(bin_dir: Option<&Path>, store: &str) -> Settings {
    Settings {
        bin_dir: bin_dir.map(Path::to_owned),
        store: store.into(),
        options: vec![("accept-flake-config".into(), "true".into())],
        home: "/state/home".into(),
        cache: "/state/cache".into(),
    }
}

fn programs() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["nix", "nix-env", "nix-store"] {
        std::fs::write(dir.path().join(name), "").unwrap();
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(dir.path().join(name), mode).unwrap();
    }
    dir
}

#[test]
fn versions_of_every_kind_are_read() {
    let version = |text: &str| Version::parse(text).map(|v| (v.major, v.minor));
    assert_eq!(version("nix (Nix) 2.8.0\n"), Some((2, 8)));
    assert_eq!(version("nix (Nix) 2.19pre20231001_abc"), Some((2, 19)));
    assert_eq!(version("nix (Determinate Nix 3.6.2) 2.29.0"), Some((2, 29)));
    assert_eq!(version("bash: nix: not found"), None);
    assert_eq!(version(""), None);
    let takes = |text: &str| Version::parse(text).unwrap().takes_dir_of_paths();
    assert!(takes("nix (Nix) 2.26.0") && takes("nix (Nix) 2.34.8"));
    assert!(!takes("nix (Nix) 2.25.9") && !takes("nix (Lix, like Nix) 2.93.0"));
}

#[test]
fn nix_is_found_in_the_search_path_or_only_in_bin_dir() {
    let dir = programs();
    let empty = tempfile::tempdir().unwrap();
    let search = std::env::join_paths([empty.path(), dir.path()]).unwrap();
    let nix = Nix::find(settings(None, "auto"), &search).unwrap();
    assert_eq!(nix.bin_dir, dir.path());
    let error = Nix::find(settings(Some(empty.path()), "auto"), &search).unwrap_err();
    assert!(error.to_string().ends_with(empty.path().to_str().unwrap()), "{error}");
    std::fs::remove_file(dir.path().join("nix-env")).unwrap();
    assert!(Nix::find(settings(None, "auto"), &search).is_err());
}

#[test]
fn the_environment_is_ours() {
    let dir = programs();
    let search = OsString::from("/usr/bin");
    let nix = Nix::find(settings(Some(dir.path()), "local?root=/x"), &search).unwrap();
    let environment = nix.environment();
    let value = |name: &str| {
        let found = environment.iter().find(|(k, _)| k == name);
        found.map(|(_, v)| v.to_str().unwrap().to_owned())
    };
    assert_eq!(value("PATH"), Some(format!("{}:/usr/bin", dir.path().display())));
    assert_eq!(value("HOME").as_deref(), Some("/state/home"));
    assert_eq!(value("NIX_REMOTE").as_deref(), Some("local?root=/x"));
    assert_eq!((value("NIX_PATH"), value("NIX_CONFIG")), (None, None));
    let nix = Nix::find(settings(Some(dir.path()), "auto"), &search).unwrap();
    assert!(nix.environment().iter().all(|(name, _)| name != "NIX_REMOTE"));
}

#[test]
fn what_adds_to_a_list_comes_after_what_sets_it() {
    let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let pairs = |options: &[(&str, &str)]| options.iter().copied().map(pair).collect();
    let dir = programs();
    let mut settings = settings(Some(dir.path()), "auto");
    let theirs = [("connect-timeout", "9"), ("extra-substituters", "x"), ("substituters", "")];
    settings.options = pairs(&theirs);
    let nix = Nix::find(settings, OsStr::new("")).unwrap();
    let ours = pairs(&[("connect-timeout", "5"), ("extra-substituters", "y")]);
    let nix = nix.with(ours, Some(Path::new("/state/netrc")));
    let expected = [
        ("connect-timeout", "5"),
        ("connect-timeout", "9"),
        ("substituters", ""),
        ("netrc-file", "/state/netrc"),
        ("extra-substituters", "y"),
        ("extra-substituters", "x"),
    ];
    assert_eq!(nix.options, pairs(&expected));
}

#[test]
fn no_option_lets_a_repository_configure_nix_or_a_cache_send_what_nobody_signed() {
    let dir = programs();
    let mut settings = settings(Some(dir.path()), "auto");
    settings.options.push(("require-sigs".into(), "false".into()));
    let nix = Nix::find(settings, OsStr::new("")).unwrap();
    let nix = nix.with(vec![("extra-require-sigs".into(), "false".into())], None);
    let last: Vec<String> = nix.option_arguments().collect();
    let always = ["--option", "accept-flake-config", "false", "--option", "require-sigs", "true"];
    assert_eq!(last[last.len() - 6..], always);
}
