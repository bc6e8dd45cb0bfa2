//! Sends a callback over a connection of its own.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// How long a callback waits for its answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a callback was answered with; status 0: not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    pub status: u16,
    pub body: String,
}

/// One message to be sent.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub method: &'static str,
    pub url: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

impl Message {
    pub fn send(&self) -> Sent {
        self.try_send().unwrap_or_else(|why| Sent { status: 0, body: why.to_string() })
    }

    /// So many at the same time.
    pub fn send_copies(&self, copies: u32) -> Vec<Sent> {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..copies).map(|_| scope.spawn(|| self.send())).collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
        })
    }

    fn try_send(&self) -> io::Result<Sent> {
        let rest = self.url.strip_prefix("http://").ok_or_else(|| io::Error::other("not a plain address"))?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let mut stream = TcpStream::connect(authority)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut head =
            format!("{} /{path} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n", self.method);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("content-length: {}\r\n\r\n", self.body.len());
        stream.write_all(head.as_bytes())?;
        stream.write_all(self.body.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer);
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other("no status line"))?;
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
        Ok(Sent { status, body })
    }
}
