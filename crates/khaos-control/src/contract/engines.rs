//! What an engine's ports owe.

use khaos_core::job::{EngineJobId, JobKey, JobStatus, TriggerId};
use khaos_core::series::Reading;
use khaos_core::units::Span;

use super::{Bench, CloneBench, assert_not_found};
use crate::ports::{Clones, Fault, PortError, TriggerOutcome};

/// Every job can be found and described; what is not there is not found.
pub async fn jobs_are_described(bench: &Bench) {
    let run = bench.running_job().await;
    assert_eq!(run.key, bench.job);
    assert!(run.running_since.is_some_and(|at| at <= bench.clock.now()), "{run:?}");
    assert!(run.parallelism > 0);
    assert!(bench.jobs.list().await.expect("jobs are listed").contains(&bench.job));
    assert_eq!(bench.jobs.run(&run.engine_id).await.as_ref(), Ok(&run));
    assert_not_found(&bench.jobs.describe(&JobKey("nobody".into())).await, "unknown job");
    let nobody = EngineJobId("00000000000000000000000000000000".into());
    assert_not_found(&bench.jobs.run(&nobody).await, "unknown deployment");
}

/// Readings are finite, in order, within their span, and there.
pub async fn metrics_show_what_was_sampled(bench: &Bench) {
    let run = bench.running_job().await;
    // Where nobody else samples, sampling begins with the first question.
    let first = Span::last(60.0, bench.clock.now());
    bench.metrics.readings(&run.engine_id, first).await.expect("metrics are read");
    let now = bench.pause(90.0).await;
    let span = Span::last(60.0, now);
    let readings = bench.metrics.readings(&run.engine_id, span).await.expect("metrics are read");
    assert!(!readings.sources.is_empty(), "a job without sources has no load to follow");
    for (what, series) in [
        ("arrival", readings.arrival()),
        ("lag", readings.lag()),
        ("throughput", readings.throughput.clone()),
        ("latency", readings.latency_ms.clone()),
    ] {
        assert!(!series.samples().is_empty(), "no {what} within a minute");
        assert!(series.samples().windows(2).all(|w| w[0].at < w[1].at), "{what} is out of order");
        assert!(series.samples().iter().all(|s| span.contains(s.at)), "{what} outside of its span");
        assert!(series.samples().iter().all(|s| s.value >= 0.0), "negative {what}");
    }
    let arrival = readings.arrival().mean(span);
    assert!(matches!(arrival, Reading::Known(rate) if rate > 0.0), "{arrival:?}");
    let future = Span { from: now.plus_secs(600.0), to: now.plus_secs(660.0) };
    let nothing = bench.metrics.readings(&run.engine_id, future).await.expect("metrics are read");
    assert_eq!(nothing.arrival().mean(future), Reading::Unknown, "nothing is not zero");
    let nobody = EngineJobId("00000000000000000000000000000000".into());
    assert_not_found(&bench.metrics.readings(&nobody, span).await, "unknown deployment");
}

/// A trigger gives one checkpoint, however often it is asked for, and its outcome names it.
pub async fn checkpoints_are_triggered_once_and_followed(bench: &Bench) {
    let run = bench.running_job().await;
    let asked_at = bench.clock.now();
    let id = TriggerId::new(&run.engine_id, asked_at);
    let (job, checkpoints) = (&run.engine_id, &bench.checkpoints);
    checkpoints.trigger(job, &id).await.expect("triggers are taken");
    let number = bench
        .wait_for("a triggered checkpoint", 60.0, || async {
            match checkpoints.outcome(job, &id).await.expect("outcomes are told") {
                TriggerOutcome::InProgress => None,
                TriggerOutcome::Completed(number) => Some(number),
                TriggerOutcome::Failed(why) => panic!("the checkpoint failed: {why}"),
            }
        })
        .await;
    let history = bench
        .wait_for("the checkpoint in the history", 60.0, || async {
            let history = checkpoints.history(job).await.expect("the history is told");
            history.completed.iter().any(|c| c.id == number).then_some(history)
        })
        .await;
    let checkpoint = history.completed.iter().find(|c| c.id == number).expect("just found");
    assert!(checkpoint.triggered_at.secs_since(asked_at).abs() < 10.0, "{checkpoint:?}");
    assert!(checkpoint.completed_at >= checkpoint.triggered_at, "{checkpoint:?}");

    checkpoints.trigger(job, &id).await.expect("asking again is harmless");
    bench.pause(3.0).await;
    assert_eq!(checkpoints.outcome(job, &id).await, Ok(TriggerOutcome::Completed(number)));
    let stranger = TriggerId::new(&EngineJobId("nobody".into()), asked_at);
    assert_not_found(&checkpoints.outcome(job, &stranger).await, "unknown trigger");
}

