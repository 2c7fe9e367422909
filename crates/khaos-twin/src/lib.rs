//! Virtual time is deterministic: the embedded engine.
//!
//! A stream-processing engine with one job, its clones, a metrics system and a workload log, all in
//! one process. It processes *time*: events arrive, queue and are processed; checkpoints cost
//! capacity and take a while; failures are detected late, roll back and are caught up with. The
//! recovery formula stands nowhere in here. Whoever wants it has to find it from what the ports
//! show.
//!
//! - [`world`]: what kind of job and cluster it is; [`workload`]: what arrives;
//! - `engine`: one deployment living through time, its checkpoints and its readings;
//! - [`twin`]: the deployments together, behind the ports of `khaos-control`;
//! - [`memory_store`]: the store that goes with it.
//!
//! The determinism contract: the same [`TwinConfig`] and the same calls at the same virtual times
//! give the same answers, to the last bit. Each random purpose draws from a stream of its own, and
//! a clone's streams depend on its campaign and index alone.

mod engine;
pub mod memory_store;
pub mod twin;
pub mod workload;
pub mod world;

pub use memory_store::MemoryStore;
pub use twin::{Failure, Redeployer, Truth, Twin, TwinConfig};
pub use workload::{InvalidWorkload, Workload};
pub use world::{InvalidWorld, World};
