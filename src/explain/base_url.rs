//! What is wrong with a client's base URL, as far as its text tells, and what it should be.

use serde::Serialize;

use crate::catalogue::Language;

/// Endpoints that people paste behind a base URL.
const TAILS: [&str; 6] =
    ["/chat/completions", "/completions", "/responses", "/embeddings", "/models", "/messages"];

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BaseUrl {
    pub given: String,
    /// What it should be; the same as given if nothing is wrong.
    pub right: String,
    /// Stable names: `blank`, `no_scheme`, `not_http`, `quoted`, `endpoint`, `doubled_version`, `missing_version`,
    /// `trailing_slash`, `query`, `plain_http`.
    pub problems: Vec<Problem>,
    pub python: String,
    pub node: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub name: &'static str,
    pub text: String,
}

/// Looks at the text alone.
pub fn examine(given: &str, language: Language) -> BaseUrl {
    let mut problems = Vec::new();
    let mut found = |name, en: &str, zh: &str| {
        let text = if language == Language::Zh { zh } else { en }.to_owned();
        problems.push(Problem { name, text });
    };
    let mut url = given.trim();
    if url != given {
        found("blank", "There is a blank at the beginning or the end.", "开头或结尾有空白字符。");
    }
    let bare = url.trim_matches(['"', '\'', '`', '“', '”', '‘', '’']);
    if bare != url {
        found(
            "quoted",
            "The quotes belong to the program, not to the URL.",
            "引号属于程序代码，不属于地址。",
        );
        url = bare;
    }
    if let Some((before, _)) = url.split_once(['?', '#']) {
        found("query", "A base URL has no ? and no #.", "Base URL 中不能有 ? 或 #。");
        url = before;
    }
    let (scheme, mut rest) = match url.split_once("://") {
        Some(("http", rest)) => {
            if !is_loopback(rest) {
                found(
                    "plain_http",
                    "http:// sends the key in clear text; servers on the Internet take https://.",
                    "http:// 会明文发送 Key；公网服务应使用 https://。",
                );
            }
            ("http", rest)
        }
        Some(("https", rest)) => ("https", rest),
        Some((_, rest)) => {
            found("not_http", "It must begin with https:// or http://.", "必须以 https:// 或 http:// 开头。");
            ("https", rest)
        }
        None => {
            found("no_scheme", "https:// is missing in front.", "前面缺少 https://。");
            (if is_loopback(url) { "http" } else { "https" }, url)
        }
    };
    if rest.ends_with('/') {
        found("trailing_slash", "The slash at the end is not needed.", "末尾的斜杠是多余的。");
        rest = rest.trim_end_matches('/');
    }
    if let Some(base) = TAILS.iter().find_map(|tail| rest.strip_suffix(tail)) {
        found(
            "endpoint",
            "The client adds the endpoint itself.",
            "接口路径由客户端自动添加，不要写在 Base URL 中。",
        );
        rest = base.trim_end_matches('/');
    }
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let versions = path.split('/').filter(|segment| *segment == "v1").count();
    let path = match versions {
        0 => {
            found("missing_version", "/v1 is missing at the end.", "末尾缺少 /v1。");
            // Pages of the console are no place of the API.
            "v1"
        }
        1 if path.ends_with("v1") => path,
        1 => {
            found("endpoint", "Nothing belongs behind /v1.", "/v1 后面不要再加内容。");
            path.split_once("v1").map_or("v1", |(before, _)| if before == "api/" { "api/v1" } else { "v1" })
        }
        _ => {
            found("doubled_version", "/v1 is there twice.", "/v1 写了两次。");
            if path.starts_with("api/") { "api/v1" } else { "v1" }
        }
    };
    let right = format!("{scheme}://{host}/{path}");
    BaseUrl {
        given: given.to_owned(),
        python: format!("base_url=\"{right}\""),
        node: format!("baseURL: \"{right}\""),
        right,
        problems,
    }
}

fn is_loopback(rest: &str) -> bool {
    ["localhost", "127.", "[::1]"].iter().any(|host| rest.starts_with(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// F5, S36: every way in which a base URL is written wrong leads to the right one.
    #[test]
    fn f5_every_wrong_base_url_leads_to_the_right_one() {
        let right = "https://ai.example/v1";
        for (given, problems) in [
            ("https://ai.example/v1", vec![]),
            ("https://ai.example", vec!["missing_version"]),
            ("https://ai.example/", vec!["trailing_slash", "missing_version"]),
            ("https://ai.example/v1/", vec!["trailing_slash"]),
            ("https://ai.example/v1/v1", vec!["doubled_version"]),
            ("https://ai.example/v1/chat/completions", vec!["endpoint"]),
            ("https://ai.example/v1/models", vec!["endpoint"]),
            ("https://ai.example/chat/completions", vec!["endpoint", "missing_version"]),
            ("https://ai.example/console/keys", vec!["missing_version"]),
            ("https://ai.example/v1/openai", vec!["endpoint"]),
            ("ai.example/v1", vec!["no_scheme"]),
            ("\"https://ai.example/v1\"", vec!["quoted"]),
            (" https://ai.example/v1\n", vec!["blank"]),
            ("https://ai.example/v1?key=x", vec!["query"]),
            ("wss://ai.example/v1", vec!["not_http"]),
        ] {
            let found = examine(given, Language::En);
            let names: Vec<_> = found.problems.iter().map(|problem| problem.name).collect();
            assert_eq!((found.right.as_str(), names), (right, problems), "{given}");
        }
        assert_eq!(examine("https://ai.example/api/v1", Language::En).problems, []);
        assert_eq!(examine("http://127.0.0.1:8080/v1", Language::En).problems, []);
        assert_eq!(examine("localhost:8080", Language::En).right, "http://localhost:8080/v1");
        let plain = examine("http://ai.example/v1", Language::Zh);
        assert_eq!((plain.problems[0].name, plain.right.as_str()), ("plain_http", "http://ai.example/v1"));
        assert_eq!(plain.python, "base_url=\"http://ai.example/v1\"");
    }
}
