//! What librdkafka says by itself, kept until somebody asks why.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError as Native, RDKafkaErrorCode as Code};
use rdkafka::{ClientContext, Statistics};

use super::error::KafkaError;

/// Listens to one client, of whatever kind. A context with callbacks of its own passes on to it what it
/// does not want itself.
#[derive(Debug, Default)]
pub(crate) struct Hearing(Mutex<Heard>);

#[derive(Debug, Default)]
struct Heard {
    /// Why a broker cannot be reached, at last.
    lately: Option<String>,
    /// Why a broker was reached and does not talk to us. Waiting does not mend it.
    refused: Option<(Code, String)>,
}

impl Hearing {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was said at last, or `otherwise`.
    pub(crate) fn why(&self, otherwise: &str) -> String {
        self.heard().lately.clone().unwrap_or_else(|| otherwise.to_owned())
    }

    /// The error that waiting does not mend, if there is one.
    pub(crate) fn refusal(&self, bootstrap: &str) -> Option<KafkaError> {
        let (code, why) = self.heard().refused.clone()?;
        let bootstrap = bootstrap.to_owned();
        Some(match code {
            Code::SSL => KafkaError::Tls { bootstrap, why },
            _ => KafkaError::Authentication { bootstrap, why },
        })
    }
}

impl ClientContext for Hearing {
    /// Lines about connections are told by whoever asks [`Hearing::why`], once; the others are few.
    /// Debug lines come only where the user's `debug` asks for them, so they are shown.
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        match level {
            RDKafkaLogLevel::Debug => tracing::info!(target: "librdkafka", "{facility}: {line}"),
            _ if matches!(facility, "FAIL" | "ERROR") => {
                tracing::debug!(target: "librdkafka", "{facility}: {line}");
            }
            RDKafkaLogLevel::Info | RDKafkaLogLevel::Notice => {
                tracing::debug!(target: "librdkafka", "{facility}: {line}");
            }
            _ => tracing::warn!(target: "librdkafka", "{facility}: {line}"),
        }
    }

    fn error(&self, error: Native, reason: &str) {
        tracing::debug!(target: "librdkafka", "{error}: {reason}");
        let Some(code) = error.rdkafka_error_code() else { return };
        let mut heard = self.heard();
        match code {
            Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL => {
                heard.refused = Some((code, plain(reason)));
                heard.lately = Some(plain(reason));
            }
            Code::BrokerTransportFailure | Code::Resolve | Code::OperationTimedOut => {
                heard.lately = Some(plain(reason));
            }
            // Among them that all are down, which says not why.
            _ => {}
        }
    }

    fn stats(&self, _: Statistics) {}
}

/// Without how long it took in which state of librdkafka's.
fn plain(reason: &str) -> String {
    let end = reason.find(" (after ").unwrap_or(reason.len());
    reason[..end].to_owned()
}
