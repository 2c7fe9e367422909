//! Every decision is a pure function of recorded facts: no I/O, no clock, no async.
//!
//! ```text
//! world → Observation → Design → Trial* → Models → Decision → Outcome → world
//!         └─ observe ─┘└── profile ──┘ └──── optimize ─────┘└─ act ─┘
//! ```
//!
//! In reading order:
//! - [`units`]: numbers with a unit and a range, [`series`]: readings over time,
//!   [`job`]: what an engine says of a job;
//! - [`record`]: the immutable facts that flow along the arrows above;
//! - [`observe`]: is the job steady, and which loads matter?
//! - [`profile`]: which trials to run, and what a trial measured;
//! - [`optimize`]: models, forecast and the decision with its reasons.

pub mod job;
pub mod observe;
pub mod optimize;
pub mod profile;
pub mod record;
pub mod series;
pub mod units;

/// The numerics underneath: what speaks of seeds or draws speaks of these.
pub use khaos_stats as stats;
