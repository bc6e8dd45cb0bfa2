//! What the routes of channels take and tell, field by field.

use super::super::prices::PER_MILLION;
use super::super::shape::{COUNT, Field, Kind, Need, Shape, field};

pub(super) const PROVIDERS: Kind = Kind::OneOf(&["openai", "deepseek", "anthropic", "gemini"]);
pub(super) const STATUS: Kind = Kind::OneOf(&["enabled", "disabled"]);
pub(super) const ENVIRONMENT: Kind = Kind::OneOf(&["live", "test"]);
pub(super) const CAP_FIELDS: Kind = Kind::OneOf(&["max_completion_tokens", "max_tokens"]);
pub(super) const LIMIT: Kind = Kind::Integer { min: 1, max: 1_000_000 };
pub(super) const WEIGHT: Kind = Kind::Integer { min: 0, max: 1_000_000 };
pub(super) const KEPT: Kind = Kind::Integer { min: 1, max: 31_536_000 };
pub(super) const TASK_STATE: Kind = Kind::OneOf(&["queued", "running", "succeeded", "failed", "cancelled"]);
pub(super) const PRIORITY: Kind = Kind::Integer { min: -1_000_000, max: 1_000_000 };

pub(super) static COST_PRICE: Shape = Shape {
    name: "CostPrice",
    fields: &[
        field!(
            "per_million",
            Kind::Object(&PER_MILLION),
            Required,
            "What a million tokens of each class cost the platform"
        ),
        field!("per_call", Kind::Money, Optional, "Added once per call; default: 0"),
    ],
};

pub(super) const CREDIT_SOURCES: Kind =
    Kind::OneOf(&["deepseek_balance", "openrouter_credits", "billing_subscription", "json"]);

pub(super) static CREDIT: Shape = Shape {
    name: "ChannelCreditCheck",
    fields: &[
        field!("source", CREDIT_SOURCES, Required, "How the upstream tells what is left of the credit there"),
        field!("path", Kind::Text, Optional, "Of json: the path behind the host that is asked by GET"),
        field!("pointer", Kind::Text, Optional, "Of json: where the amount stands in the answer (RFC 6901)"),
        field!(
            "alert_below",
            Kind::Money,
            Required,
            "Operators are told below it; in the upstream's currency"
        ),
    ],
};

pub(super) static CREDIT_SEEN: Shape = Shape {
    name: "ChannelCredit",
    fields: &[
        field!("credential", COUNT, Required, "Number of the provider's key"),
        field!("remaining", Kind::Money, Nullable, "In the upstream's currency; null: never learnt"),
        field!("is_low", Kind::Bool, Required, "Below the channel's threshold"),
        field!("read_at", Kind::Time, Nullable, "When the upstream said so"),
        field!("fault", Kind::Text, Nullable, "Why the last question brought nothing"),
    ],
};

pub(super) static CHANNEL: Shape = Shape {
    name: "Channel",
    fields: &[
        field!("id", Kind::Text, Required, "Public id, chn_…"),
        field!("name", Kind::Text, Required, "What people call it; unique"),
        field!("provider", PROVIDERS, Required, "Whose wire format it speaks"),
        field!("base_url", Kind::Text, Required, "Up to and including the version segment"),
        field!(
            "models",
            Kind::Map(&Kind::Text),
            Required,
            "Model as callers name it → as this upstream names it"
        ),
        field!(
            "groups",
            Kind::List(&Kind::Text),
            Required,
            "Ids of groups that may use it; empty: every group"
        ),
        field!("environments", Kind::List(&ENVIRONMENT), Required, "Keys that may use it"),
        field!("priority", PRIORITY, Required, "Higher is tried first"),
        field!("weight", WEIGHT, Required, "Its share of the calls among channels of the same priority"),
        field!("status", STATUS, Required, "A disabled channel gets no new calls"),
        field!("output_cap_field", CAP_FIELDS, Required, "Field through which it takes its output cap"),
        field!("provider_keys", COUNT, Required, "How many of the provider's keys it has"),
        field!("cools_down", Kind::Bool, Required, "Whether it rests after failures"),
        field!("proxy", Kind::Text, Nullable, "HTTP proxy through which it is reached; null: none"),
        field!("concurrency", COUNT, Nullable, "Calls at a time of one process; null: no limit"),
        field!("requests_per_minute", COUNT, Nullable, "Calls in a minute of one process; null: no limit"),
        field!(
            "cost_share",
            Kind::Multiplier,
            Nullable,
            "What it bills, as a share of the models' prices; null: not known"
        ),
        field!(
            "cost_prices",
            Kind::Map(&Kind::Object(&COST_PRICE)),
            Required,
            "What it bills for single models"
        ),
        field!("credit", Kind::Object(&CREDIT), Nullable, "How its credit is watched; null: it is not"),
        field!(
            "task_api",
            Kind::Object(&TASK_API),
            Nullable,
            "How it speaks of tasks; null: as OpenAI's APIs do"
        ),
        field!("created_at", Kind::Time, Required, "When it was made"),
        field!("version", COUNT, Required, "Name it in a change to be told of a conflict"),
    ],
};

