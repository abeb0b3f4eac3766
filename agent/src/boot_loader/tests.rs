use super::*;
use std::fs;

const SYSTEM: &str = "/nix/store/0000000000000000000000000000000a-nixos-system-joker";
const OTHER: &str = "/nix/store/0000000000000000000000000000000b-nixos-system-joker";
const HASH: &str = "nixos-5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8";

fn generation(number: u64) -> Generation {
    Generation { number, system: SYSTEM.parse().unwrap() }
}

fn other(number: u64) -> Generation {
    Generation { number, system: OTHER.parse().unwrap() }
}

/// Writes a variable as the firmware shows one.
fn set_variable(root: &Path, name: &str, value: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let letters = value.encode_utf16().flat_map(u16::to_le_bytes);
    fs::write(path, [6, 0, 0, 0].into_iter().chain(letters).collect::<Vec<u8>>()).unwrap();
}

/// Returns an entry as NixOS writes one.
fn text(number: u64, system: &str) -> String {
    format!(
        "title NixOS\nversion Generation {number} NixOS 26.05 (Linux 6.18), built on \
         2026-07-01\nlinux /EFI/nixos/k.efi\ninitrd /EFI/nixos/i.efi\n\
         options init={system}/init root=fstab loglevel=4\nmachine-id 1\nsort-key nixos\n"
    )
}

