//! Request ids: the client's own when it is harmless, else a fresh UUIDv7.
//!
//! `answer.rs` asks once per request; the id is in the response, in problems and in the log.
//! Promises: an id from outside cannot break a log line or a header.
//! Does not know: who reads it. An id is a name, not a secret.
//! Source: RFC 9562 section 5.7.

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

use hyper::header::{HeaderName, HeaderValue};
use uuid::Uuid;

/// The header that carries it, both ways.
pub(crate) static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id taken over from a client.
const LENGTH_MAX: usize = 64;

/// The id of one request: ASCII letters, digits, dots, dashes and underscores.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(HeaderValue);

impl RequestId {
    /// The id of a request to which its client has `given` one, or none.
    pub(crate) fn of(given: Option<&HeaderValue>) -> Self {
        match given {
            Some(value) if is_harmless(value.as_bytes()) => Self(value.clone()),
            _ => Self::mint(),
        }
    }

    pub(crate) fn mint() -> Self {
        let mut text = Uuid::encode_buffer();
        let text = MINT.with(Mint::next).hyphenated().encode_lower(&mut text);
        Self(HeaderValue::from_str(text).expect("hex digits and dashes"))
    }

    pub(crate) fn as_str(&self) -> &str {
        // Both makers below allow ASCII only.
        self.0.to_str().unwrap_or_default()
    }

    pub(crate) fn into_value(self) -> HeaderValue {
        self.0
    }
}

thread_local! {
    // Drawn with the first request, so after the fork: no two workers have the same.
    static MINT: Mint = Mint { random: Uuid::new_v4().into_bytes(), count: Cell::new(0) };
}

/// Makes ids that differ by their time and a count, and from other processes' by what was drawn
/// once: the system is not asked for random bytes with every request.
struct Mint {
    random: [u8; 16],
    count: Cell<u32>,
}

impl Mint {
    fn next(&self) -> Uuid {
        let count = self.count.get();
        self.count.set(count.wrapping_add(1));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut tail = [0; 10];
        tail[..6].copy_from_slice(&self.random[..6]);
        tail[6..].copy_from_slice(&count.to_be_bytes());
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        uuid::Builder::from_unix_timestamp_millis(now_ms, &tail).into_uuid()
    }
}

fn is_harmless(id: &[u8]) -> bool {
    (1..=LENGTH_MAX).contains(&id.len())
        && id.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn given(id: &str) -> String {
        RequestId::of(Some(&HeaderValue::from_str(id).unwrap())).as_str().to_owned()
    }

    #[test]
    fn a_harmless_id_is_taken_over() {
        let longest = "x".repeat(64);
        for id in ["a", "A-b_c.9", longest.as_str()] {
            assert_eq!(given(id), id);
        }
    }

    #[test]
    fn any_other_id_is_replaced() {
        let long = "x".repeat(65);
        for id in ["", "a b", "a\tb", "a\"b", "é", "a/b", long.as_str()] {
            let minted = Uuid::parse_str(&given(id)).unwrap();
            assert_eq!(minted.get_version_num(), 7, "{id:?}");
        }
    }

    #[test]
    fn minted_ids_are_distinct_and_carry_the_time() {
        let mint = || RequestId::of(None).as_str().to_owned();
        let ids: HashSet<String> = (0..1000).map(|_| mint()).collect();
        assert_eq!(ids.len(), 1000);
        let uuid = Uuid::parse_str(ids.iter().next().unwrap()).unwrap();
        let (seconds, _) = uuid.get_timestamp().unwrap().to_unix();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert!(now - seconds < 60);
    }
}
