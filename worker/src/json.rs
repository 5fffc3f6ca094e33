//! JSON text to an object, within a depth; the other way is `writer`'s.
//!
//! `request.rs` calls it with a complete body.
//! Promises: an error for the client in every case that serde_json refuses, lone surrogates included,
//! with the place where it stopped; the depth is judged before anything is built.
//! Source: RFC 8259.

mod writer;

use serde_json::{Map, Value, error::Category};

pub(crate) use self::writer::to_vec;
use crate::fields::{Invalid, Source};
use crate::rules::Fault;

/// Parse a body that must be an object.
///
/// # Errors
/// The one failure that stopped it.
pub(crate) fn object(bytes: &[u8], depth_max: usize) -> Result<Map<String, Value>, Invalid> {
    if bytes.is_empty() {
        return Err(Invalid::whole(Source::Body, Fault::missing()));
    }
    if let Some(position) = too_deep(bytes, depth_max) {
        return Err(Invalid::json(position, format!("JSON is nested deeper than {depth_max}")));
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(Invalid::whole(Source::Body, not_an_object())),
        Err(error) => Err(Invalid::json(position(bytes, &error), "JSON decode error")),
    }
}

fn not_an_object() -> Fault {
    Fault::new(
        "model_attributes_type",
        "Input should be a valid dictionary or object to extract fields from",
    )
}

/// The byte at which brackets and braces outside of strings exceed the depth.
fn too_deep(bytes: &[u8], depth_max: usize) -> Option<usize> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for (position, byte) in bytes.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > depth_max {
                    return Some(position);
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// serde_json counts lines and columns; clients of FastAPI know positions in the text.
fn position(bytes: &[u8], error: &serde_json::Error) -> usize {
    if error.classify() == Category::Eof {
        return bytes.len();
    }
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let before: usize = lines.take(error.line().saturating_sub(1)).map(<[u8]>::len).sum();
    before + error.column().saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails(text: &str) -> (String, String) {
        let failure = object(text.as_bytes(), 3).unwrap_err();
        (failure.kind.to_string(), serde_json::to_string(&failure.loc).unwrap())
    }

    #[test]
    fn an_object_is_read() {
        let members = object(br#"{"a":[{"b":"[[[[{"}]}"#, 3).unwrap();
        assert_eq!(members["a"][0]["b"], "[[[[{");
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert_eq!(fails("[1]"), ("model_attributes_type".into(), r#"["body"]"#.into()));
        assert_eq!(fails("null"), ("model_attributes_type".into(), r#"["body"]"#.into()));
        assert_eq!(fails(""), ("missing".into(), r#"["body"]"#.into()));
    }

    #[test]
    fn malformed_json_names_the_position() {
        assert_eq!(fails("{\n\"a\": nope}"), ("json_invalid".into(), r#"["body",8]"#.into()));
        assert_eq!(fails(r#"{"a":"#), ("json_invalid".into(), r#"["body",5]"#.into()));
        assert_eq!(fails(" ").0, "json_invalid");
        assert_eq!(fails("{\"a\":\"\u{1}\"}").0, "json_invalid");
    }

    #[test]
    fn a_lone_surrogate_is_no_text() {
        assert_eq!(fails(r#"{"a":"\ud800"}"#).0, "json_invalid");
        assert_eq!(fails(r#"{"a":"\ud800\u0041"}"#).0, "json_invalid");
        assert_eq!(fails(r#"{"a":"\udc00"}"#).0, "json_invalid");
    }

    #[test]
    fn bytes_that_are_not_utf8_are_refused() {
        assert_eq!(object(b"{\"a\":\"\xff\"}", 3).unwrap_err().kind, "json_invalid");
    }

    #[test]
    fn the_depth_is_the_limit_and_not_one_more() {
        assert!(object(br#"{"a":[[1]]}"#, 3).is_ok());
        assert_eq!(fails(r#"{"a":[[[1]]]}"#), ("json_invalid".into(), r#"["body",7]"#.into()));
    }

    #[test]
    fn quotes_inside_strings_do_not_hide_depth() {
        assert_eq!(fails(r#"{"\"":[[["\\"]]]}"#).0, "json_invalid");
    }
}
