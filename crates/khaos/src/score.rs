//! The scoring of a simulated day: code of its own, independent of the twin and of the models, so
//! that neither can flatter itself.
//!
//! Source: DESIGN, scoring. It takes the world's parameters, the arrival rates by the minute and the
//! intervals that were in force, and nothing that the twin says.

use khaos_core::stats::Ar1;
use khaos_twin::World;

/// An interval and since when it has been in force.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InForce {
    /// Since this second of the day.
    pub since_s: f64,
    /// Interval, s.
    pub interval_s: f64,
}

/// What a day amounts to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// Share of seconds in which the worst-case recovery exceeds its objective.
    pub exposure: f64,
    /// Mean failure-free latency, ms.
    pub latency_mean_ms: f64,
    /// Share of seconds in which the failure-free latency exceeds its objective.
    pub latency_over_share: f64,
    /// Time mean of CI + δ, s.
    pub visibility_mean_s: f64,
}

/// What a day is scored against.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Objective {
    /// Worst-case recovery, s.
    pub recovery_s: f64,
    /// Latency, ms.
    pub latency_ms: f64,
}

/// Scores the seconds `0..60·rates.len()`. `intervals` are in order and begin at second 0. `noise`
/// is the latency's path, one standard-normal value a minute; without it the latency has its mean.
pub fn score(
    world: &World,
    rates: &[f64],
    intervals: &[InForce],
    noise: Option<Ar1>,
    objective: Objective,
) -> Score {
    let seconds = rates.len() * 60;
    let sigma = world.latency.sigma;
    let factors: Vec<f64> = match noise {
        Some(path) => path.take(rates.len()).map(|z| (sigma * z).exp()).collect(),
        None => vec![(sigma * sigma / 2.0).exp(); rates.len()],
    };
    let (mut exposed, mut over, mut latency_sum, mut visibility_sum) = (0_usize, 0_usize, 0.0, 0.0);
    let mut current = 0;
    for second in 0..seconds {
        let t = second as f64;
        while intervals.get(current + 1).is_some_and(|next| next.since_s <= t) {
            current += 1;
        }
        let interval = intervals[current].interval_s;
        let rate = rate_at(rates, t);
        let latency = latency_ms(world, interval, rate) * factors[second / 60];
        exposed += usize::from(exposed_at(world, interval, rate, objective.recovery_s));
        over += usize::from(latency > objective.latency_ms);
        latency_sum += latency;
        visibility_sum += interval + world.checkpoint_duration_s;
    }
    let n = seconds as f64;
    Score {
        exposure: exposed as f64 / n,
        latency_mean_ms: latency_sum / n,
        latency_over_share: over as f64 / n,
        visibility_mean_s: visibility_sum / n,
    }
}

/// The oracle's intervals: each minute the largest with `R* ≤ objective` at that minute's highest
/// rate, else the one with the smallest `R*`; whole seconds between the bounds.
pub fn oracle(world: &World, rates: &[f64], bounds: (u32, u32), recovery_s: f64) -> Vec<u32> {
    (0..rates.len())
        .map(|minute| {
            let first = minute as f64 * 60.0;
            let highest = (0..60).map(|s| rate_at(rates, first + f64::from(s))).fold(0.0, f64::max);
            let worst =
                |ci: u32| worst_case(world, f64::from(ci), highest).unwrap_or(f64::INFINITY);
            let candidates = bounds.0..=bounds.1;
            candidates.clone().rev().find(|&ci| worst(ci) <= recovery_s).unwrap_or_else(|| {
                // Where all are beyond capacity the largest costs the least of it.
                let shortest = candidates.rev().min_by(|&a, &b| worst(a).total_cmp(&worst(b)));
                shortest.unwrap_or(bounds.1)
            })
        })
        .collect()
}

/// `R*`, s; `None` at or beyond what is left of the capacity.
pub fn worst_case(world: &World, interval: f64, rate: f64) -> Option<f64> {
    let dead = world.detect_s + world.restart_s;
    let left = world.capacity_eps * (1.0 - world.checkpoint_cost_s / interval) - rate;
    let behind = dead + interval + world.checkpoint_duration_s;
    (left > 0.0).then(|| dead + world.settle_s + behind * rate / left)
}

