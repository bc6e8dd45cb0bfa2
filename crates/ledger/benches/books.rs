//! What the books cost per call. `cargo bench -p ledger`.
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use jiff::tz::TimeZone;
use ledger::{
    AccountId, Command, CounterKey, CreditSource, HoldId, HoldOwner, Layer, LayerHold, Ledger, LotId,
    LotKind, Metric, Nano, Price, Reference, Timestamp, TokenClass, Usage, WindowInstance, WindowKind, rate,
};

const NOW: Timestamp = Timestamp(1_780_000_000_000);
const CENT: i64 = 10_000_000;

fn layers(account: u64, day: WindowInstance, month: WindowInstance) -> Vec<LayerHold> {
    let layer = |layer, subject, kind, window| LayerHold {
        counter: CounterKey { layer, subject, model: 0, metric: Metric::Spend, window: kind },
        window,
        limit: Some(i64::MAX / 2),
        amount: CENT,
    };
    let total = WindowInstance::TOTAL;
    vec![
        layer(Layer::Key, account, WindowKind::Day, day),
        layer(Layer::Key, account, WindowKind::Month, month),
        layer(Layer::Member, account, WindowKind::Month, month),
        layer(Layer::Project, account, WindowKind::Total, total),
        layer(Layer::Group, account % 100, WindowKind::Day, day),
        layer(Layer::Organization, account % 10, WindowKind::Month, month),
    ]
}

/// Books with so many accounts, each with a grant and a purchase, and a reservation of a cent for each.
fn books(accounts: u64) -> (Ledger, Vec<Command>) {
    let mut books = Ledger::default();
    let day = WindowKind::Day.instance(NOW, &TimeZone::UTC);
    let month = WindowKind::Month.instance(NOW, &TimeZone::UTC);
    let mut reservations = Vec::new();
    for number in 1..=accounts {
        let account = AccountId(number);
        for kind in [LotKind::Granted, LotKind::Purchased] {
            let credit = Command::Credit {
                account,
                lot: LotId(number * 2 + kind as u64),
                kind,
                priority: 0,
                expires_at: None,
                amount: Nano(i64::MAX / 8),
                source: CreditSource::Payment,
                reference: Reference::new(format!("order:{number}:{}", kind as u8)),
            };
            books.execute(&credit, NOW).unwrap();
        }
        reservations.push(Command::Reserve {
            hold: HoldId(u128::from(number)),
            account,
            amount: Nano(CENT),
            overdraft: Nano::ZERO,
            layers: layers(number, day, month).into(),
            owner: HoldOwner::Process(1),
        });
    }
    (books, reservations)
}

fn reserve_and_settle(criterion: &mut Criterion) {
    for (name, accounts) in [("one account", 1), ("100,000 accounts", 100_000)] {
        let (mut books, reservations) = books(accounts);
        let mut next = 0;
        criterion.bench_function(&format!("reserve + settle, 6 layers, {name}"), |bencher| {
            bencher.iter(|| {
                // A large step, so that neighbours in memory are not neighbours in time.
                next = (next + 7_919) % reservations.len();
                let held = books.execute(black_box(&reservations[next]), NOW).unwrap();
                let settle = Command::Settle { hold: held.hold().unwrap(), charge: Nano(CENT / 2) };
                black_box(books.execute(&settle, NOW).unwrap());
            });
        });
    }
}

fn rating(criterion: &mut Criterion) {
    let mut price = Price::default();
    let mut usage = Usage::default();
    for (class, per_million, tokens) in [
        (TokenClass::Input, 250_000_000, 1_200),
        (TokenClass::CacheRead, 25_000_000, 800),
        (TokenClass::Output, 2_000_000_000, 350),
    ] {
        price.per_million[class as usize] = Some(Nano(per_million));
        usage.set(class, tokens);
    }
    criterion.bench_function("rate, 3 token classes", |bencher| {
        bencher.iter(|| rate(black_box(&price), black_box(&usage), 1_250_000).unwrap());
    });
}

criterion_group!(benches, reserve_and_settle, rating);
criterion_main!(benches);
