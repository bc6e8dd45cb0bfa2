//! The whole state as plain data in one order, so that it can be written out as a checkpoint, and so that
//! equal books give equal bytes.

use crate::accounts::{Account, Families};
use crate::counters::{Counter, CounterKey, Instance};
use crate::effect::Held;
use crate::holds::Hold;
use crate::ids::{AccountId, HoldId, Timestamp};
use crate::ledger::Ledger;
use crate::lots::Lot;
use crate::money::Nano;
use crate::postings::Platform;
use crate::window::WindowInstance;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub now: Timestamp,
    pub accounts: Vec<AccountState>,
    /// Without what open holds count; that comes back with them.
    pub counters: Vec<CounterState>,
    pub holds: Vec<Held>,
    pub references: Vec<(u128, u128)>,
    pub refunded: Vec<(HoldId, Nano)>,
    /// Sums of the platform's accounts, by book.
    pub platform: [[i128; 8]; 2],
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountState {
    pub account: AccountId,
    pub lots: Vec<Lot>,
    pub owed: Nano,
    pub owed_held: Nano,
    pub held: Nano,
    pub families: Families,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterState {
    pub key: CounterKey,
    pub window: WindowInstance,
    pub used: i64,
}

impl Hold {
    /// The effect that made it.
    pub fn as_held(&self) -> Held {
        Held {
            hold: self.id,
            account: self.account,
            at: self.at,
            amount: self.amount,
            overdraft: self.overdraft,
            owner: self.owner,
            debits: self.debits.clone(),
            layers: self.layers.clone(),
        }
    }
}

impl Ledger {
    pub fn state(&self) -> State {
        let mut accounts: Vec<_> = self.accounts.iter().map(|(id, account)| account.dump(*id)).collect();
        accounts.sort_by_key(|account| account.account);
        let dump = |instance: &Instance| CounterState {
            key: instance.key,
            window: instance.window,
            used: instance.counter.used,
        };
        let mut counters: Vec<_> = self.counters.iter().map(|(_, instance)| dump(instance)).collect();
        counters.sort_by_key(|counter| (counter.key, counter.window));
        let mut holds: Vec<_> = self.holds.values().map(Hold::as_held).collect();
        holds.sort_by_key(|hold| hold.hold);
        let mut references: Vec<_> =
            self.references.iter().map(|(name, content)| (*name, *content)).collect();
        references.sort_unstable();
        let mut refunded: Vec<_> = self.refunded.iter().map(|(charge, amount)| (*charge, *amount)).collect();
        refunded.sort_unstable();
        State { now: self.now, accounts, counters, holds, references, refunded, platform: self.platform.sums }
    }

    /// The books as they were dumped.
    pub fn from_state(state: State) -> Self {
        let mut ledger = Ledger {
            now: state.now,
            references: state.references.into_iter().collect(),
            refunded: state.refunded.into_iter().collect(),
            ..Ledger::default()
        };
        for counter in state.counters {
            let figures = Counter { used: counter.used, held: 0 };
            ledger.counters.insert(Instance {
                key: counter.key,
                window: counter.window,
                counter: figures,
                holds: 0,
            });
        }
        state.holds.iter().for_each(|hold| ledger.count_hold(hold));
        ledger.accounts =
            state.accounts.into_iter().map(|dump| (dump.account, Account::from(dump))).collect();
        ledger.platform = Platform { sums: state.platform };
        ledger
    }
}

impl Account {
    fn dump(&self, account: AccountId) -> AccountState {
        AccountState {
            account,
            lots: self.lots.clone(),
            owed: self.owed,
            owed_held: self.owed_held,
            held: self.held,
            families: self.families,
        }
    }
}

impl From<AccountState> for Account {
    fn from(dump: AccountState) -> Self {
        let mut lots = dump.lots;
        lots.sort_by_key(Lot::rank);
        Account { lots, owed: dump.owed, owed_held: dump.owed_held, held: dump.held, families: dump.families }
    }
}
