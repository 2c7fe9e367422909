//! Robust maximum-a-posteriori least squares with a Gaussian (Laplace) posterior.
//!
//! Data residuals carry a Cauchy loss, so that one contaminated observation cannot pull the fit;
//! prior residuals stay quadratic. All residuals are *standardised*: divided by the standard
//! deviation that the caller expects of them. Where the data turn out noisier than expected the
//! posterior widens accordingly; it never narrows below what the caller declared.

use levenberg_marquardt::{LeastSquaresProblem, LevenbergMarquardt};
use nalgebra::storage::Owned;
use nalgebra::{DMatrix, DVector, Dyn};
use rand_distr::{Distribution, StandardNormal};
use thiserror::Error;

use crate::quantile::median;
use crate::seed::Seed;

/// Tuning constant of the Cauchy loss: 95 % efficiency on Gaussian data. Source: Holland & Welsch,
/// *Robust regression using iteratively reweighted least-squares* (1977), table 1.
const CAUCHY: f64 = 2.385;
/// Reweightings; the weights of well-posed problems settle within a handful.
const REWEIGHTINGS: usize = 12;

/// Standardised residuals at one parameter vector, dimensionless.
#[derive(Debug, Clone, PartialEq)]
pub struct Residuals {
    /// (observed − predicted)/σ, one per observation, in an order that does not change.
    pub data: Vec<f64>,
    /// (parameter − prior mean)/prior σ, one per prior.
    pub prior: Vec<f64>,
}

/// Why no fit came out.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FitError {
    /// A residual was NaN or infinite at the start or at the solution.
    #[error(
        "the residuals are not finite; check the observations for NaN, zero or negative values"
    )]
    NotFinite,
    /// Observations and priors together leave a direction undetermined.
    #[error("the observations and priors do not determine every parameter")]
    Singular,
}

/// A Gaussian approximation of the posterior around its mode.
#[derive(Debug, Clone, PartialEq)]
pub struct Posterior {
    /// The mode, one entry per parameter.
    pub mode: Vec<f64>,
    /// Covariance of the parameters, rows of a symmetric matrix.
    pub covariance: Vec<Vec<f64>>,
    /// Standard deviation of the data residuals relative to what the caller declared, at least 1.
    pub dispersion: f64,
}

impl Posterior {
    /// `count` parameter vectors drawn from the posterior, in pairs mirrored at the mode so that
    /// their mean is the mode; the same seed gives the same draws.
    pub fn draws(&self, count: usize, seed: Seed) -> Result<Vec<Vec<f64>>, FitError> {
        let n = self.mode.len();
        let covariance = DMatrix::from_fn(n, n, |i, j| self.covariance[i][j]);
        let root = covariance.cholesky().ok_or(FitError::Singular)?.l();
        let mut stream = seed.stream("posterior");
        let mut draws = Vec::with_capacity(count);
        while draws.len() < count {
            let z = DVector::from_fn(n, |_, _| StandardNormal.sample(&mut stream));
            let step: DVector<f64> = &root * z;
            draws.push(self.mode.iter().zip(step.iter()).map(|(m, s)| m + s).collect());
            draws.push(self.mode.iter().zip(step.iter()).map(|(m, s)| m - s).collect());
        }
        draws.truncate(count);
        Ok(draws)
    }

    /// Variance of a quantity that is linear in the parameters, with `gradient` at the mode.
    pub fn variance(&self, gradient: &[f64]) -> f64 {
        dot(&self.times(gradient), gradient)
    }

    /// The posterior after one more observation, of which only the `gradient` of its standardised
    /// residual is known: the mode stays, the doubt shrinks. Source: Sherman & Morrison (1950).
    #[must_use]
    pub fn after(&self, gradient: &[f64]) -> Self {
        let along = self.times(gradient);
        let scale = self.dispersion * self.dispersion + dot(&along, gradient);
        let mut covariance = self.covariance.clone();
        for (row, a) in covariance.iter_mut().zip(&along) {
            for (entry, b) in row.iter_mut().zip(&along) {
                *entry -= a * b / scale;
            }
        }
        Self { covariance, ..self.clone() }
    }

