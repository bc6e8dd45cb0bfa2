//! How a copy is sealed: in chunks, so that one of any size is written and read in little memory. No I/O.
//!
//! Form: eight bytes that say what it is ‖ chunks of 64 KiB, the last one shorter, each with its tag (16). AES-256-GCM under
//! a key that was made for this object alone; the nonce is the number of the chunk and whether it is the last.
//!
//! Promises: chunks that are changed, left out, moved or repeated, and an end that is cut off, are found before anything
//! of the chunk concerned is given out; the key of an object never seals a second one.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

use crate::secret::{MasterKeyError, SecretBytes};

/// Plain bytes of every chunk but the last.
pub const CHUNK_BYTES: usize = 64 << 10;
const TAG_BYTES: usize = 16;
const KEY_BYTES: usize = 32;
const HEAD: &[u8; 8] = b"tgcopy1\n";

/// What is sealed is not what was written, or not under this key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;

/// A key for one object.
pub fn new_key() -> Result<SecretBytes, MasterKeyError> {
    let mut bytes = vec![0; KEY_BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| MasterKeyError::NoRandomness)?;
    Ok(SecretBytes::new(bytes))
}

/// Length of what is sealed of so many bytes.
pub const fn sealed_bytes(plain: u64) -> u64 {
    plain.saturating_add(chunks(plain).saturating_mul(TAG_BYTES as u64)).saturating_add(HEAD.len() as u64)
}

/// One that is empty has a chunk, too.
const fn chunks(plain: u64) -> u64 {
    let chunks = plain.div_ceil(CHUNK_BYTES as u64);
    if chunks == 0 { 1 } else { chunks }
}

fn cipher(key: &SecretBytes) -> Result<LessSafeKey, Damaged> {
    UnboundKey::new(&AES_256_GCM, key.expose()).map(LessSafeKey::new).map_err(|_| Damaged)
}

fn nonce(number: u64, is_last: bool) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    for (to, from) in bytes.iter_mut().zip(number.to_be_bytes()) {
        *to = from;
    }
    if let Some(last) = bytes.last_mut() {
        *last = u8::from(is_last);
    }
    Nonce::assume_unique_for_key(bytes)
}

/// Seals one object from its beginning to its end.
pub struct Sealer {
    cipher: LessSafeKey,
    number: u64,
    plain: u64,
    /// The chunk that is being filled: sealed only when it is known whether it is the last.
    chunk: Vec<u8>,
}

impl Sealer {
    /// What stands at the beginning goes behind `out`.
    pub fn new(key: &SecretBytes, out: &mut Vec<u8>) -> Result<Self, Damaged> {
        out.extend_from_slice(HEAD);
        let chunk = Vec::with_capacity(CHUNK_BYTES + TAG_BYTES);
        Ok(Sealer { cipher: cipher(key)?, number: 0, plain: 0, chunk })
    }

    /// Plain bytes so far.
    pub fn plain(&self) -> u64 {
        self.plain
    }

    /// Whatever is sealed by now goes behind `out`.
    pub fn push(&mut self, mut piece: &[u8], out: &mut Vec<u8>) -> Result<(), Damaged> {
        self.plain = self.plain.saturating_add(piece.len() as u64);
        while !piece.is_empty() {
            if self.chunk.len() == CHUNK_BYTES {
                self.seal(false, out)?;
            }
            let room = CHUNK_BYTES.saturating_sub(self.chunk.len()).min(piece.len());
            let (now, later) = piece.split_at(room);
            self.chunk.extend_from_slice(now);
            piece = later;
        }
        Ok(())
    }

    /// Returns the length of the whole, plain.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<u64, Damaged> {
        self.seal(true, out)?;
        Ok(self.plain)
    }

    fn seal(&mut self, is_last: bool, out: &mut Vec<u8>) -> Result<(), Damaged> {
        let nonce = nonce(self.number, is_last);
        self.cipher.seal_in_place_append_tag(nonce, Aad::from(HEAD), &mut self.chunk).map_err(|_| Damaged)?;
        out.extend_from_slice(&self.chunk);
        self.chunk.clear();
        self.number += 1;
        Ok(())
    }
}

/// Opens one object from its beginning to its end.
pub struct Opener {
    cipher: LessSafeKey,
    number: u64,
    /// Plain bytes still to come.
    left: u64,
    has_head: bool,
    is_over: bool,
    /// What has come of the next chunk.
    chunk: Vec<u8>,
}

impl Opener {
    /// `plain`: the length that the object was written with.
    pub fn new(key: &SecretBytes, plain: u64) -> Result<Self, Damaged> {
        let chunk = Vec::with_capacity(CHUNK_BYTES + TAG_BYTES);
        Ok(Opener { cipher: cipher(key)?, number: 0, left: plain, has_head: false, is_over: false, chunk })
    }

