//! The words of a deployment that ended.

use super::text::took;
use crate::core::memory::Entry;

/// Tells how long a deployment took, which is known to the second.
pub(crate) fn lasted(entry: &Entry) -> String {
    let millis = u64::try_from(entry.started.until(entry.ended).as_millis()).unwrap_or(u64::MAX);
    if millis < 1000 { "<1 s".into() } else { took(millis / 1000 * 1000) }
}
