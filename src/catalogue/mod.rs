//! Every refusal of the product, and how it is said.
//!
//! For: one place from which the codes, the error bodies, the headers, the pages under `/errors/`
//! and `errors.json` come. The source is `catalog/refusals.toml`; `build.rs` makes the enums.
//! Promises: one cause has one code, and one code has one status; every text exists in English and
//! Chinese; an answer says whose fault it is, whether it was charged and whether a retry can help.
//! Must never: show a key, show amounts to a caller who may not see them, or pass on an
//! upstream's words but where the code says so.

mod code;
mod language;
mod refusal;
mod render;
mod text;

pub use code::{Code, Fault, Phrase, Text, errors_json};
pub use language::Language;
pub use refusal::{LimitView, Refusal, UpstreamSaid, Value};
pub use render::{RenderContext, Shape, render, render_response_error, render_sse_event};
pub use text::rfc3339;
pub(crate) use text::{fill_with, push_value};
