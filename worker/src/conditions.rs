//! Conditions: which entity tags a client has, and what it wants only because of them.
//!
//! Handlers take [`IfMatch`] or [`IfNoneMatch`] and read it when they want to; they answer with [`Tagged`].
//! Promises: a field that is no list of entity tags is a 400 and never taken for an absent one; reading costs
//! nothing where there is none; a client that has what it asks for gets a 304 without a body.
//! Does not know: what a tag stands for. The application makes them, of versions of rows.
//! Source: RFC 9110 sections 8.8.3, 13.1.1 and 13.1.2.

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

/// The entity tag of what is answered: a strong one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityTag(HeaderValue);

impl EntityTag {
    /// The tag of this number: that of a version, for example.
    #[must_use]
    pub fn of(number: i64) -> Self {
        let mut quoted = [0; QUOTED_MAX_BYTES];
        let mut free = &mut quoted[..];
        let written = write!(free, "\"{number}\"").map(|()| QUOTED_MAX_BYTES - free.len());
        let value = written.map(|length| HeaderValue::from_bytes(&quoted[..length]));
        Self(value.expect("it has room").expect("digits in quotes are a value"))
    }

    /// As the `ETag` header has it.
    #[must_use]
    pub fn value(&self) -> &HeaderValue {
        &self.0
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
    /// What stands in its quotes; `None` for a weak one, which is equal to no other where it matters that
    /// every byte is.
    #[must_use]
    pub fn strong(&self) -> Option<&str> {
        str::from_utf8(&self.text).ok().filter(|_| !self.weak)
    }
}

impl Tags {
    /// Whether a client that names them has what is tagged so; weak ones count.
    #[must_use]
    pub fn include(&self, etag: &EntityTag) -> bool {
        let value = etag.0.as_bytes();
        match self {
            Self::Any => true,
            Self::Of(tags) => tags.iter().any(|tag| *tag.text == value[1..value.len() - 1]),
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

fn spec<T>(name: &'static str, about: &'static str) -> InputSpec {
    let tag = r#"(W/)?"[!#-~]*""#;
    // No example: what tries the API would send it, and nobody has that version.
    let schema = json!({"type": "string", "pattern": format!(r"^(\*|{tag}( *, *{tag})*)$")});
    InputSpec::header::<T>(name, about, schema)
}

/// `If-Match`: do it only if what is there has one of these tags.
pub struct IfMatch(Rc<Parts>);

impl IfMatch {
    /// Read it; `None` where it is not there.
    ///
    /// # Errors
    /// [`HttpError::Field`].
    pub fn read(&self) -> Result<Option<Tags>, HttpError> {
        Tags::read(&self.0.headers, IF_MATCH)
    }
}

impl Input for IfMatch {
    fn take(call: &mut Call) -> Self {
        Self(Rc::clone(&call.head))
    }

    fn spec() -> InputSpec {
        const PROBLEMS: &[&Kind] = &[&BAD_REQUEST, &PRECONDITION_FAILED];
        let about =
            "The `ETag` of what is to be changed: it is refused (412) when that has changed.";
        InputSpec { problems: PROBLEMS, ..spec::<Self>("If-Match", about) }
    }
}

/// `If-None-Match`: answer only if what is there has none of these tags.
pub struct IfNoneMatch(Rc<Parts>);

impl IfNoneMatch {
    /// Read it; `None` where it is not there.
    ///
    /// # Errors
    /// [`HttpError::Field`].
    pub fn read(&self) -> Result<Option<Tags>, HttpError> {
        Tags::read(&self.0.headers, IF_NONE_MATCH)
    }
}

impl Input for IfNoneMatch {
    fn take(call: &mut Call) -> Self {
        Self(Rc::clone(&call.head))
    }

    fn spec() -> InputSpec {
        spec::<Self>(
            "If-None-Match",
            "The `ETag` of what the client has: 304 if that is all there is.",
        )
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
        let Some(Tags::Of(tags)) = read(&[r#"W/"7", "7""#]).unwrap() else { panic!("two tags") };
        assert_eq!((tags[0].strong(), tags[1].strong()), (None, Some("7")));
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
