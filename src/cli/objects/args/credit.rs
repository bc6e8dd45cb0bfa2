//! Credit that an operator gives.

use clap::Args;

use super::{Body, put};

#[derive(Debug, Args)]
pub struct Credit {
    /// Id or e-mail.
    pub account: String,
    amount: String,
    /// granted (spent first) or purchased.
    #[arg(long, default_value = "purchased")]
    kind: String,
    /// Name from outside, such as transfer-2026-17; posts once for ever.
    #[arg(long)]
    reference: String,
    /// Why, for the operation log.
    #[arg(long)]
    reason: String,
    /// Lower is spent first, among lots of a kind.
    #[arg(long)]
    priority: Option<u8>,
    /// RFC 3339; from then on what is left cannot be spent.
    #[arg(long, value_name = "TIME")]
    expires_at: Option<String>,
    /// The test books instead of the live ones.
    #[arg(long)]
    test: bool,
}

impl Credit {
    pub fn body(self) -> Body {
        let mut body = Body::new();
        put(&mut body, "amount", Some(self.amount));
        put(&mut body, "kind", Some(self.kind));
        put(&mut body, "reference", Some(self.reference));
        put(&mut body, "reason", Some(self.reason));
        put(&mut body, "priority", self.priority);
        put(&mut body, "expires_at", self.expires_at);
        put(&mut body, "environment", Some(if self.test { "test" } else { "live" }));
        body
    }
}
