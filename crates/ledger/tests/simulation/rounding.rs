//! The auditor's check of a price: the exact cost by its own sum, and the definition of rounding half to even
//! instead of a way to do it.

use ledger::{Nano, Price, TokenClass, Usage, rate};

use crate::random::Random;

/// Prices a random usage, checks the result, and gives it.
pub fn priced(random: &mut Random) -> Result<Nano, String> {
    let mut price = Price { per_call: Nano(random.between(0, 20)), ..Price::default() };
    let mut usage = Usage::default();
    for class in TokenClass::ALL {
        // Halves and whole numbers of millionths, so that ties are common.
        let per_million = random.percent(60).then(|| Nano(random.between(0, 40) * 250_000));
        price.per_million[class as usize] = per_million;
        usage.set(class, if random.percent(40) { 0 } else { random.between(0, 7) as u64 });
    }
    let multiplier = [1_000_000, 500_000, 1_250_000, 0, 1, 3_000_000][random.below(6)];
    let rated = rate(&price, &usage, multiplier).map_err(|why| format!("rate() refused: {why}"))?;
    let of_class = |class: usize| {
        let parent = if [3, 4, 6].contains(&class) { 3 } else { 0 };
        let per_million = price.per_million[class].or(price.per_million[parent]).map_or(0, |price| price.0);
        i128::from(usage.tokens[class]) * i128::from(per_million)
    };
    let tokens: i128 = (0..TokenClass::COUNT).map(of_class).sum();
    let exact = (tokens + i128::from(price.per_call.0) * 1_000_000) * i128::from(multiplier);
    let scale = 1_000_000_000_000_i128;
    let total = i128::from(rated.total.0);
    let off = exact - total * scale;
    let nearest = off.abs() * 2 < scale || (off.abs() * 2 == scale && total % 2 == 0);
    if !nearest || rated.rounded_off != off {
        return Err(format!("rounding: {exact}/{scale} became {total}, {} off", rated.rounded_off));
    }
    Ok(rated.total)
}
