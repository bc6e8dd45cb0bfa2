//! The log row of a call, byte by byte.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use ledger::{TokenClass, Unit, Usage};

use crate::catalogue::{Code, LimitView, Refusal, Value};
use crate::directory::Rates;
use crate::gateway::channel_health::RestReason;
use crate::gateway::facts::{
    Admitted, AskedUnits, Attempt, Attempts, CallBody, CallRecord, CapReason, ChannelReading, Checked,
    Client, CostBasis, CounterReading, Credential, Decided, Ending, Endpoint, Facts, Outcome, RateReading,
    Readings, Repetition, UsageSource,
};
use crate::id::{AccountId, ChannelId, KeyId, MemberId, PriceId, ProjectId, RequestId};

use super::effect::{code, nano, read_counter, write_counter};
use super::wire::{DecodeError, Reader, Writer};

type Decoded<T> = Result<T, DecodeError>;

pub fn write(to: &mut Writer<'_>, call: &CallRecord) {
    let decided = &*call.decided;
    write_facts(to, &decided.facts);
    to.option(decided.readings.as_ref(), write_readings);
    to.option(decided.refusal.as_deref(), write_refusal);
    to.option(decided.admitted.as_ref(), write_admitted);
    to.u64(u64::from(decided.calls));
    to.option(call.outcome.as_deref(), write_outcome);
}

pub fn read(from: &mut Reader<'_>) -> Decoded<CallRecord> {
    let decided = Decided {
        facts: read_facts(from)?,
        readings: from.option(read_readings)?,
        refusal: from.option(read_refusal)?.map(Box::new),
        admitted: from.option(read_admitted)?,
        calls: from.u32()?,
    };
    Ok(CallRecord { decided: Arc::new(decided), outcome: from.option(read_outcome)?.map(Box::new) })
}

fn write_facts(to: &mut Writer<'_>, facts: &Facts) {
    to.fixed128(facts.request.raw());
    to.i64(facts.at_ms);
    to.u64(facts.config_version);
    write_checked(to, &facts.address, |to, endpoint| to.u8(*endpoint as u8));
    write_checked(to, &facts.credential, |to, credential| {
        to.fixed64(credential.key.raw());
        to.fixed64(credential.account.raw());
        to.option(credential.project, |to, project| to.fixed64(project.raw()));
        to.option(credential.member, |to, member| to.fixed64(member.raw()));
    });
    write_body(to, &facts.body);
    match facts.client.address {
        None => to.u8(0),
        Some(IpAddr::V4(address)) => {
            to.u8(4);
            to.u64(u64::from(address.to_bits()));
        }
        Some(IpAddr::V6(address)) => {
            to.u8(6);
            to.fixed128(address.to_bits());
        }
    }
    to.text(&facts.client.sdk);
    to.u64(u64::from(facts.client.retry_count));
    to.option(facts.client.browser_origin.as_deref(), Writer::text);
    to.option(facts.client.confirmed_cost, |to, amount| to.i64(amount.0));
    let Repetition { duplicate_of, replay_of, refused } = &facts.repetition;
    to.option(*duplicate_of, |to, first| to.fixed128(first.raw()));
    to.option(*replay_of, |to, first| to.fixed128(first.raw()));
    to.option(refused.as_deref(), write_refusal);
}

fn read_facts(from: &mut Reader<'_>) -> Decoded<Facts> {
    let request = RequestId::from_raw(from.fixed128()?);
    let (at_ms, config_version) = (from.i64()?, from.u64()?);
    let address = read_checked(from, |from| code(from, "endpoint", Endpoint::from_code))?;
    let credential = read_checked(from, |from| {
        let (key, account) = (KeyId::from_raw(from.fixed64()?), AccountId::from_raw(from.fixed64()?));
        let project = from.option(|from| from.fixed64().map(ProjectId::from_raw))?;
        let member = from.option(|from| from.fixed64().map(MemberId::from_raw))?;
        Ok(Credential { key, account, project, member })
    })?;
    let body = read_body(from)?;
    let address_of_client = match from.u8()? {
        0 => None,
        4 => Some(IpAddr::V4(from.u32()?.into())),
        6 => Some(IpAddr::V6(from.fixed128()?.into())),
        value => return Err(DecodeError::Unknown { what: "address family", value: u64::from(value) }),
    };
    let client = Client {
        address: address_of_client,
        sdk: from.text()?.into(),
        retry_count: from.u32()?,
        browser_origin: from.option(|from| from.text().map(Into::into))?,
        confirmed_cost: match from.version >= super::CONFIRMED_COST {
            true => from.option(nano)?,
            false => None,
        },
    };
    let repetition = read_repetition(from)?;
    Ok(Facts { request, at_ms, config_version, address, credential, body, client, repetition })
}

