//! Little upstreams that answer every request alike, whatever it asks, and a channel of the demo to one.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use serde_json::{Value, json};

use crate::support::demo::Demo;
use crate::support::http::Ask;

/// An upstream that answers every request so.
pub fn answering(status: u16, content_type: &str, body: &str) -> SocketAddr {
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status} As Scripted\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    playing(move |stream| stream.write_all(answer.as_bytes()))
}

/// The same with JSON.
pub fn saying(body: &Value) -> SocketAddr {
    answering(200, "application/json", &body.to_string())
}

/// An upstream that plays this once it has read a request.
pub fn playing(play: impl Fn(&mut TcpStream) -> io::Result<()> + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            // A caller that goes away early is the test's to notice.
            let _played = read_request(&mut stream).and_then(|()| play(&mut stream));
        }
    });
    address
}

/// An upstream whose stream breaks off behind these events.
pub fn breaking_off(events: &str) -> SocketAddr {
    let length = events.len();
    let answer = format!(
        "HTTP/1.1 200 As Scripted\r\ncontent-type: text/event-stream\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n\
         {length:x}\r\n{events}\r\n"
    );
    playing(move |stream| stream.write_all(answer.as_bytes()))
}

fn read_request(stream: &mut TcpStream) -> io::Result<()> {
    let (mut read, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let got = stream.read(&mut piece)?;
        read.extend_from_slice(&piece[..got]);
        let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") else {
            if got == 0 {
                return Ok(());
            }
            continue;
        };
        let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if got == 0 || read.len() >= end + 4 + length.unwrap_or(0) {
            return Ok(());
        }
    }
}

/// A channel that is tried before those of the demo. Its id.
pub fn channel(demo: &Demo, name: &str, provider: &str, address: SocketAddr, model: &str) -> String {
    let body = json!({
        "name": name,
        "provider": provider,
        "base_url": format!("http://{address}/v1"),
        "credential": "sk-of-the-scripted-upstream",
        "models": {model: model},
        "priority": 10,
        "cools_down": false,
        "cost_share": "1",
    });
    demo.admin_post("/api/channels", &body)["id"].as_str().unwrap().to_owned()
}

/// Changes a channel.
pub fn change(demo: &Demo, channel: &str, to: &Value) {
    let path = format!("/api/channels/{channel}");
    demo.ask(&Ask::new("PATCH", path).raw_body(to.to_string()).bearer(&demo.admin_token())).ok();
}
