//! Real Kafka: what is recorded of it, and what happens when something between breaks.
#![allow(clippy::unwrap_used, reason = "a test says what is broken by panicking")]
#![allow(clippy::print_stdout, reason = "what was measured is worth reading")]

mod bench;
mod record;
mod replay;
mod sums;
