//! Texts with `*` for any run of characters and `?` for one.

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern(Box<str>);

impl Pattern {
    pub fn new(text: &str) -> Self {
        Pattern(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_plain(&self) -> bool {
        !self.0.contains(['*', '?'])
    }

    /// No allocation; a star is tried again from the place of its last match alone, so the time is at most the product
    /// of both lengths.
    pub fn matches(&self, text: &str) -> bool {
        let (pattern, text) = (self.0.as_bytes(), text.as_bytes());
        let (mut p, mut t) = (0, 0);
        // Behind the last star, and where its run ends for now.
        let mut retry: Option<(usize, usize)> = None;
        while let Some(byte) = text.get(t) {
            match pattern.get(p) {
                Some(b'*') => {
                    p += 1;
                    retry = Some((p, t));
                }
                Some(b'?') => {
                    p += 1;
                    t = next_char(text, t);
                }
                Some(wanted) if wanted == byte => {
                    p += 1;
                    t += 1;
                }
                _ => {
                    let Some((behind, end)) = retry else { return false };
                    (p, t) = (behind, end + 1);
                    retry = Some((behind, t));
                }
            }
        }
        pattern.get(p..).is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
    }

    /// Whether every text that the other matches is matched by this one; `false` where that is not plain to see.
    pub fn covers(&self, other: &Pattern) -> bool {
        // A star of the other stands for anything, so only a star of this one can match it: as a text of its own it does.
        self == other || (!self.0.contains('?') && self.matches(&other.0))
    }
}

/// A `?` stands for a whole character, which may have several bytes.
fn next_char(text: &[u8], at: usize) -> usize {
    let is_inside = |byte: &&u8| **byte & 0b1100_0000 == 0b1000_0000;
    at + 1 + text.iter().skip(at + 1).take_while(is_inside).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The obvious way, exponential.
    fn naive(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('*', rest)) => (0..=text.len()).any(|skip| naive(rest, &text[skip..])),
            Some(('?', rest)) => text.split_first().is_some_and(|(_, more)| naive(rest, more)),
            Some((wanted, rest)) => {
                text.split_first().is_some_and(|(first, more)| first == wanted && naive(rest, more))
            }
        }
    }

    proptest! {
        #[test]
        fn a_pattern_matches_what_the_obvious_way_matches(pattern in "[ab*?中]{0,8}", text in "[ab中]{0,10}") {
            let [p, t] = [&pattern, &text].map(|text| text.chars().collect::<Vec<_>>());
            prop_assert_eq!(Pattern::new(&pattern).matches(&text), naive(&p, &t));
        }

        #[test]
        fn what_covers_a_pattern_matches_all_that_it_matches(
            one in "[ab*]{0,6}", other in "[ab*?]{0,6}", text in "[ab]{0,8}",
        ) {
            let (one, other) = (Pattern::new(&one), Pattern::new(&other));
            if one.covers(&other) && other.matches(&text) {
                prop_assert!(one.matches(&text), "{:?} {:?} {}", one, other, text);
            }
        }
    }

    #[test]
    fn many_stars_take_no_time() {
        let pattern = Pattern::new(&format!("{}b", "a*".repeat(120)));
        assert!(!pattern.matches(&"a".repeat(250)));
    }
}