pub(super) const METHOD: Kind = Kind::OneOf(&["GET", "POST", "PUT", "DELETE"]);

pub(super) static ASKED: Shape = Shape {
    name: "TaskQuestion",
    fields: &[
        field!("method", METHOD, Optional, "Default: POST; of a poll without a body GET"),
        field!("path", Kind::Text, Required, "Below base_url; {id}: the upstream's name of the task"),
        field!("headers", Kind::Map(&Kind::Text), Optional, "Beside those of every question"),
        field!("body", Kind::Any, Optional, "A template: an object of JSON"),
    ],
};

pub(super) static MAPPING: Shape = Shape {
    name: "TaskMapping",
    fields: &[
        field!("submit", Kind::Object(&ASKED), Required, "How a task is submitted"),
        field!(
            "id",
            Kind::Text,
            Required,
            "Place of the upstream's name of it: a JSON pointer, as those below"
        ),
        field!("poll", Kind::Object(&ASKED), Required, "How it is asked about"),
        field!("cancel", Kind::Object(&ASKED), Optional, "How it is cancelled; default: it cannot be"),
        field!("state", Kind::Text, Required, "Place of where it stands"),
        field!("states", Kind::Map(&TASK_STATE), Required, "The upstream's words for that"),
        field!("progress", Kind::Text, Optional, "Place of the percent that are done"),
        field!(
            "results",
            Kind::List(&Kind::Text),
            Required,
            "Places of the addresses of what was made; * stands for every element of a list"
        ),
        field!("expires_at", Kind::Text, Optional, "Place of when they are no longer there"),
        field!("kept_seconds", KEPT, Optional, "For how long they are, where nothing tells; default: 3600"),
        field!("failure_code", Kind::Text, Optional, "Place of a word for why it failed"),
        field!("failure_message", Kind::Text, Optional, "Place of the reason in words"),
        field!("used", Kind::Text, Optional, "Place of how many seconds, or pictures, were made"),
        field!("cost", Kind::Text, Optional, "Place of what the upstream bills, in the ledger currency"),
    ],
};

pub(super) static TASK_API: Shape = Shape {
    name: "TaskApi",
    fields: &[
        field!("credential_header", Kind::Text, Optional, "Where the key goes; default: authorization"),
        field!(
            "credential_prefix",
            Kind::Text,
            Optional,
            "What stands before it; default: Bearer in authorization, else nothing"
        ),
        field!("video", Kind::Object(&MAPPING), Optional, "How it makes videos; default: as OpenAI does"),
        field!("image", Kind::Object(&MAPPING), Optional, "How it makes pictures; default: as OpenAI does"),
    ],
};

pub(super) static HEALTH: Shape = Shape {
    name: "ChannelHealth",
    fields: &[field!("data", Kind::List(&Kind::Object(&CHANNEL_HEALTH)), Required, "Every channel, by name")],
};

pub(super) static CHANNEL_HEALTH: Shape = Shape {
    name: "ChannelHealthRow",
    fields: &[
        field!("channel", Kind::Text, Required, "Its id"),
        field!("name", Kind::Text, Required, "Its name"),
        field!(
            "state",
            Kind::OneOf(&["healthy", "failing", "cooling_down", "disabled"]),
            Required,
            "failing: some calls fail, none of its models or credentials rests"
        ),
        field!("running", COUNT, Required, "Calls that have a place of it; counted where it has a limit"),
        field!("answered", COUNT, Required, "Calls since the process started"),
        field!("failed", COUNT, Required, "Failed attempts since the process started"),
        field!("last_failure_at", Kind::Time, Nullable, "When the last attempt failed"),
        field!("last_failure", Kind::Text, Nullable, "Its code"),
        field!(
            "troubles",
            Kind::List(&Kind::Any),
            Required,
            "model, credential (its number) or both, failures in a row, reason and until if it rests"
        ),
        field!(
            "credit",
            Kind::List(&Kind::Object(&CREDIT_SEEN)),
            Required,
            "What is left of the platform's credit there, where the upstream tells it"
        ),
    ],
};

