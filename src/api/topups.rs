//! `/api/topups/diagnose`: "where is my top-up?" (充值未入账, A2).
//!
//! What is given is only ever sent in a body: a code is worth money.

use serde_json::{Value, json};

use crate::directory::{Account, FieldError};
use crate::explain::topup::gather::{self, Asked, GatherError};
use crate::explain::topup::{self, Verdict};
use crate::funding::Redeemer;

use super::access::{self, Access};
use super::own;
use super::problem::Problem;
use super::route::{Call, Reply, Route, Who, both};
use super::shape::{Field, Kind, Need, Shape, field};

static IDENTITY: Shape = Shape {
    name: "TopUpIdentity",
    fields: &[
        field!(
            "who",
            Kind::OneOf(&["signed_in", "payer", "redeemer", "caller"]),
            Required,
            "登录账号, 支付账号, 兑换码账号 or API 调用账号"
        ),
        field!("account", Kind::Text, Nullable, "Never that of another account"),
        field!("same", Kind::Bool, Nullable, "Whether it is the account that is signed in; null: not known"),
        field!("source", SOURCE, Required, "Where that was read"),
    ],
};

const SOURCE: Kind =
    Kind::OneOf(&["console_session", "payment_order", "redemption_code", "request_log", "ledger_record"]);

static EVIDENCE: Shape = Shape {
    name: "TopUpEvidence",
    fields: &[
        field!("fact", Kind::Text, Required, "What is known"),
        field!("value", Kind::Text, Required, "How it is"),
        field!("source", SOURCE, Required, "Where that was read"),
    ],
};

static DIAGNOSIS: Shape = Shape {
    name: "TopUpDiagnosis",
    fields: &[
        field!("verdict", Kind::OneOf(&Verdict::NAMES), Required, "What became of the top-up"),
        field!("summary", Kind::Text, Required, "The same in one sentence"),
        field!("next", Kind::Text, Required, "What to do next"),
        field!(
            "identities",
            Kind::List(&Kind::Object(&IDENTITY)),
            Required,
            "Compared before any amount is looked at"
        ),
        field!("evidence", Kind::List(&Kind::Object(&EVIDENCE)), Required, "Each fact with its source"),
    ],
};

macro_rules! input_fields {
    ($($more:expr),* $(,)?) => {
        &[
            field!("order", Kind::Text, Optional, "Our number of an order, or the provider's"),
            field!("code", Kind::Secret, Optional, "A redemption code"),
            field!("key", Kind::Text, Optional, "Public id of the key that calls were made with, key_…"),
            field!("at", Kind::Time, Optional, "When a call was made"),
            $($more),*
        ]
    };
}

static INPUT: Shape = Shape {
    name: "TopUpQuestion",
    fields: input_fields!(field!(
        "account",
        Kind::Text,
        Optional,
        "For whom; operators have to name it, members have their own"
    )),
};
static OWN_INPUT: Shape = Shape { name: "OwnTopUpQuestion", fields: input_fields!() };

const ABOUT: &str = "Where a top-up is: one verdict with its evidence";

pub static ROUTES: &[Route] =
    &[Route::post("/api/topups/diagnose", "diagnoseTopUp", ABOUT, &INPUT, &DIAGNOSIS, diagnose)
        .reads()
        .access(Access::MONEY_READ)];

pub static OWN_ROUTES: [Route; 2] =
    both!(post, "/topups/diagnose", "ownTopUp", ABOUT, &OWN_INPUT, &DIAGNOSIS, own_diagnosis);

impl From<GatherError> for Problem {
    fn from(error: GatherError) -> Self {
        match error {
            GatherError::Funding(why) => why.into(),
            GatherError::Codes(why) => why.into(),
            GatherError::Store(why) => why.into(),
        }
    }
}

fn diagnose(call: &Call<'_>) -> Result<Reply, Problem> {
    let account = call.account_of_new()?;
    call.find::<Account>(account.raw())?;
    answer(call, Redeemer { account, actor: call.actor(), address: call.address })
}

fn own_diagnosis(call: &Call<'_>) -> Result<Reply, Problem> {
    let key = own::asking(call)?;
    if !own::shows_money(call, &key) {
        return Err(access::forbidden("to see what the account has"));
    }
    answer(call, Redeemer { account: key.account, actor: format!("key {}", key.id), address: call.address })
}

fn answer(call: &Call<'_>, who: Redeemer) -> Result<Reply, Problem> {
    let fields = call.fields();
    let text = |name| fields.text(name).map(|text| text.trim().to_owned());
    let asked = Asked {
        order: text("order"),
        code: text("code"),
        key: text("key"),
        at_ms: fields.parsed::<jiff::Timestamp>("at")?.map(jiff::Timestamp::as_millisecond),
    };
    if asked.order.is_none() && asked.code.is_none() && asked.key.is_none() {
        return Err(FieldError::new("order", "is missing, and neither code nor key is given").into());
    }
    let facts = gather::gather(call.app, &who, &asked)?;
    let verdict = topup::verdict(&facts);
    let [summary, next] = topup::words(verdict).map(|[en, zh]| call.words(en, zh));
    let body: Value = json!({
        "verdict": verdict,
        "summary": summary,
        "next": next,
        "identities": topup::identities(&facts),
        "evidence": topup::evidence(&facts),
    });
    Ok(Reply::ok(body))
}
