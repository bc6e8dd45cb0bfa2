//! A transcript as it is stored: packed, and sealed with a key of its own. No I/O.
//!
//! Form, before LZ4 (block with its length in front) and AES-256-GCM: length of the head (4, big-endian) ‖ head, JSON ‖
//! what was sent ‖ what was answered. The key seals this one transcript, so the nonce is zero; whose it is – request and
//! account – is authenticated with it.

use bytes::Bytes;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use crate::secret::{MasterKeyError, SecretBytes};

use super::store::Entry;
use super::{Ended, Said, Transcript, TranscriptError};

const KEY_BYTES: usize = 32;

/// What is stored is not what was written, or not under this key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;

#[derive(Serialize, Deserialize)]
struct Head {
    status: u16,
    ended: Ended,
    asked: Side,
    answered: Side,
}

#[derive(Serialize, Deserialize)]
struct Side {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    media_type: Option<Box<str>>,
    bytes: u64,
    kept: usize,
}

impl Side {
    fn of(said: &Said) -> Self {
        Side { media_type: said.media_type.clone(), bytes: said.bytes, kept: said.text.len() }
    }

    fn said(self, text: Bytes) -> Said {
        Said { media_type: self.media_type, text, bytes: self.bytes }
    }
}

/// The key that was made for it, and what it seals.
pub(super) fn seal(transcript: &Transcript) -> Result<(SecretBytes, Vec<u8>), TranscriptError> {
    let Transcript { asked, answered, .. } = transcript;
    let head = Head {
        status: transcript.status,
        ended: transcript.ended,
        asked: Side::of(asked),
        answered: Side::of(answered),
    };
    let head = serde_json::to_vec(&head).map_err(|_| Damaged)?;
    let head_bytes = u32::try_from(head.len()).map_err(|_| Damaged)?.to_be_bytes();
    let plain = [&head_bytes[..], &head, &asked.text, &answered.text].concat();
    let mut sealed = lz4_flex::compress_prepend_size(&plain);
    let mut key = vec![0; KEY_BYTES];
    SystemRandom::new().fill(&mut key).map_err(|_| TranscriptError::Key(MasterKeyError::NoRandomness))?;
    let key = SecretBytes::new(key);
    let of = aad(transcript.request.raw(), transcript.account.raw());
    cipher(&key)?.seal_in_place_append_tag(nonce(), Aad::from(of), &mut sealed).map_err(|_| Damaged)?;
    Ok((key, sealed))
}

pub(super) fn open(entry: &Entry, key: &SecretBytes, mut sealed: Vec<u8>) -> Result<Transcript, Damaged> {
    let of = aad(entry.request.raw(), entry.account.raw());
    let packed = cipher(key)?.open_in_place(nonce(), Aad::from(of), &mut sealed).map_err(|_| Damaged)?;
    // The length in front was authenticated: it is what was written.
    let plain = Bytes::from(lz4_flex::decompress_size_prepended(packed).map_err(|_| Damaged)?);
    let head_bytes = plain.first_chunk().map(|bytes| u32::from_be_bytes(*bytes)).ok_or(Damaged)?;
    let behind = 4usize.saturating_add(usize::try_from(head_bytes).map_err(|_| Damaged)?);
    let head: Head = serde_json::from_slice(plain.get(4..behind).ok_or(Damaged)?).map_err(|_| Damaged)?;
    let middle = behind.saturating_add(head.asked.kept);
    let end = middle.saturating_add(head.answered.kept);
    if end != plain.len() {
        return Err(Damaged);
    }
    Ok(Transcript {
        request: entry.request,
        account: entry.account,
        key: entry.key,
        at_ms: entry.at_ms,
        expires_ms: entry.expires_ms,
        status: head.status,
        ended: head.ended,
        asked: head.asked.said(plain.slice(behind..middle)),
        answered: head.answered.said(plain.slice(middle..end)),
    })
}

fn aad(request: u128, account: u64) -> Vec<u8> {
    [&request.to_be_bytes()[..], &account.to_be_bytes()].concat()
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

fn cipher(key: &SecretBytes) -> Result<LessSafeKey, Damaged> {
    UnboundKey::new(&AES_256_GCM, key.expose()).map(LessSafeKey::new).map_err(|_| Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{AccountId, KeyId, RequestId};

    fn transcript() -> Transcript {
        let said = |text: &'static str, bytes| Said {
            media_type: Some("application/json".into()),
            text: Bytes::from_static(text.as_bytes()),
            bytes,
        };
        Transcript {
            request: RequestId::from_raw(7),
            account: AccountId::from_raw(8),
            key: KeyId::from_raw(9),
            at_ms: 10,
            expires_ms: 11,
            status: 200,
            ended: Ended::Left,
            asked: said("{\"q\":1}", 7),
            answered: Said { media_type: None, ..said("", 5_000) },
        }
    }

    fn entry(transcript: &Transcript) -> Entry {
        Entry {
            request: transcript.request,
            account: transcript.account,
            key: transcript.key,
            at_ms: transcript.at_ms,
            expires_ms: transcript.expires_ms,
        }
    }

    #[test]
    fn what_was_sealed_is_opened_by_its_own_key_for_its_own_row_alone() {
        let kept = transcript();
        let (key, sealed) = seal(&kept).unwrap();
        assert_eq!(open(&entry(&kept), &key, sealed.clone()), Ok(kept.clone()));
        let other_key = seal(&kept).unwrap().0;
        assert_eq!(open(&entry(&kept), &other_key, sealed.clone()), Err(Damaged));
        let elsewhere = Entry { account: AccountId::from_raw(80), ..entry(&kept) };
        assert_eq!(open(&elsewhere, &key, sealed.clone()), Err(Damaged));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(open(&entry(&kept), &key, changed), Err(Damaged), "{at}");
            assert_eq!(open(&entry(&kept), &key, sealed[..at].to_vec()), Err(Damaged), "{at}");
        }
    }
}
