//! What a source counted: the one place where counters become rates.

/// A source's counters at one time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Counters {
    /// When, ms, by a clock that the values to compare with share: the time that the source has
    /// been running, or that of a scrape.
    pub(crate) at_ms: f64,
    /// Events read since it began.
    pub(crate) read: f64,
    /// Events that wait for it.
    pub(crate) pending: f64,
}

impl Counters {
    /// Arrival rate and throughput since `earlier`, events/s; `None` when nothing new was told, or
    /// the source began anew in between.
    ///
    /// Both of what arrived and what was read come from the same two instants. Whoever adds one
    /// metric's rate to another's change sees a restart, which puts one back to zero and raises the
    /// other, as an event storm.
    pub(crate) fn since(&self, earlier: &Self) -> Option<(f64, f64)> {
        let seconds = (self.at_ms - earlier.at_ms) / 1_000.0;
        let read = self.read - earlier.read;
        let arrived = read + self.pending - earlier.pending;
        // A tenth of a second divides the noise of two clocks by too little to be a rate.
        (seconds > 0.1 && read >= 0.0 && arrived >= 0.0)
            .then(|| (arrived / seconds, read / seconds))
    }

    /// The counters at `at_ms`, where `self` is before and `later` after.
    pub(crate) fn towards(&self, later: &Self, at_ms: f64) -> Self {
        let share = (at_ms - self.at_ms) / (later.at_ms - self.at_ms);
        let between = |from: f64, to: f64| from + share * (to - from);
        Self {
            at_ms,
            read: between(self.read, later.read),
            pending: between(self.pending, later.pending),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(at_ms: f64, read: f64, pending: f64) -> Counters {
        Counters { at_ms, read, pending }
    }

    #[test]
    fn what_arrives_is_what_was_read_and_what_waits() {
        // In 2 s 3,000 were read and 1,000 more wait: 2,000/s arrive, 1,500/s are processed.
        let rates = at(7_000.0, 13_000.0, 1_500.0).since(&at(5_000.0, 10_000.0, 500.0));
        assert_eq!(rates, Some((2_000.0, 1_500.0)));
    }

    #[test]
    fn values_that_did_not_move_on_say_nothing() {
        let seen = at(5_000.0, 10_000.0, 500.0);
        assert_eq!(seen.since(&seen), None);
    }

    #[test]
    fn a_source_that_began_anew_is_not_compared_with_its_earlier_life() {
        assert_eq!(at(900.0, 50.0, 9_000.0).since(&at(60_000.0, 10_000.0, 5.0)), None);
    }

    #[test]
    fn between_two_instants_counters_rise_steadily() {
        let (from, to) = (at(1_000.0, 100.0, 8.0), at(5_000.0, 500.0, 0.0));
        assert_eq!(from.towards(&to, 2_000.0), at(2_000.0, 200.0, 6.0));
    }
}