/// Before repetitions were looked for, nothing is known of them.
fn read_repetition(from: &mut Reader<'_>) -> Decoded<Repetition> {
    if from.version < super::REPETITION {
        return Ok(Repetition::default());
    }
    Ok(Repetition {
        duplicate_of: from.option(Reader::fixed128)?.map(RequestId::from_raw),
        replay_of: from.option(Reader::fixed128)?.map(RequestId::from_raw),
        refused: from.option(read_refusal)?.map(Box::new),
    })
}

/// As [`write_checked`], with a tag of its own for a body that asks for more than tokens.
fn write_body(to: &mut Writer<'_>, checked: &Checked<CallBody>) {
    match checked {
        Checked::Passed(body) if body.units.is_some() => {
            to.u8(BODY_WITH_UNITS);
            write_call_body(to, body);
            to.option(body.units.as_deref(), write_asked);
        }
        _ => write_checked(to, checked, write_call_body),
    }
}

fn read_body(from: &mut Reader<'_>) -> Decoded<Checked<CallBody>> {
    if from.peek() == Some(BODY_WITH_UNITS) {
        let _tag = from.u8()?;
        let mut body = read_call_body(from)?;
        body.units = from.option(read_asked)?.map(Box::new);
        return Ok(Checked::Passed(body));
    }
    read_checked(from, read_call_body)
}

const BODY_WITH_UNITS: u8 = 3;

fn write_call_body(to: &mut Writer<'_>, body: &CallBody) {
    to.text(&body.model);
    to.u8(u8::from(body.stream));
    to.u64(body.body_bytes);
    to.u64(body.input_tokens_bound);
    to.u64(u64::from(body.image_parts));
    to.u64(u64::from(body.audio_parts));
    to.option(body.output_cap, |to, cap| to.u64(u64::from(cap)));
    to.u64(u64::from(body.choices));
}

fn read_call_body(from: &mut Reader<'_>) -> Decoded<CallBody> {
    Ok(CallBody {
        model: from.text()?.into(),
        stream: from.u8()? != 0,
        body_bytes: from.u64()?,
        input_tokens_bound: from.u64()?,
        image_parts: from.u32()?,
        audio_parts: from.u32()?,
        output_cap: from.option(Reader::u32)?,
        choices: from.u32()?,
        units: None,
    })
}

fn write_asked(to: &mut Writer<'_>, asked: &AskedUnits) {
    to.u64(u64::from(asked.images));
    to.option(asked.size.as_deref(), Writer::text);
    to.option(asked.quality.as_deref(), Writer::text);
    to.option(asked.ms, Writer::u64);
    to.u64(asked.characters);
    to.u64(asked.searches);
}

fn read_asked(from: &mut Reader<'_>) -> Decoded<AskedUnits> {
    Ok(AskedUnits {
        images: from.u32()?,
        size: from.option(|from| from.text().map(Into::into))?,
        quality: from.option(|from| from.text().map(Into::into))?,
        ms: from.option(Reader::u64)?,
        characters: from.u64()?,
        searches: from.u64()?,
    })
}

fn write_checked<T>(to: &mut Writer<'_>, checked: &Checked<T>, write: impl FnOnce(&mut Writer<'_>, &T)) {
    match checked {
        Checked::NotReached => to.u8(0),
        Checked::Passed(value) => {
            to.u8(1);
            write(to, value);
        }
        Checked::Refused(refusal) => {
            to.u8(2);
            write_refusal(to, refusal);
        }
    }
}

