//! What an outcome does to the auditor's own lists, and the rules that no outcome may break.

use ledger::{
    AccountId, Command, CreditSource, Debit, Effect, Held, HeldLayer, LotKind, Metric, Refunded, Settled,
    Withdrawal,
};

use super::funds::meaning;
use super::{AuditLot, AuditWindow, Auditor, Family, REMEMBERED_MS};

/// Places of the platform's accounts in a dump.
const REVENUE: usize = 0;
const PAYMENT_PROVIDER: usize = 1;
const PROMOTIONS: usize = 2;
const BREAKAGE: usize = 3;
const COMPENSATION: usize = 4;
const PLATFORM_LOSS: usize = 5;
const UPSTREAM_COST: usize = 6;
const SUSPENSE: usize = 7;

impl Auditor {
    /// Writes an outcome down.
    pub fn commit(&mut self, command: &Command, effect: &Effect) {
        self.now = self.now.max(effect.at());
        let id = effect.account();
        if !matches!(effect, Effect::CostAccrued(_)) {
            self.accounts.entry(id).or_default();
        }
        match effect {
            Effect::Held(held) => self.commit_hold(held),
            Effect::Settled(settled) => self.commit_settlement(settled),
            Effect::Released(released) => {
                self.holds.remove(&released.hold);
                released.returned.iter().for_each(|part| self.give_lot(id, part));
            }
            Effect::Credited(credit) => {
                let debit = Debit {
                    lot: credit.lot,
                    kind: credit.kind,
                    priority: credit.priority,
                    expires_at: credit.expires_at,
                    amount: credit.amount,
                };
                let mut lot = new_lot(&debit);
                lot.moves.push(credit.amount.0 - credit.repaid.0);
                let account = self.accounts.entry(id).or_default();
                account.lots.push(lot);
                account.debts.push(-credit.repaid.0);
                let (family, source) = match credit.source {
                    CreditSource::Promotion => (Family::Credits, PROMOTIONS),
                    CreditSource::Payment => (Family::Credits, PAYMENT_PROVIDER),
                    CreditSource::Compensation => (Family::Compensation, COMPENSATION),
                    CreditSource::Adjustment => (Family::Adjustments, SUSPENSE),
                };
                account.events.push((family, credit.amount.0));
                self.platform(id, source, -credit.amount.0);
                self.posted.insert(credit.reference.0.to_string(), meaning(command));
            }
            Effect::Expired(expired) => {
                self.take_lot(id, &expired.debit);
                self.event(id, Family::Expiries, expired.debit.amount.0);
                self.platform(id, BREAKAGE, expired.debit.amount.0);
            }
            Effect::Refunded(refunded) => self.commit_refund(refunded, command),
            Effect::Withdrawn(withdrawn) => {
                withdrawn.debits.iter().for_each(|part| self.take_lot(id, part));
                let owes = withdrawn.debits.iter().filter(|part| part.kind == LotKind::Overdraft);
                let arrears: i128 = owes.map(|part| i128::from(part.amount.0)).sum();
                self.accounts.entry(id).or_default().arrears += arrears;
                let amount: i64 = withdrawn.debits.iter().map(|part| part.amount.0).sum();
                let (family, sign, sink) = match withdrawn.kind {
                    Withdrawal::Adjustment => (Family::Adjustments, -1, SUSPENSE),
                    Withdrawal::OrderRefund => (Family::OrderRefunds, 1, PAYMENT_PROVIDER),
                    Withdrawal::Chargeback => (Family::Chargebacks, 1, PAYMENT_PROVIDER),
                };
                self.event(id, family, sign * amount);
                self.platform(id, sink, amount);
                self.posted.insert(withdrawn.reference.0.to_string(), meaning(command));
            }
            Effect::CostAccrued(cost) => {
                self.platform(id, UPSTREAM_COST, -cost.amount.0);
                self.platform(id, SUSPENSE, cost.amount.0);
            }
        }
        self.nobody_owes_too_much(id);
    }

    fn commit_hold(&mut self, held: &Held) {
        held.debits.iter().for_each(|part| self.take_lot(held.account, part));
        let account = self.accounts.entry(held.account).or_default();
        account.overdraft = account.overdraft.max(held.overdraft.0.into());
        self.holds.insert(held.hold, held.clone());
        for layer in &held.layers {
            self.see_window(layer);
            self.limit_kept(layer);
        }
    }

    /// Remembers the window that a hold names. A new one of its counter lets those be forgotten that ended a
    /// while ago and that nothing is held in.
    fn see_window(&mut self, layer: &HeldLayer) {
        let (now, mut windows) = (self.now, self.counters.remove(&layer.counter).unwrap_or_default());
        if let Some(known) = windows.iter_mut().find(|window| window.start == layer.window.start) {
            known.end = known.end.max(layer.window.end);
            known.limit_changed |= known.limit != layer.limit;
        } else {
            let open = self.holds.values().flat_map(|hold| &hold.layers);
            windows.retain(|window| {
                let ended = i128::from(window.end.0) + i128::from(REMEMBERED_MS) <= i128::from(now.0);
                let of =
                    |held: &HeldLayer| held.counter == layer.counter && held.window.start == window.start;
                !ended || open.clone().any(of)
            });
            let (start, end) = (layer.window.start, layer.window.end);
            windows.push(AuditWindow { start, end, used: vec![], limit: layer.limit, limit_changed: false });
        }
        self.counters.insert(layer.counter, windows);
    }

