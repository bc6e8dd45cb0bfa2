//! The master key: 32 bytes that are never in the database.
//!
//! Promises: what [`MasterKey::seal`] made, only the same master key opens, and only with the same
//! purpose; a sealed value that was changed or moved is refused, and says which key sealed it.
//!
//! Sealed form: version (1) ‖ key id (4) ‖ nonce (12) ‖ ciphertext ‖ tag (16), AES-256-GCM with the
//! purpose as associated data. Keys are derived by HKDF-SHA256 (RFC 5869) with the purpose as `info`.

use super::{SecretBytes, wipe};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf;
use ring::rand::{SecureRandom, SystemRandom};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Length of a master key.
pub const MASTER_KEY_BYTES: usize = 32;
/// The file in the data directory that holds a generated master key, as 64 hexadecimal digits.
pub const MASTER_KEY_FILE: &str = "master.key";

const SEAL_VERSION: u8 = 1;
const KEY_ID_BYTES: usize = 4;
const HEAD_BYTES: usize = 1 + KEY_ID_BYTES + NONCE_LEN;

/// What is wrong with a master key or with something sealed.
#[derive(Debug)]
pub enum MasterKeyError {
    /// Not 64 hexadecimal digits.
    Malformed,
    /// The file cannot be read or made.
    File { doing: &'static str, path: String, source: std::io::Error },
    /// The file is not there.
    Lost { path: String },
    /// Sealed by another master key.
    Wrong,
    /// A sealed value is cut, changed, or was sealed for another purpose.
    Damaged,
    /// The operating system gave no random bytes.
    NoRandomness,
}

impl fmt::Display for MasterKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => {
                write!(f, "the master key must be {} hexadecimal digits", MASTER_KEY_BYTES * 2)
            }
            Self::File { doing, path, .. } => write!(f, "cannot {doing} the master key file {path}"),
            Self::Lost { path } => write!(f, "the master key file {path} is gone"),
            Self::Wrong => f.write_str("sealed with another master key"),
            Self::Damaged => f.write_str("a sealed value is damaged or was made for another purpose"),
            Self::NoRandomness => f.write_str("the operating system gave no random bytes"),
        }
    }
}

impl std::error::Error for MasterKeyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Tells master keys apart; says nothing about the key.
pub type MasterKeyId = [u8; KEY_ID_BYTES];

/// A master key with the keys derived from it.
pub struct MasterKey {
    bytes: SecretBytes,
    root: hkdf::Prk,
    sealing: LessSafeKey,
    id: MasterKeyId,
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey([secret])")
    }
}

