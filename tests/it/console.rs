//! The pages: readable without scripts, and silent about what is not the reader's.

use axum::body::Body;
use axum::http::Request;
use serde_json::json;
use tallygate::catalogue::Code;

use crate::support::app::{Answer, TestApp};

fn page(app: &TestApp, path: &str) -> (u16, String) {
    let answer = app.get_bare(path);
    (answer.status, text(&answer))
}

fn text(answer: &Answer) -> String {
    answer.body.as_str().unwrap().to_owned()
}

fn with_key(app: &TestApp, path: &str, key: &str) -> Answer {
    let request = Request::builder().method("POST").uri(path);
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    app.send(request.body(Body::from(format!("key={key}"))).unwrap())
}

/// K4: every code has its page, in both languages, from the same catalogue.
#[test]
fn k4_every_code_has_its_page() {
    let app = TestApp::new();
    let (status, index) = page(&app, "/errors");
    assert_eq!(status, 200);
    for code in Code::ALL {
        assert!(index.contains(&format!("/errors/{code}?lang=en")), "{code}");
        for (lang, language) in
            [("en", tallygate::catalogue::Language::En), ("zh", tallygate::catalogue::Language::Zh)]
        {
            let (status, html) = page(&app, &format!("/errors/{code}?lang={lang}"));
            assert_eq!(status, 200, "{code}");
            assert!(html.contains(&format!("<html lang=\"{lang}\">")), "{code}");
            assert!(html.contains(&code.title(language).replace('\'', "&#39;")), "{code}");
        }
    }
    assert_eq!(page(&app, "/errors/no_such_code").0, 404);
}

#[test]
fn pages_allow_nothing_from_elsewhere() {
    let app = TestApp::new();
    for path in ["/", "/errors", "/errors/unknown_key", "/why/req_00000000000000000000000000"] {
        let answer = app.get_bare(path);
        let policy = answer.headers["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.starts_with("default-src 'none'; style-src 'nonce-"), "{policy}");
        assert_eq!(answer.headers["referrer-policy"], "no-referrer");
        let html = text(&answer);
        assert!(!html.contains("<script") && !html.contains("style=\"") && !html.contains("src="), "{path}");
        let nonce = policy.split("nonce-").nth(1).unwrap().split('\'').next().unwrap();
        assert!(html.contains(&format!("<style nonce=\"{nonce}\">")), "{path}");
    }
}

#[test]
fn a_why_page_shows_its_numbers_to_the_key_that_made_the_call_alone() {
    let app = TestApp::new();
    let account = app.account("one");
    app.model("m");
    app.credit(&account, "5");
    let (key, text_of_key) = app.key(&account, json!({"limits": [{"window": "day", "value": "0.00123"}]}));
    let (_, stranger) = app.key(&account, json!({}));
    let request = app.call(&key, "m", (10, 10));
    let path = format!("/why/{request}");
    let (status, bare) = page(&app, &path);
    assert_eq!(status, 200);
    assert!(bare.contains("key_budget_exhausted") && bare.contains("<form method=\"post\""), "{bare}");
    assert!(!bare.contains("0.00123") && !bare.contains(&account), "{bare}");
    let opened = text(&with_key(&app, &path, &text_of_key));
    assert!(opened.contains("0.00123") && opened.contains("not reached"), "{opened}");
    assert!(
        !opened.contains(&text_of_key) && !opened.contains("<form"),
        "the key is not shown back: {opened}"
    );
    let refused = text(&with_key(&app, &path, &stranger));
    assert!(refused.contains("did not make this call") && !refused.contains("0.00123"), "{refused}");
    assert!(!refused.contains(&stranger), "{refused}");
    let damaged = text(&with_key(&app, &path, &text_of_key[..40]));
    assert!(damaged.contains("cut off") && !damaged.contains(&text_of_key[8..40]), "{damaged}");
    assert_eq!(page(&app, "/why/req_00000000000000000000000000").0, 404);
    assert_eq!(page(&app, "/why/nonsense").0, 404);
}

#[test]
fn a_page_speaks_the_readers_language() {
    let app = TestApp::new();
    let request = Request::builder().uri("/errors/balance_exhausted").header("accept-language", "zh-CN");
    let answer = app.send(request.body(Body::empty()).unwrap());
    assert_eq!(answer.headers["content-language"], "zh");
    assert!(text(&answer).contains("怎么办"));
}

#[test]
fn the_first_page_leads_to_the_explanation_of_a_call() {
    let app = TestApp::new();
    let (status, home) = page(&app, "/?lang=zh");
    assert_eq!(status, 200);
    assert!(home.contains("http://gateway.test/v1") && home.contains("action=\"/why\""), "{home}");
    let answer = app.get_bare("/why?id=+req_00000000000000000000000000%20&lang=zh");
    assert_eq!(answer.status, 303);
    assert_eq!(answer.headers["location"], "/why/req_00000000000000000000000000?lang=zh");
    assert_eq!(page(&app, "/why?id=//elsewhere.example").0, 404);
}
