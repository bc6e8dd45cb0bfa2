//! Of submissions that are alike and come at once, one goes on while the others wait for it.

use std::sync::Arc;

use hashbrown::HashSet;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::id::KeyId;

type What = (KeyId, u128);

#[derive(Default)]
pub struct Claims {
    going: Mutex<HashSet<What>>,
    /// Rung whenever one has ended.
    ended: Notify,
}

/// While it lives, no other one for the same is given out.
pub struct Claim {
    claims: Arc<Claims>,
    what: What,
}

impl Claims {
    pub async fn take(self: &Arc<Self>, what: What) -> Claim {
        loop {
            let mut ended = std::pin::pin!(self.ended.notified());
            // Listed before the look, so that an end in between is heard.
            ended.as_mut().enable();
            if self.going.lock().insert(what) {
                return Claim { claims: Arc::clone(self), what };
            }
            ended.await;
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.going.lock().remove(&self.what);
        self.claims.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_second_of_a_kind_waits_for_the_first() {
        let (claims, one) = (Arc::new(Claims::default()), KeyId::from_raw(1));
        let first = claims.take((one, 7)).await;
        let _other = claims.take((one, 8)).await;
        let waiting = tokio::spawn({
            let claims = Arc::clone(&claims);
            async move { drop(claims.take((one, 7)).await) }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        waiting.await.unwrap();
    }
}
