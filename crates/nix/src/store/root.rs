//! Makes links of ours roots of the store.
//!
//! The daemon keeps a list of such links and follows them when it collects
//! garbage, wherever its store is: they lead to logical paths.

use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::StoreFailed;
use super::connection::Connection;
use fort_core::types::StorePath;

pub(super) async fn make(
    connection: &mut Connection,
    link: &Path,
    path: &StorePath,
) -> Result<(), StoreFailed> {
    let failed = |source| StoreFailed::NoLink { link: link.to_owned(), source };
    let name = link.to_str().filter(|name| name.starts_with('/'));
    let name = name.ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
    // Until the link counts, this conversation keeps it.
    connection.add_temp_root(path).await?;
    if !connection.is_valid(path).await? {
        let said = format!("{} is not in the store", path.base_name());
        return Err(StoreFailed::Refused { said });
    }
    // A link that is there is taken for a root by whoever looks, so it is told of
    // first; and again, for a collection strikes links off that lead nowhere.
    connection.add_indirect_root(name).await?;
    replace(link, path).map_err(failed)?;
    connection.add_indirect_root(name).await
}

/// Replaces a root's link by renaming: the old or the new one is there at any interruption.
fn replace(link: &Path, path: &StorePath) -> io::Result<()> {
    let mut beside = link.to_owned().into_os_string();
    beside.push(".new");
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    symlink(path.as_str(), &beside)?;
    std::fs::rename(&beside, link)
}
