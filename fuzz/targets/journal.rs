//! The journal's decoder: any bytes that a damaged disk or another version can hold.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tallygate::books::encoding::{
    decode_batch, decode_call, decode_checkpoint, decode_effects, encode_call, encode_checkpoint,
    encode_effects,
};

// The first byte chooses the decoder. What one reads, it writes, and reads again as the same.
fuzz_target!(|data: &[u8]| {
    let Some((choice, bytes)) = data.split_first() else { return };
    match choice % 4 {
        0 => {
            // A batch: a length byte, the effects, the facts.
            let Some((length, bytes)) = bytes.split_first() else { return };
            let (effects, facts) = bytes.split_at(usize::from(*length).min(bytes.len()));
            let with = decode_batch(effects, Some(facts));
            let without = decode_batch(effects, None);
            if let Ok(records) = with {
                assert_eq!(without.map(|records| records.len()), Ok(records.len()));
            }
        }
        1 => {
            if let Ok(call) = decode_call(bytes) {
                assert_eq!(decode_call(&encode_call(&call)), Ok(call));
            }
        }
        2 => {
            if let Ok(effects) = decode_effects(bytes) {
                assert_eq!(decode_effects(&encode_effects(&effects)), Ok(effects));
            }
        }
        _ => {
            if let Ok(checkpoint) = decode_checkpoint(bytes) {
                let written = encode_checkpoint(&checkpoint);
                let again = decode_checkpoint(&written).map(|checkpoint| encode_checkpoint(&checkpoint));
                assert_eq!(again, Ok(written));
            }
        }
    }
});
