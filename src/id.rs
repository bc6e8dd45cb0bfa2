//! The ids of everything that has one.
//!
//! For: one type per noun, so that an account's id cannot be passed where a key's is meant, and
//! one public text form per type (`acc_…`, `key_…`, `req_…`).
//! Promises: the text form is fixed in width, lower case, sorts like the number, and reads back to
//! the same number; exactly one text stands for one id. Ids carry their time of creation.
//! Must never: be a secret. An id may be shown, logged and sent to support.
//!
//! Text is Crockford's base 32 (<https://www.crockford.com/base32.html>), in lower case.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::clock::{Clock, Entropy};

/// 2024-01-01T00:00:00Z: the zero of the time inside directory ids, in milliseconds since 1970.
pub const ID_EPOCH_MS: i64 = 1_704_067_200_000;

const RANDOM_BITS: u32 = 22;
const TIME_BITS: u32 = 41;
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// What each byte stands for.
const DIGITS: [Option<u8>; 256] = digits();

/// Why a text is not an id of the wanted kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdError {
    /// It does not begin with the prefix of its kind.
    Prefix { expected: &'static str },
    /// Characters after the prefix: found and expected.
    Length { found: usize, expected: usize },
    /// A character outside of the alphabet, at this place (from 0) after the prefix.
    Character { position: usize },
    /// The number does not fit.
    TooLarge,
}

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix { expected } => write!(f, "an id of this kind begins with \"{expected}\""),
            Self::Length { found, expected } => {
                write!(f, "an id of this kind has {expected} characters after its prefix, not {found}")
            }
            Self::Character { position } => {
                write!(f, "the character at place {position} after the prefix is not one of an id")
            }
            Self::TooLarge => f.write_str("the id is larger than an id can be"),
        }
    }
}

impl std::error::Error for IdError {}

#[expect(clippy::indexing_slicing, reason = "worked out by the compiler, which would not let it pass")]
const fn digits() -> [Option<u8>; 256] {
    let mut digits = [None; 256];
    let mut digit = 0;
    while digit < 32 {
        digits[ALPHABET[digit as usize] as usize] = Some(digit);
        digit += 1;
    }
    digits
}

/// Writes `value` in `N` characters of base 32, most significant first.
fn encode<const N: usize>(mut value: u128) -> [u8; N] {
    let mut text = [b'0'; N];
    for place in text.iter_mut().rev() {
        // Five bits are always an index into 32 characters.
        *place = ALPHABET.get((value & 31) as usize).copied().unwrap_or(b'0');
        value >>= 5;
    }
    text
}

/// Reads `expected` characters of base 32 after `prefix`; the number must fit `bits` bits.
fn decode(text: &str, prefix: &'static str, expected: usize, bits: u32) -> Result<u128, IdError> {
    let digits = text.strip_prefix(prefix).ok_or(IdError::Prefix { expected: prefix })?;
    if digits.len() != expected {
        return Err(IdError::Length { found: digits.chars().count(), expected });
    }
    let mut value: u128 = 0;
    for (position, byte) in digits.bytes().enumerate() {
        let digit =
            DIGITS.get(usize::from(byte)).copied().flatten().ok_or(IdError::Character { position })?;
        if value >> (bits - 5) != 0 {
            return Err(IdError::TooLarge);
        }
        value = value << 5 | u128::from(digit);
    }
    Ok(value)
}

/// A fresh directory id: 41 bits of milliseconds since [`ID_EPOCH_MS`], 22 random bits.
///
/// Two ids of one kind made in the same millisecond are equal once in four million times: whoever
/// stores a new object checks, and draws again. The top bit stays clear (see
/// [`AccountId::in_book`]).
fn fresh(clock: &dyn Clock, entropy: &dyn Entropy) -> u64 {
    let mut random = [0u8; 4];
    entropy.fill(&mut random);
    let random = u64::from(u32::from_le_bytes(random)) & ((1 << RANDOM_BITS) - 1);
    let since = clock.now_ms().saturating_sub(ID_EPOCH_MS);
    let time = u64::try_from(since).unwrap_or(0) & ((1 << TIME_BITS) - 1);
    time << RANDOM_BITS | random
}

