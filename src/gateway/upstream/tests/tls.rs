use std::rc::Rc;

use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::CertifiedKey;
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

use super::*;

/// A certificate for `localhost` that nobody else trusts.
struct Identity {
    root: CertificateDer<'static>,
    acceptor: TlsAcceptor,
}

fn identity(protocols: &[&str]) -> Identity {
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let root = cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![root.clone()], key.into())
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Identity { root, acceptor: TlsAcceptor::from(Arc::new(config)) }
}

async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let version = request.version();
    let host = request.uri().authority().map(ToString::to_string);
    let body = request.into_body().collect().await?.to_bytes();
    let answer = Response::builder()
        .header("x-version", format!("{version:?}"))
        .header("x-authority", host.unwrap_or_default());
    Ok(answer.body(Full::new(body)).unwrap())
}

/// Serves HTTP/2 or HTTP/1.1, as negotiated; counts connections.
async fn serve(listener: &TcpListener, acceptor: &TlsAcceptor, accepted: &Cell<u32>) {
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        accepted.set(accepted.get() + 1);
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(tcp).await else { return };
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let io = TokioIo::new(stream);
            let _ = if http2 {
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(io, service_fn(echo))
                    .await
            } else {
                hyper::server::conn::http1::Builder::new().serve_connection(io, service_fn(echo)).await
            };
        });
    }
}

fn https(address: SocketAddr) -> Target {
    Target::parse(&format!("https://localhost:{}/v1", address.port())).unwrap()
}

/// Runs `calls` against a server that speaks these protocols; returns how many connections it took.
async fn against<F: Future<Output = ()>>(
    protocols: &[&str],
    trusted: bool,
    calls: impl FnOnce(Rc<Upstreams>, Target) -> F,
) -> u32 {
    let identity = identity(protocols);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = https(listener.local_addr().unwrap());
    let tls = Tls::with_roots(if trusted { vec![identity.root] } else { Vec::new() }).unwrap();
    let client = Rc::new(Upstreams::new(Settings::default(), &tls));
    let accepted = Cell::new(0);
    tokio::select! {
        biased;
        () = calls(client, target) => {}
        () = serve(&listener, &identity.acceptor, &accepted) => {}
    }
    accepted.get()
}

#[tokio::test]
async fn calls_share_one_http2_connection() {
    let connections = against(&["h2", "http/1.1"], true, |client, target| async move {
        // Together from the start, before a connection is there.
        let many = (0..20).map(|_| async {
            let answer = client.send(post(&target, "/chat/completions")).await.unwrap();
            assert_eq!(answer.protocol, Protocol::Http2);
            assert_eq!(answer.headers.text("x-version"), Some(format!("{:?}", Version::HTTP_2).as_str()));
            assert_eq!(answer.headers.text("X-Authority"), Some(target.origin.authority.as_str()));
            read_all(answer.body).await.unwrap()
        });
        for body in futures_util::future::join_all(many).await {
            assert_eq!(body, BODY);
        }
        assert_eq!(client.connections(), (0, 1));
    })
    .await;
    assert_eq!(connections, 1);
}

/// Answers each call, and says farewell with it.
async fn serve_once_each(listener: &TcpListener, acceptor: &TlsAcceptor) {
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        let stream = acceptor.accept(tcp).await.unwrap();
        tokio::spawn(async move {
            let mut connection = ::h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_request, mut respond))) = connection.accept().await {
                let mut body = respond.send_response(Response::new(()), false).unwrap();
                body.send_data(Bytes::from_static(b"once"), true).unwrap();
                connection.graceful_shutdown();
            }
        });
    }
}

#[tokio::test]
async fn an_upstream_that_retires_its_connections_loses_no_call() {
    let identity = identity(&["h2"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = https(listener.local_addr().unwrap());
    let client = Upstreams::new(Settings::default(), &Tls::with_roots(vec![identity.root]).unwrap());
    let calls = async {
        for _ in 0..50 {
            let answer = client.send(post(&target, "/x")).await.unwrap();
            assert_eq!(read_all(answer.body).await.unwrap(), "once");
        }
        assert!(client.connections().1 <= 2, "retired connections are let go: {client:?}");
    };
    tokio::select! {
        biased;
        () = calls => {}
        () = serve_once_each(&listener, &identity.acceptor) => {}
    }
}

#[tokio::test]
async fn an_upstream_without_http2_is_spoken_to_in_http1() {
    let connections = against(&["http/1.1"], true, |client, target| async move {
        for at in 0..5 {
            let answer = client.send(post(&target, "/x")).await.unwrap();
            assert_eq!((answer.protocol, answer.reused), (Protocol::Http1, at > 0));
            assert_eq!(read_all(answer.body).await.unwrap(), BODY);
        }
    })
    .await;
    assert_eq!(connections, 1);
}

#[tokio::test]
async fn a_large_body_comes_through_both_protocols() {
    for protocols in [&["h2"][..], &["http/1.1"][..]] {
        against(protocols, true, |client, target| async move {
            let body = Bytes::from((0..2_000_000_u32).map(|at| at as u8).collect::<Vec<u8>>());
            let call = Call { body: body.clone(), ..post(&target, "/x") };
            let mut answer = client.send(call.clone()).await.unwrap();
            assert_eq!(answer.body.collect(4_000_000).await.unwrap(), Collected::Whole(body.clone()));
            let answer = client.send(call).await.unwrap();
            assert_eq!(read_all(answer.body).await.unwrap(), body);
        })
        .await;
    }
}

#[tokio::test]
async fn a_dropped_http2_answer_leaves_the_connection_to_the_others() {
    let connections = against(&["h2"], true, |client, target| async move {
        let large = Call { body: Bytes::from(vec![b'x'; 3_000_000]), ..post(&target, "/x") };
        drop(client.send(large).await.unwrap());
        let answer = client.send(post(&target, "/x")).await.unwrap();
        assert!(answer.reused);
        assert_eq!(read_all(answer.body).await.unwrap(), BODY);
    })
    .await;
    assert_eq!(connections, 1);
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_refused() {
    against(&["h2"], false, |client, target| async move {
        let error = client.send(post(&target, "/x")).await.unwrap_err();
        assert!(matches!(error, ForwardError::Tls { .. }), "{error:?}");
        assert!(!error.sent());
    })
    .await;
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    against(&["h2"], true, |client, target| async move {
        let address = target.origin.key.replace("localhost", "127.0.0.1");
        let error = client.send(post(&Target::parse(&address).unwrap(), "/x")).await.unwrap_err();
        assert!(matches!(error, ForwardError::Tls { .. }), "{error:?}");
    })
    .await;
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = https(listener.local_addr().unwrap());
    let client = upstreams(quick());
    let error = client.send(post(&target, "/x")).await.unwrap_err();
    assert!(matches!(error, ForwardError::Timeout { phase: Phase::Connect }), "{error:?}");
    assert!(!error.sent());
}

#[test]
fn roots_come_from_a_pem_file() {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("roots.pem");
    std::fs::write(&path, certified.cert.pem()).unwrap();
    assert!(Tls::new(Some(&path)).is_ok());
    std::fs::write(&path, "no certificate").unwrap();
    assert!(matches!(Tls::new(Some(&path)), Err(TlsSetupError::Empty)));
    assert!(matches!(Tls::new(Some(&dir.path().join("absent"))), Err(TlsSetupError::Pem(_))));
}
