//! Requests that come again: the key that a client gives to one, and the answer that is kept under it.
//!
//! Handlers take [`IdempotencyKey`] and answer with [`Repeatable`]; the application keeps a [`Kept`] where
//! every worker finds it.
//! Promises: an answer that is given again has the status, the body, the `Location` and the `ETag` of the
//! first, and says that it is none. Without the header nothing is kept, and nothing costs more.
//! Does not know: where answers are kept, for how long, and for whom.
//! Source: draft-ietf-httpapi-idempotency-key-header-07, RFC 9651 section 3.3.3 (strings).

use std::rc::Rc;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{ETAG, HeaderMap, HeaderName, HeaderValue, LOCATION};
use hyper::http::request::Parts;
use serde_json::json;

use crate::error::HttpError;
use crate::kinds::INTERNAL;
use crate::problem::Problem;
use crate::request::{Call, Input, InputSpec};
use crate::response::{Response, Success, SuccessSpec, json_bytes, whole};

/// The header of a request that is not to be done twice.
pub(crate) static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The header of an answer that was given before.
pub(crate) static IDEMPOTENCY_REPLAYED: HeaderName =
    HeaderName::from_static("idempotency-replayed");
/// Bytes of a key.
const KEY_MAX_BYTES: usize = 255;

/// `Idempotency-Key`: do this once, however often it is sent.
pub struct IdempotencyKey(Rc<Parts>);

impl IdempotencyKey {
    const WANT: &str = "one key of 1 to 255 characters, in quotes or plain, as a UUID is";

    /// Read it; `None` where it is not there. A key is the same with and without quotes.
    ///
    /// # Errors
    /// [`HttpError::Field`].
    pub fn read(&self) -> Result<Option<&str>, HttpError> {
        let mut lines = self.0.headers.get_all(&IDEMPOTENCY_KEY).iter();
        let Some(line) = lines.next() else { return Ok(None) };
        match key(line).filter(|_| lines.next().is_none()) {
            Some(key) => Ok(Some(key)),
            None => Err(HttpError::Field { name: IDEMPOTENCY_KEY.clone(), want: Self::WANT }),
        }
    }
}

impl Input for IdempotencyKey {
    fn take(call: &mut Call) -> Self {
        Self(Rc::clone(&call.head))
    }

    fn spec() -> InputSpec {
        let about = "A new one (a UUID) for each thing that is to be done once: sent again with the same \
            key and body, the request is answered as before, for 24 hours.";
        // No example: what tries the API would send it each time.
        let pattern = r#"^("[ !#-~]{1,255}"|[!#-+\--:<-~]{1,255})$"#;
        let schema = json!({"type": "string", "pattern": pattern});
        InputSpec::headers::<Self>(&[("Idempotency-Key", about)], &schema)
    }
}

/// What the header names, if that is a key.
pub(crate) fn key(line: &HeaderValue) -> Option<&str> {
    let text = line.to_str().ok()?.trim_ascii();
    let quoted = text.strip_prefix('"').map(|rest| rest.strip_suffix('"'));
    let is_right: fn(u8) -> bool = match quoted {
        Some(_) => |byte| matches!(byte, b' '..=b'~') && byte != b'"',
        // Plain, it is neither a list nor something with parameters.
        None => |byte| byte.is_ascii_graphic() && !b"\",;".contains(&byte),
    };
    let key = quoted.unwrap_or(Some(text))?;
    ((1..=KEY_MAX_BYTES).contains(&key.len()) && key.bytes().all(is_right)).then_some(key)
}

/// What is kept of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its status.
    pub status: u16,
    /// Its `Location`.
    pub location: Option<String>,
    /// Its `ETag`.
    pub etag: Option<String>,
    /// Its body, which is JSON.
    pub body: Bytes,
}

impl Kept {
    /// Write an answer, to keep it.
    ///
    /// # Errors
    /// As [`Success::respond`].
    pub fn of(success: impl Success) -> Result<Self, Problem> {
        let (head, body) = success.respond()?.into_parts();
        Ok(Self {
            status: head.status.as_u16(),
            location: text(&head.headers, &LOCATION),
            etag: text(&head.headers, &ETAG),
            body: whole(body),
        })
    }

