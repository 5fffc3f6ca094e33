//! Every parser of what clients send, under input that nobody thought of: none panics, and each keeps a
//! promise whatever comes.

use std::borrow::Cow;

use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HOST, HeaderMap, HeaderValue, IF_MATCH, IF_NONE_MATCH, ORIGIN,
    TRANSFER_ENCODING,
};
use hyper::http::request::Parts;
use hyper::{Method, Request};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode, utf8_percent_encode};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::conditions::{EntityTag, Preconditions, Tag, Tags};
use crate::config::Limits;
use crate::cors::Cors;
use crate::first_look::FirstLook;
use crate::given::Given;
use crate::media::{FORM, JSON};
use crate::repeats::key;
use crate::request_id::RequestId;
use crate::{Boolean, Fault, Integer, Rule, Text, Uuid, Value, json};

/// A value of a header as hyper lets it pass.
fn value() -> impl Strategy<Value = HeaderValue> {
    vec(any::<u8>(), 0..80)
        .prop_filter_map("no header value", |bytes| HeaderValue::from_bytes(&bytes).ok())
}

fn head(name: &hyper::header::HeaderName, value: &HeaderValue) -> Parts {
    Request::builder().uri("/").header(name, value).body(()).unwrap().into_parts().0
}

fn is_host_taken(host: &HeaderValue) -> bool {
    FirstLook::at(&head(&HOST, host), &Limits::default()).fault.is_none()
}

/// What was found, as text.
fn text(found: Result<Option<Value<'_>>, Fault>) -> Option<String> {
    found.unwrap().map(|value| value.text().unwrap().to_owned())
}

