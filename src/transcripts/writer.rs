//! The thread that writes transcripts, some at a time.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;

use super::{Transcripts, Waiting};

/// Written in one transaction, at the most.
const AT_A_TIME: usize = 64;

/// Writes until it is dropped, and then what still waits.
pub struct Writer {
    transcripts: Arc<Transcripts>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// To be dropped after the last call. A second one has nothing to do.
    pub fn start(transcripts: &Arc<Transcripts>) -> io::Result<Self> {
        let waiting = transcripts.waiting.lock().take();
        let run = |waiting: Receiver<Waiting>| {
            let transcripts = Arc::clone(transcripts);
            let run = move || write_all(&transcripts, &waiting);
            std::thread::Builder::new().name("transcripts".into()).spawn(run)
        };
        let thread = waiting.map(run).transpose()?;
        Ok(Writer { transcripts: Arc::clone(transcripts), thread })
    }
}

fn write_all(transcripts: &Transcripts, waiting: &Receiver<Waiting>) {
    while let Ok(first) = waiting.recv() {
        let mut some = vec![first];
        some.extend(waiting.try_iter().take(AT_A_TIME - 1));
        if let Err(why) = transcripts.write(&some) {
            tracing::error!(%why, count = some.len(), "transcripts are left out");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            drop(self.transcripts.to_writer.lock().take());
            // It has ended by itself only if it panicked, which the log has.
            let _ended = thread.join();
        }
    }
}
