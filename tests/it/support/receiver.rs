//! Who notices are sent to: a webhook's receiver and a mail server, as small as they can be and on real sockets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;

/// Nobody is waited for longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a receiver does with one request.
pub enum Then {
    Answer(&'static str),
    /// So many bytes of an answer that never ends.
    AnswerLong(&'static str, usize),
    Close,
    /// Answers once the test says so.
    AnswerWhenTold(mpsc::Receiver<()>),
}

pub struct Request {
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_else(|| panic!("no {name}: {:?}", self.headers))
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The signature, computed by the definition of HMAC (RFC 2104) and not by the program's code.
    #[track_caller]
    pub fn assert_signed(&self, secret: &str, at_s: i64) {
        let sha256 = |bytes: &[u8]| ring::digest::digest(&ring::digest::SHA256, bytes).as_ref().to_vec();
        let mut key = secret.as_bytes().to_vec();
        key.resize(64, 0);
        let with = |pad: u8, rest: &[u8]| {
            let mut bytes: Vec<u8> = key.iter().map(|byte| byte ^ pad).collect();
            bytes.extend_from_slice(rest);
            sha256(&bytes)
        };
        let mut signed = format!("{at_s}.").into_bytes();
        signed.extend_from_slice(&self.body);
        let tag: String = with(0x5c, &with(0x36, &signed)).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(self.header("tallygate-signature"), format!("t={at_s},v1={tag}"));
    }
}

/// A receiver on a port of its own: one connection for each step of its script, then nobody is there.
pub struct Receiver {
    pub address: SocketAddr,
    pub requests: mpsc::Receiver<Request>,
}

impl Receiver {
    pub fn start(script: Vec<Then>) -> Self {
        Self::start_on(TcpListener::bind("127.0.0.1:0").unwrap(), script)
    }

    pub fn start_on(listener: TcpListener, script: Vec<Then>) -> Self {
        Self::start_with(listener, script, serve)
    }

    /// Over TLS, with a certificate for `localhost` that nobody knows but who gets it from here.
    pub fn start_tls(script: Vec<Then>) -> (Self, CertificateDer<'static>) {
        let (config, certificate) = localhost();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let receiver = Self::start_with(listener, script, move |mut stream, step, requests| {
            let mut tls = ServerConnection::new(Arc::clone(&config)).unwrap();
            // Who does not trust the certificate goes away here.
            if tls.complete_io(&mut stream).is_ok() && !tls.is_handshaking() {
                serve(StreamOwned::new(tls, stream), step, requests);
            }
        });
        (receiver, certificate.der().clone())
    }

    fn start_with(
        listener: TcpListener,
        script: Vec<Then>,
        serve: impl Fn(TcpStream, Then, &mpsc::Sender<Request>) + Clone + Send + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let (send, requests) = mpsc::channel();
        std::thread::spawn(move || {
            for step in script {
                let (stream, _) = listener.accept().unwrap();
                let (serve, send) = (serve.clone(), send.clone());
                std::thread::spawn(move || serve(stream, step, &send));
            }
        });
        Receiver { address, requests }
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook?token=of-the-receiver", self.address)
    }

    #[track_caller]
    pub fn next(&self) -> Request {
        self.requests.recv_timeout(PATIENCE).unwrap()
    }
}

fn serve(stream: impl Read + Write, step: Then, requests: &mpsc::Sender<Request>) {
    let mut stream = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let line = lines.remove(0);
    let split =
        |line: &String| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
    let headers: Vec<_> = lines.iter().filter_map(split).collect();
    let length = headers.iter().find(|(name, _)| name == "content-length").unwrap().1.parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    requests.send(Request { line, headers, body }).unwrap();
    let mut answer = |status: &str, more: &str| {
        // The sender does not have to take it.
        let _ = stream.get_mut().write_all(format!("HTTP/1.1 {status}\r\n{more}").as_bytes());
        let _ = stream.get_mut().flush();
    };
    match step {
        Then::Close => {}
        Then::Answer(status) => answer(status, "content-length: 0\r\n\r\n"),
        Then::AnswerLong(status, bytes) => {
            answer(status, &format!("content-length: 99999999\r\n\r\n{}", "x".repeat(bytes)));
            // Until the sender has had enough.
            let _ = stream.read(&mut [0]);
        }
        Then::AnswerWhenTold(told) => {
            told.recv_timeout(PATIENCE).unwrap();
            answer("200 OK", "content-length: 0\r\n\r\n");
        }
    }
}

/// TLS as `localhost`, with a certificate that nobody knows but who gets it from here.
fn localhost() -> (Arc<ServerConfig>, rcgen::Certificate) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    (Arc::new(config), made.cert)
}

/// A mail server: answers what its script says to each `RCPT`, and keeps what it was told.
pub fn mail_server(recipients: Vec<&'static str>) -> (u16, mpsc::Receiver<Vec<String>>) {
    mail_listener(recipients, |stream, recipient| {
        let mut lines = Vec::new();
        converse(&mut BufReader::new(stream), ("220 mail.test", "250 mail.test"), recipient, &mut lines);
        lines
    })
}

/// What a mail server was told in one conversation.
#[derive(Debug, Default)]
pub struct Told {
    /// Before it was encrypted.
    pub plain: Vec<String>,
    pub sealed: Vec<String>,
}

/// A mail server that encrypts: from the first byte on, or once it is asked to. It is `localhost`, with this
/// certificate (PEM), and lets everybody sign in. So many conversations are kept.
pub fn mail_server_tls(starttls: bool, conversations: usize) -> (u16, String, mpsc::Receiver<Told>) {
    let (config, certificate) = localhost();
    let (port, told) = mail_listener(vec!["250 fine"; conversations], move |mut stream, recipient| {
        let mut told = Told::default();
        if starttls {
            let offered = ("220 mail.test", "250-mail.test\r\n250 STARTTLS");
            if !converse(&mut BufReader::new(&stream), offered, recipient, &mut told.plain) {
                return told;
            }
        }
        let mut tls = ServerConnection::new(Arc::clone(&config)).unwrap();
        // Who does not trust the certificate goes away here.
        if tls.complete_io(&mut stream).is_ok() && !tls.is_handshaking() {
            let mut stream = BufReader::new(StreamOwned::new(tls, stream));
            let greeting = if starttls { "" } else { "220 mail.test" };
            let offered = (greeting, "250-mail.test\r\n250 AUTH PLAIN");
            converse(&mut stream, offered, recipient, &mut told.sealed);
        }
        told
    });
    (port, certificate.pem(), told)
}

/// One connection after the other, one for each step of the script.
fn mail_listener<T: Send + 'static>(
    recipients: Vec<&'static str>,
    serve: impl Fn(TcpStream, &'static str) -> T + Send + 'static,
) -> (u16, mpsc::Receiver<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (send, conversations) = mpsc::channel();
    std::thread::spawn(move || {
        for recipient in recipients {
            let (stream, _) = listener.accept().unwrap();
            send.send(serve(stream, recipient)).unwrap();
        }
    });
    (port, conversations)
}

/// Speaks SMTP until the other side goes away; true: until it asks for TLS. Its own words: a greeting, unless it was
/// greeted before, and what `EHLO` is answered.
fn converse<S>(
    stream: &mut BufReader<S>,
    (greeting, hello): (&str, &str),
    recipient: &str,
    lines: &mut Vec<String>,
) -> bool
where
    S: Read + Write,
{
    let say = |stream: &mut BufReader<S>, text: &str| {
        let _ = stream.get_mut().write_all(format!("{text}\r\n").as_bytes());
        let _ = stream.get_mut().flush();
    };
    if !greeting.is_empty() {
        say(stream, greeting);
    }
    let mut in_data = false;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).unwrap_or(0) == 0 {
            return false;
        }
        let line = line.trim_end_matches("\r\n").to_owned();
        let word = line.split([' ', ':']).next().unwrap_or("").to_ascii_uppercase();
        lines.push(line.clone());
        match (in_data, word.as_str()) {
            (true, _) if line == "." => {
                in_data = false;
                say(stream, "250 kept");
            }
            (true, _) => {}
            (false, "EHLO") => say(stream, hello),
            (false, "STARTTLS") if hello.contains("STARTTLS") => {
                say(stream, "220 go on");
                return true;
            }
            (false, "AUTH") => say(stream, "235 welcome"),
            (false, "RCPT") => say(stream, recipient),
            (false, "DATA") => {
                in_data = true;
                say(stream, "354 go on");
            }
            (false, "QUIT") => say(stream, "221 bye"),
            (false, _) => say(stream, "250 fine"),
        }
    }
}
