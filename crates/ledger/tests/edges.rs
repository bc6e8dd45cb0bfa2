//! Where books break: the ends of what can be counted, things named twice, money that ended, debts.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use ledger::{
    AccountId, ChargeRecord, Command, CounterKey, CreditSource, Effect, HoldId, HoldOwner, Layer, LayerHold,
    Ledger, LedgerError, LotId, LotKind, Metric, Nano, Reference, ReleaseReason, Timestamp, WindowInstance,
    WindowKind, Withdrawal, invariants,
};

const ACCOUNT: AccountId = AccountId(1);
const DAY_MS: i64 = 86_400_000;

#[derive(Default)]
struct Books {
    ledger: Ledger,
    now: i64,
    references: u32,
}

impl Books {
    fn run(&mut self, command: &Command) -> Result<Effect, LedgerError> {
        let effect = self.ledger.plan(command, Timestamp(self.now))?;
        self.ledger.apply(&effect).unwrap();
        let state = self.ledger.state();
        assert!(matches!(
            (self.ledger.apply(&effect), &effect),
            (Err(LedgerError::ForeignEffect { .. }), _) | (_, Effect::CostAccrued(_))
        ));
        assert_eq!((self.ledger.state(), invariants::check(&self.ledger)), (state, vec![]));
        Ok(effect)
    }

    fn reference(&mut self) -> Reference {
        self.references += 1;
        Reference::new(format!("order:{}", self.references))
    }

    fn credit_from(&mut self, source: CreditSource, amount: i64) -> Result<Effect, LedgerError> {
        let reference = self.reference();
        self.run(&Command::Credit {
            account: ACCOUNT,
            lot: LotId(self.references.into()),
            kind: LotKind::Purchased,
            priority: 0,
            expires_at: None,
            amount: Nano(amount),
            source,
            reference,
        })
    }

    fn credit(
        &mut self,
        lot: u64,
        kind: LotKind,
        amount: i64,
        ends: Option<i64>,
    ) -> Result<Effect, LedgerError> {
        let (expires_at, source, reference) = (ends.map(Timestamp), CreditSource::Payment, self.reference());
        let (amount, lot) = (Nano(amount), LotId(lot));
        let account = ACCOUNT;
        self.run(&Command::Credit { account, lot, kind, priority: 0, expires_at, amount, source, reference })
    }

    fn hold(
        &mut self,
        hold: u128,
        amount: i64,
        overdraft: i64,
        layers: Vec<LayerHold>,
    ) -> Result<Effect, LedgerError> {
        self.run(&Command::Reserve {
            hold: HoldId(hold),
            account: ACCOUNT,
            amount: Nano(amount),
            overdraft: Nano(overdraft),
            layers: layers.into(),
            owner: HoldOwner::Process(1),
        })
    }

    /// Holds, settles, and gives what a refund needs.
    fn call(&mut self, hold: u128, held: i64, overdraft: i64, cost: i64) -> ChargeRecord {
        self.hold(hold, held, overdraft, vec![]).unwrap();
        let settle = Command::Settle { hold: HoldId(hold), charge: Nano(cost) };
        let Ok(Effect::Settled(settled)) = self.run(&settle) else { panic!("a hold can be settled") };
        let debits = settled.debits.iter().chain(&settled.overrun).copied().collect();
        ChargeRecord { hold: HoldId(hold), account: ACCOUNT, debits, layers: Default::default() }
    }

    fn refund(&mut self, charge: &ChargeRecord, amount: i64) -> Result<Effect, LedgerError> {
        let reference = self.reference();
        self.run(&Command::Refund { charge: charge.clone(), amount: Nano(amount), reference })
    }

    fn withdraw(&mut self, lot: Option<u64>, amount: i64, arrears: bool) -> Result<Effect, LedgerError> {
        let (kind, reference) = (Withdrawal::OrderRefund, self.reference());
        let (account, lot, amount) = (ACCOUNT, lot.map(LotId), Nano(amount));
        self.run(&Command::Withdraw { account, kind, lot, amount, arrears, reference })
    }

    fn available(&self) -> i64 {
        self.ledger.balance(ACCOUNT, Timestamp(self.now)).available.0
    }
}

