//! What would put a case right, as corrections of the books: worked out from the order or the charge as it is now.
//!
//! Promises: the amounts are those of the proposal, whole, in the ledger's currency; what was posted of the case is not asked for
//! again. Must never: post anything. Where the books cannot put it right – a file that is wrong, money that only the provider can
//! send, the platform's own cost – there is nothing to post, and the proposal says what else there is to do.

use ledger::{Book, LotKind, Nano};
use serde_json::Value;

use super::cases::Case;
use crate::funding::{
    Correction, CorrectionError, CorrectionKind, CorrectionState, CorrectionTerms, Corrections, Funding,
    FundingError, Order, Search, money,
};
use crate::id::{AccountId, RequestId};

/// What corrections are worked out from.
pub struct Books<'a> {
    pub funding: &'a Funding,
    pub corrections: &'a Corrections,
}

const PRIORITY: u8 = 100;

/// The corrections that put a case right, in the order in which they are to be made, without what was posted of it before;
/// empty: all was. `None`: the books cannot, or it is more than they can count.
pub fn entries(books: &Books<'_>, case: &Case) -> Result<Option<Vec<CorrectionTerms>>, CorrectionError> {
    let Some(proposal) = &case.proposal else { return Ok(None) };
    let text = |name: &str| proposal[name].as_str();
    let Some(amount) = text("amount").and_then(|amount| Nano::parse_decimal(amount).ok()) else {
        return Ok(None);
    };
    let made = made_of(books, case)?;
    let adjustments = |wanted: &[(Option<AccountId>, Option<Nano>)]| -> Option<Vec<_>> {
        let each = wanted.iter().map(|(account, amount)| adjustment(&made, (*account)?, (*amount)?));
        Some(each.collect::<Option<Vec<_>>>()?.into_iter().flatten().collect())
    };
    Ok(match text("action") {
        Some("refund_charge") => refund(books, &made, text("request"), amount)?,
        Some("adjust_account") => adjustments(&[(account(&proposal["account"]), Some(amount))]),
        Some("move_between_accounts") => adjustments(&[
            (account(&proposal["from"]), amount.0.checked_neg().map(Nano)),
            (account(&proposal["to"]), Some(amount)),
        ]),
        // The payer has the money already; the order's account still has what it bought.
        Some("take_back" | "adjust_order") => match order(books, case, text("order"))? {
            Some(order) => {
                adjustments(&[(Some(order.account), money::proportion(order.credit, amount, order.pay))])
            }
            None => None,
        },
        _ => None,
    })
}

/// The corrections that were made of a case.
pub fn made_of(books: &Books<'_>, case: &Case) -> Result<Vec<Correction>, CorrectionError> {
    case.corrections.iter().map(|id| books.corrections.get(*id)).collect()
}

/// What of an amount was not posted yet. `None`: more than can be counted.
fn not_posted(made: &[Correction], kind: CorrectionKind, account: AccountId, amount: Nano) -> Option<Nano> {
    let is_of_it = |made: &&Correction| {
        made.state == CorrectionState::Posted && made.terms.kind == kind && made.terms.account == account
    };
    let posted: i128 = made.iter().filter(is_of_it).map(|made| i128::from(made.terms.amount.0)).sum();
    i128::from(amount.0).checked_sub(posted)?.try_into().ok().map(Nano)
}

fn account(value: &Value) -> Option<AccountId> {
    value.as_str()?.parse().ok()
}

/// What is left of the charge, and not more than the case says.
fn refund(
    books: &Books<'_>,
    made: &[Correction],
    request: Option<&str>,
    amount: Nano,
) -> Result<Option<Vec<CorrectionTerms>>, CorrectionError> {
    let Some(request) = request.and_then(|request| request.parse::<RequestId>().ok()) else {
        return Ok(None);
    };
    let (account, left) = match books.corrections.refundable(request) {
        Err(CorrectionError::Invalid(_)) => return Ok(None),
        found => found?,
    };
    let book = account.book();
    let Some(rest) = not_posted(made, CorrectionKind::Refund, account.into(), amount) else {
        return Ok(None);
    };
    let amount = rest.min(left);
    let terms = CorrectionTerms {
        kind: CorrectionKind::Refund,
        book,
        request: Some(request),
        arrears: false,
        ..adjusted(account.into(), amount)
    };
    Ok(Some(amount.is_positive().then_some(terms).into_iter().collect()))
}

/// What of an adjustment was not posted yet, if anything. `None`: more than can be counted.
fn adjustment(made: &[Correction], account: AccountId, amount: Nano) -> Option<Option<CorrectionTerms>> {
    let rest = not_posted(made, CorrectionKind::Adjustment, account, amount)?;
    Some((rest != Nano::ZERO).then(|| adjusted(account, rest)))
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
