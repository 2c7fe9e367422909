//! Real Flink, driven live: the contract of the ports on it, what its sources tell, what is left when
//! khaos dies, and what happens when everything between them breaks.
#![allow(clippy::unwrap_used, reason = "a test says what is broken by panicking")]
#![allow(clippy::print_stdout, reason = "what was measured is worth reading")]

mod arena;
mod bench;
mod clones;
mod contract;
mod dead_man;
mod endurance;
mod kafka_clones;
mod orphans;
mod prometheus;
mod proxy;
mod redeploy;
mod run;
mod sources;
mod trouble;
