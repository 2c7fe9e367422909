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

#[cfg(test)]
mod tests {
    use super::*;
    use khaos_core::observe::LoadLevel;
    use khaos_core::series::Reading;
    use khaos_core::units::{CheckpointInterval, EventRate, Seconds, Span, Timestamp};

    fn seconds(s: f64) -> Seconds {
        Seconds::new(s).unwrap()
    }

    /// Of a job whose load was 100 to 500 events/s: lead 600 s and recovery 600 s, intervals of 10 to 60 s.
    fn plan(at_once: u32, clone_minutes: f64) -> Result<Plan, BudgetTooSmall> {
        let rate = |eps| EventRate::new(eps).unwrap();
        let span = Span { from: Timestamp(0), to: Timestamp(7_200_000) };
        let level = |i: u32| LoadLevel { rate: rate(100.0 * f64::from(i)), stretch: span };
        let observation = Observation {
            span,
            known_minutes: 120,
            unknown_minutes: 0,
            steady_minutes: 120,
            lag: seconds(0.1),
            latency: Reading::Unknown,
            lowest: rate(100.0),
            highest: rate(500.0),
            levels: (1..=5).map(level).collect(),
            usual: vec![rate(300.0)],
            checkpoint_duration: Reading::Unknown,
            shape: None,
        };
        let interval = |secs| CheckpointInterval::from_secs(secs).unwrap();
        let bounds = IntervalBounds::new(interval(10), interval(60)).unwrap();
        let patience = Patience { lead: seconds(600.0), recovery: seconds(600.0) };
        Plan::of(&observation, bounds, CloneBudget { at_once, clone_minutes }, patience)
    }

    #[test]
    fn a_plan_tells_what_it_may_take_at_most() {
        let plan = plan(1, 200.0).unwrap();
        // A trial replays lead and interval, then two intervals, a minute and the recovery: 600 + 60 + 120 + 60
        // + 600 s at 60 s, 600 + 10 + 20 + 60 + 600 s at 10 s, and at the 24 s between 1,332 s.
        assert_eq!(
            [plan.at_most_min(0), plan.at_most_min(1), plan.at_most_min(2)],
            [24.0, 21.5, 22.2]
        );
        let (clone_minutes, minutes) = plan.left_min();
        assert!((clone_minutes - 2.0 * (24.0 + 21.5 + 22.2)).abs() < 1e-9, "{clone_minutes}");
        assert!((minutes - clone_minutes).abs() < 1e-9, "one after the other");
        let said =
            plan.in_words(&["orders".to_owned()], &Kill::Command(vec!["kill-it".to_owned()]));
        assert!(said.contains("6 to run, 1 at once: at most 135 clone-minutes of 200"), "{said}");
        assert!(said.contains("replays orders into") && said.contains("by `kill-it`"), "{said}");
    }

    #[test]
    fn clones_side_by_side_take_less_time_and_what_is_done_takes_none() {
        let mut plan = plan(3, 200.0).unwrap();
        // 24 + 24 (the fourth begins where the first to end, of 21.5, made room: 21.5 + 24), 22.2 + 21.5, 24 + 22.2.
        let (_, minutes) = plan.left_min();
        assert!((minutes - 46.2).abs() < 1e-9, "{minutes}");
        plan.done = vec![0, 1, 2, 3, 4];
        let (clone_minutes, minutes) = plan.left_min();
        assert!((clone_minutes - 22.2).abs() < 1e-9 && (minutes - 22.2).abs() < 1e-9);
        assert_eq!(plan.json()["trials"][4]["done"], true);
        assert_eq!(plan.json()["trials"][5]["done"], false);
    }

    #[test]
    fn a_budget_cuts_the_plan_or_is_refused() {
        assert_eq!(plan(1, 50.0).unwrap().design.trials.len(), 2);
        let said = plan(1, 20.0).err().unwrap().to_string();
        assert!(said.contains("24 minutes") && said.contains("raise the budget"), "{said}");
    }
}
