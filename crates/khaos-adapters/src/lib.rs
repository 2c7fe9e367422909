//! Foreign protocols stop here.
//!
//! Each module speaks one of them and shows nothing of it but a port of `khaos-control`:
//! - [`sqlite`]: the store that outlives the process.

pub mod sqlite;
