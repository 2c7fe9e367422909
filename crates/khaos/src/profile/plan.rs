//! What a campaign would do and what that may cost, before anything is done.

use std::fmt::Write;

use khaos_control::profile::{BudgetTooSmall, CloneBudget, Patience};
use khaos_core::observe::Observation;
use khaos_core::profile::{Design, IntervalBounds, design};
use serde_json::{Value, json};

use crate::config::Kill;
use crate::recording::utc;
use crate::table::table;

/// The trials of a campaign.
pub(super) struct Plan {
    pub(super) design: Design,
    /// Indices of those that are in the store.
    pub(super) done: Vec<u32>,
    budget: CloneBudget,
    patience: Patience,
}

impl Plan {
    /// What follows from `observation`, as far as `budget` allows it.
    pub(super) fn of(
        observation: &Observation,
        bounds: IntervalBounds,
        budget: CloneBudget,
        patience: Patience,
    ) -> Result<Self, BudgetTooSmall> {
        let mut design = design(observation, bounds);
        design.trials.truncate(budget.trials(patience, bounds)?);
        Ok(Self { design, done: Vec::new(), budget, patience })
    }

    /// The longest that trial `index` may take, min.
    fn at_most_min(&self, index: usize) -> f64 {
        let replayed = self.patience.stretch(self.design.trials[index].interval);
        (replayed.lead_s + replayed.hold_s) / 60.0
    }

    fn is_done(&self, index: usize) -> bool {
        self.done.iter().any(|done| *done as usize == index)
    }

    /// Of the trials that are left: clone-minutes at most, and minutes at most until the last one ends, where each
    /// begins as soon as another has ended.
    fn left_min(&self) -> (f64, f64) {
        let lengths: Vec<f64> = (0..self.design.trials.len())
            .filter(|index| !self.is_done(*index))
            .map(|index| self.at_most_min(index))
            .collect();
        let mut ends = vec![0.0_f64; self.budget.at_once as usize];
        for length in &lengths {
            if let Some(first) = ends.iter_mut().min_by(|a, b| a.total_cmp(b)) {
                *first += length;
            }
        }
        (lengths.iter().sum(), ends.into_iter().fold(0.0, f64::max))
    }

    pub(super) fn json(&self) -> Value {
        let (clone_minutes, minutes) = self.left_min();
        let trials: Vec<Value> = self
            .design
            .trials
            .iter()
            .enumerate()
            .map(|(index, planned)| {
                json!({
                    "index": index,
                    "interval": planned.interval,
                    "load": planned.load,
                    "stretch": planned.stretch,
                    "at_most_min": self.at_most_min(index),
                    "done": self.is_done(index),
                })
            })
            .collect();
        json!({
            "trials": trials,
            "at_once": self.budget.at_once,
            "budget_clone_minutes": self.budget.clone_minutes,
            "left": { "clone_minutes": clone_minutes, "minutes": minutes },
        })
    }

    /// Trials and cost, and what would be done to run them: `inputs` replayed, clones broken by `kill`.
    pub(super) fn in_words(&self, inputs: &[String], kill: &Kill) -> String {
        let mut trials =
            table(&["trial", "interval", "load, events/s", "replayed from", "at most, min"]);
        for (index, planned) in self.design.trials.iter().enumerate() {
            let minutes = format!("{:.0}", self.at_most_min(index));
            trials.add_row([
                (index + 1).to_string(),
                planned.interval.to_string(),
                format!("{:.0}", planned.load.get()),
                utc(planned.stretch.from.0),
                if self.is_done(index) { "done".to_owned() } else { minutes },
            ]);
        }
        let (clone_minutes, minutes) = self.left_min();
        let mut text = format!("{trials}\n\n");
        let left = self.design.trials.len() - self.done.len();
        let _ = if left == 0 {
            write!(
                text,
                "All of them are done: khaos profile would ask whether another is worth it."
            )
        } else {
            write!(
                text,
                "{left} to run, {} at once: at most {clone_minutes:.0} clone-minutes of {:.0}, and at most {minutes:.0} \
                 minutes.",
                self.budget.at_once, self.budget.clone_minutes,
            )
        };
        let killed = match kill {
            Kill::Lab(folder) => format!("by the lab in {}", folder.display()),
            Kill::Command(command) => format!("by `{}`", command.join(" ")),
        };
        let _ = write!(
            text,
            "\nEach trial deploys a clone beside the job, on TaskManagers of its own, replays {} into topics of the \
             clone's own, and kills its TaskManager {killed}. The job itself is left alone. Nothing of this has been \
             done: it was a dry run.",
            inputs.join(", "),
        );
        text
    }
}
