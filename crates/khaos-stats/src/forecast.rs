//! Damped Holt smoothing: a level and a trend that dies away.

/// Damped Holt (additive trend). Source: Gardner & McKenzie, *Forecasting trends in time series*,
/// Management Science 31 (1985), eq. 1–4.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DampedHolt {
    alpha: f64,
    beta: f64,
    phi: f64,
    level: f64,
    trend: f64,
}

impl DampedHolt {
    /// Starts at the first value with no trend. `alpha` smooths the level, `beta` the trend, and
    /// `phi` damps it; all three lie in (0, 1].
    pub fn new(alpha: f64, beta: f64, phi: f64, first: f64) -> Self {
        Self { alpha, beta, phi, level: first, trend: 0.0 }
    }

    /// Takes in the next value. `None` is a gap: the state moves along its own forecast.
    pub fn update(&mut self, value: Option<f64>) {
        let expected = self.level + self.phi * self.trend;
        let level = match value {
            Some(value) => self.alpha * value + (1.0 - self.alpha) * expected,
            None => expected,
        };
        self.trend = self.beta * (level - self.level) + (1.0 - self.beta) * self.phi * self.trend;
        self.level = level;
    }

    /// The value expected `steps ≥ 1` steps ahead, in the unit of the values.
    pub fn ahead(&self, steps: usize) -> f64 {
        self.level + damping(self.phi, steps) * self.trend
    }

    /// Where it stands, in the unit of the values.
    pub fn level(&self) -> f64 {
        self.level
    }

    /// By how much it rises in a step, before damping.
    pub fn trend(&self) -> f64 {
        self.trend
    }
}

/// By how many of its steps a damped trend moves the level in `steps` steps: φ + φ² + … + φ^steps.
pub fn damping(phi: f64, steps: usize) -> f64 {
    (0..steps).fold(0.0, |sum, _| phi * (1.0 + sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_steps_by_hand() {
        // α = β = φ = 0.5. Start 10; see 14: expected 10, level 12, trend 0.5·2 = 1.
        // See 14 again: expected 12.5, level 13.25, trend 0.5·1.25 + 0.5·0.5·1 = 0.875.
        let mut holt = DampedHolt::new(0.5, 0.5, 0.5, 10.0);
        holt.update(Some(14.0));
        assert!((holt.ahead(1) - 12.5).abs() < 1e-12);
        holt.update(Some(14.0));
        assert!((holt.ahead(1) - (13.25 + 0.5 * 0.875)).abs() < 1e-12);
        assert!((holt.ahead(2) - (13.25 + 0.75 * 0.875)).abs() < 1e-12);
    }

    #[test]
    fn a_gap_follows_the_forecast() {
        let mut holt = DampedHolt::new(0.7, 0.3, 0.97, 10.0);
        holt.update(Some(12.0));
        let expected = holt.ahead(1);
        holt.update(None);
        assert!((holt.level - expected).abs() < 1e-12);
    }

    #[test]
    fn a_constant_stays_constant() {
        let mut holt = DampedHolt::new(0.7, 0.3, 0.97, 5.0);
        for _ in 0..50 {
            holt.update(Some(5.0));
        }
        assert!((holt.ahead(10) - 5.0).abs() < 1e-12);
    }
}
