//! The design of trials: which (CI, λ) to try, chosen before running.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::job::JobShape;
use crate::observe::{LoadLevel, Observation};
use crate::units::{CheckpointInterval, EventRate, Seconds, Span};

/// The intervals that a job may be given. The upper bound is its fallback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntervalBounds {
    min: CheckpointInterval,
    max: CheckpointInterval,
}

/// Bounds that hold no interval.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the smallest interval ({min}) must not be above the largest ({max})")]
pub struct InvalidBounds {
    min: CheckpointInterval,
    max: CheckpointInterval,
}

impl IntervalBounds {
    /// Bounds, if they hold an interval.
    pub fn new(min: CheckpointInterval, max: CheckpointInterval) -> Result<Self, InvalidBounds> {
        if min <= max { Ok(Self { min, max }) } else { Err(InvalidBounds { min, max }) }
    }

    /// The smallest interval.
    pub fn min(&self) -> CheckpointInterval {
        self.min
    }

    /// The largest interval: the fallback, never exceeded.
    pub fn max(&self) -> CheckpointInterval {
        self.max
    }

    /// Every whole second within, smallest first.
    pub fn candidates(&self) -> impl Iterator<Item = CheckpointInterval> + use<> {
        (self.min.secs()..=self.max.secs()).map(|s| {
            CheckpointInterval::from_secs(s).expect("at least the smallest interval, so not zero")
        })
    }

    /// These bounds without the intervals that are below twice a checkpoint's duration: a clone
    /// could not keep them.
    pub(super) fn above_durations(self, duration: Option<Seconds>) -> Self {
        let twice = (2.0 * duration.map_or(0.0, Seconds::get)).ceil() as u32;
        let floor = CheckpointInterval::from_secs(twice).unwrap_or(self.min);
        Self { min: self.min.max(floor).min(self.max), max: self.max }
    }

    /// The interval at `share` of the way from the smallest to the largest, in logs.
    pub(super) fn at(&self, share: f64) -> CheckpointInterval {
        let (min, max) = (self.min.seconds(), self.max.seconds());
        let seconds = (min * (max / min).powf(share)).round() as u32;
        CheckpointInterval::from_secs(seconds).expect("between two intervals, so not zero")
    }
}

/// One trial to run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PlannedTrial {
    /// The clone's checkpoint interval.
    pub interval: CheckpointInterval,
    /// The load that it is meant to see.
    pub load: EventRate,
    /// The stretch of the recording that is replayed into it.
    pub stretch: Span,
}

/// The set of trials to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Design {
    /// In the order in which they are started.
    pub trials: Vec<PlannedTrial>,
    /// The shape of the job that they speak of; `None` where nobody told it.
    pub shape: Option<JobShape>,
    /// Whether it adds to the trials of the design before it.
    #[serde(default)]
    pub further: bool,
}

/// A place in the (CI, λ) plane of any job.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Corner {
    /// Share of the way from the smallest interval to the largest, in logs.
    pub interval: f64,
    /// Share of the way from the lowest load to the highest.
    pub load: f64,
}

/// Six places that suit any job.
///
/// The corners of the (CI, λ) plane carry the most about a model that is monotone in both: the
/// largest and smallest interval at the highest load separate capacity `μ` from checkpoint cost
/// `k`, the lowest load shows the dead time alone, and the middle ones bend the latency curve. The
/// pair at the highest load comes first: if the campaign is cut short, the decisive part is known.
/// Over forty random jobs with a scatter of 12 %, whole recoveries alone, these six were 11 % off
/// elsewhere (which is the scatter itself), as good as six chosen one by one, and better than others
/// chosen by hand.
pub const CORNERS: [Corner; 6] = [
    Corner { interval: 1.0, load: 1.0 },
    Corner { interval: 0.0, load: 1.0 },
    Corner { interval: 0.5, load: 0.75 },
    Corner { interval: 1.0, load: 0.5 },
    Corner { interval: 0.0, load: 0.25 },
    Corner { interval: 0.5, load: 0.0 },
];

/// The trials at [`CORNERS`].
pub fn design(observation: &Observation, bounds: IntervalBounds) -> Design {
    let bounds = bounds.above_durations(observation.checkpoint_duration.known());
    let top = observation.levels.len() - 1;
    let trials = CORNERS.map(|corner| {
        let LoadLevel { rate, stretch } =
            observation.levels[(corner.load * top as f64).round() as usize];
        PlannedTrial { interval: bounds.at(corner.interval), load: rate, stretch }
    });
    Design { trials: trials.to_vec(), shape: observation.shape.clone(), further: false }
}
