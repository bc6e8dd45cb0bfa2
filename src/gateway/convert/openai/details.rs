//! `reasoning_details`: thoughts with their proofs, as our own answers give them, and others that speak this format.
//!
//! A client of a stream may have put its pieces together or not: both are understood.

use serde_json::value::RawValue;

use super::super::conversation::Part;
use super::super::object::{ConvertFault, LeftOut, Object, Path};
use super::super::proof::{Proof, Prover};
use super::super::text::Text;

/// One of them.
struct Detail<'a> {
    kind: Kind<'a>,
    /// Whose it is; `None`: of somebody unknown, who is not asked.
    of: Option<Prover>,
    index: Option<&'a str>,
}

enum Kind<'a> {
    Text { text: Option<Text<'a>>, signature: Option<Text<'a>> },
    Encrypted(Text<'a>),
}

/// The thoughts of a message. `aloud`: what it tells of them without proofs, which stands where no detail does.
pub fn thoughts<'a>(
    details: Vec<&'a RawValue>,
    aloud: Option<Text<'a>>,
    path: &Path<'_>,
    left: &mut LeftOut,
) -> Result<Vec<Part<'a>>, ConvertFault> {
    let mut aloud = aloud.filter(|text| !text.is_empty());
    let (mut parts, mut last) = (Vec::new(), None);
    for (at, raw) in details.into_iter().enumerate() {
        let Detail { kind, of, index } = detail(raw, &path.index(at))?;
        if of.is_none() {
            left.add("reasoning_details");
        }
        let proof = |text| of.map(|of| Proof { of, text });
        match kind {
            Kind::Encrypted(data) => parts.extend(proof(data).map(Part::Redacted)),
            Kind::Text { text, signature } => {
                let signature = signature.and_then(proof);
                let same = index.is_some() && index == last;
                match (parts.last_mut(), text) {
                    // A piece of the thought before it.
                    (Some(Part::Thinking { text: before, signature: none @ None }), Some(text)) if same => {
                        *before = Text::of_escaped([before.escaped(), text.escaped()].concat());
                        *none = signature;
                    }
                    (Some(Part::Thinking { signature: none @ None, .. }), None) => *none = signature,
                    (_, None) => {
                        let text = aloud.take().unwrap_or_default();
                        parts.push(Part::Thinking { text, signature });
                    }
                    (_, Some(text)) => {
                        aloud = None;
                        parts.push(Part::Thinking { text, signature });
                    }
                }
            }
        }
        last = index;
    }
    let told = parts.iter().any(|part| matches!(part, Part::Thinking { .. }));
    if let Some(text) = aloud.filter(|_| !told) {
        parts.insert(0, Part::Thinking { text, signature: None });
    }
    Ok(parts)
}

fn detail<'a>(raw: &'a RawValue, path: &Path<'_>) -> Result<Detail<'a>, ConvertFault> {
    let mut object = Object::read(raw, path)?;
    let kind = object.need_text("type")?;
    let kind = if kind.is("reasoning.text") {
        let filled = |text: &Text<'_>| !text.is_empty();
        let signature = object.text("signature")?.filter(filled);
        Kind::Text { text: object.text("text")?, signature }
    } else if kind.is("reasoning.summary") {
        Kind::Text { text: Some(object.need_text("summary")?), signature: None }
    } else if kind.is("reasoning.encrypted") {
        Kind::Encrypted(object.need_text("data")?)
    } else {
        let what = "`reasoning.text`, `reasoning.summary` or `reasoning.encrypted`";
        return Err(path.member("type").fault(what, "another type"));
    };
    let of = Prover::of_detail(object.text("format")?.as_ref());
    let index = object.take("index").map(RawValue::get);
    object.take("id");
    object.done()?;
    Ok(Detail { kind, of, index })
}
