//! The alphabet of the journal's encoding: variable-length integers, byte strings, options.
//!
//! Reading never trusts a length: what is not there is an error, and nothing is allocated beyond the bytes
//! that are left.

use std::fmt;

/// Bytes that are not what this encoding writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes end within a value.
    Truncated,
    /// A tag, a version or an enumeration that this program does not know.
    Unknown { what: &'static str, value: u64 },
    /// A number outside of its range.
    OutOfRange { what: &'static str },
    /// A text that is not UTF-8.
    NotText,
    /// Bytes are left over.
    Trailing,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Truncated => f.write_str("the bytes end within a value"),
            DecodeError::Unknown { what, value } => write!(f, "{value} is not a known {what}"),
            DecodeError::OutOfRange { what } => write!(f, "{what} is out of range"),
            DecodeError::NotText => f.write_str("a text is not UTF-8"),
            DecodeError::Trailing => f.write_str("bytes are left over"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Appends values to a buffer.
pub struct Writer<'a>(pub &'a mut Vec<u8>);

impl Writer<'_> {
    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    /// LEB128: seven bits a byte, lowest first.
    pub fn u64(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value as u8) | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// Zigzag, so that small negative numbers are short too.
    pub fn i64(&mut self, value: i64) {
        self.u64(((value << 1) ^ (value >> 63)) as u64);
    }

    pub fn fixed64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub fn fixed128(&mut self, value: u128) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.u64(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    pub fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    pub fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        match value {
            None => self.u8(0),
            Some(value) => {
                self.u8(1);
                write(self, value);
            }
        }
    }

    /// A count, then each item.
    pub fn list<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.u64(items.len() as u64);
        for item in items {
            write(self, item);
        }
    }
}

/// Takes values off the front of a byte string.
pub struct Reader<'a> {
    bytes: &'a [u8],
    /// Version of the encoding that the values were written in.
    pub version: u8,
}

type Decoded<T> = Result<T, DecodeError>;

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, version: 0 }
    }

    /// The next byte, which stays.
    pub fn peek(&self) -> Option<u8> {
        self.bytes.first().copied()
    }

    pub fn u8(&mut self) -> Decoded<u8> {
        let (first, rest) = self.bytes.split_first().ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(*first)
    }

    pub fn u64(&mut self) -> Decoded<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::OutOfRange { what: "integer" })
    }

    pub fn i64(&mut self) -> Decoded<i64> {
        let zigzag = self.u64()?;
        Ok(((zigzag >> 1) as i64) ^ -((zigzag & 1) as i64))
    }

    pub fn u32(&mut self) -> Decoded<u32> {
        u32::try_from(self.u64()?).map_err(|_| DecodeError::OutOfRange { what: "u32" })
    }

    pub fn u16(&mut self) -> Decoded<u16> {
        u16::try_from(self.u64()?).map_err(|_| DecodeError::OutOfRange { what: "u16" })
    }

    fn take(&mut self, count: usize) -> Decoded<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Decoded<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| DecodeError::Truncated)
    }

    pub fn fixed64(&mut self) -> Decoded<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub fn fixed128(&mut self) -> Decoded<u128> {
        self.array().map(u128::from_be_bytes)
    }

    pub fn bytes(&mut self) -> Decoded<&'a [u8]> {
        let count = usize::try_from(self.u64()?).map_err(|_| DecodeError::Truncated)?;
        self.take(count)
    }

    pub fn text(&mut self) -> Decoded<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| DecodeError::NotText)
    }

    pub fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Decoded<T>) -> Decoded<Option<T>> {
        match self.u8()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            value => Err(DecodeError::Unknown { what: "option", value: u64::from(value) }),
        }
    }

    /// Reads a count, then each item. An item takes at least one byte, so the count is bounded by what is left.
    pub fn list<T, L: Extend<T> + Default>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Decoded<T>,
    ) -> Decoded<L> {
        let count = self.u64()?;
        if count > self.bytes.len() as u64 {
            return Err(DecodeError::Truncated);
        }
        let mut items = L::default();
        for _ in 0..count {
            items.extend(std::iter::once(read(self)?));
        }
        Ok(items)
    }

    pub fn end(&self) -> Decoded<()> {
        if self.bytes.is_empty() { Ok(()) } else { Err(DecodeError::Trailing) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn values_survive_there_and_back(a: u64, b: i64, c: u128, text: String, list: Vec<i64>) {
            let mut bytes = Vec::new();
            let mut writer = Writer(&mut bytes);
            writer.u64(a);
            writer.i64(b);
            writer.fixed128(c);
            writer.text(&text);
            writer.list(&list, |writer, item| writer.i64(*item));
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.u64(), Ok(a));
            prop_assert_eq!(reader.i64(), Ok(b));
            prop_assert_eq!(reader.fixed128(), Ok(c));
            prop_assert_eq!(reader.text(), Ok(text.as_str()));
            prop_assert_eq!(reader.list::<_, Vec<i64>>(Reader::i64), Ok(list));
            prop_assert_eq!(reader.end(), Ok(()));
        }
    }

    #[test]
    fn an_overlong_integer_is_refused() {
        assert_eq!(Reader::new(&[0xff; 11]).u64(), Err(DecodeError::OutOfRange { what: "integer" }));
    }

    #[test]
    fn a_count_beyond_the_bytes_allocates_nothing() {
        assert_eq!(
            Reader::new(&[0xff, 0xff, 0xff, 0x7f]).list::<_, Vec<u8>>(Reader::u8),
            Err(DecodeError::Truncated)
        );
    }
}
