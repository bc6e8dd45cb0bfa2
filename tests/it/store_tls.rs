//! TLS towards PostgreSQL: used when asked for, and never without verifying who answers.

use crate::support::backend::Backend;
use crate::support::child::child;
use crate::support::postgres::socket;
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls_pki_types::PrivateKeyDer;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio_rustls::TlsAcceptor;

/// What a client sends before TLS: length 8, code 80877103 (PostgreSQL's protocol, "SSLRequest").
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// Speaks PostgreSQL's TLS in front of the test server. Returns the port and counts sessions.
fn tls_front(identity: &CertifiedKey<KeyPair>) -> (u16, Arc<AtomicU32>) {
    let certs = vec![identity.cert.der().clone()];
    let key = PrivateKeyDer::try_from(identity.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certs, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let sessions = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&sessions);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            listener.set_nonblocking(true).unwrap();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(session(client, acceptor.clone(), Arc::clone(&counted)));
            }
        });
    });
    (port, sessions)
}

async fn session(mut client: tokio::net::TcpStream, acceptor: TlsAcceptor, sessions: Arc<AtomicU32>) {
    let mut asked = [0; 8];
    client.read_exact(&mut asked).await.unwrap();
    assert_eq!(asked, SSL_REQUEST, "the client began in the clear");
    client.write_all(b"S").await.unwrap();
    let Ok(mut client) = acceptor.accept(client).await else { return };
    sessions.fetch_add(1, Ordering::SeqCst);
    let mut server = tokio::net::UnixStream::connect(socket()).await.unwrap();
    let _ = copy_bidirectional(&mut client, &mut server).await;
}

#[test]
fn a_server_is_spoken_to_in_tls_only_if_its_certificate_and_name_are_right() {
    let backend = Backend::postgres();
    let database = backend.url().unwrap().expose().rsplit('/').next().unwrap().to_owned();
    let identity = generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let trusted = backend.folder().join("cert.pem");
    std::fs::write(&trusted, identity.cert.pem()).unwrap();
    let (port, sessions) = tls_front(&identity);
    let opens = |host: &str, trusted: Option<&Path>| {
        let url = format!("postgres://postgres@{host}:{port}/{database}?sslmode=require");
        let mut process = child("store::child_opens_the_store");
        process.env("STORE_URL", url).env_remove("SSL_CERT_FILE").stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(file) = trusted {
            process.env("SSL_CERT_FILE", file);
        }
        process.status().unwrap().success()
    };
    assert!(opens("localhost", Some(&trusted)));
    let used = sessions.load(Ordering::SeqCst);
    assert!(used > 0);
    assert!(!opens("localhost", None), "a certificate that nobody vouches for");
    assert!(!opens("127.0.0.1", Some(&trusted)), "a certificate for another name");
}
