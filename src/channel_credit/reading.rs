//! What is asked of an upstream to learn what is left of the credit there, and what its answers say. Without I/O.

use ledger::Nano;
use serde_json::Value;

use crate::directory::{CreditCheck, CreditSource};

/// Places of an amount that are kept; upstreams may write more.
const PLACES: usize = 9;
const CENTS: i64 = 100;

/// One question, and what its answer adds to the credit or takes off it.
#[derive(Debug, PartialEq, Eq)]
pub struct Question {
    pub path: String,
    /// Behind the host; else behind the channel's base URL.
    pub at_host: bool,
    terms: Vec<Term>,
}

#[derive(Debug, PartialEq, Eq)]
struct Term {
    pointer: String,
    is_use: bool,
    in_cents: bool,
}

fn term(pointer: &str, is_use: bool) -> Term {
    Term { pointer: pointer.to_owned(), is_use, in_cents: false }
}

pub fn questions(check: &CreditCheck) -> Vec<Question> {
    let ask = |path: &str, at_host, terms| Question { path: path.to_owned(), at_host, terms };
    match check.source {
        CreditSource::DeepseekBalance => {
            vec![ask("/user/balance", true, vec![term("/balance_infos/0/total_balance", false)])]
        }
        CreditSource::OpenrouterCredits => {
            let terms = vec![term("/data/total_credits", false), term("/data/total_usage", true)];
            vec![ask("/credits", false, terms)]
        }
        CreditSource::BillingSubscription => vec![
            ask("/dashboard/billing/subscription", false, vec![term("/hard_limit_usd", false)]),
            ask(
                "/dashboard/billing/usage",
                false,
                vec![Term { in_cents: true, ..term("/total_usage", true) }],
            ),
        ],
        CreditSource::Json => {
            let (path, pointer) = (check.path.as_deref(), check.pointer.as_deref());
            vec![ask(path.unwrap_or("/"), true, vec![term(pointer.unwrap_or(""), false)])]
        }
    }
}

impl Question {
    /// What its answer comes to; the error is for operators.
    pub fn answered(&self, status: u16, body: &[u8]) -> Result<Nano, String> {
        if !(200..300).contains(&status) {
            return Err(format!("{} was answered with {status}", self.path));
        }
        let body: Value =
            serde_json::from_slice(body).map_err(|_| format!("{} was not answered with JSON", self.path))?;
        let mut sum = Nano::ZERO;
        for term in &self.terms {
            let found = body.pointer(&term.pointer).and_then(amount);
            let found = found.ok_or_else(|| format!("{} has no amount at {}", self.path, term.pointer))?;
            let found = if term.in_cents { Nano(found.0 / CENTS) } else { found };
            sum = if term.is_use { sum.saturating_sub(found) } else { sum.saturating_add(found) };
        }
        Ok(sum)
    }
}

/// A decimal, as a number or as a text.
fn amount(value: &Value) -> Option<Nano> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.trim().to_owned(),
        _ => return None,
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, "0"));
    let kept = fraction.get(..fraction.len().min(PLACES))?;
    let is_decimal = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
    is_decimal.then(|| Nano::parse_decimal(&format!("{whole}.{kept}")).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: CreditSource) -> CreditCheck {
        CreditCheck {
            source,
            path: Some("/me".into()),
            pointer: Some("/wallets/1/left".into()),
            alert_below: Nano(1),
        }
    }

    fn read(source: CreditSource, bodies: &[&str]) -> Result<String, String> {
        let questions = questions(&check(source));
        assert_eq!(questions.len(), bodies.len());
        let sum = questions.iter().zip(bodies).try_fold(Nano::ZERO, |sum, (question, body)| {
            Ok::<_, String>(sum.saturating_add(question.answered(200, body.as_bytes())?))
        });
        sum.map(|sum| sum.to_string())
    }

    #[test]
    fn h2_each_way_of_telling_the_credit_is_read() {
        let deepseek = r#"{"is_available":true,"balance_infos":[{"currency":"CNY","total_balance":"110.00",
            "granted_balance":"10.00","topped_up_balance":"100.00"}]}"#;
        assert_eq!(read(CreditSource::DeepseekBalance, &[deepseek]).unwrap(), "110");
        let openrouter = r#"{"data":{"total_credits":100.5,"total_usage":25.75}}"#;
        assert_eq!(read(CreditSource::OpenrouterCredits, &[openrouter]).unwrap(), "74.75");
        let billing = [r#"{"hard_limit_usd":20,"soft_limit_usd":20}"#, r#"{"total_usage":1999.5}"#];
        assert_eq!(read(CreditSource::BillingSubscription, &billing).unwrap(), "0.005");
        let own = r#"{"wallets":[{"left":1},{"left":"-3.25"}]}"#;
        assert_eq!(read(CreditSource::Json, &[own]).unwrap(), "-3.25");
    }

    #[test]
    fn h2_what_is_no_amount_is_said_and_never_guessed() {
        for body in ["", "[]", r#"{"wallets":[{},{"left":null}]}"#, r#"{"wallets":[{},{"left":"many"}]}"#] {
            assert!(read(CreditSource::Json, &[body]).is_err(), "{body}");
        }
        let many_places = r#"{"wallets":[{},{"left":0.1234567891234}]}"#;
        assert_eq!(read(CreditSource::Json, &[many_places]).unwrap(), "0.123456789");
        let question = &questions(&check(CreditSource::Json))[0];
        assert_eq!(question.answered(401, b"{}"), Err("/me was answered with 401".to_owned()));
    }
}
