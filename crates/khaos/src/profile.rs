//! `khaos profile`: the second phase by itself. Trials on clones of the job, on what was observed of it; each is in
//! the store as soon as it is done, and a campaign that was interrupted goes on from there.
//!
//! configuration + observation → `Plan` → trials (`told` as they go) → models.

mod plan;
mod told;

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use khaos_adapters::flink::KillCommand;
use khaos_adapters::kafka::clones::KafkaClones;
use khaos_adapters::lab::LabInjector;
use khaos_control::ReconcileError;
use khaos_control::clock::Clock;
use khaos_control::optimize::Optimize;
use khaos_control::ports::{Clones, FaultInjector, Jobs, Store, WorkloadLog};
use khaos_control::profile::{CloneBudget, Profile};
use khaos_core::job::JobKey;
use khaos_core::observe::Observation;
use khaos_core::optimize::{Goals, Models, NoModels};
use khaos_core::profile::{IntervalBounds, Trial};
use khaos_core::record::{Kind, Record};
use khaos_core::units::Span;
use serde_json::json;

use self::plan::{Means, Plan};
use self::told::{Names, Tell, Told};
use crate::clock;
use crate::config::{Config, Kill, Profiling, read};
use crate::input::BadInput;
use crate::judged::{self, Judged, mean_of};
use crate::lab::asked_to_stop;
use crate::output::say;
use crate::progress::Steps;
use crate::recording::utc;
use crate::simulate::watched::Watched;
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
    /// Makes clones, and knows what can be replayed to them.
    clones: Arc<KafkaClones>,
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
    let ended = runtime.block_on(async {
        let clock = clock::anchored();
        let wired = Wired::to(&config, path, clock)?;
        let campaign = Campaign::of(config, profiling, clock, wired).await?;
        let (plan, goes_on) = campaign.plan().await?;
        campaign.can_replay(&plan).await?;
        if dry_run {
            return campaign.say(&plan, as_json);
        }
        let records = campaign.run(&plan, goes_on, as_json).await?;
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
        ))?;
        match campaign.plan().await?.0.spoilt() {
            none if none.is_empty() => Ok(()),
            spoilt => say(&format!("\n{}", to_mend(&spoilt))),
        }
    });
    // Whoever stopped the tidy-up waits for nobody.
    runtime.shutdown_background();
    ended
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
        let (Some(description), Some(kafka)) = (&job.deployment, &job.kafka) else {
            anyhow::bail!("[job.deployment] and [job.kafka] are there where [job.profile] is");
        };
        let clones = Arc::new(KafkaClones::new(
            job.key.clone(),
            description.clone(),
            wired.flink.as_ref().clone(),
            Arc::clone(&wired.told),
            &kafka.settings()?,
            clock,
        )?);
        let campaign = Self { config, profiling, clock, wired, bounds, budget, observed, clones };
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

    /// Says what would be done.
    fn say(&self, plan: &Plan, as_json: bool) -> anyhow::Result<()> {
        let job = &self.config.job;
        let description = job.deployment.as_ref().context("[job.profile] needs it")?;
        let inputs = job.kafka.as_ref().map(|kafka| &kafka.reads.topics[..]).unwrap_or_default();
        let means = Means { inputs, kill: &self.profiling.kill, description };
        say(&if as_json { format!("{:#}", plan.json(&means)) } else { plan.in_words(&means) })
    }

    /// What is to be done and what came of it, and whether the latest campaign is this one.
    async fn plan(&self) -> anyhow::Result<(Plan, bool)> {
        let patience = self.config.job.patience();
        let store = &self.wired.store;
        let mut plan = Plan::of(self.observation()?, self.bounds, self.budget, patience)?;
        let mut of_plan = false;
        for designed in store.range(&self.config.job.key, Kind::Design, Span::EVER).await? {
            let Some(design) = designed.design() else { continue };
            if !design.further {
                of_plan = *design == plan.design && designed.parents().contains(self.observed.id());
                if of_plan {
                    plan.forget();
                }
            }
            if !of_plan {
                continue;
            }
            for record in store.children(designed.id()).await? {
                let Some(trial) = record.trial() else { continue };
                if let Some(planned) = design.trials.get(trial.index as usize) {
                    plan.count(*planned, &trial.recovery);
                }
            }
        }
        Ok((plan, of_plan))
    }

    /// Refuses trials that begin before what Kafka still has: each would be deployed for nothing.
    async fn can_replay(&self, plan: &Plan) -> anyhow::Result<()> {
        let job = &self.config.job.key;
        let recorded = self.clones.recorded(job).await.context("what can be replayed")?;
        match plan.earliest() {
            Some(from) if from < recorded.from => Err(BadInput(format!(
                "trials would replay what arrived from {} on, but the topics of {job} reach back to {} only: run \
                 khaos observe again, and raise the topics' retention if that is not the first time",
                utc(from.0),
                utc(recorded.from.0),
            ))
            .into()),
            _ => Ok(()),
        }
    }

    /// Runs what is missing, and once more what said nothing where the campaign `goes_on`; every record of the job
    /// then.
    async fn run(
        &self,
        plan: &Plan,
        goes_on: bool,
        quiet: bool,
    ) -> anyhow::Result<Vec<Arc<Record>>> {
        let Wired { flink, store, .. } = &self.wired;
        let (job, clones) = (&self.config.job, &self.clones);
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
            let steps = steps.clone();
            move |line: &str| {
                if !quiet {
                    steps.step(line);
                }
            }
        });
        let names = Arc::new(Names::of(plan.planned()));
        let told = Arc::new(Told::new(
            Arc::clone(clones),
            injector,
            Arc::clone(&names),
            Arc::clone(&tell),
        ));
        let watch = move |record: &Record| {
            if let Some(news) = names.news(record) {
                tell(&news);
            }
        };
        let store = Arc::new(Watched::new(Arc::clone(store), Arc::new(watch)));
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
            if goes_on {
                // Whoever asks once more has mended what spoilt them.
                profile.again(&job.key).await.context("profiling")?;
            }
            loop {
                let before = trials().await?;
                profile.reconcile(&job.key).await.context("profiling")?;
                match optimize.fit(&job.key).await {
                    Err(ReconcileError::NoModels(why)) => {
                        return Err(self.nothing_learnt(&why).await?);
                    }
                    fitted => fitted.context("fitting models")?,
                }
                if trials().await? == before {
                    return anyhow::Ok(());
                }
            }
        };
        let ran = tokio::select! {
            biased;
            () = stop => Err(None),
            ran = ran => ran.map_err(Some),
        };
        if let Err(why) = ran {
            steps.step("Ending the clones");
            return Err(both(why, swept(&profile.clones, &job.key).await));
        }
        let mut records = Vec::new();
        for kind in [Kind::Trial, Kind::Models] {
            records.extend(store.range(&job.key, kind, Span::EVER).await?);
        }
        Ok(records)
    }

    /// Why there are no models, with what each trial said, and what to do.
    async fn nothing_learnt(&self, why: &NoModels) -> anyhow::Result<anyhow::Error> {
        let spoilt = self.plan().await?.0.spoilt();
        Ok(match why {
            NoModels::TooFew { usable, all, .. } if !spoilt.is_empty() => anyhow::anyhow!(
                "the trials say too little for models: {usable} of {all} showed a recovery.\n{}",
                to_mend(&spoilt)
            ),
            why => anyhow::anyhow!("the trials say too little for models: {why}"),
        })
    }
}

