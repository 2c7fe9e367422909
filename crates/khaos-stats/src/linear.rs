//! Ordinary least squares.

use nalgebra::{DMatrix, DVector};
use thiserror::Error;

/// Directions whose share of the largest singular value is below this are not determined. The
/// columns are scaled to length one before, so that it does not depend on anybody's units.
const DETERMINED: f64 = 1e-9;

/// A function that is linear in its `N` predictors. There is no intercept but a predictor that is
/// always 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinearRegression<const N: usize> {
    /// One per predictor, in their order: units of the target by unit of the predictor.
    pub coefficients: [f64; N],
}

/// Why no regression came out.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OlsError {
    /// A predictor or a target was NaN or infinite.
    #[error("the rows are not finite; check them for NaN and infinities")]
    NotFinite,
    /// Too few rows, or predictors that move together: many functions fit equally well.
    #[error(
        "{rows} rows do not determine {coefficients} coefficients; vary each predictor by itself"
    )]
    NotDetermined {
        /// Rows given.
        rows: usize,
        /// Coefficients wanted.
        coefficients: usize,
    },
}

/// The linear function with the smallest sum of squared differences to the targets, of rows of
/// predictors with their target. By singular value decomposition.
pub fn ols<const N: usize>(rows: &[([f64; N], f64)]) -> Result<LinearRegression<N>, OlsError> {
    let finite = |(predictors, target): &([f64; N], f64)| {
        target.is_finite() && predictors.iter().all(|p| p.is_finite())
    };
    if !rows.iter().all(finite) {
        return Err(OlsError::NotFinite);
    }
    let not_determined = OlsError::NotDetermined { rows: rows.len(), coefficients: N };
    if rows.len() < N {
        return Err(not_determined);
    }
    let mut design = DMatrix::from_fn(rows.len(), N, |row, column| rows[row].0[column]);
    let targets = DVector::from_iterator(rows.len(), rows.iter().map(|&(_, target)| target));
    // A column of nothing but zeros keeps its length, and is found not to be determined.
    let lengths: [f64; N] =
        std::array::from_fn(|i| Some(design.column(i).norm()).filter(|l| *l > 0.0).unwrap_or(1.0));
    for (mut column, length) in design.column_iter_mut().zip(lengths) {
        column /= length;
    }
    let decomposed = design.svd(true, true);
    let threshold = DETERMINED * decomposed.singular_values.iter().copied().fold(0.0, f64::max);
    if decomposed.rank(threshold) < N {
        return Err(not_determined);
    }
    let scaled = decomposed.solve(&targets, threshold).map_err(|_| not_determined)?;
    Ok(LinearRegression { coefficients: std::array::from_fn(|i| scaled[i] / lengths[i]) })
}

impl<const N: usize> LinearRegression<N> {
    /// The target to expect of these predictors.
    pub fn predict(&self, predictors: &[f64; N]) -> f64 {
        self.coefficients.iter().zip(predictors).map(|(c, p)| c * p).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_through_three_points_by_hand() {
        // (0, 1), (1, 3), (2, 4): means 1 and 8/3; slope (−1·−5/3 + 0 + 1·4/3)/2 = 3/2,
        // intercept 8/3 − 3/2 = 7/6.
        let line = ols(&[([1.0, 0.0], 1.0), ([1.0, 1.0], 3.0), ([1.0, 2.0], 4.0)]).unwrap();
        assert!((line.coefficients[0] - 7.0 / 6.0).abs() < 1e-12, "{line:?}");
        assert!((line.coefficients[1] - 1.5).abs() < 1e-12, "{line:?}");
        assert!((line.predict(&[1.0, 4.0]) - (7.0 / 6.0 + 6.0)).abs() < 1e-12);
    }

    #[test]
    fn a_plane_is_found_whatever_its_units() {
        // 5 + 2e-6·x − 3·y with x in the millions: the columns differ by seven orders.
        let plane = |x: f64, y: f64| ([1.0, x, y], 5.0 + 2e-6 * x - 3.0 * y);
        let rows = [plane(1e7, 0.1), plane(2e7, 0.2), plane(4e7, 0.1), plane(8e7, 0.5)];
        let [constant, of_x, of_y] = ols(&rows).unwrap().coefficients;
        assert!((constant - 5.0).abs() < 1e-9);
        assert!((of_x / 2e-6 - 1.0).abs() < 1e-9);
        assert!((of_y + 3.0).abs() < 1e-9);
    }

    #[test]
    fn what_is_not_determined_is_refused() {
        let refused = |rows: &[([f64; 2], f64)]| ols(rows).unwrap_err();
        let not = |rows| OlsError::NotDetermined { rows, coefficients: 2 };
        assert_eq!(refused(&[]), not(0));
        assert_eq!(refused(&[([1.0, 3.0], 1.0)]), not(1));
        // The second predictor never moves, or is never there.
        assert_eq!(refused(&[([1.0, 3.0], 1.0), ([1.0, 3.0], 2.0), ([1.0, 3.0], 3.0)]), not(3));
        assert_eq!(refused(&[([1.0, 0.0], 1.0), ([1.0, 0.0], 2.0)]), not(2));
        assert_eq!(refused(&[([1.0, 3.0], f64::NAN), ([1.0, 4.0], 1.0)]), OlsError::NotFinite);
    }
}
