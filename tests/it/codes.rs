//! Redemption codes: one wins, each credits once, and what is wrong with one is said, on both stores.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ledger::{LotKind, Timestamp};
use serde_json::{Value, json};
use tallygate::clock::{Clock, Entropy, SystemEntropy};
use tallygate::funding::{Codes, Redeemer};
use tallygate::secret::Keyring;
use tallygate::store::{self, StoreConfig};

use crate::on_both_backends;
use crate::support::backend::Backend;
use crate::support::demo::Demo;
use crate::support::desk::Desk;
use crate::support::http::{Ask, Connection, Reply};

on_both_backends!(
    b2_a_batch_is_exported_once_and_its_codes_are_redeemed,
    b2_the_end_of_a_code_is_not_the_end_of_its_credit,
    b2_what_is_wrong_with_a_code_is_said,
    s43_of_two_accounts_that_race_for_a_code_one_wins,
    s43_processes_that_race_for_a_code_give_it_away_once,
    s44_a_redeemed_code_can_be_spent_at_once,
    b2_guessing_is_slowed_down,
    b2_an_account_has_so_many_codes_of_a_batch,
    b2_what_a_crash_left_between_code_and_ledger_is_put_right,
    b2_codes_are_found_and_taken_out_of_use,
);

const DAY_MS: u64 = 86_400_000;

#[track_caller]
fn batch(desk: &Desk, body: Value) -> (String, Vec<String>) {
    let made = desk.post("/api/code-batches", body).ok();
    tallygate::api::check_answer("POST", "/api/code-batches", &made).unwrap();
    let codes = made["codes"].as_array().unwrap();
    (
        made["id"].as_str().unwrap().to_owned(),
        codes.iter().map(|code| code.as_str().unwrap().to_owned()).collect(),
    )
}

fn redeem(desk: &Desk, account: &str, code: &str) -> Reply {
    desk.post("/api/codes/redeem", json!({"account": account, "code": code}))
}

/// Status and code of a refusal.
#[track_caller]
fn refused(reply: &Reply) -> (u16, String) {
    let code =
        reply.json()["error"]["code"].as_str().unwrap_or_else(|| panic!("{}", reply.text())).to_owned();
    (reply.head.status, code)
}

#[track_caller]
fn assert_refused(reply: &Reply, code: &str, status: u16) {
    assert_eq!(refused(reply), (status, code.to_owned()), "{}", reply.text());
}

fn b2_a_batch_is_exported_once_and_its_codes_are_redeemed(backend: Backend) {
    let desk = Desk::open(backend);
    let account = desk.account("Ann");
    let body = json!({"value": "2.50", "count": 3, "kind": "granted", "priority": 7, "note": "spring",
        "credit_days": 30});
    let (id, codes) = batch(&desk, body);
    let redeemed = redeem(&desk, &account, &codes[0].to_lowercase().replace('-', " ")).ok();
    assert_eq!((&redeemed["state"], &redeemed["value"]), (&json!("redeemed"), &json!("2.5")), "{redeemed:#}");
    assert_eq!((&redeemed["account"], &redeemed["redeemed_by"]), (&json!(account), &json!("admin token")));
    assert_eq!(redeemed["reference"], format!("code:{}", redeemed["id"].as_str().unwrap()));
    let lots = desk.balance(&account)["lots"].clone();
    assert_eq!((&lots[0]["id"], &lots[0]["kind"]), (&redeemed["lot"], &json!("granted")), "{lots:#}");
    assert_eq!((&lots[0]["priority"], &lots[0]["expires_at"]), (&json!(7), &redeemed["credit_expires_at"]));
    let shown = desk.get(&format!("/api/code-batches/{id}"));
    let states = json!({"unused": 2, "processing": 0, "redeemed": 1, "disabled": 0, "expired": 0});
    assert_eq!((&shown["states"], &shown["note"]), (&states, &json!("spring")));
    // Neither a list nor the audit log has a text; each code is another one.
    let seen = [desk.get("/api/codes"), shown, redeemed, desk.get("/api/audit?kind=code_note"), lots];
    for code in &codes {
        assert!(seen.iter().all(|answer| !answer.to_string().contains(code)));
        assert_eq!(codes.iter().filter(|other| *other == code).count(), 1);
    }
    let again = redeem(&desk, &account, &codes[0]);
    assert_refused(&again, "code_already_redeemed", 409);
    assert!(!again.text().contains(&account) && !again.text().contains(&codes[0]), "{}", again.text());
    assert_eq!(desk.available(&account), "2.5");
}