fn exposed_at(world: &World, interval: f64, rate: f64, recovery_s: f64) -> bool {
    worst_case(world, interval, rate).is_none_or(|worst| worst > recovery_s)
}

fn latency_ms(world: &World, interval: f64, rate: f64) -> f64 {
    let l = &world.latency;
    let x = rate / l.load_max_eps;
    (l.a + l.b * x + l.c * (interval / 60.0).ln() + l.d * x * x).exp()
}

/// Linear between the minutes' centres, held at both ends.
fn rate_at(rates: &[f64], second: f64) -> f64 {
    let centre = second / 60.0 - 0.5;
    if centre <= 0.0 {
        return rates[0];
    }
    let (before, share) = (centre as usize, centre.fract());
    match (rates.get(before), rates.get(before + 1)) {
        (Some(a), Some(b)) => a + (b - a) * share,
        _ => rates[rates.len() - 1],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world() -> World {
        World::parse(include_str!("../tests/worlds/iot-vehicles.toml")).unwrap()
    }

    #[test]
    fn the_worst_case_by_hand() {
        // As in the recovery model's test: 78.7 + 46.2·20,000/13,362.35 = 147.85.
        assert!((worst_case(&world(), 30.0, 20_000.0).unwrap() - 147.85).abs() < 0.01);
        assert_eq!(worst_case(&world(), 10.0, 31_600.0), None);
    }

    #[test]
    fn two_minutes_by_hand() {
        // Two minutes at 20,000/s; 10 s for the first, 120 s for the second. R* at 10 s is
        // 78.7 + 26.2·20,000/11,499 = 124.3, at 120 s 78.7 + 136.2·20,000/14,061 = 272.4.
        let intervals = [
            InForce { since_s: 0.0, interval_s: 10.0 },
            InForce { since_s: 60.0, interval_s: 120.0 },
        ];
        let objective = Objective { recovery_s: 240.0, latency_ms: 1e9 };
        let score = score(&world(), &[20_000.0, 20_000.0], &intervals, None, objective);
        assert!((score.exposure - 0.5).abs() < 1e-12);
        assert!((score.visibility_mean_s - 65.0).abs() < 1e-12);
        // ln L = 6.026 + 0.393·0.7113 + 0.611·0.5060 = 6.6147 at 60 s; mean of noise 1.01597.
        let at_60 = 6.6147_f64.exp() * (0.178_f64 * 0.178 / 2.0).exp();
        let expected = at_60 * ((1.0 / 6.0_f64).powf(-0.0627) + 2.0_f64.powf(-0.0627)) / 2.0;
        assert!((score.latency_mean_ms / expected - 1.0).abs() < 1e-3);
        assert!(score.latency_over_share.abs() < 1e-12);
    }

    #[test]
    fn the_oracle_takes_the_largest_that_holds_else_the_least_bad() {
        let rates = [1_000.0, 20_000.0, 33_900.0];
        let chosen = oracle(&world(), &rates, (10, 120), 240.0);
        assert_eq!(chosen[0], 120);
        // The second minute climbs from 10,500/s to 26,950/s.
        let worst = |ci: u32| worst_case(&world(), f64::from(ci), rate_at(&rates, 119.0)).unwrap();
        assert!(worst(chosen[1]) <= 240.0 && worst(chosen[1] + 1) > 240.0, "{chosen:?}");
        // 33,900/s: at 30 s 33,362/s are left, so that every interval below 71 s is beyond capacity.
        let recovery = |ci: u32| worst_case(&world(), f64::from(ci), 33_900.0);
        assert!(recovery(chosen[2]).is_some() && recovery(60).is_none());
        let others = (10..=120).filter_map(recovery);
        assert!(others.into_iter().all(|other| other >= recovery(chosen[2]).unwrap()));
        assert_eq!(oracle(&world(), &[40_000.0], (10, 120), 240.0), [120]);
    }
}
