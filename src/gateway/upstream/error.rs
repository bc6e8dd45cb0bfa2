//! What can go wrong between the gateway and an upstream.
//!
//! For: the one error type of [`super`], made so that the step that deals with money can ask the
//! one question that matters to it: may the upstream have seen this call?
//! Promises: [`ForwardError::sent`] is `false` only if the upstream cannot have received a whole
//! request; in doubt it is `true`. No text of a call (header, body, key) is in an error.
//! Must never: carry request or answer content.

use std::error::Error;
use std::fmt;
use std::io;

/// The part of a call that a time-out ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Name look-up, TCP and TLS.
    Connect,
    /// Handing the request over: the upstream does not read.
    Write,
    /// From the end of the request to the end of the answer's head.
    Head,
}

/// Why a call did not bring an answer, or why its answer broke off.
#[derive(Debug)]
pub enum ForwardError {
    /// The call itself cannot be written as HTTP (a path with a blank, for example).
    Unsendable(&'static str),
    /// The name did not resolve, or no address took the connection.
    Connect { source: io::Error },
    /// The TLS handshake failed: certificate, name, version.
    Tls { source: io::Error },
    /// A time-out of [`super::Settings`] passed.
    Timeout { phase: Phase },
    /// The upstream closed the connection before its answer was whole.
    Closed { sent: bool },
    /// The upstream's answer breaks HTTP, or a limit of this module.
    Protocol(&'static str),
    /// The connection failed in another way.
    Io { sent: bool, source: io::Error },
    /// An HTTP/2 connection or stream failed.
    Http2 { sent: bool, source: hyper::Error },
}

impl ForwardError {
    /// Whether the upstream may have received the whole request, and so may be working on it and
    /// may bill it.
    #[must_use]
    pub fn sent(&self) -> bool {
        match self {
            Self::Unsendable(_) | Self::Connect { .. } | Self::Tls { .. } => false,
            Self::Timeout { phase } => *phase == Phase::Head,
            Self::Closed { sent } | Self::Io { sent, .. } | Self::Http2 { sent, .. } => *sent,
            Self::Protocol(_) => true,
        }
    }

    /// A failed read or write, told apart from a peer that merely went away.
    pub(super) fn from_io(source: io::Error, sent: bool) -> Self {
        use io::ErrorKind as Kind;
        match source.kind() {
            Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::BrokenPipe
            | Kind::NotConnected
            | Kind::UnexpectedEof
            | Kind::WriteZero => Self::Closed { sent },
            _ => Self::Io { sent, source },
        }
    }
}

impl fmt::Display for ForwardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsendable(why) => write!(f, "the call cannot be sent: {why}"),
            Self::Connect { source } => write!(f, "no connection to the upstream: {source}"),
            Self::Tls { source } => write!(f, "TLS with the upstream failed: {source}"),
            Self::Timeout { phase: Phase::Connect } => {
                f.write_str("connecting to the upstream took too long")
            }
            Self::Timeout { phase: Phase::Write } => {
                f.write_str("the upstream did not take the request in time")
            }
            Self::Timeout { phase: Phase::Head } => {
                f.write_str("the upstream did not begin to answer in time")
            }
            Self::Closed { sent: false } => {
                f.write_str("the upstream closed before it had the whole request")
            }
            Self::Closed { sent: true } => f.write_str("the upstream closed before its answer was whole"),
            Self::Protocol(why) => write!(f, "the upstream's answer is not usable: {why}"),
            Self::Io { source, .. } => write!(f, "the connection to the upstream failed: {source}"),
            Self::Http2 { source, .. } => write!(f, "HTTP/2 with the upstream failed: {source}"),
        }
    }
}

impl Error for ForwardError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Connect { source } | Self::Tls { source } | Self::Io { source, .. } => Some(source),
            Self::Http2 { source, .. } => Some(source),
            Self::Unsendable(_) | Self::Timeout { .. } | Self::Closed { .. } | Self::Protocol(_) => None,
        }
    }
}
