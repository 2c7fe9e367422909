//! Flink's REST API, and whose clock its times are of.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use khaos_control::clock::Clock;
use khaos_control::core::units::Timestamp;
use khaos_control::ports::PortError;
use reqwest::multipart::Form;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::messages::Errors;
use crate::http::{Http, Peer};

pub(super) const FLINK: Peer = Peer {
    name: "Flink",
    address: "the address of the JobManager's web interface, for example http://127.0.0.1:8081",
    reason: |body| serde_json::from_slice::<Errors>(body).ok()?.reason(),
};

/// One Flink cluster's REST API.
#[derive(Debug, Clone)]
pub(super) struct Rest {
    http: Http,
    clock: Clock,
    offset: Arc<Mutex<ClockOffset>>,
}

impl Rest {
    pub(super) fn at(url: &str, clock: Clock) -> Result<Self, PortError> {
        Ok(Self { http: Http::at(url, &FLINK)?, clock, offset: Arc::default() })
    }

    /// The address, for messages.
    pub(super) fn base(&self) -> &str {
        self.http.base()
    }

    pub(super) fn clock(&self) -> Clock {
        self.clock
    }

    /// `what` names what is asked for, should there be none.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        what: &str,
    ) -> Result<T, PortError> {
        self.http.ask(self.http.get(path), path, Some(what)).await
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
        what: &str,
    ) -> Result<T, PortError> {
        self.http.ask(self.http.post(path).json(body), path, Some(what)).await
    }

    /// As [`Self::post`], for what takes as long as `patience`.
    pub(super) async fn post_patiently<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
        patience: Duration,
        what: &str,
    ) -> Result<T, PortError> {
        self.http.ask(self.http.post(path).json(body).timeout(patience), path, Some(what)).await
    }

    /// Sends files.
    pub(super) async fn upload<T: DeserializeOwned>(
        &self,
        path: &str,
        form: Form,
        patience: Duration,
    ) -> Result<T, PortError> {
        self.http.ask(self.http.post(path).multipart(form).timeout(patience), path, None).await
    }

    /// Asks for a change of what is at `path`.
    pub(super) async fn patch(
        &self,
        path: &str,
        body: &Value,
        what: &str,
    ) -> Result<(), PortError> {
        let request = self.http.patch(path).json(body);
        self.http.ask::<Value>(request, path, Some(what)).await.map(drop)
    }

    /// Removes what is at `path`.
    pub(super) async fn delete(&self, path: &str, what: &str) -> Result<(), PortError> {
        self.http.ask::<Value>(self.http.delete(path), path, Some(what)).await.map(drop)
    }

    /// How a PATCH of `path` with an empty object is answered, whatever that is: its status.
    pub(super) async fn patch_status(&self, path: &str) -> Result<u16, PortError> {
        let request = self.http.patch(path).json(&json!({}));
        Ok(self.http.send(request, path).await?.status().as_u16())
    }

    /// Learns from an answer that says what time it is at the JobManager.
    pub(super) fn compare_clocks(&self, asked: Timestamp, theirs: i64, answered: Timestamp) {
        let mut offset = self.offset.lock().unwrap_or_else(PoisonError::into_inner);
        let (asked, answered) = (self.clock.to_wall(asked), self.clock.to_wall(answered));
        if offset.learn(asked, Timestamp(theirs), answered) {
            tracing::warn!(
                cluster = %self.base(),
                "the JobManager's clock is {:.1} s off ours: its times are corrected by that; \
                 keep both synchronised",
                offset.millis() as f64 / 1_000.0
            );
        }
    }

    /// How far the JobManager's clock is ahead of ours, ms, as far as it is known.
    pub(super) fn clock_offset_ms(&self) -> i64 {
        self.offset.lock().unwrap_or_else(PoisonError::into_inner).millis()
    }

    /// A time of the JobManager's clock, told by ours.
    pub(super) fn ours(&self, theirs: i64) -> Timestamp {
        let offset = self.offset.lock().unwrap_or_else(PoisonError::into_inner);
        self.clock.of_wall(Timestamp(theirs).plus_millis(-offset.millis()))
    }

    /// A length of time at the JobManager, ms, told by our clock.
    pub(super) fn ours_ms(&self, theirs: i64) -> i64 {
        theirs.saturating_mul(i64::from(self.clock.speed()))
    }

    /// A length of time of our clock, ms, as the JobManager is told it: not shorter, so that it is at
    /// least as long when it is read back.
    pub(super) fn theirs_ms(&self, ours: i64) -> i64 {
        let speed = i64::from(self.clock.speed());
        ours.saturating_add(speed - 1).div_euclid(speed)
    }
}

