//! Supervise: what a cluster manager does for its TaskManagers.

use std::collections::BTreeMap;

use tokio::time::{Duration, Instant};

use super::config::heartbeat_timeout;
use super::error::LabError;
use super::{Lab, Role};

/// A TaskManager that ends within this time has hardly started: it registers in 3 to 8 s.
const HARDLY_STARTED: Duration = Duration::from_secs(10);
/// So many starts in a row may end like that.
const STARTS: u32 = 5;
/// What hangs is killed so long after Flink has missed its heartbeats, not before: that Flink notices
/// by itself is part of what a hang is.
const AFTER_HEARTBEATS: Duration = Duration::from_secs(2);

impl Lab {
    /// Keeps the TaskManagers alive until the lab cannot go on, as with [`Lab::watch`].
    ///
    /// One that died is started again at once, under a new name in Flink; one that has been stopped for
    /// 2 s longer than the lab's `heartbeat.timeout` is killed first. What ends it is the JobManager's
    /// death, the broker's, or a TaskManager whose starts ended within seconds five times in a row.
    pub async fn supervise(&mut self) -> LabError {
        let patience = match heartbeat_timeout(&self.config) {
            Ok(timeout) => timeout + AFTER_HEARTBEATS,
            Err(unreadable) => return unreadable,
        };
        let mut seen = BTreeMap::new();
        self.look(|lab| lab.look_after(&mut seen, patience)).await
    }

    fn look_after(
        &mut self,
        seen: &mut BTreeMap<Role, Seen>,
        patience: Duration,
    ) -> Result<(), LabError> {
        match self.refuse_ended() {
            Err(LabError::Died(last)) if last.role.is_taskmanager() => {
                if !seen.entry(last.role).or_default().may_start_again(last.after) {
                    let within_s = HARDLY_STARTED.as_secs();
                    return Err(LabError::KeepsDying { starts: STARTS, within_s, last });
                }
                tracing::info!("the {} died {} and is started again", last.role, last.how);
                self.spawn(last.role)?;
            }
            looked => looked?,
        }
        let now = Instant::now();
        for (role, process) in &mut self.processes {
            let stopped = role.is_taskmanager() && process.is_stopped();
            if seen.entry(*role).or_default().hangs(stopped, now, patience) {
                process.kill();
            }
        }
        Ok(())
    }
}

/// What was seen of one TaskManager.
#[derive(Debug, Default)]
struct Seen {
    ended_early: u32,
    stopped_since: Option<Instant>,
}

impl Seen {
    /// One that ended `after` its start.
    fn may_start_again(&mut self, after: Duration) -> bool {
        self.ended_early = if after < HARDLY_STARTED { self.ended_early + 1 } else { 0 };
        self.ended_early < STARTS
    }

    /// Whether it has been stopped for longer than `patience`.
    fn hangs(&mut self, stopped: bool, now: Instant, patience: Duration) -> bool {
        let since = stopped.then(|| self.stopped_since.unwrap_or(now));
        self.stopped_since = since;
        since.is_some_and(|since| now.duration_since(since) > patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taskmanager_is_started_again_unless_that_never_helps() {
        let mut seen = Seen::default();
        let mut may = |seconds| seen.may_start_again(Duration::from_secs(seconds));
        assert_eq!([1, 9, 3, 4].map(&mut may), [true; 4]);
        assert!(may(10), "it had started");
        assert_eq!([1, 9, 3, 4, 2].map(&mut may), [true, true, true, true, false]);
    }

    #[tokio::test]
    async fn what_is_stopped_has_time_to_go_on() {
        let patience = Duration::from_secs(7);
        let began = Instant::now();
        let mut seen = Seen::default();
        let mut hangs =
            |second, stopped| seen.hangs(stopped, began + Duration::from_secs(second), patience);
        assert!(!hangs(0, true));
        assert!(!hangs(7, true));
        assert!(!hangs(8, false), "it went on");
        assert!(!hangs(9, true));
        assert!(!hangs(16, true));
        assert!(hangs(17, true));
        assert!(!hangs(18, false), "another one by now");
    }
}
