//! The Attic server that the tests and the demo use: whether it is what it
//! says it is. What it answers is asked of a real one as well, where
//! `FORT_AGENT_ATTIC` says where one listens and `FORT_AGENT_ATTIC_SECRET`
//! which file has the secret of its tokens (HS256, base64).

mod ask;
mod faults;
mod json;
mod rules;
mod substituting;
mod trust;
mod uploads;