/// From this difference on somebody is told, ms.
const WORTH_SAYING_MS: i64 = 1_000;
/// Comparisons that one stands for: clocks drift, and are set.
const REMEMBERED: u32 = 64;

/// How far the JobManager's clock is ahead of ours. What it answers was true at some time between
/// question and answer: the quickest answer of the last few tells most.
#[derive(Debug, Default)]
struct ClockOffset {
    best: Option<Comparison>,
    since: u32,
    said: bool,
}

#[derive(Debug, Clone, Copy)]
struct Comparison {
    offset_ms: i64,
    uncertain_ms: i64,
}

impl ClockOffset {
    /// Takes a comparison in; whether the difference became worth saying.
    fn learn(&mut self, asked: Timestamp, theirs: Timestamp, answered: Timestamp) -> bool {
        let round_trip_ms = answered.0 - asked.0;
        let offset_ms = theirs.0 - (asked.0 + round_trip_ms / 2);
        // Both clocks are read in whole milliseconds.
        let seen = Comparison { offset_ms, uncertain_ms: round_trip_ms / 2 + 1 };
        self.since += 1;
        let better = |best: Comparison| {
            // Where both cannot be true, a clock was set, or the machine slept.
            let apart = (seen.offset_ms - best.offset_ms).abs();
            seen.uncertain_ms <= best.uncertain_ms || apart > seen.uncertain_ms + best.uncertain_ms
        };
        if self.since > REMEMBERED || self.best.is_none_or(better) {
            (self.best, self.since) = (Some(seen), 0);
        }
        let worth_saying = self.millis().abs() >= WORTH_SAYING_MS;
        let news = worth_saying && !self.said;
        self.said = worth_saying;
        news
    }

    /// The difference, ms; none as long as it can be explained by the time that answers take.
    fn millis(&self) -> i64 {
        let known = self.best.filter(|b| b.offset_ms.abs() > b.uncertain_ms);
        known.map_or(0, |b| b.offset_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_counts_only_where_answering_does_not_explain_it() {
        let mut offset = ClockOffset::default();
        // Asked at 1000, answered at 1040: anything from 1000 to 1040 is no difference.
        assert!(!offset.learn(Timestamp(1_000), Timestamp(1_038), Timestamp(1_040)));
        assert_eq!(offset.millis(), 0);
        // A quicker answer knows better: 5 s ahead, and that is said once.
        assert!(offset.learn(Timestamp(2_000), Timestamp(7_005), Timestamp(2_010)));
        assert_eq!(offset.millis(), 5_000);
        assert!(!offset.learn(Timestamp(3_000), Timestamp(8_005), Timestamp(3_010)));
        // A slow answer does not overrule it.
        assert!(!offset.learn(Timestamp(4_000), Timestamp(9_800), Timestamp(6_000)));
        assert_eq!(offset.millis(), 5_000);
    }

    #[test]
    fn clocks_that_are_set_are_believed_at_once_and_drift_after_a_while() {
        let mut offset = ClockOffset::default();
        offset.learn(Timestamp(0), Timestamp(5_000), Timestamp(0));
        // From 8990 to 9030: no difference that answering does not explain, and none of 5 s.
        offset.learn(Timestamp(9_000), Timestamp(9_010), Timestamp(9_020));
        assert_eq!(offset.millis(), 0);
        offset.learn(Timestamp(10_000), Timestamp(12_000), Timestamp(10_000));
        for _ in 0..=REMEMBERED {
            offset.learn(Timestamp(20_000), Timestamp(22_015), Timestamp(20_030));
        }
        assert_eq!(offset.best.unwrap().uncertain_ms, 16, "the quickest is too long ago");
    }

    #[test]
    fn an_address_that_cannot_be_one_is_refused() {
        let clock = || Clock::anchored(Timestamp(0));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _inside = runtime.enter();
        for url in ["localhost:8081", "", "https://flink", "/jobs"] {
            let refused = Rest::at(url, clock()).unwrap_err().to_string();
            assert!(refused.contains("http://127.0.0.1:8081"), "{refused}");
        }
        assert_eq!(
            Rest::at("http://localhost:8081/", clock()).unwrap().base(),
            "http://localhost:8081"
        );
    }
}