fn layer(window: WindowInstance, limit: Option<i64>, amount: i64) -> LayerHold {
    let (layer, metric) = (Layer::Key, Metric::Spend);
    let counter = CounterKey { layer, subject: 9, model: 0, metric, window: WindowKind::Day };
    LayerHold { counter, window, limit, amount }
}

fn day(number: i64) -> WindowInstance {
    WindowInstance { start: Timestamp(number * DAY_MS), end: Timestamp((number + 1) * DAY_MS) }
}

fn malformed(outcome: &Result<Effect, LedgerError>) -> bool {
    matches!(outcome, Err(LedgerError::Malformed { .. }))
}

#[test]
fn a_limit_named_twice_in_a_hold_is_refused_and_not_checked_twice_against_the_same_room() {
    let mut books = Books::default();
    books.credit(1, LotKind::Purchased, 100, None).unwrap();
    let twice = vec![layer(day(0), Some(10), 6), layer(day(0), Some(10), 6)];
    assert!(malformed(&books.hold(1, 6, 0, twice)));
    assert!(malformed(&books.hold(1, 6, 0, vec![layer(day(0), Some(10), 5)])));
    assert!(books.hold(1, 6, 0, vec![layer(day(0), Some(10), 6)]).is_ok());
}

#[test]
fn nothing_is_credited_to_the_overdraft() {
    let mut books = Books::default();
    assert!(malformed(&books.credit(1, LotKind::Overdraft, 5, None)));
    assert!(matches!(books.credit(0, LotKind::Granted, 5, None), Err(LedgerError::LotExists { .. })));
}

#[test]
fn a_refund_of_two_overdrafts_repays_a_debt_once() {
    let mut books = Books::default();
    // Five are held from the overdraft and five more are charged beyond the hold; then five come in.
    let charge = books.call(1, 5, 10, 10);
    assert_eq!((charge.debits.len(), books.available()), (2, -10));
    books.credit(1, LotKind::Purchased, 5, None).unwrap();
    assert_eq!(books.available(), -5);
    books.refund(&charge, 10).unwrap();
    let balance = books.ledger.balance(ACCOUNT, Timestamp(0));
    assert_eq!((balance.owed, balance.available), (Nano(0), Nano(5)));
}

#[test]
fn a_refund_does_not_bring_back_the_rest_of_a_lot_that_ended() {
    let mut books = Books::default();
    books.credit(1, LotKind::Granted, 100, Some(DAY_MS)).unwrap();
    let charge = books.call(1, 10, 0, 10);
    books.now = DAY_MS;
    books.refund(&charge, 4).unwrap();
    assert_eq!(books.available(), 4, "not 94");
    books.refund(&charge, 6).unwrap();
    books.run(&Command::Expire { account: ACCOUNT, lot: LotId(1) }).unwrap();
    assert_eq!(books.available(), 10);
    books.now = 31 * DAY_MS;
    assert_eq!(books.available(), 0, "what came back lasts thirty days");
}

#[test]
fn a_limit_is_not_fresh_again_after_its_window_was_forgotten() {
    let mut books = Books::default();
    books.credit(1, LotKind::Purchased, 100, None).unwrap();
    books.hold(1, 10, 0, vec![layer(day(0), Some(10), 10)]).unwrap();
    books.run(&Command::Settle { hold: HoldId(1), charge: Nano(10) }).unwrap();
    books.now = DAY_MS;
    books.hold(2, 1, 0, vec![layer(day(1), Some(10), 1)]).unwrap();
    let late = books.hold(3, 1, 0, vec![layer(day(0), Some(10), 1)]);
    assert!(matches!(late, Err(LedgerError::LayerExhausted { used: 10, .. })), "{late:?}");
    books.now = 3 * DAY_MS;
    books.hold(4, 1, 0, vec![layer(day(3), Some(10), 1)]).unwrap();
    assert!(malformed(&books.hold(5, 1, 0, vec![layer(day(0), Some(10), 1)])));
}

#[test]
fn a_named_lot_can_be_taken_back_after_its_end() {
    let mut books = Books::default();
    books.credit(1, LotKind::Purchased, 10, Some(DAY_MS)).unwrap();
    books.credit(2, LotKind::Purchased, 3, None).unwrap();
    books.now = DAY_MS;
    assert!(matches!(books.withdraw(None, 10, false), Err(LedgerError::BalanceInsufficient { .. })));
    books.withdraw(Some(1), 12, false).unwrap();
    assert_eq!(books.available(), 1);
}

