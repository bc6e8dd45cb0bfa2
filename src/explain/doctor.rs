//! `doctor key`: what is wrong with a key's text, and – where the directory can be asked – with the key.

use ledger::Nano;
use serde::Serialize;

use crate::app::App;
use crate::catalogue::Language;
use crate::directory::{Key, KeyStatus};
use crate::gateway::facts::Endpoint;
use crate::gateway::identify;
use crate::gateway::request::Sample;
use crate::keytext::{self, KeyFinding};

use super::simulate;
use super::usable::{self, Binding, LimitUse};
use super::why::{Audience, Why};

/// What a text is, as far as the text alone tells. Nothing of it leaves the machine.
#[derive(Clone, Debug, Serialize)]
pub struct TextFinding {
    /// intact, foreign, empty or malformed
    pub form: &'static str,
    /// live or test, by its prefix.
    pub environment: Option<&'static str>,
    /// The class of the damage.
    pub class: Option<&'static str>,
    /// The damage in words, with code point and position; never the key.
    pub problem: Option<String>,
    /// The character to blame, and its place from 0.
    pub code_point: Option<String>,
    pub position: Option<usize>,
    /// Enough to recognise one's own key.
    pub masked: Option<String>,
}

impl TextFinding {
    pub fn is_usable(&self) -> bool {
        matches!(self.form, "intact" | "foreign")
    }
}

/// Examines a key's text as the gateway would.
pub fn text(raw: &[u8], language: Language) -> TextFinding {
    let finding = keytext::examine(raw);
    let masked = || Some(keytext::mask(&String::from_utf8_lossy(raw)));
    let plain = |form| TextFinding {
        form,
        environment: None,
        class: None,
        problem: None,
        code_point: None,
        position: None,
        masked: None,
    };
    match finding {
        KeyFinding::Empty => plain("empty"),
        KeyFinding::Foreign => TextFinding { masked: masked(), ..plain("foreign") },
        KeyFinding::WellFormed(environment) => {
            TextFinding { environment: Some(environment.as_str()), masked: masked(), ..plain("intact") }
        }
        KeyFinding::Malformed(problem) => TextFinding {
            class: Some(problem.class()),
            problem: Some(problem.describe(language)),
            code_point: problem.at().map(|at| format!("U+{:04X}", u32::from(at.character))),
            position: problem.at().map(|at| at.position),
            ..plain("malformed")
        },
    }
}

/// What the directory and the books say of a key.
#[derive(Clone, Debug, Serialize)]
pub struct KeyFindings {
    pub text: TextFinding,
    /// `None`: no such key is known here.
    pub key: Option<KnownKey>,
    /// Whether the smallest call of some model would pass now, by the ladder itself.
    pub would_pass: bool,
    /// The answer in one sentence.
    pub summary: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct KnownKey {
    pub id: String,
    pub name: String,
    pub account: String,
    pub environment: &'static str,
    pub status: KeyStatus,
    pub limits: Vec<LimitUse>,
    pub usable_now: String,
    /// `account`, or layer and window of the limit that binds.
    pub bound_by: String,
    /// What the smallest call of the cheapest model holds, and which model that is.
    pub smallest_call: Option<SmallestCall>,
}

#[derive(Clone, Debug, Serialize)]
pub struct SmallestCall {
    pub model: String,
    pub hold: String,
}

pub fn key(app: &App, raw: &[u8], language: Language) -> KeyFindings {
    let text = text(raw, language);
    let known = app.directory.find_key(raw);
    let Some(key) = known else {
        let summary = match (&text.problem, language) {
            (Some(problem), _) => problem.clone(),
            (None, Language::En) => "No such key is known here.".to_owned(),
            (None, Language::Zh) => "本平台没有这个 Key。".to_owned(),
        };
        return KeyFindings { text, key: None, would_pass: false, summary };
    };
    let usable = usable::of(app, &key);
    let smallest = usable::cheapest_call(app, &key);
    let bound_by = match usable.bound_by {
        Binding::Balance => "account".to_owned(),
        Binding::Limit(at) => usable.limits.get(at).map_or_else(|| "key".to_owned(), bound_by),
    };
    let (would_pass, why) = try_cheapest(app, &key, language);
    let summary = match why {
        Some(why) if !would_pass => why.summary,
        _ => summary(&key, usable.now, &bound_by, smallest.as_ref(), language),
    };
    let known = KnownKey {
        id: key.id.to_string(),
        name: key.name.to_string(),
        account: key.account.to_string(),
        environment: key.environment.as_str(),
        status: key.status,
        limits: usable.limits,
        usable_now: usable.now.to_string(),
        bound_by,
        smallest_call: smallest.map(|(hold, model)| SmallestCall { model, hold: hold.to_string() }),
    };
    KeyFindings { text, key: Some(known), would_pass, summary }
}

/// The layer and the window: `project month`.
fn bound_by(limit: &LimitUse) -> String {
    format!("{} {}", limit.scope, limit.window.unwrap_or_default())
}

/// Whether the smallest call of some model would pass, the cheapest first; if none does, why the cheapest does not.
fn try_cheapest(app: &App, key: &Key, language: Language) -> (bool, Option<Why>) {
    let mut first = None;
    for (_, model) in usable::calls_by_cost(app, key).into_iter().take(MODELS_TRIED_MAX) {
        let snapshot = app.directory.snapshot_owned();
        let paths = snapshot.model(&model).map(|entry| entry.model.endpoints());
        let endpoint = paths.into_iter().flatten().find_map(identify::call_at);
        let asked = Sample::smallest(endpoint.unwrap_or(Endpoint::ChatCompletions), &model, "1")
            .capped(Some(app.hold_policy().output_tokens_min.into()));
        let tried = simulate::call(app, key, &asked, None, Audience::Operator, language);
        if tried.would == "pass" {
            return (true, Some(tried.why));
        }
        first.get_or_insert(tried.why);
    }
    (false, first)
}

const MODELS_TRIED_MAX: usize = 50;

fn affords(usable: Nano, smallest: Option<&(Nano, String)>) -> bool {
    smallest.is_some_and(|(hold, _)| *hold <= usable && (usable.is_positive() || hold.0 == 0))
}

fn summary(
    key: &Key,
    usable: Nano,
    bound_by: &str,
    smallest: Option<&(Nano, String)>,
    language: Language,
) -> String {
    let zh = language == Language::Zh;
    if key.status == KeyStatus::Revoked {
        let text = if zh { "该 Key 已永久吊销。" } else { "The key is revoked for good." };
        return text.to_owned();
    }
    let Some((hold, model)) = smallest else {
        let text = if zh {
            "没有任何可用且已定价的模型。"
        } else {
            "No active model has a price yet."
        };
        return text.to_owned();
    };
    match (affords(usable, smallest), zh) {
        (true, false) => format!("The key works: {usable} can be spent now (bound by {bound_by})."),
        (true, true) => format!("Key 可用：当前可用 {usable}（受 {bound_by} 限制）。"),
        (false, false) => {
            format!(
                "A call would be refused: {usable} can be spent now (bound by {bound_by}), the smallest call of {model} holds {hold}."
            )
        }
        (false, true) => format!(
            "调用会被拒绝：当前可用 {usable}（受 {bound_by} 限制），{model} 的最小调用需冻结 {hold}。"
        ),
    }
}
