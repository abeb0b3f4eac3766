//! Wording that every face shares: times, widths and tones of text, the sentences of a
//! status and of a deployment that ended.

#[cfg(test)]
pub(crate) mod fixture;
pub(crate) mod history;
pub(crate) mod status;
pub(crate) mod text;
