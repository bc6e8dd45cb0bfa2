//! `/api/transcripts` and the transcript of a call: what was sent and answered, for the account that had it kept. No
//! operator reads any; superadmins may erase.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::directory::{AccountRole, FieldError};
use crate::explain::time_text;
use crate::id::{AccountId, KeyId, RequestId};
use crate::transcripts::{Entry, Filter, Said, Transcript};

use super::access::Access;
use super::keys;
use super::problem::Problem;
use super::requests;
use super::route::{Call, PAGE, Param, Reply, Route};
use super::shape::{COUNT, Field, Kind, Need, Shape, field};

static ENTRY: Shape = Shape {
    name: "TranscriptEntry",
    fields: &[
        field!("request", Kind::Text, Required, "Id of the call"),
        field!("key", Kind::Text, Required, "Whose key made it"),
        field!("at", Kind::Time, Required, "Time of the decision"),
        field!("expires_at", Kind::Time, Required, "From then on it is not there any more"),
    ],
};

static SAID: Shape = Shape {
    name: "TranscriptSide",
    fields: &[
        field!("media_type", Kind::Text, Nullable, "As it was declared"),
        field!("bytes", COUNT, Required, "Length of the whole"),
        field!("is_whole", Kind::Bool, Required, "False: what is kept is its beginning"),
        field!("text", Kind::Text, Nullable, "What is kept; null: it is no text"),
        field!("base64", Kind::Text, Nullable, "What is kept, where it is no text"),
    ],
};

static TRANSCRIPT: Shape = Shape {
    name: "Transcript",
    fields: &[
        field!("request", Kind::Text, Required, "Id of the call"),
        field!("key", Kind::Text, Required, "Whose key made it"),
        field!("at", Kind::Time, Required, "Time of the decision"),
        field!("expires_at", Kind::Time, Required, "From then on it is not there any more"),
        field!("status", COUNT, Required, "HTTP status of the answer"),
        field!(
            "ended",
            Kind::OneOf(&["whole", "cut_off", "left"]),
            Required,
            "cut_off: the answer broke off; left: its caller went before its end"
        ),
        field!("asked", Kind::Object(&SAID), Required, "What was sent"),
        field!("answered", Kind::Object(&SAID), Required, "What was answered"),
    ],
};

static ERASED: Shape = Shape {
    name: "TranscriptsErased",
    fields: &[field!("erased", COUNT, Required, "How many transcripts they were")],
};

pub static ROUTES: &[Route] = &[
    Route::list(
        "/api/transcripts",
        "listTranscripts",
        "Calls of the account whose transcripts are kept, the newest first",
        &ENTRY,
        list,
    )
    .access(Access::TRANSCRIPTS)
    .query(&[Param { name: "key", about: "Only calls of this key" }, PAGE[0], PAGE[1]]),
    Route::get(
        "/api/requests/{id}/transcript",
        "getTranscript",
        "What was sent and answered in a call; there is none unless the account had it kept",
        &TRANSCRIPT,
        get,
    )
    .access(Access::TRANSCRIPTS),
    Route::delete(
        "/api/requests/{id}/transcript",
        "eraseTranscript",
        "Erases the transcript of a call",
        &ERASED,
        erase,
    )
    .access(Access::ACCOUNT_CHANGES),
    Route::delete(
        "/api/transcripts",
        "eraseTranscripts",
        "Erases every transcript of an account",
        &ERASED,
        erase_all,
    )
    .access(Access::ACCOUNT_CHANGES)
    .query(&[Param { name: "account", about: "Whose; members: their own account's" }]),
];

/// A transcript that is there for who calls: developers have those of their own keys alone.
fn found(call: &Call<'_>) -> Result<Option<Entry>, Problem> {
    let entry = call.app.transcripts.entry(call.path_id("id")?)?;
    Ok(entry.filter(|entry| match call.own_account() {
        None => true,
        Some(own) => own == entry.account && is_own_key(call, entry.key),
    }))
}

fn is_own_key(call: &Call<'_>, key: KeyId) -> bool {
    call.app.directory.snapshot().key(key).is_some_and(|key| keys::is_there(call, key))
}

fn own_keys(call: &Call<'_>, account: AccountId) -> Vec<KeyId> {
    let snapshot = call.app.directory.snapshot_owned();
    let own = snapshot.keys().filter(|key| key.account == account && keys::is_there(call, key));
    own.map(|key| key.id).collect()
}

fn list(call: &Call<'_>) -> Result<Reply, Problem> {
    // The route is for members alone.
    let account = call.own_account().ok_or(Problem::NotFound)?;
    let (key, before) = (call.query_parsed::<KeyId>("key")?, call.query_parsed::<RequestId>("cursor")?);
    let keys = match (key, call.member()) {
        (Some(key), _) => Some(Vec::from_iter(is_own_key(call, key).then_some(key))),
        (None, Some((_, AccountRole::Developer))) => Some(own_keys(call, account)),
        (None, _) => None,
    };
    let limit = call.limit()?;
    let entries = call.app.transcripts.list(&Filter { account, keys, before }, limit)?;
    let last = entries.last().filter(|_| entries.len() == limit as usize);
    Ok(Reply::page(entries.iter().map(entry_view).collect(), last.map(|entry| entry.request.to_string())))
}

fn get(call: &Call<'_>) -> Result<Reply, Problem> {
    let entry = found(call)?.ok_or(Problem::NotFound)?;
    let transcript = call.app.transcripts.read(entry.request)?.ok_or(Problem::NotFound)?;
    Ok(Reply::ok(view(&transcript)))
}

fn erase(call: &Call<'_>) -> Result<Reply, Problem> {
    let erased = match found(call)? {
        Some(entry) => call.app.transcripts.erase(entry.request)?,
        // A call without one has nothing to erase, another's call is not there.
        None => requests::found(call).map(|_| false)?,
    };
    Ok(Reply::ok(json!({"erased": u8::from(erased)})))
}

fn erase_all(call: &Call<'_>) -> Result<Reply, Problem> {
    let account = call.asked_account()?.ok_or_else(|| FieldError::new("account", "is missing"))?;
    let erased = call.app.transcripts.erase_all(account)?;
    tracing::info!(%account, erased, actor = call.actor(), "transcripts were erased");
    Ok(Reply::ok(json!({"erased": erased})))
}

fn entry_view(entry: &Entry) -> Value {
    json!({
        "request": entry.request,
        "key": entry.key,
        "at": time_text(entry.at_ms),
        "expires_at": time_text(entry.expires_ms),
    })
}

fn view(transcript: &Transcript) -> Value {
    json!({
        "request": transcript.request,
        "key": transcript.key,
        "at": time_text(transcript.at_ms),
        "expires_at": time_text(transcript.expires_ms),
        "status": transcript.status,
        "ended": transcript.ended,
        "asked": said_view(&transcript.asked),
        "answered": said_view(&transcript.answered),
    })
}

fn said_view(said: &Said) -> Value {
    let text = text_of(said);
    json!({
        "media_type": said.media_type,
        "bytes": said.bytes,
        "is_whole": said.is_whole(),
        "base64": text.is_none().then(|| BASE64.encode(&said.text)),
        "text": text,
    })
}

/// A text that was cut may end in the midst of a character.
fn text_of(said: &Said) -> Option<&str> {
    match std::str::from_utf8(&said.text) {
        Ok(text) => Some(text),
        Err(why) if !said.is_whole() && why.error_len().is_none() => {
            said.text.get(..why.valid_up_to()).and_then(|text| std::str::from_utf8(text).ok())
        }
        Err(_) => None,
    }
}
