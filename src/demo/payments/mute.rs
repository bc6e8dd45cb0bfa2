//! A question that is never answered: for whoever wants to end a gateway while it waits.

use std::convert::Infallible;
use std::sync::mpsc::{Receiver, Sender, channel};

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::response::Response;
use tower::ServiceExt as _;

use super::{Payments, Shared};

/// What the provider does with the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mute {
    /// It never heard it.
    Unheard,
    /// It did what it was asked for.
    Done,
}

/// A question that is waited for.
pub(super) struct Waiting {
    mute: Mute,
    /// Part of its address, or of its body.
    about: String,
    asked: Sender<()>,
}

impl Payments {
    /// The next question whose address or body has these words is not answered. Told when it is there, and done if it
    /// is to be.
    pub fn mute_next(&self, about: &str, mute: Mute) -> Receiver<()> {
        let (asked, told) = channel();
        self.shared.world.lock().mute = Some(Waiting { mute, about: about.to_owned(), asked });
        told
    }

    /// Every question is answered again.
    pub fn unmute(&self) {
        self.shared.world.lock().mute = None;
    }
}

/// Has a question answered, unless it is the one that is waited for.
pub(super) async fn ask(
    site: &Shared,
    router: Router,
    request: Request<Body>,
) -> Result<Response, Infallible> {
    if site.world.lock().mute.is_none() {
        return router.oneshot(request).await;
    }
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let about = format!("{} {}", head.uri, String::from_utf8_lossy(&body));
    let waiting = {
        let mut world = site.world.lock();
        let is_it = world.mute.as_ref().is_some_and(|waiting| about.contains(&waiting.about));
        if is_it { world.mute.take() } else { None }
    };
    let request = Request::from_parts(head, Body::from(body));
    let Some(waiting) = waiting else { return router.oneshot(request).await };
    if waiting.mute == Mute::Done {
        let _nobody_hears_it = router.oneshot(request).await;
    }
    // Who waits for it may have gone.
    let _told = waiting.asked.send(());
    std::future::pending().await
}
