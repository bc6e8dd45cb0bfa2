//! One refusal as it happened: its code and everything that was known about it.

use std::borrow::Cow;

use ledger::Nano;

use super::code::Code;

/// A refusal, before it is put into words.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    pub code: Code,
    /// What the templates' `{names}` stand for. Amounts and names of limits need not be given: they
    /// are taken from `limit`.
    pub params: Vec<(Cow<'static, str>, Value)>,
    /// The limit, or the balance, that did not suffice.
    pub limit: Option<Box<LimitView>>,
    /// The JSON field that the refusal is about: `error.param`.
    pub field: Option<Box<str>>,
    /// When a retry can succeed, in milliseconds from now.
    pub retry_after_ms: Option<u64>,
    /// What the call was charged all the same.
    pub charged: Nano,
    /// The upstream's own words. Shown to the caller by `upstream_rejected` alone; else for the log.
    pub upstream_text: Option<Box<str>>,
    /// The rest of what it said of a request that it rejected. Not kept: what is kept are refusals of the ladder.
    pub upstream: Option<Box<UpstreamSaid>>,
}

/// What an upstream says of a request that it rejects, beside its words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamSaid {
    pub code: Option<Box<str>>,
    /// The field that it blames, in its own format.
    pub param: Option<Box<str>>,
    /// The conversation is longer than the model takes.
    pub is_too_long: bool,
}

impl Refusal {
    pub const fn new(code: Code) -> Self {
        Self {
            code,
            params: Vec::new(),
            limit: None,
            field: None,
            retry_after_ms: None,
            charged: Nano::ZERO,
            upstream_text: None,
            upstream: None,
        }
    }

    /// Fills `{name}` in the texts.
    #[must_use]
    pub fn param(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.params.push((Cow::Borrowed(name), value.into()));
        self
    }

    /// Names the JSON field that is to blame, such as `model`; fills `{field}` too.
    #[must_use]
    pub fn field(mut self, path: impl Into<Box<str>>) -> Self {
        self.field = Some(path.into());
        self
    }

    #[must_use]
    pub fn limit(mut self, limit: LimitView) -> Self {
        self.limit = Some(Box::new(limit));
        self
    }

    #[must_use]
    pub const fn retry_after_ms(mut self, ms: u64) -> Self {
        self.retry_after_ms = Some(ms);
        self
    }

    #[must_use]
    pub const fn charged(mut self, amount: Nano) -> Self {
        self.charged = amount;
        self
    }

    #[must_use]
    pub fn upstream_text(mut self, text: impl Into<Box<str>>) -> Self {
        self.upstream_text = Some(text.into());
        self
    }

    #[must_use]
    pub fn upstream(mut self, said: Option<Box<UpstreamSaid>>) -> Self {
        self.upstream = said;
        self
    }

    /// Where the reason lies: the scope of the limit, if one refused.
    pub fn layer(&self) -> &str {
        self.limit.as_ref().map_or(self.code.layer(), |limit| &limit.scope)
    }

    /// What `Retry-After` says. Answers that ask for patience always say for how long, and never for no time at all.
    pub fn patience_ms(&self) -> Option<u64> {
        let asks = self.code.retryable() && matches!(self.code.status(), 429 | 503);
        self.retry_after_ms.map(|ms| ms.max(1)).or(asks.then_some(PATIENCE_DEFAULT_MS))
    }
}

/// Used where nothing better is known.
const PATIENCE_DEFAULT_MS: u64 = 1_000;

/// What a `{name}` stands for.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// The same in every language. Long texts are cut and control characters replaced when shown.
    Text(Box<str>),
    /// Names, of which there may be none.
    List(Vec<Box<str>>),
    Money(Nano),
    /// Milliseconds since 1970, UTC.
    Time(i64),
    Count(u64),
    /// A text that depends on the language.
    Both {
        en: Box<str>,
        zh: Box<str>,
    },
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<Box<str>> for Value {
    fn from(text: Box<str>) -> Self {
        Self::Text(text)
    }
}

impl From<Vec<String>> for Value {
    fn from(list: Vec<String>) -> Self {
        Self::List(list.into_iter().map(Into::into).collect())
    }
}

impl From<Nano> for Value {
    fn from(amount: Nano) -> Self {
        Self::Money(amount)
    }
}

impl From<u64> for Value {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

/// `(English, Chinese)`.
impl From<(&str, &str)> for Value {
    fn from((en, zh): (&str, &str)) -> Self {
        Self::Both { en: en.into(), zh: zh.into() }
    }
}

/// A limit or a balance with its figures at the time of the decision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LimitView {
    /// `account`, `key`, `member`, `project`, `model`, `group`, `organization` or `task`.
    pub scope: Cow<'static, str>,
    /// Public id of what the limit belongs to.
    pub id: Option<String>,
    /// `day`, `month` or `total`.
    pub window: Option<Cow<'static, str>>,
    /// Zero means blocked. `None` for a balance, and for no limit.
    pub limit: Option<Nano>,
    pub used: Option<Nano>,
    pub held: Option<Nano>,
    /// Of a balance: what can be spent now.
    pub available: Option<Nano>,
    /// The most that the call can cost.
    pub needed: Option<Nano>,
    pub short_by: Option<Nano>,
    /// Milliseconds since 1970, UTC. `None`: never.
    pub resets_at_ms: Option<i64>,
    /// Who set it: `default`, `owner`, `operator` or `organization`.
    pub origin: Option<Cow<'static, str>>,
}
