//! The clock is a number here: nothing waits.

use super::*;

const SECOND: u64 = 1_000_000_000;
const POLICY: RestPolicy = RestPolicy { failures: 3, first_ms: 10_000, max_ms: 60_000 };

fn channel(more: serde_json::Value) -> Arc<Channel> {
    let mut document = serde_json::json!({
        "id": ChannelId::from_raw(1), "name": "one", "provider": "openai", "base_url": "http://127.0.0.1:1/v1",
        "credentials": ["a"], "models": {"m": "m", "other": "other"}, "environments": ["live"],
        "created_at": "2026-01-01T00:00:00Z"
    });
    document.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    Arc::new(serde_json::from_value(document).unwrap())
}

fn fault(code: Code, credential: usize) -> Fault<'static> {
    Fault { model: "m", credential, code, retry_after: None }
}

struct Scene {
    all: ChannelHealth,
    channel: Arc<Channel>,
}

impl Scene {
    fn new(more: serde_json::Value) -> Self {
        Scene { all: ChannelHealth::new(POLICY), channel: channel(more) }
    }

    fn health(&self) -> Arc<Health> {
        self.all.of(&self.channel)
    }

    fn fail(&self, code: Code, at: u64) -> Option<Told> {
        self.health().failed(&self.channel, &fault(code, 0), at * SECOND)
    }

    /// Why it rests at this second, and for how many more.
    fn rest(&self, at: u64) -> Option<(RestReason, u64)> {
        let rest = self.health().rest(&self.channel, "m", at * SECOND)?;
        Some((rest.reason, rest.left_ns / SECOND))
    }
}

/// H2: failures in a row make it rest, each time longer up to a bound; a success ends all of it.
#[test]
fn h2_a_channel_that_fails_rests_and_recovers() {
    let scene = Scene::new(serde_json::json!({}));
    assert!(scene.all.is_quiet());
    scene.fail(Code::UpstreamError, 0);
    scene.fail(Code::UpstreamError, 1);
    assert_eq!(scene.rest(2), None, "two failures are none too many");
    scene.fail(Code::UpstreamError, 2);
    assert_eq!(scene.rest(2), Some((RestReason::Errors, 10)));
    assert!(!scene.all.is_quiet());
    assert_eq!(scene.rest(12), None, "the rest has ended");
    // One more failure is enough now, and the rests grow.
    scene.fail(Code::UpstreamTimeout, 12);
    assert_eq!(scene.rest(12), Some((RestReason::Timeouts, 20)));
    for at in [32, 72, 132] {
        scene.fail(Code::UpstreamError, at);
    }
    assert_eq!(scene.rest(132), Some((RestReason::Errors, 60)), "no longer than the longest");
    scene.health().answered("m", 0, 133 * SECOND);
    assert_eq!(scene.rest(133), Some((RestReason::Errors, 59)), "a call from before does not end it");
    scene.health().answered("m", 0, 192 * SECOND);
    assert_eq!(scene.rest(192), None);
    assert!(scene.all.is_quiet());
    scene.fail(Code::UpstreamError, 193);
    assert_eq!(scene.rest(193), None, "it counts from the beginning again");
}

/// H2: a 429 says itself how long; another model of the channel goes on.
#[test]
fn h2_a_rate_limited_model_rests_as_long_as_the_upstream_says() {
    let scene = Scene::new(serde_json::json!({}));
    let asked = Fault { retry_after: Some(Duration::from_secs(17)), ..fault(Code::UpstreamRateLimited, 0) };
    scene.health().failed(&scene.channel, &asked, 0);
    assert_eq!(scene.rest(0), Some((RestReason::RateLimited, 17)));
    assert_eq!(scene.health().rest(&scene.channel, "other", 0), None);
    let absurd = Fault { retry_after: Some(Duration::from_secs(86_400)), ..asked };
    scene.health().failed(&scene.channel, &absurd, 0);
    assert_eq!(
        scene.rest(0),
        Some((RestReason::RateLimited, 3_600)),
        "no upstream can ask for more than an hour"
    );
}

