//! Media types of bodies: which ones a route reads.
//!
//! `body.rs` asks before it receives anything; `router.rs` tells which ones a PATCH takes.
//! Promises: a type is one of those named or it is not: what ends with `+json` is JSON to look at, and a
//! format of its own, as `application/json-patch+json` is.
//! Source: RFC 9110 section 8.3, RFC 5789 (`Accept-Patch`), RFC 7396 (merge patches).

use std::fmt;

use hyper::header::{ACCEPT, HeaderName};

/// The media types that a body may have.
#[derive(Debug)]
pub struct MediaTypes {
    /// Their names, as answered and documented.
    pub(crate) names: &'static [&'static str],
    /// The header that tells them to who has sent another.
    pub(crate) told_in: HeaderName,
}

/// The header that tells which bodies a PATCH may have.
pub(crate) const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

/// JSON.
pub(crate) static JSON: MediaTypes = MediaTypes { names: &["application/json"], told_in: ACCEPT };
/// JSON of which what is left out stays as it is, under its own name or the plain one.
pub(crate) static MERGE_PATCH: MediaTypes = MediaTypes {
    names: &["application/merge-patch+json", "application/json"],
    told_in: ACCEPT_PATCH,
};
/// HTML forms and OAuth 2.
pub(crate) static FORM: MediaTypes =
    MediaTypes { names: &["application/x-www-form-urlencoded"], told_in: ACCEPT };

impl MediaTypes {
    /// Whether a `Content-Type` says one of them, in UTF-8.
    pub(crate) fn matches(&self, content_type: &str) -> bool {
        let mut parts = content_type.split(';').map(str::trim);
        let is_ours = |name: &str| self.names.iter().any(|ours| name.eq_ignore_ascii_case(ours));
        parts.next().is_some_and(is_ours) && parts.all(|parameter| !is_other_charset(parameter))
    }
}

impl fmt::Display for MediaTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names.join(" or "))
    }
}

fn is_other_charset(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else { return false };
    let value = value.trim().trim_matches('"');
    name.trim().eq_ignore_ascii_case("charset")
        && !value.eq_ignore_ascii_case("utf-8")
        && !value.eq_ignore_ascii_case("us-ascii")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_read_with_a_utf8_charset_and_other_parameters() {
        let yes = [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            "application/json;charset=\"UTF-8\"",
            "application/json ; v=1",
        ];
        for content_type in yes {
            assert!(JSON.matches(content_type), "{content_type}");
            assert!(MERGE_PATCH.matches(content_type), "{content_type}");
            let own_name = content_type.to_lowercase().replace("json", "merge-patch+json");
            assert!(MERGE_PATCH.matches(&own_name), "{own_name}");
            assert!(!JSON.matches(&own_name), "{own_name}");
        }
    }

    #[test]
    fn everything_else_is_not_json() {
        let no = [
            "",
            "text/plain",
            "text/x+json",
            "application/jsonp",
            "application/json; charset=latin-1",
            "application/x-www-form-urlencoded",
            "+json",
            "application/x+json",
            "application/json-patch+json",
            "application/problem+json",
            "application/merge-patch",
        ];
        for content_type in no {
            assert!(!JSON.matches(content_type), "{content_type}");
            assert!(!MERGE_PATCH.matches(content_type), "{content_type}");
        }
    }

    #[test]
    fn who_is_refused_is_told_in_one_line() {
        let text = "application/merge-patch+json or application/json";
        assert_eq!(
            (MERGE_PATCH.to_string(), JSON.to_string()),
            (text.into(), "application/json".into())
        );
    }

    #[test]
    fn a_form_has_one_name() {
        assert!(FORM.matches("application/x-www-form-urlencoded; charset=UTF-8"));
        assert!(!FORM.matches("multipart/form-data; boundary=x"));
        assert!(!FORM.matches("application/x+json"));
    }
}
