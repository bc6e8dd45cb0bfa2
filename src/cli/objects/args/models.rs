//! Models.

use clap::{Args, Subcommand};

use super::{Body, put};

#[derive(Debug, Subcommand)]
pub enum Models {
    /// Every model.
    List,
    /// One model, by id or name.
    Show { model: String },
    /// Make a model; it can be called once it has a price and a channel.
    Create {
        /// As callers name it.
        name: String,
        #[command(flatten)]
        fields: ModelFields,
    },
    /// Change what is named of a model.
    Edit {
        /// Id or name.
        model: String,
        /// Refuse if the model is not at this version any more.
        #[arg(long, value_name = "VERSION")]
        if_version: Option<u64>,
        #[command(flatten)]
        fields: ModelFields,
    },
}

#[derive(Debug, Args)]
pub struct ModelFields {
    /// active or retired.
    #[arg(long)]
    status: Option<String>,
    /// Where it works: chat/completions, embeddings … Repeat it for several; replaces them all.
    #[arg(long = "endpoint", value_name = "PATH")]
    endpoints: Vec<String>,
    /// Output tokens of one choice, at the most.
    #[arg(long, value_name = "TOKENS")]
    output_tokens_max: Option<u32>,
    /// Tokens of one image part, at the most.
    #[arg(long, value_name = "TOKENS")]
    image_tokens_max: Option<u32>,
    /// Tokens of one audio part, at the most.
    #[arg(long, value_name = "TOKENS")]
    audio_tokens_max: Option<u32>,
    /// Seconds of one recording, at the most.
    #[arg(long, value_name = "SECONDS")]
    audio_seconds_max: Option<u32>,
    /// As the model list shows it.
    #[arg(long, value_name = "NAME")]
    owned_by: Option<String>,
}

impl ModelFields {
    pub fn body(self) -> Body {
        let mut body = Body::new();
        put(&mut body, "status", self.status);
        put(&mut body, "endpoints", (!self.endpoints.is_empty()).then_some(self.endpoints));
        put(&mut body, "output_tokens_max", self.output_tokens_max);
        put(&mut body, "image_tokens_max", self.image_tokens_max);
        put(&mut body, "audio_tokens_max", self.audio_tokens_max);
        put(&mut body, "audio_seconds_max", self.audio_seconds_max);
        put(&mut body, "owned_by", self.owned_by);
        body
    }
}
