//! What the user wants, in order of importance.

use serde::{Deserialize, Serialize};

use crate::profile::IntervalBounds;
use crate::units::{Millis, Seconds};

/// A property that an objective can bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// Worst-case recovery time.
    Recovery,
    /// Age of the newest output that a reader of a transactional sink can see.
    Visibility,
    /// End-to-end p99 latency.
    Latency,
}

impl std::fmt::Display for Objective {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Recovery => "recovery",
            Self::Visibility => "visibility",
            Self::Latency => "latency",
        })
    }
}

/// Bounds that the user set; what is `None` is not bounded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Objectives {
    /// On the worst-case recovery time.
    pub recovery: Option<Seconds>,
    /// On the age of visible output.
    pub visibility: Option<Seconds>,
    /// On the p99 latency.
    pub latency: Option<Millis>,
    /// Most important first; the last is given up first.
    pub order: Vec<Objective>,
}

impl Objectives {
    /// Recovery above visibility above latency.
    pub const DEFAULT_ORDER: [Objective; 3] =
        [Objective::Recovery, Objective::Visibility, Objective::Latency];

    /// Objectives on recovery and latency in the default order.
    pub fn recovery_and_latency(recovery: Seconds, latency: Millis) -> Self {
        Self {
            recovery: Some(recovery),
            visibility: None,
            latency: Some(latency),
            order: Self::DEFAULT_ORDER.to_vec(),
        }
    }

    /// Whether `this` comes before `other` in the user's order.
    pub fn outranks(&self, this: Objective, other: Objective) -> bool {
        let rank = |o| self.order.iter().position(|&x| x == o).unwrap_or(self.order.len());
        rank(this) < rank(other)
    }

    /// The objectives that are set, most important first.
    pub fn set(&self) -> Vec<Objective> {
        let is_set = |objective: &Objective| match objective {
            Objective::Recovery => self.recovery.is_some(),
            Objective::Visibility => self.visibility.is_some(),
            Objective::Latency => self.latency.is_some(),
        };
        self.order.iter().copied().filter(is_set).collect()
    }
}

/// What has to stay below the recovery objective.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// The mean worst-case recovery, by the upper 75 % credible bound of it: half of the single
    /// recoveries at the objective are longer.
    #[default]
    Mean,
    /// A single worst-case recovery, by the upper end of its 90 % prediction interval: one in twenty
    /// is longer.
    Single,
}

/// Everything that a decision has to respect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Goals {
    /// What the user wants.
    pub objectives: Objectives,
    /// The intervals that the job may be given.
    pub bounds: IntervalBounds,
    /// The most checkpoints that the job may take in an hour.
    pub checkpoints_per_hour: Option<u32>,
    /// What has to stay below the recovery objective.
    pub confidence: Confidence,
}
