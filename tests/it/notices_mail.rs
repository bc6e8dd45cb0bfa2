//! Mail through a server that encrypts and wants a password.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tallygate::clock::ManualClock;
use tallygate::config::{Mail, MailTls};
use tallygate::notices::State;
use tallygate::secret::Secret;

use crate::notices::{Node, frozen, mail_at};
use crate::support::app::NOW_MS;
use crate::support::backend::Backend;
use crate::support::child::{child, given};
use crate::support::receiver::mail_server_tls;

/// Nobody is waited for longer.
const PATIENCE: Duration = Duration::from_secs(60);
const PASSWORD: &str = "mail-password-of-the-tests";

/// I3, D4: encrypted by STARTTLS or from the first byte on. The certificate must be vouched for by the system's
/// authorities and carry the server's name, else nothing is said but what asks for encryption; the password goes behind
/// it alone.
#[test]
fn i3_mail_goes_encrypted_to_a_server_that_is_trusted_and_to_no_other() {
    for (tls, opening) in [("starttls", &["EHLO", "STARTTLS"][..]), ("tls", &[])] {
        let (port, certificate, told) = mail_server_tls(tls == "starttls", 3);
        let folder = tempfile::tempdir().unwrap();
        let [file, other] = ["server.pem", "other.pem"].map(|name| folder.path().join(name));
        std::fs::write(&file, certificate).unwrap();
        let stranger = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&other, stranger.cert.pem()).unwrap();
        // The one authority that the system of the gateway knows is in this file.
        let sends = |host: &str, trusted: &Path| {
            let mut process = child("notices_mail::child_sends_a_mail");
            process.env("MAIL_HOST", host).env("MAIL_PORT", port.to_string()).env("MAIL_TLS", tls);
            process.env("SSL_CERT_FILE", trusted).env_remove("SSL_CERT_DIR");
            process.stdout(Stdio::piped()).stderr(Stdio::piped());
            let done = process.output().unwrap();
            let said = String::from_utf8_lossy(&done.stdout).into_owned();
            assert!(!said.contains(PASSWORD), "{said}");
            let heard = told.recv_timeout(PATIENCE).unwrap();
            let plain: Vec<_> = heard.plain.iter().map(|line| line.split(' ').next().unwrap()).collect();
            assert_eq!(plain, opening, "{heard:#?}");
            (said, heard.sealed)
        };
        let (said, sealed) = sends("localhost", &file);
        assert!(said.contains("mail: Delivered None"), "{said}");
        let at = |begin: &str| sealed.iter().position(|line| line.starts_with(begin));
        let order = ["EHLO", "AUTH PLAIN ", "MAIL FROM:<no-reply@gateway.test>", "RCPT TO:<ops@example.com>"];
        let order = order.map(|begin| at(begin).unwrap_or_else(|| panic!("no {begin}: {sealed:#?}")));
        assert!(order.is_sorted() && at("Subject: ").is_some(), "{sealed:#?}");
        for (host, trusted) in [("localhost", &other), ("127.0.0.1", &file)] {
            let (said, sealed) = sends(host, trusted);
            assert!(said.contains("mail: Failed") && said.contains("certificate"), "{said}");
            assert_eq!(sealed, [] as [String; 0]);
        }
    }
}

#[test]
#[ignore = "run by the test above, which decides what its system trusts"]
fn child_sends_a_mail() {
    let backend = Backend::embedded();
    let (stores, clock) = (backend.open(), Arc::new(ManualClock::new(NOW_MS)));
    let tls = if given("MAIL_TLS") == "tls" { MailTls::Tls } else { MailTls::Starttls };
    let mail = Mail {
        host: Some(given("MAIL_HOST")),
        user: Some("mailer".to_owned()),
        password: Some(Secret::new(PASSWORD)),
        ..mail_at(given("MAIL_PORT").parse().unwrap(), tls)
    };
    let node = Node::new(&stores, &clock, mail);
    node.webhook_with(None, "ops@example.com", &|_| {});
    let notice = node.notices.post(frozen(None)).unwrap();
    node.notices.round(&node.sender()).unwrap();
    let sent = node.sent(notice).remove(0);
    assert!(matches!(sent.state, State::Delivered | State::Failed));
    println!("mail: {:?} {:?}", sent.state, sent.last_error);
}
