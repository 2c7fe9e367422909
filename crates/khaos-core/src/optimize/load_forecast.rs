//! What load to be ready for: a forecast with a calibrated upper bound.
//!
//! minutes → forecasts that compete and are blended by how well each did lately (`experts`), some of
//! them on what is usual at that time (`season`) → the maximum over the horizon → its bound: a
//! quantile of how far above the forecast it came in the past, in units of how wrong forecasts
//! usually are just then. The bound is calibrated on the job's own past, whatever its noise. After a
//! gap the same is asked of the past: what did the maximum come to when that many minutes were not
//! known? Source: DESIGN, forecast; weights as in Bates & Granger, *The combination of forecasts*,
//! Operational Research Quarterly 20 (1969).

mod experts;
mod season;

use khaos_stats::{Score, adaptive_bound, median};
use serde::{Deserialize, Serialize};

use self::experts::{Ahead, Made, forecasts};
use crate::observe::Minute;
use crate::units::{EventRate, Timestamp};

/// Probability that the maximum over the horizon stays below the bound.
const BOUND: f64 = 0.9;
/// Past forecasts whose errors calibrate the bound,
const ERRORS: usize = 180;
/// and as many more per minute of the horizon, because errors that overlap say the same,
const ERRORS_PER_MINUTE: usize = 6;
/// up to a day of them.
const ERRORS_AT_MOST: usize = 1_440;
/// Errors below which they cannot be trusted to show the tail.
const FEW: usize = 20;
/// How fast the bound's level follows what was missed, at most;
const GAIN: f64 = 0.015;
/// and within a horizon by no more than this: it learns of a miss only at its end.
const GAIN_PER_HORIZON: f64 = 0.15;
/// How wrong a forecast may be beyond the usual error, as a share of itself.
const SHARE: f64 = 0.2;
/// Its usual error before there was one, as a share of itself.
const UNTRIED: f64 = 0.1;
/// What counts as nothing beside the highest load, so that a first load after none is finitely wrong.
const HARDLY: f64 = 1e-6;
/// A bound is at most that much further above the forecast than the maximum ever came.
const BEYOND_SEEN: f64 = 1.5;
/// How wide the bound is without errors, for the two minutes that a driven interval has to suit; over
/// longer horizons it grows like a random walk. Also how far a forecast may go beyond what was seen:
/// after a step up a trend shoots over, and errors, being relative, say that anything may follow.
const WIDE: f64 = 0.25;
/// Minutes without an arrival rate after which there is no forecast.
const BLIND: usize = 3;

/// The load expected over the minutes to come.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LoadForecast {
    /// Expected maximum of the minute means over the horizon: it comes out higher as often as lower.
    pub expected: EventRate,
    /// Upper 90 % bound of that maximum.
    pub upper: EventRate,
    /// Whether the bound rests on the job's own forecast errors already.
    pub calibrated: bool,
    /// Expected mean of the horizon's last minute.
    pub at_horizon: EventRate,
}

/// Forecasts the maximum over the next `horizon` minutes, one or more, from `minutes`, oldest first;
/// missing minutes are gaps. Up to two weeks of them help; a day's season shows from the second day
/// on. `None` when the arrival rate has not been known for three minutes before `now`.
pub fn forecast_load(minutes: &[&Minute], now: Timestamp, horizon: u32) -> Option<LoadForecast> {
    let seen = Seen::of(minutes, now, horizon)?;
    let (made, _) = seen.forecasts();
    let (now, past) = made.split_last()?;
    let errors = seen.errors(past);
    let calibrated = errors.len() >= FEW;
    let (likely, above) =
        if calibrated { seen.calibrated(now, &errors)? } else { seen.cautious(now, &errors) };
    let cap = seen.ahead.wide * seen.highest;
    let expected = likely.min(cap).max(now.at_horizon);
    // What arrives now may go on.
    let upper = (now.peak + above).min(cap).max(expected).max(seen.last);
    Some(LoadForecast {
        expected: EventRate::new(expected).ok()?,
        upper: EventRate::new(upper).ok()?,
        calibrated,
        at_horizon: EventRate::new(now.at_horizon).ok()?,
    })
}

/// The expected mean rate of each of the next `horizon` minutes, as in [`forecast_load`].
pub fn forecast_path(minutes: &[&Minute], now: Timestamp, horizon: u32) -> Option<Vec<EventRate>> {
    let seen = Seen::of(minutes, now, horizon)?;
    let (_, path) = seen.forecasts();
    path[seen.ahead.gap..].iter().map(|load| EventRate::new(*load).ok()).collect()
}

