//! What the routes of keys take and tell, field by field.

use super::super::shape::{COUNT, Field, Kind, Need, Shape, field};
use super::super::{limits, own};

const ENVIRONMENT: Kind = Kind::OneOf(&["live", "test"]);
const STATUS: Kind = Kind::OneOf(&["enabled", "disabled", "pending_review", "risk_frozen", "revoked"]);
const REASON: Kind = Kind::OneOf(&[
    "high_frequency",
    "cross_region",
    "leaked_key",
    "repeated_refusals",
    "appeal_approved",
    "operator",
    "owner",
]);

static ALLOWANCE: Shape = Shape {
    name: "Allowance",
    fields: &[
        field!(
            "endpoints",
            Kind::List(&Kind::Text),
            Optional,
            "Paths behind /v1/: chat/completions; empty: all"
        ),
        field!(
            "models",
            Kind::List(&Kind::Text),
            Optional,
            "Names, or beginnings of names with * behind; empty: all"
        ),
    ],
};
const ALLOWED: Kind = Kind::List(&Kind::Object(&ALLOWANCE));

static NOTICE: Shape = Shape {
    name: "KeyNotice",
    fields: &[
        field!("code", Kind::OneOf(&["limit_zero", "limit_low"]), Required, "Stable name of the notice"),
        field!("field", Kind::Text, Required, "What it is about"),
        field!("message", Kind::Text, Required, "In words"),
    ],
};

static PREVIOUS_TEXT: Shape = Shape {
    name: "PreviousText",
    fields: &[
        field!("masked", Kind::Text, Required, "Enough to recognise one's own key"),
        field!("until", Kind::Time, Required, "From then on it is refused as revoked"),
    ],
};
const PREVIOUS: Kind = Kind::List(&Kind::Object(&PREVIOUS_TEXT));

macro_rules! key_fields {
    ($($more:expr),*) => {
        &[
            field!("id", Kind::Text, Required, "Public id, key_…: names the key without being it"),
            field!("account", Kind::Text, Required, "Id of the account that pays"),
            field!("name", Kind::Text, Required, "What people call it"),
            field!("environment", ENVIRONMENT, Required, "A test key posts to test books"),
            field!("masked", Kind::Text, Required, "Enough to recognise one's own key"),
            field!("previous", PREVIOUS, Required, "Texts before the last rotations, newest first"),
            field!("status", STATUS, Required, "As it was set; a revoked key stays revoked"),
            field!("status_note", Kind::Any, Nullable, "Who set the status, why, since when, until when"),
            field!("expires_at", Kind::Time, Nullable, "From then on it is refused as expired"),
            field!("schedule", Kind::Any, Nullable, "When it may be used"),
            field!("ip_ranges", IP_RANGES, Required, "Where it may be used from; empty: anywhere"),
            field!("group", Kind::Text, Nullable, "Id of its group"),
            field!("project", Kind::Text, Nullable, "Id of its project"),
            field!("member", Kind::Text, Nullable, "Id of the member or service account whose key it is"),
            field!("limits", limits::USES, Required, "Every limit with its use"),
            field!("tasks", Kind::Object(&limits::TASK_TERMS), Nullable, "For image and video tasks alone"),
            field!("usable_now", Kind::Money, Nullable, "The least over all layers; null where it would tell more"),
            field!("bound_by", Kind::Object(&own::BOUND_BY), Required, "The purse that binds"),
            field!("rates", limits::RATES, Required, "How fast it may be used, as it was set"),
            field!("policies", Kind::List(&Kind::Text), Required, "Ids of its policies"),
            field!("allowed", ALLOWED, Required, "Models at endpoints that it may use; empty: all of its group"),
            field!("created_at", Kind::Time, Required, "When it was made"),
            field!("version", COUNT, Required, "Name it in a change to be told of a conflict"),
            $($more),*
        ]
    };
}

const IP_RANGES: Kind = Kind::List(&Kind::Text);

pub static KEY: Shape = Shape { name: "Key", fields: key_fields!() };

pub(super) static CREATED_KEY: Shape = Shape {
    name: "CreatedKey",
    fields: key_fields!(
        field!("key", Kind::Secret, Required, "The key itself: shown this once"),
        field!(
            "notices",
            Kind::List(&Kind::Object(&NOTICE)),
            Required,
            "Limits under which no call can pass"
        )
    ),
};

