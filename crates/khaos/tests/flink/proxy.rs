//! What stands between khaos and Flink, and breaks: faults that a real JobManager cannot be made to
//! show on demand.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// How the proxy treats what passes through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Not at all.
    None,
    /// Every answer is a 500; nothing reaches Flink.
    InternalError,
    /// Answers stop in the middle of their body, with a length that fits.
    TruncatedJson,
    /// Flink does what it is asked, but its answers come after khaos has given up.
    Late,
    /// Nobody answers; nothing reaches Flink.
    Silence,
}

/// Longer than any answer is waited for.
const LATE: Duration = Duration::from_secs(7);

#[derive(Debug)]
struct Seen {
    fault: Fault,
    /// Triggers that were sent and whose end nobody was told yet.
    outstanding: Vec<String>,
    /// The most of them at a time.
    most_outstanding: usize,
    requests: u64,
}

/// A proxy on loopback. Dropping it closes it.
pub(crate) struct Proxy {
    pub(crate) url: String,
    seen: Arc<Mutex<Seen>>,
    accepting: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Proxy {
    /// In front of the REST API at `url`.
    pub(crate) async fn before(url: &str) -> Self {
        let target = url.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen =
            Seen { fault: Fault::None, outstanding: Vec::new(), most_outstanding: 0, requests: 0 };
        let seen = Arc::new(Mutex::new(seen));
        let shared = Arc::clone(&seen);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, target.clone(), Arc::clone(&shared)));
            }
        });
        Self { url, seen, accepting }
    }

    pub(crate) fn breaks(&self, fault: Fault) {
        self.seen.lock().unwrap().fault = fault;
    }

    /// The most triggers that were outstanding at a time, as far as khaos could know.
    pub(crate) fn most_outstanding(&self) -> usize {
        self.seen.lock().unwrap().most_outstanding
    }

    pub(crate) fn requests(&self) -> u64 {
        self.seen.lock().unwrap().requests
    }
}

/// Reads one request or one answer: its head, and a body as long as the head says.
async fn message(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        if let Some(head) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.map_or(0, |n| n.trim().parse().unwrap());
            if bytes.len() >= head + 4 + length {
                return Some(bytes);
            }
        }
        let mut chunk = vec![0; 16 * 1024];
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return None,
            Ok(n) => bytes.extend_from_slice(&chunk[..n]),
        }
    }
}

async fn pass(mut client: TcpStream, target: String, seen: Arc<Mutex<Seen>>) {
    let Ok(mut flink) = TcpStream::connect(&target).await else { return };
    while let Some(request) = message(&mut client).await {
        let asked = String::from_utf8_lossy(&request).into_owned();
        let fault = {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.requests += 1;
            seen.sent(&asked);
            seen.fault
        };
        let answer = match fault {
            Fault::InternalError => {
                let body = r#"{"errors":["Internal server error.","<Exception on server side>"]}"#;
                let length = body.len();
                format!(
                    "HTTP/1.1 500 Internal Server Error\r\ncontent-length: {length}\r\n\r\n{body}"
                )
                .into_bytes()
            }
            Fault::Silence => {
                // Until khaos hangs up.
                let _ = client.read(&mut [0; 1]).await;
                return;
            }
            Fault::None | Fault::TruncatedJson | Fault::Late => {
                if flink.write_all(&request).await.is_err() {
                    return;
                }
                let Some(answer) = message(&mut flink).await else { return };
                match fault {
                    Fault::TruncatedJson => truncated(&answer),
                    _ => answer,
                }
            }
        };
        if fault == Fault::Late {
            sleep_until(Instant::now() + LATE).await;
        }
        if client.write_all(&answer).await.is_err() {
            return;
        }
        if fault == Fault::None {
            let told = String::from_utf8_lossy(&answer).into_owned();
            seen.lock().unwrap_or_else(PoisonError::into_inner).told(&asked, &told);
        }
    }
}

/// The first half of an answer's body, as if it were all of it.
fn truncated(answer: &[u8]) -> Vec<u8> {
    let head = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    let body = &answer[head..head + (answer.len() - head) / 2];
    let text = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    [text.as_bytes(), body].concat()
}

impl Seen {
    fn sent(&mut self, request: &str) {
        let id = request.split("\"triggerId\":\"").nth(1).and_then(|rest| rest.split('"').next());
        if let Some(id) = id.filter(|_| request.starts_with("POST")) {
            self.outstanding.push(id.to_owned());
            self.most_outstanding = self.most_outstanding.max(self.outstanding.len());
        }
    }

    /// Told is whoever gets an outcome, or hears that there is no such trigger.
    fn told(&mut self, request: &str, answer: &str) {
        let ended = answer.contains("\"COMPLETED\"") || answer.starts_with("HTTP/1.1 404");
        if ended && request.starts_with("GET") {
            self.outstanding.retain(|id| !request.contains(id.as_str()));
        }
    }
}
