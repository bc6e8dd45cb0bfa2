//! Anthropic's Messages format.

mod answer;
mod read;
mod schema;
mod settings;
mod stream;
mod write;

pub use answer::{read_reply, write_reply};
pub use read::read;
pub use stream::{Reader, Writer};
pub use write::write;
