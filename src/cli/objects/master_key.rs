//! The master key: shown, turned to a new one, and given up when it is lost.

use serde_json::{Map, Value, json};

use super::{answer, secret};
use crate::cli::watch::{self, Long};
use crate::cli::{Context, Done, Exit, Failure};
use crate::master_key::{self, OpenError};
use crate::secret::MasterKeyError;
use crate::store::{self, StoreConfig};

/// Ends with 1 if something cannot be opened.
pub fn show(context: &mut Context) -> Done {
    let shown = context.client()?.get("/api/master-key")?;
    answer(context, &shown)?;
    Ok(if shown["unreadable"].as_array().is_some_and(Vec::is_empty) { Exit::Fine } else { Exit::No })
}

pub fn rotate(context: &mut Context, key_env: Option<&str>, key_stdin: bool) -> Done {
    let mut body = Map::new();
    if key_stdin || key_env.is_some() {
        body.insert("key".into(), secret(key_env)?.into());
    }
    let client = context.client()?;
    let long = Long {
        path: "/api/master-key/rotation",
        standing: "/api/master-key/rotation",
        what: "rotate-master-key",
        then: "the next run goes on from there",
    };
    let report = watch::run(context, &client, &long, &Value::Object(body))?;
    answer(context, &report)?;
    if report["old_key_forgotten"] != true {
        let next = "the old key is still needed: see `tallygate channels master-key`, and docs/master-key.md";
        writeln!(context.out.err(), "tallygate: {next}")?;
    }
    Ok(Exit::Fine)
}

pub fn forget(context: &mut Context) -> Done {
    let shown = context.client()?.post("/api/master-key/rotation/finish", &json!({}))?;
    answer(context, &shown)
}

/// Works on the store itself: no gateway starts without its master key.
pub fn renounce(context: &mut Context, yes: bool) -> Done {
    let config = context.config()?;
    let (data_dir, given) = (&config.store.data_dir, config.secrets.master_key.as_ref());
    let stores = match config.store.database_url.clone() {
        Some(url) => StoreConfig::postgres(data_dir, url),
        None => StoreConfig::embedded(data_dir),
    };
    let stores = store::open(&stores).map_err(Failure::unanswered)?;
    let renounced = match master_key::renounce(data_dir, given, &stores.directory, !yes) {
        Ok(renounced) => renounced,
        Err(OpenError::Key(MasterKeyError::Wrong)) => {
            return Err(Failure {
                exit: Exit::No,
                text: "the master key at hand is the right one".to_owned(),
            });
        }
        Err(why) => return Err(Failure::unanswered(why)),
    };
    let things: Vec<_> =
        renounced.sealed.iter().map(|thing| json!({"kind": thing.kind, "name": thing.name})).collect();
    answer(
        context,
        &json!({
            "done": renounced.done,
            "to_be_entered_anew": things,
            "keys_and_codes_lost": renounced.hashes_lost,
        }),
    )?;
    Ok(if renounced.done { Exit::Fine } else { Exit::No })
}