#[test]
fn arrears_are_paid_by_the_next_credit_but_not_by_one_that_has_ended() {
    let mut books = Books { now: DAY_MS, ..Books::default() };
    books.withdraw(None, 7, true).unwrap();
    assert_eq!(books.available(), -7);
    books.credit(1, LotKind::Granted, 5, Some(DAY_MS)).unwrap();
    assert_eq!(books.available(), -7);
    books.credit(2, LotKind::Purchased, 10, None).unwrap();
    assert_eq!(books.available(), 3);
}

#[test]
fn what_cannot_be_counted_is_refused_before_it_happens() {
    let mut books = Books::default();
    books.credit_from(CreditSource::Compensation, i64::MAX).unwrap();
    for source in [CreditSource::Compensation, CreditSource::Payment, CreditSource::Adjustment] {
        assert_eq!(books.credit_from(source, 1), Err(LedgerError::TooLarge));
    }
    let all = books.call(1, i64::MAX, 0, i64::MAX);
    assert_eq!(books.available(), 0);
    books.refund(&all, i64::MAX).unwrap();
    assert_eq!(books.available(), i64::MAX);
    // The sum of all charges is full: the next call is refused, not lost.
    assert_eq!(books.hold(2, 1, 0, vec![]), Err(LedgerError::TooLarge));
}

#[test]
fn a_hold_can_be_settled_whatever_it_cost() {
    let mut books = Books::default();
    books.credit(1, LotKind::Purchased, i64::MAX, None).unwrap();
    for hold in 1..=3 {
        books.hold(hold, i64::MAX / 8, i64::MAX / 2, vec![layer(day(0), None, i64::MAX / 8)]).unwrap();
    }
    for hold in 1..=3 {
        let settle = Command::Settle { hold: HoldId(hold), charge: Nano(i64::MAX) };
        let Ok(Effect::Settled(settled)) = books.run(&settle) else { panic!("a hold can be settled") };
        assert_eq!(i128::from(settled.charged().0) + i128::from(settled.loss.0), i128::from(i64::MAX));
    }
}

#[test]
fn an_effect_of_other_books_changes_nothing() {
    let mut books = Books::default();
    books.credit(1, LotKind::Purchased, 10, None).unwrap();
    let held = books.hold(1, 6, 0, vec![layer(day(0), Some(10), 6)]).unwrap();
    let settle = Command::Settle { hold: HoldId(1), charge: Nano(4) };
    let settled = books.ledger.plan(&settle, Timestamp(0)).unwrap();
    let release = Command::Release { hold: HoldId(1), reason: ReleaseReason::Cancelled };
    let released = books.ledger.plan(&release, Timestamp(0)).unwrap();
    let mut other = Books::default();
    other.credit(1, LotKind::Granted, 5, None).unwrap();
    let before = other.ledger.state();
    for effect in [held, settled.clone(), released] {
        assert!(matches!(other.ledger.apply(&effect), Err(LedgerError::ForeignEffect { .. })), "{effect:?}");
        assert_eq!(other.ledger.state(), before);
    }
    let Effect::Settled(mut forged) = settled else { panic!("a settlement") };
    forged.debits[0].amount = Nano(-4);
    let before = books.ledger.state();
    assert!(books.ledger.apply(&Effect::Settled(forged)).is_err());
    assert_eq!(books.ledger.state(), before);
}

#[test]
fn an_overrun_that_a_journal_writes_before_the_money_that_paid_it_is_replayed() {
    let mut books = Books::default();
    books.credit(1, LotKind::Purchased, 5, None).unwrap();
    let held = books.hold(1, 5, 0, vec![]).unwrap();
    let credited = books.credit(2, LotKind::Purchased, 10, None).unwrap();
    let settled = books.run(&Command::Settle { hold: HoldId(1), charge: Nano(12) }).unwrap();
    let mut replayed = Books::default();
    replayed.credit(1, LotKind::Purchased, 5, None).unwrap();
    for effect in [held, settled, credited] {
        replayed.ledger.apply(&effect).unwrap();
    }
    assert_eq!(replayed.ledger.state(), books.ledger.state());
    assert_eq!(replayed.available(), 3);
}
