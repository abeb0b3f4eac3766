//! A running agent as scraped and looked at by real programs, Prometheus and a browser;
//! and the nonsense that strangers send to its port.

mod browser;
mod flat;
mod noise;
mod prometheus;
mod pulse;
mod stuck;
