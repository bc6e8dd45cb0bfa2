//! A form (`multipart/form-data`, RFC 7578) read where it lies: its fields are slices of the body, and what is in its
//! files is never looked at.
//!
//! Must never: panic on any bytes, allocate beyond a small entry for each of a bounded number of fields, or take a
//! field that stands twice for one.

use memchr::memmem;
use smallvec::SmallVec;

use super::json::model_name;
use super::{Endpoint, ModelRequest, RequestFault, Span, Spans, utf8};

/// Fields of one form.
const FIELDS_MAX: usize = 256;
/// Headers of one field, in bytes.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// Longest boundary (RFC 2046, 5.1.1).
const BOUNDARY_BYTES_MAX: usize = 70;

pub(super) struct Form<'a> {
    media_type: &'a str,
    body_len: usize,
    fields: SmallVec<[Field<'a>; 16]>,
}

/// One field; of a file `content` is all that there is.
#[derive(Clone, Copy)]
pub(super) struct Field<'a> {
    pub name: &'a str,
    pub content: &'a [u8],
    /// First byte of the content in the body.
    at: usize,
    head: Head<'a>,
}

/// What the head of a field says, each as it stands there.
#[derive(Clone, Copy, Default)]
struct Head<'a> {
    name: &'a str,
    file_name: Option<&'a str>,
    /// The file's name once more, in the form for any letters (RFC 5987).
    file_name_extended: Option<&'a str>,
    media_type: Option<&'a str>,
}

/// A field whose content is a text.
#[derive(Clone, Copy)]
pub(super) struct TextField<'a> {
    name: &'a str,
    pub value: &'a str,
    at: usize,
}

impl<'a> Form<'a> {
    pub fn read(media_type: &'a str, body: &'a [u8]) -> Result<Self, RequestFault> {
        let boundary = boundary(media_type).ok_or_else(|| broken("no boundary"))?;
        let delimiter = format!("\r\n--{boundary}");
        let mut form = Form { media_type, body_len: body.len(), fields: SmallVec::new() };
        // The first one stands at the beginning, or behind a preamble that nobody reads.
        let first = delimiter.as_bytes().get(2..).unwrap_or_default();
        let mut at = match body.starts_with(first) {
            true => first.len(),
            false => {
                memmem::find(body, delimiter.as_bytes()).ok_or_else(|| broken("no field"))? + delimiter.len()
            }
        };
        let finder = memmem::Finder::new(delimiter.as_bytes());
        loop {
            let rest = body.get(at..).unwrap_or_default();
            if rest.starts_with(b"--") {
                return Ok(form);
            }
            let padding = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
            if rest.get(padding..padding + 2) != Some(b"\r\n") {
                return Err(broken("a broken boundary"));
            }
            let begin = at + padding + 2;
            let end = body.get(begin..).and_then(|rest| finder.find(rest));
            let end = begin + end.ok_or_else(|| broken("a field that does not end"))?;
            form.push(body.get(begin..end).unwrap_or_default(), begin)?;
            at = end + delimiter.len();
        }
    }

    fn push(&mut self, field: &'a [u8], begin: usize) -> Result<(), RequestFault> {
        if self.fields.len() == FIELDS_MAX {
            return Err(broken("more than 256 fields"));
        }
        let head = field.get(..field.len().min(HEAD_BYTES_MAX)).unwrap_or_default();
        let length = memmem::find(head, b"\r\n\r\n").ok_or_else(|| broken("a field without a head"))?;
        let head = read_head(head.get(..length).unwrap_or_default());
        let head = head.ok_or_else(|| broken("a field without a name"))?;
        let content = field.get(length + 4..).unwrap_or_default();
        self.fields.push(Field { name: head.name, content, at: begin + length + 4, head });
        Ok(())
    }

    pub fn fields(&self) -> impl Iterator<Item = &Field<'a>> {
        self.fields.iter()
    }

    /// A field that may stand once, as a text.
    pub fn text(&self, name: &'static str) -> Result<Option<TextField<'a>>, RequestFault> {
        let mut of_name = self.fields.iter().filter(|field| field.name == name);
        let Some(field) = of_name.next() else { return Ok(None) };
        if of_name.next().is_some() {
            return Err(RequestFault::parameter(name, "the field once", "the field twice"));
        }
        let value =
            utf8(field.content).map_err(|_| RequestFault::parameter(name, "a text", "other bytes"))?;
        Ok(Some(TextField { name: field.name, value, at: field.at }))
    }

    /// A request for the model that the form names.
    pub fn request(&self, endpoint: Endpoint) -> Result<ModelRequest, RequestFault> {
        let missing = || RequestFault::parameter("model", "the name of a model", "nothing");
        let field = self.text("model")?.ok_or_else(missing)?;
        let spans = Spans { body_len: self.body_len, model: field.span(), ..Spans::default() };
        let mut request = ModelRequest::plain(endpoint, model_name(field.value.into())?, spans);
        request.form = Some(self.media_type.into());
        Ok(request)
    }
}

