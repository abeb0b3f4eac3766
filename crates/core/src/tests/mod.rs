//! Decisions of the core, as facts and as tables that a person can read. The properties
//! that must hold, whatever happens, are in `simulation`.

mod blind;
mod boots;
mod decisions;
mod exits;
mod explanations;
mod faults;
mod fixture;
mod gates;
mod hands;
mod ladder;
mod lifts;
mod locks;
mod looks;
mod once;
mod publishing;
mod requests;
mod retries;
mod rules;
mod statuses;
mod switching;
mod verdicts;
