//! The characters that get into keys on the way, and their names.
//!
//! Names are those of the Unicode Standard (NamesList.txt); ASCII controls carry their alias.

/// What kind of damage a character stands for; `None` for one that a key may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Blank,
    Newline,
    Invisible,
    FullWidth,
    Quote,
    /// An ellipsis or bullet, as masked keys show it.
    Mask,
    Other,
}

/// `None` for visible ASCII other than quotes: keys of any product are made of it.
pub(super) fn kind(c: char) -> Option<Kind> {
    let kind = match c {
        '"' | '\'' | '`' => Kind::Quote,
        '!'..='~' => return None,
        ' ' | '\t' | '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' => Kind::Blank,
        '\n' | '\u{b}' | '\u{c}' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}' => Kind::Newline,
        '\u{ad}'
        | '\u{34f}'
        | '\u{61c}'
        | '\u{115f}'
        | '\u{1160}'
        | '\u{17b4}'
        | '\u{17b5}'
        | '\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{2800}'
        | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}'
        | '\u{ffa0}'
        | '\u{e0000}'..='\u{e007f}' => Kind::Invisible,
        '\u{3000}' | '\u{ff01}'..='\u{ff5e}' => Kind::FullWidth,
        '\u{ab}'
        | '\u{b4}'
        | '\u{bb}'
        | '\u{2018}'..='\u{201f}'
        | '\u{2032}'
        | '\u{2033}'
        | '\u{2039}'
        | '\u{203a}'
        | '\u{300c}'..='\u{300f}' => Kind::Quote,
        '\u{2026}' | '\u{2022}' | '\u{25cf}' | '\u{22ef}' => Kind::Mask,
        c if c.is_control() => Kind::Invisible,
        _ => Kind::Other,
    };
    Some(kind)
}

/// `U+200B ZERO WIDTH SPACE`; without a name where the table has none.
pub(super) fn describe(c: char) -> String {
    let code = u32::from(c);
    match (name(c), full_width_of(c)) {
        (Some(name), _) => format!("U+{code:04X} {name}"),
        (None, Some(ascii @ ('a'..='z' | 'A'..='Z'))) => {
            let size = if ascii.is_ascii_lowercase() { "SMALL" } else { "CAPITAL" };
            format!("U+{code:04X} FULLWIDTH LATIN {size} LETTER {}", ascii.to_ascii_uppercase())
        }
        (None, Some(ascii)) => match name(ascii) {
            Some(plain) => format!("U+{code:04X} FULLWIDTH {plain}"),
            None => format!("U+{code:04X} FULLWIDTH {ascii}"),
        },
        (None, None) if ('A'..='z').contains(&c) && c.is_ascii_alphabetic() => format!("U+{code:04X} {c}"),
        (None, None) => format!("U+{code:04X}"),
    }
}

/// The ASCII character that a full-width one looks like.
fn full_width_of(c: char) -> Option<char> {
    ('\u{ff01}'..='\u{ff5e}').contains(&c).then(|| char::from_u32(u32::from(c) - 0xfee0)).flatten()
}

fn name(c: char) -> Option<&'static str> {
    NAMES
        .binary_search_by_key(&c, |(known, _)| *known)
        .ok()
        .and_then(|at| NAMES.get(at))
        .map(|(_, name)| *name)
}

