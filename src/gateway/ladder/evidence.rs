//! What a rung looked at that is no number: for the Why, in words.

use std::borrow::Cow;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Stable name of the question.
    pub check: &'static str,
    pub finding: Finding,
    pub en: Cow<'static, str>,
    pub zh: Cow<'static, str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    Pass,
    Fail,
    /// Neither good nor bad.
    Looked,
}

impl Finding {
    pub const fn as_str(self) -> &'static str {
        match self {
            Finding::Pass => "pass",
            Finding::Fail => "fail",
            Finding::Looked => "looked",
        }
    }
}

impl Evidence {
    pub fn new(
        check: &'static str,
        finding: Finding,
        en: impl Into<Cow<'static, str>>,
        zh: impl Into<Cow<'static, str>>,
    ) -> Self {
        Evidence { check, finding, en: en.into(), zh: zh.into() }
    }
}
