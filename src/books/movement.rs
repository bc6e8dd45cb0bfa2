//! The movements of an account's money, as statements show them: which family an effect belongs to, and with which sign.

use ledger::{CreditSource, Effect, HoldId, Nano, Timestamp, Withdrawal, total};

/// What a credit's reference begins with if a redemption code made it.
const CODE_PREFIX: &str = "code:";

/// What moved; the number is stored in the projections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum MovementKind {
    /// Credited for a payment.
    Payment = 1,
    /// Credited without one.
    Promotion = 2,
    /// Credited for a redemption code.
    Code = 3,
    Compensation = 4,
    Adjustment = 5,
    Charge = 6,
    ChargeRefund = 7,
    Expiry = 8,
    OrderRefund = 9,
    Chargeback = 10,
}

/// The families of movements (B5): what the books sum for each account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    Credits,
    ChargeRefunds,
    Compensation,
    Adjustments,
    Charges,
    Expiries,
    OrderRefunds,
    Chargebacks,
}

use MovementKind::{
    Adjustment, Charge, ChargeRefund, Chargeback, Code, Compensation, Expiry, OrderRefund, Payment, Promotion,
};

impl MovementKind {
    pub const ALL: [MovementKind; 10] = [
        Payment,
        Promotion,
        Code,
        Compensation,
        Adjustment,
        Charge,
        ChargeRefund,
        Expiry,
        OrderRefund,
        Chargeback,
    ];

    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == code)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Payment => "payment",
            Promotion => "promotion",
            Code => "code",
            Compensation => "compensation",
            Adjustment => "adjustment",
            Charge => "charge",
            ChargeRefund => "charge_refund",
            Expiry => "expiry",
            OrderRefund => "order_refund",
            Chargeback => "chargeback",
        }
    }

    pub fn family(self) -> Family {
        match self {
            Payment | Promotion | Code => Family::Credits,
            Compensation => Family::Compensation,
            Adjustment => Family::Adjustments,
            Charge => Family::Charges,
            ChargeRefund => Family::ChargeRefunds,
            Expiry => Family::Expiries,
            OrderRefund => Family::OrderRefunds,
            Chargeback => Family::Chargebacks,
        }
    }

    fn of_credit(source: CreditSource, reference: &str) -> Self {
        match source {
            CreditSource::Promotion | CreditSource::Payment if reference.starts_with(CODE_PREFIX) => Code,
            CreditSource::Promotion => Promotion,
            CreditSource::Payment => Payment,
            CreditSource::Compensation => Compensation,
            CreditSource::Adjustment => Adjustment,
        }
    }
}

impl Family {
    pub const ALL: [Family; 8] = [
        Family::Credits,
        Family::ChargeRefunds,
        Family::Compensation,
        Family::Adjustments,
        Family::Charges,
        Family::Expiries,
        Family::OrderRefunds,
        Family::Chargebacks,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Family::Credits => "credits",
            Family::ChargeRefunds => "charge_refunds",
            Family::Compensation => "compensation",
            Family::Adjustments => "adjustments",
            Family::Charges => "charges",
            Family::Expiries => "expiries",
            Family::OrderRefunds => "order_refunds",
            Family::Chargebacks => "chargebacks",
        }
    }

    /// Whether its sums are told as what was taken, so that they are positive like the others.
    pub fn is_taken(self) -> bool {
        matches!(self, Family::Charges | Family::Expiries | Family::OrderRefunds | Family::Chargebacks)
    }
}

/// One movement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Movement<'e> {
    pub kind: MovementKind,
    /// As the account sees it: what is taken is negative.
    pub amount: Nano,
    /// The name from outside that it was posted under, or empty.
    pub reference: &'e str,
}

impl<'e> Movement<'e> {
    /// `None` for an effect that changes nothing of what an account has, holds among them.
    pub fn of(effect: &'e Effect) -> Option<Self> {
        let taken = |amount: Nano| Nano(amount.0.saturating_neg());
        let (kind, amount, reference) = match effect {
            Effect::Credited(credit) => {
                let reference = &*credit.reference.0;
                (MovementKind::of_credit(credit.source, reference), credit.amount, reference)
            }
            Effect::Settled(settled) => (Charge, taken(settled.charged()), ""),
            Effect::Refunded(refund) => (ChargeRefund, total(&refund.credits), &*refund.reference.0),
            Effect::Expired(expired) => (Expiry, taken(expired.debit.amount), ""),
            Effect::Withdrawn(withdrawn) => {
                let kind = match withdrawn.kind {
                    Withdrawal::Adjustment => Adjustment,
                    Withdrawal::OrderRefund => OrderRefund,
                    Withdrawal::Chargeback => Chargeback,
                };
                (kind, taken(total(&withdrawn.debits)), &*withdrawn.reference.0)
            }
            Effect::Held(_) | Effect::Released(_) | Effect::CostAccrued(_) => return None,
        };
        (amount != Nano::ZERO).then_some(Movement { kind, amount, reference })
    }
}

/// One charge among those of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChargeLine {
    pub hold: HoldId,
    pub at: Timestamp,
    /// What was charged, positive.
    pub charged: Nano,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_lead_back_to_their_kinds() {
        for kind in MovementKind::ALL {
            assert_eq!(MovementKind::from_code(kind as u8), Some(kind));
        }
        let mut names: Vec<_> = MovementKind::ALL.iter().map(|kind| kind.as_str()).collect();
        names.dedup();
        assert_eq!(names.len(), MovementKind::ALL.len());
        assert!(
            Family::ALL.iter().all(|family| MovementKind::ALL.iter().any(|kind| kind.family() == *family))
        );
    }

    #[test]
    fn a_code_is_a_source_of_its_own() {
        for source in [CreditSource::Promotion, CreditSource::Payment] {
            assert_eq!(MovementKind::of_credit(source, "code:cod_1"), Code);
        }
        assert_eq!(MovementKind::of_credit(CreditSource::Payment, "order:ord_1"), Payment);
        assert_eq!(MovementKind::of_credit(CreditSource::Compensation, "code:cod_1"), Compensation);
    }
}
