//! Asks the server behind a base URL who it is, without a key.

use std::fmt::Display;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::catalogue::Language;
use crate::gateway::upstream::{Call, Settings, Target, Tls, Upstreams};

const PATIENCE: Duration = Duration::from_secs(15);
const BODY_BYTES_MAX: usize = 64 << 10;

/// What came back.
#[derive(Debug)]
pub enum Answer {
    /// A gateway of this kind: it asked for a key, as it should.
    Gateway,
    /// A gateway of this kind, which refused otherwise.
    Refused {
        status: u16,
        code: String,
        message: String,
    },
    /// Somebody else.
    Other {
        status: u16,
    },
    Nobody {
        why: String,
    },
}

/// `GET models` below the base URL.
pub fn ask(base_url: &str) -> Answer {
    match fetch(base_url) {
        Err(why) => Answer::Nobody { why },
        Ok((status, body)) => {
            let error = &body["error"];
            match (error["code"].as_str(), error["request_id"].as_str()) {
                (Some("missing_key"), Some(_)) => Answer::Gateway,
                (Some(code), Some(_)) => Answer::Refused {
                    status,
                    code: code.to_owned(),
                    message: error["message"].as_str().unwrap_or_default().to_owned(),
                },
                _ => Answer::Other { status },
            }
        }
    }
}

fn fetch(base_url: &str) -> Result<(u16, Value), String> {
    let text = |why: &dyn Display| why.to_string();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|why| text(&why))?;
    let asked = async {
        let tls = Tls::new(None).map_err(|why| text(&why))?;
        let target = Target::parse(base_url).map_err(|why| text(&why))?;
        let upstreams = Upstreams::new(Settings::default(), &tls);
        let call = Call {
            target: &target,
            method: Method::GET,
            path: "/models",
            headers: &[],
            body: bytes::Bytes::new(),
        };
        let mut answer = upstreams.send(call).await.map_err(|why| text(&why))?;
        let status = answer.status.as_u16();
        // A page of megabytes is no answer of the API.
        let body = match answer.body.collect(BODY_BYTES_MAX).await {
            Ok(crate::gateway::upstream::Collected::Whole(body)) => {
                serde_json::from_slice(&body).unwrap_or_default()
            }
            _ => Value::Null,
        };
        Ok((status, body))
    };
    let local = tokio::task::LocalSet::new();
    let waited = local.block_on(&runtime, async { tokio::time::timeout(PATIENCE, asked).await });
    waited.unwrap_or_else(|_elapsed| Err("no answer within 15 s".to_owned()))
}

impl Answer {
    pub fn is_gateway(&self) -> bool {
        matches!(self, Answer::Gateway)
    }

    pub fn view(&self, language: Language) -> Value {
        let words = |en: String, zh: String| if language == Language::Zh { zh } else { en };
        match self {
            Answer::Gateway => json!({
                "found": "gateway",
                "text": words(
                    "The gateway answers here, and asks for a key.".to_owned(),
                    "网关在此应答，并要求提供 Key。".to_owned(),
                ),
            }),
            Answer::Refused { status, code, message } => {
                json!({"found": "refused", "status": status, "code": code, "text": message})
            }
            Answer::Other { status } => json!({
                "found": "other",
                "status": status,
                "text": words(
                    format!("Something answers with status {status}, and it is not this gateway."),
                    format!("该地址返回状态 {status}，但不是本网关。"),
                ),
            }),
            Answer::Nobody { why } => json!({
                "found": "nobody",
                "text": words(format!("Nobody answers: {why}."), format!("无法连接：{why}。")),
            }),
        }
    }
}
