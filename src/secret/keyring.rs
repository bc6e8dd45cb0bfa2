//! The keys of an installation while it runs: the master key that seals, the one before it while values are sealed
//! anew, and the keys by which texts are hashed.
//!
//! Promises: what is sealed is sealed with the newest key, and what either key sealed is opened; the hash keys do not
//! change with the master key, so that API keys and redemption codes outlive it. They are derived from the first master
//! key once and kept in the database: what is hashed with them is too random to be guessed (API keys and tokens 238
//! bits, codes 90), and from them nothing leads back to the master key (HKDF, one way).
//! Must never: seal with a key that is about to be forgotten.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ring::hmac;

use super::master::{MasterKey, MasterKeyError, sealed_by};
use super::{MASTER_KEY_BYTES, SecretBytes};

const HASH_KEYS: usize = 3;
const NEXT: &str = "next master key";
const PREVIOUS: &str = "previous master key";

/// What texts are hashed under, by what they are.
#[derive(Clone)]
pub struct HashKeys {
    api_key: SecretBytes,
    /// Of redemption codes.
    pub code: SecretBytes,
    /// Of the random words by which a gateway knows its own callback address.
    pub callback_check: SecretBytes,
}

impl HashKeys {
    /// Those that the first master key of an installation makes.
    pub fn derived(master: &MasterKey) -> Result<Self, MasterKeyError> {
        Ok(HashKeys {
            api_key: master.derive_api_key_hash()?,
            code: master.derive("redemption code hash")?,
            callback_check: master.derive("payment callback check")?,
        })
    }

    /// As they are kept.
    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.api_key, &self.code, &self.callback_check].map(SecretBytes::expose).concat()
    }

    /// `None`: they are none.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != MASTER_KEY_BYTES * HASH_KEYS {
            return None;
        }
        let mut keys = bytes.chunks_exact(MASTER_KEY_BYTES).map(SecretBytes::new);
        Some(HashKeys { api_key: keys.next()?, code: keys.next()?, callback_check: keys.next()? })
    }
}

impl fmt::Debug for HashKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKeys([secret])")
    }
}

/// The master keys that are held at a moment.
#[derive(Clone)]
pub struct Held {
    pub current: Arc<MasterKey>,
    /// The one before, while there may be values that it sealed.
    pub previous: Option<Arc<MasterKey>>,
}

/// See the module.
pub struct Keyring {
    held: ArcSwap<Held>,
    hash_keys: HashKeys,
    api_key_hash: hmac::Key,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyring([secret])")
    }
}

impl Keyring {
    pub fn new(current: MasterKey, previous: Option<MasterKey>, hash_keys: HashKeys) -> Self {
        let held = Held { current: Arc::new(current), previous: previous.map(Arc::new) };
        let api_key_hash = hmac::Key::new(hmac::HMAC_SHA256, hash_keys.api_key.expose());
        Keyring { held: ArcSwap::from_pointee(held), hash_keys, api_key_hash }
    }

    /// Of a new installation whose master key these 64 hexadecimal digits are.
    pub fn from_hex(digits: &str) -> Result<Self, MasterKeyError> {
        let master = MasterKey::from_hex(digits)?;
        let hash_keys = HashKeys::derived(&master)?;
        Ok(Keyring::new(master, None, hash_keys))
    }

    pub fn held(&self) -> Arc<Held> {
        self.held.load_full()
    }

    pub fn hash_keys(&self) -> &HashKeys {
        &self.hash_keys
    }

    /// The keyed hash by which an API key is stored and found (HMAC-SHA256).
    pub fn key_hash(&self, text: &[u8]) -> [u8; 32] {
        let mut out = [0; 32];
        for (to, from) in out.iter_mut().zip(hmac::sign(&self.api_key_hash, text).as_ref()) {
            *to = *from;
        }
        out
    }

    /// From now on `next` seals, and what the one before it sealed is still opened.
    pub fn turn(&self, next: MasterKey) {
        let before = self.held();
        self.held
            .store(Arc::new(Held { current: Arc::new(next), previous: Some(Arc::clone(&before.current)) }));
    }

    /// Forgets the key before: what only it sealed is not opened any more.
    pub fn forget_previous(&self) {
        let current = Arc::clone(&self.held().current);
        self.held.store(Arc::new(Held { current, previous: None }));
    }

    /// Encrypts `plain` for `purpose`.
    pub fn seal(&self, purpose: &str, plain: &[u8]) -> Result<Vec<u8>, MasterKeyError> {
        self.held.load().current.seal(purpose, plain)
    }

