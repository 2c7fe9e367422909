//! The ports: all that Khaos can see of the world, and all that it can do to it.
//!
//! | port | what for | who needs it |
//! |---|---|---|
//! | [`Jobs`] | describe a job and its deployment | every phase |
//! | [`Metrics`] | readings over a window | every phase |
//! | [`Checkpoints`] | follow and trigger checkpoints | observe, profile, the driver |
//! | [`CloneHost`], [`Clones`] | deploy, stop and list clones | profile only |
//! | [`WorkloadLog`] | what was recorded, replay it into a clone | profile only |
//! | [`FaultInjector`] | break a clone | profile only |
//! | [`Actuator`] | change the interval of a job | act only |
//! | [`Store`] | append and find records | every phase |
//!
//! A tuner without the right to deploy is built by not handing it the last three of profile.

pub mod actuator;
pub mod checkpoints;
pub mod clones;
pub mod faults;
pub mod jobs;
pub mod metrics;
pub mod store;
pub mod workload_log;

pub use actuator::{Actuator, Generation};
pub use checkpoints::{Checkpoints, TriggerOutcome};
pub use clones::{CloneHost, CloneId, CloneSpec, Clones, RunningClone};
pub use faults::{Fault, FaultInjector};
pub use jobs::Jobs;
pub use metrics::Metrics;
pub use store::Store;
use thiserror::Error;
pub use workload_log::WorkloadLog;

/// Why a port did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PortError {
    /// Nobody answered, or not in time. Asking again later may help.
    #[error("{0}")]
    Unavailable(String),
    /// What was asked about does not exist (any more).
    #[error("there is no {0}")]
    NotFound(String),
    /// The answer was no, and why.
    #[error("{0}")]
    Refused(String),
    /// A later change has already been applied.
    #[error("change {given} is older than change {current}, which is in force")]
    StaleGeneration {
        /// The change that was asked for.
        given: Generation,
        /// The one in force.
        current: Generation,
    },
}
