//! Correlated noise.

use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// A stationary first-order autoregressive process with mean 0 and variance 1:
/// `z' = ρ·z + √(1 − ρ²)·ε`, `0 ≤ ρ < 1`. Endless.
#[derive(Debug, Clone)]
pub struct Ar1 {
    rho: f64,
    last: Option<f64>,
    stream: ChaCha8Rng,
}

impl Ar1 {
    /// The process with correlation `rho` between neighbours, drawn from `stream`.
    pub fn new(rho: f64, stream: ChaCha8Rng) -> Self {
        Self { rho, last: None, stream }
    }
}

impl Iterator for Ar1 {
    type Item = f64;

    fn next(&mut self) -> Option<f64> {
        let shock: f64 = StandardNormal.sample(&mut self.stream);
        let next = match self.last {
            // The first value is drawn from the stationary distribution.
            None => shock,
            Some(last) => self.rho * last + (1.0 - self.rho * self.rho).sqrt() * shock,
        };
        self.last = Some(next);
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    #[test]
    fn variance_one_and_the_correlation_asked_for() {
        let path: Vec<f64> = Ar1::new(0.9, Seed(3).stream("test")).take(200_000).collect();
        let n = path.len() as f64;
        let variance = path.iter().map(|z| z * z).sum::<f64>() / n;
        let covariance = path.windows(2).map(|w| w[0] * w[1]).sum::<f64>() / n;
        assert!((variance - 1.0).abs() < 0.05, "{variance}");
        assert!((covariance / variance - 0.9).abs() < 0.01);
    }
}
