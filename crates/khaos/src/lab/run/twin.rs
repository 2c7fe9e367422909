//! The lab's job as a world of the embedded engine, and the same afternoon lived there: does the twin
//! tell the truth?

use khaos_core::optimize::{Goals, Models};
use khaos_core::profile::Trial;
use khaos_core::stats::mean;
use khaos_core::units::{Millis, Seconds};
use khaos_twin::{Workload, World};
use serde_json::json;

use crate::score::InForce;
use crate::simulate::Simulation;
use crate::simulate::day::{Recovered, relive};

/// The world that the trials and their models describe, as TOML for `khaos simulate`: nothing of it is
/// known from elsewhere. `stall_s` is how long a redeploy was seen to take; a restart where none was.
pub(super) fn world(models: &Models, trials: &[&Trial], stall_s: Option<f64>) -> String {
    let parameters = models.recovery.parameters;
    let seen = |part: fn(&Trial) -> Option<Seconds>| {
        mean(&trials.iter().filter_map(|t| part(t)).map(Seconds::get).collect::<Vec<_>>())
    };
    let detect_s = seen(|trial| trial.detection).unwrap_or(parameters.dead_time_s);
    let restart_s = (parameters.dead_time_s - detect_s).max(0.0);
    let duration_s = seen(|trial| trial.checkpoint_duration).unwrap_or(0.0);
    let logs: Vec<f64> =
        trials.iter().filter_map(|t| t.latency.map(Millis::get)).map(f64::ln).collect();
    let (a, b, c, d, top) = match &models.latency {
        Some(latency) => (latency.a, latency.b, latency.c, latency.d, latency.load_max_eps),
        None => (mean(&logs).unwrap_or(0.0), 0.0, 0.0, 0.0, parameters.capacity_eps),
    };
    let key = |(key, value): (&str, f64)| format!("{key} = {}\n", json!(value));
    let physics: String = [
        ("capacity_eps", parameters.capacity_eps),
        ("checkpoint_cost_s", parameters.checkpoint_cost_s),
        ("detect_s", detect_s),
        ("restart_s", restart_s),
        ("settle_s", parameters.settling_s),
        ("retune_stall_s", stall_s.unwrap_or(restart_s)),
        ("checkpoint_duration_s", duration_s),
    ]
    .map(key)
    .concat();
    let latency: String =
        [("a", a), ("b", b), ("c", c), ("d", d), ("load_max_eps", top)].map(key).concat();
    format!("name = \"lab\"\n{physics}\n[latency]\n{latency}")
}

/// The contest as a day of `world`, without noise.
pub(super) fn simulation(
    world: World,
    workload: Workload,
    goals: &Goals,
    recovery: Seconds,
    latency: Millis,
) -> Simulation {
    Simulation {
        world,
        recording: workload.clone(),
        workload,
        failures: Vec::new(),
        recovery,
        latency,
        bounds: goals.bounds,
        seed: 1,
        noise: false,
    }
}

/// How long a failure at `second` takes on the embedded engine at the intervals that were in force in the
/// lab, s; `None` where it did not show, or did not end. It is dead for as long as `trial` was in the lab,
/// where that was seen: of that the twin knows no more than how long it usually is.
pub(super) fn recovery(
    simulation: &Simulation,
    intervals: &[InForce],
    second: f64,
    trial: Option<&Trial>,
) -> anyhow::Result<Option<f64>> {
    let mut world = simulation.world.clone();
    if let Some((dead, detection)) = trial.and_then(|t| t.dead_time.zip(t.detection)) {
        world.detect_s = detection.get();
        world.restart_s = dead.get() - detection.get();
    }
    let day = Simulation { world, failures: vec![second], ..simulation.clone() };
    let recovered = relive(&day, intervals)?.into_iter().next();
    Ok(recovered.and_then(|recovered| match recovered {
        Recovered::After(seconds) => Some(seconds),
        Recovered::NotShown | Recovered::NoEnd => None,
    }))
}
