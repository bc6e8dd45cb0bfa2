//! Effects of the ledger, byte by byte.

use ledger::{
    AccountId, CostAccrued, CounterKey, CreditSource, Credited, Debit, Effect, Expired, Held, HeldLayer,
    HoldId, HoldOwner, Layer, LotId, LotKind, Metric, Nano, Reference, Refunded, ReleaseReason, Released,
    Settled, Timestamp, WindowInstance, WindowKind, Withdrawal, Withdrawn,
};

use super::wire::{DecodeError, Reader, Writer};

type Decoded<T> = Result<T, DecodeError>;

const CREDITED: u8 = 1;
const HELD: u8 = 2;
const SETTLED: u8 = 3;
const RELEASED: u8 = 4;
const EXPIRED: u8 = 5;
const REFUNDED: u8 = 6;
const WITHDRAWN: u8 = 7;
const COST_ACCRUED: u8 = 8;

pub fn write(to: &mut Writer<'_>, effect: &Effect) {
    let head = |to: &mut Writer<'_>, tag| {
        to.u8(tag);
        to.fixed64(effect.account().0);
        to.i64(effect.at().0);
    };
    match effect {
        Effect::Credited(credit) => {
            head(to, CREDITED);
            to.fixed64(credit.lot.0);
            to.u8(credit.kind as u8);
            to.u8(credit.priority);
            to.option(credit.expires_at, |to, end| to.i64(end.0));
            to.i64(credit.amount.0);
            to.i64(credit.repaid.0);
            to.u8(credit.source as u8);
            write_reference(to, &credit.reference, credit.content);
        }
        Effect::Held(held) => {
            head(to, HELD);
            write_held(to, held);
        }
        Effect::Settled(settled) => {
            head(to, SETTLED);
            to.fixed128(settled.hold.0);
            to.i64(settled.cost.0);
            to.list(&settled.debits, write_debit);
            to.list(&settled.returned, write_debit);
            to.list(&settled.overrun, write_debit);
            to.i64(settled.loss.0);
        }
        Effect::Released(released) => {
            head(to, RELEASED);
            to.fixed128(released.hold.0);
            to.u8(released.reason as u8);
            to.list(&released.returned, write_debit);
        }
        Effect::Expired(expired) => {
            head(to, EXPIRED);
            write_debit(to, &expired.debit);
        }
        Effect::Refunded(refund) => {
            head(to, REFUNDED);
            to.fixed128(refund.hold.0);
            to.list(&refund.credits, write_debit);
            to.list(&refund.layers, write_layer);
            write_reference(to, &refund.reference, refund.content);
        }
        Effect::Withdrawn(withdrawn) => {
            head(to, WITHDRAWN);
            to.u8(withdrawn.kind as u8);
            to.list(&withdrawn.debits, write_debit);
            write_reference(to, &withdrawn.reference, withdrawn.content);
        }
        Effect::CostAccrued(cost) => {
            head(to, COST_ACCRUED);
            to.fixed128(cost.hold.0);
            to.i64(cost.amount.0);
        }
    }
}

pub fn read(from: &mut Reader<'_>) -> Decoded<Effect> {
    let tag = from.u8()?;
    let account = AccountId(from.fixed64()?);
    let at = Timestamp(from.i64()?);
    Ok(match tag {
        CREDITED => Effect::Credited(read_credited(from, account, at)?),
        HELD => Effect::Held(read_held(from, account, at)?),
        SETTLED => Effect::Settled(Settled {
            account,
            at,
            hold: HoldId(from.fixed128()?),
            cost: nano(from)?,
            debits: from.list(read_debit)?,
            returned: from.list(read_debit)?,
            overrun: from.list(read_debit)?,
            loss: nano(from)?,
        }),
        RELEASED => Effect::Released(Released {
            account,
            at,
            hold: HoldId(from.fixed128()?),
            reason: code(from, "release reason", ReleaseReason::from_code)?,
            returned: from.list(read_debit)?,
        }),
        EXPIRED => Effect::Expired(Expired { account, at, debit: read_debit(from)? }),
        REFUNDED => {
            let hold = HoldId(from.fixed128()?);
            let (credits, layers) = (from.list(read_debit)?, from.list(read_layer)?);
            let (reference, content) = read_reference(from)?;
            Effect::Refunded(Refunded { hold, account, at, credits, layers, reference, content })
        }
        WITHDRAWN => {
            let kind = code(from, "withdrawal", Withdrawal::from_code)?;
            let debits = from.list(read_debit)?;
            let (reference, content) = read_reference(from)?;
            Effect::Withdrawn(Withdrawn { account, at, kind, debits, reference, content })
        }
        COST_ACCRUED => {
            let hold = HoldId(from.fixed128()?);
            Effect::CostAccrued(CostAccrued { account, hold, at, amount: nano(from)? })
        }
        value => return Err(DecodeError::Unknown { what: "effect", value: u64::from(value) }),
    })
}

