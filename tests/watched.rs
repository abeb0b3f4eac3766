//! What is scraped from a running agent and looked at, by the programs that do
//! it: Prometheus and a browser; and what strangers send to its port.

mod browser;
mod noise;
mod prometheus;
mod stuck;
