//! Decisions in words.

use super::{Advice, Decision, Reason, Verdict};
use crate::optimize::Objective;

impl Decision {
    /// The decision in one sentence.
    pub fn sentence(&self) -> String {
        let head = match self.verdict {
            Verdict::Change => {
                format!("Change the interval from {} to {}", self.from, self.interval)
            }
            Verdict::Keep => format!("Keep the interval at {}", self.interval),
            Verdict::Recommend if self.interval == self.from => {
                format!("Recommended: keep the interval at {}", self.interval)
            }
            Verdict::Recommend => {
                format!("Recommended: an interval of {} instead of {}", self.interval, self.from)
            }
            Verdict::Hold => format!("Hold the interval at {}", self.interval),
        };
        let load = self
            .load
            .map_or(String::new(), |l| format!(", ready for {:.0} events/s", l.upper.get()));
        let reasons: Vec<String> = self.reasons.iter().map(ToString::to_string).collect();
        let advice = self.advice.map_or(String::new(), |a| format!("; {a}"));
        format!("{head}{load}: {}{advice}.", reasons.join("; "))
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::JobUnknown => write!(f, "the engine could not be asked about the job"),
            Self::NotRunning => write!(f, "the job is not running"),
            Self::LoadUnknown => write!(f, "the arrival rate is not known"),
            Self::TooFewMinutes => write!(
                f,
                "no trial of this job was run, and its load has not been followed for long enough \
                 to recommend anything without"
            ),
            Self::DurationUnknown => write!(f, "no checkpoint has completed yet"),
            Self::CheckpointsFailing => write!(f, "checkpoints fail and none completes"),
            Self::RolledBack => write!(f, "the last change was just rolled back"),
            Self::LargestFeasible { keeps } if keeps.is_empty() => {
                write!(f, "no objective asks for a smaller one")
            }
            Self::LargestFeasible { keeps } => {
                let names: Vec<String> = keeps.iter().map(ToString::to_string).collect();
                write!(f, "the largest that keeps {}", names.join(" and "))
            }
            Self::GivenUp { objective } => write!(f, "{objective} cannot be kept beside that"),
            Self::NotJudged { objective: Objective::Recovery } => write!(
                f,
                "recovery is not judged: too little is known of this job for any interval to be sure \
                 to keep it"
            ),
            Self::NotJudged { objective } => {
                write!(f, "{objective} is not judged, for no trial has measured it")
            }
            Self::NoTrials { failures, .. } => write!(
                f,
                "not acted on, because no trial of this job was run: its recovery is guessed from \
                 what is usual for jobs and from the highest load seen{}",
                and_from(*failures, "")
            ),
            Self::AnotherShape { failures } => write!(
                f,
                "not acted on, because the job's parallelism, state or configuration changed since \
                 its trials: its recovery is guessed from what is usual for jobs{}; profile it again",
                and_from(*failures, " since")
            ),
            Self::Drifted { failures, .. } => write!(
                f,
                "not acted on, because the last failures came out otherwise than predicted, so the \
                 job is not what it was: its recovery is guessed from what is usual for jobs{}; \
                 profile it again",
                and_from(*failures, " since")
            ),
            Self::NotAsked => write!(f, "not acted on, because the mode is to recommend"),
            Self::ShortestRecovery => {
                write!(f, "no interval keeps the recovery objective, this one recovers fastest")
            }
            Self::NotRepaid { better, cost_s, gain_s } => write!(
                f,
                "a redeploy to {better} would cost {cost_s:.0} s and gain {gain:.0} s within half an \
                 hour",
                gain = gain_s.max(0.0)
            ),
            Self::StillRepaying { better } => {
                write!(
                    f,
                    "{better} would be better, but the last redeploy is to repay itself first"
                )
            }
            Self::DeadBand { better } => write!(f, "{better} would be too small a step"),
            Self::CheckpointsSlow { floor } => {
                write!(f, "checkpoints take too long for less than {floor}")
            }
            Self::Budget { floor } => {
                write!(f, "the checkpoint budget allows no less than {floor}")
            }
        }
    }
}

/// What real failures add to a guess, in words.
fn and_from(failures: u32, when: &str) -> String {
    match failures {
        0 => String::new(),
        1 => format!(", and from its failure{when}"),
        n => format!(", and from its {n} failures{when}"),
    }
}

impl std::fmt::Display for Advice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Capacity { now_eps, needed_eps } => write!(
                f,
                "a capacity of {needed_eps:.0} events/s instead of {now_eps:.0} would keep it"
            ),
            Self::ShortenDeadTime { floor_s } => write!(
                f,
                "no capacity would keep it: detection and restore take {floor_s:.0} s, shorten them"
            ),
        }
    }
}
