//! What would put a case right, as corrections of the books: worked out from the order or the charge as it is now.
//!
//! Must never: post anything. Where the books cannot put it right – a file that is wrong, money that only the provider can
//! send, the platform's own cost – there is nothing to post, and the proposal says what else there is to do.

use ledger::{Book, LotKind, Nano};
use serde_json::Value;

use super::cases::Case;
use crate::funding::{
    CorrectionError, CorrectionKind, CorrectionTerms, Corrections, Funding, FundingError, Order, Search,
    money,
};
use crate::id::{AccountId, RequestId};

/// What corrections are worked out from.
pub struct Books<'a> {
    pub funding: &'a Funding,
    pub corrections: &'a Corrections,
}

const PRIORITY: u8 = 100;

/// The corrections that put a case right, in the order in which they are to be made; none: the books cannot.
pub fn entries(books: &Books<'_>, case: &Case) -> Result<Vec<CorrectionTerms>, CorrectionError> {
    let Some(proposal) = &case.proposal else { return Ok(Vec::new()) };
    let text = |name: &str| proposal[name].as_str();
    let amount = text("amount").and_then(|amount| Nano::parse_decimal(amount).ok()).unwrap_or_default();
    Ok(match text("action") {
        Some("refund_charge") => refund(books, text("request"), amount)?.into_iter().collect(),
        Some("adjust_account") => adjustment(account(&proposal["account"]), amount).into_iter().collect(),
        Some("move_between_accounts") => {
            let taken = adjustment(account(&proposal["from"]), Nano(amount.0.saturating_neg()));
            let given = adjustment(account(&proposal["to"]), amount);
            taken.zip(given).map_or_else(Vec::new, |(taken, given)| vec![taken, given])
        }
        // The payer has the money already; the order's account still has what it bought.
        Some("take_back" | "adjust_order") => match order(books, case, text("order"))? {
            Some(order) => {
                let part = money::share(order.credit, Nano(amount.0.saturating_abs()), order.pay);
                let signed = if amount < Nano::ZERO { Nano(part.0.saturating_neg()) } else { part };
                adjustment(Some(order.account), signed).into_iter().collect()
            }
            None => Vec::new(),
        },
        _ => Vec::new(),
    })
}

fn account(value: &Value) -> Option<AccountId> {
    value.as_str()?.parse().ok()
}

/// What is left of the charge, and not more than the case says.
fn refund(
    books: &Books<'_>,
    request: Option<&str>,
    amount: Nano,
) -> Result<Option<CorrectionTerms>, CorrectionError> {
    let Some(request) = request.and_then(|request| request.parse::<RequestId>().ok()) else {
        return Ok(None);
    };
    let (account, left) = match books.corrections.refundable(request) {
        Err(CorrectionError::Invalid(_)) => return Ok(None),
        found => found?,
    };
    let amount = amount.min(left);
    let terms = CorrectionTerms {
        kind: CorrectionKind::Refund,
        book: account.book(),
        request: Some(request),
        arrears: false,
        ..adjusted(account.into(), amount)
    };
    Ok(amount.is_positive().then_some(terms))
}

fn adjustment(account: Option<AccountId>, amount: Nano) -> Option<CorrectionTerms> {
    account.filter(|_| amount != Nano::ZERO).map(|account| adjusted(account, amount))
}

/// What an account lacks of what is taken is owed: the money has gone.
fn adjusted(account: AccountId, amount: Nano) -> CorrectionTerms {
    CorrectionTerms {
        kind: CorrectionKind::Adjustment,
        account,
        book: Book::Live,
        amount,
        request: None,
        order: None,
        lot_kind: LotKind::Purchased,
        priority: PRIORITY,
        expires_ms: None,
        arrears: amount < Nano::ZERO,
    }
}

/// The order of ours that a row of a statement is about: by our number, or by the provider's.
fn order(books: &Books<'_>, case: &Case, number: Option<&str>) -> Result<Option<Order>, CorrectionError> {
    let (Some(number), Some(provider)) = (number, case.source.strip_prefix("payments:")) else {
        return Ok(None);
    };
    let search = Search {
        provider: Some(provider.to_owned()),
        reference: Some(number.to_owned()),
        limit: 2,
        ..Search::default()
    };
    match books.funding.search(&search) {
        Ok(mut found) if found.len() == 1 => Ok(found.pop().filter(|order| order.credited_ms.is_some())),
        Ok(_) => Ok(None),
        Err(FundingError::Store(why)) => Err(why.into()),
        Err(_) => Ok(None),
    }
}
