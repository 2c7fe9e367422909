//! What a campaign would do and what that may cost, before anything is done.

use khaos_adapters::flink::{Description, Submission};
use khaos_control::profile::{CloneBudget, Patience};
use khaos_core::observe::Observation;
use khaos_core::profile::{Design, IntervalBounds, PlannedTrial, Recovery, design};
use khaos_core::units::{CheckpointInterval, Timestamp};
use serde_json::{Value, json};

use crate::config::Kill;
use crate::input::BadInput;
use crate::recording::utc;
use crate::table::table;

/// What came of a trial.
#[derive(Debug, Clone, PartialEq)]
enum State {
    /// It has not been run.
    Missing,
    /// It said nothing, and why; it is run again.
    Spoilt(String),
    Done,
}

/// A trial, and what came of it.
struct Row {
    planned: PlannedTrial,
    state: State,
}

/// The trials of a campaign.
pub(super) struct Plan {
    pub(super) design: Design,
    /// Those of the design, then further ones that were run.
    rows: Vec<Row>,
    /// Trials that were run, whatever came of them: they count against the budget.
    run: usize,
    /// Trials that the budget allows.
    allowed: usize,
    /// The longest that one may take, min.
    longest_min: f64,
    budget: CloneBudget,
    patience: Patience,
}

/// What the dry run tells beside the trials.
pub(super) struct Means<'a> {
    /// What is replayed.
    pub(super) inputs: &'a [String],
    /// What breaks a clone.
    pub(super) kill: &'a Kill,
    /// How the job is run.
    pub(super) description: &'a Description,
}

impl Plan {
    /// What follows from `observation`, as far as `budget` allows it.
    pub(super) fn of(
        observation: &Observation,
        bounds: IntervalBounds,
        budget: CloneBudget,
        patience: Patience,
    ) -> Result<Self, BadInput> {
        let allowed = budget
            .trials(patience, bounds)
            .map_err(|error| BadInput(format!("clone_minutes in [job.profile]: {error}")))?;
        let mut design = design(observation, bounds);
        design.trials.truncate(allowed);
        let missing = |planned: &PlannedTrial| Row { planned: *planned, state: State::Missing };
        let rows = design.trials.iter().map(missing).collect();
        let longest_min = minutes(patience, bounds.max());
        Ok(Self { design, rows, run: 0, allowed, longest_min, budget, patience })
    }

    /// Counts what came of `planned`: the last that is said of it holds.
    pub(super) fn count(&mut self, planned: PlannedTrial, recovery: &Recovery) {
        self.run += 1;
        let state = match recovery {
            Recovery::Spoilt(why) => State::Spoilt(why.clone()),
            Recovery::Measured(_) | Recovery::Censored(_) => State::Done,
        };
        match self.rows.iter_mut().find(|row| row.planned == planned) {
            Some(row) => row.state = state,
            None => self.rows.push(Row { planned, state }),
        }
    }

    /// Nothing was run yet.
    pub(super) fn forget(&mut self) {
        self.run = 0;
        self.rows.truncate(self.design.trials.len());
        for row in &mut self.rows {
            row.state = State::Missing;
        }
    }

    /// All trials, in the order of their numbers.
    pub(super) fn planned(&self) -> Vec<PlannedTrial> {
        self.rows.iter().map(|row| row.planned).collect()
    }