pub(super) static TEST: Shape = Shape {
    name: "ChannelTest",
    fields: &[
        field!(
            "model",
            Kind::Text,
            Optional,
            "One that the channel serves, as callers name it; default: the first"
        ),
        field!("credential", LIMIT, Optional, "Number of the provider's key to use; default: 1"),
    ],
};

pub(super) static TESTED: Shape = Shape {
    name: "ChannelTested",
    fields: &[
        field!("channel", Kind::Text, Required, "Its id"),
        field!("model", Kind::Text, Required, "As callers name it"),
        field!("credential", COUNT, Required, "Number of the provider's key that was used"),
        field!("works", Kind::Bool, Required, "Whether a good answer came"),
        field!("status", COUNT, Nullable, "What the upstream answered; null: nothing came"),
        field!("latency_ms", COUNT, Required, "Until the answer was there"),
        field!("code", Kind::Text, Nullable, "What is wrong, as callers would be told"),
        field!(
            "text",
            Kind::Text,
            Nullable,
            "The upstream's own words, or what happened on the way; of a model whose calls are tasks, what was tested"
        ),
        field!("upstream_request_id", Kind::Text, Nullable, "The upstream's own id of the call"),
    ],
};

pub static CHANNEL_INPUT: Shape = Shape {
    name: "ChannelInput",
    fields: &[
        field!("name", Kind::Text, Required, "What people call it; unique"),
        field!("provider", PROVIDERS, Optional, "Whose wire format it speaks; default: openai"),
        field!(
            "base_url",
            Kind::Text,
            Required,
            "Up to and including the version segment, without a slash at the end"
        ),
        field!("credential", Kind::Secret, Optional, "The provider's key; sealed and never shown again"),
        field!(
            "credentials",
            Kind::List(&Kind::Secret),
            Optional,
            "Several keys of the provider, in the place of one: calls take turns with those that work"
        ),
        field!(
            "models",
            Kind::Map(&Kind::Text),
            Required,
            "Model as callers name it → as this upstream names it"
        ),
        field!(
            "groups",
            Kind::List(&Kind::Text),
            Optional,
            "Ids of groups that may use it; empty: every group"
        ),
        field!("environments", Kind::List(&ENVIRONMENT), Optional, "Keys that may use it; default: live"),
        field!("priority", PRIORITY, Optional, "Higher is tried first; default: 0"),
        field!(
            "weight",
            WEIGHT,
            Optional,
            "Its share of the calls among channels of the same priority; 0: only where no other of them can; default: 1"
        ),
        field!("status", STATUS, Optional, "Default: enabled"),
        field!("output_cap_field", CAP_FIELDS, Optional, "Default: max_completion_tokens"),
        field!(
            "cools_down",
            Kind::Bool,
            Optional,
            "Whether it rests after failures; one that does not is tried whatever happened; default: true"
        ),
        field!(
            "proxy",
            Kind::Text,
            OptionalNullable,
            "HTTP proxy (CONNECT) through which it is reached: http://host:port; null: none"
        ),
        field!("concurrency", LIMIT, OptionalNullable, "Calls at a time of one process; null: no limit"),
        field!(
            "requests_per_minute",
            LIMIT,
            OptionalNullable,
            "Calls in a minute of one process; null: no limit"
        ),
        field!(
            "cost_share",
            Kind::Multiplier,
            OptionalNullable,
            "What it bills, as a share of the models' prices (before any group's multiplier); null: not known"
        ),
        field!(
            "cost_prices",
            Kind::Map(&Kind::Object(&COST_PRICE)),
            Optional,
            "What it bills for single models, where that is no share of their price; replaces all"
        ),
        field!(
            "credit",
            Kind::Object(&CREDIT),
            OptionalNullable,
            "How the upstream tells what is left of the platform's credit there, and when that is too little; null: it is \
             not asked"
        ),
        field!(
            "task_api",
            Kind::Object(&TASK_API),
            OptionalNullable,
            "How it speaks of tasks, where that is in no known way; null: as OpenAI's APIs do"
        ),
        field!("version", COUNT, Optional, "In a change: the version that was seen"),
    ],
};
