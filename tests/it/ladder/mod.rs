//! The ladder against a second, naive one that was written from the published table: on random directories and calls
//! both must refuse with the same code for the same limit, admit with the same hold, and tell the same of every rung.
//!
//! `LADDER_SEED=17 cargo nextest run --test it ladder` repeats one directory with its calls; `LADDER_SEEDS=100000`
//! runs more of them than the normal run.
#![expect(clippy::print_stdout, reason = "a run tells what happened in it")]

mod build;
mod cases;
mod naive;
#[cfg(feature = "planted-bugs")]
mod planted;
#[path = "../../../crates/ledger/tests/simulation/random.rs"]
mod random;
mod world;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use tallygate::catalogue::{Code, Refusal};
use tallygate::directory::Snapshot;
use tallygate::gateway::facts::{Checked, Endpoint};
use tallygate::gateway::ladder::{self, HoldPolicy, Step, StepState, Verdict, Would};

use naive::{Limited, Naive, Refused, Whose};
use world::{Call, Holder, World};

/// Directories of a normal run, each with [`cases::CALLS`] calls.
const SEEDS: u64 = 6_400;
/// The seeds are dealt out to as many tests, which run side by side.
const PARTS: u64 = 4;

/// How often each code was given; `None`: admitted.
type Seen = BTreeMap<Option<Code>, u64>;

/// A verdict in a form that both can be put into.
#[derive(Debug, PartialEq, Eq)]
enum Decided {
    Admitted { channel: String, multiplier_ppm: u64, hold: i64, output_cap: u32 },
    Refused { code: Code, limit: Option<Limit> },
}

/// Scope, id and window of the limit that refused.
type Limit = (String, String, Option<String>);

/// Number, state, and what it would have said, of each rung.
type Told = Vec<(u8, StepState)>;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

fn compare_part(part: u64) {
    let one = number("LADDER_SEED");
    let seeds = one.map_or(0..number("LADDER_SEEDS").unwrap_or(SEEDS), |seed| seed..seed + 1);
    let count = seeds.end - seeds.start;
    let mut seen = Seen::new();
    for seed in seeds.filter(|seed| seed % PARTS == part) {
        if let Err(difference) = compare_seed(seed, &mut seen) {
            panic!("{difference}");
        }
    }
    println!("{seen:?}");
    // What tasks cost is capped for them alone; these calls are chats.
    let of_tasks = [Code::TaskCostOverCap, Code::TaskQuotaExhausted];
    let is_given =
        |code: &&Code| (3..=14).contains(&code.rung()) && !code.is_reserved() && !of_tasks.contains(code);
    let never: Vec<_> =
        Code::ALL.iter().filter(is_given).filter(|code| !seen.contains_key(&Some(**code))).collect();
    assert!(count < SEEDS || never.is_empty(), "never given: {never:?}");
    assert!(count < SEEDS || seen.contains_key(&None), "nothing was admitted");
}

/// Compares every call of a seed; a difference is told with all that led to it.
fn compare_seed(seed: u64, seen: &mut Seen) -> Result<(), String> {
    let (world, calls) = cases::world(seed);
    let snapshot = build::snapshot(&world);
    for (index, call) in calls.iter().enumerate() {
        let code = compare(&world, &snapshot, call)
            .map_err(|difference| told(seed, index, &difference, &world, call))?;
        *seen.entry(code).or_default() += 1;
    }
    Ok(())
}

fn told(seed: u64, index: usize, difference: &str, world: &World, call: &Call) -> String {
    format!(
        "seed {seed}, call {index}: {difference}\n  call: {call:?}\n{world}\
         repeat with: LADDER_SEED={seed} cargo nextest run --test it ladder"
    )
}

/// One call in all its ways: with everything known, and as the gateway comes to know it. Answers the code.
fn compare(world: &World, snapshot: &Snapshot, call: &Call) -> Result<Option<Code>, String> {
    // The body of a call that came to a wrong address is never read.
    let naive = Naive { world, call, is_body_read: !call.is_address_wrong, is_view: false };
    let expected = naive.decide();
    let at = expected.as_ref().err().map(|(rung, _)| *rung);
    let expected = match expected {
        Ok(admitted) => Decided::Admitted {
            channel: build::channel_id(admitted.channel).to_string(),
            multiplier_ppm: admitted.multiplier_ppm,
            hold: admitted.hold,
            output_cap: admitted.output_cap,
        },
        Err((_, refused)) => decided(world, refused),
    };
    let policy = build::policy_of(call);
    let facts = build::facts(world, call, naive.is_body_read);
    let readings = build::readings(snapshot, call, &facts);
    let nothing = Default::default();
    let actual = match ladder::decide(snapshot, &facts, readings.as_ref().unwrap_or(&nothing), &policy) {
        Verdict::Admit(admission) => Decided::Admitted {
            channel: admission.first.channel.id.to_string(),
            multiplier_ppm: admission.multiplier_ppm,
            hold: admission.sizing.hold.0,
            output_cap: admission.sizing.output_cap,
        },
        Verdict::Refuse(refusal) => Decided::Refused { code: refusal.code, limit: limit(&refusal) },
    };
    same("decide", &expected, &actual)?;
    let code = match expected {
        Decided::Admitted { .. } => None,
        Decided::Refused { code, .. } => Some(code),
    };
    let steps = ladder::explain(snapshot, &facts, readings.as_ref(), &policy, code);
    same("explain", &foretold(&naive, at), &states(&steps))?;
    early(snapshot, &naive, &policy, at, code)?;
    Ok(code)
}

