//! Order statistics of small samples.

/// The `q`-quantile (`0 ≤ q ≤ 1`) of `values` by linear interpolation between order statistics
/// (Hyndman & Fan, type 7). `None` when there is no value, or one of them is NaN: an order
/// statistic of unknowns is unknown.
pub fn quantile(values: &[f64], q: f64) -> Option<f64> {
    if values.is_empty() || values.iter().any(|v| v.is_nan()) {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let position = q.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let (below, fraction) = (position.floor() as usize, position.fract());
    let low = sorted[below];
    if fraction == 0.0 {
        return Some(low);
    }
    let high = sorted[below + 1];
    // `low + (high - low) * fraction` would make NaN of two infinities.
    Some(if high.is_infinite() { high } else { low + (high - low) * fraction })
}

/// The median. `None` as in [`quantile`].
pub fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// The arithmetic mean. `None` when there is no value, or one of them is NaN.
pub fn mean(values: &[f64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (!mean.is_nan()).then_some(mean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_four_values_by_hand() {
        // Type 7: position = q (n - 1); q = 0.9 of {1, 2, 3, 10} is at 2.7: 3 + 0.7 (10 - 3).
        let values = [10.0, 1.0, 3.0, 2.0];
        assert_eq!(quantile(&values, 0.0), Some(1.0));
        assert_eq!(median(&values), Some(2.5));
        assert!((quantile(&values, 0.9).unwrap() - 7.9).abs() < 1e-12);
        assert_eq!(quantile(&values, 1.0), Some(10.0));
    }

    #[test]
    fn unknown_is_not_zero() {
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[1.0, f64::NAN], 0.0), None);
        assert_eq!(mean(&[]), None);
        assert_eq!(mean(&[1.0, f64::NAN]), None);
    }

    #[test]
    fn infinities_stay_infinite() {
        assert_eq!(quantile(&[1.0, f64::INFINITY, f64::INFINITY], 0.75), Some(f64::INFINITY));
        assert_eq!(quantile(&[1.0, 2.0, f64::INFINITY], 0.5), Some(2.0));
    }
}
