//! A notice as a mail, over SMTP.
//!
//! Promises: encrypted as the setting says, with the server's certificate verified by the system's authorities; a
//! mail that is sent again has the same Message-ID, so that a reader's program can tell.
//! Must never: fall back to plain text, or send a password over it.

use std::fmt;
use std::time::{Duration, SystemTime};

use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{Address, SmtpTransport, Transport};

use crate::catalogue::{Language, rfc3339};
use crate::config::{Mail, MailTls};

use super::stored::Notice;

/// Of each step of the conversation with the server.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// Why mail cannot be sent at all, or one mail was not.
#[derive(Debug)]
pub enum MailError {
    /// `mail.from` is no address.
    From(lettre::address::AddressError),
    /// The address of an endpoint is none for this library.
    To(lettre::address::AddressError),
    Message(lettre::error::Error),
    Smtp(lettre::transport::smtp::Error),
}

impl fmt::Display for MailError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::From(why) => write!(f, "mail.from: {why}"),
            Self::To(why) => write!(f, "the address cannot be used: {why}"),
            Self::Message(why) => write!(f, "the mail cannot be written: {why}"),
            Self::Smtp(why) => write!(f, "{why}"),
        }
    }
}

impl std::error::Error for MailError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::From(why) | Self::To(why) => Some(why),
            Self::Message(why) => Some(why),
            Self::Smtp(why) => Some(why),
        }
    }
}

/// The way to the mail server.
pub(super) struct Mailer {
    from: Mailbox,
    transport: SmtpTransport,
}

impl Mailer {
    /// `None` if no mail is configured.
    pub fn new(mail: &Mail) -> Result<Option<Self>, MailError> {
        let (Some(host), Some(from)) = (&mail.host, &mail.from) else { return Ok(None) };
        let parameters = || TlsParameters::new(host.clone()).map_err(MailError::Smtp);
        let tls = match mail.tls {
            MailTls::None => Tls::None,
            MailTls::Starttls => Tls::Required(parameters()?),
            MailTls::Tls => Tls::Wrapper(parameters()?),
        };
        let mut transport = SmtpTransport::builder_dangerous(host.clone())
            .port(mail.port)
            .tls(tls)
            .timeout(Some(STEP_TIMEOUT));
        if let (Some(user), Some(password)) = (&mail.user, &mail.password) {
            transport = transport.credentials(Credentials::new(user.clone(), password.expose().to_owned()));
        }
        let from = from.parse().map_err(MailError::From)?;
        Ok(Some(Mailer { from, transport: transport.build() }))
    }

    /// One attempt. Blocks.
    pub fn send(&self, notice: &Notice, address: &str, language: Language) -> Result<(), MailError> {
        let message = self.message(notice, address, language)?;
        self.transport.send(&message).map(drop).map_err(MailError::Smtp)
    }

    fn message(&self, notice: &Notice, address: &str, language: Language) -> Result<Message, MailError> {
        let to: Address = address.parse().map_err(MailError::To)?;
        let words = notice.words(language);
        let at = u64::try_from(notice.at_ms).unwrap_or(0);
        // RFC 3834: nobody's holiday message answers to this.
        let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
        Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(&words.title)
            .date(SystemTime::UNIX_EPOCH + Duration::from_millis(at))
            .message_id(Some(format!("<{}@{}>", notice.id, self.from.email.domain())))
            .raw_header(HeaderValue::new(automatic, "auto-generated".to_owned()))
            .header(ContentType::TEXT_PLAIN)
            .body(body(notice, &words.text, language))
            .map_err(MailError::Message)
    }
}

fn body(notice: &Notice, text: &str, language: Language) -> String {
    let [at, event, id] = match language {
        Language::En => ["Time", "Event", "Notice"],
        Language::Zh => ["时间", "事件", "通知编号"],
    };
    let time = rfc3339(notice.at_ms);
    format!("{text}\n\n{at}: {time}\n{event}: {}\n{id}: {}\n", notice.event, notice.id)
}
