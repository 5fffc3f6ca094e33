//! Media types of bodies: which ones a route reads.
//!
//! `body.rs` asks before it receives anything.
//! Source: RFC 9110 section 8.3, RFC 6839 (`+json`).

/// A media type that bodies may have.
pub(crate) struct MediaType {
    /// Its name, as answered and documented.
    pub(crate) name: &'static str,
    /// A structured-syntax suffix that counts as the same.
    suffix: Option<&'static str>,
}

/// JSON, also as `application/*+json`.
pub(crate) static JSON: MediaType = MediaType { name: "application/json", suffix: Some("+json") };
/// HTML forms and OAuth 2.
pub(crate) static FORM: MediaType =
    MediaType { name: "application/x-www-form-urlencoded", suffix: None };

impl MediaType {
    /// Whether a `Content-Type` says this type, in UTF-8.
    pub(crate) fn matches(&self, content_type: &str) -> bool {
        let mut parts = content_type.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| self.is_name(name));
        named && parts.all(|parameter| !is_other_charset(parameter))
    }

    fn is_name(&self, name: &str) -> bool {
        name.eq_ignore_ascii_case(self.name)
            || self.suffix.is_some_and(|suffix| ends_with(name, suffix) && starts_application(name))
    }
}

fn starts_application(name: &str) -> bool {
    name.get(..12).is_some_and(|start| start.eq_ignore_ascii_case("application/"))
}

fn ends_with(name: &str, suffix: &str) -> bool {
    let at = name.len().saturating_sub(suffix.len());
    name.get(at..).is_some_and(|end| end.eq_ignore_ascii_case(suffix))
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
    fn json_is_read_with_a_utf8_charset_and_as_a_suffix() {
        let yes = [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            "application/json;charset=\"UTF-8\"",
            "application/merge-patch+json",
            "application/problem+json ; v=1",
        ];
        for content_type in yes {
            assert!(JSON.matches(content_type), "{content_type}");
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
        ];
        for content_type in no {
            assert!(!JSON.matches(content_type), "{content_type}");
        }
    }

    #[test]
    fn a_form_has_one_name() {
        assert!(FORM.matches("application/x-www-form-urlencoded; charset=UTF-8"));
        assert!(!FORM.matches("multipart/form-data; boundary=x"));
        assert!(!FORM.matches("application/x+json"));
    }
}
