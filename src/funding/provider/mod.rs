//! What every payment provider can do, whatever its protocol.
//!
//! Reading a callback is pure: the raw bytes and the time go in, an [`Event`] or a [`Rejection`] comes out. Whether the
//! event fits the order – its provider, number, amount, currency – is decided in one place for all of them
//! ([`super::callback`]).

mod alipay;
mod epay;
pub mod rsa;
mod stripe;
mod transfer;
pub mod wechat;

use std::fmt;

use http::Method;
use ledger::Nano;

use super::order::{DisputeStage, Order, Refund};
use super::settings::Links;
use crate::http_client::{HttpClient, HttpError};
use crate::id::OrderId;

pub use alipay::{Alipay, signed_text as alipay_text};
pub use epay::{Epay, signature as epay_signature};
pub use stripe::{Stripe, sign as stripe_signature};
pub use transfer::Transfer;
pub use wechat::Wechat;

/// Names of all of them, set up or not.
pub const NAMES: [&str; 5] = ["alipay", "epay", "stripe", "transfer", "wechat"];

/// See the module. Calls to the provider block.
pub trait PaymentProvider: Send + Sync {
    /// As orders and the addresses of callbacks name it.
    fn name(&self) -> &'static str;

    /// The one currency that it takes; `None`: whatever there is a rate for.
    fn currency(&self) -> Option<&str> {
        None
    }

    /// Ways to pay there; `None`: whatever name it has for one.
    fn methods(&self) -> Option<&'static [&'static str]> {
        None
    }

    /// Makes the payment of a new order. Asked twice for one order, it makes one.
    fn create(&self, http: &HttpClient, order: &Order, links: &Links) -> Result<Payment, ProviderError>;

    /// Reads a callback and checks that the provider sent it, to this merchant.
    fn read(&self, callback: &Callback, now_ms: i64) -> Result<Event, Rejection>;

    /// Asks what became of an order.
    fn query(&self, http: &HttpClient, order: &Order) -> Result<Answer, ProviderError>;

    /// The order that a callback names. Anybody can write that: for the timeline alone.
    fn named_order(&self, callback: &Callback) -> Option<OrderId> {
        let _names_none = callback;
        None
    }

    /// Sends money back. An error that is not final leaves it open whether it was sent.
    fn refund(
        &self,
        http: &HttpClient,
        order: &Order,
        refund: &Refund,
    ) -> Result<RefundAnswer, ProviderError>;

    /// What became of a refund that it may have been asked for. `None`: it has not heard of it, and can be asked to
    /// send it without sending it twice.
    fn ask_refund(
        &self,
        http: &HttpClient,
        order: &Order,
        refund: &Refund,
    ) -> Result<Option<RefundAnswer>, ProviderError> {
        let _not_asked = (http, order, refund);
        Err(ProviderError::Unsupported("whether the provider sent it is to be seen at the provider"))
    }

    /// Whether [`PaymentProvider::ask_refund`] answers.
    fn refunds_can_be_asked_about(&self) -> bool {
        true
    }

    /// Asks something harmless, to see that the keys are right.
    fn check(&self, http: &HttpClient) -> Result<(), ProviderError>;

    /// Whether it ever calls back.
    fn calls_back(&self) -> bool {
        true
    }

    /// What a callback that was taken is answered with.
    fn thanks(&self) -> &'static str;
}

/// Where a payer goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payment {
    pub provider_ref: Option<Box<str>>,
    pub payment_ref: Option<Box<str>>,
    pub url: Option<Box<str>>,
    pub qr: Option<Box<str>>,
}

/// A callback as it came.
#[derive(Clone, Debug)]
pub struct Callback {
    pub method: Method,
    pub query: Box<str>,
    /// Names in lower case; those alone that say something about the callback.
    pub headers: Vec<(Box<str>, Box<str>)>,
    pub body: Vec<u8>,
}

impl Callback {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| &**known == name).map(|(_, value)| &**value)
    }

    /// What is kept: the body, or the query string where that is the message.
    pub fn raw(&self) -> &[u8] {
        if self.body.is_empty() { self.query.as_bytes() } else { &self.body }
    }
}

/// What a provider says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The provider's number of the event and its own word for it.
    pub name: Box<str>,
    pub subject: Subject,
    pub news: News,
}

