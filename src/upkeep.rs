//! What is done by itself from time to time: ends of credit are written off, a turn to a new master key goes on,
//! upstreams are asked what is left of the credit there, money whose way was cut off by a failure goes on, cases whose
//! corrections are posted are closed, and what is too old is forgotten.
//!
//! Must never: do anything that is not done the same way, and as well, by the next start.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use crate::app::App;
use crate::reconcile::{correct, entry};

const TICK: Duration = Duration::from_secs(1);
/// What was cut off is looked for in every so many ticks.
const REPAIR_TICKS: u32 = 30;
/// What is too old is forgotten in every so many ticks, and at the start.
const FORGET_TICKS: u32 = 3_600;
const DAY_MS: i64 = 86_400_000;

/// The threads that do it, until it is dropped. Upstreams are asked by one of their own: they may be slow.
pub struct Upkeep(#[expect(dead_code, reason = "dropping them ends the threads")] [Sender<()>; 2]);

impl Upkeep {
    pub fn start(app: Arc<App>) -> std::io::Result<Self> {
        let (stop, stopped) = channel::<()>();
        let credit = watch_credit(Arc::clone(&app))?;
        let run = move || {
            if let Err(why) = app.master_keys.resume() {
                tracing::error!(%why, "the turn to a new master key could not go on");
            }
            let mut ticks: u32 = 0;
            while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                tick(&app, ticks);
                ticks = ticks.wrapping_add(1);
            }
        };
        std::thread::Builder::new().name("upkeep".into()).spawn(run)?;
        Ok(Upkeep([stop, credit]))
    }
}

/// Looks at what is left of the credit at upstreams.
fn watch_credit(app: Arc<App>) -> std::io::Result<Sender<()>> {
    let (stop, stopped) = channel::<()>();
    let pause = Duration::from_millis(app.config.upstream.credit_poll_ms);
    let run = move || {
        app.credit.look();
        while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
            app.credit.look();
        }
    };
    std::thread::Builder::new().name("channel-credit".into()).spawn(run)?;
    Ok(stop)
}

fn tick(app: &App, ticks: u32) {
    if ticks.is_multiple_of(FORGET_TICKS) {
        forget(app);
    }
    match app.books.expire_due() {
        Ok(0) => {}
        Ok(lots) => tracing::info!(lots, "wrote off credit whose end had come"),
        Err(why) => tracing::warn!(%why, "no credit could be written off"),
    }
    if let Err(why) = app.master_keys.refresh() {
        tracing::warn!(%why, "a turn to a new master key could not be taken in");
    }
    if !ticks.is_multiple_of(REPAIR_TICKS) {
        return;
    }
    if let Err(why) = app.codes.repair() {
        tracing::warn!(%why, "redemption codes could not be looked at");
    }
    match app.transcripts.forget_expired() {
        Ok(0) => {}
        Ok(transcripts) => tracing::info!(transcripts, "forgot transcripts whose end had come"),
        Err(why) => tracing::warn!(%why, "transcripts whose end had come could not be forgotten"),
    }
    if let Err(why) = app.corrections.repair() {
        tracing::warn!(%why, "corrections could not be looked at");
    }
    let books = entry::Books { funding: &app.funding, corrections: &app.corrections };
    if let Err(why) = correct::settle_all(&app.reconcile, &books, app.clock.now_ms()) {
        tracing::warn!(%why, "cases whose corrections are posted could not be closed");
    }
}

fn forget(app: &App) {
    let days = i64::from(app.config.retention.notices_days);
    if days == 0 {
        return;
    }
    match app.notices.forget_before(app.clock.now_ms().saturating_sub(days * DAY_MS)) {
        Ok(0) => {}
        Ok(notices) => tracing::info!(notices, "forgot notices that were older than they are kept"),
        Err(why) => tracing::warn!(%why, "old notices could not be forgotten"),
    }
}
