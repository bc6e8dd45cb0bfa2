//! The values of one row, by what they mean.

use crate::reconcile::format::Columns;

#[derive(Clone, Copy, Default)]
pub struct Values<'v> {
    pub key: &'v str,
    pub alias: &'v str,
    pub class: &'v str,
    pub amount: &'v str,
    pub refund_amount: &'v str,
    pub refunded: &'v str,
    pub currency: &'v str,
    pub time: &'v str,
    pub account: &'v str,
}

impl<'v> From<[&'v str; Columns::COUNT]> for Values<'v> {
    /// In the order of [`Columns::each`].
    fn from(values: [&'v str; Columns::COUNT]) -> Self {
        let [key, alias, class, amount, refund_amount, refunded, currency, time, account] = values;
        Values { key, alias, class, amount, refund_amount, refunded, currency, time, account }
    }
}
