//! `/errors` and `/errors/{code}`: the catalogue for people (K4).

use askama::Template;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;

use crate::api::Site;
use crate::catalogue::{Code, Fault, Phrase};

use super::{Frame, Notice};

#[derive(Template)]
#[template(path = "errors.html")]
struct Index {
    frame: Frame,
    rungs: Vec<Rung>,
}

/// The codes of one rung of the ladder.
struct Rung {
    /// 0: not on the ladder.
    number: u8,
    title: &'static str,
    codes: Vec<Row>,
}

struct Row {
    code: &'static str,
    status: u16,
    title: &'static str,
    reserved: bool,
}

pub fn index(site: &Site, request: &Request) -> Response {
    let frame = Frame::new(site, request);
    let mut rungs: Vec<Rung> = Vec::new();
    for code in Code::ALL {
        let row = Row {
            code: code.as_str(),
            status: code.status(),
            title: code.title(frame.language),
            reserved: code.is_reserved(),
        };
        let title = code.rung_title(frame.language);
        match rungs.last_mut().filter(|rung| rung.title == title) {
            Some(rung) => rung.codes.push(row),
            None => rungs.push(Rung { number: code.rung(), title, codes: vec![row] }),
        }
    }
    let page = Index { frame: frame.clone(), rungs };
    frame.answer(StatusCode::OK, &page)
}

#[derive(Template)]
#[template(path = "error.html")]
struct One {
    frame: Frame,
    code: Code,
    fault: &'static str,
    reserved: Option<&'static str>,
}

impl One {
    fn next(&self) -> &'static [&'static str] {
        self.code.next_steps(self.frame.language)
    }
}

pub fn one(site: &Site, request: &Request) -> Response {
    let frame = Frame::new(site, request);
    let Ok(code) = frame.subject().parse::<Code>() else {
        return Notice::not_found(frame, "No refusal has this code.", "没有这个错误码。");
    };
    let fault = match code.fault() {
        Fault::Caller => Phrase::FaultCaller,
        Fault::Account => Phrase::FaultAccount,
        Fault::Gateway => Phrase::FaultGateway,
        Fault::Upstream => Phrase::FaultUpstream,
    };
    let reserved = code.is_reserved().then(|| Phrase::Reserved.get(frame.language));
    let page = One { fault: fault.get(frame.language), frame: frame.clone(), code, reserved };
    frame.answer(StatusCode::OK, &page)
}
