//! One row of either side, and its bytes while it is sorted.

use ledger::Nano;

/// What a row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Class {
    Payment = 1,
    Refund = 2,
    /// Money that a payer's bank took back, or gave back.
    Dispute = 3,
    /// What an upstream bills.
    Cost = 4,
}

impl Class {
    pub const ALL: [Class; 4] = [Class::Payment, Class::Refund, Class::Dispute, Class::Cost];

    pub fn as_str(self) -> &'static str {
        match self {
            Class::Payment => "payment",
            Class::Refund => "refund",
            Class::Dispute => "dispute",
            Class::Cost => "cost",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == text)
    }

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|class| *class as u8 == code)
    }
}

/// A row. Both sides are compared among rows of one key and class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What both sides call it.
    pub key: Box<str>,
    pub class: Class,
    /// As the platform sees it: payments add, refunds and disputes take; costs are positive. `None`: not known.
    pub amount: Option<Nano>,
    /// ISO 4217, upper case.
    pub currency: Box<str>,
    pub at_ms: i64,
    /// Whose money, where both sides know it; else empty.
    pub account: Box<str>,
    /// Another name, by which rows that have no partner are looked for once more; else empty.
    pub alias: Box<str>,
    /// Name of the row on its own side: an order, a call; of a file, its import and line.
    pub name: Box<str>,
    /// Of a call: what it was charged.
    pub charged: Nano,
    /// Of a call: how its cost is known.
    pub basis: Box<str>,
    /// It need not be on the other side.
    pub optional: bool,
}

impl Row {
    pub fn new(
        key: impl Into<Box<str>>,
        class: Class,
        amount: Option<Nano>,
        currency: &str,
        at_ms: i64,
    ) -> Self {
        Row {
            key: key.into(),
            class,
            amount,
            currency: currency.into(),
            at_ms,
            account: "".into(),
            alias: "".into(),
            name: "".into(),
            charged: Nano::ZERO,
            basis: "".into(),
            optional: false,
        }
    }

    /// Bytes that it takes in memory, roughly.
    pub(super) fn weight(&self) -> usize {
        let texts = [&self.key, &self.currency, &self.account, &self.alias, &self.name, &self.basis];
        size_of::<Row>() + texts.iter().map(|text| text.len() + 16).sum::<usize>()
    }

    pub(super) fn write(&self, to: &mut Vec<u8>) {
        to.push(self.class as u8);
        to.push(u8::from(self.amount.is_some()) | u8::from(self.optional) << 1);
        for number in [self.amount.unwrap_or_default().0, self.at_ms, self.charged.0] {
            to.extend_from_slice(&number.to_le_bytes());
        }
        for text in [&self.key, &self.currency, &self.account, &self.alias, &self.name, &self.basis] {
            to.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
            to.extend_from_slice(text.as_bytes());
        }
    }

    /// Reads what [`Row::write`] wrote; `None`: it is something else.
    pub(super) fn read(mut from: &[u8]) -> Option<Self> {
        let (head, rest) = from.split_first_chunk::<2>()?;
        from = rest;
        let [class, flags] = *head;
        let mut number = || {
            let (bytes, rest) = from.split_first_chunk::<8>()?;
            from = rest;
            Some(i64::from_le_bytes(*bytes))
        };
        let (amount, at_ms, charged) = (number()?, number()?, number()?);
        let mut text = || {
            let (bytes, rest) = from.split_first_chunk::<4>()?;
            let (text, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*bytes)).ok()?)?;
            from = rest;
            std::str::from_utf8(text).ok().map(Box::<str>::from)
        };
        Some(Row {
            key: text()?,
            currency: text()?,
            account: text()?,
            alias: text()?,
            name: text()?,
            basis: text()?,
            class: Class::from_code(class)?,
            amount: (flags & 1 != 0).then_some(Nano(amount)),
            at_ms,
            charged: Nano(charged),
            optional: flags & 2 != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_row_survives_there_and_back(key: String, name: String, amount: Option<i64>, at_ms: i64, optional: bool) {
            let row = Row { name: name.into(), optional, ..Row::new(key, Class::Refund, amount.map(Nano), "CNY", at_ms) };
            let mut bytes = Vec::new();
            row.write(&mut bytes);
            prop_assert_eq!(Row::read(&bytes), Some(row));
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = Row::read(&bytes);
        }
    }
}
