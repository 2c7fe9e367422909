//! What a client reads, as an event of a recording.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rdkafka::message::{BorrowedMessage, Headers, Message, OwnedMessage};

use crate::recording::{Event, Header};

/// `message` as an event; `None` where a header's name is not UTF-8: the client panics over it.
pub(super) fn event<M: Message>(message: &M) -> Option<Event<'_>> {
    let headers = message.headers().map_or(Some(Vec::new()), |headers| {
        let all = || headers.iter().map(|header| Header { name: header.key, value: header.value });
        catch_unwind(AssertUnwindSafe(|| all().collect())).ok()
    })?;
    Some(Event {
        partition: message.partition(),
        offset: message.offset(),
        timestamp_ms: stamped_ms(message),
        key: message.key(),
        value: message.payload(),
        headers,
    })
}

/// `message` by itself, without the client's memory; `None` as of [`event`].
pub(super) fn detached(message: &BorrowedMessage<'_>) -> Option<OwnedMessage> {
    catch_unwind(AssertUnwindSafe(|| message.detach())).ok()
}

/// Its timestamp, epoch ms; −1 where it has none.
pub(super) fn stamped_ms(message: &impl Message) -> i64 {
    message.timestamp().to_millis().unwrap_or(-1)
}
