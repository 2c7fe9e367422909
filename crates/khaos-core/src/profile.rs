//! Profile: which trials to run, and what a trial measured.
//!
//! [`mod@design`] chooses the trials before any of them runs, [`mod@further`] says whether another is worth it; [`recovery`] finds in a lag series when a
//! failure was over; [`trial`] assembles what one experiment showed, in parts.

pub mod design;
pub mod further;
pub mod recovery;
pub mod trial;

pub use design::{CORNERS, Corner, Design, IntervalBounds, InvalidBounds, PlannedTrial, design};
pub use further::further;
pub use recovery::{Progress, calm_below_s, onset, recovered};
pub use trial::{Evidence, Recovery, Trial, assemble};
