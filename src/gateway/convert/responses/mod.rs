//! OpenAI's responses: what clients ask where an upstream has none of them, and where models work that have no chat.
//!
//! What OpenAI can keep between calls nobody here keeps, so that every field that stands for something kept is refused.

mod answer;
mod broken;
mod echo;
mod read;
mod stream;
mod write;

pub use answer::{read_reply, write_reply};
pub use broken::SoFar;
pub use echo::echo;
pub use read::read;
pub use stream::{Reader, Writer};
pub use write::write;
