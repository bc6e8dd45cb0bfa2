//! The limits that the workload's calls run into.

use ledger::{AccountId, Book, CounterKey, Layer, Metric, WindowKind};

use crate::random::Random;

/// One limit that calls can run into.
#[derive(Clone, Debug)]
pub struct Limit {
    pub key: CounterKey,
    pub limit: Option<i64>,
    /// Whether the limit's value moves.
    pub moves: bool,
}

/// The limits of one account: its key, calls of the key, member, project, a model, group and organization.
pub fn limits(random: &mut Random, account: AccountId, unit: i64) -> Vec<Limit> {
    let shared = account.in_book(Book::Live).0 / 2 + account.book() as u64 * 100;
    let layers = [
        (Layer::Key, account.0, 0, Metric::Spend),
        (Layer::Key, account.0, 0, Metric::Calls),
        (Layer::Member, account.0, 0, Metric::Spend),
        (Layer::Project, account.0, 0, Metric::Spend),
        (Layer::Model, account.0, 5, Metric::Spend),
        (Layer::Group, shared, 0, Metric::Spend),
        (Layer::Organization, shared, 0, Metric::Spend),
    ];
    let limit = |(layer, subject, model, metric)| {
        let window = WindowKind::ALL[random.below(3)];
        let key = CounterKey { layer, subject, model, metric, window };
        Limit { key, limit: limit_value(random, key, unit), moves: random.percent(50) }
    };
    layers.into_iter().map(limit).collect()
}

/// Narrow enough to be met: in a longer window more is used.
pub fn limit_value(random: &mut Random, key: CounterKey, unit: i64) -> Option<i64> {
    let calls = key.metric == Metric::Calls;
    let most = match key.window {
        WindowKind::Day => 150,
        WindowKind::Month => 1_500,
        WindowKind::Total => 12_000,
    };
    match random.below(20) {
        0..4 => None,
        4 => Some(random.between(-1, 1)),
        _ if calls => Some(random.between(0, most / 10)),
        _ => {
            let value = i128::from(random.between(most / 10, most)) * i128::from(unit);
            Some(i64::try_from(value).unwrap_or(i64::MAX))
        }
    }
}
