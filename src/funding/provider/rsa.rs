//! RSA with SHA-256 (RSASSA-PKCS1-v1_5), as Alipay and WeChat Pay sign with it, and keys as their consoles hand them out:
//! PEM, or the base64 of PEM without its first and last line; public keys alone or in a certificate.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer};

use crate::secret::{HIDDEN, Secret};

/// `rsaEncryption` (1.2.840.113549.1.1.1) as DER.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const NULL: u8 = 0x05;
const OBJECT: u8 = 0x06;
/// The version of a certificate.
const CONTEXT_0: u8 = 0xa0;

/// Signs. Is never shown.
#[derive(Clone)]
pub struct SigningKey(Arc<RsaKeyPair>);

impl SigningKey {
    /// PKCS#8 or PKCS#1, of 2,048 bits at least. `None`: it is none.
    pub fn parse(text: &Secret) -> Option<Self> {
        let text = text.expose();
        let pair = match text.contains("-----BEGIN") {
            true => match PrivateKeyDer::from_pem_slice(text.as_bytes()).ok()? {
                PrivateKeyDer::Pkcs8(key) => RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).ok(),
                PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()).ok(),
                _ => None,
            },
            false => {
                let der = decode(text)?;
                RsaKeyPair::from_pkcs8(&der).or_else(|_| RsaKeyPair::from_der(&der)).ok()
            }
        };
        pair.map(|pair| SigningKey(Arc::new(pair)))
    }

    /// The signature in base64. `None`: no memory or no randomness; nothing else can fail.
    pub fn sign(&self, text: &[u8]) -> Option<String> {
        let mut signature = vec![0; self.0.public().modulus_len()];
        self.0.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text, &mut signature).ok()?;
        Some(STANDARD.encode(signature))
    }

    /// The public half.
    pub fn verifying(&self) -> VerifyingKey {
        VerifyingKey(self.0.public().as_ref().into())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

/// Verifies: a public key in its own form (PKCS#1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyingKey(Box<[u8]>);

impl VerifyingKey {
    pub fn parse(text: &str) -> Option<Self> {
        match text.contains("-----BEGIN") {
            true => {
                of_key_info(&SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes()).ok()?).map(VerifyingKey)
            }
            false => of_key_info(&decode(text)?).map(VerifyingKey),
        }
    }

    /// As PEM, in the form that says that it is an RSA key (SubjectPublicKeyInfo).
    pub fn to_pem(&self) -> String {
        let algorithm = tagged(SEQUENCE, &[tagged(OBJECT, RSA), vec![NULL, 0]].concat());
        let bits = tagged(BIT_STRING, &[&[0], &*self.0].concat());
        let base64 = STANDARD.encode(tagged(SEQUENCE, &[algorithm, bits].concat()));
        format!("-----BEGIN PUBLIC KEY-----\n{base64}\n-----END PUBLIC KEY-----\n")
    }

    /// Whether the signature, in base64, is the key's under the text.
    pub fn verify(&self, text: &[u8], signature: &str) -> bool {
        let Ok(signature) = STANDARD.decode(signature) else { return false };
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.0).verify(text, &signature).is_ok()
    }
}

/// A public key with the number by which what it signed names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedKey {
    pub name: Box<str>,
    pub key: VerifyingKey,
}

