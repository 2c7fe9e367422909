//! Readings over time. A reading that is missing stays missing: it is never zero.

use serde::{Deserialize, Serialize};

use crate::units::{Span, Timestamp};

/// One value as it was read, or why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading<T> {
    /// Read recently enough to act on.
    Known(T),
    /// Was known once; the last value is too old to act on.
    Stale,
    /// Never read.
    Unknown,
}

impl<T> Reading<T> {
    /// The value, if it is known.
    pub fn known(self) -> Option<T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Stale | Self::Unknown => None,
        }
    }

    /// `Known` of a value, `Unknown` of none.
    pub fn from_option(value: Option<T>) -> Self {
        value.map_or(Self::Unknown, Self::Known)
    }

    /// Applies `f` to a known value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Reading<U> {
        match self {
            Self::Known(value) => Reading::Known(f(value)),
            Self::Stale => Reading::Stale,
            Self::Unknown => Reading::Unknown,
        }
    }
}

/// One sample of a metrics system.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// When it was taken.
    pub at: Timestamp,
    /// What it said, in the unit of its series; finite.
    pub value: f64,
}

/// Samples in order of time, all finite. A scrape that was missed has no sample.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<Sample>", into = "Vec<Sample>")]
pub struct Series(Vec<Sample>);

impl Series {
    /// A series of what is finite in `samples`, sorted by time.
    pub fn new(samples: impl IntoIterator<Item = Sample>) -> Self {
        let mut samples: Vec<Sample> =
            samples.into_iter().filter(|s| s.value.is_finite()).collect();
        samples.sort_by_key(|s| s.at);
        Self(samples)
    }

    /// All samples, oldest first.
    pub fn samples(&self) -> &[Sample] {
        &self.0
    }

    /// The samples within `span`.
    pub fn within(&self, span: Span) -> &[Sample] {
        let from = self.0.partition_point(|s| s.at < span.from);
        let to = self.0.partition_point(|s| s.at < span.to);
        &self.0[from..to.max(from)]
    }

    /// The values within `span`.
    pub fn values(&self, span: Span) -> Vec<f64> {
        self.within(span).iter().map(|s| s.value).collect()
    }

    /// Mean over `span`: unknown when no sample lies in it.
    pub fn mean(&self, span: Span) -> Reading<f64> {
        Reading::from_option(khaos_stats::mean(&self.values(span)))
    }

    /// The last value at or before `now`: stale when older than `max_age_s`.
    pub fn latest(&self, now: Timestamp, max_age_s: f64) -> Reading<f64> {
        let seen = self.0.partition_point(|s| s.at <= now);
        match seen.checked_sub(1).map(|last| self.0[last]) {
            None => Reading::Unknown,
            Some(sample) if now.secs_since(sample.at) > max_age_s => Reading::Stale,
            Some(sample) => Reading::Known(sample.value),
        }
    }

    /// The sum of several sources, at the instants that all of them have: a source that is missing
    /// makes the sum missing, it does not make it smaller.
    pub fn sum(sources: &[&Self]) -> Self {
        let Some((first, rest)) = sources.split_first() else { return Self::default() };
        let value_at = |series: &Self, at: Timestamp| {
            series.0.binary_search_by_key(&at, |s| s.at).ok().map(|i| series.0[i].value)
        };
        Self::new(first.0.iter().filter_map(|sample| {
            let others = rest.iter().map(|series| value_at(series, sample.at)).sum::<Option<f64>>();
            others.map(|others| Sample { at: sample.at, value: sample.value + others })
        }))
    }
}

impl From<Vec<Sample>> for Series {
    fn from(samples: Vec<Sample>) -> Self {
        Self::new(samples)
    }
}

impl From<Series> for Vec<Sample> {
    fn from(series: Series) -> Self {
        series.0
    }
}

/// What the metrics of one job said over a window.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Readings {
    /// Per source that the job reads from.
    pub sources: Vec<SourceReadings>,
    /// Events processed, events/s.
    pub throughput: Series,
    /// End-to-end p99 latency, ms.
    pub latency_ms: Series,
}

/// What the metrics said of one source.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceReadings {
    /// The source's name within the job.
    pub name: String,
    /// Events arriving, whether processed or not, events/s; known also while the job is down.
    pub arrival: Series,
    /// Events arrived and not yet read: end of the log − the position that the source reports.
    pub lag: Series,
}

impl Readings {
    /// Arrival rate over all sources, events/s.
    pub fn arrival(&self) -> Series {
        Series::sum(&self.sources.iter().map(|s| &s.arrival).collect::<Vec<_>>())
    }

    /// Consumer lag over all sources, events.
    pub fn lag(&self) -> Series {
        Series::sum(&self.sources.iter().map(|s| &s.lag).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: &[(i64, f64)]) -> Series {
        Series::new(values.iter().map(|&(at, value)| Sample { at: Timestamp(at), value }))
    }

    #[test]
    fn nan_never_enters_a_series() {
        assert_eq!(series(&[(0, f64::NAN), (1, 2.0)]).samples().len(), 1);
    }

    #[test]
    fn a_missing_source_makes_the_sum_missing() {
        let a = series(&[(0, 1.0), (5, 2.0), (10, 3.0)]);
        let b = series(&[(0, 10.0), (10, 30.0)]);
        assert_eq!(Series::sum(&[&a, &b]), series(&[(0, 11.0), (10, 33.0)]));
        assert_eq!(Series::sum(&[]), Series::default());
    }

    #[test]
    fn old_values_are_stale_and_absent_ones_unknown() {
        let s = series(&[(1_000, 4.0)]);
        assert_eq!(s.latest(Timestamp(0), 5.0), Reading::Unknown);
        assert_eq!(s.latest(Timestamp(6_000), 5.0), Reading::Known(4.0));
        assert_eq!(s.latest(Timestamp(6_001), 5.0), Reading::Stale);
    }

    #[test]
    fn spans_are_half_open() {
        let s = series(&[(0, 1.0), (1_000, 3.0), (2_000, 100.0)]);
        let span = Span { from: Timestamp(0), to: Timestamp(2_000) };
        assert_eq!(s.mean(span), Reading::Known(2.0));
        assert_eq!(s.mean(Span { from: Timestamp(5), to: Timestamp(9) }), Reading::Unknown);
    }
}