fn host(entries: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (name, text) in entries {
        let path = root.path().join("boot/loader/entries").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

#[test]
fn a_generation_without_tries_left_is_given_up() {
    let seven = text(7, SYSTEM);
    for (counters, expected) in [
        ("", false),
        ("+3", false),
        ("+2-1", false),
        ("+1-2", false),
        ("+0-3", true),
        ("+0", true),
        ("+00-3", true),
        // No counters, but parts of a name.
        ("+0-", false),
        ("+-3", false),
        ("+x", false),
        ("+0-3-1", false),
    ] {
        // Both names that NixOS has given entries.
        for name in ["nixos-generation-7", HASH] {
            let name = format!("{name}{counters}.conf");
            let root = host(&[(&name, &seven)]);
            assert_eq!(given_up(root.path(), &generation(7)).unwrap(), expected, "{name}");
        }
    }
    assert!(!given_up(Path::new("/nowhere"), &generation(7)).unwrap());
}

#[test]
fn only_its_own_entries_count() {
    let gone =
        |name: &str, text: &str| given_up(host(&[(name, text)]).path(), &generation(7)).unwrap();
    // A name is enough where nothing can be read.
    assert!(gone("nixos-generation-7+0-3.conf", ""));
    assert!(!gone("nixos-generation-70+0-3.conf", ""));
    assert!(!gone("nixos-generation-+7+0-3.conf", ""));
    assert!(!gone("nixos-work-generation-7+0-3.conf", ""));
    assert!(!gone("nixos-generation-7-specialisation-x+0-3.conf", ""));
    assert!(!gone("nixos-generation-7-specialisation-x+0-3.conf", &text(7, OTHER)));
    assert!(!gone(&format!("{HASH}+0-3.conf"), ""));
    // Another system, or an older generation of the same.
    assert!(!gone(&format!("{HASH}+0-3.conf"), &text(7, OTHER)));
    assert!(!gone(&format!("{HASH}+0-3.conf"), &text(6, SYSTEM)));
    assert!(!gone("nixos-generation-7+0-3.conf", &text(7, OTHER)));
    // It may be called otherwise.
    let renamed = text(7, SYSTEM).replace("Generation 7 ", "");
    assert!(gone(&format!("{HASH}+0-3.conf"), &renamed));
    // Not an entry at all.
    assert!(!gone("nixos-generation-7+0-3.conf.tmp", &text(7, SYSTEM)));
    assert!(!gone("nixos-generation-7+0-3.efi", &text(7, SYSTEM)));
}

#[test]
fn one_good_entry_is_enough_to_boot() {
    let seven = text(7, SYSTEM);
    let root = host(&[("nixos-generation-7+0-3.conf", &seven)]);
    assert!(given_up(root.path(), &generation(7)).unwrap());
    let other = root.path().join("efi/loader/entries");
    fs::create_dir_all(&other).unwrap();
    fs::write(other.join("nixos-generation-7+2-1.conf"), &seven).unwrap();
    assert!(!given_up(root.path(), &generation(7)).unwrap());
}

fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Stands in for bootctl, which wants firmware: keeps what it is told.
fn recorder(root: &Path, code: u8) -> PathBuf {
    let program = root.join("bootctl");
    let script = format!(
        "#!/bin/sh\nprintf '%s\\n' \"$@\" > {}/told\necho 'some words' >&2\n\
         echo 'No such entry.' >&2\nexit {code}\n",
        root.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    program
}

#[test]
fn bootctl_is_told_the_id_without_counters() {
    for name in ["nixos-generation-7", HASH] {
        let root = host(&[
            (&format!("{name}+2-1.conf"), &text(7, SYSTEM)),
            ("nixos-generation-8.conf", &text(8, OTHER)),
        ]);
        let program = recorder(root.path(), 0);
        block(set_oneshot_by(&program, root.path(), &generation(7), &other(8))).unwrap();
        let told = fs::read_to_string(root.path().join("told")).unwrap();
        assert_eq!(told, format!("set-oneshot\n{name}.conf\n"));
    }
}

#[test]
fn what_bootctl_refuses_is_said_in_its_words() {
    let root = host(&[
        ("nixos-generation-7.conf", &text(7, SYSTEM)),
        ("nixos-generation-8.conf", &text(8, OTHER)),
    ]);
    let program = recorder(root.path(), 1);
    let (next, default) = (generation(7), other(8));
    let refused = set_oneshot_by(&program, root.path(), &next, &default);
    let refused = block(refused).unwrap_err();
    assert_eq!(refused.to_string(), "bootctl set-oneshot: No such entry.");
}

#[test]
fn what_would_not_be_booted_is_not_asked_for() {
    let root = host(&[
        ("nixos-generation-7+0-3.conf", &text(7, SYSTEM)),
        ("nixos-generation-8.conf", &text(8, OTHER)),
    ]);
    let program = recorder(root.path(), 0);
    let set = |next: &Generation, default: &Generation| {
        block(set_oneshot_by(&program, root.path(), next, default))
    };
    assert!(matches!(set(&generation(7), &other(8)), Err(CannotOneshot::GivenUp(7))));
    assert!(matches!(set(&generation(9), &other(8)), Err(CannotOneshot::NoEntry(9))));
    // It keeps entries of a few generations only, or has given that one up.
    assert!(matches!(set(&other(8), &other(6)), Err(CannotOneshot::NoDefault(6))));
    assert!(matches!(set(&other(8), &generation(7)), Err(CannotOneshot::NoDefault(7))));
    assert!(!root.path().join("told").exists());
}

#[test]
fn only_what_the_agent_had_chosen_is_unchosen() {
    let root = host(&[
        ("nixos-generation-7+2-1.conf", &text(7, SYSTEM)),
        ("nixos-generation-8.conf", &text(8, OTHER)),
    ]);
    let system: StorePath = SYSTEM.parse().unwrap();
    let cleared = || block(clear_oneshot(root.path(), &system));
    assert!(cleared().is_ok(), "nothing is chosen");
    set_variable(root.path(), ONESHOT, "nixos-generation-8.conf\0");
    assert!(cleared().is_ok(), "another one is");
    // Here it would have to be told; and by other firmware it cannot be.
    set_variable(root.path(), ONESHOT, "nixos-generation-7.conf\0");
    assert!(matches!(cleared(), Err(CannotOneshot::NotSystemdBoot)));
}

#[test]
fn a_host_below_another_root_boots_nothing_once() {
    let root = host(&[("nixos-generation-7.conf", &text(7, SYSTEM))]);
    let refused = block(set_oneshot(root.path(), &generation(7), &other(8)));
    assert!(matches!(refused, Err(CannotOneshot::NotSystemdBoot)), "{refused:?}");
}

#[test]
fn only_systemd_boot_is_systemd_boot() {
    let root = tempfile::tempdir().unwrap();
    let booted_by = |name: &str| {
        set_variable(root.path(), LOADER_INFO, name);
        booted_by_systemd_boot(root.path())
    };
    assert!(booted_by("systemd-boot 260.1\0"));
    assert!(!booted_by("GRUB 2.12\0"));
    assert!(!booted_by("systemd-stub 260\0"));
    assert!(!booted_by(""));
    assert!(!booted_by_systemd_boot(Path::new("/nowhere")));
}

#[test]
fn programs_are_found_by_absolute_paths_only() {
    let dir = tempfile::tempdir().unwrap();
    let program = recorder(dir.path(), 0);
    let path = std::env::join_paths([Path::new("relative"), dir.path()]).unwrap();
    assert_eq!(find(&path, "bootctl"), Some(program.clone()));
    fs::set_permissions(&program, fs::Permissions::from_mode(0o644)).unwrap();
    assert_ne!(find(&path, "bootctl"), Some(program));
}