    /// Covariance times `vector`.
    fn times(&self, vector: &[f64]) -> Vec<f64> {
        self.covariance.iter().map(|row| dot(row, vector)).collect()
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Fits parameters so that the robust sum of squared `residuals` is smallest, from each of `starts`:
/// a robust loss has several valleys, above all where observations are few, and the deepest one
/// counts. `residuals` must give the same number of entries at every call.
pub fn fit(
    starts: &[Vec<f64>],
    residuals: impl Fn(&[f64]) -> Residuals,
) -> Result<Posterior, FitError> {
    let valleys = starts.iter().map(|start| descend(start, &residuals));
    let deepest = valleys
        .reduce(|best, other| match (&best, &other) {
            (Ok(a), Ok(b)) if b.depth >= a.depth => best,
            (Ok(_), Err(_)) => best,
            _ => other,
        })
        .unwrap_or(Err(FitError::Singular))?;
    let Valley { at, weights, .. } = deepest;
    laplace(&Weighted { at, residuals: &residuals, weights: &weights })
}

/// Where a descent ended.
struct Valley {
    at: DVector<f64>,
    weights: Vec<f64>,
    /// The loss there: smaller is deeper.
    depth: f64,
}

fn descend(start: &[f64], residuals: &impl Fn(&[f64]) -> Residuals) -> Result<Valley, FitError> {
    let mut at = DVector::from_column_slice(start);
    let mut weights = vec![1.0; residuals(start).data.len()];
    for _ in 0..REWEIGHTINGS {
        let problem = Weighted { at: at.clone(), residuals, weights: &weights };
        if !problem.evaluate(&at).iter().all(|r| r.is_finite()) {
            return Err(FitError::NotFinite);
        }
        at = LevenbergMarquardt::new().minimize(problem).0.at;
        let next = cauchy_weights(&residuals(at.as_slice()).data);
        let settled = weights.iter().zip(&next).all(|(old, new)| (old - new).abs() < 1e-6);
        weights = next;
        if settled {
            break;
        }
    }
    let Residuals { data, prior } = residuals(at.as_slice());
    let bend = cauchy_scale(&data) * CAUCHY;
    let of_data = data.iter().map(|r| bend * bend * (r / bend).powi(2).ln_1p());
    let depth = of_data.chain(prior.iter().map(|r| r * r)).sum();
    Ok(Valley { at, weights, depth })
}

/// Weights of the Cauchy loss for standardised residuals, from 0 (an outlier) to 1.
pub fn cauchy_weights(data: &[f64]) -> Vec<f64> {
    let bend = cauchy_scale(data) * CAUCHY;
    data.iter().map(|r| 1.0 / (1.0 + (r / bend).powi(2))).collect()
}

/// A scale that grows where all residuals are large: a caller who declared too small a σ must not see
/// good data treated as outliers.
fn cauchy_scale(data: &[f64]) -> f64 {
    let sizes: Vec<f64> = data.iter().map(|r| r.abs()).collect();
    median(&sizes).map_or(1.0, |mad| (1.4826 * mad).max(1.0))
}

fn laplace<R: Fn(&[f64]) -> Residuals>(problem: &Weighted<'_, R>) -> Result<Posterior, FitError> {
    let Residuals { data, .. } = (problem.residuals)(problem.at.as_slice());
    let observed = data.len();
    let parameters = problem.at.len();
    let squares: f64 = data.iter().zip(problem.weights).map(|(r, w)| w * r * r).sum();
    let freedom = observed.saturating_sub(parameters).max(1) as f64;
    let variance = (squares / freedom).max(1.0);
    if !variance.is_finite() {
        return Err(FitError::NotFinite);
    }

    let jacobian = problem.differentiate(&problem.at);
    let (of_data, of_priors) = (jacobian.rows(0, observed), jacobian.rows_range(observed..));
    let precision = of_data.transpose() * of_data / variance + of_priors.transpose() * of_priors;
    let covariance = precision.try_inverse().ok_or(FitError::Singular)?;
    if covariance.diagonal().iter().any(|v| *v <= 0.0 || !v.is_finite()) {
        return Err(FitError::Singular);
    }
    Ok(Posterior {
        mode: problem.at.iter().copied().collect(),
        covariance: (0..parameters)
            .map(|i| (0..parameters).map(|j| covariance[(i, j)]).collect())
            .collect(),
        dispersion: variance.sqrt(),
    })
}

/// Data residuals times the root of their weights, then the priors' residuals.
struct Weighted<'a, R> {
    at: DVector<f64>,
    residuals: &'a R,
    weights: &'a [f64],
}

impl<R: Fn(&[f64]) -> Residuals> Weighted<'_, R> {
    fn evaluate(&self, at: &DVector<f64>) -> DVector<f64> {
        let Residuals { data, prior } = (self.residuals)(at.as_slice());
        let weighted = data.iter().zip(self.weights).map(|(r, w)| r * w.sqrt());
        DVector::from_vec(weighted.chain(prior).collect())
    }

