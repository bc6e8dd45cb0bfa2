//! Proofs of thoughts: what a provider signs or encrypts of them, so that it believes them when they come back.
//!
//! Promises: a proof reaches the provider that it is of, or none. In the words of a client whose provider it is of it
//! stands as it is; in those of any other it is wrapped, so that it says whose it is when the client sends it back.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet::STANDARD as LETTERS;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::text::Text;

/// What every wrapping begins with: nine bytes, which are twelve letters in base64 as well.
const WRAPPED: &str = "tg-proof:";
const WRAPPED_LETTERS: &str = "dGctcHJvb2Y6";

/// Some clients leave the padding out, when they send bytes back.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &LETTERS,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Whose a proof is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prover {
    Anthropic,
    Gemini,
    OpenAi,
}

impl Prover {
    const ALL: [Prover; 3] = [Prover::Anthropic, Prover::Gemini, Prover::OpenAi];

    fn letter(self) -> char {
        match self {
            Prover::Anthropic => 'a',
            Prover::Gemini => 'g',
            Prover::OpenAi => 'o',
        }
    }

    /// What the `format` of `reasoning_details` calls it, in chats: the words that are in use for it.
    pub fn detail_format(self) -> &'static str {
        match self {
            Prover::Anthropic => "anthropic-claude-v1",
            Prover::Gemini => "google-gemini-v1",
            Prover::OpenAi => "openai-responses-v1",
        }
    }

    /// Whose a detail is by its `format`; unsaid, it is Anthropic's.
    pub fn of_detail(format: Option<&Text<'_>>) -> Option<Self> {
        let Some(format) = format else { return Some(Prover::Anthropic) };
        Self::ALL.into_iter().find(|known| format.is(known.detail_format()))
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Proof<'a> {
    pub of: Prover,
    pub text: Text<'a>,
}

impl<'a> Proof<'a> {
    /// A proof as a client or a provider wrote it, and whether it says of itself that it signs a thought that is told
    /// beside it. `native`: whose it is unless it says something else.
    pub fn read(native: Prover, text: Text<'a>) -> (Self, bool) {
        match unwrap(&text) {
            Some(wrapped) => wrapped,
            None => (Self { of: native, text }, false),
        }
    }

    /// The proof in a format whose own ones are those of `native`. `signs`: a thought that is told beside it.
    pub fn written(&self, native: Prover, signs: bool) -> Cow<'_, Text<'a>> {
        if self.of == native {
            return Cow::Borrowed(&self.text);
        }
        let kind = if signs { 's' } else { 'e' };
        let wrapped = format!("{WRAPPED}{}{kind}:{}", self.of.letter(), self.text.unescaped());
        Cow::Owned(Text::of_escaped(BASE64.encode(wrapped)))
    }

    pub fn into_owned(self) -> Proof<'static> {
        Proof { of: self.of, text: self.text.into_owned() }
    }
}

fn unwrap(text: &Text<'_>) -> Option<(Proof<'static>, bool)> {
    if !text.escaped().starts_with(WRAPPED_LETTERS) {
        return None;
    }
    // Bytes come back in whichever alphabet the client writes them.
    let letters = text.unescaped().replace('-', "+").replace('_', "/");
    let said = String::from_utf8(BASE64.decode(letters).ok()?).ok()?;
    let (head, proof) = said.strip_prefix(WRAPPED)?.split_once(':')?;
    let of = Prover::ALL.into_iter().find(|of| head.starts_with(of.letter()))?;
    Some((Proof { of, text: Text::plain(proof) }, head.ends_with('s')))
}

/// What stands between the id of a call and the proof of the thought behind it.
const BEHIND_ID: &str = "__thought_";

/// The id of a call in a format that has no place for Gemini's proof of the thought behind it: it is carried in the id,
/// which every client sends back, in letters that may stand there.
pub fn id_with_proof<'t, 'a>(id: &'t Text<'a>, proof: Option<&Text<'_>>) -> Cow<'t, Text<'a>> {
    let letters =
        proof.map(|proof| proof.unescaped().trim_end_matches('=').replace('+', "-").replace('/', "_"));
    match letters.filter(|letters| !letters.is_empty() && letters.bytes().all(is_letter)) {
        Some(letters) => Cow::Owned(Text::of_escaped(format!("{}{BEHIND_ID}{letters}", id.escaped()))),
        None => Cow::Borrowed(id),
    }
}

/// The id, and the proof that was carried in it.
pub fn split_id(id: Text<'_>) -> (Text<'_>, Option<Text<'static>>) {
    let Some((before, proof)) = id.split_once(BEHIND_ID) else { return (id, None) };
    if proof.is_empty() || !proof.escaped().bytes().all(is_letter) {
        return (id, None);
    }
    let mut letters = proof.escaped().replace('-', "+").replace('_', "/");
    letters.extend(std::iter::repeat_n('=', (4 - letters.len() % 4) % 4));
    (before, Some(Text::of_escaped(letters)))
}

fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrapped_proof_says_whose_it_is() {
        assert_eq!(BASE64.encode(WRAPPED), WRAPPED_LETTERS);
        for of in Prover::ALL {
            for native in Prover::ALL {
                for signs in [true, false] {
                    let proof = Proof { of, text: Text::plain("gAA-_+/\"=給") };
                    let written = proof.written(native, signs).into_owned();
                    assert_eq!(written == proof.text, of == native);
                    let url_safe = Text::plain(&written.unescaped().trim_end_matches('=').replace('/', "_"));
                    let sent_back = if of == native { written } else { url_safe };
                    let expected = (proof, signs && of != native);
                    assert_eq!(Proof::read(native, sent_back), expected);
                }
            }
        }
        let odd = Text::word("dGctcHJvb2Y6!");
        assert_eq!(Proof::read(Prover::Gemini, odd.clone()).0, Proof { of: Prover::Gemini, text: odd });
    }

    #[test]
    fn an_id_carries_a_proof_and_gives_it_back() {
        let id = Text::word("call_1");
        for proof in ["ab+/", "abc=", "ab==", "abcd"] {
            let carried = id_with_proof(&id, Some(&Text::word(proof))).into_owned();
            assert!(carried.escaped().bytes().all(is_letter));
            assert_eq!(split_id(carried), (id.clone(), Some(Text::word(proof))));
        }
        for none in [None, Some(Text::word("")), Some(Text::word("not base64!"))] {
            assert_eq!(*id_with_proof(&id, none.as_ref()), id);
        }
        assert_eq!(split_id(id.clone()), (id, None));
        let odd = Text::word("a__thought_!");
        assert_eq!(split_id(odd.clone()), (odd, None));
    }
}
