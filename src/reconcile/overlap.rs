//! Files that overlap: a row that several files of one maker have is one row.
//!
//! Must never: take away what one file has twice.

use std::io;

use hashbrown::HashMap;
use ledger::Nano;

use super::row::{Class, Row};
use super::sort::Sorted;

/// What is the same in two files, beside the key.
type Same<'r> = (usize, Class, Option<Nano>, &'r str, i64);

fn same(row: &Row, maker: usize) -> Same<'_> {
    (maker, row.class, row.amount, &row.currency, row.at_ms)
}

/// The import that a row of a file is of, as its name tells it.
pub fn import_of(row: &Row) -> &str {
    row.name.split(':').next().unwrap_or_default()
}

/// Rows of one key. Of those with the same class, amount, currency and time only one file's stay: the one's that has most of them,
/// the first of several. Files of different makers never overlap.
pub fn once(mut rows: Vec<Row>, maker: &dyn Fn(&Row) -> usize) -> Vec<Row> {
    let is_of_one =
        rows.windows(2).all(|pair| matches!(pair, [one, other] if import_of(one) == import_of(other)));
    if !is_of_one {
        let mut stay = which_stay(&rows, maker).into_iter();
        rows.retain(|_| stay.next().unwrap_or(true));
    }
    rows
}

fn which_stay(rows: &[Row], maker: &dyn Fn(&Row) -> usize) -> Vec<bool> {
    let mut times: HashMap<(Same<'_>, &str), usize> = HashMap::new();
    let mut most: HashMap<Same<'_>, (&str, usize)> = HashMap::new();
    for row in rows {
        let (of, import) = (same(row, maker(row)), import_of(row));
        let times = times.entry((of, import)).or_default();
        *times += 1;
        let most = most.entry(of).or_insert((import, 0));
        if *times > most.1 {
            *most = (import, *times);
        }
    }
    let stays =
        |row: &Row| most.get(&same(row, maker(row))).is_none_or(|(import, _)| *import == import_of(row));
    rows.iter().map(stays).collect()
}

/// How many rows of a file those of earlier ones have, too: each as often as one of them has it.
pub fn count_known(mut rows: Sorted, mut earlier: Sorted) -> io::Result<u64> {
    let mut known = 0;
    while let Some(key) = rows.peek().map(|row| row.key.clone()) {
        while earlier.peek().is_some_and(|row| row.key < key) {
            earlier.next_row()?;
        }
        let (here, there) = (rows.take_key(&key)?, once(earlier.take_key(&key)?, &|_| 0));
        let mut left: HashMap<Same<'_>, u64> = HashMap::new();
        there.iter().for_each(|row| *left.entry(same(row, 0)).or_default() += 1);
        for row in &here {
            if let Some(left) = left.get_mut(&same(row, 0)).filter(|left| **left > 0) {
                *left -= 1;
                known += 1;
            }
        }
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, amount: i64, at_ms: i64) -> Row {
        Row { name: name.into(), ..Row::new("pi_1", Class::Payment, Some(Nano(amount)), "USD", at_ms) }
    }

    fn left(rows: &[(&str, i64, i64)], maker: &dyn Fn(&Row) -> usize) -> Vec<String> {
        let rows = rows.iter().map(|(name, amount, at_ms)| row(name, *amount, *at_ms)).collect();
        once(rows, maker).into_iter().map(|row| row.name.into()).collect()
    }

    #[test]
    fn b7_a_row_of_several_files_is_one_and_twice_in_one_file_is_two() {
        let any = |_: &Row| 0;
        assert_eq!(left(&[("imp_1:2", 5, 0), ("imp_2:2", 5, 0)], &any), ["imp_1:2"]);
        assert_eq!(left(&[("imp_1:2", 5, 0), ("imp_1:3", 5, 0)], &any), ["imp_1:2", "imp_1:3"]);
        // The file that has it twice counts.
        let rows = [("imp_1:2", 5, 0), ("imp_2:2", 5, 0), ("imp_2:3", 5, 0), ("imp_3:9", 5, 0)];
        assert_eq!(left(&rows, &any), ["imp_2:2", "imp_2:3"]);
        // Another amount, or another time, is another row.
        let rows = [("imp_1:2", 5, 0), ("imp_2:2", 6, 0), ("imp_2:3", 5, 1)];
        assert_eq!(left(&rows, &any).len(), 3);
        let by_import = |row: &Row| usize::from(import_of(row) == "imp_2");
        assert_eq!(left(&[("imp_1:2", 5, 0), ("imp_2:2", 5, 0)], &by_import).len(), 2);
    }
}
