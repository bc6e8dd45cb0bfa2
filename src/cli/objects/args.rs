//! What the commands on objects take, and the bodies that this makes.

mod accounts;
mod channel_fields;
mod credit;
mod groups;
mod keys;
mod limits;
mod models;

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use crate::cli::Failure;

pub use accounts::{Accounts, SwitchFields};
pub use channel_fields::ChannelFields;
pub use credit::Credit;
pub use groups::Groups;
pub use keys::Keys;
pub use limits::LimitFields;
pub use models::Models;

type Body = Map<String, Value>;

/// Sets a field if something was said about it.
pub fn put(body: &mut Body, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        body.insert(name.to_owned(), value.into());
    }
}

/// The same where the word `none` clears the field.
pub fn put_or_clear(body: &mut Body, name: &str, value: Option<String>) {
    put(body, name, value.map(|value| if value == "none" { Value::Null } else { Value::String(value) }));
}

/// The same for an object that is named by an id or by something else.
pub fn put_found(
    body: &mut Body,
    name: &str,
    value: Option<String>,
    find: impl Fn(&str) -> Result<String, Failure>,
) -> Result<(), Failure> {
    match value.as_deref() {
        None => {}
        Some("none") => put(body, name, Some(Value::Null)),
        Some(text) => put(body, name, Some(find(text)?)),
    }
    Ok(())
}

#[derive(Debug, Subcommand)]
pub enum Channels {
    /// Every channel.
    List,
    /// One channel, by id or name.
    Show { channel: String },
    /// Make a channel. Its credential is read from --credential-env, else from the standard input.
    Create {
        #[arg(long)]
        name: String,
        /// Name of the environment variable that holds the provider's key. Repeat it for several keys.
        #[arg(long, value_name = "NAME")]
        credential_env: Vec<String>,
        #[command(flatten)]
        fields: ChannelFields,
    },
    /// Make models, prices and channels of the lines of a file: all of them or none.
    ///
    /// Each line is a JSON object with "kind" (model, price or channel) and the fields of the API's route. A channel
    /// may name an environment variable for its key: "credential_env".
    Import {
        file: std::path::PathBuf,
        /// Check everything and keep nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// How each channel does in the running server: what rests, why and until when.
    Health,
    /// What calls were charged beside what upstreams bill for all of their attempts.
    Margins(crate::cli::reports::MarginsArgs),
    /// Send one tiny real call through a channel. No account is charged for it.
    Test {
        /// Id or name.
        channel: String,
        /// A model that it serves, as callers name it; default: the first.
        #[arg(long)]
        model: Option<String>,
        /// Number of the provider's key to use; default: 1.
        #[arg(long)]
        credential: Option<u32>,
    },
    /// What credentials are sealed with, and what no master key at hand can open.
    MasterKey,
    /// Turn to a new master key and seal everything anew, while calls go on. Interrupted, it goes on at the next run.
    ///
    /// A key of the file in the data directory is made and replaced by itself. Where the configuration names the key,
    /// make the new one with `openssl rand -hex 32`, give it here, and put it in the configuration before the next start.
    RotateMasterKey {
        /// Name of the environment variable that holds the new key.
        #[arg(long, value_name = "NAME", conflicts_with = "key_stdin")]
        key_env: Option<String>,
        /// Read the new key from the standard input.
        #[arg(long)]
        key_stdin: bool,
    },
    /// End a rotation: the old master key opens nothing any more, and may be destroyed.
    ForgetOldMasterKey,
    /// Begin with another master key when the right one is lost for good. No server may run.
    ///
    /// Without --yes it only tells what must be entered anew.
    RenounceMasterKey {
        #[arg(long)]
        yes: bool,
    },
    /// Change what is named of a channel.
    Edit {
        /// Id or name.
        channel: String,
        #[arg(long)]
        name: Option<String>,
        /// Replace the provider's keys by what this environment variable holds. Repeat it for several keys.
        #[arg(long, value_name = "NAME", conflicts_with = "credential_stdin")]
        credential_env: Vec<String>,
        /// Replace the provider's keys by what the standard input holds.
        #[arg(long)]
        credential_stdin: bool,
        /// Refuse if the channel is not at this version any more.
        #[arg(long, value_name = "VERSION")]
        if_version: Option<u64>,
        #[command(flatten)]
        fields: ChannelFields,
    },
}

#[derive(Debug, Subcommand)]
pub enum Prices {
    /// Every price version, newest first for each model.
    List {
        /// Only those of this model, by id or name.
        #[arg(long)]
        model: Option<String>,
    },
    /// One price version.
    Show { price: String },
    /// Add a price version; calls accepted before keep theirs.
    Add(Box<PriceAdd>),
}

/// Prices of tokens are decimals per million; `--unit` prices what is not sold by tokens.
#[derive(Debug, Args)]
pub struct PriceAdd {
    /// Id or name of the model.
    model: String,
    #[arg(long, value_name = "AMOUNT")]
    input: Option<String>,
    #[arg(long, value_name = "AMOUNT")]
    output: Option<String>,
    #[arg(long, value_name = "AMOUNT")]
    cache_read: Option<String>,
    #[arg(long, value_name = "AMOUNT")]
    cache_write: Option<String>,
    #[arg(long, value_name = "AMOUNT")]
    reasoning: Option<String>,
    #[arg(long, value_name = "AMOUNT")]
    audio_in: Option<String>,
    #[arg(long, value_name = "AMOUNT")]
    audio_out: Option<String>,
    #[arg(long, value_name = "AMOUNT")]
    image_in: Option<String>,
    /// Price of an image, second, million_characters or search, where it depends on them of one size and quality:
    /// image=0.04, image,size=1024x1024,quality=hd=0.08; repeatable.
    #[arg(long = "unit", value_name = "UNIT[,size=SIZE][,quality=QUALITY]=AMOUNT", value_parser = unit_price)]
    units: Vec<Body>,
    /// Added once per call.
    #[arg(long, value_name = "AMOUNT")]
    per_call: Option<String>,
    /// RFC 3339; default: now.
    #[arg(long, value_name = "TIME")]
    effective_at: Option<String>,
}

/// Reads `image,size=1024x1024=0.04`. What the parts may be is the API's to say.
fn unit_price(text: &str) -> Result<Body, String> {
    let (about, price) = text.rsplit_once('=').ok_or("expected UNIT=AMOUNT, such as image=0.04")?;
    let mut parts = about.split(',');
    let mut row = Body::new();
    put(&mut row, "unit", parts.next());
    for part in parts {
        let (name, value) = part.split_once('=').ok_or("expected size=… or quality=… behind the unit")?;
        put(&mut row, name, Some(value));
    }
    put(&mut row, "price", Some(price));
    Ok(row)
}

impl PriceAdd {
    pub fn body(self) -> Body {
        let mut classes = Body::new();
        put(&mut classes, "input", self.input);
        put(&mut classes, "output", self.output);
        put(&mut classes, "cache_read", self.cache_read);
        put(&mut classes, "cache_write", self.cache_write);
        put(&mut classes, "reasoning", self.reasoning);
        put(&mut classes, "audio_in", self.audio_in);
        put(&mut classes, "audio_out", self.audio_out);
        put(&mut classes, "image_in", self.image_in);
        let mut body = Body::new();
        put(&mut body, "model", Some(self.model));
        put(&mut body, "per_million", (!classes.is_empty()).then_some(classes));
        put(&mut body, "units", (!self.units.is_empty()).then_some(self.units));
        put(&mut body, "per_call", self.per_call);
        put(&mut body, "effective_at", self.effective_at);
        body
    }
}