/// H2: one that takes no more requests for a second is asked again in a second; one that says so each time rests longer, up
/// to what the settings have.
#[test]
fn h2_an_upstream_that_asks_for_a_second_rests_for_a_second_at_first() {
    let scene = Scene::new(serde_json::json!({}));
    let soon = Fault { retry_after: Some(Duration::from_millis(200)), ..fault(Code::UpstreamRateLimited, 0) };
    let mut at = 0;
    for rest_s in [1, 2, 4, 8, 10, 10] {
        scene.health().failed(&scene.channel, &soon, at * SECOND);
        assert_eq!(scene.rest(at), Some((RestReason::RateLimited, rest_s)));
        at += rest_s;
        assert_eq!(scene.rest(at), None, "it is over");
    }
    scene.health().answered("m", 0, at * SECOND);
    scene.health().failed(&scene.channel, &soon, at * SECOND);
    assert_eq!(scene.rest(at), Some((RestReason::RateLimited, 1)), "a success makes everything good");
}

/// H2: a credential that has reached its limit for a model is left out for that model; the others go on, and when all have,
/// the first that may be used again ends the rest.
#[test]
fn h2_a_limit_is_of_the_credential_that_has_reached_it() {
    let scene = Scene::new(serde_json::json!({"credentials": ["a", "b"]}));
    let limited = |credential, asked_s| {
        let retry_after = Some(Duration::from_secs(asked_s));
        let fault = Fault { retry_after, ..fault(Code::UpstreamRateLimited, credential) };
        assert_eq!(scene.health().failed(&scene.channel, &fault, 0), None, "nobody has to see to it");
    };
    let used = |model, at: u64| scene.health().credential(model, 2, at * SECOND, |_| true);
    limited(0, 30);
    assert_eq!(scene.rest(0), None);
    assert_eq!([used("m", 0), used("m", 0)], [Some(1), Some(1)]);
    assert_ne!(used("other", 0), used("other", 0), "of another model they take turns");
    limited(1, 20);
    assert_eq!((scene.rest(0), used("m", 0)), (Some((RestReason::RateLimited, 20)), None));
    assert_eq!(scene.health().rest(&scene.channel, "other", 0), None);
    let seen: Vec<_> = scene.health().view(0).troubles.into_iter().map(|known| known.credential).collect();
    assert_eq!(seen, [Some(1), Some(2)]);
    assert_eq!((scene.rest(20), used("m", 20)), (None, Some(1)));
    scene.health().answered("m", 0, 20 * SECOND);
    assert_eq!(used("m", 20), Some(1), "a call from before does not end it");
    scene.health().answered("m", 1, 20 * SECOND);
    scene.health().answered("m", 0, 31 * SECOND);
    assert!(scene.all.is_quiet());
}

/// H2: what an upstream asks for makes a rest longer, never shorter than the least.
#[test]
fn h2_no_upstream_shortens_a_rest() {
    let soon = Some(Duration::from_secs(1));
    let never = Some(Duration::ZERO);
    let cases = [
        (Code::UpstreamRateLimited, never, 1),
        (Code::UpstreamRateLimited, soon, 1),
        (Code::UpstreamRateLimited, None, 10),
        (Code::UpstreamOutOfCredit, soon, 60),
        (Code::UpstreamAuthFailed, soon, 60),
        (Code::UpstreamModelMissing, never, 60),
        (Code::UpstreamOutOfCredit, Some(Duration::from_secs(90)), 90),
        (Code::UpstreamAuthFailed, Some(Duration::MAX), 3_600),
    ];
    for (code, retry_after, rest_s) in cases {
        let scene = Scene::new(serde_json::json!({}));
        scene.health().failed(&scene.channel, &Fault { retry_after, ..fault(code, 0) }, 0);
        assert_eq!(scene.rest(0).map(|(_, left)| left), Some(rest_s), "{code:?} {retry_after:?}");
    }
    let scene = Scene::new(serde_json::json!({}));
    let error = Fault { retry_after: never, ..fault(Code::UpstreamError, 0) };
    for _ in 0..3 {
        scene.health().failed(&scene.channel, &error, 0);
    }
    assert_eq!(scene.rest(0), Some((RestReason::Errors, 10)));
    scene.health().failed(&scene.channel, &error, 10 * SECOND);
    assert_eq!(scene.rest(10), Some((RestReason::Errors, 20)), "it grows as well");
}

