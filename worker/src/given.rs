//! What the client sent, and how a value is found in it by name.
//!
//! `fields.rs` asks for one name after the other.
//! Promises: a query or form is split once, and no value is decoded before it is asked for; what cannot be decoded to UTF-8 is a
//! fault of its value and never a replacement character.
//! Does not know: which names are asked for, or what the values mean.
//! Source: the URL standard's application/x-www-form-urlencoded; RFC 3986 section 2.1.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value as Json};

use crate::rules::{Fault, Value};

/// Pairs of a query or form at most.
const PAIRS_MAX: usize = 100;

/// What the client sent: names are decoded once, a value when a field asks for it.
pub(crate) enum Given<'a> {
    /// A JSON object.
    Object(&'a Map<String, Json>),
    /// A query string.
    Query(Pairs<'a>),
    /// A form body.
    Form(Pairs<'a>),
    /// A path, and the pattern it matched.
    Path { pattern: &'a str, path: &'a str },
    /// Nothing: the payload is being described.
    Nothing,
}

impl<'a> Given<'a> {
    /// A query string.
    ///
    /// # Errors
    /// When it has too many parameters.
    pub(crate) fn query(text: &'a str) -> Result<Self, Fault> {
        Pairs::of(text).map(Self::Query)
    }

    /// A form body.
    ///
    /// # Errors
    /// When it has too many fields.
    pub(crate) fn form(text: &'a str) -> Result<Self, Fault> {
        Pairs::of(text).map(Self::Form)
    }

    /// The value called `name`, if there is one.
    ///
    /// # Errors
    /// When it cannot be decoded, or is given more often than it may be.
    pub(crate) fn find(&self, name: &str) -> Result<Option<Value<'a>>, Fault> {
        match self {
            Self::Object(members) => Ok(members.get(name).map(Value::Json)),
            Self::Query(pairs) => pairs.last(name),
            Self::Form(pairs) => pairs.only(name),
            Self::Path { pattern, path } => path_parameter(pattern, path, name),
            Self::Nothing => Ok(None),
        }
    }

    /// All names there are, but those of a path, which the pattern chose.
    pub(crate) fn names(&self) -> Box<dyn Iterator<Item = String> + '_> {
        match self {
            Self::Object(members) => Box::new(members.keys().cloned()),
            Self::Query(pairs) | Self::Form(pairs) => {
                Box::new(pairs.0.iter().map(|(name, _)| name.clone().into_owned()))
            }
            Self::Path { .. } | Self::Nothing => Box::new(std::iter::empty()),
        }
    }
}

/// The `name=value` pairs of a query string or form: names decoded, values not.
pub(crate) struct Pairs<'a>(Vec<(Cow<'a, str>, &'a str)>);

impl<'a> Pairs<'a> {
    fn of(text: &'a str) -> Result<Self, Fault> {
        let mut pairs = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            if pairs.len() == PAIRS_MAX {
                return Err(Fault::value(&format!("give at most {PAIRS_MAX} names")));
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            pairs.push((lossy(name), value));
        }
        Ok(Self(pairs))
    }

    /// Of a repeated query parameter the last one counts, as in FastAPI.
    fn last(&self, name: &str) -> Result<Option<Value<'a>>, Fault> {
        self.named(name).last().map(|raw| decode(raw).map(Value::Text)).transpose()
    }

    /// A form field may be there once: RFC 6749 section 3.2 forbids to choose among several.
    fn only(&self, name: &str) -> Result<Option<Value<'a>>, Fault> {
        let mut values = self.named(name);
        let Some(raw) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(Fault::value("field given more than once"));
        }
        decode(raw).map(|text| Some(Value::Text(text)))
    }

    fn named(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| *value)
    }
}

/// Walk pattern and path side by side; the router has matched them, so the segments correspond.
fn path_parameter<'a>(
    pattern: &str,
    path: &'a str,
    name: &str,
) -> Result<Option<Value<'a>>, Fault> {
    let mut rest = path;
    for expected in pattern.split('/') {
        let (segment, after) = rest.split_once('/').unwrap_or((rest, ""));
        if parameter_name(expected) == Some(name) {
            let raw = if expected.starts_with("{*") { rest } else { segment };
            return utf8(raw).map(|text| Some(Value::Text(text)));
        }
        rest = after;
    }
    Ok(None)
}

/// The name in a `{name}` or `{*name}` segment of a pattern.
pub(crate) fn parameter_name(segment: &str) -> Option<&str> {
    let name = segment.strip_prefix('{')?.strip_suffix('}')?;
    Some(name.strip_prefix('*').unwrap_or(name))
}

/// Decode a form-encoded text: plus is a space, `%XX` a byte.
fn decode(raw: &str) -> Result<Cow<'_, str>, Fault> {
    if !raw.contains('+') {
        return utf8(raw);
    }
    utf8(&raw.replace('+', " ")).map(|text| Cow::Owned(text.into_owned()))
}

fn utf8(raw: &str) -> Result<Cow<'_, str>, Fault> {
    percent_decode_str(raw).decode_utf8().map_err(|_| Fault::unicode())
}

/// A name, decoded as far as it can be: an undecodable one equals no field.
fn lossy(raw: &str) -> Cow<'_, str> {
    if !raw.contains('+') {
        return percent_decode_str(raw).decode_utf8_lossy();
    }
    Cow::Owned(percent_decode_str(&raw.replace('+', " ")).decode_utf8_lossy().into_owned())
}