fn b2_the_end_of_a_code_is_not_the_end_of_its_credit(backend: Backend) {
    let desk = Desk::open(backend);
    let account = desk.account("Ann");
    let ends = json!({"value": "1", "count": 2, "expires_at": "2026-11-25T00:00:00Z",
        "credit_expires_at": "2026-12-01T00:00:00Z"});
    let (id, codes) = batch(&desk, ends);
    desk.clock.advance_ms(2 * DAY_MS);
    let redeemed = redeem(&desk, &account, &codes[0]).ok();
    assert_eq!(redeemed["credit_expires_at"], "2026-12-01T00:00:00Z");
    desk.clock.advance_ms(DAY_MS);
    let late = redeem(&desk, &account, &codes[1]);
    assert_refused(&late, "code_expired", 410);
    assert!(late.text().contains("2026-11-25"), "{}", late.text());
    assert_eq!(desk.available(&account), "1");
    assert_eq!(desk.get(&format!("/api/code-batches/{id}"))["states"]["expired"], 1);
    assert_eq!(desk.get("/api/codes?state=expired")["data"].as_array().unwrap().len(), 1);
    for (field, body) in [
        ("credit_expires_at", json!({"value": "1", "count": 1, "credit_expires_at": "2026-12-01T00:00:00Z"})),
        ("expires_at", json!({"value": "1", "count": 1, "expires_at": "2026-11-01T00:00:00Z"})),
        ("value", json!({"value": "0", "count": 1})),
        ("value", json!({"value": "9000000000", "count": 10_000})),
        ("count", json!({"value": "1", "count": 10_001})),
        ("per_account_max", json!({"value": "1", "count": 1, "per_account_max": 0})),
    ] {
        let reply = desk.post("/api/code-batches", body);
        assert_refused(&reply, "invalid_value", 400);
        assert_eq!(reply.json()["error"]["param"], field, "{}", reply.text());
    }
    let both = json!({"value": "1", "count": 1, "credit_days": 3, "expires_at": "2026-12-01T00:00:00Z",
        "credit_expires_at": "2026-12-02T00:00:00Z"});
    assert_refused(&desk.post("/api/code-batches", both), "invalid_value", 400);
}

fn b2_what_is_wrong_with_a_code_is_said(backend: Backend) {
    let desk = Desk::open(backend);
    let account = desk.account("Ann");
    let (_, codes) = batch(&desk, json!({"value": "1", "count": 1}));
    let mut typo = codes[0].clone();
    let last = if typo.pop() == Some('0') { '2' } else { '0' };
    typo.push(last);
    for (text, problem) in [(typo.as_str(), "checksum"), (&codes[0][..20], "not 25"), ("TGC-…", "U+2026")] {
        let reply = redeem(&desk, &account, text);
        assert_refused(&reply, "code_malformed", 400);
        assert!(reply.text().contains(problem), "{}", reply.text());
    }
    // As well-formed as any, and nobody made it.
    let unknown = "TGC-00000-00000-00000-0001H-VF86K";
    assert_refused(&redeem(&desk, &account, unknown), "code_unknown", 404);
    assert_eq!(redeem(&desk, "acc_0000000000000", &codes[0]).head.status, 404);
    assert_refused(&desk.post("/api/codes/redeem", json!({"code": codes[0]})), "invalid_value", 400);
    assert_eq!(desk.available(&account), "0");
    redeem(&desk, &account, &codes[0]).ok();
}

