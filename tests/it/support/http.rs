//! A plain HTTP/1.1 client on one socket: it sends exactly the bytes that a test gives it, and tells
//! whether an answer came whole. No retries, no pool, no opinion.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

/// No answer takes longer; a test that waits for one has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request as bytes.
#[derive(Clone)]
pub struct Ask {
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, Vec<u8>)>,
    body: Vec<u8>,
}

impl Ask {
    pub fn new(method: &'static str, path: impl Into<String>) -> Self {
        Ask { method, path: path.into(), headers: Vec::new(), body: Vec::new() }
    }

    pub fn get(path: impl Into<String>) -> Self {
        Self::new("GET", path)
    }

    pub fn post(path: impl Into<String>, body: &Value) -> Self {
        Self::new("POST", path).raw_body(body.to_string())
    }

    /// A chat call with one user message.
    pub fn chat(key: &str, model: &str, text: &str) -> Self {
        Self::chat_with(key, model, text, json!({}))
    }

    /// The same with more fields.
    pub fn chat_with(key: &str, model: &str, text: &str, more: Value) -> Self {
        let mut body = json!({"model": model, "messages": [{"role": "user", "content": text}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Self::post("/v1/chat/completions", &body).bearer(key)
    }

    #[must_use]
    pub fn at(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    #[must_use]
    pub fn bearer(self, key: &str) -> Self {
        self.header("authorization", format!("Bearer {key}"))
    }

    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    #[must_use]
    pub fn raw_body(self, body: impl Into<Vec<u8>>) -> Self {
        self.body(body, "application/json")
    }

    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>, media_type: &str) -> Self {
        self.body = body.into();
        self.header("content-type", media_type)
    }

    /// A form; a field with a file's name is a file.
    pub fn form(path: &str, fields: &[(&str, Option<&str>, &[u8])]) -> Self {
        let mut body = Vec::new();
        for (name, file, content) in fields {
            let file = file.map(|file| format!("; filename=\"{file}\"")).unwrap_or_default();
            body.extend(
                format!("--tests\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n").bytes(),
            );
            body.extend_from_slice(content);
            body.extend(b"\r\n");
        }
        body.extend(b"--tests--\r\n");
        Self::new("POST", path).body(body, "multipart/form-data; boundary=tests")
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\nhost: gateway\r\n", self.method, self.path).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", self.body.len()).as_bytes());
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// How much of a body is still to come.
enum Rest {
    Length(usize),
    Chunks,
    UntilClose,
    Ended,
}

/// A connection, and the answer that is being read from it.
pub struct Connection {
    stream: BufReader<TcpStream>,
    rest: Rest,
    text: Vec<u8>,
}

/// Status and headers of an answer.
#[derive(Clone, Debug)]
pub struct Head {
    pub status: u16,
    headers: Vec<(String, String)>,
}

impl Head {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Our name of the call.
    #[track_caller]
    pub fn request_id(&self) -> &str {
        self.header("x-request-id").unwrap_or_else(|| panic!("no x-request-id: {self:?}"))
    }
}

/// An answer as far as it came.
#[derive(Clone, Debug)]
pub struct Reply {
    pub head: Head,
    pub body: Vec<u8>,
    /// The body came to its proper end.
    pub whole: bool,
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{:?}: {}", self.head, self.text()))
    }

    /// The body of a good answer.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert!((200..300).contains(&self.head.status) && self.whole, "{:?}: {}", self.head, self.text());
        self.json()
    }

    /// The data of each event of a stream, `[DONE]` included.
    pub fn events(&self) -> Vec<String> {
        let text = self.text();
        let data = text.split("\n\n").filter_map(|event| {
            event.lines().find_map(|line| line.strip_prefix("data: ")).map(str::to_owned)
        });
        data.collect()
    }

    /// The answer is all that was asked for: a whole body, or a stream up to its `[DONE]`.
    pub fn is_whole_answer(&self) -> bool {
        let ends = !self.is_stream() || self.text().ends_with("data: [DONE]\n\n");
        self.head.status == 200 && self.whole && ends
    }

    pub fn is_stream(&self) -> bool {
        self.head.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream"))
    }

    /// The upstream's id of the answer.
    pub fn answer_id(&self) -> Option<String> {
        let first = self.events().into_iter().next().unwrap_or_else(|| self.text());
        serde_json::from_str::<Value>(&first).ok()?["id"].as_str().map(str::to_owned)
    }
}

impl Connection {
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream: BufReader::new(stream), rest: Rest::Ended, text: Vec::new() })
    }

    pub fn local_port(&self) -> u16 {
        self.stream.get_ref().local_addr().unwrap().port()
    }

    pub fn send(&mut self, ask: &Ask) -> io::Result<()> {
        self.send_raw(&ask.bytes())
    }

    /// Waits until something comes, or it is enough. Whether something came.
    pub fn wait_for_answer(&mut self, patience: Duration, enough: impl Fn() -> bool) -> io::Result<bool> {
        let until = std::time::Instant::now() + patience;
        let stream = self.stream.get_ref();
        stream.set_read_timeout(Some(Duration::from_millis(20)))?;
        let mut came = false;
        while !came && !enough() && std::time::Instant::now() < until {
            came = stream.peek(&mut [0]).is_ok();
        }
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(came)
    }

    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Sends, and reads the answer as far as it comes; an error if not even its head came.
    pub fn ask(&mut self, ask: &Ask) -> io::Result<Reply> {
        self.send(ask)?;
        self.reply()
    }

    pub fn reply(&mut self) -> io::Result<Reply> {
        let head = self.head()?;
        let mut body = Vec::new();
        let whole = loop {
            match self.piece() {
                Ok(Some(piece)) => body.extend_from_slice(&piece),
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        Ok(Reply { head, body, whole })
    }

    pub fn head(&mut self) -> io::Result<Head> {
        let line = self.line()?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("not a status line: {line:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let head = Head { status, headers };
        let chunked = head.header("transfer-encoding").is_some_and(|coding| coding.contains("chunked"));
        let length = head.header("content-length").and_then(|length| length.parse().ok());
        self.rest = match length {
            _ if chunked => Rest::Chunks,
            Some(length) => Rest::Length(length),
            None => Rest::UntilClose,
        };
        self.text.clear();
        Ok(head)
    }

    /// The next piece of the body; `None` at its proper end.
    pub fn piece(&mut self) -> io::Result<Option<Vec<u8>>> {
        match self.rest {
            Rest::Ended | Rest::Length(0) => Ok(None),
            Rest::Length(length) => {
                let mut piece = vec![0; length];
                self.stream.read_exact(&mut piece)?;
                self.rest = Rest::Ended;
                Ok(Some(piece))
            }
            Rest::UntilClose => {
                let mut piece = Vec::new();
                self.stream.read_to_end(&mut piece)?;
                self.rest = Rest::Ended;
                Ok(Some(piece))
            }
            Rest::Chunks => self.chunk(),
        }
    }

    fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let line = self.line()?;
        let length = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
        let mut piece = vec![0; length];
        self.stream.read_exact(&mut piece)?;
        self.line()?;
        if length == 0 {
            self.rest = Rest::Ended;
            return Ok(None);
        }
        Ok(Some(piece))
    }

    /// The data of the next event of a stream; `None` at its end. An error if it breaks off.
    pub fn event(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(end) = self.text.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<u8> = self.text.drain(..end + 2).collect();
                let event = String::from_utf8_lossy(&event).into_owned();
                let data = event.lines().find_map(|line| line.strip_prefix("data: "));
                if let Some(data) = data {
                    return Ok(Some(data.to_owned()));
                }
                continue;
            }
            match self.piece()? {
                Some(piece) => self.text.extend_from_slice(&piece),
                None => return Ok(None),
            }
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(String::from_utf8_lossy(&line).into_owned())
    }
}
