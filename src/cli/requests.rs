//! `why`, `receipt` and `verify`.

use serde_json::{Value, json};

use super::print::{aligned, cell};
use super::watch::{self, Long};
use super::{Context, Done, Exit};

#[derive(Debug, clap::Args)]
pub struct OneRequest {
    /// Id of the call: req_…
    request: String,
}

#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// Read everything, whatever was verified before.
    #[arg(long)]
    full: bool,
}

/// Interrupted, it ends in order, and the next run goes on from there.
pub fn verify(context: &mut Context, args: &VerifyArgs) -> Done {
    let client = context.client()?;
    let long = Long {
        path: "/api/verify",
        standing: "/api/verify",
        what: "verify",
        then: "without --full the next run goes on from there",
    };
    let report = watch::run(context, &client, &long, &json!({"full": args.full}))?;
    match context.json {
        true => context.out.json(&report)?,
        false => context.out.object(&report)?,
    };
    Ok(match (report["clean"] == true, report["stopped"] == true) {
        (false, _) => Exit::No,
        (true, true) => Exit::Unanswered,
        (true, false) => Exit::Fine,
    })
}

pub fn receipt(context: &mut Context, request: &OneRequest) -> Done {
    let receipt = context.client()?.get(&format!("/api/requests/{}", request.request))?;
    match context.json {
        true => context.out.json(&receipt),
        false => context.out.object(&receipt),
    }
}

pub fn why(context: &mut Context, request: &OneRequest) -> Done {
    let why = context.client()?.get(&format!("/api/requests/{}/why", request.request))?;
    if context.json {
        return context.out.json(&why);
    }
    let text = why_text(&why);
    context.out.text(&text)
}

/// What to simulate.
#[derive(Debug, clap::Args)]
pub struct SimulateArgs {
    /// Id of the key, key_…
    key: String,
    /// As a caller would name it.
    #[arg(long)]
    model: String,
    /// Path behind /v1/ that would be called.
    #[arg(long, value_name = "PATH", default_value = "chat/completions")]
    endpoint: String,
    /// What would be asked; its length counts.
    #[arg(long)]
    text: Option<String>,
    /// As a caller would cap the answer.
    #[arg(long, value_name = "TOKENS")]
    max_tokens: Option<u32>,
    /// How long a video would be.
    #[arg(long)]
    seconds: Option<u32>,
    /// Size of a video or a picture, such as 1280x720.
    #[arg(long)]
    size: Option<String>,
    /// Quality of a picture.
    #[arg(long)]
    quality: Option<String>,
    /// Where the call would come from.
    #[arg(long)]
    address: Option<std::net::IpAddr>,
}

/// Whether a call would be allowed now: exit 0 if it would.
pub fn simulate(context: &mut Context, args: &SimulateArgs) -> Done {
    let mut body = serde_json::Map::new();
    let address = args.address.map(|address| address.to_string());
    super::objects::put(&mut body, "model", Some(args.model.as_str()));
    super::objects::put(&mut body, "endpoint", Some(args.endpoint.as_str()));
    super::objects::put(&mut body, "text", args.text.as_deref());
    super::objects::put(&mut body, "max_tokens", args.max_tokens);
    super::objects::put(&mut body, "seconds", args.seconds);
    super::objects::put(&mut body, "size", args.size.as_deref());
    super::objects::put(&mut body, "quality", args.quality.as_deref());
    super::objects::put(&mut body, "address", address);
    let path = format!("/api/keys/{}/simulate", args.key);
    let found = context.client()?.post(&path, &Value::Object(body))?;
    let passes = found["would"] == "pass";
    match context.json {
        true => context.out.json(&found)?,
        false => context.out.text(&why_text(&found["why"]))?,
    };
    Ok(if passes { Exit::Fine } else { Exit::No })
}

/// An explanation for a terminal.
pub fn why_text(why: &Value) -> String {
    let mut lines = vec![cell(&why["summary"])];
    let refusal = &why["refusal"];
    if refusal.is_object() {
        lines.push(String::new());
        for name in ["code", "status", "layer", "fault", "retryable", "charged", "hint"] {
            lines.push(format!("{name:<10} {}", cell(&refusal[name])));
        }
        let next = refusal["next"].as_array().map(Vec::as_slice).unwrap_or_default();
        lines.extend(next.iter().enumerate().map(|(at, step)| format!("{:>9}. {}", at + 1, cell(step))));
    }
    lines.push(String::new());
    let rungs = why["ladder"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rows: Vec<_> = rungs.iter().map(rung_row).collect();
    lines.extend(aligned(&rows));
    let evidence = rungs.iter().filter_map(|rung| rung["evidence"].as_array()).flatten();
    lines.extend(evidence.map(|found| format!("{:<8} {}", cell(&found["finding"]), cell(&found["text"]))));
    lines.push(String::new());
    let call = why["call"].as_object();
    let known = call.into_iter().flatten().filter(|(_, value)| !value.is_null());
    lines.extend(known.map(|(name, value)| format!("{name:<20} {}", cell(value))));
    if why["upstream"].is_object() {
        lines.push(format!("{:<20} {}", "upstream", cell(&why["upstream"])));
    }
    lines.join("\n")
}

fn rung_row(rung: &Value) -> Vec<String> {
    let would = rung["would"].as_str().map(|would| format!(" (would {would})")).unwrap_or_default();
    let code = rung["code"].as_str().unwrap_or_default();
    let figures = rung["figures"].as_array().map(Vec::as_slice).unwrap_or_default();
    let figure = |figure: &Value| {
        let fields = figure.as_object().into_iter().flatten();
        let shown =
            fields.filter(|(name, value)| !value.is_null() && !matches!(name.as_str(), "hidden" | "id"));
        shown.map(|(name, value)| format!("{name} {}", cell(value))).collect::<Vec<_>>().join(", ")
    };
    vec![
        cell(&rung["rung"]),
        cell(&rung["title"]),
        format!("{}{would}", cell(&rung["state"])),
        code.to_owned(),
        figures.iter().map(figure).collect::<Vec<_>>().join("; "),
    ]
}
