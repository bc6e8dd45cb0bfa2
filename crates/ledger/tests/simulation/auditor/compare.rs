//! The ledger's figures beside the auditor's.

use ledger::{
    AccountId, AccountState, Balance, Counter, CounterKey, CounterState, Families, Held, HoldId, Ledger,
    LotKind, Nano, State, Timestamp, WindowInstance, invariants,
};

use super::{AuditAccount, Auditor, Family, live_lots, nano};

fn same<T: PartialEq + std::fmt::Debug>(what: &str, own: &T, ledger: &T) -> Result<(), String> {
    if own == ledger {
        Ok(())
    } else {
        Err(format!("{what} differ\n  auditor: {own:?}\n  ledger:  {ledger:?}"))
    }
}

impl Auditor {
    /// The cheap comparison, after each step: one account and some counters.
    pub fn compare_step(
        &self,
        ledger: &Ledger,
        account: Option<AccountId>,
        counters: &[(CounterKey, WindowInstance)],
        clock: Timestamp,
    ) -> Result<(), String> {
        if let Some(finding) = self.findings.first() {
            return Err(finding.clone());
        }
        if let Some(id) = account {
            let now = clock.max(self.now);
            let own = self.balance(id, now);
            same("balances", &own, &ledger.balance(id, clock))?;
            let brief = ledger.brief_balance(id, clock);
            same("brief balances", &(own.available, own.held), &(brief.available, brief.held))?;
        }
        for (key, window) in counters {
            same(
                &format!("counters {key:?}"),
                &self.counter(key, window),
                &ledger.counter(key, window.start),
            )?;
        }
        Ok(())
    }

    /// The whole comparison: every figure of a dump, and the ledger's own invariants.
    pub fn compare_all(&self, ledger: &Ledger) -> Result<(), String> {
        if let Some(violation) = invariants::check(ledger).first() {
            return Err(format!("invariant {violation}"));
        }
        let state = ledger.state();
        same("times", &self.now, &state.now)?;
        let accounts: Vec<_> = self.accounts.iter().map(|(id, account)| self.dump(*id, account)).collect();
        same("accounts", &accounts, &state.accounts)?;
        same("counters", &self.counters(), &state.counters)?;
        let holds: Vec<Held> = self.holds.values().cloned().collect();
        same("holds", &holds, &state.holds)?;
        same("counts of references", &self.posted.len(), &state.references.len())?;
        let refunded: Vec<(HoldId, Nano)> =
            self.refunds.keys().map(|charge| (*charge, nano(self.refunded(*charge)))).collect();
        same("refunds", &refunded, &state.refunded)?;
        self.compare_platform(&state)
    }

    fn compare_platform(&self, state: &State) -> Result<(), String> {
        let mut own = [[0; 8]; 2];
        self.platform.iter().for_each(|((book, place), sum)| own[*book as usize][*place] = *sum);
        same("the platform's accounts", &own, &state.platform)
    }

    fn counter(&self, key: &CounterKey, window: &WindowInstance) -> Counter {
        let used = self.window(key, window.start).map_or(0, |window| window.used());
        let held = self.held_of_layer(key, window.start);
        Counter { used: nano(used).0, held: nano(held).0 }
    }

    fn counters(&self) -> Vec<CounterState> {
        let all =
            self.counters.iter().flat_map(|(key, windows)| windows.iter().map(move |window| (key, window)));
        let mut all: Vec<_> = all
            .map(|(key, window)| CounterState {
                key: *key,
                window: WindowInstance { start: window.start, end: window.end },
                used: nano(window.used()).0,
            })
            .collect();
        all.sort_by_key(|counter| (counter.key, counter.window));
        all
    }

    fn dump(&self, id: AccountId, account: &AuditAccount) -> AccountState {
        let held = self.held_of_lots(id);
        AccountState {
            account: id,
            lots: live_lots(account, &held),
            owed: nano(account.owed()),
            owed_held: nano(held.get(&ledger::LotId(0)).copied().unwrap_or_default()),
            held: nano(self.held(id)),
            families: families(account),
        }
    }

    fn balance(&self, id: AccountId, now: Timestamp) -> Balance {
        let account = self.account(id);
        let of = |kind: LotKind| {
            let lots = account.spendable(now).into_iter().filter(|(lot, _)| lot.kind == kind);
            nano(lots.map(|(_, left)| left).sum())
        };
        let ended = account.lots.iter().filter(|lot| lot.ended(now));
        Balance {
            available: nano(account.available(now)),
            granted: of(LotKind::Granted),
            purchased: of(LotKind::Purchased),
            owed: nano(account.owed()),
            held: nano(self.held(id)),
            expired: nano(ended.map(|lot| lot.left()).sum()),
            lots: live_lots(account, &self.held_of_lots(id)),
            families: families(account),
        }
    }
}

fn families(account: &AuditAccount) -> Families {
    let sum = |family| nano(account.sum(family));
    Families {
        credits: sum(Family::Credits),
        charge_refunds: sum(Family::ChargeRefunds),
        compensation: sum(Family::Compensation),
        adjustments: sum(Family::Adjustments),
        charges: sum(Family::Charges),
        expiries: sum(Family::Expiries),
        order_refunds: sum(Family::OrderRefunds),
        chargebacks: sum(Family::Chargebacks),
    }
}
