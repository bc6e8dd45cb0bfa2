//! Channels: made and changed like every object, tried out, and looked after.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::args::{self, Channels};
use super::{CHANNEL, Columns, GROUP, answer, master_key, secret};
use crate::api::json;
use crate::cli::{Context, Done, Exit, Failure};

const HEALTH: Columns = &[
    ("CHANNEL", "channel"),
    ("NAME", "name"),
    ("STATE", "state"),
    ("ANSWERED", "answered"),
    ("FAILED", "failed"),
    ("LAST FAILURE", "last_failure"),
    ("RESTS", "rests"),
    ("CREDIT", "credit"),
];

pub fn channels(context: &mut Context, command: Channels) -> Done {
    match command {
        Channels::List => CHANNEL.list(context, "limit=1000"),
        Channels::Show { channel } => CHANNEL.show(context, &channel),
        Channels::Create { name, credential_env, fields } => {
            let client = context.client()?;
            let mut body = fields.body(|group| GROUP.id(&client, group))?;
            body.insert("name".into(), name.into());
            credentials(&mut body, &credential_env)?;
            CHANNEL.create(context, &client, body)
        }
        Channels::Edit { channel, name, credential_env, credential_stdin, if_version, fields } => {
            let client = context.client()?;
            let mut body = fields.body(|group| GROUP.id(&client, group))?;
            args::put(&mut body, "name", name);
            args::put(&mut body, "version", if_version);
            if credential_stdin || !credential_env.is_empty() {
                credentials(&mut body, &credential_env)?;
            }
            CHANNEL.edit(context, &client, &channel, body)
        }
        Channels::Import { file, dry_run } => import(context, &file, dry_run),
        Channels::Health => health(context),
        Channels::Margins(args) => crate::cli::reports::margins(context, &args),
        Channels::MasterKey => master_key::show(context),
        Channels::RotateMasterKey { key_env, key_stdin } => {
            master_key::rotate(context, key_env.as_deref(), key_stdin)
        }
        Channels::ForgetOldMasterKey => master_key::forget(context),
        Channels::RenounceMasterKey { yes } => master_key::renounce(context, yes),
        Channels::Test { channel, model, credential } => test(context, &channel, model, credential),
    }
}

/// From the environment, one key or several; else one from the standard input.
fn credentials(body: &mut Map<String, Value>, names: &[String]) -> Result<(), Failure> {
    match names {
        [] => drop(body.insert("credential".into(), secret(None)?.into())),
        names => {
            let read = names.iter().map(|name| secret(Some(name)));
            let several: Vec<String> = read.collect::<Result<_, _>>()?;
            body.insert("credentials".into(), several.into());
        }
    }
    Ok(())
}

const FAULTS: Columns = &[("LINE", "line"), ("FIELD", "field"), ("REASON", "reason")];

/// Ends with 1 if a line is at fault.
fn import(context: &mut Context, file: &Path, dry_run: bool) -> Done {
    let text = std::fs::read_to_string(file)
        .map_err(|why| Failure::usage(format!("{} cannot be read: {why}", file.display())))?;
    let lines = json::unmarked(&text).lines().map(with_credential).collect::<Result<Vec<_>, _>>()?;
    let body = json!({"lines": lines, "dry_run": dry_run});
    let done = context.client()?.post("/api/channels/import", &body)?;
    let faults = done["faults"].as_array().cloned().unwrap_or_default();
    match (context.json, faults.is_empty()) {
        (true, _) => context.out.json(&done)?,
        (false, true) => context.out.object(&done)?,
        (false, false) => context.out.table(&faults, FAULTS)?,
    };
    Ok(if faults.is_empty() { Exit::Fine } else { Exit::No })
}

/// A line with its key from the environment in the place of the variable's name. What is no object, or says something
/// twice, is left as it is: the server tells what is wrong with it.
fn with_credential(line: &str) -> Result<String, Failure> {
    let Ok(Value::Object(mut row)) = json::read(line.as_bytes()) else { return Ok(line.to_owned()) };
    let Some(Value::String(name)) = row.remove("credential_env") else { return Ok(line.to_owned()) };
    row.insert("credential".into(), secret(Some(&name))?.into());
    Ok(Value::Object(row).to_string())
}

fn health(context: &mut Context) -> Done {
    let mut health = context.client()?.get("/api/channels/health")?;
    if context.json {
        return context.out.json(&health);
    }
    let Value::Array(mut rows) = health["data"].take() else { return Ok(Exit::Fine) };
    rows.iter_mut().for_each(rests_text);
    rows.iter_mut().for_each(credit_text);
    context.out.table(&rows, HEALTH)
}

/// What rests, why, and until when.
fn rests_text(row: &mut Value) {
    let troubles = row["troubles"].as_array().map(Vec::as_slice).unwrap_or_default();
    let resting = troubles.iter().filter(|trouble| trouble["until"].is_string());
    let texts = resting.map(|trouble| {
        let what = match (trouble["model"].as_str(), trouble["credential"].as_u64()) {
            (Some(model), None) => model.to_owned(),
            (Some(model), Some(number)) => format!("{model} with credential {number}"),
            (None, number) => format!("credential {}", number.unwrap_or(0)),
        };
        let [reason, until] = ["reason", "until"].map(|name| trouble[name].as_str().unwrap_or(""));
        format!("{what}: {reason} until {until}")
    });
    row["rests"] = texts.collect::<Vec<_>>().join(", ").into();
}

/// What is left with each credential, where that is known.
fn credit_text(row: &mut Value) {
    let seen = row["credit"].as_array().map(Vec::as_slice).unwrap_or_default();
    let texts = seen.iter().map(|seen| {
        let left = seen["remaining"].as_str().unwrap_or("?");
        let low = if seen["is_low"] == true { " (low)" } else { "" };
        let fault = seen["fault"].as_str().map(|why| format!(" ({why})")).unwrap_or_default();
        format!("{left}{low}{fault}")
    });
    row["credit"] = texts.collect::<Vec<_>>().join(", ").into();
}

/// Ends with 1 if the channel does not work.
fn test(context: &mut Context, channel: &str, model: Option<String>, credential: Option<u32>) -> Done {
    let client = context.client()?;
    let id = CHANNEL.id(&client, channel)?;
    let mut body = Map::new();
    args::put(&mut body, "model", model);
    args::put(&mut body, "credential", credential);
    let tested = client.post(&format!("/api/channels/{id}/test"), &json!(body))?;
    answer(context, &tested)?;
    Ok(if tested["works"] == true { Exit::Fine } else { Exit::No })
}
