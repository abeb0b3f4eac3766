//! Revision that a system says it was made from: the file `etc/fort-agent/revision`,
//! which module.nix writes where NixOS's `system.configurationRevision` is set. For
//! people; nothing is decided by it.

use std::io::ErrorKind;
use std::path::Path;

use crate::core::types::StorePath;
use crate::files;
use crate::nix::StoreRoot;

const FILE: &str = "etc/fort-agent/revision";
/// Longest revision that is shown: a commit with `-dirty` behind it, or what somebody
/// else numbers by.
const LONGEST: usize = 80;

/// Revision of the running system, remembered for as long as that runs.
#[derive(Default)]
pub(super) struct Revision(Option<(StorePath, Option<String>)>);

impl Revision {
    pub(super) fn of(&mut self, store: &StoreRoot, system: Option<&StorePath>) -> Option<String> {
        let system = system?;
        match &self.0 {
            Some((known, says)) if known == system => says.clone(),
            Some(_) | None => {
                // Read again the next time, if it could not be now.
                let says = read(store, system)?;
                self.0 = Some((system.clone(), says.clone()));
                says
            }
        }
    }
}

/// Reads the revision; `None` where it could not be looked at.
fn read(store: &StoreRoot, system: &StorePath) -> Option<Option<String>> {
    let bytes = match store.resolve(&Path::new(system.as_str()).join(FILE)) {
        Ok(file) => files::read_bounded(&file).ok()?,
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(_) => return None,
    };
    Some(bytes.and_then(|bytes| sound(&bytes)))
}

fn sound(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    let plain = |c: char| c.is_ascii_graphic();
    let revision = text.trim();
    let sound = !revision.is_empty() && revision.len() <= LONGEST && revision.chars().all(plain);
    sound.then(|| revision.to_owned())
}
