//! A new connection: name look-up, TCP – to the origin, or through a tunnel of an HTTP proxy –, TLS.
//!
//! For: [`super::Upstreams`], when no pooled connection is there.
//! Promises: TCP_NODELAY; a dead address does not use up the time of the others; the negotiated
//! protocol is known. The time limit of the whole is the caller's.
//! Must never: fall back from TLS to plain text.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ClientConfig;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::address::is_public;

use super::error::ForwardError;
use super::target::{Address, Origin};

/// Most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;
/// Longest head of a proxy's answer, in bytes.
const TUNNEL_HEAD_BYTES_MAX: usize = 8 * 1_024;

/// A connected socket, encrypted or not.
pub(super) enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Connects to an origin. `limit`: the time that all addresses share; `public_only`: to an address of the public internet,
/// whatever its name resolves to.
pub(super) async fn connect(
    origin: &Origin,
    tls: &Arc<ClientConfig>,
    limit: Duration,
    public_only: bool,
) -> Result<Io, ForwardError> {
    let failed = |source| ForwardError::Connect { source };
    let tcp = match &origin.proxy {
        None => {
            let public_only = public_only || origin.public_only;
            connect_tcp(&origin.address, origin.port, limit, public_only).await.map_err(failed)?
        }
        Some(proxy) => {
            if let Address::Ip(ip) = origin.address
                && origin.public_only
                && !is_public(ip)
            {
                return Err(failed(not_public()));
            }
            let of_proxy = |why: io::Error| {
                failed(io::Error::new(why.kind(), format!("its proxy was not reached: {why}")))
            };
            let mut tcp =
                connect_tcp(&proxy.address, proxy.port, limit, public_only).await.map_err(of_proxy)?;
            tunnel(&mut tcp, origin).await.map_err(failed)?;
            tcp
        }
    };
    tcp.set_nodelay(true).map_err(|source| ForwardError::Connect { source })?;
    let Some(name) = &origin.tls_name else {
        return Ok(Io::Plain(tcp));
    };
    let stream = TlsConnector::from(Arc::clone(tls)).connect(name.clone(), tcp).await;
    Ok(Io::Tls(Box::new(stream.map_err(|source| ForwardError::Tls { source })?)))
}

/// Has a proxy open a tunnel to the origin (RFC 9110 section 9.3.6).
async fn tunnel(tcp: &mut TcpStream, origin: &Origin) -> io::Result<()> {
    let host = match &origin.address {
        Address::Ip(IpAddr::V6(ip)) => format!("[{ip}]"),
        Address::Ip(ip) => ip.to_string(),
        Address::Name(name) => name.clone(),
    };
    let to = format!("{host}:{}", origin.port);
    tcp.write_all(format!("CONNECT {to} HTTP/1.1\r\nhost: {to}\r\n\r\n").as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == TUNNEL_HEAD_BYTES_MAX {
            return Err(io::Error::other("the proxy's answer has no end"));
        }
        // Byte by byte: what comes behind the head belongs to the origin.
        head.push(tcp.read_u8().await?);
    }
    // HTTP/1.1 200 …
    let status = head.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()).unwrap_or_default();
    match head.starts_with(b"HTTP/1.") && status.starts_with('2') {
        true => Ok(()),
        false => Err(io::Error::other(format!("the proxy opened no tunnel and answered with {status:?}"))),
    }
}

fn not_public() -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, "the address is not on the public internet")
}

async fn connect_tcp(
    address: &Address,
    port: u16,
    limit: Duration,
    public_only: bool,
) -> io::Result<TcpStream> {
    let may_call = |ip: IpAddr| !public_only || is_public(ip);
    let name = match address {
        Address::Ip(ip) if !may_call(*ip) => return Err(not_public()),
        Address::Ip(ip) => return TcpStream::connect((*ip, port)).await,
        Address::Name(name) => name,
    };
    let began = Instant::now();
    let addresses: Vec<SocketAddr> = lookup_host((name.as_str(), port)).await?.take(ADDRESSES_MAX).collect();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for (at, address) in addresses.iter().enumerate() {
        if !may_call(address.ip()) {
            last = not_public();
            continue;
        }
        // An equal share of what is left: a black hole (often IPv6) must not starve the rest.
        let others = u32::try_from(addresses.len() - at).unwrap_or(1).max(1);
        let share = limit.saturating_sub(began.elapsed()) / others;
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => return Ok(tcp),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, "an address did not answer"),
        }
    }
    Err(last)
}

impl Io {
    /// Whether the peer chose HTTP/2.
    pub fn speaks_http2(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }

    /// Whether an idle connection is still usable: nothing to read, no end. `ask_kernel`: look
    /// into the socket itself, not only at what the runtime has been told so far.
    pub fn is_quiet(&self, ask_kernel: bool) -> bool {
        let tcp = match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(stream) => stream.get_ref().0,
        };
        let read = if ask_kernel {
            SockRef::from(tcp).peek(&mut [MaybeUninit::uninit()])
        } else {
            tcp.try_read(&mut [0])
        };
        matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}
