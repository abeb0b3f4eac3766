//! git over HTTPS from a real forge, in good order and in bad.

#![allow(clippy::unwrap_used, reason = "helpers of tests stop at once")]

mod cost;
mod damage;
mod evil;
mod export;
mod fetch;
mod host;
mod limits;
mod odd;
mod poll;
mod ssh;
mod steps;
mod submodules;
