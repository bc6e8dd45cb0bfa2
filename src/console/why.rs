//! `/why/{id}`: an explanation as a page. Without a key it shows the code and what can be done; with the key
//! that made the call – typed into a form, sent in a body – every rung with its numbers, and the receipt.

use askama::Template;
use axum::body::to_bytes;
use axum::extract::FromRequest as _;
use axum::extract::{Form, Request};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;

use crate::api::Site;
use crate::books;
use crate::catalogue::{Code, Language};
use crate::explain::doctor;
use crate::explain::receipt::{self, Receipt};
use crate::explain::why::{self, Audience, Case, Figure, State, Why};
use crate::id::RequestId;
use crate::secret::Secret;

use super::{Frame, Notice};

/// Largest form: a key and a little more.
const FORM_BYTES_MAX: usize = 4 << 10;

/// What the caller typed in.
#[derive(Deserialize)]
struct KeyForm {
    key: Secret,
}

#[derive(Template)]
#[template(path = "why.html")]
struct Page {
    frame: Frame,
    request: String,
    at: String,
    /// The code, shown to anybody; `None` if the call passed.
    code: Option<Code>,
    /// The whole explanation, for whom it may be shown to.
    why: Option<Why>,
    receipt: Option<Receipt>,
    /// Why a key that was typed in shows no more.
    complaint: Option<String>,
}

impl Page {
    fn next(&self) -> &'static [&'static str] {
        self.code.map(|code| code.next_steps(self.frame.language)).unwrap_or_default()
    }

    fn heading(&self) -> &'static str {
        match self.code {
            Some(code) => code.title(self.frame.language),
            None => self.frame.w("The call passed every check", "该调用通过了全部检查"),
        }
    }

    fn state(&self, state: &State) -> &'static str {
        match state {
            State::Pass => self.frame.w("✓ pass", "✓ 通过"),
            State::Fail => self.frame.w("✗ refused", "✗ 拒绝"),
            State::NotReached => self.frame.w("· not reached", "· 未到达"),
        }
    }

    fn would(&self, would: &str) -> &'static str {
        match would {
            "pass" => self.frame.w("would pass", "本可通过"),
            _ => self.frame.w("would refuse, too", "同样会拒绝"),
        }
    }

    /// The numbers of a comparison with their names, those that are there.
    fn numbers<'f>(&self, figure: &'f Figure) -> Vec<(&'static str, &'f str)> {
        let w = |en, zh| self.frame.w(en, zh);
        let all = [
            (w("window", "窗口"), &figure.window),
            (w("limit", "限额"), &figure.limit),
            (w("used", "已用"), &figure.used),
            (w("available", "可用"), &figure.available),
            (w("held", "冻结"), &figure.held),
            (w("needed", "需要"), &figure.needed),
            (w("short by", "缺口"), &figure.short_by),
            (w("set by", "设置者"), &figure.origin),
            (w("resets at", "重置时间"), &figure.resets_at),
        ];
        let scope = Some((w("whose", "对象"), figure.scope.as_str()));
        scope
            .into_iter()
            .chain(all.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?))))
            .collect()
    }
}

pub async fn show(site: Site, request: Request) -> Response {
    let frame = Frame::new(&site, &request);
    answer(site, frame, None).await
}

pub async fn unlock(site: Site, request: Request) -> Response {
    let frame = Frame::new(&site, &request);
    match typed(request).await {
        Some(key) => answer(site, frame, Some(key)).await,
        None => Notice::not_found(frame, "The form could not be read.", "表单无法读取。"),
    }
}

/// The key of the form; blanks around it come from copying.
async fn typed(request: Request) -> Option<Secret> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, FORM_BYTES_MAX).await.ok()?;
    let request = Request::from_parts(parts, body.into());
    let Form(KeyForm { key }) = Form::from_request(request, &()).await.ok()?;
    Some(Secret::new(key.expose().trim()))
}

async fn answer(site: Site, frame: Frame, key: Option<Secret>) -> Response {
    let page_frame = frame.clone();
    let made = tokio::task::spawn_blocking(move || page(&site, page_frame, key)).await;
    match made {
        Ok(Some(page)) => frame.answer(StatusCode::OK, &page),
        Ok(None) => Notice::not_found(
            frame,
            "There is no call with this id. Explanations are kept for a limited time.",
            "没有这个请求编号。解释信息只保留一段时间。",
        ),
        Err(panic) => {
            tracing::error!(%panic, "a page could not be made");
            Notice::not_found(frame, "The page could not be made.", "页面无法生成。")
        }
    }
}

fn page(site: &Site, frame: Frame, key: Option<Secret>) -> Option<Page> {
    let id = frame.subject().parse::<RequestId>().ok()?;
    let stored = books::lookup::call(&site.app.books, &site.app.projections, id);
    let stored =
        stored.inspect_err(|error| tracing::error!(%error, "a call could not be looked up")).ok()??;
    let case = Case::of(&site.app, stored);
    let case = case.inspect_err(|error| tracing::error!(%error, "a call could not be explained")).ok()?;
    let (open, complaint) = may_see(site, &case, key.as_ref(), frame.language);
    Some(Page {
        request: id.to_string(),
        at: crate::explain::time_text(case.facts().at_ms),
        code: case.code(),
        why: open.then(|| why::explain(&case, Audience::Caller, frame.language)),
        receipt: (open && case.decided.admitted.is_some())
            .then(|| receipt::of(&case, Audience::Caller, site.app.currency(), frame.language)),
        complaint,
        frame,
    })
}

/// Whether everything may be shown, and if a key was given in vain, why.
fn may_see(site: &Site, case: &Case, key: Option<&Secret>, language: Language) -> (bool, Option<String>) {
    // Nobody's call: it was refused before a key was known.
    let Some(owner) = case.key() else { return (true, None) };
    let Some(key) = key else { return (false, None) };
    let found = site.app.directory.find_key(key.expose().as_bytes());
    if found.is_some_and(|found| found.id == owner) {
        return (true, None);
    }
    let damage = doctor::text(key.expose().as_bytes(), language).problem;
    let stranger = match language {
        Language::En => "This key did not make this call.",
        Language::Zh => "该调用不是由这个 Key 发起的。",
    };
    (false, Some(damage.unwrap_or_else(|| stranger.to_owned())))
}
