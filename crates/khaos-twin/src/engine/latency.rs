//! End-to-end p99 latency of one deployment, ms, as it is; the readings smooth it.

use std::sync::Arc;

use khaos_control::core::stats::{Ar1, Seed};
use khaos_control::core::units::Timestamp;

use crate::world::World;

#[derive(Debug)]
pub(crate) struct Latency {
    world: Arc<World>,
    began_at: Timestamp,
    /// Log-normal noise by the minute.
    path: Option<Ar1>,
    minute: i64,
    z: f64,
    /// Since when it has not caught up.
    failed_at: Option<Timestamp>,
    raised_until: Option<Timestamp>,
}

impl Latency {
    pub(crate) fn new(world: &Arc<World>, seed: Seed, noise: bool, now: Timestamp) -> Self {
        let path = || Ar1::new(world.latency_rho_per_minute, seed.stream("latency"));
        Self {
            world: Arc::clone(world),
            began_at: now,
            path: noise.then(path),
            minute: -1,
            z: 0.0,
            failed_at: None,
            raised_until: None,
        }
    }

    pub(crate) fn becomes(&mut self, world: &Arc<World>) {
        self.world = Arc::clone(world);
    }

    pub(crate) fn failed(&mut self, now: Timestamp) {
        self.failed_at = Some(now);
    }

    /// The queue is gone. How long the latency stays up beyond that, the world says by the length of
    /// the recovery as a reader of the lag sees it.
    pub(crate) fn caught_up(&mut self, now: Timestamp) {
        let Some(failed_at) = self.failed_at.take() else { return };
        if let Some(catch_up) = &self.world.latency.catch_up {
            let recovery_s = now.secs_since(failed_at) + self.world.settle_s;
            let length_s = catch_up.base_s + catch_up.per_recovery_s * recovery_s;
            self.raised_until = Some(failed_at.plus_secs(length_s));
        }
    }

    pub(crate) fn now_ms(&mut self, now: Timestamp, load: f64, lag: f64, interval_s: f64) -> f64 {
        let usual = self.usual_ms(now, load, interval_s);
        let recovering = self.failed_at.is_some() || self.raised_until.is_some_and(|at| at > now);
        if !recovering {
            return usual;
        }
        match &self.world.latency.catch_up {
            Some(catch_up) => catch_up.level_ms.max(usual),
            // An event waits for those before it.
            None => usual + 1_000.0 * lag / self.world.capacity_eps,
        }
    }

    fn usual_ms(&mut self, now: Timestamp, load: f64, interval_s: f64) -> f64 {
        let minute = (now.0 - self.began_at.0).div_euclid(60_000);
        while self.minute < minute {
            self.minute += 1;
            self.z = self.path.as_mut().and_then(Iterator::next).unwrap_or(0.0);
        }
        let latency = &self.world.latency;
        let x = load / latency.load_max_eps;
        let log =
            latency.a + latency.b * x + latency.c * (interval_s / 60.0).ln() + latency.d * x * x;
        // Without noise the mean of the noise remains.
        let noise = match self.path {
            Some(_) => latency.sigma * self.z,
            None => latency.sigma * latency.sigma / 2.0,
        };
        (log + noise).exp()
    }
}
