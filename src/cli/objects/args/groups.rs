//! Groups.

use clap::{Args, Subcommand};

use super::limits::LimitFields;
use super::{Body, put};
use crate::cli::Failure;

#[derive(Debug, Subcommand)]
pub enum Groups {
    /// Every group.
    List,
    /// One group, by id or name.
    Show { group: String },
    /// Make a group.
    Create {
        name: String,
        #[command(flatten)]
        fields: GroupFields,
    },
    /// Change what is named of a group.
    Edit {
        /// Id or name.
        group: String,
        #[arg(long)]
        name: Option<String>,
        /// Refuse if the group is not at this version any more.
        #[arg(long, value_name = "VERSION")]
        if_version: Option<u64>,
        #[command(flatten)]
        fields: GroupFields,
    },
}

#[derive(Debug, Args)]
pub struct GroupFields {
    /// Every price is multiplied by it.
    #[arg(long)]
    multiplier: Option<String>,
    /// A model of the group, or those beginning so: gpt-*. Replaces all; repeat it for several.
    #[arg(long = "model", value_name = "NAME")]
    models: Vec<String>,
    /// The group has every model that its channels serve.
    #[arg(long, conflicts_with = "models")]
    all_models: bool,
    /// A group, by id or name, whose channels serve where none of its own can; replaces all, in this order.
    #[arg(long = "fallback", value_name = "GROUP")]
    fallback: Vec<String>,
    /// No group stands in for it.
    #[arg(long, conflicts_with = "fallback")]
    no_fallback: bool,
    #[command(flatten)]
    limits: LimitFields,
}

impl GroupFields {
    pub fn body(self, group: impl Fn(&str) -> Result<String, Failure>) -> Result<Body, Failure> {
        let mut body = Body::new();
        put(&mut body, "multiplier", self.multiplier);
        if self.all_models || !self.models.is_empty() {
            put(&mut body, "models", Some(self.models));
        }
        if self.no_fallback || !self.fallback.is_empty() {
            let ids = self.fallback.iter().map(|text| group(text)).collect::<Result<Vec<_>, _>>()?;
            put(&mut body, "fallback", Some(ids));
        }
        self.limits.put(&mut body)?;
        Ok(body)
    }
}
