//! The types that settings have, and the rules for their values.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;

use super::load::Refused;
use crate::address;
use crate::funding::provider::rsa;
use crate::secret::{HIDDEN, Secret};

/// A value as it was given, before its type is known.
#[derive(Clone, Copy, Debug)]
pub(super) enum Given<'a> {
    Text(&'a str),
    Integer(i64),
    Boolean(bool),
    /// From the environment or a flag, where everything is text.
    Plain(&'a str),
    /// Something of TOML that no setting is.
    Other,
}

/// A type that a setting can have.
pub(super) trait Field: Sized {
    const SECRET: bool = false;
    fn read(given: Given<'_>) -> Result<Self, Refused>;
    /// As TOML; `None` if it is not set. A secret is never shown.
    fn show(&self) -> Option<String>;
}

fn refuse<T>(expected: &str) -> Result<T, Refused> {
    Err(Refused::Value(format!("expected {expected}")))
}

fn text(given: Given<'_>) -> Result<&str, Refused> {
    match given {
        Given::Text(text) | Given::Plain(text) => Ok(text),
        Given::Integer(_) | Given::Boolean(_) | Given::Other => refuse("a text in quotes"),
    }
}

fn quoted(text: &str) -> Option<String> {
    Some(toml::Value::from(text).to_string())
}

macro_rules! integers {
    ($($type:ty)*) => {$(
        impl Field for $type {
            fn read(given: Given<'_>) -> Result<Self, Refused> {
                let value = match given {
                    Given::Integer(value) => Some(value),
                    Given::Plain(text) => text.replace('_', "").parse().ok(),
                    Given::Text(_) | Given::Boolean(_) | Given::Other => None,
                };
                match value.map(<$type>::try_from) {
                    Some(Ok(value)) => Ok(value),
                    _ => refuse(&format!("a whole number from 0 to {}", <$type>::MAX)),
                }
            }

            fn show(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
    )*};
}

integers!(u16 u32 u64);

impl Field for bool {
    fn read(given: Given<'_>) -> Result<Self, Refused> {
        match given {
            Given::Boolean(value) => Ok(value),
            Given::Plain("true") => Ok(true),
            Given::Plain("false") => Ok(false),
            _ => refuse("true or false"),
        }
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Field for String {
    fn read(given: Given<'_>) -> Result<Self, Refused> {
        text(given).map(str::to_owned)
    }

    fn show(&self) -> Option<String> {
        quoted(self)
    }
}

impl Field for PathBuf {
    fn read(given: Given<'_>) -> Result<Self, Refused> {
        match text(given)? {
            "" => refuse("a path"),
            path => Ok(Self::from(path)),
        }
    }

    fn show(&self) -> Option<String> {
        quoted(&self.to_string_lossy())
    }
}

impl Field for SocketAddr {
    fn read(given: Given<'_>) -> Result<Self, Refused> {
        text(given)?.parse().or_else(|_| refuse("an address with a port, such as 127.0.0.1:8080"))
    }

    fn show(&self) -> Option<String> {
        quoted(&self.to_string())
    }
}

impl Field for Secret {
    const SECRET: bool = true;

    fn read(given: Given<'_>) -> Result<Self, Refused> {
        text(given).map(Self::new)
    }

    fn show(&self) -> Option<String> {
        quoted(HIDDEN)
    }
}

/// Ranges of addresses, one behind the other with commas between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(pub Vec<IpNet>);

impl Ranges {
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|range| range.contains(&address))
    }
}

impl Field for Ranges {
    fn read(given: Given<'_>) -> Result<Self, Refused> {
        let parts = text(given)?.split(',').map(str::trim).filter(|part| !part.is_empty());
        let range = |part: &str| part.parse().or_else(|_| part.parse::<IpAddr>().map(IpNet::from));
        let folded = |range: IpNet| address::folded(range).unwrap_or(range);
        match parts.map(|part| range(part).map(folded)).collect() {
            Ok(ranges) => Ok(Ranges(ranges)),
            Err(_) => refuse("ranges of addresses, such as \"10.0.0.0/8, 192.0.2.1\""),
        }
    }

    fn show(&self) -> Option<String> {
        quoted(&self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
    }
}

/// Currency → millionths of it that one unit of the ledger currency costs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PayRates(pub Vec<(String, u64)>);

impl Field for PayRates {
    fn read(given: Given<'_>) -> Result<Self, Refused> {
        let parts = text(given)?.split(',').map(str::trim).filter(|part| !part.is_empty());
        let rate = |part: &str| {
            let (currency, rate) = part.split_once('=')?;
            let rate = crate::directory::decimal::parse_multiplier(rate.trim()).filter(|rate| *rate > 0)?;
            let is_code = currency.len() == 3 && currency.bytes().all(|byte| byte.is_ascii_uppercase());
            is_code.then(|| (currency.to_owned(), rate))
        };
        match parts.map(rate).collect() {
            Some(rates) => Ok(Self(rates)),
            None => refuse("currencies with rates above zero, such as \"USD=1, CNY=7.25\""),
        }
    }

    fn show(&self) -> Option<String> {
        let rate = |(currency, rate): &(String, u64)| {
            format!("{currency}={}", crate::directory::decimal::multiplier_text(*rate))
        };
        quoted(&self.0.iter().map(rate).collect::<Vec<_>>().join(", "))
    }
}

impl<T: Field> Field for Option<T> {
    const SECRET: bool = T::SECRET;

    fn read(given: Given<'_>) -> Result<Self, Refused> {
        T::read(given).map(Some)
    }

    fn show(&self) -> Option<String> {
        self.as_ref().and_then(T::show)
    }
}

macro_rules! choices {
    ($($(#[$doc:meta])* $name:ident { $($member:ident = $text:literal),* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($member),* }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$member),*];

            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$member => $text),* }
            }
        }

        impl Field for $name {
            fn read(given: Given<'_>) -> Result<Self, Refused> {
                match text(given)? {
                    $($text => Ok(Self::$member),)*
                    _ => refuse(&[$($text),*].join(", ")),
                }
            }

            fn show(&self) -> Option<String> {
                quoted(self.as_str())
            }
        }
    )*};
}

choices! {
    /// How much is logged.
    Level { Error = "error", Warn = "warn", Info = "info", Debug = "debug", Trace = "trace" }
    /// How the connection to the mail server is protected.
    MailTls { None = "none", Starttls = "starttls", Tls = "tls" }
    /// Where the key stands in what an epay platform signs, and how it writes the signature.
    EpaySignature {
        Appended = "appended",
        AppendedUpper = "appended_upper",
        KeyParam = "key_param",
        KeyParamUpper = "key_param_upper"
    }
    /// Where copies of what tasks made go.
    CopiesTo { None = "none", Disk = "disk", S3 = "s3" }
    /// How the log is written.
    LogFormat { Text = "text", Json = "json" }
}

/// What a value must be beyond its type.
pub(super) trait Rule<T> {
    fn check(&self, value: &T) -> Result<(), Refused>;
    /// The rule in words, for the documentation.
    fn text(&self) -> Option<String>;
}

/// Whatever the type allows.
pub(super) struct Any;

impl<T> Rule<T> for Any {
    fn check(&self, _: &T) -> Result<(), Refused> {
        Ok(())
    }

    fn text(&self) -> Option<String> {
        None
    }
}

/// Both ends included.
pub(super) struct Between<T>(pub T, pub T);

impl<T: PartialOrd + Display> Rule<T> for Between<T> {
    fn check(&self, value: &T) -> Result<(), Refused> {
        if (&self.0..=&self.1).contains(&value) {
            Ok(())
        } else {
            refuse(&format!("{} to {}", self.0, self.1))
        }
    }

    fn text(&self) -> Option<String> {
        Some(format!("{} to {}", self.0, self.1))
    }
}

macro_rules! text_rules {
    ($($(#[$doc:meta])* $name:ident of $type:ty as $text:literal = $check:expr;)*) => {$(
        $(#[$doc])*
        pub(super) struct $name;

        impl Rule<$type> for $name {
            fn check(&self, value: &$type) -> Result<(), Refused> {
                let check: fn(&$type) -> bool = $check;
                if check(value) { Ok(()) } else { refuse($text) }
            }

            fn text(&self) -> Option<String> {
                Some($text.to_owned())
            }
        }
    )*};
}

text_rules! {
    /// What is told once a month is looked up for two of them.
    DaysKept of u32 as "0, or 62 to 3650" = |days| *days == 0 || (62..=3_650).contains(days);
    /// An address that links can be built on.
    HttpUrl of Option<String> as "an address that begins with http:// or https://" = |value| {
        value.as_deref().is_none_or(|url| {
            let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
            host.is_some_and(|host| !host.is_empty() && url.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"'))
        })
    };
    PostgresUrl of Option<Secret> as "an address that begins with postgres:// or postgresql://" = |value| {
        value.as_ref().is_none_or(|url| {
            url.expose().starts_with("postgres://") || url.expose().starts_with("postgresql://")
        })
    };
    TimeZone of String as "a time zone of the IANA database, such as Asia/Shanghai" = |value| {
        jiff::tz::TimeZone::get(value).is_ok()
    };
    /// An amount of money that is not negative.
    Decimal of String as "a decimal amount of at least 0, with at most nine places" = |value| {
        ledger::Nano::parse_decimal(value).is_ok_and(|amount| amount >= ledger::Nano::ZERO)
    };
    /// Whom mails come from.
    MailFrom of Option<String> as "a mail address, or a name with one: Tallygate <no-reply@example.com>" = |value| {
        value.as_deref().is_none_or(|from| from.parse::<lettre::message::Mailbox>().is_ok())
    };
    HostName of Option<String> as "the name or address of a machine, without a port" = |value| {
        value.as_deref().is_none_or(|host| {
            !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte))
        })
    };
    BucketName of Option<String> as "3 to 63 small letters, digits, dots and hyphens" = |value| {
        value.as_deref().is_none_or(|name| {
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
            (3..=63).contains(&name.len()) && name.bytes().all(plain) && !name.contains("..")
        })
    };
    PlainWord of String as "letters, digits and hyphens" = |value| {
        !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    PlainPath of String as "letters, digits, dots, hyphens and underscores, with slashes between them" = |value| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        let is_name = |part: &str| !part.is_empty() && !part.starts_with('.') && part.bytes().all(plain);
        value.is_empty() || (value.len() <= 512 && value.trim_matches('/').split('/').all(is_name))
    };
    RsaPrivateKey of Option<Secret> as "an RSA private key of 2,048 bits or more, as PEM or its base64" = |value| {
        value.as_ref().is_none_or(|key| rsa::SigningKey::parse(key).is_some())
    };
    RsaPublicKey of Option<Secret> as "an RSA public key of 2,048 bits or more, as PEM or its base64" = |value| {
        value.as_ref().is_none_or(|key| rsa::VerifyingKey::parse(key.expose()).is_some())
    };
    RsaPublicKeys of Option<Secret> as "an RSA public key, or certificates, as PEM" = |value| {
        value.as_ref().is_none_or(|key| rsa::NamedKey::parse_all(key.expose(), Some("")).is_some())
    };
    SealKey of Option<Secret> as "exactly 32 characters" = |value| {
        value.as_ref().is_none_or(|key| key.expose().len() == 32)
    };
    HexKey of Option<Secret> as "64 hexadecimal digits" = |value| {
        value.as_ref().is_none_or(|key| key.expose().len() == 64 && key.expose().bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
}

/// So many capital letters.
pub(super) struct Letters(pub usize);

impl Rule<String> for Letters {
    fn check(&self, value: &String) -> Result<(), Refused> {
        if value.len() == self.0 && value.bytes().all(|byte| byte.is_ascii_uppercase()) {
            Ok(())
        } else {
            refuse(&format!("{} capital letters", self.0))
        }
    }

    fn text(&self) -> Option<String> {
        Some(format!("{} capital letters", self.0))
    }
}

/// A secret of at least so many characters.
pub(super) struct LongEnough(pub usize);

impl Rule<Option<Secret>> for LongEnough {
    fn check(&self, value: &Option<Secret>) -> Result<(), Refused> {
        match value {
            Some(secret) if secret.expose().chars().count() < self.0 => {
                refuse(&format!("at least {} characters", self.0))
            }
            _ => Ok(()),
        }
    }

    fn text(&self) -> Option<String> {
        Some(format!("at least {} characters", self.0))
    }
}
