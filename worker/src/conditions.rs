//! Conditions: which entity tags a client has, and what it wants only because of them.
//!
//! Handlers take [`Conditions`] and read them when they want to; they answer with [`Tagged`].
//! Promises: a field that is no list of entity tags is a 400 and never taken for an absent one; reading costs
//! nothing where there is none; a client that has what it asks for gets a 304 without a body.
//! Does not know: what a tag stands for (the application makes them, of versions of rows), nor `If-Range`:
//! no answer of ours is in parts. Times are no conditions either: no answer has a `Last-Modified`.
//! Source: RFC 9110 sections 8.8.3 and 13.

use std::io::Write;
use std::rc::Rc;

use hyper::StatusCode;
use hyper::header::{ETAG, GetAll, HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use hyper::http::request::Parts;
use serde_json::json;

use crate::error::HttpError;
use crate::kinds::{BAD_REQUEST, PRECONDITION_FAILED};
use crate::problem::{Kind, Problem};
use crate::request::{Call, Input, InputSpec};
use crate::response::{Response, Success, SuccessSpec, empty};

/// Tags that a client may name.
const TAGS_MAX: usize = 100;

/// Of a number in quotes: its sign and 19 digits.
const QUOTED_MAX_BYTES: usize = 22;

/// The entity tag of what is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityTag(HeaderValue);

impl EntityTag {
    /// The strong tag of this number: that of a version, for example.
    #[must_use]
    pub fn of(number: i64) -> Self {
        let mut quoted = [0; QUOTED_MAX_BYTES];
        let mut free = &mut quoted[..];
        let written = write!(free, "\"{number}\"").map(|()| QUOTED_MAX_BYTES - free.len());
        let value = written.map(|length| HeaderValue::from_bytes(&quoted[..length]));
        Self(value.expect("it has room").expect("digits in quotes are a value"))
    }

    /// The weak tag of this text, for what means the same and may be other bytes.
    ///
    /// # Panics
    /// Where the text has anything but letters, digits and dashes: a mistake of the application.
    #[must_use]
    pub fn weak(text: &str) -> Self {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        assert!(is_plain, "{text} is no tag of ours");
        Self(HeaderValue::try_from(format!("W/\"{text}\"")).expect("it is plain text"))
    }

    /// As the `ETag` header has it.
    #[must_use]
    pub fn value(&self) -> &HeaderValue {
        &self.0
    }

    fn is_weak(&self) -> bool {
        self.0.as_bytes().starts_with(b"W/")
    }

    /// What stands in its quotes.
    fn text(&self) -> &[u8] {
        let value = self.0.as_bytes();
        let quoted = value.strip_prefix(b"W/").unwrap_or(value);
        &quoted[1..quoted.len() - 1]
    }
}

/// The tags that a condition names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tags {
    /// `*`: whatever there is.
    Any,
    /// One of these.
    Of(Vec<Tag>),
}

/// One of the tags that a condition names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    weak: bool,
    text: Box<[u8]>,
}

impl Tag {
    /// What stands in its quotes, if that is text; of weak ones, too.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        str::from_utf8(&self.text).ok()
    }

    /// The same; `None` for a weak one, which is equal to no other where it matters that every byte is.
    #[must_use]
    pub fn strong(&self) -> Option<&str> {
        self.text().filter(|_| !self.weak)
    }
}

impl Tags {
    /// Whether a client that names them has what is tagged so; weak ones count.
    fn include(&self, etag: &EntityTag) -> bool {
        match self {
            Self::Any => true,
            Self::Of(tags) => tags.iter().any(|tag| *tag.text == *etag.text()),
        }
    }

    /// Whether they name what is tagged so, byte by byte; weak ones do not count.
    fn include_strongly(&self, etag: &EntityTag) -> bool {
        match self {
            Self::Any => true,
            Self::Of(tags) => {
                let is_it = |tag: &Tag| !tag.weak && *tag.text == *etag.text();
                !etag.is_weak() && tags.iter().any(is_it)
            }
        }
    }

    /// Those of the field of this name; `None`: there is no such field.
    fn read(headers: &HeaderMap, name: HeaderName) -> Result<Option<Self>, HttpError> {
        let mut lines = headers.get_all(&name).iter();
        let Some(first) = lines.next() else { return Ok(None) };
        if lines.next().is_none() && first.as_bytes().trim_ascii() == b"*" {
            return Ok(Some(Self::Any));
        }
        match list(headers.get_all(&name)) {
            Some(tags) => Ok(Some(Self::Of(tags))),
            None => Err(HttpError::Field { name, want: WANT }),
        }
    }
}

const WANT: &str = "* or a list of at most 100 entity tags, each in quotes";