/// What said nothing, and what to do about it.
fn to_mend(spoilt: &[String]) -> String {
    format!(
        "{}\nMend that and run khaos profile again: it runs these once more.",
        spoilt.join("\n")
    )
}

/// Ends the clones, or does not: whoever asks once more to stop waits no longer.
async fn swept(clones: &Clones, job: &JobKey) -> anyhow::Result<()> {
    let stop = asked_to_stop()?;
    tokio::select! {
        biased;
        () = stop => anyhow::bail!("stopped once more before they were ended"),
        swept = clones.sweep(job) => Ok(swept.map(drop)?),
    }
}

/// Why a campaign ended, where it was stopped if nothing else is said, and what became of its clones.
fn both(why: Option<anyhow::Error>, swept: anyhow::Result<()>) -> anyhow::Error {
    let left = "clones are left until the next khaos profile, which ends them";
    match (why, swept) {
        (None, Ok(())) => anyhow::anyhow!(
            "stopped: no clone is left. What was measured is kept; khaos profile goes on from there"
        ),
        (None, Err(error)) => {
            anyhow::anyhow!("stopped, and {left}: {error:#}. What was measured is kept")
        }
        (Some(why), Ok(())) => why,
        (Some(why), Err(error)) => anyhow::anyhow!("{why:#}\nAlso, {left}: {error:#}"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_reason_hides_the_other() {
        let why = || Some(anyhow::anyhow!("no slot was free").context("profiling"));
        let swept = || Err(anyhow::anyhow!("Flink does not answer"));
        let said = |why, swept| format!("{:#}", both(why, swept));
        assert_eq!(said(why(), Ok(())), "profiling: no slot was free");
        let both = said(why(), swept());
        assert!(
            both.starts_with("profiling: no slot was free\nAlso, clones are left until"),
            "{both}"
        );
        assert!(both.ends_with(": Flink does not answer"), "{both}");
        assert!(said(None, Ok(())).starts_with("stopped: no clone is left."));
        let stopped = said(None, swept());
        assert!(stopped.starts_with("stopped, and clones are left until the next"), "{stopped}");
        assert!(stopped.contains("Flink does not answer"), "{stopped}");
    }
}
