//! The bytes of an HTTP/1.1 request.
//!
//! For: [`super::h1`] and the checks that both protocols share.
//! Promises: one head, written in one go into a buffer that is used again; nothing in a header, a
//! path or a method can break out of its line. Headers that steer a connection are this module's
//! own: those of the caller are left out.
//! Must never: send two framings of one body.

use std::io::Write;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};

use super::error::ForwardError;
use super::target::Target;

/// Longest path with its query, in bytes, without the target's prefix.
pub const PATH_BYTES_MAX: usize = 8 * 1_024;

/// One call to an upstream.
#[derive(Clone)]
pub struct Call<'a> {
    pub target: &'a Target,
    pub method: Method,
    /// Begins with `/`; appended to the path of the target's base URL. May have a query.
    pub path: &'a str,
    /// What goes upstream beside Host and Content-Length. Connection, Host, Content-Length,
    /// Transfer-Encoding and their like are left out if they are in here.
    pub headers: &'a [(HeaderName, HeaderValue)],
    pub body: Bytes,
}

impl Call<'_> {
    /// Refuses what would not be one request on the wire.
    pub(super) fn check(&self) -> Result<(), ForwardError> {
        if !self.path.starts_with('/') || self.path.len() > PATH_BYTES_MAX {
            return Err(ForwardError::Unsendable("a path begins with a slash and is not longer than 8 KiB"));
        }
        if !self.path.bytes().all(|byte| matches!(byte, b'!'..=b'~') && byte != b'#') {
            return Err(ForwardError::Unsendable("a path is visible ASCII without a fragment"));
        }
        if self.method == Method::CONNECT {
            return Err(ForwardError::Unsendable("CONNECT is not a call"));
        }
        Ok(())
    }

    /// Whether sending it twice has the effect of sending it once (RFC 9110 section 9.2.2).
    pub(super) fn is_idempotent(&self) -> bool {
        self.method.is_idempotent()
    }

    /// Writes the head, blank line included, behind what is in `out`.
    pub(super) fn write_head(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.method.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.target.prefix.as_bytes());
        out.extend_from_slice(self.path.as_bytes());
        out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
        out.extend_from_slice(self.target.origin.authority.as_bytes());
        out.extend_from_slice(b"\r\n");
        for (name, value) in self.headers {
            if is_ours(name) {
                continue;
            }
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        if !self.body.is_empty() || !matches!(self.method, Method::GET | Method::HEAD | Method::DELETE) {
            // Writing into a Vec cannot fail.
            let _ = write!(out, "content-length: {}\r\n", self.body.len());
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// Headers that belong to the connection, not to the call (RFC 9110 section 7.6.1).
pub(super) fn is_ours(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "host"
            | "connection"
            | "content-length"
            | "transfer-encoding"
            | "te"
            | "trailer"
            | "upgrade"
            | "expect"
            | "keep-alive"
            | "proxy-connection"
            | "http2-settings"
    )
}

#[cfg(test)]
mod tests {
    use http::header;

    use super::*;

    #[test]
    fn a_head_is_written_with_its_own_framing_only() {
        let target = Target::parse("http://upstream.test:8080/openai/").unwrap();
        let headers = [
            (header::AUTHORIZATION, HeaderValue::from_static("Bearer x")),
            (header::CONTENT_LENGTH, HeaderValue::from_static("99")),
            (header::TRANSFER_ENCODING, HeaderValue::from_static("chunked")),
            (header::HOST, HeaderValue::from_static("elsewhere")),
            (header::CONNECTION, HeaderValue::from_static("close")),
        ];
        let body = Bytes::from_static(b"{}");
        let call =
            Call { target: &target, method: Method::POST, path: "/v1/chat?a=1", headers: &headers, body };
        call.check().unwrap();
        let mut out = Vec::new();
        call.write_head(&mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "POST /openai/v1/chat?a=1 HTTP/1.1\r\nhost: upstream.test:8080\r\n\
             authorization: Bearer x\r\ncontent-length: 2\r\n\r\n"
        );
    }

    #[test]
    fn a_path_cannot_break_out_of_its_line() {
        let target = Target::parse("http://a").unwrap();
        for path in ["", "v1", "/a b", "/a\r\nx: y", "/a\n", "/ä", "/a#b", "/\u{7f}"] {
            let call = Call { target: &target, method: Method::GET, path, headers: &[], body: Bytes::new() };
            assert!(!call.check().unwrap_err().sent(), "{path:?}");
        }
    }
}
