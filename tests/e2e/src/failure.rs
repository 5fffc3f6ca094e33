//! One thing that did not go as it has to, told so that a reader can find it in the server's log.
//!
//! Made by `client`, kept by `run`, shown by `report`. A failure never holds a password or a token,
//! and nothing in it can steer a terminal.

use std::io::ErrorKind;

/// How much of a body is shown, in characters.
const EXCERPT_CHARS_MAX: usize = 200;

/// An answer that is not the expected one, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Which client saw it.
    pub(crate) client: String,
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) expected: String,
    /// The status that came; `None` when no whole answer did.
    pub(crate) status: Option<u16>,
    /// The answer's status and the beginning of its body, or why there was none.
    pub(crate) came: String,
}

impl Failure {
    /// As one line.
    pub(crate) fn line(&self) -> String {
        let Self { client, method, path, expected, came, .. } = self;
        format!("{client}: {method} {path}: expected {expected}, came {came}")
    }
}

/// The beginning of a body, on one line, with what is secret taken out.
pub(crate) fn excerpt(body: &str, secrets: &[&str]) -> String {
    let cover = |body: String, secret: &&str| body.replace(*secret, "***");
    let covered = secrets.iter().fold(body.to_owned(), cover);
    let mut shown: String = covered
        .chars()
        .take(EXCERPT_CHARS_MAX)
        .map(|char| if char.is_control() { ' ' } else { char })
        .collect();
    if covered.chars().count() > EXCERPT_CHARS_MAX {
        shown.push('…');
    }
    shown
}

/// Why there was no answer, in the words of a person.
pub(crate) fn no_answer(error: &ureq::Error, timeout_s: u64) -> String {
    match error {
        ureq::Error::Io(error) => match error.kind() {
            ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            ErrorKind::ConnectionReset => "connection reset".to_owned(),
            ErrorKind::BrokenPipe => "connection closed while the request was sent".to_owned(),
            ErrorKind::UnexpectedEof => "connection closed before the whole answer".to_owned(),
            _ => excerpt(&error.to_string(), &[]),
        },
        ureq::Error::Timeout(_) => format!("nothing within {timeout_s} s"),
        ureq::Error::HostNotFound => "no such host".to_owned(),
        error => excerpt(&error.to_string(), &[]),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_body_is_shown_short_on_one_line_and_without_secrets() {
        assert_eq!(excerpt("no such user", &[]), "no such user");
        assert_eq!(excerpt("a\r\nb\u{1b}[2J", &[]), "a  b [2J");
        assert_eq!(excerpt("{\"input\":\"hunter2\"}", &["hunter2"]), "{\"input\":\"***\"}");
        let long = excerpt(&"ä".repeat(300), &[]);
        assert_eq!(long.chars().count(), EXCERPT_CHARS_MAX + 1);
    }

    #[test]
    fn a_secret_at_the_cut_is_covered_whole() {
        let body = format!("{}hunter2", "x".repeat(EXCERPT_CHARS_MAX - 3));
        assert!(!excerpt(&body, &["hunter2"]).contains("hun"));
    }

    #[test]
    fn a_lost_connection_is_told_in_plain_words() {
        for (kind, words) in [
            (ErrorKind::ConnectionRefused, "connection refused"),
            (ErrorKind::UnexpectedEof, "connection closed before the whole answer"),
        ] {
            let error = ureq::Error::Io(io::Error::from(kind));
            assert_eq!(no_answer(&error, 10), words);
        }
        let error = ureq::Error::Timeout(ureq::Timeout::Global);
        assert_eq!(no_answer(&error, 10), "nothing within 10 s");
    }
}
