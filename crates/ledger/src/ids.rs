//! Names of the things that the books speak of.

/// Milliseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// Live money and test money never meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Book {
    Live = 0,
    Test = 1,
}

impl Book {
    pub const ALL: [Book; 2] = [Book::Live, Book::Test];
}

/// A customer's account in one book. The top bit tells the book.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(pub u64);

const TEST_BIT: u64 = 1 << 63;

impl AccountId {
    pub fn book(self) -> Book {
        if self.0 & TEST_BIT == 0 { Book::Live } else { Book::Test }
    }

    /// The same customer's account in the given book.
    #[must_use]
    pub fn in_book(self, book: Book) -> Self {
        match book {
            Book::Live => AccountId(self.0 & !TEST_BIT),
            Book::Test => AccountId(self.0 | TEST_BIT),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LotId(pub u64);

/// A hold is named after the request or the task that it was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HoldId(pub u128);

/// A name from outside (`order:…`, `code:…`, `callback:…`) that posts once for ever.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference(pub Box<str>);

impl Reference {
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Reference(text.into())
    }

    /// What the ledger remembers of it: FNV-1a with 128 bits.
    pub fn fingerprint(&self) -> u128 {
        fnv1a(self.0.as_bytes())
    }
}

/// FNV-1a, 128 bits, with the offset basis and prime of its authors
/// (<http://www.isthe.com/chongo/tech/comp/fnv/>).
pub fn fnv1a(bytes: &[u8]) -> u128 {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    bytes.iter().fold(BASIS, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_has_one_id_in_each_book() {
        let live = AccountId(7);
        let test = live.in_book(Book::Test);
        assert_eq!((live.book(), test.book()), (Book::Live, Book::Test));
        assert_ne!(live, test);
        assert_eq!(test.in_book(Book::Live), live);
    }

    #[test]
    fn fingerprints_are_those_of_the_published_hash() {
        assert_eq!(fnv1a(b""), 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
        assert_eq!(fnv1a(b"a"), 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
    }
}
