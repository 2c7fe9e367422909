//! What an actuator owes.

use khaos_core::job::CompletedCheckpoint;
use khaos_core::stats::median;
use khaos_core::units::{CheckpointInterval, Span};

use super::Bench;
use crate::ports::{Actuator, PortError};

fn secs(seconds: u32) -> CheckpointInterval {
    CheckpointInterval::from_secs(seconds).expect("not zero")
}

/// A change that was delayed cannot undo a later one.
pub async fn refuses_stale_generations(bench: &Bench, actuator: &dyn Actuator) {
    let run = bench.running_job().await;
    actuator.apply(&run, run.checkpointing.interval, 5).await.expect("a first change is taken");
    let run = bench.running_job().await;
    for stale in [4, 5] {
        let refused = actuator.apply(&run, run.checkpointing.interval, stale).await;
        assert_eq!(refused, Err(PortError::StaleGeneration { given: stale, current: 5 }));
    }
    actuator.apply(&run, run.checkpointing.interval, 6).await.expect("a later change is taken");
    actuator.release(&run).await.expect("it lets go");
    let delayed = actuator.apply(&run, run.checkpointing.interval, 6).await;
    assert_eq!(delayed, Err(PortError::StaleGeneration { given: 6, current: 6 }));
}

/// Each interval that is put into force is the one at which checkpoints come: shorter at once,
/// longer too, as long as the engine's own allows.
pub async fn achieves_its_interval(bench: &Bench, actuator: &dyn Actuator) {
    let own = bench.running_job().await.checkpointing.interval.secs();
    for (generation, interval) in (1..).zip([own, (own / 4).max(2), (own / 2).max(3)]) {
        let run = bench.running_job().await;
        actuator.apply(&run, secs(interval), generation).await.expect("the change is taken");
        bench.pause(f64::from(interval)).await;
        let wanted = f64::from(interval);
        let mut seen: Vec<f64> = Vec::new();
        // A machine that does much else is slow for a while. Whoever is off each time is wrong.
        loop {
            let usual = usual_gap_s(bench, 6.0 * wanted).await;
            if (usual - wanted).abs() <= (0.05 * wanted).max(0.1) {
                break;
            }
            seen.push(usual);
            assert!(seen.len() < 3, "{seen:?} s instead of {interval} s");
        }
    }
    let run = bench.running_job().await;
    actuator.release(&run).await.expect("it lets go");
}

/// The median of the times between the checkpoints that are triggered within `pause_s` from now, s.
async fn usual_gap_s(bench: &Bench, pause_s: f64) -> f64 {
    let from = bench.clock.now();
    let run = bench.running_job().await;
    bench.pause(pause_s).await;
    let history = bench.checkpoints.history(&run.engine_id).await.expect("the history is told");
    let span = Span { from, to: bench.clock.now() };
    let triggered: Vec<&CompletedCheckpoint> =
        history.completed.iter().filter(|c| span.contains(c.triggered_at)).collect();
    let gaps: Vec<f64> =
        triggered.windows(2).map(|w| w[1].triggered_at.secs_since(w[0].triggered_at)).collect();
    median(&gaps).expect("checkpoints come")
}

/// When the actuator lets go, the engine's own interval is in force again by itself: the dead-man
/// switch. No gap between completed checkpoints is longer than fallback + δ + 1 s.
pub async fn released_falls_back(bench: &Bench, actuator: &dyn Actuator) {
    let run = bench.running_job().await;
    let fallback = run.checkpointing.interval.seconds();
    let driven = secs((run.checkpointing.interval.secs() / 4).max(1));
    actuator.apply(&run, driven, 100).await.expect("the change is taken");
    bench.pause(5.0 * driven.seconds()).await;
    let let_go = bench.clock.now();
    actuator.release(&run).await.expect("it lets go");
    bench.pause(3.5 * fallback).await;
    let history = bench.checkpoints.history(&run.engine_id).await.expect("the history is told");
    let last_driven = history.completed.partition_point(|c| c.triggered_at <= let_go);
    let after = &history.completed[last_driven.saturating_sub(1)..];
    assert!(after.len() >= 3, "checkpoints go on without the actuator: {after:?}");
    for pair in after.windows(2) {
        let gap = pair[1].completed_at.secs_since(pair[0].completed_at);
        assert!(gap <= fallback + pair[1].duration_s() + 1.0, "{gap} s without a checkpoint");
    }
    let gap = after[2].triggered_at.secs_since(after[1].triggered_at);
    assert!(gap > 0.8 * fallback, "nobody drives any more, yet {gap} s");
}
