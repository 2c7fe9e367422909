//! When the events of a replay are due: a pure function of their number, or of when they were recorded.
//!
//! Due times count from the start of the replay and never from the event before, so that no error adds
//! up: whatever was held up is late, and what follows it is due when it always was.

use thiserror::Error;

/// How fast a stretch is replayed.
#[derive(Debug, Clone, PartialEq)]
pub enum Pace {
    /// As recorded, `speed` times as fast: 1 as recorded, 10 ten times as fast.
    Recorded {
        /// More than 0.
        speed: f64,
    },
    /// Whenever it was recorded, at these rates.
    Scheduled(Schedule),
    /// As fast as Kafka takes it.
    Full,
}

impl Pace {
    /// When event `n`, counted from 0, is due, s after the start; `recorded_s` is how long after the start
    /// of the stretch it was recorded. `None`: as soon as there is room.
    pub fn due_s(&self, n: u64, recorded_s: f64) -> Option<f64> {
        match self {
            Self::Recorded { speed } => Some(recorded_s / speed),
            Self::Scheduled(schedule) => Some(schedule.due_s(n)),
            Self::Full => None,
        }
    }

    /// How many events it takes; `None`: as many as there are.
    pub fn events(&self) -> Option<u64> {
        match self {
            Self::Scheduled(schedule) => Some(schedule.events),
            Self::Recorded { .. } | Self::Full => None,
        }
    }
}

/// Rates that hold one after the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    steps: Vec<Step>,
    /// Due in all.
    events: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Step {
    /// s after the start.
    from_s: f64,
    /// Events/s.
    rate: f64,
    /// Events due before this step.
    before: f64,
}

/// These rows are no schedule.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ScheduleError {
    /// One rate alone says nothing of how long it holds.
    #[error("a schedule has two rows or more: the last rate holds as long as the one before it")]
    TooShort,
    /// Time does not go on, or a rate is none.
    #[error(
        "row {row}: second {second} with {rate} events/s: seconds go up, and rates are 0 or more"
    )]
    Row {
        /// From 1.
        row: usize,
        /// What stands there.
        second: f64,
        /// What stands there, events/s.
        rate: f64,
    },
    /// Nothing would be sent.
    #[error("no event is due in it: every rate is 0")]
    Nothing,
}

/// Sums of rates that are not whole are off by less than this, events.
const ROUNDING: f64 = 1e-6;

impl Schedule {
    /// Steps of (second, events/s): each rate holds up to the next second, the last one as long as the
    /// one before it. Seconds count from the first.
    pub fn new(rows: &[(f64, f64)]) -> Result<Self, ScheduleError> {
        let [(first_s, _), .., (last_s, last_rate)] = rows else {
            return Err(ScheduleError::TooShort);
        };
        let mut steps: Vec<Step> = Vec::with_capacity(rows.len());
        for (&(second, rate), row) in rows.iter().zip(1..) {
            let from_s = second - first_s;
            let last = steps.last();
            let forward = last.is_none_or(|last| from_s > last.from_s);
            if !(from_s.is_finite() && forward && rate.is_finite() && rate >= 0.0) {
                return Err(ScheduleError::Row { row, second, rate });
            }
            let before = last.map_or(0.0, |last| last.before + last.rate * (from_s - last.from_s));
            steps.push(Step { from_s, rate, before });
        }
        let held_s = last_s - rows[rows.len() - 2].0;
        let all = steps[steps.len() - 1].before + last_rate * held_s;
        match (all - ROUNDING).ceil().max(0.0) as u64 {
            0 => Err(ScheduleError::Nothing),
            events => Ok(Self { steps, events }),
        }
    }