proptest! {
    #[test]
    fn no_host_has_anything_of_a_path_a_user_or_a_second_host(host in value()) {
        let is_wrong = host.as_bytes().iter().any(|byte| br"/?#@\ ".contains(byte));
        prop_assert!(!(is_wrong && is_host_taken(&host)), "{host:?}");
    }

    #[test]
    fn names_and_addresses_are_hosts(host in "[a-zA-Z0-9.-]{1,40}(:[0-9]{0,5})?|\\[[0-9a-f:]{2,20}\\](:[0-9]{1,5})?") {
        prop_assert!(is_host_taken(&HeaderValue::from_str(&host).unwrap()), "{host}");
    }

    #[test]
    fn a_port_is_a_number(host in "[a-z.]{1,10}:[0-9]{0,3}[a-zA-Z!$~+-][0-9]{0,3}") {
        prop_assert!(!is_host_taken(&HeaderValue::from_str(&host).unwrap()), "{host}");
    }

    #[test]
    fn no_coding_but_chunked_is_taken(coding in value()) {
        let mut head = head(&TRANSFER_ENCODING, &coding);
        head.headers.insert(HOST, HeaderValue::from_static("x"));
        let is_taken = FirstLook::at(&head, &Limits::default()).fault.is_none();
        prop_assert_eq!(is_taken, coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    }

    #[test]
    fn a_request_id_is_harmless_whatever_was_given(given in value()) {
        let id = RequestId::of(Some(&given));
        let is_harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        prop_assert!((1..=64).contains(&id.as_str().len()) && id.as_str().bytes().all(is_harmless));
        let again = RequestId::of(Some(&id.clone().into_value()));
        prop_assert_eq!(again.as_str(), id.as_str(), "ours is taken over, too");
    }

    #[test]
    fn any_text_can_be_a_query_or_a_form(text in any::<String>(), name in any::<String>()) {
        for given in [Given::query(&text), Given::form(&text)].into_iter().flatten() {
            let _ = given.find(&name);
            prop_assert!(given.names().count() <= 100);
        }
    }

    #[test]
    fn what_was_encoded_is_found(name in any::<String>(), value in any::<String>()) {
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let pair = format!("{}={}&other=x", encoded(&name), encoded(&value).replace("%20", "+"));
        prop_assume!(name != "other" && !pair.starts_with("=&"));
        prop_assert_eq!(text(Given::query(&pair).unwrap().find(&name)), Some(value.clone()));
        prop_assert_eq!(text(Given::form(&pair).unwrap().find(&name)), Some(value));
    }

    #[test]
    fn a_segment_of_a_path_is_decoded_or_refused(bytes in vec(any::<u8>(), 0..40)) {
        let path = format!("/users/{}/password", percent_encode(&bytes, NON_ALPHANUMERIC));
        let given = Given::Path { pattern: "/users/{pubid}/password", path: &path };
        match String::from_utf8(bytes) {
            Ok(decoded) => prop_assert_eq!(text(given.find("pubid")), Some(decoded)),
            Err(_) => prop_assert!(given.find("pubid").is_err()),
        }
    }

    #[test]
    fn any_text_can_be_a_content_type(text in any::<String>()) {
        let is_taken = (JSON.matches(&text), FORM.matches(&text));
        prop_assert!(is_taken != (true, true));
        let capitals = text.to_ascii_uppercase();
        prop_assert_eq!((JSON.matches(&capitals), FORM.matches(&capitals)), is_taken);
    }

    #[test]
    fn no_charset_but_utf_8_is_taken(charset in "[a-zA-Z0-9-]{0,12}", quote in "\"?") {
        let is_utf8 = ["utf-8", "us-ascii"].iter().any(|one| charset.eq_ignore_ascii_case(one));
        let content_type = format!("application/json; charset={quote}{charset}{quote}");
        prop_assert_eq!(JSON.matches(&content_type), is_utf8);
    }

    #[test]
    fn bytes_are_a_json_object_or_refused_at_a_place_within(bytes in vec(any::<u8>(), 0..200)) {
        let is_object = serde_json::from_slice::<serde_json::Map<_, serde_json::Value>>(&bytes).is_ok();
        prop_assert_eq!(json::object(&bytes, 64).is_ok(), is_object);
    }

    #[test]
    fn json_is_taken_to_its_depth_and_no_deeper(depth in 1_usize..200, in_text in "[\\[{\"]{0,80}") {
        let inside = serde_json::to_string(&in_text).unwrap();
        let (open, close) = ("[".repeat(depth - 1), "]".repeat(depth - 1));
        let body = format!(r#"{{"a":{open}{inside}{close}}}"#);
        prop_assert_eq!(json::object(body.as_bytes(), 64).is_ok(), depth <= 64);
    }

    #[test]
    fn any_value_is_a_list_of_tags_or_refused(first in value(), second in value()) {
        let mut headers = head(&IF_NONE_MATCH, &first).headers;
        headers.append(IF_NONE_MATCH, second.clone());
        let Ok(read) = Preconditions::of(&headers) else { return Ok(()) };
        prop_assert_eq!(&read.if_match, &None);
        let Some(Tags::Of(tags)) = read.if_none_match else { panic!("two lines are no star") };
        prop_assert!((1..=100).contains(&tags.len()));
        let is_plain = |tag: &Tag| tag.text().is_none_or(|text| !text.contains(['"', ' ']));
        prop_assert!(tags.iter().all(is_plain), "{tags:?}");
    }

    #[test]
    fn tags_are_read_as_they_were_written(tags in vec(("(W/)?", "[!#-~äß]{0,8}"), 1..20), commas in "[ ,]{0,3},[ ,]{0,3}") {
        let written: Vec<String> = tags.iter().map(|(weak, text)| format!("{weak}\"{text}\"")).collect();
        let line = HeaderValue::from_bytes(written.join(&commas).as_bytes()).unwrap();
        let read = Preconditions::of(&head(&IF_MATCH, &line).headers).unwrap();
        let Some(Tags::Of(read)) = read.if_match else { panic!("{line:?} are tags") };
        let read: Vec<_> = read.iter().map(|tag| (tag.strong().is_none(), tag.text().unwrap())).collect();
        let expected: Vec<_> = tags.iter().map(|(weak, text)| (!weak.is_empty(), text.as_str())).collect();
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn who_names_the_tag_of_a_number_means_it_and_nobody_else_does(number in any::<i64>(), other in any::<i64>()) {
        let line = format!("\"{number}\"");
        let read = Preconditions::of(&head(&IF_MATCH, &HeaderValue::try_from(line).unwrap()).headers).unwrap();
        prop_assert!(!read.rule_out(&EntityTag::of(number)));
        prop_assert_eq!(read.rule_out(&EntityTag::of(other)), number != other);
    }

    #[test]
    fn any_value_is_a_key_or_refused(given in value()) {
        let found = key(&given);
        let is_key = |key: &str| {
            (1..=255).contains(&key.len()) && key.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'"')
        };
        prop_assert!(found.is_none_or(is_key), "{found:?}");
        let plain = found.filter(|key| !key.contains([',', ';', ' ']));
        let again = plain.map(|key| HeaderValue::try_from(format!("\"{key}\"")).unwrap());
        prop_assert_eq!(again.as_ref().and_then(key), plain, "the same in quotes");
    }

    #[test]
    fn every_printable_text_is_a_key_in_quotes(text in "[ !#-~]{1,255}") {
        let quoted = HeaderValue::try_from(format!(" \"{text}\" ")).unwrap();
        prop_assert_eq!(key(&quoted), Some(text.as_str()));
    }

    #[test]
    fn no_origin_but_those_named_is_allowed(origin in value(), asked in value()) {
        let cors = Cors::Origins(vec!["https://app.example.org".to_owned()]);
        let mut head = head(&ORIGIN, &origin);
        head.method = Method::OPTIONS;
        head.headers.insert(ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("GET"));
        head.headers.insert(ACCESS_CONTROL_REQUEST_HEADERS, asked.clone());
        let told = |head: &Parts| {
            let mut told = HeaderMap::new();
            cors.look(head).add(&mut told);
            told
        };
        prop_assert_eq!(told(&head).contains_key(ACCESS_CONTROL_ALLOW_ORIGIN), origin == "https://app.example.org");
        head.headers.insert(ORIGIN, HeaderValue::from_static("https://app.example.org"));
        let allowed = told(&head);
        let allowed = allowed.get(ACCESS_CONTROL_ALLOW_HEADERS).map(|value| value.to_str().unwrap());
        let asked = String::from_utf8_lossy(asked.as_bytes()).to_lowercase();
        prop_assert!(allowed.is_none_or(|all| all.split(", ").all(|one| asked.contains(one))));
    }

    #[test]
    fn no_text_makes_a_rule_panic_and_none_lets_nul_pass(text in "\\PC{0,40}|[0-9a-fA-F{}-]{30,40}|[+-]?[0-9]{1,25}|.{0,5}\0.{0,5}") {
        let value = Value::Text(Cow::Borrowed(text.as_str()));
        let number = Integer::range(-5, 5).check(&value).ok();
        prop_assert!(number.is_none_or(|number| (-5..=5).contains(&number)));
        let _ = (Boolean.check(&value), Uuid.check(&value));
        let taken = Text::max(20).check(&value).ok();
        prop_assert!(taken.is_none_or(|taken| taken == text && taken.chars().count() <= 20 && !taken.contains('\0')));
    }
}