/// Which order an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    Order(OrderId),
    /// The provider's number of a payment.
    Payment(Box<str>),
    /// None of ours can be meant.
    Nothing,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    Paid(Paid),
    /// Not paid, and not going to be.
    Failed {
        expired: bool,
        reason: Box<str>,
    },
    /// So much of the order went back, in all.
    Refunded {
        total: Nano,
        currency: Box<str>,
    },
    /// What became of one refund.
    Refund(RefundTold),
    Dispute(DisputeTold),
    /// Nothing that an order has to know.
    Other,
}

/// A refund as the provider states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefundTold {
    /// Our number of it; `None`: it was not asked for here.
    pub ours: Option<u32>,
    /// The provider's.
    pub number: Box<str>,
    pub amount: Nano,
    pub currency: Box<str>,
    /// Else it failed, or came back.
    pub is_sent: bool,
}

/// A dispute as the provider states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DisputeTold {
    pub number: Box<str>,
    pub amount: Nano,
    pub currency: Box<str>,
    pub stage: DisputeStage,
}

/// A provider's answer about a refund, with its own number of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefundAnswer {
    Sent {
        number: Option<Box<str>>,
    },
    /// It has taken it over and says later how it went.
    OnItsWay {
        number: Option<Box<str>>,
    },
    Failed {
        reason: Box<str>,
    },
}

/// A payment as the provider states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paid {
    pub provider_ref: Option<Box<str>>,
    pub payment_ref: Option<Box<str>>,
    pub amount: Nano,
    pub currency: Box<str>,
    pub payer: Option<Box<str>>,
    pub method: Option<Box<str>>,
}

/// A provider's answer about an order, with the body that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// `None`: it is still waiting.
    pub news: Option<News>,
    pub raw: Vec<u8>,
}

/// Why a callback is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// Larger than a callback is.
    TooLarge,
    SignatureMissing,
    SignatureWrong,
    /// Signed too long ago, or in the future.
    SignatureStale,
    /// Signed, but not what the protocol says.
    Malformed,
    /// For another merchant, or another environment of the same one.
    MerchantMismatch,
    OrderUnknown,
    /// The order is another provider's, or has another number there.
    OrderMismatch,
    AmountMismatch,
    CurrencyMismatch,
    /// The order has not come that far here: it is to be sent again.
    TooEarly,
    /// This provider does not call back.
    NotExpected,
}

impl Rejection {
    pub const fn as_str(self) -> &'static str {
        match self {
            Rejection::TooLarge => "too_large",
            Rejection::SignatureMissing => "signature_missing",
            Rejection::SignatureWrong => "signature_wrong",
            Rejection::SignatureStale => "signature_stale",
            Rejection::Malformed => "malformed",
            Rejection::MerchantMismatch => "merchant_mismatch",
            Rejection::OrderUnknown => "order_unknown",
            Rejection::OrderMismatch => "order_mismatch",
            Rejection::AmountMismatch => "amount_mismatch",
            Rejection::CurrencyMismatch => "currency_mismatch",
            Rejection::TooEarly => "too_early",
            Rejection::NotExpected => "not_expected",
        }
    }
}

/// Why a provider did not do what it was asked to. Neither text has a secret in it.
#[derive(Debug)]
pub enum ProviderError {
    /// It said no.
    Refused {
        status: u16,
        text: Box<str>,
    },
    /// It answered something that its protocol does not have.
    Malformed(&'static str),
    Http(HttpError),
    /// This way of paying does not do that.
    Unsupported(&'static str),
}

impl ProviderError {
    /// Whether it is certain that nothing was done.
    pub fn is_final(&self) -> bool {
        match self {
            // Too many requests, and conflicts between two of ours that ran at once, are to be repeated.
            ProviderError::Refused { status, .. } => !matches!(status, 409 | 429 | 500..),
            ProviderError::Unsupported(_) => true,
            ProviderError::Malformed(_) | ProviderError::Http(_) => false,
        }
    }
}

impl fmt::Display for ProviderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProviderError::Refused { status, text } => write!(f, "refused with {status}: {text}"),
            ProviderError::Malformed(what) => write!(f, "the answer cannot be used: {what}"),
            ProviderError::Http(why) => write!(f, "{why}"),
            ProviderError::Unsupported(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for ProviderError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ProviderError::Http(why) => Some(why),
            _ => None,
        }
    }
}

impl From<HttpError> for ProviderError {
    fn from(why: HttpError) -> Self {
        ProviderError::Http(why)
    }
}

/// Longest text of a provider that is repeated, in bytes.
const TEXT_BYTES_MAX: usize = 300;

/// A provider's words, short enough to be shown.
fn shortened(text: &str) -> Box<str> {
    text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or_default().into()
}