/// Five tries at once, of two accounts: one credit, and the others are told.
fn s43_of_two_accounts_that_race_for_a_code_one_wins(backend: Backend) {
    let desk = Desk::open(backend);
    let accounts = [desk.account("Ann"), desk.account("Bob")];
    for _ in 0..4 {
        let (_, codes) = batch(&desk, json!({"value": "1", "count": 1}));
        let asks = (0..5).map(|n| json!({"account": accounts[n % 2], "code": codes[0]}));
        let asks =
            asks.map(|body| Ask::post("/api/codes/redeem", &body).bearer(crate::support::app::ADMIN_TOKEN));
        let address = desk.address();
        let racers: Vec<_> = asks
            .map(|ask| std::thread::spawn(move || Connection::open(address).unwrap().ask(&ask).unwrap()))
            .collect();
        let replies: Vec<_> = racers.into_iter().map(|racer| racer.join().unwrap()).collect();
        let won: Vec<_> = replies.iter().filter(|reply| reply.head.status == 200).collect();
        // The winner's own tries at the same time may be told of its success.
        let winner = won[0].json()["account"].clone();
        assert!(won.iter().all(|reply| reply.json()["account"] == winner));
        for lost in replies.iter().filter(|reply| reply.head.status != 200) {
            assert_refused(lost, "code_already_redeemed", 409);
        }
    }
    let sum: u32 = accounts.iter().map(|account| desk.available(account).parse::<u32>().unwrap()).sum();
    assert_eq!(sum, 4);
}

/// Each with connections of its own, as processes have.
fn s43_processes_that_race_for_a_code_give_it_away_once(backend: Backend) {
    let desk = Desk::open(backend);
    let accounts: Vec<String> = (0..4).map(|n| desk.account(&format!("Account {n}"))).collect();
    let (id, codes) = batch(&desk, json!({"value": "1", "count": 8}));
    let clock: Arc<dyn Clock> = desk.clock.clone();
    let master = Keyring::from_hex(&"07".repeat(32)).unwrap();
    let folders: Vec<_> = accounts.iter().map(|_| tempfile::tempdir().unwrap()).collect();
    let racers: Vec<_> = accounts
        .iter()
        .zip(&folders)
        .map(|(account, folder)| {
            let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy::new());
            let config =
                StoreConfig { data_dir: folder.path().to_owned(), postgres_url: desk.backend().url() };
            let process = match &config.postgres_url {
                Some(_) => {
                    let db = store::open(&config).unwrap().funding;
                    let books = Arc::clone(&desk.app().books);
                    Arc::new(Codes::new(db, books, clock.clone(), entropy, &master))
                }
                // The embedded store has one process: threads of it race.
                None => Arc::clone(&desk.app().codes),
            };
            let who = Redeemer { account: account.parse().unwrap(), actor: "member".into(), address: None };
            let codes = codes.clone();
            std::thread::spawn(move || codes.iter().filter(|code| process.redeem(code, &who).is_ok()).count())
        })
        .collect();
    let won: usize = racers.into_iter().map(|racer| racer.join().unwrap()).sum();
    assert_eq!(won, codes.len());
    let available = |account: &String| desk.available(account).parse::<usize>().unwrap();
    assert_eq!(accounts.iter().map(available).sum::<usize>(), codes.len());
    assert_eq!(desk.get(&format!("/api/code-batches/{id}"))["states"]["redeemed"], 8);
}

fn s44_a_redeemed_code_can_be_spent_at_once(backend: Backend) {
    let desk = Desk::open(backend);
    let account = desk.account("Ann");
    let made = |path: &str, body: Value| desk.post(path, body).ok();
    made("/api/models", json!({"name": "m"}));
    made("/api/prices", json!({"model": "m", "per_million": {"input": "1.00", "output": "2.00"}}));
    let channel = json!({"name": "c", "base_url": "http://127.0.0.1:9/v1", "credential": "sk-upstream-credential",
        "models": {"m": "m"}, "environments": ["live"]});
    made("/api/channels", channel);
    let key = made("/api/keys", json!({"account": account, "name": "k"}))["key"].as_str().unwrap().to_owned();
    let simulate = || {
        let body = json!({"model": "m", "messages": [{"role": "user", "content": "hello"}]});
        desk.ask(&Ask::post("/v1/simulate", &body).bearer(&key)).ok()["would"].clone()
    };
    assert_eq!(simulate(), "fail");
    let (_, codes) = batch(&desk, json!({"value": "1", "count": 1}));
    redeem(&desk, &account, &codes[0]).ok();
    assert_eq!(simulate(), "pass");
}

