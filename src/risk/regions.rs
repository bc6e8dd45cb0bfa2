//! Which region an address is in, by a table of the operator's.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use hashbrown::HashMap;
use ipnet::IpNet;

/// Ranges of addresses with the names of their regions; the narrowest range that has an address counts.
#[derive(Clone, Debug, Default)]
pub struct Regions {
    names: Vec<String>,
    /// Lengths of prefixes that occur, the longest first; IPv4 and IPv6 apart.
    lengths: Vec<(bool, u8)>,
    ranges: HashMap<IpNet, u32>,
}

/// Why a table cannot be used.
#[derive(Debug)]
pub enum RegionsError {
    File {
        path: PathBuf,
        why: std::io::Error,
    },
    /// Line from 1.
    Line {
        line: usize,
        what: &'static str,
    },
}

impl fmt::Display for RegionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RegionsError::File { path, why } => write!(f, "{}: {why}", path.display()),
            RegionsError::Line { line, what } => write!(f, "the table of regions, line {line}: {what}"),
        }
    }
}

impl std::error::Error for RegionsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RegionsError::File { why, .. } => Some(why),
            RegionsError::Line { .. } => None,
        }
    }
}

impl Regions {
    pub fn load(path: &Path) -> Result<Self, RegionsError> {
        let text =
            std::fs::read_to_string(path).map_err(|why| RegionsError::File { path: path.to_owned(), why })?;
        Self::parse(&text)
    }

    /// Lines of `range,region`, such as `192.0.2.0/24,CN`; empty lines and those that begin with # are passed over.
    pub fn parse(text: &str) -> Result<Self, RegionsError> {
        let mut regions = Regions::default();
        let mut numbers: HashMap<String, u32> = HashMap::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let refuse = |what| RegionsError::Line { line: at + 1, what };
            let (range, name) = line.split_once(',').ok_or_else(|| refuse("expected range,region"))?;
            let range: IpNet = range.trim().parse().map_err(|_| refuse("the range is none"))?;
            let name = name.trim();
            if name.is_empty() {
                return Err(refuse("the region has no name"));
            }
            let number = *numbers.entry(name.to_owned()).or_insert_with(|| {
                regions.names.push(name.to_owned());
                u32::try_from(regions.names.len() - 1).unwrap_or(u32::MAX)
            });
            let length = (range.addr().is_ipv4(), range.prefix_len());
            if !regions.lengths.contains(&length) {
                regions.lengths.push(length);
            }
            regions.ranges.insert(range.trunc(), number);
        }
        regions.lengths.sort_unstable_by_key(|(_, length)| std::cmp::Reverse(*length));
        Ok(regions)
    }

    /// The number of an address's region; `None` if it is in no range.
    pub fn of(&self, address: IpAddr) -> Option<u32> {
        let address = address.to_canonical();
        let own = self.lengths.iter().filter(|(is_v4, _)| *is_v4 == address.is_ipv4());
        own.filter_map(|(_, length)| IpNet::new(address, *length).ok())
            .find_map(|range| self.ranges.get(&range.trunc()).copied())
    }

    pub fn name(&self, region: u32) -> Option<&str> {
        self.names.get(region as usize).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_range_counts() {
        let table =
            "# by hand\n10.0.0.0/8,office\n10.1.0.0/16, lab \n\n2001:db8::/32,office\n0.0.0.0/0,elsewhere\n";
        let regions = Regions::parse(table).unwrap();
        let of = |address: &str| regions.of(address.parse().unwrap()).and_then(|region| regions.name(region));
        assert_eq!(of("10.1.2.3"), Some("lab"));
        assert_eq!(of("10.2.2.3"), Some("office"));
        assert_eq!(of("::ffff:10.2.2.3"), Some("office"));
        assert_eq!(of("2001:db8::1"), Some("office"));
        assert_eq!(of("192.0.2.1"), Some("elsewhere"));
        assert_eq!(of("2001:db9::1"), None);
    }

    #[test]
    fn a_wrong_line_is_named() {
        for (table, line) in [("10.0.0.0/8,a\nnonsense\n", 2), ("10.0.0.0/33,a", 1), ("10.0.0.0/8,", 1)] {
            match Regions::parse(table) {
                Err(RegionsError::Line { line: found, .. }) => assert_eq!(found, line, "{table}"),
                other => panic!("{table}: {other:?}"),
            }
        }
    }
}