impl NamedKey {
    /// Every certificate of a text by its own number in capital hexadecimal digits; or the one public key by the name
    /// that is given. `None`: there is neither.
    pub fn parse_all(text: &str, name: Option<&str>) -> Option<Vec<Self>> {
        if text.contains("-----BEGIN CERTIFICATE-----") {
            let of_one = |der: Result<CertificateDer<'_>, _>| of_certificate(&der.ok()?);
            return CertificateDer::pem_slice_iter(text.as_bytes()).map(of_one).collect();
        }
        Some(vec![NamedKey { name: name?.into(), key: VerifyingKey::parse(text)? }])
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let plain: String = text.chars().filter(|letter| !letter.is_ascii_whitespace()).collect();
    STANDARD.decode(plain).ok()
}

/// Takes one value of DER off: its tag, what is in it, what follows.
fn take(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = der.split_first_chunk::<2>()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x0f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

fn take_tagged(der: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    take(der).filter(|(tag, ..)| *tag == wanted).map(|(_, content, rest)| (content, rest))
}

/// A value of DER, shorter than 64 KiB.
fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut value = vec![tag];
    match u8::try_from(content.len()) {
        Ok(length @ 0..=0x7f) => value.push(length),
        Ok(length) => value.extend([0x81, length]),
        Err(_) => {
            value.push(0x82);
            value.extend(u16::try_from(content.len()).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    value.extend_from_slice(content);
    value
}

/// The RSA key in a SubjectPublicKeyInfo (RFC 5280, 4.1.2.7).
fn of_key_info(der: &[u8]) -> Option<Box<[u8]>> {
    let (info, _) = take_tagged(der, SEQUENCE)?;
    let (algorithm, rest) = take_tagged(info, SEQUENCE)?;
    let (bits, _) = take_tagged(rest, BIT_STRING)?;
    let (&unused, key) = bits.split_first()?;
    let is_rsa = take_tagged(algorithm, OBJECT)?.0 == RSA && unused == 0;
    let (inner, _) = take_tagged(key, SEQUENCE)?;
    let (modulus, _) = take_tagged(inner, INTEGER)?;
    (is_rsa && modulus.len() >= 256).then(|| key.into())
}

/// Number and key of a certificate (RFC 5280, 4.1). Whether it is valid is not looked at: it was put there by hand.
fn of_certificate(der: &[u8]) -> Option<NamedKey> {
    let (certificate, _) = take_tagged(der, SEQUENCE)?;
    let (mut rest, _) = take_tagged(certificate, SEQUENCE)?;
    if let Some((_, behind)) = take_tagged(rest, CONTEXT_0) {
        rest = behind;
    }
    let (number, mut rest) = take_tagged(rest, INTEGER)?;
    // Algorithm, issuer, validity, subject.
    for _ in 0..4 {
        rest = take_tagged(rest, SEQUENCE)?.1;
    }
    let number = number.strip_prefix(&[0]).unwrap_or(number);
    let name = crate::hex::encode(number).to_ascii_uppercase().into();
    Some(NamedKey { name, key: VerifyingKey(of_key_info(rest)?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demo_key() -> SigningKey {
        SigningKey::parse(&crate::demo::payments::provider_key()).unwrap()
    }

    fn pem(label: &str, der: &[u8]) -> String {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
    }

    #[test]
    fn keys_are_read_in_every_form_that_consoles_hand_out() {
        let text = crate::demo::payments::provider_key();
        let bare: String = text.expose().lines().filter(|line| !line.starts_with('-')).collect();
        for form in [text.expose().to_owned(), bare.clone(), format!(" {bare}\r\n")] {
            let key = SigningKey::parse(&Secret::new(form)).unwrap();
            assert_eq!(key.sign(b"text"), demo_key().sign(b"text"));
            assert_eq!(format!("{key:?}"), HIDDEN);
        }
        for wrong in
            ["", "AAAA", "no base64!", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"]
        {
            assert!(SigningKey::parse(&Secret::new(wrong)).is_none(), "{wrong}");
            assert!(VerifyingKey::parse(wrong).is_none(), "{wrong}");
        }
        // An elliptic key, and an RSA key that is too short.
        let elliptic = rcgen::KeyPair::generate().unwrap();
        assert!(SigningKey::parse(&Secret::new(elliptic.serialize_pem())).is_none());
        assert!(VerifyingKey::parse(&elliptic.public_key_pem()).is_none());
    }

    #[test]
    fn a_certificate_gives_its_number_and_its_key() {
        let text = crate::demo::payments::provider_key();
        let pair = rcgen::KeyPair::from_pem_and_sign_algo(text.expose(), &rcgen::PKCS_RSA_SHA256).unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.serial_number = Some(rcgen::SerialNumber::from(vec![0x9a, 0x01, 0x0b]));
        let first = params.self_signed(&pair).unwrap();
        params.serial_number = Some(rcgen::SerialNumber::from(vec![0x12, 0x34]));
        let second = params.self_signed(&pair).unwrap();
        let both = format!("{}{}", first.pem(), second.pem());
        let keys = NamedKey::parse_all(&both, None).unwrap();
        assert_eq!(keys.iter().map(|key| &*key.name).collect::<Vec<_>>(), ["9A010B", "1234"]);
        let signature = demo_key().sign(b"text").unwrap();
        assert!(keys.iter().all(|key| key.key.verify(b"text", &signature)));
        assert!(!keys.iter().any(|key| key.key.verify(b"texts", &signature)));
        let public = pair.public_key_pem();
        assert!(NamedKey::parse_all(&public, None).is_none());
        assert_eq!(VerifyingKey::parse(&demo_key().verifying().to_pem()), VerifyingKey::parse(&public));
        let named = NamedKey::parse_all(&public, Some("PUB_KEY_ID_1")).unwrap();
        assert_eq!((&*named[0].name, &named[0].key), ("PUB_KEY_ID_1", &demo_key().verifying()));
        // Cut anywhere it is no certificate, and no reason to fall over.
        for length in 0..first.der().len() {
            assert!(of_certificate(&first.der()[..length]).is_none());
        }
        assert!(NamedKey::parse_all(&pem("CERTIFICATE", b"\x30\x83\xff\xff\xff"), None).is_none());
    }

    #[test]
    fn only_the_right_signature_verifies() {
        let key = demo_key();
        let signature = key.sign(b"text").unwrap();
        assert!(key.verifying().verify(b"text", &signature));
        for wrong in ["", "AAAA", "%%%", &signature[1..], &format!("{signature}=")] {
            assert!(!key.verifying().verify(b"text", wrong), "{wrong}");
        }
    }
}
