//! Request ids: the client's own when it is harmless, else a fresh UUIDv7.
//!
//! `connection.rs` asks once per request; the id is in the response, in problems and in the log.
//! Promises: an id from outside cannot break a log line or a header; minting makes no system call and,
//! nearly always, no allocation.
//! Does not know: who reads it. An id is a name, not a secret.
//! Source: RFC 9562 section 5.7.

use std::cell::{Cell, RefCell};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::BytesMut;
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use uuid::Uuid;

/// The header that carries it, both ways.
pub(crate) static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id taken over from a client.
const LENGTH_MAX: usize = 64;
/// Ids are cut from chunks of this many bytes, so that 113 of them share one allocation.
const CHUNK_BYTES: usize = 4096;

/// The id of one request: ASCII letters, digits, dots, dashes and underscores.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(HeaderValue);

impl RequestId {
    pub(crate) fn as_str(&self) -> &str {
        // Both makers below allow ASCII only.
        self.0.to_str().unwrap_or_default()
    }

    pub(crate) fn into_value(self) -> HeaderValue {
        self.0
    }
}

/// The source of ids of one worker.
pub(crate) struct RequestIds {
    chunk: RefCell<BytesMut>,
    state: Cell<u64>,
}

impl RequestIds {
    /// Start a source; call it in the worker itself, since its seed must not be shared over a fork.
    pub(crate) fn new() -> Self {
        let seed = Uuid::new_v4().as_u64_pair().1;
        Self { chunk: RefCell::new(BytesMut::new()), state: Cell::new(seed) }
    }

    /// The id for a request with these headers.
    pub(crate) fn of(&self, headers: &HeaderMap) -> RequestId {
        match headers.get(&X_REQUEST_ID) {
            Some(value) if is_harmless(value.as_bytes()) => RequestId(value.clone()),
            _ => self.mint(),
        }
    }

    fn mint(&self) -> RequestId {
        let mut text = Uuid::encode_buffer();
        let text = self.uuid().hyphenated().encode_lower(&mut text);
        let mut chunk = self.chunk.borrow_mut();
        if chunk.capacity() < text.len() {
            chunk.reserve(CHUNK_BYTES);
        }
        chunk.extend_from_slice(text.as_bytes());
        let bytes = chunk.split().freeze();
        RequestId(HeaderValue::from_maybe_shared(bytes).expect("hex digits and dashes"))
    }

    fn uuid(&self) -> Uuid {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut random = [0; 10];
        random[..8].copy_from_slice(&self.random().to_be_bytes());
        random[8..].copy_from_slice(&self.random().to_be_bytes()[..2]);
        let ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        uuid::Builder::from_unix_timestamp_millis(ms, &random).into_uuid()
    }

    /// SplitMix64: well spread, not secret.
    fn random(&self) -> u64 {
        let state = self.state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.state.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
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
        let mut headers = HeaderMap::new();
        headers.insert(&X_REQUEST_ID, HeaderValue::from_str(id).unwrap());
        RequestIds::new().of(&headers).as_str().to_owned()
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
        let (one, other) = (RequestIds::new(), RequestIds::new());
        let none = HeaderMap::new();
        let ids: HashSet<String> = (0..1000)
            .flat_map(|_| [one.of(&none), other.of(&none)])
            .map(|id| id.as_str().to_owned())
            .collect();
        assert_eq!(ids.len(), 2000);
        let uuid = Uuid::parse_str(ids.iter().next().unwrap()).unwrap();
        let (seconds, _) = uuid.get_timestamp().unwrap().to_unix();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert!(now - seconds < 60);
    }
}