/// The tags of all lines; `None` where they are no list, or one of nothing.
fn list(lines: GetAll<'_, HeaderValue>) -> Option<Vec<Tag>> {
    let mut tags = Vec::new();
    for line in lines {
        let mut rest = line.as_bytes().trim_ascii();
        while !rest.is_empty() {
            // A list may have empty elements: a recipient skips them.
            if let Some(after) = rest.strip_prefix(b",") {
                rest = after.trim_ascii_start();
                continue;
            }
            let (tag, after) = first(rest)?;
            rest = after.trim_ascii_start();
            tags.push(tag);
            if tags.len() > TAGS_MAX || !(rest.is_empty() || rest.starts_with(b",")) {
                return None;
            }
        }
    }
    (!tags.is_empty()).then_some(tags)
}

/// The tag that the text begins with, and what is behind it.
fn first(text: &[u8]) -> Option<(Tag, &[u8])> {
    let (weak, quoted) = match text.strip_prefix(b"W/") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let inner = quoted.strip_prefix(b"\"")?;
    let end = inner.iter().position(|byte| *byte == b'"')?;
    let (text, behind) = (&inner[..end], &inner[end + 1..]);
    text.iter().all(|byte| is_in_tag(*byte)).then(|| (Tag { weak, text: text.into() }, behind))
}

/// What may stand within the quotes.
fn is_in_tag(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x7e | 0x80..)
}

/// `If-Match` and `If-None-Match`: what a request is meant for, and what not.
pub struct Conditions(Rc<Parts>);

impl Conditions {
    /// Read them.
    ///
    /// # Errors
    /// [`HttpError::Field`].
    pub fn read(&self) -> Result<Preconditions, HttpError> {
        Preconditions::of(&self.0.headers)
    }
}

impl Input for Conditions {
    fn take(call: &mut Call) -> Self {
        Self(Rc::clone(&call.head))
    }

    fn spec() -> InputSpec {
        const PROBLEMS: &[&Kind] = &[&BAD_REQUEST, &PRECONDITION_FAILED];
        const FIELDS: &[(&str, &str)] = &[
            (
                "If-Match",
                "The `ETag` of what the request is meant for: refused (412) where that has changed.",
            ),
            (
                "If-None-Match",
                "The `ETag` of what the request is not meant for, `*` for whatever is there: a read of \
                that is a 304, a change of it is refused (412).",
            ),
        ];
        let tag = r#"(W/)?"[!#-~]*""#;
        // No example: what tries the API would send it, and nobody has that version.
        let schema = json!({"type": "string", "pattern": format!(r"^(\*|{tag}( *, *{tag})*)$")});
        InputSpec { problems: PROBLEMS, ..InputSpec::headers::<Self>(FIELDS, &schema) }
    }
}

/// The conditions of a request, each `None` where there is no such field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preconditions {
    /// `If-Match`: do it only if what is there has one of these tags.
    pub if_match: Option<Tags>,
    /// `If-None-Match`: do it only if what is there has none of these tags.
    pub if_none_match: Option<Tags>,
}

impl Preconditions {
    /// Those of a request with these headers.
    ///
    /// # Errors
    /// [`HttpError::Field`].
    pub fn of(headers: &HeaderMap) -> Result<Self, HttpError> {
        let if_match = Tags::read(headers, IF_MATCH)?;
        Ok(Self { if_match, if_none_match: Tags::read(headers, IF_NONE_MATCH)? })
    }

    /// Whether the request is not meant for what has this tag. That is looked at before all else.
    #[must_use]
    pub fn rule_out(&self, etag: &EntityTag) -> bool {
        self.if_match.as_ref().is_some_and(|tags| !tags.include_strongly(etag))
    }

    /// Whether who reads what has this tag has it already.
    #[must_use]
    pub fn know(&self, etag: &EntityTag) -> bool {
        self.if_none_match.as_ref().is_some_and(|tags| tags.include(etag))
    }
}

/// A success under an entity tag; for a client that has it already, 304 instead.
#[derive(Debug)]
pub struct Tagged<S> {
    /// The success.
    pub success: S,
    /// Its tag; `None` where it has none.
    pub etag: Option<EntityTag>,
    /// Whether the client has it.
    pub is_known: bool,
}

impl<S> From<S> for Tagged<S> {
    /// Without a tag.
    fn from(success: S) -> Self {
        Self { success, etag: None, is_known: false }
    }
}

impl<S: Success> Success for Tagged<S> {
    fn spec() -> SuccessSpec {
        S::spec().with_header(ETAG)
    }

