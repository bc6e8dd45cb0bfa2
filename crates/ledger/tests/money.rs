//! Scenarios of money at the ledger's level.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use ledger::{
    AccountId, Command, CounterKey, CreditSource, HoldId, HoldOwner, Layer, LayerHold, Ledger, LedgerError,
    LotId, LotKind, Metric, Nano, Reference, ReleaseReason, Timestamp, WindowKind, invariants,
};

const ACCOUNT: AccountId = AccountId(1);
const NOW: Timestamp = Timestamp(1_700_000_000_000);
const CENT: i64 = 10_000_000;

struct Books(Ledger);

impl Books {
    fn new() -> Self {
        Books(Ledger::default())
    }

    fn run(&mut self, command: &Command) -> Result<ledger::Effect, LedgerError> {
        let effect = self.0.execute(command, NOW)?;
        assert_eq!(invariants::balanced(&effect), None);
        assert_eq!(invariants::check(&self.0), vec![]);
        Ok(effect)
    }

    fn credit(&mut self, lot: u64, kind: LotKind, cents: i64) {
        self.run(&Command::Credit {
            account: ACCOUNT,
            lot: LotId(lot),
            kind,
            priority: 0,
            expires_at: None,
            amount: Nano(cents * CENT),
            source: CreditSource::Payment,
            reference: Reference::new(format!("order:{lot}")),
        })
        .unwrap();
    }

    fn reserve(
        &mut self,
        hold: u128,
        cents: i64,
        key_limit: Option<i64>,
    ) -> Result<ledger::Effect, LedgerError> {
        self.reserve_for(HoldOwner::Process(1), hold, cents, key_limit)
    }

    fn reserve_for(
        &mut self,
        owner: HoldOwner,
        hold: u128,
        cents: i64,
        key_limit: Option<i64>,
    ) -> Result<ledger::Effect, LedgerError> {
        let counter = CounterKey {
            layer: Layer::Key,
            subject: 9,
            model: 0,
            metric: Metric::Spend,
            window: WindowKind::Day,
        };
        let window = WindowKind::Day.instance(NOW, &jiff::tz::TimeZone::UTC);
        let amount = cents * CENT;
        let limit = key_limit.map(|cents| cents * CENT);
        self.run(&Command::Reserve {
            hold: HoldId(hold),
            account: ACCOUNT,
            amount: Nano(amount),
            overdraft: Nano::ZERO,
            layers: [LayerHold { counter, window, limit, amount }].into_iter().collect(),
            owner,
        })
    }

    fn settle(&mut self, hold: u128, cents: i64) -> ledger::Settled {
        match self.run(&Command::Settle { hold: HoldId(hold), charge: Nano(cents * CENT) }).unwrap() {
            ledger::Effect::Settled(settled) => settled,
            other => panic!("{other:?}"),
        }
    }

    fn available(&self) -> i64 {
        self.0.balance(ACCOUNT, NOW).available.0 / CENT
    }
}

#[test]
fn s3_an_overrun_of_the_grant_is_paid_from_purchased_credit_in_one_transaction() {
    let mut books = Books::new();
    books.credit(1, LotKind::Granted, 10);
    books.credit(2, LotKind::Purchased, 100);
    books.reserve(1, 6, None).unwrap();
    let settled = books.settle(1, 16);
    let paid: Vec<_> =
        settled.debits.iter().chain(&settled.overrun).map(|d| (d.lot.0, d.amount.0 / CENT)).collect();
    assert_eq!(paid, [(1, 6), (1, 4), (2, 6)]);
    assert_eq!((settled.loss, books.available()), (Nano::ZERO, 94));
}

#[test]
fn s18_an_account_is_never_overdrawn_by_many_holds() {
    let mut books = Books::new();
    books.credit(1, LotKind::Purchased, 1_001);
    let admitted = (0..200).filter(|hold| books.reserve(*hold, 10, None).is_ok()).count();
    assert_eq!((admitted, books.available()), (100, 1));
}

#[test]
fn an_overrun_is_charged_only_as_far_as_the_key_has_money() {
    let mut books = Books::new();
    books.credit(1, LotKind::Purchased, 100);
    books.reserve(1, 6, Some(8)).unwrap();
    let settled = books.settle(1, 16);
    assert_eq!((settled.charged(), settled.loss), (Nano(8 * CENT), Nano(8 * CENT)));
    assert!(matches!(books.reserve(2, 1, Some(8)), Err(LedgerError::LayerExhausted { index: 0, .. })));
}

/// G2: what a task costs was agreed to; what it cost more is the platform's loss.
#[test]
fn g2_a_task_is_charged_its_hold_at_the_most() {
    let mut books = Books::new();
    books.credit(1, LotKind::Purchased, 100);
    books.reserve_for(HoldOwner::Task(7), 1, 6, None).unwrap();
    let settled = books.settle(1, 16);
    assert_eq!((settled.charged(), settled.loss), (Nano(6 * CENT), Nano(10 * CENT)));
    assert_eq!(books.available(), 94);
}

#[test]
fn s23_holds_return_to_exactly_zero() {
    let mut books = Books::new();
    books.credit(1, LotKind::Purchased, 1_000);
    for hold in 0..100 {
        books.reserve(hold, 7, Some(1_000)).unwrap();
    }
    for hold in 0..50 {
        books.settle(hold, 3);
    }
    for hold in 50..100 {
        let reason = ReleaseReason::UpstreamFailed;
        books.run(&Command::Release { hold: HoldId(hold), reason }).unwrap();
    }
    let balance = books.0.balance(ACCOUNT, NOW);
    assert_eq!((balance.held, balance.available), (Nano::ZERO, Nano(850 * CENT)));
    assert!(books.0.state().counters.iter().all(|counter| counter.used == 150 * CENT));
}

#[test]
fn a_reference_posts_once() {
    let mut books = Books::new();
    books.credit(1, LotKind::Purchased, 5);
    let again = |lot, amount| Command::Credit {
        account: ACCOUNT,
        lot: LotId(lot),
        kind: LotKind::Purchased,
        priority: 0,
        expires_at: None,
        amount: Nano(amount * CENT),
        source: CreditSource::Payment,
        reference: Reference::new("order:1"),
    };
    assert!(matches!(books.run(&again(2, 5)), Err(LedgerError::AlreadyPosted { .. })));
    assert!(matches!(books.run(&again(2, 6)), Err(LedgerError::ReferenceReused { .. })));
    assert_eq!(books.available(), 5);
}

#[test]
fn a_dump_is_the_same_books() {
    let mut books = Books::new();
    books.credit(1, LotKind::Granted, 10);
    books.reserve(1, 6, Some(8)).unwrap();
    books.reserve(2, 1, Some(8)).unwrap();
    books.settle(2, 1);
    let dump = books.0.state();
    let again = Ledger::from_state(dump.clone());
    assert_eq!(again.state(), dump);
    assert_eq!(invariants::check(&again), vec![]);
}
