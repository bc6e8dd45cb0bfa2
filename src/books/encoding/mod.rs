//! The journal's encoding, version 5: what a batch's `effects` and `facts` are made of.
//!
//! ```text
//! effects = version, records
//! record  = call?, list of effects          call = id of the request, 16 bytes
//! facts   = version, list of (call, log row)
//! ```
//! Integers are LEB128, signed ones zigzag; ids of 128 bits and fingerprints are 16 bytes, big-endian; a
//! text or byte string is its length and its bytes; an option is 0, or 1 and the value; a list is its
//! length and its items. `effects` hold money, counts, ids and codes and are kept for ever; `facts` hold
//! what may be personal and can be purged: the chain knows them by their hash alone.
//!
//! What older versions wrote is read for ever. Version 2: the outcome of a call has a list of its attempts, where
//! version 1 had the status and the name of one upstream. Version 3: it is known how a call stands to those before it.
//! Version 4: the readings have the channels that rested.
//! Version 5: behind the client stands the cost that it confirmed.
//!
//! A usage is a list of numbers: the tokens of each class and, only where any were used, the row of the price's table of
//! units and the units. A body that asks for units has a tag of its own (3). What has neither is written as it always was.
//!
//! A call that is free has an outcome and no effects.
//!
//! Rows of the projections use the same alphabet. Decoding never panics, whatever the bytes.

mod call;
mod effect;
mod state;
mod wire;

use ledger::{Effect, HoldId, Nano, Timestamp};

use crate::gateway::facts::CallRecord;
use crate::id::RequestId;
use crate::store::Batch;

use super::Record;
use super::movement::ChargeLine;
use wire::{Reader, Writer};

pub use state::{
    Checkpoint, Totals, Verified, decode_checkpoint, decode_verified, encode_checkpoint, encode_verified,
};
pub use wire::DecodeError;

const VERSION: u8 = 5;
/// The version from which on it is known how a call stands to those before it.
const REPETITION: u8 = 3;
/// The version from which on a call has attempts.
const ATTEMPTS: u8 = 2;
/// The version from which on readings have channels.
const CHANNELS: u8 = 4;
/// The version from which on the cost is kept that a caller confirmed.
const CONFIRMED_COST: u8 = 5;

/// Buffers that go round: a batch takes them and gives them back.
#[derive(Default)]
pub struct Buffers {
    effects: Vec<u8>,
    facts: Vec<u8>,
}

impl Buffers {
    /// The bytes of a batch.
    pub fn encode(&mut self, records: &[Record]) -> (Vec<u8>, Vec<u8>) {
        let (mut effects, mut facts) = (std::mem::take(&mut self.effects), std::mem::take(&mut self.facts));
        effects.clear();
        facts.clear();
        encode_effects_of(records, &mut Writer(&mut effects));
        encode_facts_of(records, &mut Writer(&mut facts));
        (effects, facts)
    }

    pub fn take_back(&mut self, batch: Batch) {
        self.effects = batch.effects;
        self.facts = batch.facts.unwrap_or_default();
    }
}

fn encode_effects_of(records: &[Record], to: &mut Writer<'_>) {
    to.u8(VERSION);
    to.list(records, |to, record| {
        to.option(record.request(), |to, request| to.fixed128(request.raw()));
        to.list(&record.effects, effect::write);
    });
}

fn encode_facts_of(records: &[Record], to: &mut Writer<'_>) {
    to.u8(VERSION);
    let calls = records.iter().filter(|record| record.call.is_some()).count();
    to.u64(calls as u64);
    for call in records.iter().filter_map(|record| record.call.as_ref()) {
        call::write(to, call);
    }
}

/// A record as it is read back; the call is missing if the facts were purged.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredRecord {
    pub request: Option<RequestId>,
    pub effects: Vec<Effect>,
    pub call: Option<CallRecord>,
}

