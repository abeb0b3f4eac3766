//! Stands in for firmware and systemd-boot, as far as the agent asks them: the
//! variables that they show, and what they boot once.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Where the kernel shows the firmware's variables.
pub const VARIABLES: &str = "sys/firmware/efi/efivars";
const VENDOR: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// Says that systemd-boot booted this host, in a directory of variables.
pub fn create(variables: &Path) {
    fs::create_dir_all(variables).unwrap();
    let letters = "systemd-boot 257\0".encode_utf16().flat_map(u16::to_le_bytes);
    let bytes: Vec<u8> = [7, 0, 0, 0].into_iter().chain(letters).collect();
    fs::write(variables.join(format!("LoaderInfo-{VENDOR}")), bytes).unwrap();
}

/// Makes the program that tells it what to boot once; `variables` is where it
/// finds them.
pub fn write_bootctl(program: &Path, variables: &Path) {
    let text = include_str!("../fixture/bootctl");
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    fs::write(program, text.replace("@variables@", variables.to_str().unwrap())).unwrap();
    fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The system that is to be booted once, by the entry of that name.
pub fn oneshot(variables: &Path, entries: &Path) -> Option<String> {
    let bytes = fs::read(variables.join(format!("LoaderEntryOneShot-{VENDOR}"))).ok()?;
    let letters: Vec<u16> =
        bytes[4..].chunks(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    let name = String::from_utf16(&letters).unwrap();
    let entry = fs::read_to_string(entries.join(name.trim_end_matches('\0'))).ok()?;
    let init = entry.split_whitespace().find_map(|word| word.strip_prefix("init="))?;
    Some(init.strip_suffix("/init").unwrap().to_owned())
}

/// Plays a boot: an entry that was to be booted once is forgotten.
pub fn forget_oneshot(variables: &Path) {
    let _ = fs::remove_file(variables.join(format!("LoaderEntryOneShot-{VENDOR}")));
}