/// Clones carry their labels, are no jobs, end when told to, and nothing else can be ended.
pub async fn clones_live_and_die(bench: &CloneBench) {
    let target = bench.running_job().await;
    let clones = Clones::new(bench.host.clone());
    let spec = bench.clone_spec(0, 7);
    let clone = clones.deploy(&spec).await.expect("clones can be deployed");
    assert_ne!(clone.engine_id(), &target.engine_id);
    let run = bench
        .wait_for("the clone to run", 120.0, || async {
            let run = bench.jobs.run(clone.engine_id()).await.expect("clones are described");
            (run.status == JobStatus::Running).then_some(run)
        })
        .await;
    assert_eq!(run.checkpointing.interval, spec.interval);
    let listed = bench.host.running().await.expect("clones are listed");
    assert!(
        listed.iter().any(|c| c.engine_id == *clone.engine_id() && c.spec == spec),
        "{listed:?}"
    );
    let jobs = bench.jobs.list().await.expect("jobs are listed");
    assert_eq!(jobs, std::slice::from_ref(&bench.job), "a clone is no job");

    let refused = bench.host.terminate(&target.engine_id).await;
    assert!(matches!(refused, Err(PortError::Refused(_))), "a job is no clone: {refused:?}");
    clones.stop(clone).await.expect("clones can be ended");

    // What was left behind by a life that ended in the middle is swept by the next.
    let left = clones.deploy(&bench.clone_spec(1, 7)).await.expect("clones can be deployed");
    assert_eq!(clones.sweep(&bench.job).await, Ok(1));
    assert_eq!(clones.stop(left).await, Ok(()), "a clone that is gone is no error");
    assert_eq!(bench.host.running().await, Ok(vec![]));
    assert_eq!(bench.running_job().await.engine_id, target.engine_id, "the job was left alone");
}

/// A clone that is replayed to sees what the job saw, at the same pace.
pub async fn workload_is_replayed_at_its_pace(bench: &CloneBench) {
    let target = bench.running_job().await;
    // Where nobody else samples, sampling begins with the first question.
    let first_asked = async |id: &EngineJobId| {
        let nothing = Span::last(0.0, bench.clock.now());
        bench.metrics.readings(id, nothing).await.expect("metrics are read");
    };
    first_asked(&target.engine_id).await;
    let now = bench.pause(240.0).await;
    let recorded = bench.log.recorded(&bench.job).await.expect("the log tells what it holds");
    assert!(recorded.secs() >= 240.0, "{recorded:?}");
    let from = now.plus_secs(-200.0);
    let clones = Clones::new(bench.host.clone());
    let clone = clones.deploy(&bench.clone_spec(2, 10)).await.expect("clones can be deployed");
    let future = bench.log.replay(&bench.job, now.plus_secs(600.0), &clone).await;
    assert!(matches!(future, Err(PortError::Refused(_))), "nobody recorded the future: {future:?}");

    bench
        .wait_for("the clone to run", 120.0, || async {
            let run = bench.jobs.run(clone.engine_id()).await.expect("clones are described");
            (run.status == JobStatus::Running).then_some(())
        })
        .await;
    let began = bench.clock.now();
    bench.log.replay(&bench.job, from, &clone).await.expect("what was recorded is replayed");
    first_asked(clone.engine_id()).await;
    bench.pause(150.0).await;
    let mean = async |id: &EngineJobId, from: khaos_core::units::Timestamp| {
        // The first seconds of a replay belong to its start.
        let span = Span { from: from.plus_secs(30.0), to: from.plus_secs(150.0) };
        let arrival = bench.metrics.readings(id, span).await.expect("metrics are read").arrival();
        // A busy machine is sampled at uneven times: each sample counts for as long as it is about.
        let (events, seconds) = arrival.samples().windows(2).fold((0.0, 0.0), |sum, pair| {
            let seconds = pair[1].at.secs_since(pair[0].at);
            (sum.0 + pair[1].value * seconds, sum.1 + seconds)
        });
        assert!(seconds > 60.0, "the arrival rate is known: {arrival:?}");
        events / seconds
    };
    let (seen, original) =
        (mean(clone.engine_id(), began).await, mean(&target.engine_id, from).await);
    clones.stop(clone).await.expect("clones can be ended");
    assert!((seen / original - 1.0).abs() < 0.05, "{seen} events/s instead of {original}");
}

/// A crash and a hang make a clone start again from its newest checkpoint; the job runs on.
pub async fn faults_break_clones_only(bench: &CloneBench) {
    let target = bench.running_job().await;
    bench.pause(30.0).await;
    let from = bench.log.recorded(&bench.job).await.expect("the log tells what it holds").from;
    let clones = Clones::new(bench.host.clone());
    for (index, fault) in [(3, Fault::Crash), (4, Fault::Hang)] {
        let clone =
            clones.deploy(&bench.clone_spec(index, 5)).await.expect("clones can be deployed");
        let id = clone.engine_id();
        bench.log.replay(&bench.job, from, &clone).await.expect("what was recorded is replayed");
        bench
            .wait_for("two checkpoints of the clone", 180.0, || async {
                let history = bench.checkpoints.history(id).await.expect("the history is told");
                (history.completed.len() >= 2).then_some(())
            })
            .await;
        let newest = *bench
            .checkpoints
            .history(id)
            .await
            .expect("the history is told")
            .newest()
            .expect("there are two");
        let failed_at = bench.clock.now();
        bench.injector.inject(&clone, fault).await.expect("clones can be broken");
        // Until then checkpoints may have been triggered, and completed.
        let broken_at = bench.clock.now();
        bench
            .wait_for("the clone to run again", 300.0, || async {
                let run = bench.jobs.run(id).await.expect("clones are described");
                let again = run.running_since.is_some_and(|at| at > failed_at);
                (again && run.attempt > 0).then_some(())
            })
            .await;
        let history = bench.checkpoints.history(id).await.expect("the history is told");
        let restored = history.restored.expect("it started from a checkpoint");
        assert!(restored.id >= newest.id, "{restored:?} is older than {newest:?}");
        assert!(restored.triggered_at <= broken_at.plus_secs(1.0), "{restored:?}");
        clones.stop(clone).await.expect("clones can be ended");
    }
    let after = bench.running_job().await;
    assert_eq!((after.engine_id, after.attempt), (target.engine_id, target.attempt));
}