    fn left(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.state != State::Done)
    }

    /// Where the earliest replay begins; `None` where no trial is left.
    pub(super) fn earliest(&self) -> Option<Timestamp> {
        self.left().map(|row| row.planned.stretch.from).min()
    }

    /// One line for each trial that said nothing, with why.
    pub(super) fn spoilt(&self) -> Vec<String> {
        let line = |(index, row): (usize, &Row)| match &row.state {
            State::Spoilt(why) => {
                Some(format!("Trial {} at {} said nothing: {why}", index + 1, row.planned.interval))
            }
            State::Missing | State::Done => None,
        };
        self.rows.iter().enumerate().filter_map(line).collect()
    }

    /// The longest that this trial may take, min.
    fn at_most_min(&self, planned: &PlannedTrial) -> f64 {
        minutes(self.patience, planned.interval)
    }

    /// Of the trials that are left: clone-minutes at most, and minutes at most until the last one ends, where each
    /// begins as soon as another has ended.
    fn left_min(&self) -> (f64, f64) {
        let lengths: Vec<f64> = self.left().map(|row| self.at_most_min(&row.planned)).collect();
        let mut ends = vec![0.0_f64; self.budget.at_once as usize];
        for length in &lengths {
            if let Some(first) = ends.iter_mut().min_by(|a, b| a.total_cmp(b)) {
                *first += length;
            }
        }
        (lengths.iter().sum(), ends.into_iter().fold(0.0, f64::max))
    }

    /// How many trials the budget allows beside those that were run and those that are left. Models say whether one is
    /// worth it.
    fn further(&self) -> usize {
        self.allowed.saturating_sub(self.run + self.left().count())
    }

    /// What the next clone would be submitted with, where `…` stands for what is not known before.
    fn first_clone(&self, description: &Description) -> Option<Submission> {
        let first = self.left().next().or(self.rows.first())?;
        Some(description.copy(first.planned.interval, |_, name| format!("khaos-clone-…-{name}")))
    }

    pub(super) fn json(&self, means: &Means<'_>) -> Value {
        let (clone_minutes, minutes) = self.left_min();
        let row = |(index, Row { planned, state }): (usize, &Row)| {
            let why = match state {
                State::Spoilt(why) => Some(why),
                State::Missing | State::Done => None,
            };
            json!({
                "index": index,
                "interval": planned.interval,
                "load": planned.load,
                "stretch": planned.stretch,
                "at_most_min": self.at_most_min(planned),
                "done": *state == State::Done,
                "spoilt": why,
            })
        };
        let trials: Vec<Value> = self.rows.iter().enumerate().map(row).collect();
        let further = self.further();
        let clone = self.first_clone(means.description).map(|clone| {
            json!({
                "entry_class": clone.entry_class,
                "arguments": clone.arguments,
                "parallelism": clone.parallelism,
                "flink": clone.configuration,
            })
        });
        json!({
            "trials": trials,
            "at_once": self.budget.at_once,
            "budget_clone_minutes": self.budget.clone_minutes,
            "left": {
                "trials": self.left().count(),
                "clone_minutes": clone_minutes,
                "minutes": minutes,
            },
            "further": { "trials": further, "clone_minutes": further as f64 * self.longest_min },
            "first_clone": clone,
        })
    }

    /// Trials and cost, and what would be done to run them.
    pub(super) fn in_words(&self, means: &Means<'_>) -> String {
        let mut trials =
            table(&["trial", "interval", "load, events/s", "replayed from", "at most, min"]);
        for (index, Row { planned, state }) in self.rows.iter().enumerate() {
            let minutes = self.at_most_min(planned);
            trials.add_row([
                (index + 1).to_string(),
                planned.interval.to_string(),
                format!("{:.0}", planned.load.get()),
                utc(planned.stretch.from.0),
                match state {
                    State::Missing => format!("{minutes:.0}"),
                    State::Spoilt(_) => format!("{minutes:.0}, again"),
                    State::Done => "done".to_owned(),
                },
            ]);
        }
        let Means { inputs, kill, description } = means;
        let killed = match kill {
            Kill::Lab(folder) => format!("by the lab in {}", folder.display()),
            Kill::Command(command) => format!("by `{}`", command.join(" ")),
        };
        let mut paragraphs = vec![trials.to_string()];
        paragraphs.extend(Some(self.spoilt().join("\n")).filter(|spoilt| !spoilt.is_empty()));
        paragraphs.push(format!(
            "{}\nEach trial deploys a clone beside the job, on TaskManagers of its own, replays {} into topics of the \
             clone's own, and kills its TaskManager {killed}. The job itself is left alone.",
            self.cost(),
            inputs.join(", "),
        ));
        paragraphs.extend(self.first_clone(description).as_ref().map(as_submitted));
        paragraphs.push("Nothing of this has been done: it was a dry run.".to_owned());
        paragraphs.join("\n\n")
    }

    fn cost(&self) -> String {
        let (left, further, budget) =
            (self.left().count(), self.further(), self.budget.clone_minutes);
        let of_design = if left == 0 {
            "All of them are done".to_owned()
        } else {
            let (clone_minutes, minutes) = self.left_min();
            format!(
                "{left} to run, {} at once: at most {clone_minutes:.0} clone-minutes, and at most {minutes:.0} minutes",
                self.budget.at_once,
            )
        };
        if further == 0 {
            return format!("{of_design}. The budget of {budget:.0} clone-minutes allows no more.");
        }
        format!(
            "{of_design}; and then up to {further} further ones while they teach enough, within {budget:.0} \
             clone-minutes in all."
        )
    }
}

