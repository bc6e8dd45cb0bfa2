//! Twenty faults of ten kinds: in the files of others, in the projections and in the journal, beneath the program.

use std::collections::BTreeMap;

use serde_json::json;
use tallygate::books::encoding;
use tallygate::gateway::facts::Ending;

use super::world::World;

impl World {
    /// Twenty faults of ten kinds.
    pub fn faults_are_named(self) {
        let folder = self.house.dir();
        let sql = |file: &str, statement: &str| {
            let db = rusqlite::Connection::open(folder.join(file)).unwrap();
            db.execute(statement, []).unwrap()
        };
        // The files of the clean comparison are forgotten: the same rows come again, with faults.
        for table in ["reconcile_rows", "reconcile_imports"] {
            assert!(sql("reconcile.db", &format!("DELETE FROM {table}")) > 0);
        }
        let credited = self.house.all("/api/orders?state=credited");
        let reference = |at: usize| format!("order:{}", credited[at]["id"].as_str().unwrap());
        // A row lost: one here and one in a file. Another account: twice here.
        assert_eq!(
            sql("projections.db", &format!("DELETE FROM movements WHERE reference = '{}'", reference(0))),
            1
        );
        for at in [1, 2] {
            let moved =
                format!("UPDATE movements SET account = account + 1 WHERE reference = '{}'", reference(at));
            assert_eq!(sql("projections.db", &moved), 1);
        }
        assert_eq!(self.charge_without_answer(&folder), 2);
        for n in [3, 5] {
            assert_eq!(sql("journal.db", &format!("UPDATE journal SET at_ms = at_ms + 1 WHERE n = {n}")), 1);
        }
        self.import(&|provider, text| match provider {
            "stripe" => stripe_faults(&text),
            "alipay" => alipay_faults(&text),
            "wechat" => wechat_faults(&text),
            _ => text,
        });
        let compare = || self.house.long("/api/reconcile", &json!({"full": true}), "/api/reconcile");
        assert_eq!(compare()["clean"], false);
        let cases = self.open_cases();
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        for case in &cases {
            *kinds.entry(case["kind"].as_str().unwrap()).or_default() += 1;
        }
        let wanted = [
            "account_differs",
            "amount_differs",
            "chain_cut",
            "charged_without_answer",
            "currency_differs",
            "late",
            "refund_without_charge",
            "row_doubled",
            "row_missing",
            "sign_differs",
        ];
        let wanted: BTreeMap<_, _> = wanted.into_iter().map(|kind| (kind, 2)).collect();
        assert_eq!(kinds, wanted, "{cases:#?}");
        // Each is closed with a reason, and stays closed when it is seen again.
        let case = format!("/api/reconcile/cases/{}", cases[0]["id"].as_str().unwrap());
        self.house.post(&format!("{case}/close"), &json!({"reason": "looked at"})).ok();
        compare();
        assert_eq!(self.house.get(&case)["state"], "closed");
        assert_eq!(self.open_cases().len(), cases.len() - 1);
        self.house.abandon();
    }

    /// Has the log say of two charged calls that nothing came of them.
    fn charge_without_answer(&self, folder: &std::path::Path) -> usize {
        let db = rusqlite::Connection::open(folder.join("projections.db")).unwrap();
        let found: Vec<(Vec<u8>, Vec<u8>)> = db
            .prepare("SELECT id, facts FROM requests WHERE charge > 0 AND state = 2 ORDER BY id LIMIT 2")
            .unwrap()
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        for (id, facts) in &found {
            let mut call = encoding::decode_call(facts).unwrap();
            call.outcome.as_mut().unwrap().ending = Ending::UpstreamFailed;
            let facts = encoding::encode_call(&call);
            db.execute("UPDATE requests SET facts = ?2 WHERE id = ?1", rusqlite::params![id, facts]).unwrap();
        }
        found.len()
    }
}

/// Lines of a statement that say a payment or, else, a refund.
fn edit(text: &str, at: usize, is_wanted: impl Fn(&str) -> bool, change: impl Fn(&str) -> String) -> String {
    let mut seen = 0;
    let lines = text.lines().map(|line| {
        if is_wanted(line) {
            seen += 1;
            if seen == at {
                return change(line);
            }
        }
        format!("{line}\n")
    });
    lines.collect()
}

/// Later than both sides can be by chance.
fn four_weeks_on() -> String {
    let at = super::audit::now() + jiff::SignedDuration::from_hours(28 * 24);
    at.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

fn stripe_faults(text: &str) -> String {
    let is_charge = |line: &str| line.contains(",charge,");
    let lost = edit(text, 1, is_charge, |_| String::new());
    let doubled = edit(&lost, 1, is_charge, |line| format!("{line}\n{line}\n"));
    let signed = edit(&doubled, 3, is_charge, |line| {
        let mut values: Vec<_> = line.split(',').map(str::to_owned).collect();
        values[3] = format!("-{}", values[3]);
        format!("{}\n", values.join(","))
    });
    let other = edit(&signed, 4, is_charge, |line| format!("{}\n", line.replace(",usd,", ",cny,")));
    let late = edit(&other, 5, is_charge, |line| {
        let values: Vec<_> = line.split(',').collect();
        format!("{}\n", line.replace(values[1], &four_weeks_on()))
    });
    let nobody = text.lines().nth(1).unwrap().split(',').nth(1).unwrap();
    late + &format!("txn_x,{nobody},usd,-3.00,0.00,-3.00,refund,pi_nobody\n")
}

fn alipay_faults(text: &str) -> String {
    let is_trade = |line: &str| line.contains("交易    ,");
    let value = |line: &str, at: usize, value: &str| {
        let mut values: Vec<_> = line.split(',').map(str::to_owned).collect();
        values[at] = value.to_owned();
        format!("{}\n", values.join(","))
    };
    let amount = edit(text, 1, is_trade, |line| value(line, 4, "999.99"));
    let doubled = edit(&amount, 2, is_trade, |line| format!("{line}\n{line}\n"));
    let late = edit(&doubled, 4, is_trade, |line| value(line, 3, &four_weeks_on()));
    let now = text.lines().find(|line| is_trade(line)).unwrap().split(',').nth(3).unwrap();
    edit(
        &late,
        1,
        |line| line.starts_with("#---"),
        |line| format!("20261122\t,ord_nobody\t,退款    ,{now},-3.00,-3.00\n{line}\n"),
    )
}

fn wechat_faults(text: &str) -> String {
    let is_trade = |line: &str| line.contains("`SUCCESS");
    let value = |line: &str, at: usize, change: &dyn Fn(&str) -> String| {
        let mut values: Vec<_> = line.split(',').map(str::to_owned).collect();
        values[at] = change(&values[at]);
        format!("{}\n", values.join(","))
    };
    let amount = edit(text, 1, is_trade, |line| value(line, 6, &|_| "`999.99".to_owned()));
    let signed = edit(&amount, 2, is_trade, |line| value(line, 6, &|was| was.replace('`', "`-")));
    edit(&signed, 3, is_trade, |line| value(line, 4, &|_| "`USD".to_owned()))
}
