//! What passes at worst from one commit of a sink to the next: for so long one transaction of it is open.

use khaos_control::core::units::CheckpointInterval;

use super::facts::{Asked, Checkpointing};
use super::settings::{Settings, Strategy};
use super::{driving, restarts};

/// What `execution.checkpointing.timeout` is where nobody set it, ms.
const CHECKPOINT_TIMEOUT_MS: i64 = 600_000;
/// What `heartbeat.timeout` is where nobody set it, ms.
const HEARTBEAT_TIMEOUT_MS: i64 = 50_000;
/// The longest delay of the restarts that Flink 2 has by default, ms; those of 1.x wait for less.
const RESTART_DELAY_MS: i64 = 60_000;

/// One of the things that are waited for, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    what: &'static str,
    ms: i64,
    /// Whether Flink told; it is at Flink's default otherwise.
    told: bool,
}

/// What is waited for until a commit, if checkpoint and job fail at the worst moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UntilCommit {
    parts: Vec<Part>,
    /// Whether Flink starts the job again by itself.
    pub(crate) restarts: bool,
}

impl UntilCommit {
    /// Where an interval of `redeployed` may be given to the job, too. `None` where there is no interval at all.
    pub(super) fn of(
        config: &Checkpointing,
        restart_strategy: &Asked<String>,
        cluster: &Asked<Settings>,
        redeployed: Option<CheckpointInterval>,
    ) -> Option<Self> {
        let own = driving::interval_s(config).map(|_| config.interval);
        let interval = match (own, redeployed.map(CheckpointInterval::millis)) {
            (Some(own), Some(max)) if max <= own => told("interval", own),
            (_, Some(max)) => told("interval (max, by a redeploy)", max),
            (own, None) => told("interval", own?),
        };
        let timeout = told_or("checkpoint timeout", config.timeout, CHECKPOINT_TIMEOUT_MS);
        let noticed = restarts::heartbeats(cluster).map(|(_, timeout_s)| millis(timeout_s));
        let noticed = told_or("heartbeat timeout", noticed, HEARTBEAT_TIMEOUT_MS);
        let strategy = restarts::strategy(restart_strategy, cluster).ok();
        let delay = strategy.as_ref().map(|strategy| millis(strategy.longest_delay_s()));
        let delay = told_or("restart delay", delay, RESTART_DELAY_MS);
        let restarts = strategy != Some(Strategy::None);
        let mut parts = vec![interval, timeout, noticed];
        parts.extend(restarts.then_some(delay));
        parts.push(told("deployment", millis(restarts::DEPLOY_S)));
        Some(Self { parts, restarts })
    }