    /// Decrypts what was sealed for the same purpose by a key that is held.
    pub fn open(&self, purpose: &str, sealed: &[u8]) -> Result<SecretBytes, MasterKeyError> {
        let held = self.held.load();
        match (&held.previous, sealed_by(sealed)) {
            (Some(previous), Some(id)) if id == previous.id() => previous.open(purpose, sealed),
            _ => held.current.open(purpose, sealed),
        }
    }

    /// The same value sealed with the newest key; `None`: it is already.
    pub fn reseal(&self, purpose: &str, sealed: &[u8]) -> Result<Option<Vec<u8>>, MasterKeyError> {
        if sealed_by(sealed) == Some(self.held.load().current.id()) {
            return Ok(None);
        }
        let plain = self.open(purpose, sealed)?;
        self.seal(purpose, plain.expose()).map(Some)
    }

    /// Whether a key that is held sealed it.
    pub fn can_open(&self, sealed: &[u8]) -> bool {
        let held = self.held.load();
        let by = sealed_by(sealed);
        by == Some(held.current.id()) || by.is_some() && by == held.previous.as_ref().map(|key| key.id())
    }
}

/// Two master keys, each sealed by the other: whoever has one has both.
#[derive(Clone, Debug)]
pub struct Link {
    pub next: Vec<u8>,
    pub previous: Vec<u8>,
}

impl Link {
    pub fn new(previous: &MasterKey, next: &MasterKey) -> Result<Self, MasterKeyError> {
        Ok(Link {
            next: previous.seal(NEXT, next.bytes().expose())?,
            previous: next.seal(PREVIOUS, previous.bytes().expose())?,
        })
    }

    /// The next key for who has the previous one.
    pub fn next_for(&self, previous: &MasterKey) -> Result<MasterKey, MasterKeyError> {
        MasterKey::from_bytes(&previous.open(NEXT, &self.next)?)
    }

    /// The previous key for who has the next one.
    pub fn previous_for(&self, next: &MasterKey) -> Result<MasterKey, MasterKeyError> {
        MasterKey::from_bytes(&next.open(PREVIOUS, &self.previous)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digits(fill: u8) -> String {
        format!("{fill:02x}").repeat(MASTER_KEY_BYTES)
    }

    fn key(fill: u8) -> MasterKey {
        MasterKey::from_hex(&digits(fill)).unwrap()
    }

    #[test]
    fn key_hashes_depend_on_the_text_and_on_the_first_master_key_alone() {
        let ring = Keyring::from_hex(&digits(1)).unwrap();
        let hash = ring.key_hash(b"tg-live-1");
        assert_ne!(hash, ring.key_hash(b"tg-live-2"));
        assert_ne!(hash, Keyring::from_hex(&digits(2)).unwrap().key_hash(b"tg-live-1"));
        ring.turn(key(2));
        ring.forget_previous();
        assert_eq!(hash, ring.key_hash(b"tg-live-1"));
        let kept = HashKeys::from_bytes(&ring.hash_keys().to_bytes()).unwrap();
        assert_eq!(hash, Keyring::new(key(3), None, kept).key_hash(b"tg-live-1"));
    }

    /// What earlier versions stored was hashed so.
    #[test]
    fn the_hash_keys_of_a_master_key_never_change() {
        let ring = Keyring::from_hex(&digits(7)).unwrap();
        let hash = crate::hex::encode(&ring.key_hash(b"tg-live-of-an-earlier-version"));
        assert_eq!(hash, "13b55b889c0d9908eedfc0ba0052211643c1142f6c7e0dcc15fbcedd12297496");
    }

    #[test]
    fn both_keys_open_until_the_old_one_is_forgotten() {
        let ring = Keyring::from_hex(&digits(1)).unwrap();
        let old = ring.seal("p", b"text").unwrap();
        ring.turn(key(2));
        let new = ring.reseal("p", &old).unwrap().unwrap();
        assert!(ring.reseal("p", &new).unwrap().is_none(), "once is enough");
        for sealed in [&old, &new] {
            assert_eq!(ring.open("p", sealed).unwrap().expose(), b"text");
            assert!(ring.open("q", sealed).is_err());
        }
        ring.forget_previous();
        assert_eq!(ring.open("p", &new).unwrap().expose(), b"text");
        assert!(matches!(ring.open("p", &old), Err(MasterKeyError::Wrong)));
        assert_eq!((ring.can_open(&new), ring.can_open(&old)), (true, false));
    }

    #[test]
    fn whoever_has_one_of_two_linked_keys_has_both_and_nobody_else_has_any() {
        let link = Link::new(&key(1), &key(2)).unwrap();
        assert_eq!(link.next_for(&key(1)).unwrap().id(), key(2).id());
        assert_eq!(link.previous_for(&key(2)).unwrap().id(), key(1).id());
        assert!(link.next_for(&key(3)).is_err() && link.previous_for(&key(1)).is_err());
    }
}
