//! Why Nix failed, from what it says.

use super::*;

impl Log {
    /// Returns the failure. To be called only once it is known that Nix failed.
    pub(crate) fn failure(self) -> Failure {
        let tail = self.tail.clone().text();
        let unfinished = self.failed || self.cut || self.evaluated;
        let Some(error) = &self.error else {
            let (cause, fault) = match (&self.plain_error, &self.last_text) {
                (Some(error), _) if !self.spoke => (error.as_str(), Fault::NixSettings),
                (_, Some(last)) if !self.spoke => (last.as_str(), Fault::Nix),
                (_, None) if !self.spoke => ("nix failed without a word", Fault::Nix),
                (_, last) => {
                    let cause = last.as_deref().unwrap_or("nix failed without a word");
                    (cause, if unfinished { Fault::Build } else { Fault::Evaluation })
                }
            };
            return Failure { cause: short(cause), tail, fault, drv: None };
        };
        if let Some(hook) = self.guilty_hook() {
            let mut cause = short(&error.text);
            if let Some(last) = &hook.last_line {
                cause = format!("{cause}: {last}");
            }
            return Failure { cause, tail, fault: Fault::PostBuildHook, drv: hook.drv.clone() };
        }
        let mut builds = self.activities.values().chain(&self.ended).filter(|a| a.kind == BUILD);
        if let Some(build) =
            builds.find(|a| a.subject.as_deref().is_some_and(|drv| error.text.contains(drv)))
        {
            let cause = with_last_words(&short(&error.text), build.log.back());
            return Failure { cause, tail, fault: Fault::Build, drv: build.subject.clone() };
        }
        let unfinished = unfinished
            || error.realising
            // The text decides only where the counters do not: see `almost`.
            || (self.almost && error.text.contains(".drv"));
        let fault = match unfinished {
            false => Fault::Evaluation,
            true if nobody_may_build(&error.text) => Fault::NoBuilder,
            true if self.cut && !self.failed && self.begun == 0 => Fault::NotBegun,
            true => Fault::Build,
        };
        Failure { cause: short(&error.text), tail, fault, drv: None }
    }

    /// The hook that was run last, if its build was not done after it.
    fn guilty_hook(&self) -> Option<&Hook> {
        let (done, _) = self.sum(BUILDS);
        self.hook.as_ref().filter(|hook| hook.done == done && !self.failed)
    }
}

/// Failure of Nix, as derived from its log.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Error message in short, for people.
    pub(crate) cause: String,
    /// End of Nix's output, builders' logs included.
    pub(crate) tail: String,
    /// Kind of the failure.
    pub(crate) fault: Fault,
    /// Derivation whose builder failed, if a builder did.
    pub(crate) drv: Option<String>,
}

/// The error itself, of one that begins with where it happened.
pub(super) fn without_trace(said: &str) -> &str {
    let body = said.trim_start().strip_prefix("error:").unwrap_or(said);
    let first = body.lines().next().unwrap_or_default();
    if !first.trim().is_empty() {
        return said;
    }
    body.find("\n       error:").map_or(said, |at| body[at..].trim_start())
}

/// Whether an error is about machines, not about what was to be built on one.
fn nobody_may_build(text: &str) -> bool {
    const WORDS: [&str; 5] =
        ["max-jobs", "with features", "platform mismatch", "required system", "system feature"];
    let text = text.to_lowercase();
    WORDS.iter().any(|words| text.contains(words))
}

/// Appends the last line of a builder's log, which says more than that the builder
/// failed. Some versions repeat its log in the error, which belongs in the tail.
fn with_last_words(error: &str, last: Option<&String>) -> String {
    let Some(last) = last else { return error.to_owned() };
    let mut lines = error.lines().map(|line| line.trim_end_matches([';', '.', ':']));
    let first = lines.next().unwrap_or_default();
    // As 2.34 tells it: what, in the first line, and why, in the second.
    match lines.next().and_then(|line| line.strip_prefix("Reason: ")) {
        Some(reason) => format!("{first}: {reason}: {last}"),
        None => format!("{first}: {last}"),
    }
}