impl MasterKey {
    /// From its 32 bytes.
    pub fn from_bytes(bytes: &SecretBytes) -> Result<Self, MasterKeyError> {
        if bytes.expose().len() != MASTER_KEY_BYTES {
            return Err(MasterKeyError::Malformed);
        }
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, b"tallygate master key v1").extract(bytes.expose());
        let sealing = derive_from(&root, "seal")?;
        let sealing =
            UnboundKey::new(&AES_256_GCM, sealing.expose()).map_err(|_| MasterKeyError::Malformed)?;
        let id = derive_from(&root, "id")?;
        let id = id.expose().first_chunk().copied().ok_or(MasterKeyError::Malformed)?;
        Ok(Self { bytes: bytes.clone(), root, sealing: LessSafeKey::new(sealing), id })
    }

    /// A new one.
    pub fn generate() -> Result<Self, MasterKeyError> {
        let mut bytes = [0u8; MASTER_KEY_BYTES];
        SystemRandom::new().fill(&mut bytes).map_err(|_| MasterKeyError::NoRandomness)?;
        let secret = SecretBytes::new(bytes);
        wipe(&mut bytes);
        Self::from_bytes(&secret)
    }

    /// From 64 hexadecimal digits, blanks around them allowed.
    pub fn from_hex(text: &str) -> Result<Self, MasterKeyError> {
        let digits = text.trim().as_bytes();
        let mut bytes = [0u8; MASTER_KEY_BYTES];
        if digits.len() != MASTER_KEY_BYTES * 2 {
            return Err(MasterKeyError::Malformed);
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair.iter().try_fold(0u8, |value, digit| {
                let digit = char::from(*digit).to_digit(16).ok_or(MasterKeyError::Malformed)?;
                u8::try_from(digit).map(|digit| value << 4 | digit).map_err(|_| MasterKeyError::Malformed)
            })?;
        }
        let secret = SecretBytes::new(bytes);
        wipe(&mut bytes);
        Self::from_bytes(&secret)
    }

    /// From `master.key` in the data directory; made there (mode 0600) on the first start.
    pub fn load_or_create(data_dir: &Path) -> Result<Self, MasterKeyError> {
        match Self::load(data_dir) {
            Err(MasterKeyError::Lost { .. }) => Self::create(data_dir),
            loaded => loaded,
        }
    }

    /// From `master.key` in the data directory; `Lost` if it is not there.
    pub fn load(data_dir: &Path) -> Result<Self, MasterKeyError> {
        let path = data_dir.join(MASTER_KEY_FILE);
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let key = Self::from_hex(&text);
                wipe(&mut text.into_bytes());
                key
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(MasterKeyError::Lost { path: path.display().to_string() })
            }
            Err(source) => Err(file_error("read", &path, source)),
        }
    }

    fn create(data_dir: &Path) -> Result<Self, MasterKeyError> {
        let key = Self::generate()?;
        key.keep(data_dir)?;
        Ok(key)
    }

    /// Writes `master.key` in the data directory, in the place of one that is there. The file appears whole or not at
    /// all: it is written aside, synced, then renamed.
    pub fn keep(&self, data_dir: &Path) -> Result<(), MasterKeyError> {
        let path = data_dir.join(MASTER_KEY_FILE);
        let aside = data_dir.join("master.key.new");
        let text: String = self.bytes.expose().iter().map(|byte| format!("{byte:02x}")).collect();
        let written = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&aside)
            .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
            .and_then(|()| std::fs::rename(&aside, &path))
            .and_then(|()| File::open(data_dir)?.sync_all());
        wipe(&mut text.into_bytes());
        written.map_err(|source| file_error("write", &path, source))
    }

    pub fn id(&self) -> MasterKeyId {
        self.id
    }

    /// The key itself, for another master key to seal it.
    pub(super) fn bytes(&self) -> &SecretBytes {
        &self.bytes
    }

    /// A key for one purpose. Different purposes give unrelated keys.
    pub fn derive(&self, purpose: &str) -> Result<SecretBytes, MasterKeyError> {
        derive_from(&self.root, &format!("purpose {purpose}"))
    }

    /// What API keys are hashed under; its name is older than [`MasterKey::derive`].
    pub(super) fn derive_api_key_hash(&self) -> Result<SecretBytes, MasterKeyError> {
        derive_from(&self.root, "api key hash")
    }

    /// Encrypts `plain` for `purpose` with a random nonce.
    pub fn seal(&self, purpose: &str, plain: &[u8]) -> Result<Vec<u8>, MasterKeyError> {
        let mut nonce = [0u8; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| MasterKeyError::NoRandomness)?;
        let mut text = plain.to_vec();
        let tag = self
            .sealing
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(purpose.as_bytes()),
                &mut text,
            )
            .map_err(|_| MasterKeyError::Damaged)?;
        let mut out = Vec::with_capacity(HEAD_BYTES + text.len() + tag.as_ref().len());
        out.push(SEAL_VERSION);
        out.extend_from_slice(&self.id);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&text);
        out.extend_from_slice(tag.as_ref());
        Ok(out)
    }

    /// Decrypts what [`MasterKey::seal`] made for the same purpose.
    pub fn open(&self, purpose: &str, sealed: &[u8]) -> Result<SecretBytes, MasterKeyError> {
        let (head, body) = sealed.split_at_checked(HEAD_BYTES).ok_or(MasterKeyError::Damaged)?;
        let (version, rest) = head.split_first().ok_or(MasterKeyError::Damaged)?;
        let (id, nonce) = rest.split_at_checked(KEY_ID_BYTES).ok_or(MasterKeyError::Damaged)?;
        if *version != SEAL_VERSION {
            return Err(MasterKeyError::Damaged);
        }
        if id != self.id {
            return Err(MasterKeyError::Wrong);
        }
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| MasterKeyError::Damaged)?;
        let mut text = body.to_vec();
        let plain_bytes = self
            .sealing
            .open_in_place(nonce, Aad::from(purpose.as_bytes()), &mut text)
            .map_err(|_| MasterKeyError::Damaged)?
            .len();
        text.truncate(plain_bytes);
        Ok(SecretBytes::new(text))
    }

    /// What to store beside the data so that a wrong master key is recognised at start.
    pub fn check_value(&self) -> Result<Vec<u8>, MasterKeyError> {
        Ok(self.derive("check value")?.expose().to_vec())
    }

    /// Is this the key that `stored` was made by?
    pub fn made(&self, stored: &[u8]) -> Result<bool, MasterKeyError> {
        Ok(self.derive("check value")?.expose() == stored)
    }
}