/// The longest that a trial at `interval` may take, min.
fn minutes(patience: Patience, interval: CheckpointInterval) -> f64 {
    let replayed = patience.stretch(interval);
    (replayed.lead_s + replayed.hold_s) / 60.0
}

/// What `clone` is given: a second mention of a topic, without braces, is seen here and nowhere else.
fn as_submitted(clone: &Submission) -> String {
    let arguments = clone.arguments.iter().map(|argument| format!("  {argument}"));
    let configuration = clone.configuration.iter().map(|(key, value)| format!("  {key}: {value}"));
    let given: Vec<String> = arguments.chain(configuration).collect();
    format!(
        "The first clone would be given\n{}\nWhat does not begin with khaos-clone-… there it has in common with the job: \
         if that is a topic, a group or a prefix of transactional ids, put it in braces in [job.deployment].",
        given.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use khaos_core::observe::LoadLevel;
    use khaos_core::series::Reading;
    use khaos_core::units::{EventRate, Seconds, Span};

    fn seconds(s: f64) -> Seconds {
        Seconds::new(s).unwrap()
    }

    /// Of a job whose load was 100 to 500 events/s: lead 600 s and recovery 600 s, intervals of 10 to 60 s.
    fn plan(at_once: u32, clone_minutes: f64) -> Result<Plan, BadInput> {
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

    fn job() -> Description {
        let text = ["--from={input:orders}", "--to=totals"].map(str::to_owned);
        Description::of(Submission {
            name: "orders".to_owned(),
            jar: "orders.jar".into(),
            entry_class: None,
            arguments: text.into(),
            parallelism: 1,
            configuration: [("ids".to_owned(), "{transactions:shop}".to_owned())].into(),
        })
        .unwrap()
    }

    fn told<T>(tell: impl Fn(&Means<'_>) -> T) -> T {
        let (inputs, kill) =
            (["orders".to_owned()], Kill::Command(vec!["kill-it".to_owned(), "now".to_owned()]));
        tell(&Means { inputs: &inputs, kill: &kill, description: &job() })
    }

    fn measured() -> Recovery {
        Recovery::Measured(seconds(48.0))
    }

    fn spoilt() -> Recovery {
        Recovery::Spoilt("no slot was free".to_owned())
    }

    #[test]
    fn a_plan_tells_what_it_may_take_at_most() {
        let plan = plan(1, 200.0).unwrap();
        // A trial replays lead and interval, then two intervals, a minute and the recovery: 600 + 60 + 120 + 60
        // + 600 s at 60 s, 600 + 10 + 20 + 60 + 600 s at 10 s, and at the 24 s between 1,332 s.
        let minutes: Vec<f64> = plan.planned().iter().map(|p| plan.at_most_min(p)).collect();
        assert_eq!(minutes[..3], [24.0, 21.5, 22.2]);
        let (clone_minutes, minutes) = plan.left_min();
        assert!((clone_minutes - 2.0 * (24.0 + 21.5 + 22.2)).abs() < 1e-9, "{clone_minutes}");
        assert!((minutes - clone_minutes).abs() < 1e-9, "one after the other");
        assert_eq!(plan.earliest(), Some(Timestamp(0)));
        let said = told(|means| plan.in_words(means));
        assert!(
            said.contains(
                "6 to run, 1 at once: at most 135 clone-minutes, and at most 135 minutes; and then up to 2 further \
                 ones while they teach enough, within 200 clone-minutes in all."
            ),
            "{said}"
        );
        assert!(
            said.contains("replays orders into") && said.contains("by `kill-it now`"),
            "{said}"
        );
        assert!(said.ends_with("it was a dry run."), "{said}");
        let json = told(|means| plan.json(means));
        assert_eq!(json["left"]["trials"], 6);
        assert_eq!(json["further"]["trials"], 2);
        assert_eq!(json["further"]["clone_minutes"], 48.0);
    }

    #[test]
    fn a_forgotten_mention_is_seen() {
        let plan = plan(1, 200.0).unwrap();
        let said = told(|means| plan.in_words(means));
        assert!(
            said.contains(
                "\n  --from=khaos-clone-…-orders\n  --to=totals\n  ids: khaos-clone-…-shop\n"
            ),
            "{said}"
        );
        let clone = &told(|means| plan.json(means))["first_clone"];
        assert_eq!(clone["arguments"][1], "--to=totals");
        assert_eq!(clone["flink"]["ids"], "khaos-clone-…-shop");
    }

    #[test]
    fn clones_side_by_side_take_less_time_and_what_is_done_takes_none() {
        let mut plan = plan(3, 200.0).unwrap();
        // 24 + 24 (the fourth begins where the first to end, of 21.5, made room: 21.5 + 24), 22.2 + 21.5, 24 + 22.2.
        let (_, minutes) = plan.left_min();
        assert!((minutes - 46.2).abs() < 1e-9, "{minutes}");
        let all = plan.planned();
        for planned in &all[..5] {
            plan.count(*planned, &measured());
        }
        let (clone_minutes, minutes) = plan.left_min();
        assert!((clone_minutes - 22.2).abs() < 1e-9 && (minutes - 22.2).abs() < 1e-9);
        let json = told(|means| plan.json(means));
        assert_eq!(json["trials"][4]["done"], true);
        assert_eq!(json["trials"][5]["done"], false);
        plan.count(all[5], &Recovery::Censored(seconds(600.0)));
        assert!(
            told(|means| plan.in_words(means)).contains("All of them are done; and then up to 2")
        );
        assert_eq!(plan.earliest(), None);
    }

    #[test]
    fn what_said_nothing_is_run_again_and_says_why() {
        let mut plan = plan(1, 150.0).unwrap();
        let all = plan.planned();
        for planned in &all {
            plan.count(*planned, &spoilt());
        }
        plan.count(all[0], &measured());
        plan.count(
            PlannedTrial { stretch: Span { from: Timestamp(9), ..all[0].stretch }, ..all[0] },
            &spoilt(),
        );
        let why = plan.spoilt();
        assert_eq!(why.len(), 6, "five of the design and a further one: {why:?}");
        assert!(why[0].starts_with("Trial 2 at 10"), "{why:?}");
        assert!(why[0].ends_with(" said nothing: no slot was free"), "{why:?}");
        let said = told(|means| plan.in_words(means));
        assert!(said.contains("22, again") && said.contains(&why[5]), "{said}");
        assert!(said.contains("6 to run") && said.contains("allows no more"), "{said}");
        let json = told(|means| plan.json(means));
        assert_eq!(
            (&json["trials"][0]["done"], &json["trials"][0]["spoilt"]),
            (&json!(true), &Value::Null)
        );
        assert_eq!(json["trials"][1]["done"], false);
        assert_eq!(json["trials"][1]["spoilt"], "no slot was free");
        plan.forget();
        assert_eq!((plan.spoilt(), plan.planned()), (vec![], all));
    }

    #[test]
    fn a_budget_cuts_the_plan_or_is_refused() {
        assert_eq!(plan(1, 50.0).unwrap().design.trials.len(), 2);
        let said = plan(1, 20.0).err().unwrap().to_string();
        assert!(said.starts_with("clone_minutes in [job.profile]: "), "{said}");
        assert!(said.contains("24 minutes") && said.contains("raise the budget"), "{said}");
    }
}