/// A code of ours that nobody made, as well-formed as any.
fn guess() -> String {
    tallygate::funding::CodeText::generate(&SystemEntropy::new()).expose()
}

fn b2_guessing_is_slowed_down(backend: Backend) {
    let mut desk = Desk::open(backend);
    let (ann, bob) = (desk.account("Ann"), desk.account("Bob"));
    let (_, codes) = batch(&desk, json!({"value": "1", "count": 2}));
    for _ in 0..10 {
        assert_refused(&redeem(&desk, &ann, &guess()), "code_unknown", 404);
    }
    let stopped = redeem(&desk, &ann, &codes[0]);
    assert_refused(&stopped, "code_guesses_exceeded", 429);
    assert_eq!(stopped.head.header("retry-after"), Some("3600"), "{}", stopped.text());
    // A start forgets nothing.
    desk.restart();
    assert_refused(&redeem(&desk, &ann, &codes[0]), "code_guesses_exceeded", 429);
    // Slips are no guesses, and others go on, until the address has tried too much.
    assert_refused(&redeem(&desk, &ann, "TGC-1"), "code_malformed", 400);
    redeem(&desk, &bob, &codes[0]).ok();
    let eve = desk.account("Eve");
    let tried = [&bob, &eve]
        .map(|account| (0..12).filter(|_| redeem(&desk, account, &guess()).head.status == 404).count());
    assert_eq!(tried, [10, 10]);
    let zoe = desk.account("Zoe");
    assert_refused(&redeem(&desk, &zoe, &codes[1]), "code_guesses_exceeded", 429);
    desk.clock.advance_ms(3_600_000);
    redeem(&desk, &ann, &codes[1]).ok();
    let elsewhere = Redeemer {
        account: zoe.parse().unwrap(),
        actor: "member".into(),
        address: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))),
    };
    assert!(desk.app().codes.redeem(&guess(), &elsewhere).is_err());
}

fn b2_an_account_has_so_many_codes_of_a_batch(backend: Backend) {
    let desk = Desk::open(backend);
    let (ann, bob) = (desk.account("Ann"), desk.account("Bob"));
    let (id, codes) = batch(&desk, json!({"value": "1", "count": 4, "per_account_max": 1}));
    redeem(&desk, &ann, &codes[0]).ok();
    let more = redeem(&desk, &ann, &codes[1]);
    assert_refused(&more, "code_limit_reached", 409);
    redeem(&desk, &bob, &codes[1]).ok();
    assert_eq!(desk.get(&format!("/api/code-batches/{id}"))["states"]["unused"], 2);
    // Two codes at once are no way around.
    let cyd = desk.account("Cyd");
    let address = desk.address();
    let racers: Vec<_> = codes[2..]
        .iter()
        .map(|code| {
            let ask = Ask::post("/api/codes/redeem", &json!({"account": cyd, "code": code}));
            let ask = ask.bearer(crate::support::app::ADMIN_TOKEN);
            std::thread::spawn(move || Connection::open(address).unwrap().ask(&ask).unwrap().head.status)
        })
        .collect();
    let mut statuses: Vec<_> = racers.into_iter().map(|racer| racer.join().unwrap()).collect();
    statuses.sort_unstable();
    assert_eq!((&*desk.available(&cyd), statuses[0]), ("1", 200), "{statuses:?}");
    // A batch without a limit goes on.
    let (_, free) = batch(&desk, json!({"value": "1", "count": 2}));
    free.iter().for_each(|code| drop(redeem(&desk, &ann, code).ok()));
    assert_eq!(desk.available(&ann), "3");
}

