//! Gemini's generateContent format.

mod answer;
mod read;
mod schema;
mod stream;
mod write;

pub use answer::{read_reply, write_reply};
pub use read::{read, thinking_config};
pub use stream::{Reader, Writer};
pub use write::write;