pub(super) static KEY_INPUT: Shape = Shape {
    name: "KeyInput",
    fields: &[
        field!("account", Kind::Text, Optional, "Id of the account that pays; members: their own"),
        field!("name", Kind::Text, Required, "What people call it"),
        field!("environment", ENVIRONMENT, Optional, "Default: live"),
        field!("group", Kind::Text, OptionalNullable, "Id of its group"),
        field!(
            "project",
            Kind::Text,
            OptionalNullable,
            "Id of its project; default: the account's own default"
        ),
        field!("member", Kind::Text, OptionalNullable, "Id of the member or service account whose key it is"),
        field!("limits", limits::INPUT, Optional, "Spend and daily calls, over all models or of one"),
        field!("rates", limits::RATES, Optional, "How fast it may be used"),
        field!(
            "tasks",
            Kind::Object(&limits::TASK_TERMS),
            OptionalNullable,
            "For image and video tasks alone; null: nothing"
        ),
        field!("allowed", ALLOWED, Optional, "Models at endpoints that it may use; empty: all of its group"),
        field!("policies", Kind::List(&Kind::Text), Optional, "Ids of its policies; replaces all"),
        field!("expires_at", Kind::Time, OptionalNullable, "From then on it is refused as expired"),
        field!("schedule", Kind::Object(&limits::SCHEDULE), OptionalNullable, "When it may be used"),
        field!("ip_ranges", IP_RANGES, Optional, "CIDR ranges that it may be used from; empty: anywhere"),
        field!("import", Kind::Secret, Optional, "Text of a key from elsewhere that is to work here as well"),
    ],
};

pub(super) static KEY_CHANGE: Shape = Shape {
    name: "KeyChange",
    fields: &[
        field!("name", Kind::Text, Required, "What people call it"),
        field!("group", Kind::Text, OptionalNullable, "Id of its group"),
        field!("project", Kind::Text, OptionalNullable, "Id of its project"),
        field!("member", Kind::Text, OptionalNullable, "Id of the member or service account whose key it is"),
        field!("limits", limits::INPUT, Optional, "Replaces all limits"),
        field!("rates", limits::RATES, Optional, "Replaces all rates"),
        field!(
            "tasks",
            Kind::Object(&limits::TASK_TERMS),
            OptionalNullable,
            "For image and video tasks alone; null: nothing"
        ),
        field!("allowed", ALLOWED, Optional, "Replaces the whole list"),
        field!("policies", Kind::List(&Kind::Text), Optional, "Ids of its policies; replaces all"),
        field!("expires_at", Kind::Time, OptionalNullable, "From then on it is refused as expired"),
        field!("schedule", Kind::Object(&limits::SCHEDULE), OptionalNullable, "When it may be used"),
        field!("ip_ranges", IP_RANGES, Optional, "Replaces all of them"),
        field!("status", STATUS, Optional, "`revoked` is for ever"),
        field!("status_reason", REASON, Optional, "With a status: why; default: operator"),
        field!("status_text", Kind::Text, OptionalNullable, "With a status: why, for people"),
        field!("status_until", Kind::Time, OptionalNullable, "With a status: it ends by itself then"),
        field!("version", COUNT, Optional, "The version that was seen"),
    ],
};

pub(super) static LEAKED_INPUT: Shape = Shape {
    name: "LeakReport",
    fields: &[
        field!("keys", Kind::List(&Kind::Secret), Required, "Texts, at most 100; they are not kept"),
        field!("source", Kind::Text, Required, "Where they were found, for the evidence"),
    ],
};

static LEAKED_KEY: Shape = Shape {
    name: "LeakedKey",
    fields: &[
        field!("masked", Kind::Text, Required, "Enough to recognise the text"),
        field!("key", Kind::Text, Nullable, "Id of the key; null: it is none of ours"),
        field!("frozen", Kind::Bool, Required, "False: it was not enabled, or is none of ours"),
    ],
};
pub(super) static LEAKED: Shape = Shape {
    name: "LeakedKeys",
    fields: &[field!("data", Kind::List(&Kind::Object(&LEAKED_KEY)), Required, "In the order of the texts")],
};
pub(super) const LEAKED_MAX: usize = 100;

pub(super) static ROTATE_INPUT: Shape = Shape {
    name: "KeyRotation",
    fields: &[
        field!("overlap_seconds", OVERLAP, Optional, "How long the present text works on; default: a day"),
        field!(
            "end_older",
            Kind::Bool,
            Optional,
            "Texts of earlier rotations end now; default: they end as promised"
        ),
        field!("version", COUNT, Optional, "The version that was seen"),
    ],
};
pub(super) const DAY_S: u32 = 86_400;
const OVERLAP: Kind = Kind::Integer { min: 0, max: 30 * DAY_S as i64 };

pub(super) static SIMULATE_INPUT: Shape = Shape {
    name: "KeySimulation",
    fields: &[
        field!(
            "endpoint",
            Kind::Text,
            Optional,
            "Path behind /v1/ that is called; default: chat/completions"
        ),
        field!("model", Kind::Text, Required, "As a caller would name it"),
        field!("text", Kind::Text, Optional, "What would be asked; its length counts. Default: Hello"),
        field!(
            "max_tokens",
            Kind::Integer { min: 1, max: u32::MAX as i64 },
            Optional,
            "As a caller would cap it"
        ),
        field!(
            "seconds",
            Kind::Integer { min: 1, max: 3_600 },
            Optional,
            "How long a video would be; default: as of a call that does not say it"
        ),
        field!(
            "size",
            Kind::Text,
            Optional,
            "Of a video or a picture, such as 1280x720; default: as of a call that does not say it"
        ),
        field!("quality", Kind::Text, Optional, "Of a picture"),
        field!("address", Kind::Text, Optional, "Where the call would come from"),
    ],
};