    /// When event `n`, counted from 0, is due: as soon as `n` others have been.
    fn due_s(&self, n: u64) -> f64 {
        let n = n as f64;
        // The last step that begins before it, and so none in which nothing is due, unless all are over.
        let next = self.steps.partition_point(|step| step.before <= n + ROUNDING);
        let step = self.steps[next.max(1) - 1];
        let since_s = (n - step.before).max(0.0) / step.rate;
        step.from_s + if since_s.is_finite() { since_s } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(seen: f64, expected: f64) {
        assert!((seen - expected).abs() < 1e-9, "{seen} is not {expected}");
    }

    #[test]
    fn events_are_due_at_their_number_over_the_rate() {
        // 10/s for 2 s, nothing for 3 s, 4/s for 3 s: 20 + 0 + 12 events.
        let steps = Schedule::new(&[(100.0, 10.0), (102.0, 0.0), (105.0, 4.0)]).unwrap();
        assert_eq!(steps.events, 32);
        for (n, due_s) in [
            (0, 0.0),
            (1, 0.1),
            (19, 1.9),
            // Nothing is due in the pause: the next one begins the third step.
            (20, 5.0),
            (21, 5.25),
            (31, 7.75),
        ] {
            close(steps.due_s(n), due_s);
        }
    }

    #[test]
    fn a_second_holds_exactly_its_rate() {
        let rates = [5, 20_000, 7, 19_999, 0, 3, 0];
        let rows: Vec<(f64, f64)> =
            (0..).zip(rates).map(|(s, r)| (f64::from(s), f64::from(r))).collect();
        let schedule = Schedule::new(&rows).unwrap();
        let mut counts = [0; 7];
        for n in 0..schedule.events {
            counts[schedule.due_s(n) as usize] += 1;
        }
        assert_eq!(counts, rates);
    }

    #[test]
    fn sums_of_broken_rates_make_no_events() {
        // 0.1 · 10 + 0.7 · 10 = 8, in floating point a hair off.
        let schedule = Schedule::new(&[(0.0, 0.1), (10.0, 0.7)]).unwrap();
        assert_eq!(schedule.events, 8);
        close(schedule.due_s(1), 10.0);
        close(schedule.due_s(7), 10.0 + 6.0 / 0.7);
        // 2.5 events: the third is due within the schedule.
        let schedule = Schedule::new(&[(0.0, 0.25), (5.0, 0.25)]).unwrap();
        assert_eq!(schedule.events, 3);
        close(schedule.due_s(2), 8.0);
    }

    #[test]
    fn a_day_of_steps_does_not_drift() {
        let minutes: Vec<(f64, f64)> =
            (0..1_440).map(|m| (60.0 * f64::from(m), 20_000.0)).collect();
        let schedule = Schedule::new(&minutes).unwrap();
        assert_eq!(schedule.events, 20_000 * 86_400);
        close(schedule.due_s(20_000 * 86_399), 86_399.0);
        close(schedule.due_s(20_000 * 86_399 + 1), 86_399.000_05);
    }

    #[test]
    fn the_recorded_pace_counts_from_the_start_of_the_stretch() {
        assert_eq!(Pace::Recorded { speed: 1.0 }.due_s(7, 12.5), Some(12.5));
        assert_eq!(Pace::Recorded { speed: 10.0 }.due_s(7, 12.5), Some(1.25));
        assert_eq!(Pace::Recorded { speed: 0.5 }.due_s(7, 12.5), Some(25.0));
        assert_eq!(Pace::Full.due_s(7, 12.5), None);
    }

    #[test]
    fn what_is_no_schedule_says_why() {
        let refused = |rows: &[(f64, f64)]| Schedule::new(rows).unwrap_err().to_string();
        assert!(refused(&[]).contains("two rows"));
        assert!(refused(&[(0.0, 5.0)]).contains("two rows"));
        for (second, rate) in [
            (60.0, 1.0),
            (0.0, 1.0),
            (f64::NAN, 1.0),
            (f64::INFINITY, 1.0),
            (61.0, -1.0),
            (61.0, f64::NAN),
        ] {
            let said = refused(&[(60.0, 1.0), (second, rate)]);
            assert!(said.starts_with(&format!("row 2: second {second} with {rate}")), "{said}");
        }
        assert_eq!(Schedule::new(&[(0.0, 0.0), (1.0, 0.0)]), Err(ScheduleError::Nothing));
    }
}
