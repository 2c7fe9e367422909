//! `khaos profile`: the second phase by itself. Trials on clones of the job, on what was observed of it; each is in
//! the store as soon as it is done, and a campaign that was interrupted goes on from there.
//!
//! configuration + observation → [`Plan`](plan) → trials (`told` as they go) → models.

mod plan;
mod told;

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use khaos_adapters::flink::KillCommand;
use khaos_adapters::kafka::clones::KafkaClones;
use khaos_adapters::lab::LabInjector;
use khaos_control::clock::Clock;
use khaos_control::optimize::Optimize;
use khaos_control::ports::{Clones, FaultInjector, Jobs, Store};
use khaos_control::profile::{CloneBudget, Profile};
use khaos_core::observe::Observation;
use khaos_core::optimize::{Goals, Models};
use khaos_core::profile::{IntervalBounds, Trial};
use khaos_core::record::{Kind, Record};
use khaos_core::units::Span;
use serde_json::json;

use self::plan::Plan;
use self::told::{Tell, Told};
use crate::clock;
use crate::config::{Config, Kill, Profiling, read};
use crate::input::BadInput;
use crate::judged::{self, Judged, mean_of};
use crate::lab::asked_to_stop;
use crate::output::say;
use crate::progress::Steps;
use crate::table::percent;
use crate::wired::Wired;

/// Trials that are allowed where no budget is set: a design has six, and no rounding may cost one.
const TRIALS: f64 = 6.5;

/// Everything that a campaign rests on.
struct Campaign {
    config: Config,
    profiling: Profiling,
    clock: Clock,
    wired: Wired,
    bounds: IntervalBounds,
    budget: CloneBudget,
    observed: Arc<Record>,
}

/// Runs `khaos profile` with the configuration at `path`; only says what it would do where it is a `dry_run`.
pub fn run(path: &Path, dry_run: bool, as_json: bool) -> anyhow::Result<()> {
    let config = read(path)?;
    let Some(profiling) = config.job.profile.clone() else {
        return Err(BadInput(format!(
            "{}: [job.profile] is missing, without which no clone is made: docs/khaos.toml shows it",
            path.display()
        ))
        .into());
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let clock = clock::anchored();
        let wired = Wired::to(&config, path, clock)?;
        let campaign = Campaign::of(config, profiling, clock, wired).await?;
        let plan = campaign.plan().await?;
        if dry_run {
            return say(&if as_json { format!("{:#}", plan.json()) } else { campaign.in_words(&plan) });
        }
        let Some(records) = campaign.run(&plan, as_json).await? else {
            return say(
                "Stopped: no clone is left. What was measured is kept; khaos profile goes on from there.",
            );
        };
        let (models, trials) = learnt(&records)?;
        let parameters = &models.recovery.parameters;
        let trials: Vec<Judged> =
            trials.iter().map(|trial| Judged::by(parameters, trial)).collect();
        let error = mean_of(trials.iter().map(|judged| judged.error));
        if as_json {
            let result = json!({ "trials": trials, "trial_mean_error": error, "models": models });
            return say(&format!("{result:#}"));
        }
        say(&format!(
            "{}\n\nPredicted from the models with dead time and age as measured, off by {} in the mean. khaos run \
             decides by these models from its next minute on.",
            judged::trials(&trials),
            percent(error),
        ))
    })
}

impl Campaign {
    async fn of(
        config: Config,
        profiling: Profiling,
        clock: Clock,
        wired: Wired,
    ) -> anyhow::Result<Self> {
        let job = &config.job;
        let run = wired.flink.describe(&job.key).await?;
        let bounds = job.bounds(run.checkpointing.interval);
        let replayed = job.patience().stretch(bounds.max());
        let trial_minutes = (replayed.lead_s + replayed.hold_s) / 60.0;
        let clone_minutes = profiling.clone_minutes.unwrap_or(TRIALS * trial_minutes);
        let budget = CloneBudget { at_once: profiling.at_once, clone_minutes };
        let observed = wired.store.latest(&job.key, Kind::Observation).await?;
        let Some(observed) = observed else {
            let what = format!("{} has not been observed: run khaos observe first", job.key);
            return Err(BadInput(what).into());
        };
        let campaign = Self { config, profiling, clock, wired, bounds, budget, observed };
        let needed_s = 60.0 * trial_minutes;
        for level in &campaign.observation()?.levels {
            if level.stretch.secs() < needed_s {
                return Err(BadInput(format!(
                    "{} was observed for trials of {:.0} minutes, and they take up to {:.0} now: run khaos observe \
                     again",
                    campaign.config.job.key,
                    level.stretch.secs() / 60.0,
                    trial_minutes,
                ))
                .into());
            }
        }
        Ok(campaign)
    }

    fn observation(&self) -> anyhow::Result<&Observation> {
        self.observed.observation().context("an observation is one")
    }

