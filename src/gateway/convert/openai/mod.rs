//! OpenAI's chat format, and DeepSeek's dialect of it.

mod answer;
mod details;
pub(super) mod function;
mod read;
mod stream;
mod write;

pub(super) use answer::whole_arguments;
pub use answer::{read_reply, write_reply};
pub use read::read;
pub(super) use read::{effort, google_signature, image_of, sound, verbosity};
pub use stream::{Reader, Writer};
pub(super) use write::USER_CHARACTERS_MAX;
pub use write::write;
