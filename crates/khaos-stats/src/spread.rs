//! How far single observations scatter around what a model expects, on the log scale.
//!
//! A model's expectation is uncertain and observations scatter around it; a prediction interval holds
//! both. With few observations the scatter is a Student t whose scale starts from what is usual and
//! is learnt; from [`ENOUGH`] observations in as many groups on it is read off errors on groups that
//! the model had not seen. Source: DESIGN, uncertainty.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::quantile::quantile;

/// Observations, and groups of them, from which on errors on unseen groups are trusted: below, the
/// finite-sample correction asks for more than the largest error.
pub const ENOUGH: usize = 9;
/// Scatter is never believed to be smaller than this.
const SMALLEST: f64 = 0.1;
/// How many observations the usual scatter is worth.
const USUAL_WEIGHS: f64 = 6.0;
/// Equally probable slices of the scatter that are laid over every draw of the expectation.
const SLICES: usize = 64;

/// Scatter of single observations around an expectation, in logs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spread {
    /// Student's t around the expectation.
    StudentT {
        /// Scale: the standard deviation where there are many degrees of freedom.
        scale: f64,
        /// Degrees of freedom.
        freedom: f64,
    },
    /// Conformal: errors on groups that were left out, each group weighing the same.
    Conformal {
        /// ln(observed/expected), and what each weighs; the weights sum to 1.
        errors: Vec<(f64, f64)>,
        /// Groups that they come from.
        groups: usize,
    },
}

impl Spread {
    /// Learns from `residuals` (log, with the weights that a fit of `parameters` parameters gave
    /// them), starting from the `usual` standard deviation. Scaled inverse χ² prior; source: Gelman et
    /// al., *Bayesian Data Analysis*, 3rd ed., section 2.6.
    pub fn learnt(residuals: &[(f64, f64)], parameters: usize, usual: f64) -> Self {
        let squares: f64 = residuals.iter().map(|(r, weight)| weight * r * r).sum();
        let count: f64 = residuals.iter().map(|(_, weight)| weight).sum();
        let freedom = USUAL_WEIGHS + (count - parameters as f64).max(0.0);
        let scale = ((USUAL_WEIGHS * usual * usual + squares) / freedom).sqrt();
        Self::StudentT { scale: scale.max(SMALLEST), freedom }
    }

    /// The scatter by `errors` (log) on groups that were left out of the fit that they are errors of.
    /// `None` below [`ENOUGH`] errors or groups.
    ///
    /// Errors within a group are alike, so a group counts as one. Source: Dunn, Wasserman & Ramdas,
    /// *Distribution-free prediction sets for two-layer hierarchical models* (2022), pooling CDFs.
    pub fn conformal(groups: &[Vec<f64>]) -> Option<Self> {
        let count = groups.iter().map(Vec::len).sum::<usize>();
        if groups.len() < ENOUGH || count < ENOUGH {
            return None;
        }
        let share = |group: &Vec<f64>| 1.0 / (groups.len() * group.len()) as f64;
        let errors = groups.iter().flat_map(|g| g.iter().map(|e| (*e, share(g))));
        Some(Self::Conformal { errors: errors.collect(), groups: groups.len() })
    }

    /// Two-sided interval that holds a single observation with `probability`. `expected` is the log of
    /// the most probable expectation, `draws` the logs of other credible ones; infinite where there is
    /// no expectation. `None` where the interval has no end.
    pub fn interval(&self, expected: f64, draws: &[f64], probability: f64) -> Option<(f64, f64)> {
        let (low, high) = match self {
            Self::StudentT { scale, freedom } => {
                let tail = (1.0 - probability) / 2.0;
                let all = overlaid(draws, *scale, *freedom)?;
                (quantile(&all, tail)?, quantile(&all, 1.0 - tail)?)
            }
            Self::Conformal { errors, groups } => {
                let sizes = errors.iter().map(|(e, weight)| (e.abs(), *weight));
                let half = weighted_quantile(sizes, corrected(probability, *groups))?;
                (expected - half, expected + half)
            }
        };
        let (low, high) = (low.exp(), high.exp());
        (low.is_finite() && high.is_finite()).then_some((low, high))
    }

    /// Bound that a single observation stays below with `probability`, as [`Self::interval`].
    pub fn upper(&self, expected: f64, draws: &[f64], probability: f64) -> Option<f64> {
        let bound = match self {
            Self::StudentT { scale, freedom } => {
                quantile(&overlaid(draws, *scale, *freedom)?, probability)?
            }
            Self::Conformal { errors, groups } => {
                let level = corrected(probability, *groups);
                expected + weighted_quantile(errors.iter().copied(), level)?
            }
        };
        Some(bound.exp()).filter(|bound| bound.is_finite())
    }
}

