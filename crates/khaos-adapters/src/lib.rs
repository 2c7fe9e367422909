//! Foreign protocols stop here.
//!
//! Each module speaks one of them and shows nothing of it but a port of `khaos-control`:
//! - [`flink`]: a cluster of Apache Flink;
//! - [`kafka`]: a cluster of Apache Kafka;
//! - [`prometheus`]: a Prometheus that scrapes one;
//! - [`sqlite`]: the store that outlives the process.
//!
//! [`recording`] keeps events of a topic on disk. [`lab`] speaks to the machine instead: it starts a
//! real Flink to try all of this on.

mod counters;
pub mod flink;
mod http;
pub mod kafka;
pub mod lab;
pub mod prometheus;
pub mod recording;
pub mod sqlite;