    fn respond(self) -> Result<Response, Problem> {
        let mut response = match self.is_known {
            true => empty(StatusCode::NOT_MODIFIED),
            false => self.success.respond()?,
        };
        if let Some(EntityTag(value)) = self.etag {
            response.headers_mut().insert(ETAG, value);
        }
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::response::Reply;

    fn read(lines: &[&str]) -> Result<Option<Tags>, HttpError> {
        let value = |line: &&str| HeaderValue::from_bytes(line.as_bytes()).unwrap();
        let headers = lines.iter().map(|line| (IF_MATCH, value(line))).collect();
        Tags::read(&headers, IF_MATCH)
    }

    fn texts(lines: &[&str]) -> Vec<(bool, String)> {
        let Ok(Some(Tags::Of(tags))) = read(lines) else { panic!("{lines:?} are no tags") };
        let text = |tag: &Tag| (tag.weak, String::from_utf8(tag.text.to_vec()).unwrap());
        tags.iter().map(text).collect()
    }

    fn strong(text: &str) -> (bool, String) {
        (false, text.to_owned())
    }

    #[test]
    fn a_list_of_tags_is_read_from_all_lines() {
        assert_eq!(read(&[]).unwrap(), None);
        assert_eq!(read(&[" * "]).unwrap(), Some(Tags::Any));
        assert_eq!(texts(&[r#""1""#]), [strong("1")]);
        assert_eq!(texts(&[r#""""#]), [strong("")]);
        assert_eq!(texts(&[r#""a,b" ,	W/"2""#]), [strong("a,b"), (true, "2".to_owned())]);
        assert_eq!(texts(&[r#", "1",, "#, r#""2""#]), [strong("1"), strong("2")]);
        assert_eq!(texts(&["\"ä\\\""]), [strong("ä\\")]);
    }

    #[test]
    fn what_is_no_list_of_tags_is_refused() {
        let bad = [
            "",
            " ",
            ",",
            "1",
            "\"1",
            "1\"",
            "'1'",
            "w/\"1\"",
            "W/1",
            "W/ \"1\"",
            "\"1\" \"2\"",
            "\"1\"2",
            "\"1\", *",
            "*, \"1\"",
            "**",
            "\"a b\"",
            "\"1\"; q=1",
            "\"a\tb\"",
        ];
        for text in bad {
            assert!(matches!(read(&[text]), Err(HttpError::Field { .. })), "{text:?}");
        }
        assert!(read(&["*", "*"]).is_err(), "a star stands alone");
        let hundred = ["\"1\""; 100].join(",");
        assert_eq!(texts(&[&hundred]).len(), 100);
        assert!(read(&[&hundred, "\"1\""]).is_err(), "one more");
    }

    #[test]
    fn a_weak_tag_will_do_for_a_copy_and_not_for_a_change() {
        let etag = EntityTag::of(7);
        for (text, is_named) in
            [(r#""7""#, true), (r#"W/"7""#, true), ("*", true), (r#""8""#, false), (r#""""#, false)]
        {
            assert_eq!(read(&[text]).unwrap().unwrap().include(&etag), is_named, "{text}");
        }
        for (text, is_named) in
            [(r#""7""#, true), (r#"W/"7""#, false), ("*", true), (r#"W/"7", "7""#, true)]
        {
            let tags = read(&[text]).unwrap().unwrap();
            assert_eq!(tags.include_strongly(&etag), is_named, "{text}");
        }
        let Some(Tags::Of(tags)) = read(&[r#"W/"7", "7""#]).unwrap() else { panic!("two tags") };
        assert_eq!((tags[0].strong(), tags[1].strong()), (None, Some("7")));
        assert_eq!((tags[0].text(), tags[1].text()), (Some("7"), Some("7")));
    }

    #[test]
    fn what_has_a_weak_tag_is_known_by_it_and_meant_by_none() {
        let etag = EntityTag::weak("7f");
        assert_eq!(etag.value(), "W/\"7f\"");
        for (text, is_known, is_meant) in
            [(r#""7f""#, true, false), (r#"W/"7f""#, true, false), ("*", true, true)]
        {
            let tags = read(&[text]).unwrap();
            let wanted = Preconditions { if_match: tags.clone(), if_none_match: tags };
            assert_eq!(
                (wanted.know(&etag), !wanted.rule_out(&etag)),
                (is_known, is_meant),
                "{text}"
            );
        }
    }

    #[test]
    fn every_number_has_its_tag() {
        for (number, tag) in [(0, "\"0\""), (7, "\"7\""), (i64::MIN, "\"-9223372036854775808\"")] {
            assert_eq!(EntityTag::of(number).value(), tag);
        }
    }

    #[test]
    fn who_has_it_gets_its_tag_and_nothing_else() {
        let tagged = |is_known| {
            Tagged { success: Reply("x"), etag: Some(EntityTag::of(7)), is_known }.respond()
        };
        let (whole, known) = (tagged(false).unwrap(), tagged(true).unwrap());
        assert_eq!((whole.status(), known.status()), (StatusCode::OK, StatusCode::NOT_MODIFIED));
        assert_eq!((&whole.headers()[ETAG], known.headers().len()), (&known.headers()[ETAG], 1));
        assert!(<Tagged<Reply<bool>>>::spec().headers.contains(&ETAG));
    }
}
