use proptest::prelude::*;

use super::*;

const LENGTH: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{\"answer\":42}";
const CHUNKS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n\
    Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
    5;name=value\r\nhello\r\n1 ;\"a;b\"\r\n \r\n005\r\nworld\r\n0;last\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n";
const EVENTS: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n\
    16\r\ndata: {\"delta\":\"He\"}\n\n\r\n17\r\ndata: {\"delta\":\"llo\"}\n\n\r\nE\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";
const UNTIL_CLOSE: &str = "HTTP/1.0 200 OK\nContent-Type: text/plain\n\nall that comes\r\n\r\n";
const NO_CONTENT: &str = "HTTP/1.1 204 No Content\r\nX: y\r\n\r\n";

const RECORDED: [(&str, &str); 5] = [
    (LENGTH, "{\"answer\":42}"),
    (CHUNKS, "hello world"),
    (EVENTS, "data: {\"delta\":\"He\"}\n\ndata: {\"delta\":\"llo\"}\n\ndata: [DONE]\n\n"),
    (UNTIL_CLOSE, "all that comes\r\n\r\n"),
    (NO_CONTENT, ""),
];

fn whole(recorded: &str, reads: impl IntoIterator<Item = usize>) -> Replayed {
    replay(recorded.as_bytes(), reads, false).unwrap().unwrap()
}

#[test]
fn an_answer_reads_the_same_wherever_it_is_cut() {
    for (recorded, body) in RECORDED {
        for first in 1..recorded.len() {
            for second in [1, 2, 3, recorded.len()] {
                let got = whole(recorded, [first, second]);
                assert_eq!(String::from_utf8_lossy(&got.body), body, "cut at {first} and {second} more");
                assert!(got.whole);
            }
        }
        let got = whole(recorded, std::iter::repeat_n(1, recorded.len()));
        assert_eq!(String::from_utf8_lossy(&got.body), body, "byte by byte");
    }
}

#[test]
fn chunks_that_one_read_brought_come_out_as_one_piece() {
    let got = whole(EVENTS, []);
    assert_eq!(got.pieces, 1);
    assert!(got.reusable);
}

#[test]
fn an_answer_cut_short_is_not_whole() {
    for (recorded, body) in RECORDED {
        for length in 0..recorded.len() {
            let Some(got) = replay(&recorded.as_bytes()[..length], [], false).unwrap() else {
                continue;
            };
            assert!(body.as_bytes().starts_with(&got.body));
            assert_eq!(got.whole, recorded == UNTIL_CLOSE, "{length} bytes of {recorded:?}");
            assert!(!got.reusable);
        }
    }
}

#[test]
fn what_comes_behind_an_answer_is_never_part_of_it() {
    for (recorded, body) in [(LENGTH, "{\"answer\":42}"), (CHUNKS, "hello world"), (NO_CONTENT, "")] {
        let poisoned = format!("{recorded}HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen");
        let got = whole(&poisoned, []);
        assert_eq!(String::from_utf8_lossy(&got.body), body);
        assert!(got.whole);
        assert!(!got.reusable, "a connection with bytes left on it must not serve another call");
    }
}

#[test]
fn heads_are_bounded() {
    let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(HEAD_BYTES_MAX));
    assert_eq!(replay(endless.as_bytes(), [1_000; 70], false), Err(Fault("the head is too large")));
    let large = format!("{endless}\r\n\r\n");
    assert_eq!(replay(large.as_bytes(), [], false), Err(Fault("the head is too large")));
    let interims = "HTTP/1.1 100 Continue\r\n\r\n".repeat(usize::from(INTERIM_MAX) + 1);
    assert_eq!(replay(interims.as_bytes(), [], false), Err(Fault("too many interim answers")));
    let switch = "HTTP/1.1 101 Switching Protocols\r\n\r\n";
    assert!(replay(switch.as_bytes(), [], false).is_err());
    for not_http in
        ["SSH-2.0-x\r\n", "\r\nHTTP/1.1 200 OK\r\n\r\n", "\u{16}\u{3}\u{1}", "hTTP/1.1 200 OK\r\n\r\n"]
    {
        assert!(replay(not_http.as_bytes(), [], false).is_err(), "{not_http:?}");
    }
}

#[test]
fn the_answer_to_a_head_request_has_no_body() {
    let got = replay(b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n", [], true).unwrap().unwrap();
    assert!(got.whole && got.reusable && got.body.is_empty());
}

/// A chunked body of these pieces, and what they say together.
fn chunked(pieces: &[Vec<u8>]) -> (Vec<u8>, Vec<u8>) {
    let mut recorded = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
        recorded.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        recorded.extend_from_slice(piece);
        recorded.extend_from_slice(b"\r\n");
    }
    recorded.extend_from_slice(b"0\r\n\r\n");
    (recorded, pieces.concat())
}

proptest! {
    #[test]
    fn any_body_comes_through_in_any_reads(
        pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..20),
        reads in proptest::collection::vec(1_usize..200, 0..60),
    ) {
        let (recorded, body) = chunked(&pieces);
        let got = replay(&recorded, reads, false).unwrap().unwrap();
        prop_assert_eq!(got.body, body);
        prop_assert!(got.whole && got.reusable);
    }

    #[test]
    fn garbage_is_refused_or_read_but_never_panics(
        which in 0..RECORDED.len(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        reads in proptest::collection::vec(1_usize..50, 0..20),
        to_head in any::<bool>(),
    ) {
        let mut recorded = RECORDED[which].0.as_bytes().to_vec();
        for (at, byte) in changes {
            let at = at.index(recorded.len());
            match byte % 3 {
                0 => recorded[at] = byte,
                1 => recorded.insert(at, byte),
                _ => drop(recorded.drain(at..(at + usize::from(byte % 16)).min(recorded.len()))),
            }
            if recorded.is_empty() {
                break;
            }
        }
        let at_once = replay(&recorded, [], to_head);
        let in_parts = replay(&recorded, reads, to_head);
        // How an answer arrives must not decide what it says.
        match (at_once, in_parts) {
            (Ok(Some(one)), Ok(Some(other))) => {
                prop_assert_eq!((one.status, one.body, one.whole), (other.status, other.body, other.whole));
            }
            (one, other) => prop_assert_eq!(one.is_err(), other.is_err()),
        }
    }

    #[test]
    fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut recorded = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        let _ = replay(&noise, [3, 7], false);
        recorded.extend_from_slice(&noise);
        let _ = replay(&recorded, [50, 1, 2, 3], false);
    }
}
