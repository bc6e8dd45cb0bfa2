//! Properties that hold for whatever comes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use jiff::tz::TimeZone;
use ledger::{
    AccountId, Command, CounterKey, CreditSource, Effect, HoldId, HoldOwner, Layer, LayerHold, Ledger, LotId,
    LotKind, Metric, Nano, Price, Reference, ReleaseReason, Timestamp, TokenClass, Usage, WindowInstance,
    WindowKind, Withdrawal, invariants, rate,
};
use proptest::prelude::*;

/// Midnights that do not exist, days that come twice or not at all, half hours.
const ZONES: [&str; 12] = [
    "UTC",
    "America/St_Johns",
    "Pacific/Apia",
    "America/Sao_Paulo",
    "America/Havana",
    "Australia/Lord_Howe",
    "Asia/Gaza",
    "Africa/Casablanca",
    "America/Toronto",
    "Europe/Dublin",
    "Asia/Kolkata",
    "Pacific/Kiritimati",
];

proptest! {
    #[test]
    fn windows_contain_their_time_and_tile_without_a_gap(
        at in -2_000_000_000_000_i64..4_000_000_000_000, zone in prop::sample::select(&ZONES[..]), month: bool,
    ) {
        let kind = if month { WindowKind::Month } else { WindowKind::Day };
        let zone = TimeZone::get(zone).unwrap();
        let window = kind.instance(Timestamp(at), &zone);
        prop_assert!(window.contains(Timestamp(at)));
        for inside in [window.start.0, window.start.0 + (at - window.start.0) / 2, window.end.0 - 1] {
            prop_assert_eq!(kind.instance(Timestamp(inside), &zone), window);
        }
        prop_assert_eq!(kind.instance(window.end, &zone).start, window.end);
        prop_assert_eq!(kind.instance(Timestamp(window.start.0 - 1), &zone).end, window.start);
    }

    #[test]
    fn no_time_panics(at: i64, zone in prop::sample::select(&ZONES[..])) {
        for kind in WindowKind::ALL {
            let window = kind.instance(Timestamp(at), &TimeZone::get(zone).unwrap());
            prop_assert!(window.contains(Timestamp(at)) || at == i64::MAX);
        }
    }

    #[test]
    fn a_price_is_rounded_once_to_the_nearest_or_is_too_large(
        prices in prop::array::uniform8(prop::option::of(0_i64..)), tokens in prop::array::uniform8(0_u64..),
        per_call in 0_i64.., multiplier in 0_u64..,
        shift in 0_u32..64,
    ) {
        let price = Price { per_million: prices.map(|p| p.map(|p| Nano(p >> (shift / 2)))), per_call: Nano(per_call >> shift.min(62)), ..Price::default() };
        let usage = Usage { tokens: tokens.map(|tokens| tokens >> shift), ..Usage::default() };
        if let Ok(rated) = rate(&price, &usage, multiplier >> (shift / 2)) {
            prop_assert!(rated.rounded_off.abs() <= 500_000_000_000);
            let of = |class: TokenClass| rated.lines.iter().find(|line| line.class == class).map_or(0, |line| line.tokens);
            prop_assert!(TokenClass::ALL.into_iter().all(|class| of(class) == usage.get(class)));
        }
    }
}

/// A step of a small history: what, which, how much.
type Step = (u8, u8, i64);

fn command(step: Step, number: u64, held: &[HoldId]) -> Command {
    let (what, which, amount) = step;
    let account = AccountId(u64::from(which % 2));
    let hold = held.get(usize::from(which) % held.len().max(1)).copied().unwrap_or(HoldId(0));
    let amount = Nano(amount);
    let window = WindowInstance {
        start: Timestamp(i64::from(which) * 1_000),
        end: Timestamp(i64::from(which + 1) * 1_000),
    };
    let reference = Reference::new(format!("order:{number}"));
    let counter = CounterKey {
        layer: Layer::Key,
        subject: 1,
        model: 0,
        metric: Metric::Spend,
        window: WindowKind::Day,
    };
    match what % 6 {
        0 => Command::Credit {
            account,
            lot: LotId(number),
            kind: if which > 3 { LotKind::Granted } else { LotKind::Purchased },
            priority: which % 3,
            expires_at: (which % 3 == 0).then_some(Timestamp(amount.0 * 100)),
            amount,
            source: CreditSource::Payment,
            reference,
        },
        1 | 2 => Command::Reserve {
            hold: HoldId(number.into()),
            account,
            amount,
            overdraft: Nano(i64::from(which)),
            layers: [LayerHold { counter, window, limit: Some(200), amount: amount.0 }].into_iter().collect(),
            owner: HoldOwner::Process(1),
        },
        3 => Command::Settle { hold, charge: amount },
        4 => Command::Release { hold, reason: ReleaseReason::Cancelled },
        _ => {
            let kind = Withdrawal::Adjustment;
            Command::Withdraw { account, kind, lot: None, amount, arrears: which > 5, reference }
        }
    }
}

fn history(steps: &[Step]) -> (Ledger, Vec<Effect>) {
    let (mut ledger, mut effects, mut held) = (Ledger::default(), Vec::new(), Vec::new());
    for (number, step) in (1..).zip(steps) {
        let command = command(*step, number, &held);
        let before = ledger.state();
        let Ok(effect) = ledger.execute(&command, Timestamp(number as i64 * 300)) else {
            assert_eq!(ledger.state(), before, "a refusal changes nothing");
            continue;
        };
        if let Effect::Held(hold) = &effect {
            held.push(hold.hold);
        }
        effects.push(effect);
    }
    (ledger, effects)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec((0_u8..6, 0_u8..8, -2_i64..60), 0..60)
}

proptest! {
    #[test]
    fn effects_alone_and_dumps_alone_rebuild_the_books(steps in steps(), cut in 0_usize..60) {
        let (ledger, effects) = history(&steps);
        prop_assert_eq!(invariants::check(&ledger), vec![]);
        let mut replayed = Ledger::default();
        for (index, effect) in effects.iter().enumerate() {
            if index == cut {
                replayed = Ledger::from_state(replayed.state());
            }
            replayed.apply(effect).unwrap();
        }
        prop_assert_eq!(replayed.state(), ledger.state());
        prop_assert_eq!(Ledger::from_state(ledger.state()).state(), ledger.state());
    }

    #[test]
    fn an_effect_of_other_books_fits_or_changes_nothing(here in steps(), there in steps()) {
        let (mut ledger, _) = history(&here);
        for effect in history(&there).1 {
            let before = ledger.state();
            if ledger.apply(&effect).is_err() {
                prop_assert_eq!(ledger.state(), before);
            }
            // A lot may lack money that would have come later; everything else stays whole.
            prop_assert!(invariants::check(&ledger).iter().all(|violation| violation.invariant == "I7"));
        }
    }
}
