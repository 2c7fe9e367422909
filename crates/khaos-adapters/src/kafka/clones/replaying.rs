//! A stretch of a job's topic on its way into a clone's: by a thread of its own, until it ends or the clone does.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use khaos_control::clock::Clock;
use khaos_control::ports::PortError;
use tokio::sync::oneshot;

use super::super::pace::Pace;
use super::super::replay::{Moment, Replay, ReplayConfig, ReplayError, Source};
use super::super::{KafkaError, KafkaSettings, in_thread};
use super::no_port;

/// How late an event may be: by more the load that a trial is to see is another one.
const MAX_LATE: Duration = Duration::from_secs(5);
/// How long a broker may be away.
const PATIENCE: Duration = Duration::from_mins(1);

/// A replay that runs until this is gone.
#[derive(Debug)]
pub(super) struct Replaying {
    /// `None` as long as it runs; then an error says why it is spoilt.
    ended: Arc<Mutex<Option<Result<(), String>>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: JoinHandle<()>,
}

impl Replaying {
    /// Replays what is in `topic` from `from_ms`, epoch ms, on, at its own pace, into `into`, which is there.
    /// Begins with the return; `None` where nothing arrived since.
    pub(super) async fn begin(
        settings: &KafkaSettings,
        topic: String,
        from_ms: i64,
        into: String,
        clock: Clock,
    ) -> Result<Option<Self>, PortError> {
        let config = ReplayConfig {
            source: Source::Topic(topic.clone()),
            from: Some(Moment::At(from_ms)),
            to: None,
            into,
            pace: Pace::Recorded { speed: 1.0 },
            shift_time: false,
            shift_field: None,
            max_late: MAX_LATE,
            patience: PATIENCE,
        };
        let settings = settings.clone();
        let doing = format!("a replay of topic '{topic}'");
        let replay = match in_thread(&doing, move || Replay::prepare(&settings, config)).await {
            Ok(replay) => replay,
            Err(ReplayError::Empty(_)) => return Ok(None),
            Err(ReplayError::Kafka(error)) => return Err(no_port(&error)),
            Err(error) => {
                let said = format!("topic '{topic}' cannot be replayed: {error}");
                return Err(PortError::Refused(said));
            }
        };
        let ended = Arc::new(Mutex::new(None));
        let (stop, stopped) = oneshot::channel();
        let tell = Arc::clone(&ended);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(no_thread)?;
        let thread = std::thread::Builder::new()
            .name("khaos-replay".to_owned())
            .spawn(move || {
                // Whoever drops the sender wants it to stop, too.
                let stopped = async { drop(stopped.await) };
                let replayed = runtime.block_on(replay.run(clock, stopped, |_| {}));
                *tell.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(replayed.spoilt.map_or(Ok(()), Err));
            })
            .map_err(no_thread)?;
        Ok(Some(Self { ended, stop: Some(stop), thread }))
    }

    /// Why what the clone is given is not what the job was given; `None` while it is.
    pub(super) fn spoilt(&self) -> Option<String> {
        // In this order: it says how it ended before it has ended.
        let has_ended = self.thread.is_finished();
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match ended {
            Some(ended) => ended.err(),
            None => has_ended.then(|| "it ended without saying why".to_owned()),
        }
    }

    /// Asks it to stop, and waits for nothing.
    pub(super) fn stop(&mut self) {
        drop(self.stop.take());
    }

    /// Stops it, and waits until nothing is sent any more.
    pub(super) async fn end(mut self) {
        self.stop();
        let joined = move || {
            // One that panicked has stopped.
            let _ = self.thread.join();
            Ok::<(), KafkaError>(())
        };
        let _ = in_thread("the end of a replay", joined).await;
    }
}

fn no_thread(error: impl std::fmt::Display) -> PortError {
    no_port(&KafkaError::Other {
        doing: "a replay into a clone".to_owned(),
        why: error.to_string(),
    })
}
