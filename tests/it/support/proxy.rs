//! A connection that breaks when told to: a TCP proxy in front of the PostgreSQL test server.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// What happens to the next message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Next {
    Passes = 0,
    /// The server does not get it; the connection is cut.
    RequestIsLost = 1,
    /// The server does what was asked; its answer is lost with the connection.
    AnswerIsLost = 2,
}

pub struct Proxy {
    port: u16,
    next: Arc<AtomicU8>,
    cuts: Arc<AtomicU32>,
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1; its threads end with their connections.
    pub fn to(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let next = Arc::new(AtomicU8::new(Next::Passes as u8));
        let cuts = Arc::new(AtomicU32::new(0));
        let shared = (Arc::clone(&next), Arc::clone(&cuts));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = UnixStream::connect(&socket).unwrap();
                let (next, cuts) = (Arc::clone(&shared.0), Arc::clone(&shared.1));
                pass_both_ways(client, server, next, cuts);
            }
        });
        Self { port, next, cuts }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn set_next(&self, next: Next) {
        self.next.store(next as u8, Ordering::SeqCst);
    }

    /// How many connections were cut.
    pub fn cuts(&self) -> u32 {
        self.cuts.load(Ordering::SeqCst)
    }
}

fn pass_both_ways(client: TcpStream, server: UnixStream, next: Arc<AtomicU8>, cuts: Arc<AtomicU32>) {
    client.set_nodelay(true).unwrap();
    let (client_back, server_back) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let (next_back, cuts_back) = (Arc::clone(&next), Arc::clone(&cuts));
    std::thread::spawn(move || pass(client, server, Next::RequestIsLost, &next, &cuts));
    std::thread::spawn(move || pass(server_back, client_back, Next::AnswerIsLost, &next_back, &cuts_back));
}

/// Copies until the end, or until `cut_at` is asked for: then both ways end, once.
fn pass<F: Stream, T: Stream>(mut from: F, mut to: T, cut_at: Next, next: &AtomicU8, cuts: &AtomicU32) {
    let mut buffer = [0; 65_536];
    while let Ok(bytes @ 1..) = from.read(&mut buffer) {
        let asked =
            next.compare_exchange(cut_at as u8, Next::Passes as u8, Ordering::SeqCst, Ordering::SeqCst);
        if asked.is_ok() {
            cuts.fetch_add(1, Ordering::SeqCst);
            break;
        }
        if to.write_all(&buffer[..bytes]).is_err() {
            break;
        }
    }
    from.end();
    to.end();
}

trait Stream: Read + Write {
    fn end(&self);
}

impl Stream for TcpStream {
    fn end(&self) {
        let _ = self.shutdown(Shutdown::Both);
    }
}

impl Stream for UnixStream {
    fn end(&self) {
        let _ = self.shutdown(Shutdown::Both);
    }
}
