//! The reader of event streams: any bytes that an upstream can send, cut anywhere.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tallygate::gateway::sse::{Cut, Event, SseReader, Verdict};

/// Small, so that the limit is met as well.
const LIMIT_BYTES: usize = 256;

/// What a reader made of a stream.
#[derive(Debug, PartialEq)]
struct Seen {
    /// Data and name of each event, with its place.
    events: Vec<(Vec<u8>, Vec<u8>, u64, u64)>,
    forward: Vec<u8>,
    withheld: Vec<u8>,
    fault: bool,
}

fuzz_target!(|data: &[u8]| {
    let Some((step, stream)) = data.split_first() else { return };
    let whole = read(stream, stream.len().max(1));
    let parts = read(stream, usize::from(*step % 13) + 1);
    // However the stream is cut, the same events are seen and the same bytes go the same ways. An event
    // that is too long may be noticed earlier or later.
    if !whole.fault && !parts.fault {
        assert_eq!(
            (whole.events, &whole.forward, &whole.withheld),
            (parts.events, &parts.forward, &parts.withheld)
        );
        assert!(whole.forward.len() + whole.withheld.len() <= stream.len());
    }
});

fn read(stream: &[u8], step: usize) -> Seen {
    let stream = Bytes::copy_from_slice(stream);
    let mut seen = Seen { events: Vec::new(), forward: Vec::new(), withheld: Vec::new(), fault: false };
    let (mut reader, mut cut) = (SseReader::new(LIMIT_BYTES), Cut::default());
    let mut from = 0;
    while from < stream.len() {
        let to = (from + step).min(stream.len());
        let mut events = std::mem::take(&mut seen.events);
        let fault =
            reader.feed(&stream.slice(from..to), |event| judge(&mut events, event), &mut cut).is_err();
        seen.events = events;
        if fault {
            seen.fault = true;
            return seen;
        }
        assert!(reader.waiting_bytes() <= LIMIT_BYTES);
        from = to;
    }
    let mut events = std::mem::take(&mut seen.events);
    reader.finish(|event| judge(&mut events, event), &mut cut);
    // An LF that completes the CR of a blank line belongs to its event, but when a chunk ends between
    // the two, the event ends before it.
    for (_, _, _, end) in &mut events {
        let at = usize::try_from(*end).unwrap_or(usize::MAX);
        if at > 0 && stream.get(at - 1) == Some(&b'\r') && stream.get(at) == Some(&b'\n') {
            *end += 1;
        }
    }
    seen.events = events;
    seen.forward = cut.forward.concat();
    seen.withheld = cut.withheld.concat();
    seen
}

/// The first byte of the data decides.
fn judge(events: &mut Vec<(Vec<u8>, Vec<u8>, u64, u64)>, event: &Event<'_>) -> Verdict {
    assert!(event.start < event.end);
    events.push((event.data.to_vec(), event.name.to_vec(), event.start, event.end));
    match event.data.first() {
        Some(b'w') => Verdict::Withhold,
        Some(b'd') => Verdict::Drop,
        _ => Verdict::Forward,
    }
}