/// In the order of the code points.
const NAMES: &[(char, &str)] = &[
    ('\0', "NULL"),
    ('\t', "CHARACTER TABULATION"),
    ('\n', "LINE FEED"),
    ('\u{b}', "LINE TABULATION"),
    ('\u{c}', "FORM FEED"),
    ('\r', "CARRIAGE RETURN"),
    ('\u{1b}', "ESCAPE"),
    (' ', "SPACE"),
    ('!', "EXCLAMATION MARK"),
    ('"', "QUOTATION MARK"),
    ('#', "NUMBER SIGN"),
    ('$', "DOLLAR SIGN"),
    ('%', "PERCENT SIGN"),
    ('&', "AMPERSAND"),
    ('\'', "APOSTROPHE"),
    ('(', "LEFT PARENTHESIS"),
    (')', "RIGHT PARENTHESIS"),
    ('*', "ASTERISK"),
    ('+', "PLUS SIGN"),
    (',', "COMMA"),
    ('-', "HYPHEN-MINUS"),
    ('.', "FULL STOP"),
    ('/', "SOLIDUS"),
    ('0', "DIGIT ZERO"),
    ('1', "DIGIT ONE"),
    ('2', "DIGIT TWO"),
    ('3', "DIGIT THREE"),
    ('4', "DIGIT FOUR"),
    ('5', "DIGIT FIVE"),
    ('6', "DIGIT SIX"),
    ('7', "DIGIT SEVEN"),
    ('8', "DIGIT EIGHT"),
    ('9', "DIGIT NINE"),
    (':', "COLON"),
    (';', "SEMICOLON"),
    ('<', "LESS-THAN SIGN"),
    ('=', "EQUALS SIGN"),
    ('>', "GREATER-THAN SIGN"),
    ('?', "QUESTION MARK"),
    ('@', "COMMERCIAL AT"),
    ('[', "LEFT SQUARE BRACKET"),
    ('\\', "REVERSE SOLIDUS"),
    (']', "RIGHT SQUARE BRACKET"),
    ('^', "CIRCUMFLEX ACCENT"),
    ('_', "LOW LINE"),
    ('`', "GRAVE ACCENT"),
    ('{', "LEFT CURLY BRACKET"),
    ('|', "VERTICAL LINE"),
    ('}', "RIGHT CURLY BRACKET"),
    ('~', "TILDE"),
    ('\u{7f}', "DELETE"),
    ('\u{85}', "NEXT LINE"),
    ('\u{a0}', "NO-BREAK SPACE"),
    ('\u{ab}', "LEFT-POINTING DOUBLE ANGLE QUOTATION MARK"),
    ('\u{ad}', "SOFT HYPHEN"),
    ('\u{b4}', "ACUTE ACCENT"),
    ('\u{bb}', "RIGHT-POINTING DOUBLE ANGLE QUOTATION MARK"),
    ('\u{34f}', "COMBINING GRAPHEME JOINER"),
    ('\u{61c}', "ARABIC LETTER MARK"),
    ('\u{1680}', "OGHAM SPACE MARK"),
    ('\u{180e}', "MONGOLIAN VOWEL SEPARATOR"),
    ('\u{2000}', "EN QUAD"),
    ('\u{2001}', "EM QUAD"),
    ('\u{2002}', "EN SPACE"),
    ('\u{2003}', "EM SPACE"),
    ('\u{2004}', "THREE-PER-EM SPACE"),
    ('\u{2005}', "FOUR-PER-EM SPACE"),
    ('\u{2006}', "SIX-PER-EM SPACE"),
    ('\u{2007}', "FIGURE SPACE"),
    ('\u{2008}', "PUNCTUATION SPACE"),
    ('\u{2009}', "THIN SPACE"),
    ('\u{200a}', "HAIR SPACE"),
    ('\u{200b}', "ZERO WIDTH SPACE"),
    ('\u{200c}', "ZERO WIDTH NON-JOINER"),
    ('\u{200d}', "ZERO WIDTH JOINER"),
    ('\u{200e}', "LEFT-TO-RIGHT MARK"),
    ('\u{200f}', "RIGHT-TO-LEFT MARK"),
    ('\u{2010}', "HYPHEN"),
    ('\u{2011}', "NON-BREAKING HYPHEN"),
    ('\u{2012}', "FIGURE DASH"),
    ('\u{2013}', "EN DASH"),
    ('\u{2014}', "EM DASH"),
    ('\u{2015}', "HORIZONTAL BAR"),
    ('\u{2018}', "LEFT SINGLE QUOTATION MARK"),
    ('\u{2019}', "RIGHT SINGLE QUOTATION MARK"),
    ('\u{201a}', "SINGLE LOW-9 QUOTATION MARK"),
    ('\u{201b}', "SINGLE HIGH-REVERSED-9 QUOTATION MARK"),
    ('\u{201c}', "LEFT DOUBLE QUOTATION MARK"),
    ('\u{201d}', "RIGHT DOUBLE QUOTATION MARK"),
    ('\u{201e}', "DOUBLE LOW-9 QUOTATION MARK"),
    ('\u{201f}', "DOUBLE HIGH-REVERSED-9 QUOTATION MARK"),
    ('\u{2022}', "BULLET"),
    ('\u{2026}', "HORIZONTAL ELLIPSIS"),
    ('\u{2028}', "LINE SEPARATOR"),
    ('\u{2029}', "PARAGRAPH SEPARATOR"),
    ('\u{202a}', "LEFT-TO-RIGHT EMBEDDING"),
    ('\u{202b}', "RIGHT-TO-LEFT EMBEDDING"),
    ('\u{202c}', "POP DIRECTIONAL FORMATTING"),
    ('\u{202d}', "LEFT-TO-RIGHT OVERRIDE"),
    ('\u{202e}', "RIGHT-TO-LEFT OVERRIDE"),
    ('\u{202f}', "NARROW NO-BREAK SPACE"),
    ('\u{2032}', "PRIME"),
    ('\u{2033}', "DOUBLE PRIME"),
    ('\u{2039}', "SINGLE LEFT-POINTING ANGLE QUOTATION MARK"),
    ('\u{203a}', "SINGLE RIGHT-POINTING ANGLE QUOTATION MARK"),
    ('\u{205f}', "MEDIUM MATHEMATICAL SPACE"),
    ('\u{2060}', "WORD JOINER"),
    ('\u{2061}', "FUNCTION APPLICATION"),
    ('\u{2062}', "INVISIBLE TIMES"),
    ('\u{2063}', "INVISIBLE SEPARATOR"),
    ('\u{2064}', "INVISIBLE PLUS"),
    ('\u{2066}', "LEFT-TO-RIGHT ISOLATE"),
    ('\u{2067}', "RIGHT-TO-LEFT ISOLATE"),
    ('\u{2068}', "FIRST STRONG ISOLATE"),
    ('\u{2069}', "POP DIRECTIONAL ISOLATE"),
    ('\u{2212}', "MINUS SIGN"),
    ('\u{25cf}', "BLACK CIRCLE"),
    ('\u{2800}', "BRAILLE PATTERN BLANK"),
    ('\u{3000}', "IDEOGRAPHIC SPACE"),
    ('\u{3002}', "IDEOGRAPHIC FULL STOP"),
    ('\u{300c}', "LEFT CORNER BRACKET"),
    ('\u{300d}', "RIGHT CORNER BRACKET"),
    ('\u{300e}', "LEFT WHITE CORNER BRACKET"),
    ('\u{300f}', "RIGHT WHITE CORNER BRACKET"),
    ('\u{3164}', "HANGUL FILLER"),
    ('\u{feff}', "ZERO WIDTH NO-BREAK SPACE"),
    ('\u{fffd}', "REPLACEMENT CHARACTER"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_in_order() {
        assert!(NAMES.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn characters_are_described_by_code_point_and_name() {
        let table = [
            ('\u{200b}', "U+200B ZERO WIDTH SPACE"),
            ('\n', "U+000A LINE FEED"),
            ('\u{ff34}', "U+FF34 FULLWIDTH LATIN CAPITAL LETTER T"),
            ('\u{ff54}', "U+FF54 FULLWIDTH LATIN SMALL LETTER T"),
            ('\u{ff0d}', "U+FF0D FULLWIDTH HYPHEN-MINUS"),
            ('\u{ff11}', "U+FF11 FULLWIDTH DIGIT ONE"),
            ('x', "U+0078 x"),
            ('\u{430}', "U+0430"),
            ('\u{1f600}', "U+1F600"),
        ];
        for (c, expected) in table {
            assert_eq!(describe(c), expected);
        }
    }
}
