//! Writing JSON, one value behind the other. Commas come by themselves.

use std::io::Write as _;

use super::text::Text;

/// Writes behind what is in its buffer. A caller opens and closes what belongs together.
#[derive(Debug)]
pub struct Json<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> Json<'o> {
    pub fn new(out: &'o mut Vec<u8>) -> Self {
        Self { out }
    }

    pub fn open(&mut self, bracket: char) -> &mut Self {
        self.comma();
        self.out.push(if bracket == '[' { b'[' } else { b'{' });
        self
    }

    pub fn close(&mut self, bracket: char) -> &mut Self {
        self.out.push(if bracket == ']' { b']' } else { b'}' });
        self
    }

    /// The name of a member; its value comes next. Nothing in the name is to be escaped.
    pub fn member(&mut self, name: &'static str) -> &mut Self {
        self.comma();
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self
    }

    pub fn text(&mut self, text: &Text<'_>) -> &mut Self {
        self.texts([text])
    }

    /// One string made of several.
    pub fn texts<'t, 'a: 't>(&mut self, texts: impl IntoIterator<Item = &'t Text<'a>>) -> &mut Self {
        self.comma();
        self.out.push(b'"');
        for text in texts {
            self.out.extend_from_slice(text.escaped().as_bytes());
        }
        self.out.push(b'"');
        self
    }

    /// A string that is not escaped yet.
    pub fn plain(&mut self, text: &str) -> &mut Self {
        self.comma();
        // Writing into a Vec cannot fail.
        let _written = serde_json::to_writer(&mut *self.out, text);
        self
    }

    /// JSON as it is, but without line breaks: an event of a stream could not carry them.
    pub fn raw(&mut self, json: &str) -> &mut Self {
        self.comma();
        let json = json.trim();
        if json.bytes().any(|byte| matches!(byte, b'\n' | b'\r')) {
            // Inside of a string they would be escaped, so they are blanks.
            let blank = |byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte };
            self.out.extend(json.bytes().map(blank));
        } else {
            self.out.extend_from_slice(json.as_bytes());
        }
        self
    }

    /// Values or members that were written before, with their commas; nothing where there are none.
    pub fn written(&mut self, before: &[u8]) -> &mut Self {
        if !before.is_empty() {
            self.comma();
            self.out.extend_from_slice(before);
        }
        self
    }

    pub fn whole(&mut self, number: u64) -> &mut Self {
        self.comma();
        let _written = write!(self.out, "{number}");
        self
    }

    pub fn flag(&mut self, flag: bool) -> &mut Self {
        self.raw(if flag { "true" } else { "false" })
    }

    /// A value stands behind another one, unless something has just been opened or named. A blank is the end of
    /// what an event begins with.
    fn comma(&mut self) {
        if !matches!(self.out.last(), None | Some(b'{' | b'[' | b':' | b' ')) {
            self.out.push(b',');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_come_by_themselves() {
        let mut out = b"data: ".to_vec();
        let mut json = Json::new(&mut out);
        json.open('{').member("a").open('[').whole(1).flag(true).open('{').close('}').close(']');
        json.member("b").plain("x\n").member("c").raw("{\n\"d\":1} ").member("e").texts(&[Text::word("f")]);
        json.close('}');
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"data: {"a":[1,true,{}],"b":"x\n","c":{ "d":1},"e":"f"}"#
        );
    }
}
