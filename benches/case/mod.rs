//! Two calls that pass every rung, for measurements: a plain one, and one that everything is looked at for.

use std::sync::Arc;

use ledger::Nano;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tallygate::books::Rated;
use tallygate::clock::{Clock, SystemClock};
use tallygate::directory::{Change, Object, Snapshot};
use tallygate::gateway::facts::{
    CallBody, Checked, Client, CounterReading, Credential, Endpoint, Facts, RateReading, Readings, Repetition,
};
use tallygate::gateway::ladder::{Caller, HoldPolicy, OfCall, Scope};
use tallygate::id::{
    AccountId, ChannelId, GroupId, KeyId, MemberId, ModelId, OrganizationId, PolicyId, PriceId, ProjectId,
    RequestId,
};

pub const POLICY: HoldPolicy =
    HoldPolicy { output_share_ppm: 250_000, output_tokens_floor: 1_000, output_tokens_min: 16 };
pub const ACCOUNT: AccountId = AccountId::from_raw(1);
const KEY: KeyId = KeyId::from_raw(2);
const MODEL: ModelId = ModelId::from_raw(3);
const MEMBER: MemberId = MemberId::from_raw(6);
const PROJECT: ProjectId = ProjectId::from_raw(7);
const GROUP: GroupId = GroupId::from_raw(8);
const ORGANIZATION: OrganizationId = OrganizationId::from_raw(9);
const STATEMENTS: PolicyId = PolicyId::from_raw(10);
const CREATED: &str = "2026-01-01T00:00:00Z";

fn document<T: DeserializeOwned>(value: Value) -> Arc<T> {
    Arc::new(serde_json::from_value(value).expect("a valid document"))
}

fn limit(metric: &str, window: &str, value: &str) -> Value {
    json!({"metric": metric, "window": window, "value": value, "origin": "owner"})
}

fn snapshot(objects: impl IntoIterator<Item = Object>) -> Snapshot {
    let mut snapshot = Snapshot::default();
    snapshot.apply(objects.into_iter().map(|object| Change { version: 1, object }));
    snapshot
}

/// One priced model and the channel that serves it.
fn served() -> [Object; 3] {
    [
        Object::Model(document(json!({
            "id": MODEL, "name": "bench", "output_tokens_max": 4096, "owned_by": "bench", "created_at": CREATED
        }))),
        Object::Price(document(json!({
            "id": PriceId::from_raw(4), "model": MODEL, "version": 1, "effective_at": CREATED,
            "created_at": CREATED, "per_million": {"input": "1.25", "output": "10"}
        }))),
        Object::Channel(document(json!({
            "id": ChannelId::from_raw(5), "name": "bench", "provider": "openai",
            "base_url": "http://127.0.0.1:1/v1", "credential": "", "models": {"bench": "bench"},
            "environments": ["live"], "created_at": CREATED
        }))),
    ]
}

/// One account with a key that has two limits.
pub fn plain() -> Snapshot {
    snapshot(served().into_iter().chain([
        Object::Account(document(json!({
            "id": ACCOUNT, "name": "bench", "time_zone": "Asia/Shanghai", "created_at": CREATED
        }))),
        Object::Key(document(json!({
            "id": KEY, "account": ACCOUNT, "name": "bench", "environment": "live", "hash": "00".repeat(32),
            "masked": "tg-live-…", "created_at": CREATED,
            "limits": [limit("spend", "day", "900000"), limit("spend", "month", "9000000")]
        }))),
    ]))
}

