//! Somebody who answers as Flink would, for tests of what no real Flink can be made to do.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Answers each request, `METHOD /path` and its body, by `answer`, with a status and a body: its address.
pub(super) async fn serve(
    mut answer: impl FnMut(&str, &str) -> (&'static str, String) + Send + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let Some((request, body)) = read(&mut client).await else { continue };
            let (status, text) = answer(&request, &body);
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
                text.len()
            );
            // Who asked may have gone.
            let _ = client.write_all(answer.as_bytes()).await;
        }
    });
    url
}

async fn read(client: &mut TcpStream) -> Option<(String, String)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let request = head.lines().next()?.strip_suffix(" HTTP/1.1")?.to_owned();
    let lower = head.to_lowercase();
    let length = lower.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    client.read_exact(&mut body).await.ok()?;
    Some((request, String::from_utf8(body).unwrap()))
}