macro_rules! directory_ids {
    ($($(#[$doc:meta])* $name:ident $prefix:literal)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u64);

        impl $name {
            /// What its text form begins with.
            pub const PREFIX: &'static str = $prefix;

            /// A fresh id; see the module on what makes it unique.
            pub fn new(clock: &dyn Clock, entropy: &dyn Entropy) -> Self {
                Self(fresh(clock, entropy))
            }

            /// From the number as it is stored.
            pub const fn from_raw(raw: u64) -> Self {
                Self(raw)
            }

            /// The number as it is stored.
            pub const fn raw(self) -> u64 {
                self.0
            }

            /// When it was made: milliseconds since 1970, UTC.
            pub const fn created_ms(self) -> i64 {
                ((self.0 >> RANDOM_BITS) & ((1 << TIME_BITS) - 1)) as i64 + ID_EPOCH_MS
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_id(f, $prefix, &encode::<13>(u128::from(self.0)))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let value = decode(text, $prefix, 13, 64)?;
                u64::try_from(value).map(Self).map_err(|_| IdError::TooLarge)
            }
        }

        text_serde!($name);
    )*};
}

macro_rules! text_serde {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, into: S) -> Result<S::Ok, S::Error> {
                into.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                from.deserialize_str(TextVisitor(std::marker::PhantomData))
            }
        }
    };
}

/// Reads an id from text without keeping the text.
struct TextVisitor<T>(std::marker::PhantomData<T>);

impl<T: FromStr<Err = IdError>> serde::de::Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id as text")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

fn write_id(f: &mut fmt::Formatter<'_>, prefix: &str, digits: &[u8]) -> fmt::Result {
    f.write_str(prefix)?;
    // The alphabet is ASCII.
    f.write_str(std::str::from_utf8(digits).unwrap_or_default())
}

directory_ids! {
    /// An account: the one whose money it is.
    AccountId "acc_"
    /// An API key. Public: it names the key without being it.
    KeyId "key_"
    /// A model of the platform's list.
    ModelId "mdl_"
    /// A channel: one upstream with its credentials.
    ChannelId "chn_"
    /// One version of a price.
    PriceId "prc_"
    /// A group: which models a key may reach, at which multiplier.
    GroupId "grp_"
    /// A project of an account.
    ProjectId "prj_"
    /// A node of an organization's tree.
    OrganizationId "org_"
    /// A member of an organization.
    MemberId "mem_"
    /// An appeal.
    AppealId "apl_"
    /// Something that the operator announces.
    AnnouncementId "ann_"
    /// Somebody who runs the gateway.
    OperatorId "opr_"
    /// A policy.
    PolicyId "pol_"
    /// Where notices are sent to.
    NoticeEndpointId "nep_"
    /// Something that somebody is told.
    NoticeId "ntc_"
    /// A lot of credit.
    LotId "lot_"
    /// An order of money that is to come in.
    OrderId "ord_"
    /// Something that happened to an order.
    OrderEventId "evt_"
    /// Redemption codes that were made together.
    CodeBatchId "cbt_"
    /// A redemption code. Public: it names the code without being it.
    CodeId "cod_"
    /// A statement or a bill that was read.
    ReconcileImportId "imp_"
    /// A difference between the books and what others say.
    ReconcileCaseId "rcs_"
    /// A correction of money.
    CorrectionId "cor_"
    /// An image or video task.
    TaskId "task_"
}

impl AccountId {
    /// This account in one book of the ledger.
    pub fn in_book(self, book: ledger::Book) -> ledger::AccountId {
        ledger::AccountId(self.0).in_book(book)
    }

    /// The number of this account's live book in the ledger.
    pub fn live_book(self) -> u64 {
        self.in_book(ledger::Book::Live).0
    }

    /// The number of this account's test book in the ledger: test keys post there.
    pub fn test_book(self) -> u64 {
        self.in_book(ledger::Book::Test).0
    }
}

/// The account that a book belongs to, whichever book it is.
impl From<ledger::AccountId> for AccountId {
    fn from(book: ledger::AccountId) -> Self {
        Self(book.in_book(ledger::Book::Live).0)
    }
}

impl From<ledger::LotId> for LotId {
    fn from(lot: ledger::LotId) -> Self {
        Self(lot.0)
    }
}

/// A call's hold is named after the call.
impl From<RequestId> for ledger::HoldId {
    fn from(request: RequestId) -> Self {
        Self(request.0)
    }
}

/// One call: 48 bits of milliseconds since 1970, 80 random bits. Unique by construction, and in
/// the order of time to the millisecond.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(u128);

impl RequestId {
    /// What its text form begins with.
    pub const PREFIX: &'static str = "req_";
    /// Bytes of its text form.
    pub const TEXT_BYTES: usize = 30;

    pub fn new(clock: &dyn Clock, entropy: &dyn Entropy) -> Self {
        let mut random = [0u8; 10];
        entropy.fill(&mut random);
        let random = random.iter().fold(0u128, |sum, byte| sum << 8 | u128::from(*byte));
        let time = u128::try_from(clock.now_ms()).unwrap_or(0) & ((1 << 48) - 1);
        Self(time << 80 | random)
    }

    pub const fn from_raw(raw: u128) -> Self {
        Self(raw)
    }

    pub const fn raw(self) -> u128 {
        self.0
    }

