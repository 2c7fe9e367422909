//! How long the failures of a day took, as the lag shows it.

use std::sync::Arc;

use khaos_control::clock::Clock;
use khaos_control::ports::{Jobs, Metrics};
use khaos_core::job::JobKey;
use khaos_core::observe::Baseline;
use khaos_core::profile::{Progress, recovered};
use khaos_core::units::{Span, Timestamp};
use khaos_twin::{Failure, Twin};

/// How long the end of a recovery is waited for after the day, s.
const AFTER_S: f64 = 3_600.0;
/// Readings from this long before a failure are its baseline and what leads up to it, s.
const BEFORE_S: f64 = 400.0;
/// How long the stall of a restart may show in a baseline: the baseline's own length, and what the
/// job takes to make good a stall and the metrics to forget it, s.
const RESTART_SHOWS_S: f64 = 600.0;

/// How a failure was recovered from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Recovered {
    /// The lag never showed it: nothing arrived, or all was made good within a scrape.
    NotShown,
    /// After so many s.
    After(f64),
    /// Not by the end of the watch.
    NoEnd,
}

/// How long each failure took, from when it really happened to when the lag was back to normal.
/// `restarts` are those that were wanted; the job was calm before each. What was normal is taken from
/// before a restart: measured across its stall, a recovery would be over before the lag is back.
pub(super) async fn recoveries(
    twin: &Arc<Twin>,
    job: &JobKey,
    failures: &[Failure],
    restarts: &[Timestamp],
    clock: Clock,
    end: Timestamp,
) -> anyhow::Result<Vec<Recovered>> {
    let mut recoveries = Vec::with_capacity(failures.len());
    for failure in failures {
        let failed_at = failure.failed_at;
        let disturbed = Span::last(RESTART_SHOWS_S, failed_at);
        let calm_until = restarts.iter().copied().find(|at| disturbed.contains(*at));
        let calm_until = calm_until.unwrap_or(failed_at);
        let recovered = loop {
            let now = clock.now();
            let run = twin.describe(job).await?;
            let span = Span { from: calm_until.plus_secs(-BEFORE_S), to: now.plus_millis(1) };
            let readings = twin.readings(&run.engine_id, span).await?;
            let progress = Baseline::before(calm_until, &readings).map(|baseline| {
                recovered(&baseline, &readings.lag(), &readings.arrival(), failed_at)
            });
            let late = now >= end.plus_secs(AFTER_S);
            match progress {
                Some(Progress::Over(at)) => break Recovered::After(at.secs_since(failed_at)),
                Some(Progress::NotOver) if late => break Recovered::NoEnd,
                None | Some(Progress::NotShown) if late => break Recovered::NotShown,
                _ => clock.sleep_until(now.plus_secs(60.0)).await,
            }
        };
        recoveries.push(recovered);
    }
    Ok(recoveries)
}

#[cfg(test)]
mod tests {
    use super::super::{ANCHOR, in_virtual_time};
    use super::*;
    use khaos_control::ports::Actuator;
    use khaos_core::job::CheckpointSettings;
    use khaos_core::stats::Seed;
    use khaos_core::units::CheckpointInterval;
    use khaos_twin::{Redeployer, TwinConfig, Workload, World};

    /// Recoveries from failures at half an hour and an hour and a half of two at 20,000 events/s,
    /// redeployed once from 60 s to 61 s, if at all.
    fn seen(redeployed_s: Option<f64>) -> [f64; 2] {
        let secs = |seconds| CheckpointInterval::from_secs(seconds).unwrap();
        let world = World::parse(include_str!("../../../tests/worlds/iot-vehicles.toml")).unwrap();
        let recoveries = in_virtual_time(async {
            let clock = Clock::anchored(ANCHOR);
            let config = TwinConfig {
                job: JobKey(world.name.clone()),
                world,
                workload: Workload::new(vec![20_000.0; 120]).unwrap(),
                settings: CheckpointSettings::periodic(secs(60)),
                failures: vec![1_800.0, 5_400.0],
                outages: Vec::new(),
                seed: Seed(1),
                noise: false,
            };
            let (job, end) = (config.job.clone(), ANCHOR.plus_secs(config.workload.secs()));
            let twin = Twin::start(config, clock);
            if let Some(second) = redeployed_s {
                clock.sleep_until(ANCHOR.plus_secs(second)).await;
                let run = twin.describe(&job).await?;
                Redeployer::new(Arc::clone(&twin)).apply(&run, secs(61), 1).await?;
            }
            clock.sleep_until(end).await;
            let failures = twin.truth().failures;
            let restarts: Vec<_> = redeployed_s.iter().map(|s| ANCHOR.plus_secs(*s)).collect();
            recoveries(&twin, &job, &failures, &restarts, clock, end).await
        });
        let seconds = |recovered: &Recovered| match recovered {
            Recovered::After(seconds) => *seconds,
            other => panic!("{other:?}"),
        };
        let [first, second] = recoveries.unwrap()[..] else { panic!("two failures") };
        [seconds(&first), seconds(&second)]
    }

    #[test]
    fn a_redeploy_between_two_failures_changes_neither() {
        // R* at 60 s and 20,000 events/s: 78.7 + 76.2·20,000/13,828.2 = 188.9; with 61 s 190.3.
        let usual = seen(None);
        assert!(usual.iter().all(|s| (s - 188.9).abs() < 5.0), "{usual:?}");
        let [first, second] = seen(Some(3_600.0));
        assert!(
            (first - usual[0]).abs() < 1e-9,
            "under the id of the deployment after it: {first}"
        );
        assert!((second - 190.3).abs() < 5.0, "{second}");
    }

    #[test]
    fn the_stall_of_a_redeploy_does_not_pass_for_normal() {
        for before_s in [100.0, 200.0, 300.0, 400.0] {
            let [_, second] = seen(Some(5_400.0 - before_s));
            assert!((second - 190.3).abs() < 5.0, "{before_s} s before: {second}");
        }
    }
}
