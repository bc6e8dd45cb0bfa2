use bytes::Bytes;
use proptest::prelude::*;

use super::{Cut, SseFault, SseReader, Verdict};

const LIMIT: usize = 4096;

/// What a judge saw and what came out.
#[derive(Debug, PartialEq, Eq, Default)]
struct Seen {
    events: Vec<(String, String)>,
    forward: Vec<u8>,
    withheld: Vec<u8>,
}

/// Drops `drop`, withholds from `hold` on.
fn verdict(data: &[u8]) -> Verdict {
    match data {
        b"drop" => Verdict::Drop,
        b"hold" => Verdict::Withhold,
        _ => Verdict::Forward,
    }
}

fn read(chunks: &[&[u8]]) -> Seen {
    let mut reader = SseReader::new(LIMIT);
    let mut seen = Seen::default();
    let mut cut = Cut::default();
    let mut reached = 0;
    let mut judge = |event: &super::Event<'_>| {
        assert!(event.start >= reached && event.end > event.start);
        reached = event.end;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        seen.events.push((text(event.name), text(event.data)));
        verdict(event.data)
    };
    for chunk in chunks {
        reader.feed(&Bytes::copy_from_slice(chunk), &mut judge, &mut cut).unwrap();
    }
    reader.finish(&mut judge, &mut cut);
    seen.forward = cut.forward.concat();
    seen.withheld = cut.withheld.concat();
    seen
}

fn events(stream: &str) -> Vec<String> {
    read(&[stream.as_bytes()]).events.into_iter().map(|(_, data)| data).collect()
}

const RECORDED: &str = concat!(
    "\u{feff}: hello\r\n\r\n",
    "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\r\n\r\n",
    "data: drop\r\r",
    "event: message\ndata: a\ndata:b\nid: 7\n\n",
    ": ping\n\n\n",
    "data\n\n",
    "data: \u{7ed9}\u{4f60}\r\r\n",
    "data: hold\r\n\r\n",
    "data: drop\r\n\r\n",
    ": late ping\r\r",
    "data: [DONE]"
);

#[test]
fn a_stream_is_read_by_the_standard() {
    let seen = read(&[RECORDED.as_bytes()]);
    let data: Vec<_> = seen.events.iter().map(|(_, data)| data.as_str()).collect();
    let delta = "{\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}";
    assert_eq!(data, [delta, "drop", "a\nb", "", "\u{7ed9}\u{4f60}", "hold", "drop", "[DONE]"]);
    assert_eq!(seen.events[2].0, "message");
    assert_eq!(seen.withheld, b"data: hold\r\n\r\n: late ping\r\rdata: [DONE]");
    assert!(seen.forward.ends_with("data: \u{7ed9}\u{4f60}\r\r\n".as_bytes()));
    assert!(!String::from_utf8_lossy(&seen.forward).contains("drop"));
}

#[test]
fn line_ends_and_blanks() {
    assert_eq!(events("data: a\rdata: b\r\rdata: c\n\r\n"), ["a\nb", "c"]);
    assert_eq!(events("data:  two\n\ndata:none\n\n"), [" two", "none"]);
    assert_eq!(events("datax: no\nid: 1\n\n: data: no\n\n"), [] as [&str; 0]);
    assert_eq!(events("data: a\r\n\r\n\r\n\r\ndata: b\r\n\r\n"), ["a", "b"]);
}

#[test]
fn wherever_a_stream_is_cut_the_same_events_and_bytes_come_out() {
    let whole = read(&[RECORDED.as_bytes()]);
    let bytes = RECORDED.as_bytes();
    for first in 0..=bytes.len() {
        assert_eq!(read(&[&bytes[..first], &bytes[first..]]), whole, "cut at {first}");
        for second in (first..=bytes.len()).step_by(7) {
            assert_eq!(read(&[&bytes[..first], &bytes[first..second], &bytes[second..]]), whole);
        }
    }
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(read(&single), whole);
}

#[test]
fn an_event_inside_a_chunk_leaves_as_a_slice_of_it() {
    let mut reader = SseReader::new(LIMIT);
    let mut cut = Cut::default();
    let chunk = Bytes::from_static(b"data: 1\n\ndata: 2\n\ndata: drop\n\ndata: 3\n\ndata: beg");
    reader.feed(&chunk, |event| verdict(event.data), &mut cut).unwrap();
    // Neighbours go out as one piece, cut only around the dropped event.
    assert_eq!(cut.forward.len(), 2);
    assert_eq!(cut.forward[0].as_ptr(), chunk.as_ptr());
    assert_eq!(cut.forward[1].as_ptr(), chunk[30..].as_ptr());
    assert_eq!(cut.forward.concat(), b"data: 1\n\ndata: 2\n\ndata: 3\n\n");
    assert_eq!((reader.judged_bytes(), reader.waiting_bytes()), (39, 9));
}

#[test]
fn a_whole_chunk_of_events_leaves_as_it_came_and_allocates_nothing() {
    let mut reader = SseReader::new(LIMIT);
    let mut cut = Cut::default();
    let chunk = Bytes::from_static(b"data: 1\n\ndata: 2\n\n");
    for _ in 0..100 {
        cut.forward.clear();
        reader.feed(&chunk, |_| Verdict::Forward, &mut cut).unwrap();
        assert_eq!((cut.forward.len(), cut.forward[0].as_ptr()), (1, chunk.as_ptr()));
    }
    assert_eq!((reader.begun.capacity(), reader.joined.capacity()), (0, 0));
}

#[test]
fn an_event_beyond_the_limit_is_a_fault_however_it_arrives() {
    let fault = Err(SseFault::EventTooLarge { limit_bytes: 32 });
    let feed = |chunks: &[&'static [u8]]| {
        let mut reader = SseReader::new(32);
        let mut cut = Cut::default();
        let mut all = chunks.iter().map(|chunk| Bytes::from_static(chunk));
        all.try_for_each(|chunk| reader.feed(&chunk, |_| Verdict::Forward, &mut cut))
    };
    let long = b"data: 0123456789012345678901234\n\n";
    assert_eq!(long.len(), 33);
    assert_eq!(feed(&[long]), fault);
    assert_eq!(feed(&[&long[..20], &long[20..]]), fault);
    assert_eq!(feed(&[&long[1..]]), Ok(()));
    assert_eq!(feed(&[b"data: endless without a line end 0"]), fault);
}

proptest! {
    #[test]
    fn any_bytes_in_any_chunks_come_out_in_order(
        bytes in proptest::collection::vec(
            prop_oneof![Just(b'\n'), Just(b'\r'), Just(b':'), Just(b'd'), Just(b'a'), Just(b't'), any::<u8>()], 0..200),
        cuts in proptest::collection::vec(0usize..200, 0..8),
    ) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        let seen = read(&chunks);
        prop_assert_eq!(&seen, &read(&[&bytes]));
        // Nothing here is called `drop` or `hold`, so that all goes through.
        prop_assert_eq!(seen.forward, bytes);
    }
}