/// H2: a call that was under way with an old credential, or to an old address, says nothing of the new one.
#[test]
fn h2_a_late_failure_is_of_the_credential_that_the_call_had() {
    let scene = Scene::new(serde_json::json!({"credentials": ["old"]}));
    scene.health();
    let changes = [
        serde_json::json!({"credentials": ["new"]}),
        serde_json::json!({"credentials": ["old"], "base_url": "http://127.0.0.1:2/v1"}),
        serde_json::json!({"credentials": ["old"], "proxy": "http://127.0.0.1:3"}),
    ];
    for change in changes {
        let changed = channel(change);
        let health = scene.all.of(&changed);
        for late in [Code::UpstreamAuthFailed, Code::UpstreamRateLimited] {
            assert_eq!(health.failed(&scene.channel, &fault(late, 0), SECOND), None);
        }
        assert_eq!(health.rest(&changed, "m", SECOND), None);
        assert_eq!(health.view(SECOND).last_failure, None);
    }
}

/// S31: an account without credit is told once, whatever comes; its channel goes on with the other credential.
#[test]
fn s31_a_credential_without_credit_is_told_once_and_left_out() {
    let scene = Scene::new(serde_json::json!({"credentials": ["a", "b"]}));
    let told = scene.fail(Code::UpstreamOutOfCredit, 0).unwrap();
    assert_eq!((told.reason, told.credential, told.rest_ns), (RestReason::OutOfCredit, 1, 60 * SECOND));
    assert_eq!(scene.fail(Code::UpstreamOutOfCredit, 1), None);
    assert_eq!(scene.rest(1), None, "the other credential works");
    let used: Vec<_> = (0..4).map(|_| scene.health().credential("m", 2, SECOND, |_| true)).collect();
    assert_eq!(used, [Some(1); 4]);
    scene.health().failed(&scene.channel, &fault(Code::UpstreamAuthFailed, 1), 5 * SECOND).unwrap();
    assert_eq!(scene.rest(5), Some((RestReason::OutOfCredit, 56)), "until the first of them ends its rest");
    assert_eq!(scene.health().credential("m", 2, 5 * SECOND, |_| true), None);
    // Who puts a new credential in need not wait.
    let changed = channel(serde_json::json!({"credentials": ["c"]}));
    assert_eq!(scene.all.of(&changed).rest(&changed, "m", 6 * SECOND), None);
    assert!(scene.all.is_quiet());
}

#[test]
fn credentials_take_turns() {
    let scene = Scene::new(serde_json::json!({"credentials": ["a", "b", "c"]}));
    let used: Vec<_> = (0..6).filter_map(|_| scene.health().credential("m", 3, 0, |_| true)).collect();
    assert_eq!(used, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn a_channel_that_is_not_to_cool_down_is_used_whatever_happens() {
    let scene = Scene::new(serde_json::json!({"cools_down": false}));
    let told = (0..9).filter_map(|at| scene.fail(Code::UpstreamError, at)).count();
    assert_eq!(told, 0);
    assert!(scene.fail(Code::UpstreamOutOfCredit, 9).is_some(), "an operator is told all the same");
    assert_eq!(scene.rest(9), None);
}

#[test]
fn a_channel_has_no_more_calls_than_it_may_have() {
    let scene = Scene::new(serde_json::json!({"concurrency": 2, "requests_per_minute": 4}));
    let begin = |at: u64| scene.health().begin(&scene.channel, "m", at * SECOND);
    let (one, two) = (begin(0).unwrap(), begin(0).unwrap());
    assert_eq!(begin(0).err().map(|rest| rest.reason), Some(RestReason::Busy));
    drop(one);
    let three = begin(0).unwrap();
    drop((two, three));
    drop(begin(0).unwrap());
    let full = begin(0).err().unwrap();
    assert_eq!((full.reason, full.left_ns), (RestReason::RateReached, 15 * SECOND));
    assert!(begin(15).is_ok());
}

#[test]
fn a_fault_of_the_request_says_nothing_of_the_channel() {
    let scene = Scene::new(serde_json::json!({}));
    let told = (0..9).filter_map(|at| scene.fail(Code::UpstreamRejected, at)).count();
    assert_eq!(told, 0);
    assert_eq!(scene.rest(9), None);
    assert_eq!(scene.health().view(0).failed, 0);
}
