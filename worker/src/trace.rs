//! Which trace a request is a part of, as its client says.
//!
//! `first_look.rs` finds the header, `answer.rs` asks what it says.
//! Promises: what is malformed counts as absent, whole: the request begins a trace of its own then.
//! Does not know: spans.
//! Source: W3C Trace Context, sections 2.2 (traceparent) and 2.3 (tracestate).

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};

/// The header that names the trace and the caller's span.
pub(crate) static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What tracing systems on the way have added.
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// `00-` trace `-` span `-` flags.
const PARENT_BYTES: usize = 55;
/// The flag that says that the caller records its part.
const SAMPLED: u8 = 1;
/// The longest state that is handed on; the least that has to be.
const STATE_BYTES_MAX: usize = 512;
const STATE_MEMBERS_MAX: usize = 32;

/// The name of a trace: 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TraceId(pub(crate) [u8; 32]);

/// The name of a span: 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SpanId(pub(crate) [u8; 16]);

impl TraceId {
    pub(crate) fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl SpanId {
    pub(crate) fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// The caller's span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parent {
    pub(crate) trace: TraceId,
    pub(crate) span: SpanId,
    pub(crate) is_sampled: bool,
}

impl Parent {
    /// What the header says, if it can be understood.
    pub(crate) fn of(header: &HeaderValue) -> Option<Self> {
        let text = header.as_bytes();
        let (known, rest) = text.split_at_checked(PARENT_BYTES)?;
        let known: &[u8; PARENT_BYTES] = known.try_into().ok()?;
        let has_dashes = known[2] == b'-' && known[35] == b'-' && known[52] == b'-';
        let (version, flags) = (byte(known[0], known[1])?, byte(known[53], known[54])?);
        // A later version may go on behind a dash; this one ends here, and 255 is none.
        let is_whole = match version {
            0 => rest.is_empty(),
            255 => false,
            _ => rest.first().is_none_or(|next| *next == b'-'),
        };
        let trace: [u8; 32] = known[3..35].try_into().ok()?;
        let span: [u8; 16] = known[36..52].try_into().ok()?;
        let is_good = has_dashes && is_whole && is_id(&trace) && is_id(&span);
        let is_sampled = flags & SAMPLED != 0;
        is_good.then_some(Self { trace: TraceId(trace), span: SpanId(span), is_sampled })
    }
}

/// What tracing systems on the way have added, to be handed on as it came; `None` without, or where a
/// part of it is malformed.
pub(crate) fn state(headers: &HeaderMap) -> Option<String> {
    let mut parts = Vec::new();
    for value in headers.get_all(TRACESTATE) {
        parts.push(value.to_str().ok()?);
    }
    let state = parts.join(",");
    let members = state.split(',').map(|member| member.trim_matches([' ', '\t']));
    let members: Vec<&str> = members.filter(|member| !member.is_empty()).collect();
    let is_good = (1..=STATE_MEMBERS_MAX).contains(&members.len())
        && state.len() <= STATE_BYTES_MAX
        && members.iter().all(|member| is_member(member));
    is_good.then(|| members.join(","))
}

fn is_member(member: &str) -> bool {
    let Some((key, value)) = member.split_once('=') else { return false };
    let is_key_sign =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(&byte);
    let is_value_sign = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'=';
    let begins = key.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    begins
        && key.len() <= 256
        && key.bytes().all(is_key_sign)
        && (1..=256).contains(&value.len())
        && value.bytes().all(is_value_sign)
}

/// Hexadecimal digits in lower case, not all of them zero.
fn is_id(digits: &[u8]) -> bool {
    digits.iter().all(|digit| nibble(*digit).is_some()) && digits.iter().any(|digit| *digit != b'0')
}

fn byte(high: u8, low: u8) -> Option<u8> {
    Some(nibble(high)? << 4 | nibble(low)?)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn parent(text: &str) -> Option<Parent> {
        Parent::of(&HeaderValue::from_bytes(text.as_bytes()).unwrap())
    }

    #[test]
    fn a_good_parent_is_understood() {
        let parent = |text: String| parent(&text).unwrap();
        let sampled = parent(format!("00-{TRACE}-{SPAN}-01"));
        assert_eq!((sampled.trace.as_str(), sampled.span.as_str()), (TRACE, SPAN));
        assert!(sampled.is_sampled);
        assert!(!parent(format!("00-{TRACE}-{SPAN}-00")).is_sampled);
        // Other flags say nothing about this one.
        assert!(!parent(format!("00-{TRACE}-{SPAN}-fe")).is_sampled);
        assert!(parent(format!("00-{TRACE}-{SPAN}-03")).is_sampled);
        // A version of later has this one's beginning.
        assert!(parent(format!("cc-{TRACE}-{SPAN}-01")).is_sampled);
        assert!(parent(format!("cc-{TRACE}-{SPAN}-01-what-comes")).is_sampled);
    }

    #[test]
    fn whatever_is_malformed_is_no_parent() {
        let (zeros, upper) = ("0".repeat(32), TRACE.to_uppercase());
        let malformed = [
            String::new(),
            "00".to_owned(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("00-{TRACE}-{SPAN}-01."),
            format!("cc-{TRACE}-{SPAN}-01.more"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("0x-{TRACE}-{SPAN}-01"),
            format!("00-{zeros}-{SPAN}-01"),
            format!("00-{TRACE}-{}-01", &zeros[..16]),
            format!("00-{upper}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-0G"),
            format!("00_{TRACE}-{SPAN}-01"),
            format!("00-{}g-{SPAN}-01", &TRACE[1..]),
            format!("00-{TRACE}{SPAN}--01-"),
        ];
        for text in malformed {
            assert_eq!(parent(&text), None, "{text}");
        }
    }

    #[test]
    fn a_state_is_handed_on_whole_or_not_at_all() {
        let given = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(TRACESTATE, HeaderValue::from_str(value).unwrap());
            }
            state(&headers)
        };
        assert_eq!(given(&["a=1, b@c=2 3"]).as_deref(), Some("a=1,b@c=2 3"));
        assert_eq!(given(&["a=1", "", "b=2,,"]).as_deref(), Some("a=1,b=2"));
        let long = format!("a={}", "x".repeat(300));
        let many = (0..33).map(|number| format!("k{number}=v")).collect::<Vec<_>>().join(",");
        for bad in ["", "a", "a=", "=1", "A=1", "a=1=2", "a=1,b", &long, &many] {
            assert_eq!(given(&[bad]), None, "{bad}");
        }
    }
}
