//! Those who run the gateway, and the access tokens of operators and members.

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use crate::cli::{Client, Context, Done};

use super::args::{put, put_or_clear};
use super::{OPERATOR, answer};

#[derive(Debug, Subcommand)]
pub enum Operators {
    /// Every operator.
    List,
    /// One operator.
    Show { operator: String },
    /// Add an operator.
    Create {
        #[arg(long)]
        name: String,
        /// superadmin, finance, support or auditor.
        #[arg(long)]
        role: String,
        /// Their address.
        #[arg(long)]
        email: Option<String>,
    },
    /// Change what is named of an operator.
    Edit {
        operator: String,
        #[arg(long)]
        name: Option<String>,
        /// superadmin, finance, support or auditor.
        #[arg(long)]
        role: Option<String>,
        /// Their address; none clears it.
        #[arg(long)]
        email: Option<String>,
        /// Take the access token away.
        #[arg(long)]
        no_token: bool,
        /// Refuse if the operator is not at this version any more.
        #[arg(long, value_name = "VERSION")]
        if_version: Option<u64>,
    },
    /// Give an operator a new access token, printed this once.
    Token(TokenArgs),
}

/// Whose token, and until when.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// Id of the operator or member.
    holder: String,
    /// RFC 3339; from then on it is refused.
    #[arg(long, value_name = "TIME")]
    expires_at: Option<String>,
}

impl TokenArgs {
    /// Issues the token at `/api/<kind>/<holder>/token`.
    pub(super) fn issue(self, context: &mut Context, client: &Client, kind: &str) -> Done {
        let mut body = Map::new();
        put(&mut body, "expires_at", self.expires_at);
        let path = format!("/api/{kind}/{}/token", self.holder);
        let issued = client.post(&path, &Value::Object(body))?;
        answer(context, &issued)
    }
}

pub fn operators(context: &mut Context, command: Operators) -> Done {
    let mut body = Map::new();
    let edited = match command {
        Operators::List => return OPERATOR.list(context, "limit=1000"),
        Operators::Show { operator } => return OPERATOR.show(context, &operator),
        Operators::Token(token) => {
            let client = context.client()?;
            return token.issue(context, &client, "operators");
        }
        Operators::Create { name, role, email } => {
            put(&mut body, "name", Some(name));
            put(&mut body, "role", Some(role));
            put(&mut body, "email", email);
            None
        }
        Operators::Edit { operator, name, role, email, no_token, if_version } => {
            put(&mut body, "name", name);
            put(&mut body, "role", role);
            put_or_clear(&mut body, "email", email);
            put(&mut body, "token", no_token.then_some(Value::Null));
            put(&mut body, "version", if_version);
            Some(operator)
        }
    };
    let client = context.client()?;
    match edited {
        None => OPERATOR.create(context, &client, body),
        Some(operator) => OPERATOR.edit(context, &client, &operator, body),
    }
}
