//! Where the server is: `--app-url`, checked.
//!
//! A path in front of the API's own is kept, since a proxy may have put it there; a trailing slash
//! says nothing. A user name or password in it is refused, and never repeated.

use std::fmt;

use ureq::http::Uri;

/// An http or https address without a trailing slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AppUrl(String);

impl AppUrl {
    /// Reads it. The error says what is wrong and how to mend it, and does not hold the text.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let example = "write it as in http://127.0.0.1:8000";
        if !text.starts_with("http://") && !text.starts_with("https://") {
            return Err(format!("it begins neither with http:// nor with https://; {example}"));
        }
        if text.contains(['?', '#']) {
            return Err("it has a `?` or `#`; end it before that".to_owned());
        }
        let uri: Uri =
            text.parse().map_err(|error| format!("it is no URL ({error}); {example}"))?;
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if authority.contains('@') {
            return Err("it names a user; leave out what is before the `@`".to_owned());
        }
        if uri.host().is_none_or(str::is_empty) {
            return Err(format!("it names no host; {example}"));
        }
        if uri.port_u16().is_none() && authority.rsplit(']').next().is_some_and(|s| s.contains(':'))
        {
            return Err(format!("its port is no number up to 65535; {example}"));
        }
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }

    /// The address of a path of the API, which begins with a slash.
    pub(crate) fn join(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }
}

impl fmt::Display for AppUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_before_the_path_is_kept() {
        for (text, users) in [
            ("http://127.0.0.1:8000", "http://127.0.0.1:8000/users"),
            ("http://127.0.0.1:8000/", "http://127.0.0.1:8000/users"),
            ("http://[::1]:8000", "http://[::1]:8000/users"),
            ("http://[::1]", "http://[::1]/users"),
            ("https://example.org", "https://example.org/users"),
            ("https://example.org/peace", "https://example.org/peace/users"),
            ("https://example.org/peace/v1//", "https://example.org/peace/v1/users"),
        ] {
            assert_eq!(AppUrl::parse(text).unwrap().join("/users"), users, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_without_being_repeated() {
        for (text, wrong) in [
            ("", "http://"),
            ("127.0.0.1:8000", "http://"),
            ("ftp://example.org", "http://"),
            ("http://", "no URL"),
            ("http:///users", "no URL"),
            ("http://:8000", "host"),
            ("http://exa mple.org", "no URL"),
            ("http://example.org:port", "port"),
            ("http://example.org:70000", "port"),
            ("http://[::1]:70000", "port"),
            ("http://ann:hunter2@example.org", "leave out"),
            ("http://example.org?x=hunter2", "end it"),
            ("http://example.org/#hunter2", "end it"),
        ] {
            let refused = AppUrl::parse(text).unwrap_err();
            assert!(refused.contains(wrong), "{text}: {refused}");
            assert!(!refused.contains("hunter2") && !refused.contains('\n'), "{refused}");
        }
    }
}
