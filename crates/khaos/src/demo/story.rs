//! The demo told for a newcomer: what happens on standard output, progress on standard error.

use std::sync::Arc;

use comfy_table::Table;
use indicatif::ProgressBar;
use khaos_core::optimize::Verdict;
use khaos_core::profile::Recovery;
use khaos_core::record::{Fact, Record};
use khaos_core::units::{EventRate, Millis, Seconds};

use crate::clock_time;
use crate::output::say;
use crate::progress::{hidden, progress};
use crate::simulate::watched::OnRecord;
use crate::simulate::{Policy, PolicyResult, Simulation};
use crate::table::{policies, table};

/// Tells the demo, or keeps silent.
#[derive(Debug)]
pub(super) struct Story {
    aloud: bool,
    progress: ProgressBar,
}

impl Story {
    pub(super) fn aloud() -> Self {
        Self { aloud: true, progress: progress(0, "") }
    }

    pub(super) fn silent() -> Self {
        Self { aloud: false, progress: hidden() }
    }

    fn say(&self, text: &str) -> anyhow::Result<()> {
        if self.aloud { self.progress.suspend(|| say(text)) } else { Ok(()) }
    }

    pub(super) fn begin(&self, simulation: &Simulation) -> anyhow::Result<()> {
        self.say(&format!(
            "A web shop's clickstream job takes a checkpoint every {max}, because somebody once \
             guessed so.\nWhen it fails, everything since the last checkpoint is processed again \
             while new events queue up.\nIts owners want it back to normal within {recovery:.0} s, \
             at any time of day, and a p99 latency below {latency:.0} ms.\nKhaos finds the interval, \
             minute by minute. (Embedded engine, virtual time, seed {seed}.)\n",
            max = simulation.bounds.max(),
            recovery = simulation.recovery.get(),
            latency = simulation.latency.get(),
            seed = simulation.seed,
        ))
    }

    /// Told of the observed minutes, then of the trials.
    pub(super) fn observing(&mut self, simulation: &Simulation) -> OnRecord {
        let minutes = simulation.recording.per_minute().len() as u64;
        self.restart("Observe", minutes, "minutes of yesterday");
        let bar = self.progress.clone();
        Arc::new(move |record| match record.fact() {
            Fact::Minute(_) | Fact::Trial(_) => bar.inc(1),
            Fact::Design(design) => {
                bar.reset();
                bar.set_length(design.trials.len() as u64);
                bar.set_prefix("Profile");
                bar.set_message("trials on clones");
            }
            Fact::Observation(_)
            | Fact::Failure(_)
            | Fact::Models(_)
            | Fact::Decision(_)
            | Fact::Outcome(_) => {}
        })
    }

    pub(super) fn profiled(&self, learnt: &[Arc<Record>]) -> anyhow::Result<()> {
        self.progress.finish_and_clear();
        if let Some(observation) = learnt.iter().find_map(|r| r.observation()) {
            self.say(&format!(
                "1. Observe   {} minutes of yesterday, {} of them steady: {:.0} to {:.0} events/s.\n",
                observation.known_minutes,
                observation.steady_minutes,
                observation.lowest.get(),
                observation.highest.get(),
            ))?;
        }
        self.say(
            "2. Profile   Clones of the job replay stretches of it at different intervals. Each is \
             broken just before\n             a checkpoint completes, the worst moment, and watched \
             until its lag is back to normal.",
        )?;
        let header = [
            "interval",
            "load, events/s",
            "latency, ms",
            "down, s",
            "catch-up, events/s",
            "recovery, s",
        ];
        let mut table = table(&header);
        let mut trials: Vec<_> = learnt.iter().filter_map(|r| r.trial()).collect();
        trials.sort_by_key(|trial| trial.index);
        for trial in &trials {
            let or_dash = |value: Option<f64>| value.map_or("–".into(), |v| format!("{v:.0}"));
            table.add_row([
                trial.interval.to_string(),
                format!("{:.0}", trial.load.get()),
                or_dash(trial.latency.map(Millis::get)),
                or_dash(trial.dead_time.map(Seconds::get)),
                or_dash(trial.catch_up.map(EventRate::get)),
                match &trial.recovery {
                    Recovery::Measured(s) => format!("{:.0}", s.get()),
                    Recovery::Censored(s) => format!("> {:.0}", s.get()),
                    Recovery::Spoilt(why) => why.clone(),
                },
            ]);
        }
        self.say(&indented(&table))?;
        if let Some(models) = learnt.iter().rev().find_map(|r| r.models()) {
            let found = models.recovery.parameters;
            self.say(&format!(
                "             From these {} trials: {:.0} s down per failure, {:.0} s until that shows \
                 in the metrics,\n             a capacity of {:.0} events/s, of which a checkpoint \
                 costs {:.1} s.\n",
                trials.len(),
                found.dead_time_s,
                found.settling_s,
                found.capacity_eps,
                found.checkpoint_cost_s,
            ))?;
        }
        Ok(())
    }

