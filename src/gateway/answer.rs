//! The body of an answer: known whole, or handed over piece by piece by the task that reads the upstream.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

use super::list::List;

/// Pieces that may wait for a slow caller before the upstream is no longer read.
const PIECES_WAITING_MAX: usize = 16;

pub enum AnswerBody {
    Whole(Option<Bytes>),
    Pieces(mpsc::Receiver<Bytes>),
    /// Pieces of a stream of events that goes out as a list.
    List(Box<List>),
    /// An answer of the management API or a page.
    Other(axum::body::Body),
}

/// Goes with an answer in pieces, and tells once its last one has come that it was cut off: it is no answer to keep.
#[derive(Clone, Debug, Default)]
pub struct CutOff(Arc<AtomicBool>);

impl CutOff {
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl AnswerBody {
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        AnswerBody::Whole((!bytes.is_empty()).then_some(bytes))
    }

    /// A body and the end at which its pieces are put in. Sending fails once the caller has gone.
    pub fn pieces() -> (mpsc::Sender<Bytes>, Self) {
        let (sender, receiver) = mpsc::channel(PIECES_WAITING_MAX);
        (sender, AnswerBody::Pieces(receiver))
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            AnswerBody::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            AnswerBody::Pieces(pieces) => {
                pieces.poll_recv(context).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
            }
            AnswerBody::List(list) => {
                list.poll(context).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
            }
            AnswerBody::Other(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            AnswerBody::Whole(bytes) => bytes.is_none(),
            AnswerBody::Pieces(_) | AnswerBody::List(_) => false,
            AnswerBody::Other(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            AnswerBody::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            AnswerBody::Pieces(_) | AnswerBody::List(_) => SizeHint::default(),
            AnswerBody::Other(body) => body.size_hint(),
        }
    }
}