/// The loads that are known, and what is asked of them.
#[derive(Debug)]
struct Seen {
    /// By minute, from the first known one to the last known one.
    loads: Vec<Option<f64>>,
    /// The last of them.
    last: f64,
    /// The highest of them.
    highest: f64,
    ahead: Ahead,
}

/// How a past forecast came out.
#[derive(Debug, Clone, Copy)]
struct Error {
    score: Score,
    /// How far the maximum came above it, events/s.
    above: f64,
}

impl Seen {
    fn of(minutes: &[&Minute], now: Timestamp, horizon: u32) -> Option<Self> {
        let known: Vec<(i64, f64)> = minutes
            .iter()
            .filter_map(|m| m.arrival.known().map(|rate| (m.start.0 / 60_000, rate.get())))
            .collect();
        let ((from, _), (to, last)) = (*known.first()?, *known.last()?);
        let gap = usize::try_from(now.minute().0 / 60_000 - to - 1).unwrap_or(0);
        if gap >= BLIND {
            return None;
        }
        let mut loads = vec![None; usize::try_from(to - from).ok()? + 1];
        let mut highest = 0.0;
        for (minute, load) in known {
            loads[usize::try_from(minute - from).ok()?] = Some(load);
            highest = f64::max(highest, load);
        }
        let minutes = gap + horizon.max(1) as usize;
        let wide = 1.0 + WIDE * (minutes as f64 / 2.0).sqrt();
        Some(Self { loads, last, highest, ahead: Ahead { gap, minutes, wide } })
    }

    /// What was forecast at each of the minutes that calibrate the bound, and is now.
    fn forecasts(&self) -> (Vec<Made>, Vec<f64>) {
        let judged = (ERRORS + ERRORS_PER_MINUTE * self.ahead.minutes).min(ERRORS_AT_MOST);
        forecasts(&self.loads, self.ahead, judged + self.ahead.minutes + 1)
    }

    /// How wrong a forecast may be, events/s: what errors are compared in.
    fn scale(&self, made: &Made) -> f64 {
        let usual = made.usual_error.unwrap_or(UNTRIED * made.peak);
        let least = (HARDLY * self.highest).max(f64::MIN_POSITIVE);
        (SHARE * made.peak + usual).max(least)
    }

    /// How the forecasts of the `past` came out, those whose maximum is known, oldest first. `past`
    /// ends with the minute before the last.
    fn errors(&self, past: &[Made]) -> Vec<Error> {
        let first = self.loads.len() - 1 - past.len();
        let outcomes = past.iter().zip(first..).filter_map(|(made, origin)| {
            let last = self.loads[origin]?;
            let above = self.highest_after(origin)? - made.peak;
            let scale = self.scale(made);
            let score = Score { came: above / scale, floor: (last - made.peak) / scale };
            Some(Error { score, above })
        });
        outcomes.collect()
    }

    /// The highest load over the horizon after `origin` and the gap. Where some of its minutes are
    /// not known, as many later ones are looked at instead, up to another horizon: rather too high
    /// than too low. `None` while there are not enough.
    fn highest_after(&self, origin: usize) -> Option<f64> {
        let horizon = self.ahead.minutes - self.ahead.gap;
        let from = origin + self.ahead.gap + 1;
        let to = (from + 2 * horizon).min(self.loads.len());
        let known = self.loads.get(from..to)?.iter().flatten().take(horizon);
        let (count, highest) =
            known.fold((0, 0.0), |(count, high), load| (count + 1, f64::max(high, *load)));
        (count == horizon).then_some(highest)
    }

    /// The maximum that is as likely to be exceeded as not, and how far above the peak of the forecast
    /// its bound is, events/s.
    fn calibrated(&self, now: &Made, errors: &[Error]) -> Option<(f64, f64)> {
        let scale = self.scale(now);
        let scores: Vec<Score> = errors.iter().map(|error| error.score).collect();
        let came: Vec<f64> = scores.iter().map(|score| score.came).collect();
        let gain = GAIN.min(GAIN_PER_HORIZON / self.ahead.minutes as f64);
        let above = scale * adaptive_bound(&scores, self.ahead.minutes, BOUND, gain)?;
        let most = errors.iter().map(|error| error.above).fold(0.0, f64::max);
        Some((now.peak + scale * median(&came)?, above.min(BEYOND_SEEN * most)))
    }

