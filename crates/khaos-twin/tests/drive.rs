//! What a drive tells of itself, on the twin, in virtual time.
#![allow(clippy::unwrap_used, reason = "a test says what is broken by panicking")]

use std::sync::{Arc, Mutex};

use khaos_control::act::driver::{Condition, DriveEvent, Driver};
use khaos_control::clock::Clock;
use khaos_control::core::job::{CheckpointSettings, JobKey};
use khaos_control::core::stats::Seed;
use khaos_control::core::units::{CheckpointInterval, Timestamp};
use khaos_control::ports::{Actuator, Jobs};
use khaos_twin::{Twin, TwinConfig, Workload, World};

fn secs(seconds: u32) -> CheckpointInterval {
    CheckpointInterval::from_secs(seconds).unwrap()
}

/// Ten minutes of a job whose checkpoints take `duration_s`, driven at `interval`, with failures at
/// the seconds given.
async fn told(
    duration_s: f64,
    interval: CheckpointInterval,
    failures: Vec<f64>,
) -> Vec<DriveEvent> {
    let clock = Clock::anchored(Timestamp(1_000_000_020_000));
    let world = format!(
        "name = \"drive\"\ncapacity_eps = 5000.0\ncheckpoint_cost_s = 0.2\ndetect_s = 8.0\n\
         restart_s = 4.0\nsettle_s = 20.0\nretune_stall_s = 3.0\n\
         checkpoint_duration_s = {duration_s:?}\n\
         [latency]\na = 4.0\nb = 0.4\nc = -0.05\nd = 0.5\nload_max_eps = 4000.0\n"
    );
    let twin = Twin::start(
        TwinConfig {
            job: JobKey("drive".into()),
            world: World::parse(&world).unwrap(),
            workload: Workload::new(vec![1_000.0; 30]).unwrap(),
            settings: CheckpointSettings::full(secs(120)),
            failures,
            outages: vec![],
            seed: Seed(3),
            noise: false,
        },
        clock,
    );
    let told: Arc<Mutex<Vec<DriveEvent>>> = Arc::default();
    let log = Arc::clone(&told);
    let driver = Driver::new(clock, twin.clone(), twin.clone())
        .watched_by(Arc::new(move |_: &JobKey, event| log.lock().unwrap().push(event.clone())));
    let run = twin.describe(&JobKey("drive".into())).await.unwrap();
    driver.apply(&run, interval, 1).await.unwrap();
    clock.sleep_until(clock.now().plus_secs(600.0)).await;
    driver.release(&run).await.unwrap();
    std::mem::take(&mut *told.lock().unwrap())
}

fn conditions(told: &[DriveEvent]) -> Vec<Condition> {
    told.iter()
        .filter_map(|event| match event {
            DriveEvent::Now(condition) => Some(condition.clone()),
            DriveEvent::Completed(_) => None,
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_quiet_drive_says_once_that_it_drives_and_every_checkpoint() {
    let told = told(0.5, secs(10), vec![]).await;
    assert_eq!(conditions(&told), [Condition::Driving]);
    let completed = told.len() - 1;
    assert!((57..=61).contains(&completed), "600 s, every 10 s: {completed}");
}

#[tokio::test(start_paused = true)]
async fn checkpoints_that_take_longer_than_the_interval_are_called_saturation() {
    let told = told(5.0, secs(2), vec![]).await;
    let conditions = conditions(&told);
    let [Condition::Saturated { duration_s }] = conditions[..] else { panic!("{conditions:?}") };
    assert!((duration_s - 5.0).abs() < 0.1, "{duration_s}");
    // One after the other, no faster, and none at the same time.
    let completed: Vec<_> = told
        .iter()
        .filter_map(|event| match event {
            DriveEvent::Completed(checkpoint) => Some(checkpoint),
            DriveEvent::Now(_) => None,
        })
        .collect();
    assert!(completed.len() > 100, "{}", completed.len());
    assert!(completed.windows(2).all(|pair| pair[1].triggered_at >= pair[0].completed_at));
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_told_and_its_end() {
    let told = told(0.5, secs(10), vec![300.0]).await;
    let conditions = conditions(&told);
    assert_eq!(conditions.first(), Some(&Condition::Driving), "{conditions:?}");
    assert_eq!(conditions.last(), Some(&Condition::Driving), "{conditions:?}");
    let held = |c: &Condition| matches!(c, Condition::Waiting(_) | Condition::Failing(_));
    assert!(conditions.iter().any(held), "{conditions:?}");
    assert!(conditions.len() <= 4, "it is not said over and over: {conditions:?}");
}
