//! How long the log is, second by second: the broker's retention is the store.

use tokio::time::Instant;

use super::{Ended, Progress, RecordError, Recorder, SYNC};
use crate::kafka::KafkaError;

/// A look takes so long at least before a flag is looked at again.
const LOOK: std::time::Duration = std::time::Duration::from_millis(50);

/// Looks every second until `end` says so.
pub(super) fn read(
    recorder: &mut Recorder,
    end: impl Fn(Instant) -> Option<Ended>,
    progress: &mut impl FnMut(&Progress),
) -> Result<Ended, RecordError> {
    let topic = recorder.config.topic.clone();
    let mut due = Instant::now();
    let mut answered = due;
    loop {
        let now = Instant::now();
        if let Some(ended) = end(now) {
            return Ok(ended);
        }
        if now < due {
            std::thread::park_timeout(LOOK.min(due - now));
            continue;
        }
        due += SYNC;
        let away = match recorder.cluster.ends(&topic) {
            Ok(ends) => {
                answered = Instant::now();
                recorder.kept.refuse_replaced(&topic, &ends)?;
                if !recorder.kept.look(recorder.clock.now().0, ends)? {
                    return Ok(Ended::Budget);
                }
                None
            }
            Err(KafkaError::NoAnswer { bootstrap, why, .. }) => {
                let away = answered.elapsed();
                if away > recorder.config.patience {
                    let waited_s = away.as_secs();
                    return Err(KafkaError::Away { bootstrap, waited_s, why }.into());
                }
                Some((away, why))
            }
            Err(error) => return Err(error.into()),
        };
        let (events, bytes) = (recorder.kept.events, recorder.kept.writer.bytes());
        progress(&Progress { events, bytes, behind: 0, away });
        // Seconds in which nobody answered are not made up for.
        due = due.max(Instant::now());
    }
}
