//! What WeChat Pay signs and seals: calls, answers and notices by RSA with SHA-256, the content of notices by AES-256-GCM.
//!
//! From its documentation: <https://pay.weixin.qq.com/doc/v3/merchant/4012365342> (signing a call),
//! <https://pay.weixin.qq.com/doc/v3/merchant/4013053249> (verifying), <https://pay.weixin.qq.com/doc/v3/merchant/4012071382>
//! (content of notices).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use serde_json::Value;

use super::super::Rejection;
use super::super::rsa::{NamedKey, SigningKey};
use crate::secret::{HIDDEN, Secret};

/// The one way of signing that version 3 has.
pub const SCHEME: &str = "WECHATPAY2-SHA256-RSA2048";
const ALGORITHM: &str = "AEAD_AES_256_GCM";

/// The value of `Authorization`. `path` with its query.
pub struct Call<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub body: &'a str,
    pub at_s: i64,
    pub nonce: &'a str,
}

impl Call<'_> {
    pub fn text(&self) -> String {
        let Call { method, path, body, at_s, nonce } = self;
        format!("{method}\n{path}\n{at_s}\n{nonce}\n{body}\n")
    }

    pub fn authorization(&self, merchant: &str, serial: &str, key: &SigningKey) -> Option<String> {
        let signature = key.sign(self.text().as_bytes())?;
        let Call { at_s, nonce, .. } = self;
        Some(format!(
            "{SCHEME} mchid=\"{merchant}\",nonce_str=\"{nonce}\",signature=\"{signature}\",\
             timestamp=\"{at_s}\",serial_no=\"{serial}\""
        ))
    }
}

/// What is signed of an answer or a notice.
pub fn signed_text(at: &str, nonce: &str, body: &[u8]) -> Vec<u8> {
    let mut text = format!("{at}\n{nonce}\n").into_bytes();
    text.extend_from_slice(body);
    text.push(b'\n');
    text
}

/// Checks the headers of an answer or a notice against its bytes.
pub fn verify<'h>(
    header: impl Fn(&str) -> Option<&'h str>,
    body: &[u8],
    keys: &[NamedKey],
    (now_ms, tolerance_ms): (i64, u64),
) -> Result<(), Rejection> {
    let missing = Rejection::SignatureMissing;
    let (at, nonce) =
        (header("wechatpay-timestamp").ok_or(missing)?, header("wechatpay-nonce").ok_or(missing)?);
    let signature = header("wechatpay-signature").ok_or(missing)?;
    let serial = header("wechatpay-serial").ok_or(missing)?;
    let at_s: i64 = at.parse().map_err(|_| missing)?;
    let key =
        keys.iter().find(|key| key.name.eq_ignore_ascii_case(serial)).ok_or(Rejection::SignatureWrong)?;
    if !key.key.verify(&signed_text(at, nonce, body), signature) {
        return Err(Rejection::SignatureWrong);
    }
    match at_s.saturating_mul(1_000).abs_diff(now_ms) > tolerance_ms {
        true => Err(Rejection::SignatureStale),
        false => Ok(()),
    }
}

/// The APIv3 key: opens what notices bring. Is never shown.
#[derive(Clone)]
pub struct SealKey(LessSafeKey);

impl SealKey {
    /// `None` unless it has 32 bytes.
    pub fn parse(text: &Secret) -> Option<Self> {
        UnboundKey::new(&AES_256_GCM, text.expose().as_bytes()).ok().map(LessSafeKey::new).map(SealKey)
    }

    /// What a `resource` holds.
    pub fn open(&self, resource: &Value) -> Option<Vec<u8>> {
        let text = |field: &str| resource[field].as_str();
        if text("algorithm") != Some(ALGORITHM) {
            return None;
        }
        let nonce = Nonce::try_assume_unique_for_key(text("nonce")?.as_bytes()).ok()?;
        let mut sealed = STANDARD.decode(text("ciphertext")?).ok()?;
        let aad = Aad::from(text("associated_data").unwrap_or_default().as_bytes());
        let length = self.0.open_in_place(nonce, aad, &mut sealed).ok()?.len();
        sealed.truncate(length);
        Some(sealed)
    }

    /// A `resource` with such content; `nonce` has 12 bytes.
    pub fn seal(&self, nonce: &str, associated: &str, content: &[u8]) -> Option<Value> {
        let mut sealed = content.to_vec();
        let unique = Nonce::try_assume_unique_for_key(nonce.as_bytes()).ok()?;
        self.0.seal_in_place_append_tag(unique, Aad::from(associated.as_bytes()), &mut sealed).ok()?;
        Some(serde_json::json!({
            "algorithm": ALGORITHM,
            "ciphertext": STANDARD.encode(sealed),
            "associated_data": associated,
            "nonce": nonce,
        }))
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}