/// Which master key made a sealed value. `None`: it is none.
pub fn sealed_by(sealed: &[u8]) -> Option<MasterKeyId> {
    let (version, rest) = sealed.split_first()?;
    rest.first_chunk().copied().filter(|_| *version == SEAL_VERSION)
}

fn file_error(doing: &'static str, path: &Path, source: std::io::Error) -> MasterKeyError {
    MasterKeyError::File { doing, path: path.display().to_string(), source }
}

fn derive_from(root: &hkdf::Prk, purpose: &str) -> Result<SecretBytes, MasterKeyError> {
    let mut out = [0u8; 32];
    root.expand(&[purpose.as_bytes()], hkdf::HKDF_SHA256)
        .and_then(|key| key.fill(&mut out))
        .map_err(|_| MasterKeyError::Malformed)?;
    let secret = SecretBytes::new(out);
    wipe(&mut out);
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(fill: u8) -> MasterKey {
        MasterKey::from_bytes(&SecretBytes::new([fill; MASTER_KEY_BYTES])).unwrap()
    }

    #[test]
    fn what_was_sealed_opens_with_the_same_key_and_purpose_only() {
        let sealed = key(1).seal("channel 7", b"sk-upstream").unwrap();
        assert_eq!(key(1).open("channel 7", &sealed).unwrap().expose(), b"sk-upstream");
        assert!(matches!(key(1).open("channel 8", &sealed), Err(MasterKeyError::Damaged)));
        assert!(matches!(key(2).open("channel 7", &sealed), Err(MasterKeyError::Wrong)));
        assert_ne!(sealed, key(1).seal("channel 7", b"sk-upstream").unwrap(), "a nonce is never used twice");
        assert!(!sealed.windows(11).any(|window| window == b"sk-upstream"));
    }

    #[test]
    fn a_sealed_value_with_any_byte_changed_or_missing_is_refused() {
        let sealed = key(1).seal("p", b"text").unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(key(1).open("p", &changed).is_err(), "byte {at}");
            assert!(key(1).open("p", &sealed[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_generated_key_is_kept_private_and_found_again() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let first = MasterKey::load_or_create(folder.path()).unwrap();
        let again = MasterKey::load_or_create(folder.path()).unwrap();
        assert_eq!(first.id(), again.id());
        let file = folder.path().join(MASTER_KEY_FILE);
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_wrong_or_broken_master_key_is_told() {
        let stored = key(1).check_value().unwrap();
        assert!(key(1).made(&stored).unwrap());
        assert!(!key(2).made(&stored).unwrap());
        let folder = tempfile::tempdir().unwrap();
        for broken in ["", "zz", &"g".repeat(64), &"0".repeat(63), &"é".repeat(32)] {
            std::fs::write(folder.path().join(MASTER_KEY_FILE), broken).unwrap();
            assert!(matches!(MasterKey::load_or_create(folder.path()), Err(MasterKeyError::Malformed)));
        }
        assert!(MasterKey::from_hex(&format!(" {}\n", "aB".repeat(32))).is_ok());
        assert!(!format!("{:?}", key(1)).contains('1'));
    }
}