    fn in_words(&self, plan: &Plan) -> String {
        let inputs = self.config.job.kafka.as_ref().map(|kafka| &kafka.reads.topics[..]);
        plan.in_words(inputs.unwrap_or_default(), &self.profiling.kill)
    }

    /// What is to be done, and what of it is done.
    async fn plan(&self) -> anyhow::Result<Plan> {
        let patience = self.config.job.patience();
        let mut plan = Plan::of(self.observation()?, self.bounds, self.budget, patience)?;
        let designs = self.wired.store.children(self.observed.id()).await?;
        for design in designs.iter().filter(|r| r.design() == Some(&plan.design)) {
            let trials = self.wired.store.children(design.id()).await?;
            plan.done.extend(trials.iter().filter_map(|record| record.trial().map(|t| t.index)));
        }
        Ok(plan)
    }

    /// Runs what is missing; every record of the job then. `None` when it was asked to stop.
    async fn run(&self, plan: &Plan, quiet: bool) -> anyhow::Result<Option<Vec<Arc<Record>>>> {
        let Wired { flink, told, store, .. } = &self.wired;
        let job = &self.config.job;
        let (Some(description), Some(kafka)) = (&job.deployment, &job.kafka) else {
            anyhow::bail!("[job.deployment] and [job.kafka] are there where [job.profile] is");
        };
        let settings = kafka.settings()?;
        let clones = Arc::new(KafkaClones::new(
            job.key.clone(),
            description.clone(),
            flink.as_ref().clone(),
            Arc::clone(told),
            &settings,
            self.clock,
        )?);
        let injector: Arc<dyn FaultInjector> = match &self.profiling.kill {
            Kill::Lab(folder) => Arc::new(LabInjector::at(folder, &self.config.flink)?),
            Kill::Command(command) => {
                Arc::new(KillCommand::new(&self.config.flink, command.clone())?)
            }
        };
        // The first Ctrl-C ends the clones, in good order.
        let stop = asked_to_stop()?;
        let steps = Steps::new();
        let tell: Tell = Arc::new({
            let (steps, of) = (steps.clone(), plan.design.trials.len());
            move |index: u32, doing: &str| {
                if !quiet {
                    steps.step(&format!("Trial {} of {of}: {doing}", index + 1));
                }
            }
        });
        let told = Arc::new(Told::new(Arc::clone(&clones), injector, tell));
        let goals = Goals {
            objectives: job.objectives.clone(),
            bounds: self.bounds,
            checkpoints_per_hour: job.checkpoints_per_hour,
            confidence: job.confidence,
        };
        let profile = Profile {
            clock: self.clock,
            jobs: flink.clone(),
            metrics: clones.clone(),
            checkpoints: flink.clone(),
            clones: Clones::new(told.clone()),
            log: told.clone(),
            injector: told,
            store: store.clone(),
            bounds: self.bounds,
            objective: goals.objectives.recovery,
            budget: self.budget,
            patience: job.patience(),
        };
        let optimize = Optimize::new(self.clock, flink.clone(), store.clone(), goals);
        let trials = async || {
            let trials = store.range(&job.key, Kind::Trial, Span::EVER).await?;
            anyhow::Ok(trials.len())
        };
        let ran = async {
            loop {
                let before = trials().await?;
                profile.reconcile(&job.key).await.context("profiling")?;
                optimize.fit(&job.key).await.context("fitting models")?;
                if trials().await? == before {
                    return anyhow::Ok(());
                }
            }
        };
        let ran = tokio::select! {
            biased;
            () = stop => None,
            ran = ran => Some(ran),
        };
        if !matches!(ran, Some(Ok(()))) {
            steps.step("Ending the clones");
            // What cannot be ended now is swept by the next campaign.
            profile
                .clones
                .sweep(&job.key)
                .await
                .context("clones are left: run khaos profile again")?;
        }
        match ran {
            None => Ok(None),
            Some(Err(error)) => Err(error),
            Some(Ok(())) => {
                let mut records = Vec::new();
                for kind in [Kind::Design, Kind::Trial, Kind::Models] {
                    let of_kind = store.range(&job.key, kind, Span::EVER).await?;
                    records.extend(of_kind);
                }
                Ok(Some(records))
            }
        }
    }
}

/// The latest models, and the trials that they rest on.
fn learnt(records: &[Arc<Record>]) -> anyhow::Result<(&Models, Vec<&Trial>)> {
    let latest = records.iter().rev().find(|record| record.models().is_some());
    let latest = latest.context("the trials gave no models")?;
    let models = latest.models().context("models are models")?;
    let rests_on = |record: &&Arc<Record>| latest.parents().contains(record.id());
    let trials = records.iter().filter(rests_on).filter_map(|record| record.trial()).collect();
    Ok((models, trials))
}
