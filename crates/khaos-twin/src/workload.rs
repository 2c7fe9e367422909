//! What arrives.

use std::f64::consts::TAU;

use khaos_control::core::stats::{Ar1, Seed};
use thiserror::Error;

/// Arrival rates by the minute, linear between the middles of the minutes and held at both ends.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    per_minute: Vec<f64>,
}

/// What is wrong with a workload.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum InvalidWorkload {
    /// There is not a single minute.
    #[error("the workload has no minute")]
    Empty,
    /// A rate is negative, NaN or beyond anything.
    #[error("minute {minute} has a rate of {rate} events/s: it must be from 0 to 1e12")]
    Rate {
        /// From 0.
        minute: usize,
        /// What stands there.
        rate: f64,
    },
}

impl Workload {
    /// A workload of mean rates per minute, events/s.
    pub fn new(per_minute: Vec<f64>) -> Result<Self, InvalidWorkload> {
        if per_minute.is_empty() {
            return Err(InvalidWorkload::Empty);
        }
        match per_minute.iter().position(|rate| !(0.0..=1e12).contains(rate)) {
            Some(minute) => Err(InvalidWorkload::Rate { minute, rate: per_minute[minute] }),
            None => Ok(Self { per_minute }),
        }
    }

    /// A day of a web shop in 1,440 minutes: quiet nights, a morning rise, a lunch peak, a long
    /// evening peak at about `peak_eps` and noise of a few percent that is the seed's own.
    pub fn web_shop_day(peak_eps: f64, seed: Seed) -> Self {
        let mut noise = Ar1::new(0.8, seed.stream("web shop"));
        let bump = |hour: f64, centre: f64, width: f64| {
            let from_centre = (hour - centre + 36.0).rem_euclid(24.0) - 12.0;
            (-0.5 * (from_centre / width).powi(2)).exp()
        };
        let rate = |minute: u32| {
            let hour = f64::from(minute) / 60.0;
            let shape = 0.06
                + 0.03 * (TAU * (hour - 2.0) / 24.0).cos().powi(2)
                + 0.42 * bump(hour, 9.5, 1.6)
                + 0.50 * bump(hour, 12.8, 1.3)
                + 0.90 * bump(hour, 19.6, 2.0);
            peak_eps * shape * (0.03 * noise.next().unwrap_or(0.0)).exp()
        };
        Self { per_minute: (0..1_440).map(rate).collect() }
    }

    /// Mean rates per minute, events/s.
    pub fn per_minute(&self) -> &[f64] {
        &self.per_minute
    }

    /// Length, s.
    pub fn secs(&self) -> f64 {
        self.per_minute.len() as f64 * 60.0
    }

    /// Arrival rate `second` s after the beginning, events/s.
    pub fn rate_at(&self, second: f64) -> f64 {
        let last = self.per_minute.len() - 1;
        let position = (second / 60.0 - 0.5).clamp(0.0, last as f64);
        let (before, share) = (position.floor() as usize, position.fract());
        let after = (before + 1).min(last);
        self.per_minute[before] * (1.0 - share) + self.per_minute[after] * share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_between_the_middles_and_held_at_the_ends() {
        let workload = Workload::new(vec![100.0, 200.0]).unwrap();
        for (second, rate) in
            [(0.0, 100.0), (30.0, 100.0), (60.0, 150.0), (90.0, 200.0), (1e6, 200.0)]
        {
            assert!((workload.rate_at(second) - rate).abs() < 1e-9, "{second}");
        }
    }

    #[test]
    fn bad_rates_are_refused_by_minute() {
        assert_eq!(Workload::new(vec![]), Err(InvalidWorkload::Empty));
        let error = Workload::new(vec![1.0, -2.0]).unwrap_err().to_string();
        assert_eq!(error, "minute 1 has a rate of -2 events/s: it must be from 0 to 1e12");
    }

    #[test]
    fn a_day_has_its_peak_in_the_evening() {
        let day = Workload::web_shop_day(10_000.0, Seed(1));
        let (minute, peak) = day
            .per_minute()
            .iter()
            .enumerate()
            .max_by(|a, b| a.1.total_cmp(b.1))
            .map(|(i, r)| (i, *r))
            .unwrap();
        assert!((17 * 60..22 * 60).contains(&minute));
        assert!((8_000.0..12_500.0).contains(&peak));
        assert!(day.per_minute()[3 * 60] < 2_000.0);
    }
}
