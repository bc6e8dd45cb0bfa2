//! Streams of every provider's format, on their way to every client's: any bytes that an upstream can send, cut anywhere.
//! The first byte says which way, the second where it is cut.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tallygate::gateway::convert::{self, Converted, Envelope, Format, StreamConverter};
use tallygate::gateway::facts::Endpoint;
use tallygate::gateway::provider::Inspector;
use tallygate::gateway::sse::{Cut, SseReader, Verdict};

const FORMATS: [Format; 4] = [Format::OpenAi, Format::Anthropic, Format::Gemini, Format::Responses];
const LIMIT_BYTES: usize = 4096;

/// What became of a stream.
#[derive(Debug, PartialEq)]
struct Seen {
    now: Vec<u8>,
    last: Vec<u8>,
    facts: Vec<String>,
    fault: bool,
}

fuzz_target!(|data: &[u8]| {
    let [way, step, stream @ ..] = data else { return };
    let way = usize::from(*way);
    let (Some(from), Some(to)) = (FORMATS.get(way % 4), FORMATS.get(way / 4 % 4)) else { return };
    let whole = read(*from, *to, stream, stream.len().max(1));
    let parts = read(*from, *to, stream, usize::from(*step % 13) + 1);
    if !whole.fault && !parts.fault {
        assert_eq!(whole, parts);
    }
    // The same bytes as a whole answer.
    let _either = convert::answer(*from, *to, stream, &envelope());
});

fn envelope() -> Envelope {
    Envelope {
        model: "m".into(),
        id: "req_1".into(),
        created_s: 1,
        include_usage: true,
        echo: convert::responses::echo("{}"),
        counted: None,
        one_call: false,
    }
}

fn read(from: Format, to: Format, stream: &[u8], step: usize) -> Seen {
    let mut seen = Seen { now: Vec::new(), last: Vec::new(), facts: Vec::new(), fault: false };
    let mut converter = StreamConverter::new(from, to, envelope());
    let mut inspector = Inspector::new(from, Endpoint::ChatCompletions);
    let (mut into, mut reader, mut cut) = (Converted::default(), SseReader::new(LIMIT_BYTES), Cut::default());
    let mut fault = false;
    for piece in stream.chunks(step) {
        let judge = |event: &tallygate::gateway::sse::Event<'_>| {
            seen.facts.push(format!("{:?}", inspector.inspect(event.name, event.data)));
            fault |= fault || converter.push(event.data, &mut into).is_err();
            Verdict::Drop
        };
        if reader.feed(&Bytes::copy_from_slice(piece), judge, &mut cut).is_err() {
            fault = true;
            break;
        }
    }
    let _usage = inspector.input();
    fault |= converter.finish(None, &mut into).is_err();
    (seen.now, seen.last, seen.fault) = (into.now, into.last, fault);
    seen
}