    fn respond(self) -> Option<Response> {
        let status = StatusCode::from_u16(self.status).ok()?;
        let mut response = json_bytes(status, self.body);
        for (name, text) in [(LOCATION, self.location), (ETAG, self.etag)] {
            if let Some(text) = text {
                response.headers_mut().insert(name, text.try_into().ok()?);
            }
        }
        Some(response)
    }
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// A success that may have been answered before.
#[derive(Debug)]
pub enum Repeatable<S> {
    /// Nobody asked to keep it.
    Fresh(S),
    /// It is kept since now.
    Kept(Kept),
    /// It was kept before.
    Replayed(Kept),
}

impl<S: Success> Success for Repeatable<S> {
    fn spec() -> SuccessSpec {
        S::spec().with_header(IDEMPOTENCY_REPLAYED.clone())
    }

    fn respond(self) -> Result<Response, Problem> {
        let broken = || Problem::new(&INTERNAL).log("what was kept of an answer is none");
        match self {
            Self::Fresh(success) => success.respond(),
            Self::Kept(kept) => kept.respond().ok_or_else(broken),
            Self::Replayed(kept) => {
                let mut response = kept.respond().ok_or_else(broken)?;
                let replayed = HeaderValue::from_static("true");
                response.headers_mut().insert(IDEMPOTENCY_REPLAYED.clone(), replayed);
                Ok(response)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::CONTENT_TYPE;

    use super::*;
    use crate::conditions::{EntityTag, Tagged};
    use crate::response::{Created, Reply};

    fn read(lines: &[&str]) -> Result<Option<String>, HttpError> {
        let mut head = hyper::Request::new(()).into_parts().0;
        for line in lines {
            head.headers
                .append(&IDEMPOTENCY_KEY, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        Ok(IdempotencyKey(Rc::new(head)).read()?.map(str::to_owned))
    }

    #[test]
    fn a_key_is_read_with_and_without_quotes() {
        assert_eq!(read(&[]).unwrap(), None);
        let long = "k".repeat(255);
        for (line, key) in [
            ("8e03978e-40d5", "8e03978e-40d5"),
            (" \"8e03978e-40d5\" ", "8e03978e-40d5"),
            ("\"a b, c;d\"", "a b, c;d"),
            ("a=b/c\\d", "a=b/c\\d"),
            (&long, &long),
        ] {
            assert_eq!(read(&[line]).unwrap().as_deref(), Some(key), "{line}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let long = "k".repeat(256);
        let bad =
            ["", " ", "\"\"", "\"", "\"a", "a\"", "a b", "a,b", "a;b=1", "\"a\"b\"", "ä", &long];
        for line in bad {
            assert!(matches!(read(&[line]), Err(HttpError::Field { .. })), "{line:?}");
        }
        assert!(read(&["a", "a"]).is_err(), "two keys are none");
    }

    #[test]
    fn an_answer_is_given_again_as_it_was() {
        type Answer = Repeatable<Tagged<Created<&'static str>>>;
        let made = || Tagged {
            success: Created { location: "/things/1".to_owned(), body: "x" },
            etag: Some(EntityTag::of(1)),
            is_known: false,
        };
        let kept = Kept::of(made()).unwrap();
        let fresh = Answer::Fresh(made()).respond().unwrap();
        let first = Answer::Kept(kept.clone()).respond().unwrap();
        let mut again = Answer::Replayed(kept.clone()).respond().unwrap();
        assert_eq!(fresh.headers(), first.headers());
        assert_eq!(again.headers_mut().remove(&IDEMPOTENCY_REPLAYED).unwrap(), "true");
        assert_eq!(fresh.headers(), again.headers());
        assert_eq!(
            (again.status(), &again.headers()[CONTENT_TYPE]),
            (fresh.status(), &"application/json".parse().unwrap())
        );
        assert_eq!(Kept::of(Answer::Replayed(kept.clone())).unwrap(), kept);
        assert_eq!(&*kept.body, b"\"x\"");
    }

    #[test]
    fn what_cannot_be_an_answer_is_a_mistake_of_the_server() {
        let good = Kept { status: 201, location: None, etag: None, body: Bytes::new() };
        for kept in [
            Kept { status: 1, ..good.clone() },
            Kept { location: Some("/a\nb".to_owned()), ..good },
        ] {
            assert_eq!(<Repeatable<Reply<()>>>::Kept(kept).respond().unwrap_err().status(), 500);
        }
    }
}