/// The gateway refuses before it has read the body, and before it looks at the books, where it can: with the code that
/// it would refuse with if it knew all, and a Why of what it knew.
fn early(
    snapshot: &Snapshot,
    known: &Naive<'_>,
    policy: &HoldPolicy,
    at: Option<u8>,
    code: Option<Code>,
) -> Result<(), String> {
    let (world, call) = (known.world, known.call);
    let naive = Naive { is_body_read: false, ..*known };
    let mut facts = build::facts(world, call, false);
    if !call.is_address_wrong {
        let view = Naive { is_view: true, ..naive };
        facts.address = Checked::Passed(Endpoint::Models);
        let found = ladder::decide_before_body(snapshot, &facts).err().map(|refusal| refusal.code);
        same("looking", &view.decide_before_body(), &found)?;
        facts.address = Checked::Passed(Endpoint::ChatCompletions);
    }
    let found = ladder::decide_before_body(snapshot, &facts).err().map(|refusal| refusal.code);
    same("before the body", &code.filter(|_| at.is_some_and(|at| at <= 5)), &found)?;
    if found.is_some() {
        let readings = build::readings(snapshot, call, &facts);
        let steps = ladder::explain(snapshot, &facts, readings.as_ref(), policy, found);
        return same("explain without the body", &foretold(&naive, at), &states(&steps));
    }
    let facts = build::facts(world, call, true);
    let found = ladder::decide_before_books(snapshot, &facts).err().map(|refusal| refusal.code);
    let expected = code.filter(|code| *code == Code::InvalidJson);
    match found {
        // What fits no rate is found with the books, and unbounded parts with or without.
        Some(Code::InvalidParameter) => same("before the books", &code, &found),
        _ => same("before the books", &expected, &found),
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, naive: &T, actual: &T) -> Result<(), String> {
    if naive == actual {
        return Ok(());
    }
    let mut text = format!("{what} differs");
    let _ = write!(text, "\n  naive:  {naive:?}\n  actual: {actual:?}");
    Err(text)
}

/// The ladder as the naive one tells it: up to the rung that refused, and what those behind it would have said.
fn foretold(naive: &Naive<'_>, at: Option<u8>) -> Told {
    let is_known = matches!(naive.call.sender, world::Sender::Key(_));
    let state = |rung: u8| match at {
        Some(at) if rung == at => StepState::Fail,
        Some(at) if rung > at => {
            let would = if naive.check(rung).is_ok() { Would::Pass } else { Would::Fail };
            StepState::NotReached { would: is_known.then_some(would) }
        }
        _ => StepState::Pass,
    };
    naive::RUNGS.into_iter().map(|rung| (rung, state(rung))).collect()
}

fn states(steps: &[Step]) -> Told {
    steps.iter().map(|step| (step.rung, step.state)).collect()
}

fn decided(world: &World, refused: Refused) -> Decided {
    let text = |limited: Limited| {
        let (scope, id) = match limited.whose {
            Whose::Model(model) => ("model", world.models[model].name.to_owned()),
            Whose::Account(account) => ("account", build::account_id(account).to_string()),
            Whose::Holder(holder) => (scope(holder), build::holder_id(holder)),
        };
        (scope.to_owned(), id, limited.window.map(|window| window.as_str().to_owned()))
    };
    Decided::Refused { code: refused.code, limit: refused.limit.map(text) }
}

fn scope(holder: Holder) -> &'static str {
    match holder {
        Holder::Key(_) => "key",
        Holder::Member(_) => "member",
        Holder::Project(_) => "project",
        Holder::Group(_) => "group",
        Holder::Organization(_) => "organization",
    }
}

/// Of several windows of a model's budget, and of rates, the table has no order.
fn limit(refusal: &Refusal) -> Option<Limit> {
    let limit = refusal.limit.as_ref()?;
    let is_ordered = !matches!(refusal.code.rung(), 9) && refusal.code != Code::ModelBudgetExhausted;
    let window = limit.window.as_deref().filter(|_| is_ordered).map(str::to_owned);
    Some((limit.scope.to_string(), limit.id.clone().unwrap_or_default(), window))
}

/// C1, C2, C5, C6, D1, D8, E1–E8.
#[test]
fn ladder_agrees_with_the_published_table_part_1_of_4() {
    compare_part(0);
}

#[test]
fn ladder_agrees_with_the_published_table_part_2_of_4() {
    compare_part(1);
}

#[test]
fn ladder_agrees_with_the_published_table_part_3_of_4() {
    compare_part(2);
}

#[test]
fn ladder_agrees_with_the_published_table_part_4_of_4() {
    compare_part(3);
}