    fn commit_settlement(&mut self, settled: &Settled) {
        let id = settled.account;
        let hold = self.holds.remove(&settled.hold).expect("the auditor foretold this settlement");
        settled.returned.iter().for_each(|part| self.give_lot(id, part));
        settled.overrun.iter().for_each(|part| self.take_lot(id, part));
        let paid = settled.debits.iter().chain(&settled.overrun);
        let charged: i64 = paid.map(|part| part.amount.0).sum();
        self.event(id, Family::Charges, charged);
        self.platform(id, REVENUE, settled.cost.0);
        self.platform(id, PLATFORM_LOSS, -settled.loss.0);
        for layer in &hold.layers {
            let used = if layer.counter.metric == Metric::Spend { charged } else { layer.amount };
            match self.window_of(layer) {
                Some(window) => window.used.push(used),
                None => self.findings.push(format!("a window was forgotten under an open hold: {layer:?}")),
            }
            self.limit_kept(layer);
        }
    }

    fn commit_refund(&mut self, refunded: &Refunded, command: &Command) {
        let id = refunded.account;
        refunded.credits.iter().for_each(|part| self.give_lot(id, part));
        let amount: i64 = refunded.credits.iter().map(|part| part.amount.0).sum();
        self.event(id, Family::ChargeRefunds, amount);
        self.platform(id, REVENUE, -amount);
        self.refunds.entry(refunded.hold).or_default().push(amount);
        self.posted.insert(refunded.reference.0.to_string(), meaning(command));
        for layer in &refunded.layers {
            if let Some(window) = self.window_of(layer) {
                window.used.push(-amount);
            }
        }
        // I10, from the charge itself.
        if let Command::Refund { charge, .. } = command {
            let charged: i128 = charge.debits.iter().map(|part| i128::from(part.amount.0)).sum();
            if self.refunded(charge.hold) > charged {
                self.findings.push(format!("I10: more is refunded of {:?} than was charged", charge.hold));
            }
        }
    }

    fn window_of(&mut self, layer: &HeldLayer) -> Option<&mut AuditWindow> {
        let windows = self.counters.get_mut(&layer.counter)?;
        windows.iter_mut().find(|window| window.start == layer.window.start)
    }

    fn give_lot(&mut self, id: AccountId, part: &Debit) {
        self.move_lot(id, part, part.amount.0);
    }

    fn take_lot(&mut self, id: AccountId, part: &Debit) {
        self.move_lot(id, part, -part.amount.0);
    }

    fn move_lot(&mut self, id: AccountId, part: &Debit, amount: i64) {
        let account = self.accounts.entry(id).or_default();
        if part.kind == LotKind::Overdraft {
            account.debts.push(-amount);
            return;
        }
        // The lot that moved last stands last: of two with the same number, it is the one that lives.
        let is_it = |lot: &AuditLot| lot.part(part.amount.0.into()) == *part;
        let place = account.lots.iter().rposition(is_it);
        let mut lot = place.map_or_else(|| new_lot(part), |place| account.lots.remove(place));
        lot.moves.push(amount);
        account.lots.push(lot);
    }

    fn event(&mut self, id: AccountId, family: Family, amount: i64) {
        self.accounts.entry(id).or_default().events.push((family, amount));
    }

    fn platform(&mut self, id: AccountId, place: usize, amount: i64) {
        *self.platform.entry((id.book(), place)).or_default() += i128::from(amount);
    }

    /// I7: below zero only within an overdraft that was declared, or in arrears.
    fn nobody_owes_too_much(&mut self, id: AccountId) {
        let Some(account) = self.accounts.get(&id) else { return };
        let (owed, allowed) = (account.owed(), account.overdraft + account.arrears);
        if owed < 0 || owed > allowed {
            self.findings.push(format!("I7: {id:?} owes {owed}, {allowed} was ever allowed"));
        }
        if let Some(lot) = account.lots.iter().find(|lot| lot.left() < 0) {
            self.findings.push(format!("I7: {:?} has {}", lot.id, lot.left()));
        }
    }

    /// I7: what is used and held stays within a limit that was never changed.
    fn limit_kept(&mut self, layer: &HeldLayer) {
        let Some(window) = self.window(&layer.counter, layer.window.start) else { return };
        let Some(limit) = window.limit.filter(|limit| *limit >= 0 && !window.limit_changed) else { return };
        let sum = window.used() + self.held_of_layer(&layer.counter, layer.window.start);
        if sum > i128::from(limit) {
            self.findings.push(format!("I7: {sum} used and held of a limit of {limit}: {layer:?}"));
        }
    }
}

fn new_lot(part: &Debit) -> AuditLot {
    AuditLot { id: part.lot, kind: part.kind, priority: part.priority, end: part.expires_at, moves: vec![] }
}