/// The finite-sample correction of conformal prediction.
fn corrected(probability: f64, groups: usize) -> f64 {
    (probability * (groups as f64 + 1.0) / groups as f64).min(1.0)
}

/// Every draw with every slice of the scatter on top.
fn overlaid(draws: &[f64], scale: f64, freedom: f64) -> Option<Vec<f64>> {
    let scatter = StudentsT::new(0.0, scale, freedom).ok()?;
    let slices: Vec<f64> =
        (0..SLICES).map(|i| scatter.inverse_cdf((i as f64 + 0.5) / SLICES as f64)).collect();
    Some(draws.iter().flat_map(|draw| slices.iter().map(move |slice| draw + slice)).collect())
}

/// The smallest value below or at which the weights (which sum to 1) reach `level`.
fn weighted_quantile(values: impl Iterator<Item = (f64, f64)>, level: f64) -> Option<f64> {
    let mut sorted: Vec<(f64, f64)> = values.collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut sum = 0.0;
    let reached = sorted.iter().find(|(_, weight)| {
        sum += weight;
        sum >= level - 1e-9
    });
    reached.or(sorted.last()).map(|(value, _)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_learnt_scale_by_hand() {
        // Six observations' worth of 0.15 and four residuals of 0.3 in a fit of one parameter:
        // freedom 6 + 3, scale² = (6·0.0225 + 4·0.09)/9 = 0.055.
        let Spread::StudentT { scale, freedom } = Spread::learnt(&[(0.3, 1.0); 4], 1, 0.15) else {
            panic!("four residuals are few")
        };
        assert!((scale - 0.055_f64.sqrt()).abs() < 1e-12);
        assert!((freedom - 9.0).abs() < 1e-12);
        // Nothing is that sure.
        let Spread::StudentT { scale, .. } = Spread::learnt(&[(0.0, 1.0); 100], 3, 0.01) else {
            panic!("never conformal")
        };
        assert!((scale - SMALLEST).abs() < 1e-12);
    }

    #[test]
    fn without_doubt_about_the_expectation_the_interval_is_student_s() {
        // t of 6 degrees: its 95 % quantile is 1.943.
        let spread = Spread::StudentT { scale: 0.2, freedom: 6.0 };
        let (low, high) = spread.interval(5.0, &[5.0; 128], 0.9).unwrap();
        assert!((high.ln() - 5.0 - 0.2 * 1.943).abs() < 0.02, "{}", high.ln());
        assert!((low.ln() - 5.0 + 0.2 * 1.943).abs() < 0.02);
        let upper = spread.upper(5.0, &[5.0; 128], 0.95).unwrap();
        assert!((upper / high - 1.0).abs() < 1e-12);
        // Draws that lie apart widen it; an expectation that may be endless has no upper end.
        let wider = spread.interval(5.0, &[4.5, 5.5], 0.9).unwrap();
        assert!(wider.1 > high && wider.0 < low);
        assert_eq!(spread.upper(5.0, &[5.0, f64::INFINITY], 0.9), None);
    }

    #[test]
    fn conformal_by_hand() {
        assert_eq!(Spread::conformal(&vec![vec![0.1; 4]; 8]), None, "eight groups are too few");
        // Nine groups with errors ±0.01·g: at 90 % the correction asks for 0.9·10/9 = 1, the largest.
        let groups: Vec<Vec<f64>> =
            (1..=9).map(|g| vec![0.01 * f64::from(g), -0.01 * f64::from(g)]).collect();
        let spread = Spread::conformal(&groups).unwrap();
        let (low, high) = spread.interval(0.0, &[], 0.9).unwrap();
        assert!((high.ln() - 0.09).abs() < 1e-12 && (low.ln() + 0.09).abs() < 1e-12);
        // One-sided at 45 %: 0.5 of the 18 errors lie at or below −0.01.
        assert!((spread.upper(0.0, &[], 0.45).unwrap().ln() + 0.01).abs() < 1e-12);
    }

    #[test]
    fn a_group_counts_as_one_however_large() {
        // Eight groups of one error of 0.1 and one of a hundred errors of 0.5: 8/9 of the weight are
        // at 0.1, so that the 80 % interval (corrected: 8/9) ends there.
        let mut groups = vec![vec![0.1]; 8];
        groups.push(vec![0.5; 100]);
        let spread = Spread::conformal(&groups).unwrap();
        let (_, high) = spread.interval(0.0, &[], 0.8).unwrap();
        assert!((high.ln() - 0.1).abs() < 1e-12);
    }
}