/// Reads a batch. `facts` is `None` once they are purged.
pub fn decode_batch(effects: &[u8], facts: Option<&[u8]>) -> Result<Vec<StoredRecord>, DecodeError> {
    let mut from = Reader::new(effects);
    version(&mut from)?;
    let mut records: Vec<StoredRecord> = from.list(|from| {
        let request = from.option(|from| from.fixed128().map(RequestId::from_raw))?;
        Ok(StoredRecord { request, effects: from.list(effect::read)?, call: None })
    })?;
    from.end()?;
    if let Some(facts) = facts {
        let mut from = Reader::new(facts);
        version(&mut from)?;
        let calls: Vec<CallRecord> = from.list(call::read)?;
        from.end()?;
        let of_calls = records.iter_mut().filter(|record| record.request.is_some());
        for (record, call) in of_calls.zip(calls) {
            if record.request != Some(call.decided.facts.request) {
                return Err(DecodeError::OutOfRange { what: "order of the log rows" });
            }
            record.call = Some(call);
        }
    }
    Ok(records)
}

fn version(from: &mut Reader<'_>) -> Result<(), DecodeError> {
    match from.u8()? {
        known @ 1..=VERSION => {
            from.version = known;
            Ok(())
        }
        value => Err(DecodeError::Unknown { what: "version", value: u64::from(value) }),
    }
}

/// One log row, as the projections keep it.
pub fn encode_call(call: &CallRecord) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    call::write(&mut Writer(&mut bytes), call);
    bytes
}

pub fn decode_call(bytes: &[u8]) -> Result<CallRecord, DecodeError> {
    let mut from = Reader::new(bytes);
    version(&mut from)?;
    let call = call::read(&mut from)?;
    from.end()?;
    Ok(call)
}

/// The money of one call, as the projections keep it.
pub fn encode_effects(effects: &[Effect]) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    Writer(&mut bytes).list(effects, effect::write);
    bytes
}

pub fn decode_effects(bytes: &[u8]) -> Result<Vec<Effect>, DecodeError> {
    let mut from = Reader::new(bytes);
    version(&mut from)?;
    let effects = from.list(effect::read)?;
    from.end()?;
    Ok(effects)
}

/// The charges of a row of movements.
pub fn encode_charges(lines: &[ChargeLine]) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    let mut before_ms = 0;
    Writer(&mut bytes).list(lines, |to, line| {
        to.fixed128(line.hold.0);
        to.i64(line.at.0 - before_ms);
        to.i64(line.charged.0);
        before_ms = line.at.0;
    });
    bytes
}

pub fn decode_charges(bytes: &[u8]) -> Result<Vec<ChargeLine>, DecodeError> {
    let mut from = Reader::new(bytes);
    version(&mut from)?;
    let mut before_ms = 0_i64;
    let lines = from.list(|from| {
        let hold = HoldId(from.fixed128()?);
        let at_ms = before_ms.wrapping_add(from.i64()?);
        before_ms = at_ms;
        Ok(ChargeLine { hold, at: Timestamp(at_ms), charged: Nano(from.i64()?) })
    })?;
    from.end()?;
    Ok(lines)
}

/// What of an account's money ends, and when.
pub fn encode_ends(ends: &[(Timestamp, Nano)]) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    Writer(&mut bytes).list(ends, |to, (end, amount)| {
        to.i64(end.0);
        to.i64(amount.0);
    });
    bytes
}

pub fn decode_ends(bytes: &[u8]) -> Result<Vec<(Timestamp, Nano)>, DecodeError> {
    let mut from = Reader::new(bytes);
    version(&mut from)?;
    let ends = from.list(|from| Ok((Timestamp(from.i64()?), Nano(from.i64()?))))?;
    from.end()?;
    Ok(ends)
}

/// The call that a hold was made for.
pub fn request_of(hold: HoldId) -> RequestId {
    RequestId::from_raw(hold.0)
}
