//! Observe: is the job steady, and which loads matter?
//!
//! [`mod@minute`] condenses readings into one [`Minute`] a minute; [`mod@steady`] judges whether a job is in
//! its steady state; [`levels`] finds the load levels that a profile has to cover and where in the
//! recording each of them can be replayed from.

pub mod levels;
pub mod minute;
pub mod steady;

pub use levels::{LoadLevel, NotEnough, Observation, StretchShape, observe, observe_levels};
pub use minute::Minute;
pub use steady::{Baseline, NotSteady, steady};
