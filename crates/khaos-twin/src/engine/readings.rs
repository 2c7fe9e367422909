//! What a metrics system reads of one deployment: scraped every few seconds, late, smoothed by
//! windows, with gaps.
//!
//! The arrival rate comes from the log's end offsets and is fresh. Lag, throughput and latency pass
//! through the engine's own windows and the pipeline behind them: the lag is a maximum over a
//! window, and everything is late. Windows and pipeline together delay the end of a recovery by
//! the world's `settle_s`.

use std::collections::VecDeque;

use khaos_control::core::series::{Readings, Sample, Series, SourceReadings};
use khaos_control::core::stats::Seed;
use khaos_control::core::units::{Span, Timestamp};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::world::World;

/// Share of the reading's delay that is the lag's window maximum (45 s of 62.5 s in the paper's
/// cluster); the rest is the pipeline.
const WINDOW_SHARE: f64 = 0.72;
/// Window of the latency's mean, s.
const LATENCY_WINDOW_S: f64 = 30.0;

/// The state at an instant.
#[derive(Debug, Clone, Copy)]
struct Instant {
    at: Timestamp,
    lag: f64,
    processed: f64,
    latency_ms: f64,
}

#[derive(Debug)]
pub(crate) struct Readout {
    scrape_ms: i64,
    window_ms: i64,
    pipeline_ms: i64,
    missed: f64,
    outages: Vec<Span>,
    gaps: ChaCha8Rng,
    /// States not yet beyond every window.
    recent: VecDeque<Instant>,
    next_scrape: Timestamp,
    /// At the last scrape that succeeded: when, end of the log, and processed as seen then.
    before: (Timestamp, f64, Option<f64>),
    arrival: Vec<Sample>,
    lag: Vec<Sample>,
    throughput: Vec<Sample>,
    latency_ms: Vec<Sample>,
}

impl Readout {
    pub(crate) fn new(
        world: &World,
        seed: Seed,
        noise: bool,
        outages: Vec<Span>,
        now: Timestamp,
    ) -> Self {
        // A reader sees the end of a recovery half a scrape late on average.
        let scrape_s = world.metrics.scrape_s.min(world.settle_s.max(1.0));
        let delay_s = (world.settle_s - scrape_s / 2.0).max(0.0);
        let millis = |seconds: f64| (seconds * 1_000.0).round() as i64;
        Self {
            scrape_ms: millis(scrape_s).max(1),
            window_ms: millis(WINDOW_SHARE * delay_s),
            pipeline_ms: millis((1.0 - WINDOW_SHARE) * delay_s),
            missed: if noise { world.metrics.missed } else { 0.0 },
            outages,
            gaps: seed.stream("scrapes"),
            recent: VecDeque::new(),
            next_scrape: now.plus_millis(millis(scrape_s).max(1)),
            before: (now, 0.0, None),
            arrival: Vec::new(),
            lag: Vec::new(),
            throughput: Vec::new(),
            latency_ms: Vec::new(),
        }
    }

    pub(crate) fn next_scrape(&self) -> Timestamp {
        self.next_scrape
    }

    pub(crate) fn observe(&mut self, at: Timestamp, lag: f64, processed: f64, latency_ms: f64) {
        self.recent.push_back(Instant { at, lag, processed, latency_ms });
    }

    pub(crate) fn scrape(&mut self, now: Timestamp, log_end: f64) {
        self.next_scrape = now.plus_millis(self.scrape_ms);
        let seen_at = now.plus_millis(-self.pipeline_ms);
        let longest = self.window_ms.max((LATENCY_WINDOW_S * 1_000.0) as i64);
        let forget = seen_at.plus_millis(-longest);
        while self.recent.front().is_some_and(|i| i.at < forget) {
            self.recent.pop_front();
        }
        // One number is drawn at every scrape, whether it counts or not.
        let missed = self.gaps.random::<f64>() < self.missed;
        if missed || self.outages.iter().any(|outage| outage.contains(now)) {
            return;
        }
        let seconds = now.secs_since(self.before.0);
        let sample = |value: f64| Sample { at: now, value };
        self.arrival.push(sample((log_end - self.before.1) / seconds));

        let seen = self.recent.partition_point(|i| i.at <= seen_at);
        let within = |window_ms: i64| {
            let from = self.recent.partition_point(|i| i.at < seen_at.plus_millis(-window_ms));
            self.recent.range(from.min(seen)..seen)
        };
        let processed = seen.checked_sub(1).map(|last| self.recent[last].processed);
        if let Some(value) = within(self.window_ms).map(|i| i.lag).reduce(f64::max) {
            self.lag.push(sample(value));
        }
        if let Some((now, then)) = processed.zip(self.before.2) {
            self.throughput.push(sample((now - then) / seconds));
        }
        let latencies = within((LATENCY_WINDOW_S * 1_000.0) as i64);
        let count = latencies.len();
        if count > 0 {
            let total: f64 = latencies.map(|i| i.latency_ms).sum();
            self.latency_ms.push(sample(total / count as f64));
        }
        self.before = (now, log_end, processed);
    }

    /// The samples within `span`.
    pub(crate) fn within(&self, span: Span) -> Readings {
        let cut = |samples: &[Sample]| {
            let from = samples.partition_point(|s| s.at < span.from);
            let to = samples.partition_point(|s| s.at < span.to).max(from);
            Series::new(samples[from..to].iter().copied())
        };
        let source = SourceReadings {
            name: "events".into(),
            arrival: cut(&self.arrival),
            lag: cut(&self.lag),
        };
        Readings {
            sources: vec![source],
            throughput: cut(&self.throughput),
            latency_ms: cut(&self.latency_ms),
        }
    }
}