impl TextField<'_> {
    fn span(&self) -> Span {
        self.at..self.at + self.value.len()
    }

    pub fn flag(&self) -> Result<bool, RequestFault> {
        match self.value {
            "true" | "True" | "1" => Ok(true),
            "false" | "False" | "0" | "" => Ok(false),
            _ => Err(RequestFault::parameter(self.name, "true or false", "another text")),
        }
    }

    /// From 1 on.
    pub fn number(&self, max: u32, what: &'static str) -> Result<u32, RequestFault> {
        match self.value.parse() {
            Ok(number) if (1..=max).contains(&number) => Ok(number),
            _ => Err(RequestFault::parameter(self.name, what, "another text")),
        }
    }
}

fn broken(got: &'static str) -> RequestFault {
    RequestFault::parameter("body", "a form (multipart/form-data)", got)
}

/// Gives what a form says, part by part and in order, whatever its boundary: of each field the name, the file's names,
/// the media type and the content. Nothing is copied. What is no form gives nothing.
pub fn each_part(media_type: &str, body: &[u8], mut give: impl FnMut(&[u8])) {
    let Ok(form) = Form::read(media_type, body) else { return };
    for Field { content, head, .. } in form.fields() {
        give(head.name.as_bytes());
        for told in [head.file_name, head.file_name_extended, head.media_type] {
            // One that is not there differs from an empty one.
            give(if told.is_some() { b"1" } else { b"" });
            give(told.unwrap_or_default().as_bytes());
        }
        give(content);
    }
}

/// Whether a body of this media type is a form.
pub(super) fn is_form(media_type: &str) -> bool {
    media_type.split(';').next().is_some_and(|name| name.trim().eq_ignore_ascii_case("multipart/form-data"))
}

/// The boundary of a form that was read, and where the first field's begins.
pub(super) fn first_delimiter<'t>(media_type: &'t str, body: &[u8]) -> Option<(&'t str, usize)> {
    let boundary = boundary(media_type).filter(|_| is_form(media_type))?;
    let delimiter = format!("\r\n--{boundary}");
    match body.starts_with(delimiter.as_bytes().get(2..)?) {
        true => Some((boundary, 0)),
        false => Some((boundary, memmem::find(body, delimiter.as_bytes())? + 2)),
    }
}

/// The boundary that a media type tells.
fn boundary(media_type: &str) -> Option<&str> {
    let parameters = media_type.split(';').skip(1).map(str::trim);
    let found = parameters.filter_map(|parameter| parameter.split_once('='));
    let (_, value) = found.into_iter().find(|(name, _)| name.trim().eq_ignore_ascii_case("boundary"))?;
    let value = value.trim().trim_matches('"');
    (1..=BOUNDARY_BYTES_MAX).contains(&value.len()).then_some(value)
}

/// Reads the head of a field. What two readers could understand in two ways is no name: a field that is hidden from
/// this one would be a way round every bound.
fn read_head(head: &[u8]) -> Option<Head<'_>> {
    let head = std::str::from_utf8(head).ok()?;
    let (mut disposition, mut media_type) = (None, None);
    for line in head.split("\r\n") {
        let (header, value) = line.split_once(':')?;
        if header.eq_ignore_ascii_case("content-disposition") && disposition.replace(value).is_some() {
            return None;
        }
        // Of no use in a form (RFC 7578, 4.7), and followed by some.
        if header.eq_ignore_ascii_case("content-transfer-encoding") {
            return None;
        }
        if header.eq_ignore_ascii_case("content-type") {
            media_type = Some(value.trim());
        }
    }
    let mut rest = disposition?.trim().strip_prefix("form-data")?.trim_start();
    let (mut name, mut file_name, mut file_name_extended) = (None, None, None);
    while let Some(behind) = rest.strip_prefix(';') {
        let (parameter, value) = behind.split_once('=')?;
        let found;
        (found, rest) = parameter_value(value.trim_start())?;
        match parameter.trim().to_ascii_lowercase().as_str() {
            "name*" => return None,
            "name" if name.replace(found).is_some() => return None,
            "filename" => file_name = Some(found),
            "filename*" => file_name_extended = Some(found),
            _ => {}
        }
        rest = rest.trim_start();
    }
    let is_name = |name: &&str| !name.is_empty() && !name.contains(['\\', '%', '"']);
    let name = name.filter(|name| rest.is_empty() && is_name(name))?;
    Some(Head { name, file_name, file_name_extended, media_type })
}