fn b2_what_a_crash_left_between_code_and_ledger_is_put_right(backend: Backend) {
    let mut desk = Desk::open(backend);
    let (ann, bob) = (desk.account("Ann"), desk.account("Bob"));
    let (_, codes) = batch(&desk, json!({"value": "5", "count": 4, "credit_days": 1}));
    let shown = |desk: &Desk| -> Vec<(String, String)> {
        let page = desk.get("/api/codes");
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        page["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| (text(&row["state"]), text(&row["account"])))
            .collect()
    };
    // Given away and not credited: the books were not there.
    let now_ms = desk.clock.now_ms();
    for (account, code) in [(&ann, &codes[0]), (&bob, &codes[1])] {
        desk.clock.jump_to_ms(now_ms + 120_000);
        assert_refused(&redeem(&desk, account, code), "books_unavailable", 503);
        desk.clock.jump_to_ms(now_ms);
    }
    assert_eq!(shown(&desk).iter().filter(|(state, _)| state == "processing").count(), 2);
    assert_refused(&redeem(&desk, &bob, &codes[0]), "code_already_redeemed", 409);
    // Its account may go on at once; the other's is put right by the next start.
    assert_eq!(redeem(&desk, &ann, &codes[0]).ok()["state"], "redeemed");
    desk.restart();
    assert_eq!([desk.available(&ann), desk.available(&bob)], ["5", "5"]);
    let states = shown(&desk);
    assert_eq!(states.iter().filter(|(state, _)| state == "redeemed").count(), 2, "{states:?}");
    assert!(states.contains(&("redeemed".to_owned(), bob.clone())));
    // Credited, and the code does not say so yet: it follows the ledger. Where the ledger has something else under its
    // reference, nobody can have it.
    let stuck = |code: &str| {
        desk.clock.jump_to_ms(now_ms + 120_000);
        assert_refused(&redeem(&desk, &ann, code), "books_unavailable", 503);
        desk.clock.jump_to_ms(now_ms);
        desk.get("/api/codes?state=processing")["data"][0].clone()
    };
    for (code, amount) in [(&codes[2], 5), (&codes[3], 3)] {
        let row = stuck(code);
        let end = row["credit_expires_at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        let lot = (LotKind::Granted, Some(Timestamp(end.as_millisecond())));
        desk.credit_as(&ann, row["reference"].as_str().unwrap(), amount, lot);
        if amount == 3 {
            assert_refused(&redeem(&desk, &ann, code), "reference_conflict", 409);
        }
    }
    for _ in 0..2 {
        desk.restart();
        assert_eq!([desk.available(&ann), desk.available(&bob)], ["13", "5"]);
        let states = shown(&desk);
        let count = |wanted: &str| states.iter().filter(|(state, _)| state == wanted).count();
        assert_eq!([count("redeemed"), count("disabled")], [3, 1], "{states:?}");
    }
}

fn b2_codes_are_found_and_taken_out_of_use(backend: Backend) {
    let desk = Desk::open(backend);
    let account = desk.account("Ann");
    let (first, of_first) = batch(&desk, json!({"value": "1", "count": 3}));
    desk.clock.advance_ms(1_000);
    let (second, of_second) = batch(&desk, json!({"value": "2", "count": 2, "kind": "purchased"}));
    let find = |code: &str| desk.post("/api/codes/find", json!({"code": code})).ok();
    let found = find(&of_first[0]);
    assert_eq!((&found["batch"], &found["state"]), (&json!(first), &json!("unused")));
    let path = format!("/api/codes/{}/disable", found["id"].as_str().unwrap());
    assert_refused(&desk.post(&path, json!({"reason": ""})), "invalid_value", 400);
    let disabled = desk.post(&path, json!({"reason": "printed twice"})).ok();
    assert_eq!(
        (&disabled["state"], &disabled["disabled_reason"]),
        (&json!("disabled"), &json!("printed twice"))
    );
    assert_refused(&redeem(&desk, &account, &of_first[0]), "code_disabled", 410);
    redeem(&desk, &account, &of_first[1]).ok();
    redeem(&desk, &account, &of_second[0]).ok();
    let batch_path = format!("/api/code-batches/{second}/disable");
    let ended = desk.post(&batch_path, json!({"reason": "lost the list"})).ok();
    assert_eq!((&ended["states"]["redeemed"], &ended["states"]["disabled"]), (&json!(1), &json!(1)));
    assert_refused(&redeem(&desk, &account, &of_second[1]), "code_disabled", 410);
    assert_eq!(find(&of_second[1])["disabled_reason"], "lost the list");
    let used = format!("/api/codes/{}/disable", find(&of_second[0])["id"].as_str().unwrap());
    assert_refused(&desk.post(&used, json!({"reason": "r"})), "code_already_redeemed", 409);
    let count = |query: &str| desk.get(&format!("/api/codes?{query}"))["data"].as_array().unwrap().len();
    assert_eq!(
        [count(""), count("state=disabled"), count("state=redeemed"), count("state=unused")],
        [5, 2, 2, 1]
    );
    assert_eq!([count(&format!("batch={first}")), count(&format!("account={account}"))], [3, 2]);
    assert_eq!(desk.post("/api/codes/find", json!({"code": guess()})).head.status, 404);
    let page = desk.get("/api/codes?limit=3");
    assert_eq!(count(&format!("limit=3&cursor={}", page["next_cursor"].as_str().unwrap())), 2);
    let batches = desk.get("/api/code-batches?limit=1");
    assert_eq!((&batches["data"][0]["id"], &batches["next_cursor"]), (&json!(second), &json!(second)));
    let audit = desk.get("/api/audit?kind=code_note").to_string();
    assert!(audit.contains("printed twice") && audit.contains("lost the list"), "{audit}");
    // Granted and sold codes come from different sides.
    let families = &desk.balance(&account)["movements"];
    assert_eq!((&families["credits"], &*desk.available(&account)), (&json!("3"), "3"));
}

/// A member redeems for its own account alone, and sees its own codes alone.
#[test]
fn b2_a_member_redeems_for_its_own_account() {
    let demo = Demo::start();
    let (ann, bob) = (demo.account("Ann", "1.00"), demo.account("Bob", "1.00"));
    let member = demo.admin_post("/api/members", &json!({"account": ann, "name": "f", "role": "finance"}));
    let path = format!("/api/members/{}/token", member["id"].as_str().unwrap());
    let token = demo.admin_post(&path, &json!({}))["token"].as_str().unwrap().to_owned();
    let made = demo.admin_post("/api/code-batches", &json!({"value": "4", "count": 3}));
    let ask = |body: Value| demo.ask(&Ask::post("/api/codes/redeem", &body).bearer(&token));
    let redeemed = ask(json!({"code": made["codes"][0]})).ok();
    assert_eq!((&redeemed["account"], &redeemed["state"]), (&json!(ann), &json!("redeemed")));
    assert!(redeemed["redeemed_by"].as_str().unwrap().starts_with("member mem_"));
    assert_eq!(ask(json!({"code": made["codes"][1], "account": bob})).head.status, 404);
    let by_bob = demo.admin_post("/api/codes/redeem", &json!({"code": made["codes"][1], "account": bob}));
    let told = ask(json!({"code": made["codes"][1]}));
    assert_refused(&told, "code_already_redeemed", 409);
    assert!(!told.text().contains(&bob), "{}", told.text());
    let get = |path: String| demo.ask(&Ask::get(path).bearer(&token));
    assert_eq!(get("/api/codes".into()).ok()["data"].as_array().unwrap().len(), 1);
    assert_eq!(get(format!("/api/codes/{}", by_bob["id"].as_str().unwrap())).head.status, 404);
    assert_eq!(get(format!("/api/codes/{}", redeemed["id"].as_str().unwrap())).ok()["id"], redeemed["id"]);
    assert_eq!(demo.balance(&ann)["available"], "5");
}