    /// Of parts with their lengths, ms, and whether Flink told these.
    #[cfg(test)]
    pub(crate) fn lasting(parts: &[(&'static str, i64, bool)], restarts: bool) -> Self {
        let parts = parts.iter().map(|&(what, ms, told)| Part { what, ms, told }).collect();
        Self { parts, restarts }
    }

    /// All of it, ms.
    pub(crate) fn ms(&self) -> i64 {
        self.parts.iter().map(|part| part.ms).sum()
    }

    /// What Flink told of it, ms: no less than that.
    pub(crate) fn told_ms(&self) -> i64 {
        self.parts.iter().filter(|part| part.told).map(|part| part.ms).sum()
    }

    /// Each part with its length.
    pub(crate) fn in_words(&self) -> String {
        let words = self.parts.iter().map(|Part { what, ms, told }| {
            let default = if *told { "" } else { " (Flink's default: this one is not told)" };
            format!("{what} {}{default}", exactly(*ms))
        });
        words.collect::<Vec<_>>().join(" + ")
    }
}

fn told(what: &'static str, ms: i64) -> Part {
    Part { what, ms, told: true }
}

fn told_or(what: &'static str, ms: Option<i64>, default_ms: i64) -> Part {
    Part { what, ms: ms.unwrap_or(default_ms), told: ms.is_some() }
}

fn millis(seconds: f64) -> i64 {
    (seconds * 1_000.0).round() as i64
}

/// Milliseconds in seconds, not rounded: such numbers are added up and compared.
pub(crate) fn exactly(ms: i64) -> String {
    format!("{} s", ms as f64 / 1_000.0)
}

#[cfg(test)]
mod tests {
    use khaos_control::ports::PortError;

    use super::*;

    const FIXED: &str = "Restart with fixed delay (PT1S). #2147483647 restart attempts.";

    fn config() -> Checkpointing {
        Checkpointing { interval: 60_000, timeout: Some(120_000), ..Checkpointing::default() }
    }

    fn cluster() -> Settings {
        Settings::with(&[("heartbeat.timeout", "10000")])
    }

    fn of(config: &Checkpointing, strategy: &str, cluster: Settings) -> UntilCommit {
        UntilCommit::of(config, &Ok(strategy.into()), &Ok(cluster), None).unwrap()
    }

    fn gone<T>() -> Asked<T> {
        Err(PortError::Unavailable("no answer within 5 s".into()))
    }

    /// 60 + 120 + 10 + 1 + 1 s.
    #[test]
    fn interval_timeout_and_restart_are_waited_for_one_after_the_other() {
        let until = of(&config(), FIXED, cluster());
        assert_eq!((until.ms(), until.told_ms(), until.restarts), (192_000, 192_000, true));
        assert_eq!(
            until.in_words(),
            "interval 60 s + checkpoint timeout 120 s + heartbeat timeout 10 s + restart delay 1 s + \
             deployment 1 s"
        );
        // What nobody set is at its default, and that is known: 60 + 120 + 50 + 1 + 1 s.
        let defaults = of(&config(), FIXED, Settings::default());
        assert_eq!((defaults.ms(), defaults.told_ms()), (232_000, 232_000));
        // Delays that grow are waited for when they have grown: 60 + 120 + 10 + 30 + 1 s.
        let grows = "Restart with exponential delay: starting at PT1S, increasing by 1.500000, with \
                     maximum PT30S. Delay resets after PT1H with jitter 0.100000";
        assert_eq!(of(&config(), grows, cluster()).ms(), 221_000);
    }

    /// 60 + 600 + 10 + 1 + 1 s; 60 + 120 + 50 + 60 + 1 s.
    #[test]
    fn what_is_not_told_is_at_flinks_default_and_not_zero() {
        let no_timeout = of(&Checkpointing { timeout: None, ..config() }, FIXED, cluster());
        assert_eq!((no_timeout.ms(), no_timeout.told_ms()), (672_000, 72_000));
        let words = no_timeout.in_words();
        assert!(words.contains("checkpoint timeout 600 s (Flink's default: "), "{words}");
        let until = UntilCommit::of(&config(), &gone(), &gone(), None).unwrap();
        assert_eq!((until.ms(), until.told_ms(), until.restarts), (291_000, 181_000, true));
    }

    /// 60 + 120 + 10 + 1 s, and then whoever starts it.
    #[test]
    fn a_job_that_nothing_restarts_has_no_restart_delay() {
        let until = of(&config(), "Restart deactivated.", cluster());
        assert_eq!((until.ms(), until.restarts), (191_000, false));
    }

    #[test]
    fn a_redeploy_may_make_the_interval_longer_but_not_what_it_is_now_shorter() {
        let interval = |own_ms, max_s| {
            let config = Checkpointing { interval: own_ms, ..config() };
            let max = CheckpointInterval::from_secs(max_s).unwrap();
            let until = UntilCommit::of(&config, &Ok(FIXED.into()), &Ok(cluster()), Some(max));
            until.unwrap().parts[0]
        };
        assert_eq!(interval(60_000, 90), told("interval (max, by a redeploy)", 90_000));
        assert_eq!(interval(60_000, 60), told("interval", 60_000));
        assert_eq!(interval(60_000, 30), told("interval", 60_000));
        // Flink's word for none.
        assert_eq!(interval(i64::MAX, 30), told("interval (max, by a redeploy)", 30_000));
        let none = Checkpointing { interval: i64::MAX, ..config() };
        assert_eq!(UntilCommit::of(&none, &Ok(FIXED.into()), &Ok(cluster()), None), None);
    }
}