/// A parameter's value, quoted or not, and what follows it.
fn parameter_value(text: &str) -> Option<(&str, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return Some((value.trim_end(), rest));
    };
    let mut is_escaped = false;
    let end = quoted.find(|letter| {
        let ends = letter == '"' && !is_escaped;
        is_escaped = letter == '\\' && !is_escaped;
        ends
    })?;
    Some((quoted.get(..end)?, quoted.get(end + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=\"x y\"";

    fn names(body: &str) -> Result<Vec<String>, String> {
        let form = Form::read(TYPE, body.as_bytes()).map_err(|fault| fault.to_string())?;
        Ok(form.fields().map(|field| format!("{}:{}", field.name, field.content.len())).collect())
    }

    #[test]
    fn fields_are_found_wherever_they_lie() {
        let model = "--x y\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n";
        let file = "--x y  \r\ncontent-type: audio/wav\r\nCONTENT-DISPOSITION: form-data; name=file; \
                    filename=\"a;b.wav\"\r\n\r\n\r\n--x\r\n\r\n";
        let expected = ["model:1", "file:7"].map(str::to_owned).to_vec();
        assert_eq!(names(&format!("{model}{file}--x y--")), Ok(expected.clone()));
        assert_eq!(names(&format!("nobody reads this\r\n{model}{file}--x y--\r\nnor this")), Ok(expected));
    }

    /// F3: what a form says is the same under every boundary, and another one for every other part of it.
    #[test]
    fn f3_a_form_says_the_same_under_every_boundary() {
        let said = |boundary: &str, head: &str, content: &str| {
            let mut parts = Vec::new();
            let body = format!("--{boundary}\r\n{head}\r\n\r\n{content}\r\n--{boundary}--");
            let media_type = format!("multipart/form-data; boundary={boundary}");
            each_part(&media_type, body.as_bytes(), |part| parts.push(part.to_vec()));
            assert!(!parts.is_empty());
            parts
        };
        let head = |disposition: &str| format!("Content-Disposition: form-data; {disposition}");
        let plain = said("a", &head("name=\"file\"; filename=\"a.wav\""), "x");
        let others = [
            (head("name=\"fila\"; filename=\"a.wav\""), "x"),
            (head("name=\"file\"; filename=\"b.wav\""), "x"),
            (head("name=\"file\"; filename*=\"a.wav\""), "x"),
            (head("name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav"), "x"),
            (head("name=\"file\"; filename=\"a.wav\""), "y"),
            (head("name=\"file\""), "x"),
        ];
        for (head, content) in others {
            assert_ne!(said("a", &head, content), plain, "{head}");
        }
        assert_eq!(said("bb", "content-disposition: form-data; filename=a.wav; name=file", "x"), plain);
        let mut given = 0;
        each_part(TYPE, b"no form", |_| given += 1);
        assert_eq!(given, 0);
    }

    #[test]
    fn a_broken_form_is_a_fault_and_nothing_else() {
        let whole = "--x y\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n--x y--";
        for end in 0..whole.len() {
            assert!(names(&whole[..end]).is_err(), "{end}");
        }
        assert!(names(&whole.replace("name=", "nome=")).is_err());
        assert!(Form::read("multipart/form-data", whole.as_bytes()).is_err());
        let hidden = |disposition: &str| {
            names(&format!("--x y\r\nContent-Disposition: form-data; {disposition}\r\n\r\n9\r\n--x y--"))
        };
        assert_eq!(hidden("filename=\"; name=a; \\\"\"; name=\"n\""), Ok(vec!["n:1".into()]));
        for odd in ["name=a; name=n", "name=a; name*=utf-8''n", "name=\"\\n\"", "name=\"n", "nom"] {
            assert!(hidden(odd).is_err(), "{odd}");
        }
        let many = "--x y\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n".repeat(257);
        assert!(names(&format!("{many}--x y--")).is_err());
        let twice = format!("{}{whole}", &whole[..whole.len() - 7]);
        let form = Form::read(TYPE, twice.as_bytes()).unwrap();
        assert!(form.text("model").is_err());
    }
}