fn read_credited(from: &mut Reader<'_>, account: AccountId, at: Timestamp) -> Decoded<Credited> {
    let lot = LotId(from.fixed64()?);
    let kind = code(from, "lot kind", LotKind::from_code)?;
    let priority = from.u8()?;
    let expires_at = from.option(|from| from.i64().map(Timestamp))?;
    let (amount, repaid) = (nano(from)?, nano(from)?);
    let source = code(from, "credit source", CreditSource::from_code)?;
    let (reference, content) = read_reference(from)?;
    Ok(Credited { account, at, lot, kind, priority, expires_at, amount, repaid, source, reference, content })
}

/// A hold without its head; checkpoints use it too.
pub fn write_held(to: &mut Writer<'_>, held: &Held) {
    to.fixed128(held.hold.0);
    to.i64(held.amount.0);
    to.i64(held.overdraft.0);
    match held.owner {
        HoldOwner::Process(epoch) => {
            to.u8(1);
            to.u64(epoch);
        }
        HoldOwner::Task(task) => {
            to.u8(2);
            to.u64(task);
        }
    }
    to.list(&held.debits, write_debit);
    to.list(&held.layers, write_layer);
}

pub fn read_held(from: &mut Reader<'_>, account: AccountId, at: Timestamp) -> Decoded<Held> {
    let hold = HoldId(from.fixed128()?);
    let (amount, overdraft) = (nano(from)?, nano(from)?);
    let owner = match from.u8()? {
        1 => HoldOwner::Process(from.u64()?),
        2 => HoldOwner::Task(from.u64()?),
        value => return Err(DecodeError::Unknown { what: "hold owner", value: u64::from(value) }),
    };
    let (debits, layers) = (from.list(read_debit)?, from.list(read_layer)?);
    Ok(Held { hold, account, at, amount, overdraft, owner, debits, layers })
}

fn write_debit(to: &mut Writer<'_>, debit: &Debit) {
    to.fixed64(debit.lot.0);
    to.u8(debit.kind as u8);
    to.u8(debit.priority);
    to.option(debit.expires_at, |to, end| to.i64(end.0));
    to.i64(debit.amount.0);
}

fn read_debit(from: &mut Reader<'_>) -> Decoded<Debit> {
    Ok(Debit {
        lot: LotId(from.fixed64()?),
        kind: code(from, "lot kind", LotKind::from_code)?,
        priority: from.u8()?,
        expires_at: from.option(|from| from.i64().map(Timestamp))?,
        amount: nano(from)?,
    })
}

fn write_layer(to: &mut Writer<'_>, layer: &HeldLayer) {
    write_counter(to, &layer.counter, &layer.window);
    to.option(layer.limit, Writer::i64);
    to.i64(layer.amount);
}

fn read_layer(from: &mut Reader<'_>) -> Decoded<HeldLayer> {
    let (counter, window) = read_counter(from)?;
    let limit = from.option(Reader::i64)?;
    Ok(HeldLayer { counter, window, limit, amount: from.i64()? })
}

pub fn write_counter(to: &mut Writer<'_>, counter: &CounterKey, window: &WindowInstance) {
    to.u8(counter.layer as u8);
    to.u8(counter.metric as u8);
    to.u8(counter.window as u8);
    to.fixed64(counter.subject);
    to.u64(counter.model);
    // All time needs no bounds.
    if counter.window != WindowKind::Total {
        to.i64(window.start.0);
        to.i64(window.end.0);
    }
}

pub fn read_counter(from: &mut Reader<'_>) -> Decoded<(CounterKey, WindowInstance)> {
    let layer = code(from, "layer", Layer::from_code)?;
    let metric = code(from, "metric", Metric::from_code)?;
    let window = code(from, "window", WindowKind::from_code)?;
    let counter = CounterKey { layer, metric, window, subject: from.fixed64()?, model: from.u64()? };
    let instance = match window {
        WindowKind::Total => WindowInstance::TOTAL,
        WindowKind::Day | WindowKind::Month => {
            WindowInstance { start: Timestamp(from.i64()?), end: Timestamp(from.i64()?) }
        }
    };
    Ok((counter, instance))
}

fn write_reference(to: &mut Writer<'_>, reference: &Reference, content: u128) {
    to.text(&reference.0);
    to.fixed128(content);
}

fn read_reference(from: &mut Reader<'_>) -> Decoded<(Reference, u128)> {
    Ok((Reference::new(from.text()?), from.fixed128()?))
}

pub fn nano(from: &mut Reader<'_>) -> Decoded<Nano> {
    from.i64().map(Nano)
}

/// An enumeration that is stored as one byte.
pub fn code<T>(from: &mut Reader<'_>, what: &'static str, known: impl FnOnce(u8) -> Option<T>) -> Decoded<T> {
    let value = from.u8()?;
    known(value).ok_or(DecodeError::Unknown { what, value: u64::from(value) })
}
