//! How long a fit takes: `cargo bench -p khaos-core`.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a program that times something on the wall's clock and prints it"
)]

use std::time::Instant;

use khaos_core::optimize::{LatencyModel, RecoveryModel, RecoveryParameters, outliers};
use khaos_core::profile::{Recovery, Trial};
use khaos_core::units::{CheckpointInterval, EventRate, Millis, Seconds};

const TRUTH: RecoveryParameters = RecoveryParameters {
    dead_time_s: 20.0,
    settling_s: 50.0,
    capacity_eps: 34_000.0,
    checkpoint_cost_s: 0.8,
};

/// Five intervals × twelve loads, with a scatter of ±15 %.
fn sixty() -> Vec<Trial> {
    let cells = [10, 30, 60, 90, 120].into_iter().flat_map(|ci| (1..=12).map(move |i| (ci, i)));
    cells
        .enumerate()
        .map(|(n, (ci, i))| {
            let load = 2_400.0 * f64::from(i);
            let scatter = 0.85 + 0.05 * ((n * 5) % 7) as f64;
            let recovery = TRUTH.worst_case(f64::from(ci), 0.0, load).unwrap() * scatter;
            Trial {
                latency: Millis::new(400.0 * scatter * (load / 28_000.0).exp()).ok(),
                ..Trial::of_recovery(
                    n as u32,
                    CheckpointInterval::from_secs(ci).unwrap(),
                    EventRate::new(load).unwrap(),
                    Recovery::Measured(Seconds::new(recovery).unwrap()),
                )
            }
        })
        .collect()
}

fn time(what: &str, rounds: u32, mut run: impl FnMut()) {
    run();
    let mut times: Vec<f64> = (0..rounds)
        .map(|_| {
            let began = Instant::now();
            run();
            began.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let (least, middle, most) = (times[0], times[times.len() / 2], times[times.len() - 1]);
    println!("{what}: {middle:.3} ms ({least:.3} to {most:.3} ms, {rounds} times)");
}

fn main() {
    let trials = sixty();
    let rows: Vec<&Trial> = trials.iter().collect();
    time("recovery model of 60 rows, fitted and ready", 100, || {
        RecoveryModel::fit(&rows).unwrap().predictor().unwrap();
    });
    time("latency model of 60 rows, fitted and ready", 100, || {
        LatencyModel::fit(&rows).unwrap().unwrap().predictor().unwrap();
    });
    let predictor = RecoveryModel::fit(&rows).unwrap().predictor().unwrap();
    time("one 90 % interval of a single recovery", 100, || {
        predictor.prediction_interval(0.9, 45.0, 0.0, 20_000.0).unwrap();
    });
    time("outliers among 60 rows", 5, || {
        outliers(&rows, 1).unwrap();
    });
}
