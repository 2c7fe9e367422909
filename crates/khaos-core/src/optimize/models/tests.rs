use super::*;
use crate::job::EngineJobId;
use crate::optimize::RecoveryParameters;
use crate::profile::{Measured, Predicted};
use crate::units::{CheckpointInterval, Events};

const TRUTH: RecoveryParameters = RecoveryParameters {
    dead_time_s: 20.0,
    settling_s: 15.0,
    capacity_eps: 1_000.0,
    checkpoint_cost_s: 0.5,
};

/// A failure of the job of [`TRUTH`] in a quiet hour of a day that reaches 600 events/s, half an
/// interval after a checkpoint, that took `recovery_s`.
pub(in crate::optimize) fn failure(
    attempt: u32,
    interval: u32,
    load: f64,
    recovery_s: f64,
    predicted: Option<(f64, f64)>,
) -> Failure {
    let seconds = |s: f64| Seconds::new(s).unwrap();
    let ci = f64::from(interval);
    let trial = Trial {
        index: attempt,
        interval: CheckpointInterval::from_secs(interval).unwrap(),
        load: EventRate::new(load).unwrap(),
        latency: crate::units::Millis::new(80.0 + load / 10.0).ok(),
        recovery: Recovery::Measured(seconds(recovery_s)),
        dead_time: Some(seconds(TRUTH.dead_time_s)),
        age: Some(seconds(0.5 * ci)),
        backlog: Events::new((TRUTH.dead_time_s + 0.5 * ci) * load).ok(),
        catch_up: EventRate::new(TRUTH.capacity_beside_checkpoints(ci)).ok(),
        load_during: None,
        checkpoint_duration: Some(seconds(1.0)),
        failed_within: Some(seconds(2.5)),
        detection: None,
    };
    Failure {
        engine_id: EngineJobId("e".into()),
        attempt,
        shape: JobShape("s".into()),
        noticed_at: Timestamp(i64::from(attempt) * 3_600_000),
        failed_at: None,
        highest: EventRate::new(600.0).ok(),
        measured: Measured::Trial(trial),
        predicted: predicted
            .map(|(low, high)| Predicted { low: seconds(low), high: seconds(high) }),
    }
}

/// As it should have been: D_0 + (D_r + age)·λ/(μ(1 − k/CI) − λ).
fn usual(attempt: u32, interval: u32, load: f64) -> Failure {
    let ci = f64::from(interval);
    let recovery = TRUTH.worst_case(ci, -0.5 * ci, load).unwrap();
    failure(attempt, interval, load, recovery, Some((0.8 * recovery, 1.2 * recovery)))
}

fn fitted(trials: &[&Trial], failures: &[Failure]) -> Result<Models, NoModels> {
    let failures: Vec<&Failure> = failures.iter().collect();
    let shape = JobShape("s".into());
    fit_models(&Learnt { shape: &shape, trials, failures: &failures, drifted_at: None })
}

#[test]
fn a_few_failures_of_quiet_hours_find_the_parameters() {
    let failures: Vec<Failure> =
        [60.0, 200.0, 120.0, 300.0].into_iter().zip(0..).map(|(l, i)| usual(i, 60, l)).collect();
    let models = fitted(&[], &failures).unwrap();
    let found = models.recovery.parameters;
    let off = |found: f64, truth: f64| (found / truth - 1.0).abs();
    assert!(off(found.capacity_eps, TRUTH.capacity_eps) < 0.03, "{found:?}");
    assert!(off(found.dead_time_s, TRUTH.dead_time_s) < 0.05, "{found:?}");
    assert!(off(found.settling_s, TRUTH.settling_s) < 0.2, "{found:?}");
    assert_eq!((models.trials(), models.failures, models.as_predicted), (0, 4, 4));
    assert_eq!(models.shape, Some(JobShape("s".into())));
}

#[test]
fn trust_is_earned_by_trials_or_by_four_failures_in_a_row() {
    let mut failures: Vec<Failure> = (0..3).map(|i| usual(i, 60, 300.0)).collect();
    assert!(!fitted(&[], &failures).unwrap().earned());
    failures.push(usual(3, 60, 200.0));
    assert!(fitted(&[], &failures).unwrap().earned());
    failures.push(failure(4, 60, 300.0, 900.0, Some((50.0, 90.0))));
    assert!(!fitted(&[], &failures).unwrap().earned(), "a surprise costs it again");
    let trials = [failures[0].trial().unwrap(), failures[1].trial().unwrap()];
    let of_both = fitted(&trials, &failures).unwrap();
    assert!(of_both.earned());
    assert_eq!((of_both.trials(), of_both.failures), (2, 5));
}

#[test]
fn failures_at_one_interval_say_nothing_of_latency_at_another() {
    let mut failures: Vec<Failure> = (0..4).map(|i| usual(i, 60, 300.0)).collect();
    assert_eq!(fitted(&[], &failures).unwrap().latency, None);
    failures.push(usual(4, 20, 300.0));
    assert!(fitted(&[], &failures).unwrap().latency.is_some());
}

#[test]
fn what_teaches_nothing_is_left_out() {
    let mut nothing = usual(0, 60, 300.0);
    nothing.measured = Measured::Nothing("nobody looked".into());
    let mut partless = usual(1, 60, 300.0);
    if let Measured::Trial(trial) = &mut partless.measured {
        trial.dead_time = None;
    }
    let none = fitted(&[], &[nothing.clone(), partless.clone()]);
    assert!(matches!(none, Err(NoModels::TooFew { usable: 0, .. })), "{none:?}");
    let one = fitted(&[], &[nothing, partless, usual(2, 60, 300.0)]).unwrap();
    assert_eq!((one.failures, one.as_predicted), (1, 2));
}