    /// The same while there are few errors: the forecast as it is, with a wide bound.
    fn cautious(&self, now: &Made, errors: &[Error]) -> (f64, f64) {
        let most = errors.iter().map(|error| error.score.came).fold(0.0, f64::max);
        (now.peak, (self.scale(now) * most).max((self.ahead.wide - 1.0) * now.peak))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::JobStatus;
    use crate::series::Reading;

    fn minutes(rates: impl IntoIterator<Item = Option<f64>>) -> Vec<Minute> {
        let minute = |(i, rate): (usize, Option<f64>)| Minute {
            arrival: Reading::from_option(rate.map(|r| EventRate::new(r).unwrap())),
            status: JobStatus::Running,
            ..Minute::blind(Timestamp(i as i64 * 60_000))
        };
        rates.into_iter().enumerate().map(minute).collect()
    }

    fn at(minutes: &[Minute], n: usize) -> Option<LoadForecast> {
        let seen: Vec<&Minute> = minutes[..n].iter().collect();
        forecast_load(&seen, Timestamp(n as i64 * 60_000 + 10_000), 2)
    }

    /// From 0 to 1, and no function of anything.
    fn noise(i: usize) -> f64 {
        let wave = (i as f64 * 12.9898).sin() * 43_758.547;
        wave - wave.floor()
    }

    /// A walk whose steps are a few percent.
    fn walk(minutes: usize) -> Vec<f64> {
        let step = |level: &mut f64, i| {
            *level *= 0.08_f64.mul_add(noise(i) - 0.5, 1.0);
            Some(*level)
        };
        (0..minutes).scan(10_000.0, step).collect()
    }

    /// Share of the origins from minute 70 on whose maximum over `horizon` minutes kept below the
    /// bound, when only `seen` was known.
    fn coverage(truth: &[f64], seen: &[Minute], horizon: usize) -> f64 {
        let known: Vec<&Minute> = seen.iter().collect();
        let now = |n: usize| Timestamp(n as i64 * 60_000 + 10_000);
        let origins = (70..=truth.len() - horizon).filter_map(|n| {
            let forecast = forecast_load(&known[..n], now(n), horizon as u32)?;
            Some(truth[n..n + horizon].iter().all(|load| *load <= forecast.upper.get()))
        });
        let held: Vec<bool> = origins.collect();
        held.iter().filter(|held| **held).count() as f64 / held.len() as f64
    }

    #[test]
    fn the_first_forecast_is_the_last_value_with_a_wide_bound() {
        let forecast = at(&minutes([Some(100.0)]), 1).unwrap();
        assert!((forecast.expected.get() - 100.0).abs() < 1e-9);
        assert!((forecast.upper.get() - 125.0).abs() < 1e-9);
        assert!(!forecast.calibrated);
    }

    #[test]
    fn nothing_known_no_forecast() {
        assert_eq!(at(&minutes([None, None]), 2), None);
        let gone = minutes([Some(1.0), None, None, None]);
        assert!(at(&gone, 3).is_some());
        let seen: Vec<&Minute> = gone.iter().collect();
        assert_eq!(forecast_load(&seen, Timestamp(5 * 60_000), 2), None);
    }

    #[test]
    fn the_bound_covers_nine_in_ten() {
        // A day with a rise, a fall and noise that is no function of either.
        let day = (0..1_440).map(|i| {
            let t = f64::from(i) / 1_440.0 * std::f64::consts::TAU;
            let noise = (f64::from(i) * 12.9898).sin() * 43_758.547;
            Some(10_000.0 * (1.2 - t.cos()) * (1.0 + 0.08 * (noise - noise.floor() - 0.5)))
        });
        let minutes = minutes(day);
        let origins = 70..1_438;
        let covered = origins
            .clone()
            .filter(|&n| {
                let upper = at(&minutes, n).unwrap().upper.get();
                minutes[n..n + 2].iter().all(|m| m.arrival.known().unwrap().get() <= upper)
            })
            .count() as f64;
        let share = covered / origins.len() as f64;
        assert!((0.87..0.94).contains(&share), "{share}");
    }

    #[test]
    fn a_step_up_from_nothing_is_no_reason_to_expect_anything() {
        let minutes = minutes((0..60).map(|i| Some(if i < 30 { 0.0 } else { 20_000.0 })));
        for n in 31..60 {
            let upper = at(&minutes, n).unwrap().upper.get();
            assert!((19_900.0..=25_000.0).contains(&upper), "{n}: {upper}");
        }
    }

    #[test]
    fn a_gap_is_walked_over() {
        let rising =
            (0..60).map(|i| (!(30..32).contains(&i)).then(|| 1_000.0 + 10.0 * f64::from(i)));
        let minutes = minutes(rising);
        let forecast = at(&minutes, 32).unwrap();
        assert!((forecast.expected.get() - 1_330.0).abs() < 30.0, "{forecast:?}");
    }

    #[test]
    fn a_gap_widens_the_bound() {
        let loads = walk(600);
        let widths = |unknown: usize| -> f64 {
            let origins = (300..600).step_by(10).map(|n| {
                let known = |i| if i < n - unknown { Some(loads[i]) } else { None };
                let forecast = at(&minutes((0..n).map(known)), n).unwrap();
                forecast.upper.get() / forecast.expected.get()
            });
            origins.sum()
        };
        let (none, two) = (widths(0), widths(2));
        assert!(two > 1.005 * none, "{none} {two}");
    }

    #[test]
    fn missing_minutes_do_not_lower_the_bound() {
        let loads = walk(1_000);
        let known = |i: usize| (noise(i + 7_000) > 0.3).then_some(loads[i]);
        let share = coverage(&loads, &minutes((0..1_000).map(known)), 10);
        assert!((0.88..0.99).contains(&share), "{share}");
    }

    #[test]
    fn the_bound_holds_for_few_events_too() {
        // Some events a minute, as they come: the more the rarer.
        let loads: Vec<f64> =
            (0..1_000).map(|i| (-4.0 * (1.0 - noise(i)).ln()).floor() / 60.0).collect();
        let share = coverage(&loads, &minutes(loads.iter().copied().map(Some)), 10);
        assert!((0.86..0.96).contains(&share), "{share}");
    }

    #[test]
    fn a_night_without_load_is_followed_by_a_day() {
        // Two days of which the first third is silent.
        let day = |i: usize| if i % 1_440 < 480 { 0.0 } else { 5_000.0 * (0.9 + 0.2 * noise(i)) };
        let minutes = minutes((0..2_880).map(|i| Some(day(i))));
        let night = at(&minutes, 1_440 + 400).unwrap();
        assert!(night.expected.get() < 1.0 && night.upper.get() < 7_000.0, "{night:?}");
        // The second morning is expected a minute before it begins.
        let known: Vec<&Minute> = minutes[..1_440 + 479].iter().collect();
        let path = forecast_path(&known, Timestamp(1_919 * 60_000), 3).unwrap();
        assert!(path[0].get() < 500.0 && path[2].get() > 100.0, "{path:?}");
        let share = coverage(&(0..2_880).map(day).collect::<Vec<_>>(), &minutes, 2);
        assert!((0.87..0.97).contains(&share), "{share}");
    }

    #[test]
    fn a_step_down_is_followed_within_minutes() {
        let load = |i: usize| if i < 200 { 20_000.0 } else { 4_000.0 } * (0.98 + 0.04 * noise(i));
        let minutes = minutes((0..260).map(|i| Some(load(i))));
        for n in 205..260 {
            let forecast = at(&minutes, n).unwrap();
            assert!(forecast.expected.get() < 5_000.0, "{n}: {forecast:?}");
            assert!(forecast.upper.get() < 6_500.0, "{n}: {forecast:?}");
        }
    }

    #[test]
    fn the_path_leads_to_the_horizon() {
        let loads = minutes(walk(300).into_iter().map(Some));
        let known: Vec<&Minute> = loads.iter().collect();
        let now = Timestamp(301 * 60_000);
        let path = forecast_path(&known, now, 12).unwrap();
        let forecast = forecast_load(&known, now, 12).unwrap();
        assert_eq!(path.len(), 12);
        assert_eq!(path.last(), Some(&forecast.at_horizon));
        assert!(forecast.upper >= forecast.expected && forecast.expected >= forecast.at_horizon);
        // Few errors: the longer the horizon, the wider the bound.
        let width = |horizon| {
            let forecast = forecast_load(&known[..5], Timestamp(5 * 60_000), horizon).unwrap();
            forecast.upper.get() / forecast.expected.get()
        };
        assert!(width(2) < width(10) && width(10) < width(60));
    }
}