    /// Whether everything has come.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whatever is open by now goes behind `out`.
    pub fn push(&mut self, mut piece: &[u8], out: &mut Vec<u8>) -> Result<(), Damaged> {
        while !piece.is_empty() {
            if self.is_over {
                return Err(Damaged);
            }
            let wanted = if self.has_head { self.chunk_bytes() + TAG_BYTES } else { HEAD.len() };
            let room = wanted.saturating_sub(self.chunk.len()).min(piece.len());
            let (now, later) = piece.split_at(room);
            self.chunk.extend_from_slice(now);
            piece = later;
            if self.chunk.len() == wanted {
                self.take(out)?;
            }
        }
        Ok(())
    }

    fn chunk_bytes(&self) -> usize {
        usize::try_from(self.left).unwrap_or(usize::MAX).min(CHUNK_BYTES)
    }

    fn take(&mut self, out: &mut Vec<u8>) -> Result<(), Damaged> {
        if !self.has_head {
            self.has_head = self.chunk == HEAD;
            self.chunk.clear();
            return if self.has_head { Ok(()) } else { Err(Damaged) };
        }
        let is_last = self.left <= CHUNK_BYTES as u64;
        let nonce = nonce(self.number, is_last);
        let plain =
            self.cipher.open_in_place(nonce, Aad::from(HEAD), &mut self.chunk).map_err(|_| Damaged)?;
        out.extend_from_slice(plain);
        self.left = self.left.saturating_sub(plain.len() as u64);
        self.chunk.clear();
        self.number += 1;
        self.is_over = is_last;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(key: &SecretBytes, plain: &[u8], pieces: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let mut sealer = Sealer::new(key, &mut out).unwrap();
        for piece in plain.chunks(pieces) {
            sealer.push(piece, &mut out).unwrap();
        }
        assert_eq!(sealer.finish(&mut out).unwrap(), plain.len() as u64);
        assert_eq!(out.len() as u64, sealed_bytes(plain.len() as u64));
        out
    }

    /// What came out, and whether that was all.
    fn opened(key: &SecretBytes, length: usize, sealed: &[u8], pieces: usize) -> (Vec<u8>, bool) {
        let (mut out, mut opener) = (Vec::new(), Opener::new(key, length as u64).unwrap());
        let whole = sealed.chunks(pieces).all(|piece| opener.push(piece, &mut out).is_ok());
        (out, whole && opener.is_over())
    }

    fn plain(length: usize) -> Vec<u8> {
        (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
    }

    #[test]
    fn g1_a_copy_is_opened_as_it_was_sealed_whatever_its_length() {
        let key = new_key().unwrap();
        for length in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES] {
            let plain = plain(length);
            for pieces in [1_000, CHUNK_BYTES, 1 << 20] {
                let sealed = sealed(&key, &plain, pieces);
                let (out, whole) = opened(&key, length, &sealed, 7_777);
                assert!(whole && out == plain, "{length} in pieces of {pieces}");
            }
        }
    }

    #[test]
    fn g1_a_copy_that_was_changed_cut_or_put_in_another_order_is_found() {
        let key = new_key().unwrap();
        let text = plain(3 * CHUNK_BYTES + 5);
        let whole = sealed(&key, &text, 10_000);
        let chunk = CHUNK_BYTES + TAG_BYTES;
        let part = |number: usize| whole[HEAD.len() + number * chunk..].iter().take(chunk).copied();
        let head = || whole[..HEAD.len()].iter().copied();
        let mut flipped = whole.clone();
        flipped[HEAD.len() + chunk + 9] ^= 1;
        let swapped: Vec<u8> = head().chain(part(1)).chain(part(0)).chain(part(2)).chain(part(3)).collect();
        let left_out: Vec<u8> = head().chain(part(0)).chain(part(2)).chain(part(3)).collect();
        let longer: Vec<u8> = whole.iter().copied().chain([0]).collect();
        let cut = whole[..HEAD.len() + 3 * chunk].to_vec();
        let short = whole[..whole.len() - 1].to_vec();
        for (what, bytes) in [
            ("flipped", &flipped),
            ("swapped", &swapped),
            ("left out", &left_out),
            ("longer", &longer),
            ("cut", &cut),
            ("short", &short),
        ] {
            let (out, whole) = opened(&key, text.len(), bytes, 5_000);
            assert!(!whole, "{what}");
            assert!(text.starts_with(&out), "{what}: nothing wrong is given out");
        }
        // Cut at the end of a chunk, and told to be so long: that chunk was not sealed as the last.
        assert!(!opened(&key, 3 * CHUNK_BYTES, &cut, 5_000).1);
        assert!(!opened(&new_key().unwrap(), text.len(), &whole, 5_000).1, "another key");
    }
}
