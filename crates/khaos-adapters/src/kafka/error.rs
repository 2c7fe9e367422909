//! What can go wrong with a Kafka cluster: one message each, and what to change.

use rdkafka::error::RDKafkaErrorCode as Code;
use thiserror::Error;

use super::settings::SettingsError;

/// Why Kafka does not do what was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KafkaError {
    /// A client cannot be made from these settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Nobody is there.
    #[error(
        "no Kafka broker answers at {bootstrap} within {waited_s} s: {why}: is it running, and is that its address?"
    )]
    NoAnswer {
        /// Where it was asked.
        bootstrap: String,
        /// How long, s.
        waited_s: u64,
        /// librdkafka's reason.
        why: String,
    },
    /// Somebody is there and does not believe us.
    #[error(
        "{bootstrap} does not let us in: {why}: check security.protocol, sasl.mechanism, sasl.username and sasl.password in --kafka-config"
    )]
    Authentication {
        /// Where it was asked.
        bootstrap: String,
        /// librdkafka's reason.
        why: String,
    },
    /// The connection cannot be encrypted as asked.
    #[error(
        "no TLS connection to {bootstrap}: {why}: check security.protocol, ssl.ca.location and the certificates in --kafka-config"
    )]
    Tls {
        /// Where it was asked.
        bootstrap: String,
        /// librdkafka's reason.
        why: String,
    },
    /// The topic is not there.
    #[error("there is no topic '{topic}' at {bootstrap}: {there}")]
    NoTopic {
        /// Which.
        topic: String,
        /// Where.
        bootstrap: String,
        /// What is there instead, in words.
        there: String,
    },
    /// No right to do it.
    #[error(
        "Kafka refuses {right} on {what} to this user: have it allowed (kafka-acls --add --allow-principal User:… --operation {right} {option} '{name}')",
        option = option(what),
        name = what.split('\'').nth(1).unwrap_or_default()
    )]
    NotAllowed {
        /// The operation, in Kafka's words.
        right: &'static str,
        /// What on: "topic 'x'", "group 'x'" or "transactional id 'x'".
        what: String,
    },
    /// A broker that was there is not there any more.
    #[error("{bootstrap} went away and did not come back within {waited_s} s: {why}")]
    Away {
        /// Where it was.
        bootstrap: String,
        /// How long it was waited for, s.
        waited_s: u64,
        /// librdkafka's reason.
        why: String,
    },
    /// Everything else, in librdkafka's words.
    #[error("{doing}: {why}")]
    Other {
        /// What was tried.
        doing: String,
        /// Why it failed.
        why: String,
    },
}

impl KafkaError {
    /// No right to `right` on a topic.
    pub fn topic_refused(right: &'static str, topic: &str) -> Self {
        Self::NotAllowed { right, what: format!("topic '{topic}'") }
    }

    /// No right to `right` on a group.
    pub fn group_refused(right: &'static str, group: &str) -> Self {
        Self::NotAllowed { right, what: format!("group '{group}'") }
    }

    /// No right to `right` on a transactional id.
    pub fn transactional_id_refused(right: &'static str, id: &str) -> Self {
        Self::NotAllowed { right, what: format!("transactional id '{id}'") }
    }

    /// What `code` means where something on `topic` was asked that takes `right`.
    pub(crate) fn of_topic(right: &'static str, topic: &str, code: Code) -> Self {
        match code {
            Code::TopicAuthorizationFailed => Self::topic_refused(right, topic),
            code => Self::Other { doing: format!("topic '{topic}'"), why: code.to_string() },
        }
    }
}

/// How kafka-acls is told what a right is on.
fn option(what: &str) -> &'static str {
    match what.split(' ').next() {
        Some("group") => "--group",
        Some("transactional") => "--transactional-id",
        _ => "--topic",
    }
}

/// Does `code` say that the topic is not there?
pub(crate) fn is_no_topic(code: Code) -> bool {
    matches!(code, Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::InvalidTopic)
}

/// May the same question be answered later, when leaders are known again or a broker is back?
pub(crate) fn may_pass(code: Code) -> bool {
    matches!(
        code,
        Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::BrokerTransportFailure
            | Code::OperationTimedOut
            | Code::AllBrokersDown
            // Not all brokers have told what they know.
            | Code::Partial
            | Code::RequestTimedOut
            | Code::NetworkException
            | Code::BrokerNotAvailable
            | Code::ReplicaNotAvailable
            | Code::CoordinatorLoadInProgress
            | Code::CoordinatorNotAvailable
            | Code::NotCoordinator
            | Code::WaitingForCoordinator
            | Code::Resolve
            | Code::NodeUpdate
            | Code::OffsetNotAvailable
            | Code::FencedLeaderEpoch
            | Code::UnknownLeaderEpoch
            | Code::KafkaStorageError
            | Code::ListenerNotFound
    )
}