    /// Central differences: the models have a handful of smooth parameters of order one.
    fn differentiate(&self, at: &DVector<f64>) -> DMatrix<f64> {
        let columns: Vec<DVector<f64>> = (0..at.len())
            .map(|i| {
                let step = 1e-5 * at[i].abs().max(1.0);
                let (mut above, mut below) = (at.clone(), at.clone());
                above[i] += step;
                below[i] -= step;
                (self.evaluate(&above) - self.evaluate(&below)) / (2.0 * step)
            })
            .collect();
        DMatrix::from_columns(&columns)
    }
}

impl<R: Fn(&[f64]) -> Residuals> LeastSquaresProblem<f64, Dyn, Dyn> for Weighted<'_, R> {
    type ResidualStorage = Owned<f64, Dyn>;
    type JacobianStorage = Owned<f64, Dyn, Dyn>;
    type ParameterStorage = Owned<f64, Dyn>;

    fn set_params(&mut self, at: &DVector<f64>) {
        self.at.copy_from(at);
    }

    fn params(&self) -> DVector<f64> {
        self.at.clone()
    }

    fn residuals(&self) -> Option<DVector<f64>> {
        Some(self.evaluate(&self.at)).filter(|r| r.iter().all(|v| v.is_finite()))
    }

    fn jacobian(&self) -> Option<DMatrix<f64>> {
        Some(self.differentiate(&self.at)).filter(|j| j.iter().all(|v| v.is_finite()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Observations of one mean with σ = 1 and a prior N(0, 1).
    fn mean_of(values: &'static [f64]) -> Posterior {
        fit(&[vec![0.0]], |at| Residuals {
            data: values.iter().map(|v| v - at[0]).collect(),
            prior: vec![at[0]],
        })
        .unwrap()
    }

    #[test]
    fn a_conjugate_normal_by_hand() {
        // Three observations of 2 with σ 1 and a prior N(0, 1): precision 4, mode 6/4. The Cauchy
        // weights of residuals 0.5 are 1/(1 + (0.5/2.385)²) = 0.958: precision 3·0.958 + 1.
        let posterior = mean_of(&[2.0, 2.0, 2.0]);
        let precision = 3.0 * 0.958 + 1.0;
        assert!((posterior.mode[0] - (precision - 1.0) * 2.0 / precision).abs() < 2e-3);
        assert!((posterior.covariance[0][0] - 1.0 / precision).abs() < 2e-3);
        assert!((posterior.dispersion - 1.0).abs() < 1e-12);
    }

    #[test]
    fn one_outlier_hardly_moves_the_mode() {
        let clean = mean_of(&[2.0, 2.1, 1.9, 2.0, 2.05, 1.95]);
        let dirty = mean_of(&[2.0, 2.1, 1.9, 2.0, 2.05, 1.95, 60.0]);
        assert!((clean.mode[0] - dirty.mode[0]).abs() < 0.1, "{clean:?} {dirty:?}");
    }

    #[test]
    fn noisier_data_widen_the_posterior() {
        let calm = mean_of(&[1.0, 1.1, 0.9, 1.0]);
        let wild = mean_of(&[5.0, -5.0, 4.0, -3.0]);
        assert!(wild.dispersion > 2.0);
        assert!(wild.covariance[0][0] > calm.covariance[0][0]);
    }

    #[test]
    fn draws_have_the_posterior_moments() {
        let posterior = Posterior {
            mode: vec![1.0, -2.0],
            covariance: vec![vec![4.0, 1.0], vec![1.0, 1.0]],
            dispersion: 1.0,
        };
        let draws = posterior.draws(20_000, Seed(1)).unwrap();
        let moment = |f: &dyn Fn(&[f64]) -> f64| {
            draws.iter().map(|d| f(d)).sum::<f64>() / draws.len() as f64
        };
        assert!((moment(&|d| d[0]) - 1.0).abs() < 1e-9);
        assert!((moment(&|d| (d[0] - 1.0).powi(2)) - 4.0).abs() < 0.15);
        assert!((moment(&|d| (d[0] - 1.0) * (d[1] + 2.0)) - 1.0).abs() < 0.1);
    }

    #[test]
    fn the_deepest_valley_counts_wherever_the_descent_began() {
        // Four observations around 0 and three around 30, no prior to speak of: from above the three
        // look right and the four contaminated, but the four are the deeper valley.
        let values = [-0.1, 0.0, 0.1, 0.0, 29.9, 30.0, 30.1];
        let from = |starts: &[Vec<f64>]| {
            let residuals = |at: &[f64]| Residuals {
                data: values.iter().map(|v| v - at[0]).collect(),
                prior: vec![at[0] / 1e3],
            };
            fit(starts, residuals).unwrap().mode[0]
        };
        let both = from(&[vec![30.0], vec![0.0]]);
        assert!((both - from(&[vec![0.0], vec![30.0]])).abs() < 1e-3);
        assert!(both < 15.0, "{both}");
    }

    #[test]
    fn one_more_observation_by_hand() {
        // Precision diag(1/4, 1) + gradient (1, 1)·(1, 1)ᵀ = [[1.25, 1], [1, 2]]; its inverse is
        // [[2, −1], [−1, 1.25]]/1.5.
        let before = Posterior {
            mode: vec![0.0, 0.0],
            covariance: vec![vec![4.0, 0.0], vec![0.0, 1.0]],
            dispersion: 1.0,
        };
        let after = before.after(&[1.0, 1.0]);
        for (found, expected) in
            after.covariance.concat().iter().zip([2.0, -1.0, -1.0, 1.25].map(|v| v / 1.5))
        {
            assert!((found - expected).abs() < 1e-12, "{after:?}");
        }
        assert!((before.variance(&[1.0, 2.0]) - 8.0).abs() < 1e-12);
        // Data twice as noisy teach a quarter: precision diag(1/4, 1) + (1, 1)·(1, 1)ᵀ/4.
        let noisy = Posterior { dispersion: 2.0, ..before };
        let found = noisy.after(&[1.0, 1.0]).covariance[0][0];
        assert!((found - 1.25 / (0.5 * 1.25 - 0.0625)).abs() < 1e-12, "{found}");
    }

    #[test]
    fn nan_is_refused() {
        let broken = fit(&[vec![0.0]], |at| Residuals { data: vec![f64::NAN], prior: vec![at[0]] });
        assert_eq!(broken, Err(FitError::NotFinite));
    }

    #[test]
    fn an_undetermined_direction_is_refused() {
        let flat =
            fit(&[vec![0.0, 0.0]], |at| Residuals { data: vec![at[0] - 1.0], prior: vec![] });
        assert_eq!(flat, Err(FitError::Singular));
    }
}
