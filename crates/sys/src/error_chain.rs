//! Walks an error and what it comes from.

use std::error::Error;
use std::io;
use std::iter::successors;

/// Errors of a chain that are looked at: a cyclic one must end.
const MOST: usize = 32;

/// Returns an error and all below it, outermost first. `io::Error` hides the error that
/// it wraps from `source`, so that one is looked into.
pub fn chain<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let next = |&error: &&'a (dyn Error + 'static)| {
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        match wrapped {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        }
    };
    successors(Some(error), next).take(MOST)
}

/// Returns an error with its sources in one line, each after a colon.
pub fn line(error: &dyn Error) -> String {
    let sources = successors(error.source(), |&error| error.source()).take(MOST);
    sources.fold(error.to_string(), |line, source| format!("{line}: {source}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] io::Error);

    #[test]
    fn what_an_error_wraps_is_found_and_told_once() {
        let outer = Outer(io::Error::other("inner"));
        assert_eq!(line(&outer), "outer: inner");
        assert_eq!(chain(&outer).count(), 3, "the wrapper, io's, and the one in it");
    }
}