    /// When the call arrived: milliseconds since 1970, UTC.
    pub const fn created_ms(self) -> i64 {
        (self.0 >> 80) as i64
    }

    /// The text form as bytes, on the stack: for header values and the journal.
    pub fn text(self) -> [u8; Self::TEXT_BYTES] {
        let mut text = [0u8; Self::TEXT_BYTES];
        let (prefix, digits) = text.split_at_mut(4);
        prefix.copy_from_slice(b"req_");
        digits.copy_from_slice(&encode::<26>(self.0));
        text
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_id(f, "", &self.text())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for RequestId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        decode(text, Self::PREFIX, 26, 128).map(Self)
    }
}

text_serde!(RequestId);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ManualClock, SeededEntropy, SystemEntropy};
    use proptest::prelude::*;

    #[test]
    fn known_ids_have_these_texts() {
        assert_eq!(AccountId::from_raw(0).to_string(), "acc_0000000000000");
        assert_eq!(KeyId::from_raw(u64::MAX).to_string(), "key_fzzzzzzzzzzzz");
        assert_eq!(KeyId::from_raw(1234567890).to_string(), "key_00000014sc0pj");
        assert_eq!(RequestId::from_raw(u128::MAX).to_string(), "req_7zzzzzzzzzzzzzzzzzzzzzzzzz");
    }

    #[test]
    fn what_is_not_an_id_of_the_kind_is_told_why() {
        let expected = [
            ("key_0000000000000", IdError::Prefix { expected: "acc_" }),
            ("acc_000000000000", IdError::Length { found: 12, expected: 13 }),
            ("acc_00000000000000", IdError::Length { found: 14, expected: 13 }),
            ("acc_000000000000U", IdError::Character { position: 12 }),
            ("acc_0000000000u00", IdError::Character { position: 10 }),
            ("acc_g000000000000", IdError::TooLarge),
        ];
        for (text, error) in expected {
            assert_eq!(text.parse::<AccountId>(), Err(error), "{text}");
        }
        assert_eq!("req_80000000000000000000000000".parse::<RequestId>(), Err(IdError::TooLarge));
    }

    #[test]
    fn ids_carry_their_time_and_sort_by_it() {
        let (clock, entropy) = (ManualClock::new(1_800_000_000_123), SeededEntropy::new(b"ids"));
        let (first, first_call) = (KeyId::new(&clock, &entropy), RequestId::new(&clock, &entropy));
        clock.advance_ms(1);
        let (second, second_call) = (KeyId::new(&clock, &entropy), RequestId::new(&clock, &entropy));
        assert_eq!((first.created_ms(), first_call.created_ms()), (1_800_000_000_123, 1_800_000_000_123));
        assert!(first < second && first.to_string() < second.to_string());
        assert!(first_call < second_call && first_call.to_string() < second_call.to_string());
    }

    #[test]
    fn a_million_request_ids_of_one_millisecond_differ() {
        let (clock, entropy) = (ManualClock::new(1_800_000_000_000), SystemEntropy::new());
        let mut ids: Vec<_> = (0..1_000_000).map(|_| RequestId::new(&clock, &entropy)).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 1_000_000);
    }

    #[test]
    fn a_clock_before_the_epoch_still_gives_ids() {
        let (clock, entropy) = (ManualClock::new(-5), SeededEntropy::new(b"early"));
        assert_eq!(KeyId::new(&clock, &entropy).created_ms(), ID_EPOCH_MS);
        assert_eq!(RequestId::new(&clock, &entropy).created_ms(), 0);
    }

    #[test]
    fn the_test_book_is_another_number_of_the_same_account() {
        let account = AccountId::new(&ManualClock::new(1_900_000_000_000), &SystemEntropy::new());
        assert_ne!(account.live_book(), account.test_book());
        for book in ledger::Book::ALL {
            assert_eq!(account.in_book(book).book(), book);
            assert_eq!(AccountId::from(account.in_book(book)), account);
        }
    }

    proptest! {
        #[test]
        fn text_reads_back(raw: u64, call: u128) {
            let (id, call) = (LotId::from_raw(raw), RequestId::from_raw(call));
            prop_assert_eq!(id.to_string().parse(), Ok(id));
            prop_assert_eq!(call.to_string().parse(), Ok(call));
            let json = serde_json::to_string(&(id, call)).unwrap();
            prop_assert_eq!(serde_json::from_str::<(LotId, RequestId)>(&json).unwrap(), (id, call));
        }

        #[test]
        fn text_sorts_like_the_number(a: u64, b: u64) {
            let (a, b) = (PriceId::from_raw(a), PriceId::from_raw(b));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        }

        #[test]
        fn no_text_is_read_as_an_id_that_prints_otherwise(text in "acc_[0-9a-zA-Z]{13}|\\PC{0,20}") {
            if let Ok(id) = text.parse::<AccountId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}
