//! Asking over HTTP: every question has a deadline, every answer is one of four kinds.

use std::time::Duration;

use khaos_control::ports::PortError;
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use serde::de::DeserializeOwned;

/// How long an answer may take. Who is asked answers in milliseconds; one that does not within this
/// time is treated as not there.
const DEADLINE: Duration = Duration::from_secs(5);
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);

/// Who is asked, in words, and how they say what went wrong.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    /// What its address is, and an example.
    pub(crate) address: &'static str,
    /// The reason in the body of a refusal, where one can be read.
    pub(crate) reason: fn(&[u8]) -> Option<String>,
}

/// One address, and whoever answers there.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    base: String,
    client: Client,
    peer: &'static Peer,
}

impl Http {
    pub(crate) fn at(url: &str, peer: &'static Peer) -> Result<Self, PortError> {
        let Peer { name, address, .. } = peer;
        let wrong = |why: &str| {
            PortError::Refused(format!("'{url}' is no address of {name}: {why}; it is {address}"))
        };
        let parsed = Url::parse(url).map_err(|error| wrong(&error.to_string()))?;
        if parsed.scheme() != "http" || parsed.host().is_none() {
            return Err(wrong("it has to begin with http://"));
        }
        let client = Client::builder()
            .timeout(DEADLINE)
            .connect_timeout(CONNECT_DEADLINE)
            // A proxy of the environment is for the outside, and would see what runs inside.
            .no_proxy()
            .build()
            .map_err(|error| PortError::Refused(format!("no HTTP client: {error}")))?;
        Ok(Self { base: url.trim_end_matches('/').to_owned(), client, peer })
    }

    /// The address, for messages.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.base))
    }

    pub(crate) fn get_with(&self, path: &str, parameters: &[(&str, String)]) -> RequestBuilder {
        let url = Url::parse_with_params(&format!("{}{path}", self.base), parameters);
        self.client.get(url.expect("an address with a path is one"))
    }

    pub(crate) fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(format!("{}{path}", self.base))
    }

    pub(crate) fn patch(&self, path: &str) -> RequestBuilder {
        self.client.patch(format!("{}{path}", self.base))
    }

    pub(crate) fn delete(&self, path: &str) -> RequestBuilder {
        self.client.delete(format!("{}{path}", self.base))
    }

    fn unavailable(&self, path: &str, why: &str) -> PortError {
        PortError::Unavailable(format!("{}{path}: {why}", self.base))
    }

    fn lost(&self, path: &str, error: &reqwest::Error) -> PortError {
        if error.is_timeout() {
            let why = format!("no answer within {} s", DEADLINE.as_secs());
            return self.unavailable(path, &why);
        }
        // The innermost reason: "connection refused" rather than "error sending request".
        let mut cause: &dyn std::error::Error = error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        self.unavailable(path, &cause.to_string())
    }

    /// Sends `request`, which is to `path`, whatever the answer is.
    pub(crate) async fn send(
        &self,
        request: RequestBuilder,
        path: &str,
    ) -> Result<Response, PortError> {
        request.send().await.map_err(|error| self.lost(path, &error))
    }

    /// Sends `request`, which is to `path`. `missing` names what is not there when that is what a
    /// 404 means; otherwise it is a refusal like others.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
        path: &str,
        missing: Option<&str>,
    ) -> Result<T, PortError> {
        let answer = self.send(request, path).await?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(|error| self.lost(path, &error))?;
        let unavailable = |why: &str| self.unavailable(path, why);
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| {
                unavailable(&format!("the answer is not what {} answers: {error}", self.peer.name))
            });
        }
        let said = (self.peer.reason)(&body).unwrap_or_else(|| status.to_string());
        Err(match (status, missing) {
            (StatusCode::NOT_FOUND, Some(what)) => PortError::NotFound(what.to_owned()),
            // Too many requests, and too slow to send one: later may help.
            (StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT, _) => unavailable(&said),
            (status, _) if status.is_client_error() => {
                PortError::Refused(format!("{}{path}: {said}", self.base))
            }
            _ => unavailable(&format!("{status}: {said}")),
        })
    }
}