/// Eight limits in force over the purses of the call – three of the key, one of it for the model, one each of member,
/// project, group and organization –, three rates, addresses, a list of models, and a policy of 20 statements.
pub fn full() -> Snapshot {
    let mut of_model = limit("spend", "day", "900000");
    of_model["model"] = "bench".into();
    let rate = |metric: &str| json!({"metric": metric, "value": 1_000_000_000_000_u64, "origin": "owner"});
    snapshot(served().into_iter().chain([
        Object::Organization(document(json!({
            "id": ORGANIZATION, "name": "bench", "time_zone": "Europe/Berlin", "created_at": CREATED,
            "limits": [limit("spend", "month", "9000000")]
        }))),
        Object::Account(document(json!({
            "id": ACCOUNT, "name": "bench", "kind": "enterprise", "time_zone": "Asia/Shanghai",
            "organization": ORGANIZATION, "policies": [{"policy": STATEMENTS}], "created_at": CREATED
        }))),
        Object::Member(document(json!({
            "id": MEMBER, "account": ACCOUNT, "name": "bench", "role": "developer", "created_at": CREATED,
            "limits": [limit("spend", "month", "9000000")]
        }))),
        Object::Project(document(json!({
            "id": PROJECT, "account": ACCOUNT, "name": "bench", "created_at": CREATED,
            "limits": [limit("spend", "total", "90000000")]
        }))),
        Object::Group(document(json!({
            "id": GROUP, "name": "bench", "multiplier": "1.2", "models": ["other-*", "bench"],
            "limits": [limit("spend", "day", "900000")], "created_at": CREATED
        }))),
        Object::Policy(document(json!({
            "id": STATEMENTS, "account": ACCOUNT, "name": "bench", "created_at": CREATED, "document": statements()
        }))),
        Object::Key(document(json!({
            "id": KEY, "account": ACCOUNT, "name": "bench", "environment": "live", "hash": "00".repeat(32),
            "masked": "tg-live-…", "group": GROUP, "project": PROJECT, "member": MEMBER, "created_at": CREATED,
            "expires_at": "2999-01-01T00:00:00Z", "ip_ranges": ["10.0.0.0/8", "127.0.0.0/8"],
            "allowed": [{"endpoints": ["embeddings"]}, {"models": ["other-*", "bench"]}],
            "rates": [rate("requests_per_second"), rate("tokens_per_minute"), rate("concurrency")],
            "limits": [
                limit("spend", "day", "900000"), limit("spend", "month", "9000000"), limit("calls", "day", "900000000"),
                of_model
            ]
        }))),
    ]))
}

/// Only the last two of the statements allow the call; every other one comes close in its way.
fn statements() -> Value {
    let close = [
        ("Allow", "models:inference", "arn:tallygate:model:bench-*", Value::Null),
        ("Deny", "models:inference", "arn:tallygate:model:*-preview", Value::Null),
        ("Allow", "models:embed", "*", Value::Null),
        ("Deny", "*", "*", json!({"NotIpAddress": {"client:Address": ["127.0.0.0/8", "10.0.0.0/8"]}})),
        ("Allow", "tallygate:call", "arn:tallygate:api:*/images/*", Value::Null),
        ("Deny", "tallygate:call", "*", json!({"StringEquals": {"key:Environment": "test"}})),
    ];
    let allow = [
        ("Allow", "tallygate:call", "arn:tallygate:api:*/chat/*", Value::Null),
        ("Allow", "models:*", "arn:tallygate:model:ben*", Value::Null),
    ];
    let statement = |(effect, action, resource, condition): (&str, &str, &str, Value)| {
        let mut statement = json!({"Effect": effect, "Action": action, "Resource": resource});
        if !condition.is_null() {
            statement["Condition"] = condition;
        }
        statement
    };
    let close = close.into_iter().cycle().take(18);
    let statements: Vec<_> = close.chain(allow).map(statement).collect();
    json!({"Version": "2026-11-01", "Statement": statements})
}

pub fn facts(snapshot: &Snapshot, n: u64) -> Facts {
    let at_ms = SystemClock.now_ms();
    let key = snapshot.key(KEY).expect("the key");
    Facts {
        request: RequestId::from_raw((u128::from(at_ms.unsigned_abs()) << 80) | u128::from(n)),
        at_ms,
        config_version: 1,
        address: Checked::Passed(Endpoint::ChatCompletions),
        credential: Checked::Passed(Credential::of(key)),
        body: Checked::Passed(CallBody {
            model: "bench".into(),
            stream: false,
            body_bytes: 500,
            input_tokens_bound: 420,
            image_parts: 0,
            audio_parts: 0,
            output_cap: Some(256),
            choices: 1,
            units: None,
        }),
        client: Client {
            address: Some([127, 0, 0, 1].into()),
            sdk: "OpenAI/Python 2.8.0".into(),
            retry_count: 0,
            browser_origin: None,
            confirmed_cost: None,
        },
        repetition: Repetition::default(),
    }
}

pub fn scope(snapshot: &Snapshot, at_ms: i64) -> Scope<'_> {
    let caller = Caller::of_key(snapshot, KEY).expect("the key");
    let model = snapshot.model("bench").map(|entry| &*entry.model);
    Scope::new(snapshot, caller, OfCall { model, is_task: false }, at_ms)
}

/// Books in which the account has money and nothing of a limit is used.
pub fn readings(snapshot: &Snapshot, at_ms: i64) -> Readings {
    let scope = scope(snapshot, at_ms);
    let unused = |layer: &tallygate::gateway::ladder::Layer<'_>| CounterReading {
        counter: layer.counter,
        window: layer.window,
        used: 0,
        held: 0,
    };
    Readings {
        channels: Vec::new(),
        available: Nano(100_000_000_000),
        held: Nano(0),
        counters: scope.layers.iter().map(unused).collect(),
        rate: scope.rated.map(|Rated { limits, .. }| RateReading { limits, ..RateReading::default() }),
    }
}
