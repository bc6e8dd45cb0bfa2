//! The checkpoint: the whole books as of one batch.

use ledger::{
    AccountId, AccountState, CounterState, Families, HoldId, Lot, LotId, LotKind, State, Timestamp,
};

use crate::store::chain::Link;

use super::effect;
use super::wire::{DecodeError, Reader, Writer};

const VERSION: u8 = 1;

/// The books as of a batch, and the hash that the next batch is chained to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    pub n: u64,
    pub hash: [u8; 32],
    pub epoch: u64,
    pub state: State,
}

impl Default for Checkpoint {
    /// Before the first batch.
    fn default() -> Self {
        let Link { n, hash, epoch } = Link::START;
        Checkpoint { n, hash, epoch, state: State::default() }
    }
}

/// What was counted from the first batch of the journal on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Calls that were settled or released.
    pub ended: u64,
    /// Nano-units.
    pub charged: i128,
    /// The audit log as far as it was verified: a version and the hash of its row.
    pub audit: (u64, [u8; 32]),
}

/// The books as far as `verify` has found them clean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    pub totals: Totals,
    pub checkpoint: Checkpoint,
}

pub fn encode_verified(verified: &Verified) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    let to = &mut Writer(&mut bytes);
    let Totals { ended, charged, audit } = verified.totals;
    to.u64(ended);
    to.fixed128(charged.cast_unsigned());
    to.u64(audit.0);
    to.bytes(&audit.1);
    to.bytes(&encode_checkpoint(&verified.checkpoint));
    bytes
}

pub fn decode_verified(bytes: &[u8]) -> Result<Verified, DecodeError> {
    let from = &mut Reader::new(bytes);
    match from.u8()? {
        VERSION => {}
        value => return Err(DecodeError::Unknown { what: "version of a seal", value: u64::from(value) }),
    }
    let (ended, charged) = (from.u64()?, from.fixed128()?.cast_signed());
    let version = from.u64()?;
    let hash = from.bytes()?.try_into().map_err(|_| DecodeError::OutOfRange { what: "hash" })?;
    let checkpoint = decode_checkpoint(from.bytes()?)?;
    from.end()?;
    Ok(Verified { totals: Totals { ended, charged, audit: (version, hash) }, checkpoint })
}

pub fn encode_checkpoint(checkpoint: &Checkpoint) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    let to = &mut Writer(&mut bytes);
    to.u64(checkpoint.n);
    to.bytes(&checkpoint.hash);
    to.u64(checkpoint.epoch);
    let state = &checkpoint.state;
    to.i64(state.now.0);
    to.list(&state.accounts, write_account);
    to.list(&state.counters, |to, counter| {
        effect::write_counter(to, &counter.key, &counter.window);
        to.i64(counter.used);
    });
    to.list(&state.holds, |to, held| {
        to.fixed64(held.account.0);
        to.i64(held.at.0);
        effect::write_held(to, held);
    });
    to.list(&state.references, |to, (name, content)| {
        to.fixed128(*name);
        to.fixed128(*content);
    });
    to.list(&state.refunded, |to, (charge, amount)| {
        to.fixed128(charge.0);
        to.i64(amount.0);
    });
    state.platform.iter().flatten().for_each(|sum| to.fixed128(sum.cast_unsigned()));
    bytes
}

pub fn decode_checkpoint(bytes: &[u8]) -> Result<Checkpoint, DecodeError> {
    let from = &mut Reader::new(bytes);
    match from.u8()? {
        VERSION => {}
        value => return Err(DecodeError::Unknown { what: "checkpoint version", value: u64::from(value) }),
    }
    let n = from.u64()?;
    let hash = from.bytes()?.try_into().map_err(|_| DecodeError::OutOfRange { what: "hash" })?;
    let epoch = from.u64()?;
    let mut state = State { now: Timestamp(from.i64()?), ..State::default() };
    state.accounts = from.list(read_account)?;
    state.counters = from.list(|from| {
        let (key, window) = effect::read_counter(from)?;
        Ok(CounterState { key, window, used: from.i64()? })
    })?;
    state.holds = from.list(|from| {
        let (account, at) = (AccountId(from.fixed64()?), Timestamp(from.i64()?));
        effect::read_held(from, account, at)
    })?;
    state.references = from.list(|from| Ok((from.fixed128()?, from.fixed128()?)))?;
    state.refunded = from.list(|from| Ok((HoldId(from.fixed128()?), effect::nano(from)?)))?;
    for sum in state.platform.iter_mut().flatten() {
        *sum = from.fixed128()?.cast_signed();
    }
    from.end()?;
    Ok(Checkpoint { n, hash, epoch, state })
}

fn write_account(to: &mut Writer<'_>, account: &AccountState) {
    to.fixed64(account.account.0);
    to.i64(account.owed.0);
    to.i64(account.owed_held.0);
    to.i64(account.held.0);
    let families = &account.families;
    for amount in [
        families.credits,
        families.charge_refunds,
        families.compensation,
        families.adjustments,
        families.charges,
        families.expiries,
        families.order_refunds,
        families.chargebacks,
    ] {
        to.i64(amount.0);
    }
    to.list(&account.lots, |to, lot| {
        to.fixed64(lot.id.0);
        to.u8(lot.kind as u8);
        to.u8(lot.priority);
        to.option(lot.expires_at, |to, end| to.i64(end.0));
        to.i64(lot.available.0);
        to.i64(lot.held.0);
    });
}

fn read_account(from: &mut Reader<'_>) -> Result<AccountState, DecodeError> {
    use effect::nano;
    Ok(AccountState {
        account: AccountId(from.fixed64()?),
        owed: nano(from)?,
        owed_held: nano(from)?,
        held: nano(from)?,
        families: Families {
            credits: nano(from)?,
            charge_refunds: nano(from)?,
            compensation: nano(from)?,
            adjustments: nano(from)?,
            charges: nano(from)?,
            expiries: nano(from)?,
            order_refunds: nano(from)?,
            chargebacks: nano(from)?,
        },
        lots: from.list(|from| {
            Ok(Lot {
                id: LotId(from.fixed64()?),
                kind: effect::code(from, "lot kind", LotKind::from_code)?,
                priority: from.u8()?,
                expires_at: from.option(|from| from.i64().map(Timestamp))?,
                available: nano(from)?,
                held: nano(from)?,
            })
        })?,
    })
}
