//! Ordinary least squares.

use nalgebra::{DMatrix, DVector};

use crate::posterior::FitError;

/// Singular values below this share of the largest leave a direction undetermined.
const RANK: f64 = 1e-10;

/// A linear regression: target ≈ Σ coefficient · predictor. An intercept is a predictor that is 1.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearRegression {
    /// One per predictor, in the units of target/predictor.
    pub coefficients: Vec<f64>,
}

impl LinearRegression {
    /// Fits `targets` to the predictors in `rows`, all of the same length. Columns are scaled before
    /// the singular value decomposition, so that their units do not matter.
    pub fn fit(rows: &[Vec<f64>], targets: &[f64]) -> Result<Self, FitError> {
        let width = rows.first().map_or(0, Vec::len);
        if width == 0 || rows.len() < width {
            return Err(FitError::Singular);
        }
        let scales: Vec<f64> = (0..width)
            .map(|j| rows.iter().map(|row| row[j].abs()).fold(0.0, f64::max))
            .map(|largest| if largest > 0.0 { largest } else { 1.0 })
            .collect();
        let matrix = DMatrix::from_fn(rows.len(), width, |i, j| rows[i][j] / scales[j]);
        let targets = DVector::from_column_slice(targets);
        if matrix.iter().chain(targets.iter()).any(|v| !v.is_finite()) {
            return Err(FitError::NotFinite);
        }
        let svd = matrix.svd(true, true);
        let smallest = RANK * svd.singular_values.max();
        if svd.rank(smallest) < width {
            return Err(FitError::Singular);
        }
        let solution = svd.solve(&targets, smallest).map_err(|_| FitError::Singular)?;
        let coefficients = solution.iter().zip(scales).map(|(c, scale)| c / scale).collect();
        Ok(Self { coefficients })
    }

    /// The target expected at `predictors`.
    pub fn predict(&self, predictors: &[f64]) -> f64 {
        self.coefficients.iter().zip(predictors).map(|(c, x)| c * x).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_by_hand() {
        // Through (0, 1), (1, 2), (2, 6): slope Σ(x − 1)(y − 3)/Σ(x − 1)² = 5/2, intercept 3 − 5/2.
        let rows: Vec<Vec<f64>> = (0..3).map(|x| vec![1.0, f64::from(x)]).collect();
        let line = LinearRegression::fit(&rows, &[1.0, 2.0, 6.0]).unwrap();
        assert!((line.coefficients[0] - 0.5).abs() < 1e-12, "{line:?}");
        assert!((line.coefficients[1] - 2.5).abs() < 1e-12, "{line:?}");
        assert!((line.predict(&[1.0, 4.0]) - 10.5).abs() < 1e-12);
    }

    #[test]
    fn units_that_differ_by_orders_of_magnitude_do_not_matter() {
        let rows: Vec<Vec<f64>> =
            (0..8).map(|i| vec![1.0, 1e9 * f64::from(i), 1e-6 * f64::from(i * i)]).collect();
        let targets: Vec<f64> = rows.iter().map(|r| 3.0 + 2e-9 * r[1] - 5e6 * r[2]).collect();
        let plane = LinearRegression::fit(&rows, &targets).unwrap();
        assert!((plane.predict(&[1.0, 4e9, 16e-6]) - (3.0 + 8.0 - 80.0)).abs() < 1e-9);
    }

    #[test]
    fn what_is_not_determined_is_refused() {
        let twice: Vec<Vec<f64>> = (0..4).map(|i| vec![f64::from(i), 2.0 * f64::from(i)]).collect();
        assert_eq!(LinearRegression::fit(&twice, &[0.0; 4]), Err(FitError::Singular));
        assert_eq!(LinearRegression::fit(&[vec![1.0, 2.0]], &[1.0]), Err(FitError::Singular));
        let nan = [vec![f64::NAN], vec![1.0]];
        assert_eq!(LinearRegression::fit(&nan, &[1.0, 2.0]), Err(FitError::NotFinite));
    }
}
