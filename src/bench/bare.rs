//! A reverse proxy in Rust that does nothing but proxy: what a gateway costs before it gates.
//!
//! It is a row of the benchmark beside nginx, and the floor that the gateway's own cost is read
//! against. One thread, hyper on both sides, a pool of kept connections, bodies passed through.
//! Never: it checks, counts or writes nothing.

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::net::{TcpListener, TcpStream};

type Connection = SendRequest<Incoming>;

struct Pool {
    upstream: SocketAddr,
    host: HeaderValue,
    idle: RefCell<Vec<Connection>>,
}

/// The answer's body; at its end the connection goes back to the pool.
struct Answer {
    /// None in the answer of a proxy that did not reach its upstream.
    body: Option<Incoming>,
    lent: Option<(Connection, Rc<Pool>)>,
}

/// Serves until the process is ended.
pub fn run(listen: SocketAddr, upstream: SocketAddr) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let host = HeaderValue::from_str(&upstream.to_string()).map_err(io::Error::other)?;
    let pool = Rc::new(Pool { upstream, host, idle: RefCell::default() });
    tokio::task::LocalSet::new().block_on(&runtime, async move {
        let listener = TcpListener::bind(listen).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::task::spawn_local(serve(stream, Rc::clone(&pool)));
        }
    })
}

async fn serve(stream: TcpStream, pool: Rc<Pool>) {
    let service = service_fn(move |request| {
        let pool = Rc::clone(&pool);
        async move { Ok::<_, Infallible>(forward(request, pool).await) }
    });
    let mut builder = Builder::new();
    builder.timer(TokioTimer::new());
    // A client that breaks off is no error of a proxy.
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

async fn forward(mut request: Request<Incoming>, pool: Rc<Pool>) -> Response<Answer> {
    request.headers_mut().insert(HOST, pool.host.clone());
    match exchange(request, &pool).await {
        Ok((response, connection)) => {
            response.map(|body| Answer { body: Some(body), lent: Some((connection, pool)) })
        }
        Err(_) => {
            let mut response = Response::new(Answer { body: None, lent: None });
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        }
    }
}

async fn exchange(request: Request<Incoming>, pool: &Pool) -> io::Result<(Response<Incoming>, Connection)> {
    let mut connection = pool.take().await?;
    let response = connection.send_request(request).await.map_err(io::Error::other)?;
    Ok((response, connection))
}

impl Pool {
    async fn take(&self) -> io::Result<Connection> {
        loop {
            let Some(mut connection) = self.idle.borrow_mut().pop() else { break };
            if connection.ready().await.is_ok() {
                return Ok(connection);
            }
        }
        let stream = TcpStream::connect(self.upstream).await?;
        stream.set_nodelay(true)?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
        let (connection, driver) = handshake.await.map_err(io::Error::other)?;
        tokio::task::spawn_local(async move { drop(driver.await) });
        Ok(connection)
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.body.as_mut().map_or(Poll::Ready(None), |body| Pin::new(body).poll_frame(context))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some((connection, pool)) = self.lent.take() {
            pool.idle.borrow_mut().push(connection);
        }
    }
}
