//! What was usual at the same time of earlier hours, days and weeks.

use khaos_stats::median;

/// Earlier periods that a profile looks at, at most.
const PERIODS: usize = 14;

/// A season that a load may have: its period, and over how many minutes to each side an earlier
/// period is smoothed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Season {
    period: usize,
    smooth: usize,
}

/// Jobs that start on the hour; a day, by the minute for what the clock starts and smoothed for what
/// people do; a week.
pub(super) const SEASONS: [Season; 4] = [
    Season { period: 60, smooth: 0 },
    Season { period: 1_440, smooth: 1 },
    Season { period: 1_440, smooth: 8 },
    Season { period: 10_080, smooth: 8 },
];

/// Sums of the loads from the first minute on, and how many of them are known: the mean of any
/// stretch is a difference.
#[derive(Debug)]
pub(super) struct Sums(Vec<(f64, usize)>);

impl Sums {
    pub(super) fn of(loads: &[Option<f64>]) -> Self {
        let mut sums = Vec::with_capacity(loads.len() + 1);
        let mut last = (0.0, 0);
        sums.push(last);
        for load in loads {
            last = load.map_or(last, |load| (last.0 + load, last.1 + 1));
            sums.push(last);
        }
        Self(sums)
    }

    /// Mean of the known loads of minutes `from..to`, as far as there are such minutes.
    pub(super) fn mean(&self, from: usize, to: usize) -> Option<f64> {
        let ((before, fewer), (after, more)) =
            (self.0[from.min(self.0.len() - 1)], self.0[to.min(self.0.len() - 1)]);
        // Differences of sums leave dust where the loads were zero.
        (more > fewer).then(|| ((after - before) / (more - fewer) as f64).max(0.0))
    }
}

impl Season {
    /// The usual load at `minute`: the median over the earlier periods of their means around that
    /// time. `None` where nothing is known of any.
    pub(super) fn usual(self, sums: &Sums, minute: usize) -> Option<f64> {
        let minutes = sums.0.len() - 1;
        let earlier = (1..=PERIODS).map_while(|n| minute.checked_sub(n * self.period));
        let means: Vec<f64> = earlier
            .filter(|&then| then < minutes)
            .filter_map(|then| sums.mean(then.saturating_sub(self.smooth), then + self.smooth + 1))
            .collect();
        median(&means)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_load_by_hand() {
        // Period 3, smoothed over 1 to each side: minutes 0 to 8, minute 4 unknown.
        let loads = [1.0, 2.0, 3.0, 7.0, f64::NAN, 9.0, 4.0, 5.0, 6.0];
        let known: Vec<Option<f64>> =
            loads.iter().map(|load| (!load.is_nan()).then_some(*load)).collect();
        let sums = Sums::of(&known);
        let season = Season { period: 3, smooth: 1 };
        // Minute 9 looks at 6, 3 and 0: means of 9 4 5, of 3 7 and of 1 2 are 6, 5 and 1.5.
        assert!((season.usual(&sums, 9).unwrap() - 5.0).abs() < 1e-12);
        // Minute 11 looks at 8, 5 and 2: 5 6 (the next is to come), 9 4 and 2 3 7: 5.5, 6.5 and 4.
        assert!((season.usual(&sums, 11).unwrap() - 5.5).abs() < 1e-12);
        assert_eq!(season.usual(&sums, 2), None, "there is no earlier period");
        let unknown = Sums::of(&[None, None, None]);
        assert_eq!(season.usual(&unknown, 4), None);
    }
}
