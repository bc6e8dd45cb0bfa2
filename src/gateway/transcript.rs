//! Hears what is sent and what is answered of a call, where its account wants a transcript kept.
//!
//! Promises: an answer goes to its caller as it would without; a caller that leaves is noticed as before, so that what
//! becomes of its call does not depend on this.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response, header};
use http_body_util::BodyExt as _;
use tokio::sync::mpsc;

use crate::transcripts::{Ended, SAID_BYTES_MAX, Said, Share, Transcript, Transcripts};

use super::answer::{AnswerBody, CutOff};
use super::facts::Facts;
use super::identify;
use super::pipeline::Arrival;

/// A transcript that is being made.
pub(super) struct Hearing {
    transcripts: Arc<Transcripts>,
    transcript: Transcript,
    share: Share,
    /// What was answered so far; `None`: no more of it is kept.
    heard: Option<BytesMut>,
}

impl Arrival {
    /// `None`: the call's account does not want it.
    pub(super) fn hearing(&self, facts: &Facts, headers: &HeaderMap) -> Option<Box<Hearing>> {
        let app = &self.worker.gateway.app;
        let credential = facts.credential.passed()?;
        let terms = app.directory.snapshot().account(credential.account)?.account.transcripts?;
        let expires_ms = app.transcripts.expires_ms(terms, facts.at_ms)?;
        let transcript = Transcript {
            request: self.request,
            account: credential.account,
            key: credential.key,
            at_ms: facts.at_ms,
            expires_ms,
            status: 0,
            ended: Ended::Whole,
            asked: Said { media_type: identify::media_type(headers), ..Said::default() },
            answered: Said::default(),
        };
        let (transcripts, share) = (Arc::clone(&app.transcripts), app.transcripts.share());
        Some(Box::new(Hearing { transcripts, transcript, share, heard: Some(BytesMut::new()) }))
    }
}

impl Hearing {
    /// Hears what is asked.
    pub(super) fn asked(&mut self, body: &Bytes) {
        let asked = &mut self.transcript.asked;
        asked.bytes = body.len() as u64;
        let kept = body.len().min(SAID_BYTES_MAX);
        if self.share.grow(kept) {
            asked.text = body.slice(..kept);
        }
    }

    /// Hears an answer to its end while it is given out, and has it kept then.
    pub(super) fn of(mut self: Box<Self>, answered: Response<AnswerBody>) -> Response<AnswerBody> {
        let (parts, body) = answered.into_parts();
        self.transcript.status = parts.status.as_u16();
        let media_type = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        self.transcript.answered.media_type = media_type.map(Into::into);
        let body = match body {
            AnswerBody::Whole(bytes) => {
                self.piece(bytes.as_deref().unwrap_or_default());
                self.end(Ended::Whole);
                AnswerBody::Whole(bytes)
            }
            pieces @ (AnswerBody::Pieces(_) | AnswerBody::List(_) | AnswerBody::Other(_)) => {
                let cut_off = parts.extensions.get::<CutOff>().cloned();
                let (sender, body) = AnswerBody::pieces();
                tokio::task::spawn_local(self.pass_on(pieces, cut_off, sender));
                body
            }
        };
        Response::from_parts(parts, body)
    }

    async fn pass_on(
        mut self: Box<Self>,
        mut body: AnswerBody,
        cut_off: Option<CutOff>,
        caller: mpsc::Sender<Bytes>,
    ) {
        loop {
            // A caller is missed at once, and not only by the next piece.
            let frame = tokio::select! {
                biased;
                () = caller.closed() => None,
                frame = body.frame() => Some(frame),
            };
            match frame {
                Some(Some(Ok(frame))) => {
                    let Ok(piece) = frame.into_data() else { continue };
                    self.piece(&piece);
                    if caller.send(piece).await.is_err() {
                        return self.end(Ended::Left);
                    }
                }
                Some(Some(Err(_)) | None) => {
                    let is_cut = cut_off.is_some_and(|mark| mark.is_set());
                    return self.end(if is_cut { Ended::CutOff } else { Ended::Whole });
                }
                None => return self.end(Ended::Left),
            }
        }
    }

    fn piece(&mut self, piece: &[u8]) {
        let answered = &mut self.transcript.answered;
        answered.bytes = answered.bytes.saturating_add(piece.len() as u64);
        let Some(heard) = &mut self.heard else { return };
        let left = SAID_BYTES_MAX.saturating_sub(heard.len());
        let kept = piece.get(..left).unwrap_or(piece);
        if self.share.grow(kept.len()) {
            heard.extend_from_slice(kept);
        }
        if answered.bytes != heard.len() as u64 {
            let begun = std::mem::take(heard).freeze();
            answered.text = begun;
            self.heard = None;
        }
    }

    fn end(mut self: Box<Self>, ended: Ended) {
        self.transcript.ended = ended;
        if let Some(heard) = self.heard.take() {
            self.transcript.answered.text = heard.freeze();
        }
        let asked = &mut self.transcript.asked;
        if !asked.is_whole() {
            // Of a long body only what is kept stays in memory.
            asked.text = Bytes::copy_from_slice(&asked.text);
        }
        let Hearing { transcripts, transcript, share, .. } = *self;
        transcripts.keep(transcript, share);
    }
}
