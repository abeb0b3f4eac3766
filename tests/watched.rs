//! What is scraped from a running agent and looked at, by the programs that do
//! it: Prometheus and a browser; and what strangers send to its port.

mod browser;
mod flat;
mod noise;
mod prometheus;
mod pulse;
mod stuck;
