//! The client against real sockets: an upstream that plays back what a test says.

mod http1;
mod tls;

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// A request body of a call, as large as a usual one.
const BODY: &str = "{\"model\":\"m\",\"messages\":[]}";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn upstreams(settings: Settings) -> Upstreams {
    Upstreams::new(settings, &Tls::new(None).unwrap())
}

/// Short limits: a test waits for them.
fn quick() -> Settings {
    Settings {
        connect_timeout: Duration::from_millis(100),
        write_timeout: Duration::from_millis(100),
        header_timeout: Duration::from_millis(100),
        ..Settings::default()
    }
}

fn post<'a>(target: &'a Target, path: &'a str) -> Call<'a> {
    Call { target, method: Method::POST, path, headers: &[], body: Bytes::from_static(BODY.as_bytes()) }
}

fn get(target: &Target) -> Call<'_> {
    Call { target, method: Method::GET, path: "/models", headers: &[], body: Bytes::new() }
}

async fn listen() -> (TcpListener, Target) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target::parse(&format!("http://{}/v1", listener.local_addr().unwrap())).unwrap();
    (listener, target)
}

/// Reads one request to its end; returns it as text. Empty: the client closed.
async fn read_request(socket: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return text;
            }
        }
        if socket.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return String::new();
        }
    }
}

async fn read_all(mut body: AnswerStream) -> Result<Bytes, ForwardError> {
    let mut all = Vec::new();
    while let Some(piece) = body.next().await? {
        assert!(!piece.is_empty(), "a piece is never empty");
        all.extend_from_slice(&piece);
    }
    assert!(body.is_end());
    Ok(all.into())
}
