//! What upstreams bill, held against what the gateway accrued for every attempt (S46).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use ledger::Effect;
use serde_json::{Value, json};
use tallygate::books::encoding::decode_batch;
use tallygate::id::RequestId;

use crate::support::demo::{Demo, nano};
use crate::support::http::{Ask, Connection};

const THREADS: usize = 8;
const CALLS: usize = 64;

/// Whole answers and streams, at the same time.
fn call_all(demo: &Demo, key: &str) {
    let address = demo.address();
    std::thread::scope(|threads| {
        for thread in 0..THREADS {
            threads.spawn(move || {
                for n in (thread..CALLS).step_by(THREADS) {
                    let more = json!({"stream": n % 2 == 0, "max_tokens": 100});
                    let ask = Ask::chat_with(key, "demo-unstable", &format!("call {n} of many"), more);
                    let _answer_or_cut = Connection::open(address).unwrap().ask(&ask);
                }
            });
        }
    });
}

/// Every attempt, by the name that it gave itself to its upstream.
fn attempts(rows: &[Value]) -> BTreeMap<String, Value> {
    let named = |row: &Value| {
        let id = row["id"].as_str().unwrap().to_owned();
        let attempts = row["attempts"].as_array().unwrap().clone();
        attempts.into_iter().map(move |attempt| match attempt["number"].as_u64() {
            Some(1) => (id.clone(), attempt),
            number => (format!("{id}-{}", number.unwrap()), attempt),
        })
    };
    rows.iter().flat_map(named).collect()
}

/// What the ledger accrued for these calls.
fn accrued(demo: &mut Demo, calls: &BTreeSet<u128>) -> i64 {
    demo.while_down(|app| {
        let mut sum = 0;
        app.journal
            .read(0, 0, &mut |batch| {
                for record in decode_batch(&batch.effects, batch.facts.as_deref()).unwrap() {
                    for effect in record.effects {
                        if let Effect::CostAccrued(cost) = effect
                            && calls.contains(&cost.hold.0)
                        {
                            sum += cost.amount.0;
                        }
                    }
                }
                Ok(ControlFlow::Continue(()))
            })
            .unwrap();
        sum
    })
}

/// S46: time-outs, cuts and retries on an unstable channel. Each row of the upstream's bill belongs to one attempt and
/// is what was accrued for it, to the nano, or is explained: the attempt is marked as estimated, and accrued no less.
/// What callers were charged is the one attempt that served them.
#[test]
fn s46_an_unstable_channels_bill_is_explained_row_by_row() {
    let mut demo = Demo::start_with(&[
        ("TALLYGATE_UPSTREAM__COOL_DOWN_FAILURES", "1000"),
        ("TALLYGATE_UPSTREAM__RETRY_SHARE_PERCENT", "100"),
    ]);
    let account = demo.account("anna", "10");
    let key = demo.key_of(&account, json!([]));
    let billed_before = demo.bill().len();
    call_all(&demo, &key);
    demo.nothing_stays_held();

    let rows = demo.admin(&format!("/api/requests?account={account}&limit=1000"));
    let rows = rows["data"].as_array().unwrap();
    assert_eq!(rows.len(), CALLS);
    let attempts = attempts(rows);
    let bill = demo.bill().split_off(billed_before);
    let mut met: BTreeMap<String, usize> = BTreeMap::new();
    let mut billed: BTreeSet<&str> = BTreeSet::new();
    for row in &bill {
        let name = row["gateway_request_id"].as_str().unwrap();
        let Some(attempt) = attempts.get(name) else { panic!("billed, and never tried: {row:#}") };
        assert!(billed.insert(name), "billed twice: {row:#}");
        let basis = attempt["cost_basis"].as_str().unwrap();
        let (ours, theirs) = (nano(&attempt["cost"]), nano(&row["cost"]));
        match basis {
            "upstream" | "counted" => {
                assert_eq!(ours, theirs, "{attempt:#}\n{row:#}");
                assert_eq!(attempt["upstream_request_id"], row["upstream_request_id"]);
            }
            "estimated" => assert!(ours >= theirs, "{attempt:#}\n{row:#}"),
            other => panic!("billed, and accrued as {other}: {attempt:#}\n{row:#}"),
        }
        *met.entry(format!("{basis}, billed")).or_default() += 1;
    }
    for (name, attempt) in attempts.iter().filter(|(name, _)| !billed.contains(name.as_str())) {
        let basis = attempt["cost_basis"].as_str().unwrap();
        assert!(basis == "nothing" && attempt["cost"] == "0" || basis == "estimated", "{name}: {attempt:#}");
        *met.entry(format!("{basis}, not billed")).or_default() += 1;
    }
    // All that the channel does has been seen: answers, cuts, lost answers, errors.
    for kind in ["upstream, billed", "counted, billed", "estimated, billed", "nothing, not billed"] {
        assert!(met.contains_key(kind), "{met:?}");
    }
    let mut calls = BTreeSet::new();
    for row in rows {
        calls.insert(row["id"].as_str().unwrap().parse::<RequestId>().unwrap().raw());
        let served = row["attempts"].as_array().unwrap().iter().find(|attempt| attempt["served"] == true);
        let cost = served.map_or(0, |attempt| nano(&attempt["cost"]));
        assert_eq!(nano(&row["charge"]), cost, "charged once, as it was served: {row:#}");
    }
    let costs: i64 = attempts.values().map(|attempt| nano(&attempt["cost"])).sum();
    assert_eq!(accrued(&mut demo, &calls), costs);
}