fn read_checked<T>(
    from: &mut Reader<'_>,
    read: impl FnOnce(&mut Reader<'_>) -> Decoded<T>,
) -> Decoded<Checked<T>> {
    match from.u8()? {
        0 => Ok(Checked::NotReached),
        1 => read(from).map(Checked::Passed),
        2 => read_refusal(from).map(|refusal| Checked::Refused(Box::new(refusal))),
        value => Err(DecodeError::Unknown { what: "check", value: u64::from(value) }),
    }
}

fn write_readings(to: &mut Writer<'_>, readings: &Readings) {
    to.i64(readings.available.0);
    to.i64(readings.held.0);
    to.list(&readings.counters, |to, reading| {
        write_counter(to, &reading.counter, &reading.window);
        to.i64(reading.used);
        to.i64(reading.held);
    });
    to.option(readings.rate.as_ref(), |to, rate| {
        to.option(rate.limits.requests_per_second, Writer::u64);
        to.option(rate.limits.tokens_per_minute, Writer::u64);
        to.option(rate.limits.concurrency, Writer::u64);
        to.u64(rate.ahead_ns);
        to.u64(rate.tokens);
        to.u64(rate.running);
    });
    to.list(&readings.channels, |to, reading| {
        to.fixed64(reading.channel.raw());
        to.u8(reading.reason as u8);
        to.i64(reading.until_ms);
    });
}

fn read_readings(from: &mut Reader<'_>) -> Decoded<Readings> {
    let (available, held) = (nano(from)?, nano(from)?);
    let counters = from.list(|from| {
        let (counter, window) = read_counter(from)?;
        Ok(CounterReading { counter, window, used: from.i64()?, held: from.i64()? })
    })?;
    let rate = from.option(|from| {
        let limits = Rates {
            requests_per_second: from.option(Reader::u64)?,
            tokens_per_minute: from.option(Reader::u64)?,
            concurrency: from.option(Reader::u64)?,
        };
        Ok(RateReading { limits, ahead_ns: from.u64()?, tokens: from.u64()?, running: from.u64()? })
    })?;
    let channels = match from.version >= super::CHANNELS {
        true => from.list(|from| {
            let channel = ChannelId::from_raw(from.fixed64()?);
            let reason = code(from, "reason of a rest", RestReason::from_code)?;
            Ok(ChannelReading { channel, reason, until_ms: from.i64()? })
        })?,
        false => Vec::new(),
    };
    Ok(Readings { available, held, counters, rate, channels })
}

fn write_admitted(to: &mut Writer<'_>, admitted: &Admitted) {
    to.fixed64(admitted.price.raw());
    to.u64(admitted.multiplier_ppm);
    to.fixed64(admitted.channel.raw());
    to.i64(admitted.hold.0);
    to.u64(u64::from(admitted.output_cap));
    to.u8(admitted.cap_reason as u8);
}

fn read_admitted(from: &mut Reader<'_>) -> Decoded<Admitted> {
    Ok(Admitted {
        price: PriceId::from_raw(from.fixed64()?),
        multiplier_ppm: from.u64()?,
        channel: ChannelId::from_raw(from.fixed64()?),
        hold: nano(from)?,
        output_cap: from.u32()?,
        cap_reason: code(from, "cap reason", CapReason::from_code)?,
    })
}

fn write_outcome(to: &mut Writer<'_>, outcome: &Outcome) {
    to.u64(u64::from(outcome.status));
    to.u8(outcome.ending as u8);
    write_usage(to, &outcome.usage);
    to.u8(outcome.usage_source as u8);
    to.list(&outcome.attempts, write_attempt);
    to.option(outcome.upstream_error.as_deref(), Writer::text);
    to.option(outcome.code, |to, code| to.u64(u64::from(code.number())));
    to.option(outcome.first_byte_us, Writer::u64);
    to.u64(outcome.latency_us);
}

fn read_outcome(from: &mut Reader<'_>) -> Decoded<Outcome> {
    Ok(Outcome {
        status: from.u16()?,
        ending: code(from, "ending", Ending::from_code)?,
        usage: read_usage(from)?,
        usage_source: code(from, "usage source", UsageSource::from_code)?,
        attempts: read_attempts(from)?,
        upstream_error: from.option(|from| from.text().map(Into::into))?,
        code: from.option(read_code)?,
        first_byte_us: from.option(Reader::u64)?,
        latency_us: from.u64()?,
    })
}

fn write_attempt(to: &mut Writer<'_>, attempt: &Attempt) {
    to.option(attempt.channel, |to, channel| to.fixed64(channel.raw()));
    to.u8(attempt.credential);
    to.u64(attempt.multiplier_ppm);
    to.u64(attempt.started_us);
    to.u64(attempt.duration_us);
    to.option(attempt.status, |to, status| to.u64(u64::from(status)));
    to.option(attempt.upstream_request.as_deref(), Writer::text);
    to.option(attempt.fault, |to, fault| to.u64(u64::from(fault.number())));
    to.option(attempt.cost, |to, cost| to.i64(cost.0));
    to.u8(attempt.cost_basis as u8);
}

fn read_attempt(from: &mut Reader<'_>) -> Decoded<Attempt> {
    Ok(Attempt {
        channel: from.option(Reader::fixed64)?.map(ChannelId::from_raw),
        credential: from.u8()?,
        multiplier_ppm: from.u64()?,
        started_us: from.u64()?,
        duration_us: from.u64()?,
        status: from.option(Reader::u16)?,
        upstream_request: from.option(|from| from.text().map(Into::into))?,
        fault: from.option(read_code)?,
        cost: from.option(nano)?,
        cost_basis: code(from, "cost basis", CostBasis::from_code)?,
    })
}

/// Before attempts were kept, a call had one, of which little was known.
fn read_attempts(from: &mut Reader<'_>) -> Decoded<Attempts> {
    if from.version >= super::ATTEMPTS {
        return from.list(read_attempt);
    }
    let status = from.option(Reader::u16)?;
    let upstream_request: Option<Box<str>> = from.option(|from| from.text().map(Into::into))?;
    let was_tried = status.is_some() || upstream_request.is_some();
    let only = was_tried.then(|| Attempt { status, upstream_request, ..Attempt::default() });
    Ok(only.into_iter().collect())
}

/// A list of numbers: the tokens of each class, then, only if any were used, the row of the price's table of units and
/// the units. So what was written before there were units reads as it did.
fn write_usage(to: &mut Writer<'_>, usage: &Usage) {
    let has_units = usage.row > 0 || usage.units.iter().any(|units| *units > 0);
    to.u64((TokenClass::COUNT + if has_units { 1 + Unit::COUNT } else { 0 }) as u64);
    usage.tokens.iter().for_each(|tokens| to.u64(*tokens));
    if has_units {
        to.u64(usage.row);
        usage.units.iter().for_each(|units| to.u64(*units));
    }
}

fn read_usage(from: &mut Reader<'_>) -> Decoded<Usage> {
    const WITH_UNITS: u64 = (TokenClass::COUNT + 1 + Unit::COUNT) as u64;
    let numbers = from.u64()?;
    if numbers != TokenClass::COUNT as u64 && numbers != WITH_UNITS {
        return Err(DecodeError::OutOfRange { what: "token classes and units" });
    }
    let mut usage = Usage::default();
    for tokens in &mut usage.tokens {
        *tokens = from.u64()?;
    }
    if numbers == WITH_UNITS {
        usage.row = from.u64()?;
        for units in &mut usage.units {
            *units = from.u64()?;
        }
    }
    Ok(usage)
}

fn read_code(from: &mut Reader<'_>) -> Decoded<Code> {
    let number = from.u16()?;
    Code::from_number(number).ok_or(DecodeError::Unknown { what: "refusal code", value: u64::from(number) })
}

fn write_refusal(to: &mut Writer<'_>, refusal: &Refusal) {
    to.u64(u64::from(refusal.code.number()));
    to.list(&refusal.params, |to, (name, value)| {
        to.text(name);
        write_value(to, value);
    });
    to.option(refusal.limit.as_deref(), write_limit);
    to.option(refusal.field.as_deref(), Writer::text);
    to.option(refusal.retry_after_ms, Writer::u64);
    to.i64(refusal.charged.0);
    to.option(refusal.upstream_text.as_deref(), Writer::text);
}

fn read_refusal(from: &mut Reader<'_>) -> Decoded<Refusal> {
    let mut refusal = Refusal::new(read_code(from)?);
    refusal.params = from.list(|from| {
        let name = Cow::Owned(from.text()?.to_owned());
        Ok((name, read_value(from)?))
    })?;
    refusal.limit = from.option(read_limit)?.map(Box::new);
    refusal.field = from.option(|from| from.text().map(Into::into))?;
    refusal.retry_after_ms = from.option(Reader::u64)?;
    refusal.charged = nano(from)?;
    refusal.upstream_text = from.option(|from| from.text().map(Into::into))?;
    Ok(refusal)
}

fn write_value(to: &mut Writer<'_>, value: &Value) {
    match value {
        Value::Text(text) => {
            to.u8(1);
            to.text(text);
        }
        Value::List(names) => {
            to.u8(2);
            to.list(names, |to, name| to.text(name));
        }
        Value::Money(amount) => {
            to.u8(3);
            to.i64(amount.0);
        }
        Value::Time(ms) => {
            to.u8(4);
            to.i64(*ms);
        }
        Value::Count(count) => {
            to.u8(5);
            to.u64(*count);
        }
        Value::Both { en, zh } => {
            to.u8(6);
            to.text(en);
            to.text(zh);
        }
    }
}

fn read_value(from: &mut Reader<'_>) -> Decoded<Value> {
    Ok(match from.u8()? {
        1 => Value::Text(from.text()?.into()),
        2 => Value::List(from.list(|from| from.text().map(Into::into))?),
        3 => Value::Money(nano(from)?),
        4 => Value::Time(from.i64()?),
        5 => Value::Count(from.u64()?),
        6 => Value::Both { en: from.text()?.into(), zh: from.text()?.into() },
        value => return Err(DecodeError::Unknown { what: "value", value: u64::from(value) }),
    })
}

fn write_limit(to: &mut Writer<'_>, limit: &LimitView) {
    to.text(&limit.scope);
    to.option(limit.id.as_deref(), Writer::text);
    to.option(limit.window.as_deref(), Writer::text);
    for amount in [limit.limit, limit.used, limit.held, limit.available, limit.needed, limit.short_by] {
        to.option(amount, |to, amount| to.i64(amount.0));
    }
    to.option(limit.resets_at_ms, Writer::i64);
    to.option(limit.origin.as_deref(), Writer::text);
}

fn read_limit(from: &mut Reader<'_>) -> Decoded<LimitView> {
    let text = |from: &mut Reader<'_>| from.text().map(str::to_owned);
    Ok(LimitView {
        scope: Cow::Owned(text(from)?),
        id: from.option(text)?,
        window: from.option(text)?.map(Cow::Owned),
        limit: from.option(nano)?,
        used: from.option(nano)?,
        held: from.option(nano)?,
        available: from.option(nano)?,
        needed: from.option(nano)?,
        short_by: from.option(nano)?,
        resets_at_ms: from.option(Reader::i64)?,
        origin: from.option(text)?.map(Cow::Owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An outcome as version 1 wrote it: one upstream's status and name of the call in the place of attempts.
    #[test]
    fn an_outcome_from_before_attempts_is_read_as_one_attempt() {
        let mut bytes = Vec::new();
        let to = &mut Writer(&mut bytes);
        to.u64(200);
        to.u8(Ending::Complete as u8);
        to.list(&[7_u64; TokenClass::COUNT], |to, tokens| to.u64(*tokens));
        to.u8(UsageSource::Upstream as u8);
        to.option(Some(200), |to, status| to.u64(status));
        to.option(Some("chatcmpl-1"), Writer::text);
        (0..3).for_each(|_| to.u8(0));
        to.u64(1_500);
        let mut from = Reader::new(&bytes);
        from.version = 1;
        let outcome = read_outcome(&mut from).unwrap();
        assert_eq!(from.end(), Ok(()));
        let only =
            Attempt { status: Some(200), upstream_request: Some("chatcmpl-1".into()), ..Attempt::default() };
        assert_eq!(outcome.attempts.as_slice(), [only]);
        assert_eq!((outcome.usage.tokens[0], outcome.latency_us), (7, 1_500));
    }

    fn written(write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&mut Writer(&mut bytes));
        bytes
    }

    #[test]
    fn a_usage_without_units_is_written_as_it_always_was() {
        let mut usage = Usage::default();
        usage.set(TokenClass::Output, 300);
        let before = written(|to| to.list(&usage.tokens, |to, tokens| to.u64(*tokens)));
        assert_eq!(written(|to| write_usage(to, &usage)), before);
        assert_eq!(read_usage(&mut Reader::new(&before)), Ok(usage));
        usage.set_units(Unit::Second, 12_345);
        usage.row = 3;
        let bytes = written(|to| write_usage(to, &usage));
        assert_eq!(read_usage(&mut Reader::new(&bytes)), Ok(usage));
        let cut = written(|to| to.list(&[1, 2, 3], |to, number: &u64| to.u64(*number)));
        assert!(read_usage(&mut Reader::new(&cut)).is_err());
    }

    #[test]
    fn a_body_keeps_what_it_asks_for_beside_tokens() {
        let plain = CallBody {
            model: "m".into(),
            stream: true,
            body_bytes: 1,
            input_tokens_bound: 2,
            image_parts: 3,
            audio_parts: 4,
            output_cap: Some(5),
            choices: 6,
            units: None,
        };
        let asked = AskedUnits {
            images: 1,
            size: Some("1024x1024".into()),
            quality: None,
            ms: Some(7),
            characters: 8,
            searches: 9,
        };
        let with_units = CallBody { units: Some(Box::new(asked)), ..plain.clone() };
        for body in [Checked::Passed(plain.clone()), Checked::Passed(with_units), Checked::NotReached] {
            let bytes = written(|to| write_body(to, &body));
            assert_eq!(read_body(&mut Reader::new(&bytes)), Ok(body));
        }
        let before = written(|to| write_checked(to, &Checked::Passed(plain.clone()), write_call_body));
        assert_eq!(written(|to| write_body(to, &Checked::Passed(plain))), before);
    }
}
