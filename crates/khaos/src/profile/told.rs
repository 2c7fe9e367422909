//! The steps of a trial, told as they begin: they are calls of ports. What came of it is told as its record
//! arrives.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use khaos_control::ports::{
    CloneHost, CloneId, CloneSpec, Fault, FaultInjector, PortError, RunningClone, WorkloadLog,
};
use khaos_core::job::{EngineJobId, JobKey};
use khaos_core::profile::{PlannedTrial, Recovery};
use khaos_core::record::{Record, RecordId};
use khaos_core::units::{Span, Timestamp};

/// Is told one line.
pub(super) type Tell = Arc<dyn Fn(&str) + Send + Sync>;

/// Trials by the numbers that the plan gives them: one that is run again is in a design of its own.
pub(super) struct Names {
    planned: Vec<PlannedTrial>,
    designs: Mutex<BTreeMap<RecordId, Vec<PlannedTrial>>>,
}

impl Names {
    /// Of a plan's trials, in its order.
    pub(super) fn of(planned: Vec<PlannedTrial>) -> Self {
        Self { planned, designs: Mutex::default() }
    }

    /// What `record` says of a trial that is over. Designs are remembered: their trials come next.
    pub(super) fn news(&self, record: &Record) -> Option<String> {
        if let Some(design) = record.design() {
            let mut designs = self.designs.lock().unwrap_or_else(PoisonError::into_inner);
            designs.insert(record.id().clone(), design.trials.clone());
        }
        let trial = record.trial()?;
        let name = self.name(record.parents().first()?, trial.index);
        Some(match &trial.recovery {
            Recovery::Measured(s) => format!("{name}: recovered after {:.0} s", s.get()),
            Recovery::Censored(s) => format!("{name}: had not recovered after {:.0} s", s.get()),
            Recovery::Spoilt(why) => format!("{name}: said nothing: {why}"),
        })
    }

    fn name(&self, campaign: &RecordId, index: u32) -> String {
        let designs = self.designs.lock().unwrap_or_else(PoisonError::into_inner);
        let planned = designs.get(campaign).and_then(|trials| trials.get(index as usize));
        let place = planned.and_then(|planned| self.planned.iter().position(|p| p == planned));
        match (place, planned) {
            (Some(place), _) => format!("Trial {} of {}", place + 1, self.planned.len()),
            (None, Some(planned)) => format!("Further trial at {}", planned.interval),
            (None, None) => format!("Trial {}", index + 1),
        }
    }
}

/// Clones that are made, fed and broken, aloud.
pub(super) struct Told<C> {
    clones: Arc<C>,
    injector: Arc<dyn FaultInjector>,
    names: Arc<Names>,
    tell: Tell,
    /// The name of the trial that each clone is for.
    trials: Mutex<BTreeMap<EngineJobId, String>>,
}

impl<C> Told<C> {
    pub(super) fn new(
        clones: Arc<C>,
        injector: Arc<dyn FaultInjector>,
        names: Arc<Names>,
        tell: Tell,
    ) -> Self {
        Self { clones, injector, names, tell, trials: Mutex::default() }
    }

    fn tell(&self, id: &EngineJobId, doing: &str) {
        let trials = self.trials.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = trials.get(id) {
            (self.tell)(&format!("{name}: {doing}"));
        }
    }
}

#[async_trait]
impl<C: CloneHost> CloneHost for Told<C> {
    async fn launch(&self, spec: &CloneSpec) -> Result<EngineJobId, PortError> {
        let name = self.names.name(&spec.campaign, spec.index);
        (self.tell)(&format!("{name}: deploying a clone that checkpoints every {}", spec.interval));
        let id = self.clones.launch(spec).await?;
        self.trials.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), name);
        Ok(id)
    }

    async fn terminate(&self, id: &EngineJobId) -> Result<(), PortError> {
        self.tell(id, "removing the clone and what it had");
        self.clones.terminate(id).await
    }

    async fn settle(&self, of: &JobKey) -> Result<(), PortError> {
        self.clones.settle(of).await
    }

    async fn running(&self) -> Result<Vec<RunningClone>, PortError> {
        self.clones.running().await
    }
}

#[async_trait]
impl<C: WorkloadLog> WorkloadLog for Told<C> {
    async fn recorded(&self, job: &JobKey) -> Result<Span, PortError> {
        self.clones.recorded(job).await
    }

    async fn replay(
        &self,
        job: &JobKey,
        from: Timestamp,
        clone: &CloneId,
    ) -> Result<(), PortError> {
        self.clones.replay(job, from, clone).await?;
        self.tell(clone.engine_id(), "replaying, until the clone is steady and the load is there");
        Ok(())
    }
}

#[async_trait]
impl<C: Send + Sync> FaultInjector for Told<C> {
    async fn aim(&self, clone: &CloneId) -> Result<(), PortError> {
        self.tell(clone.engine_id(), "waiting for the worst moment");
        self.injector.aim(clone).await
    }

    async fn inject(&self, clone: &CloneId, fault: Fault) -> Result<(), PortError> {
        self.injector.inject(clone, fault).await?;
        self.tell(clone.engine_id(), "broken; waiting until it has recovered");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use khaos_core::profile::{Design, Trial};
    use khaos_core::record::Fact;
    use khaos_core::units::{CheckpointInterval, EventRate, Seconds};

    fn planned(seconds: u32) -> PlannedTrial {
        PlannedTrial {
            interval: CheckpointInterval::from_secs(seconds).unwrap(),
            load: EventRate::new(100.0).unwrap(),
            stretch: Span { from: Timestamp(0), to: Timestamp(1) },
        }
    }

    #[test]
    fn a_trial_is_called_as_in_the_plan_whichever_design_runs_it() {
        let names = Names::of(vec![planned(10), planned(60)]);
        let job = JobKey("orders".to_owned());
        let record = |parents, fact| Record::new(&job, Timestamp(0), parents, fact);
        let trials = vec![planned(60), planned(30)];
        let again = record(vec![], Fact::Design(Design { trials, shape: None, further: true }));
        assert_eq!(names.news(&again), None);
        let news = |index: u32, recovery| {
            let PlannedTrial { interval, load, .. } = planned(10);
            let trial = Trial::of_recovery(index, interval, load, recovery);
            names.news(&record(vec![again.id().clone()], Fact::Trial(trial))).unwrap()
        };
        let seconds = |s| Seconds::new(s).unwrap();
        let recovered = news(0, Recovery::Measured(seconds(48.2)));
        assert_eq!(recovered, "Trial 2 of 2: recovered after 48 s");
        let spoilt = news(0, Recovery::Spoilt("no slot was free".to_owned()));
        assert_eq!(spoilt, "Trial 2 of 2: said nothing: no slot was free");
        let over = news(1, Recovery::Censored(seconds(1_800.0)));
        assert!(over.starts_with("Further trial at 30"), "{over}");
        assert!(over.ends_with(": had not recovered after 1800 s"), "{over}");
    }
}
