//! Upper bounds that keep their probability on whatever comes.

use crate::quantile;

/// How one forecast did, in units of its own scale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// How far above the forecast the outcome was; negative below it.
    pub came: f64,
    /// The least that the bound was above the forecast, whatever the quantile.
    pub floor: f64,
}

/// Levels between which the bound's quantile moves.
const LEVELS: (f64, f64) = (0.6, 1.0);
/// Scores below which there was no bound that could have been missed.
const FEW: usize = 10;

/// How far above a forecast, in units of its scale, the outcome stays with `probability`: the
/// quantile of the past `scores`, oldest first, at a level that rises with every bound that was
/// missed and falls with every one that was kept, by `gain`. A bound is issued from the scores of
/// `delay` forecasts ago and before, because outcomes are known that much later. `None` without
/// scores.
///
/// Source: Gibbs & Candès, *Adaptive conformal inference under distribution shift*, NeurIPS 2021,
/// eq. 2, on normalised scores; the finite-sample correction is split conformal prediction's.
pub fn adaptive_bound(scores: &[Score], delay: usize, probability: f64, gain: f64) -> Option<f64> {
    let mut level = probability;
    let mut known: Vec<f64> = Vec::with_capacity(scores.len());
    let mut bounds: Vec<Option<f64>> = Vec::with_capacity(scores.len());
    for (i, score) in scores.iter().enumerate() {
        if let Some(past) = i.checked_sub(delay) {
            let came = scores[past].came;
            if let Some(bound) = bounds[past] {
                let missed = if came > bound { 1.0 } else { 0.0 };
                level = (level + gain * (missed - (1.0 - probability))).clamp(LEVELS.0, LEVELS.1);
            }
            known.insert(known.partition_point(|k| *k < came), came);
        }
        bounds.push((known.len() >= FEW).then(|| of_sorted(&known, level).max(score.floor)));
    }
    let came: Vec<f64> = scores.iter().map(|score| score.came).collect();
    quantile(&came, corrected(level, came.len()))
}

/// The level at which a quantile of `n` scores holds for the next one.
fn corrected(level: f64, n: usize) -> f64 {
    let n = n as f64;
    (level * (n + 1.0) / n).min(1.0)
}

/// The corrected quantile of scores that are sorted already, by linear interpolation.
fn of_sorted(sorted: &[f64], level: f64) -> f64 {
    let position = corrected(level, sorted.len()) * (sorted.len() - 1) as f64;
    let (below, share) = (position.floor() as usize, position.fract());
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * share
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(came: impl IntoIterator<Item = f64>) -> Vec<Score> {
        came.into_iter().map(|came| Score { came, floor: f64::NEG_INFINITY }).collect()
    }

    #[test]
    fn few_scores_by_hand() {
        // Too few for a bound that could be missed: the level stays. 0.9 corrected by 6/5 is beyond
        // 1: the largest. 0.6 corrected by 6/5 is 0.72, which is at 2.88 of 0..4: 3 + 0.88.
        let five = scores([3.0, 1.0, 5.0, 2.0, 4.0]);
        assert_eq!(adaptive_bound(&five, 1, 0.9, 0.1), Some(5.0));
        let bound = adaptive_bound(&five, 1, 0.6, 0.1).unwrap();
        assert!((bound - 3.88).abs() < 1e-12, "{bound}");
        assert_eq!(adaptive_bound(&[], 1, 0.9, 0.1), None);
    }

    #[test]
    fn misses_raise_the_level_and_a_floor_saves_from_them() {
        // Ten scores of 0 to 9, then always 9.5: above every quantile of what was known at first.
        let came = || (0..10).map(f64::from).chain([9.5; 6]);
        let rising = adaptive_bound(&scores(came()), 1, 0.7, 0.05).unwrap();
        let floored: Vec<Score> = came().map(|came| Score { came, floor: 9.5 }).collect();
        let saved = adaptive_bound(&floored, 1, 0.7, 0.05).unwrap();
        assert!(rising > saved, "{rising} {saved}");
        assert!(rising <= 9.5, "nothing beyond what was seen: {rising}");
    }

    #[test]
    fn the_probability_is_kept_when_the_world_changes() {
        // Errors that grow tenfold half-way, by a noise that is no function of either.
        let noise = |i: i32| {
            let wave = (f64::from(i) * 12.9898).sin() * 43_758.547;
            wave - wave.floor()
        };
        let all = scores((0..2_000).map(|i| noise(i) * if i < 1_000 { 1.0 } else { 10.0 }));
        let kept = |from: usize, to: usize| {
            let held = (from..to).filter(|&n| {
                let seen = &all[n - 200..n];
                all[n].came <= adaptive_bound(seen, 1, 0.9, 0.02).unwrap()
            });
            held.count() as f64 / (to - from) as f64
        };
        for (from, to) in [(300, 1_000), (1_050, 1_900)] {
            let share = kept(from, to);
            assert!((0.87..0.93).contains(&share), "{from}: {share}");
        }
    }
}