    /// Told of the minutes of a day under `policy`.
    pub(super) fn living(&mut self, policy: Policy, simulation: &Simulation) -> OnRecord {
        let minutes = simulation.workload.per_minute().len() as u64;
        self.restart("Optimize", minutes, &format!("minutes of today under {policy}"));
        let bar = self.progress.clone();
        Arc::new(move |record| {
            if matches!(record.fact(), Fact::Minute(_)) {
                bar.inc(1);
            }
        })
    }

    pub(super) fn end(
        &self,
        simulation: &Simulation,
        records: &[Arc<Record>],
        results: &[PolicyResult],
    ) -> anyhow::Result<()> {
        self.progress.finish_and_clear();
        let changes: Vec<_> = records
            .iter()
            .filter_map(|r| r.decision())
            .filter(|decision| decision.verdict == Verdict::Change)
            .collect();
        self.say(&format!(
            "3. Optimize  Today, a decision a minute, {} of them changes; none restarts the job. \
             For example:",
            changes.len(),
        ))?;
        let smallest = changes.iter().min_by_key(|d| d.interval);
        for decision in [changes.first(), smallest, changes.last()].into_iter().flatten() {
            self.say(&format!(
                "             {}  {}",
                clock_time(decision.at),
                decision.sentence()
            ))?;
        }
        self.say(&format!(
            "\nThe same day, the same {} failures, under each policy:",
            results.first().map_or(0, |r| r.failures),
        ))?;
        self.say(&policies(results).to_string())?;
        self.say(&conclusion(simulation, results))
    }

    fn restart(&mut self, phase: &str, length: u64, of: &str) {
        self.progress.finish_and_clear();
        self.progress = if self.aloud { progress(length, of) } else { hidden() };
        self.progress.set_prefix(phase.to_owned());
    }
}

/// The two sentences that remain.
fn conclusion(simulation: &Simulation, results: &[PolicyResult]) -> String {
    let find = |name: &str| results.iter().find(|r| r.name == name);
    let today = results.first();
    let Some((khaos, today)) = find("khaos").zip(today) else { return String::new() };
    format!(
        "Exposure is the share of the day in which a failure would have broken the objective: {:.1} % \
         as the job is\ntoday, {:.1} % with Khaos, for {:.1} % more latency and {:.0} s of downtime in {} \
         changes.\nIf Khaos died, the job would fall back to its own {} by itself: {:.1} % at worst.",
        100.0 * today.exposure,
        100.0 * khaos.exposure,
        100.0 * (khaos.latency_mean_ms / today.latency_mean_ms - 1.0),
        khaos.downtime_s,
        khaos.interval_changes,
        simulation.bounds.max(),
        100.0 * khaos.exposure_if_dead.unwrap_or(today.exposure),
    )
}

fn indented(table: &Table) -> String {
    table.lines().map(|line| format!("             {line}")).collect::<Vec<_>>().join("\n")
}
