//! Khaos on jobs that nobody tuned it to: random worlds with other time constants.
#![allow(clippy::unwrap_used, reason = "a test says what is broken by panicking")]
#![allow(clippy::print_stdout, reason = "what was measured is worth reading")]

use khaos::score::worst_case;
use khaos::simulate::{Policy, PolicyResult, Simulation, usual_failures};
use khaos_core::profile::IntervalBounds;
use khaos_core::stats::{Seed, quantile};
use khaos_core::units::{CheckpointInterval, Millis, Seconds};
use khaos_twin::{Workload, World};
use rand::RngExt;

const SEEDS: u64 = 5;
const BOUNDS_S: (u32, u32) = (10, 120);

/// A job on a cluster that nobody has seen: dead time 2–90 s, capacity 1.1–4 times the peak,
/// checkpoint cost 0–3 s, log-normal noise of dead time and latency.
fn random_world(number: u64) -> (World, Workload) {
    let seed = Seed(number).child("random world");
    let mut stream = seed.stream("constants");
    let mut between = |low: f64, high: f64| low + (high - low) * stream.random::<f64>();
    let peak = between(3.0_f64.ln(), 5.5_f64.ln()).exp().powi(6);
    let workload = Workload::web_shop_day(peak, seed.child("day"));
    let highest = workload.per_minute().iter().copied().fold(0.0, f64::max);
    let dead_s = between(2.0_f64.ln(), 90.0_f64.ln()).exp();
    let detected = between(0.2, 0.9);
    let toml = format!(
        "name = \"random-{number}\"
capacity_eps = {capacity}
checkpoint_cost_s = {cost}
detect_s = {detect}
restart_s = {restart}
settle_s = {settle}
retune_stall_s = 5.0
checkpoint_duration_s = {duration}
dead_time_sigma = {dead_sigma}
[latency]
a = {a}
b = {b}
c = {c}
d = {d}
load_max_eps = {highest}
sigma = {sigma}
",
        capacity = highest * between(1.1_f64.ln(), 4.0_f64.ln()).exp(),
        cost = between(0.0, 3.0),
        detect = dead_s * detected,
        restart = dead_s * (1.0 - detected),
        settle = between(3.0, 70.0),
        duration = between(0.0, 4.0),
        dead_sigma = between(0.0, 0.3),
        a = between(3.0, 6.5),
        b = between(0.0, 0.8),
        c = between(-0.15, 0.0),
        d = between(0.0, 0.8),
        sigma = between(0.05, 0.3),
    );
    (World::parse(&toml).unwrap(), workload)
}

fn secs(seconds: u32) -> CheckpointInterval {
    CheckpointInterval::from_secs(seconds).unwrap()
}

/// 1.3 times the best `R*` at the 95th percentile of the load.
fn objective(world: &World, workload: &Workload) -> f64 {
    let load = quantile(workload.per_minute(), 0.95).unwrap();
    let best = (BOUNDS_S.0..=BOUNDS_S.1)
        .filter_map(|ci| worst_case(world, f64::from(ci), load))
        .fold(f64::INFINITY, f64::min);
    1.3 * best
}

fn median(runs: &[[PolicyResult; 2]], value: impl Fn(&[PolicyResult; 2]) -> f64) -> f64 {
    quantile(&runs.iter().map(value).collect::<Vec<_>>(), 0.5).unwrap()
}

/// Exposure beyond the oracle's, and latency over the oracle's less 1; medians of the seeds.
fn against_the_oracle(number: u64) -> (f64, f64) {
    let (world, workload) = random_world(number);
    let recovery = objective(&world, &workload);
    let runs: Vec<[PolicyResult; 2]> = (1..=SEEDS)
        .map(|seed| {
            let simulation = Simulation {
                world: world.clone(),
                recording: workload.clone(),
                failures: usual_failures(&workload),
                workload: workload.clone(),
                recovery: Seconds::new(recovery).unwrap(),
                latency: Millis::new(10_000.0).unwrap(),
                bounds: IntervalBounds::new(secs(BOUNDS_S.0), secs(BOUNDS_S.1)).unwrap(),
                seed,
                noise: true,
            };
            let compared = simulation.compare(&[Policy::Khaos, Policy::Oracle]).unwrap();
            compared.policies.try_into().unwrap()
        })
        .collect();
    for [khaos, _] in &runs {
        assert_eq!(khaos.trials, 6);
        assert!(khaos.downtime_s.abs() < 1e-12);
    }
    let exposure = median(&runs, |[khaos, oracle]| khaos.exposure - oracle.exposure);
    let latency = median(&runs, |[khaos, oracle]| khaos.latency_mean_ms / oracle.latency_mean_ms);
    let peak = workload.per_minute().iter().copied().fold(0.0, f64::max);
    println!(
        "world {number}: dead {:.1} s, settling {:.0} s, capacity {:.2} × peak, k {:.2} s, δ {:.1} s, \
         objective {recovery:.0} s: exposure {:.2} %, oracle {:.2} %; latency {:+.2} %; changes {:.0}",
        world.detect_s + world.restart_s,
        world.settle_s,
        world.capacity_eps / peak,
        world.checkpoint_cost_s,
        world.checkpoint_duration_s,
        100.0 * median(&runs, |[khaos, _]| khaos.exposure),
        100.0 * median(&runs, |[_, oracle]| oracle.exposure),
        100.0 * (latency - 1.0),
        median(&runs, |[khaos, _]| khaos.interval_changes as f64),
    );
    (exposure, latency - 1.0)
}

/// Within a point of the oracle's exposure and 4 % of its latency in at least nine of ten worlds.
#[test]
fn khaos_keeps_close_to_the_oracle_in_worlds_that_it_was_not_made_for() {
    // Two halves at once: a world is a minute of one core.
    let worlds: u64 = std::env::var("KHAOS_WORLDS").map_or(10, |n| n.parse().unwrap());
    let halves: Vec<_> = (0..2)
        .map(|half| {
            std::thread::spawn(move || {
                let numbers = (1..=worlds).filter(|number| number % 2 == half);
                numbers.map(against_the_oracle).collect::<Vec<_>>()
            })
        })
        .collect();
    let all: Vec<(f64, f64)> = halves.into_iter().flat_map(|half| half.join().unwrap()).collect();
    let close = all.iter().filter(|(exposure, latency)| *exposure <= 0.01 && *latency <= 0.04);
    let close = close.count();
    assert!(
        10 * close >= 9 * all.len(),
        "close to the oracle in {close} of {} worlds: {all:?}",
        all.len()
    );
}
