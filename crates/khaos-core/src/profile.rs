//! Profile: which trials to run, and what a trial measured.
//!
//! [`mod@design`] chooses the trials before any of them runs, [`mod@further`] says whether another is
//! worth it; [`recovery`] finds in a lag series when a failure was over; [`trial`] assembles what one
//! showed, in parts. [`failure`] does so for those that nobody planned, of which [`moment`] says when
//! they struck.

pub mod design;
pub mod failure;
pub mod further;
pub mod moment;
pub mod recovery;
pub mod trial;

pub use design::{CORNERS, Corner, Design, IntervalBounds, InvalidBounds, PlannedTrial, design};
pub use failure::{Compared, Failure, Measured, Predicted};
pub use further::further;
pub use recovery::{Progress, calm_below_s, onset, recovered};
pub use trial::{Evidence, Recovery, Trial, assemble};
