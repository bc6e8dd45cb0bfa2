//! What Alipay's and WeChat Pay's sides keep of a trade. Amounts are in fen.

use crate::funding::money;

pub(super) const CURRENCY: &str = "CNY";

#[derive(Clone, Debug)]
pub(super) struct Bill {
    /// The merchant's number of it, and the provider's.
    pub order: String,
    pub number: String,
    pub fen: i64,
    pub notify_url: String,
    pub paid: bool,
    pub failed: bool,
    pub refunds: Vec<BillRefund>,
}

#[derive(Clone, Debug)]
pub(super) struct BillRefund {
    /// The merchant's name of it, and the provider's number.
    pub name: String,
    pub number: String,
    pub fen: i64,
    pub notify_url: String,
    /// `None`: on its way. Whether it was sent.
    pub sent: Option<bool>,
}

impl Bill {
    pub fn new(order: String, number: String, fen: i64, notify_url: String) -> Self {
        Bill { order, number, fen, notify_url, paid: false, failed: false, refunds: Vec::new() }
    }

    /// What went back, or is on its way.
    pub fn refunded(&self) -> i64 {
        self.refunds.iter().filter(|refund| refund.sent != Some(false)).map(|refund| refund.fen).sum()
    }

    pub fn refund(&self, name: &str) -> Option<&BillRefund> {
        self.refunds.iter().find(|refund| refund.name == name)
    }

    /// Makes a refund, once for a name. `None`: more than is left, or not paid.
    pub fn make_refund(&mut self, refund: BillRefund) -> Option<&BillRefund> {
        if self.refund(&refund.name).is_none() {
            if !self.paid || refund.fen <= 0 || self.refunded() + refund.fen > self.fen {
                return None;
            }
            self.refunds.push(refund.clone());
        }
        self.refund(&refund.name)
    }
}

/// An amount in yuan.
pub(super) fn yuan(fen: i64) -> String {
    money::from_minor(fen, CURRENCY).map(|amount| money::text(amount, CURRENCY)).unwrap_or_default()
}

pub(super) fn fen(yuan: &str) -> i64 {
    ledger::Nano::parse_decimal(yuan)
        .ok()
        .and_then(|amount| money::to_minor(amount, CURRENCY))
        .unwrap_or_default()
}
