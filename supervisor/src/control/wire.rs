//! The words on the control socket: a request is a line of text, an answer a line of JSON.
//!
//! Used by [`super`] on the supervisor's side and by the command line on the other. Knows no socket.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::config::SLOTS_MAX;
use crate::status::Status;

/// What the supervisor can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// How everything is.
    Status,
    /// Read the settings again and replace every worker.
    Reload {
        /// Answer at the end, not at the beginning.
        wait: bool,
    },
    /// Run so many workers.
    Scale {
        /// From 1 to [`SLOTS_MAX`].
        workers: usize,
        /// Answer when they are ready and no other is left.
        wait: bool,
    },
    /// Become the program that now has the supervisor's name.
    Upgrade {
        /// Answer at the end, not at the beginning.
        wait: bool,
    },
    /// Stop gracefully.
    Stop,
}

/// What the supervisor answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// It is done, or has begun when nobody waits for its end.
    Done,
    /// It was refused, or has failed: why, in one line.
    Failed(String),
    /// How everything is.
    Status(Box<Status>),
}

/// A text that is no request; what would be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRequest {
    /// Its words are not ours.
    #[error("no such request; ask status, reload [wait], upgrade [wait], scale N [wait] or stop")]
    Unknown,
    /// It asks for no, or too many, workers.
    #[error("scale needs a number of workers; give 1 to {SLOTS_MAX}")]
    Workers,
}

/// As it is sent.
impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = |wait: bool| if wait { " wait" } else { "" };
        match self {
            Self::Status => f.write_str("status"),
            Self::Reload { wait } => write!(f, "reload{}", end(*wait)),
            Self::Upgrade { wait } => write!(f, "upgrade{}", end(*wait)),
            Self::Scale { workers, wait } => write!(f, "scale {workers}{}", end(*wait)),
            Self::Stop => f.write_str("stop"),
        }
    }
}

impl FromStr for Request {
    type Err = NoRequest;

    fn from_str(line: &str) -> Result<Self, NoRequest> {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words.as_slice() {
            ["status"] => Ok(Self::Status),
            ["reload"] => Ok(Self::Reload { wait: false }),
            ["reload", "wait"] => Ok(Self::Reload { wait: true }),
            ["upgrade"] => Ok(Self::Upgrade { wait: false }),
            ["upgrade", "wait"] => Ok(Self::Upgrade { wait: true }),
            ["scale", count] => Ok(Self::Scale { workers: workers(count)?, wait: false }),
            ["scale", count, "wait"] => Ok(Self::Scale { workers: workers(count)?, wait: true }),
            ["scale"] => Err(NoRequest::Workers),
            ["stop"] => Ok(Self::Stop),
            _ => Err(NoRequest::Unknown),
        }
    }
}

fn workers(count: &str) -> Result<usize, NoRequest> {
    let number = count.parse().ok().filter(|number| (1..=SLOTS_MAX).contains(number));
    number.ok_or(NoRequest::Workers)
}

/// An answer that is not a status, as JSON.
#[derive(Serialize, Deserialize)]
struct Verdict {
    ok: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Answer {
    /// As it is sent, without the line's end.
    pub(super) fn to_json(&self) -> String {
        let json = match self {
            Self::Done => serde_json::to_string(&Verdict { ok: true, error: None }),
            Self::Failed(why) => {
                serde_json::to_string(&Verdict { ok: false, error: Some(why.clone()) })
            }
            Self::Status(status) => serde_json::to_string(status),
        };
        json.expect("plain data has a form in JSON")
    }

    /// Reads it back.
    ///
    /// # Errors
    /// When the text is none of ours, of another version for example.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        match serde_json::from_str(text) {
            Ok(Verdict { ok: true, .. }) => Ok(Self::Done),
            Ok(Verdict { ok: false, error }) => Ok(Self::Failed(error.unwrap_or_default())),
            // Only a status lacks `ok`.
            Err(_) => serde_json::from_str(text).map(Self::Status),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_as_they_are_written() {
        for (request, line) in [
            (Request::Status, "status"),
            (Request::Reload { wait: false }, "reload"),
            (Request::Reload { wait: true }, "reload wait"),
            (Request::Upgrade { wait: false }, "upgrade"),
            (Request::Upgrade { wait: true }, "upgrade wait"),
            (Request::Scale { workers: 4, wait: false }, "scale 4"),
            (Request::Scale { workers: 256, wait: true }, "scale 256 wait"),
            (Request::Stop, "stop"),
        ] {
            assert_eq!(request.to_string(), line);
            assert_eq!(line.parse(), Ok(request));
        }
        assert_eq!(" scale  1\twait \r".parse(), Ok(Request::Scale { workers: 1, wait: true }));
    }

    #[test]
    fn what_is_no_request_is_told_what_would_be_one() {
        for line in
            ["", "Status", "status now", "reload later", "stop wait", "upgrade now", "scale 1 2 3"]
        {
            assert_eq!(line.parse::<Request>(), Err(NoRequest::Unknown), "{line:?}");
        }
        for line in ["scale", "scale 0", "scale 257", "scale -1", "scale many wait"] {
            assert_eq!(line.parse::<Request>(), Err(NoRequest::Workers), "{line:?}");
        }
        assert!(NoRequest::Workers.to_string().ends_with("give 1 to 256"));
    }

    #[test]
    fn answers_are_read_as_they_are_written() {
        let failed = Answer::Failed("it said \"no\"\nand left".to_owned());
        for (answer, json) in [
            (Answer::Done, r#"{"ok":true}"#),
            (failed, r#"{"ok":false,"error":"it said \"no\"\nand left"}"#),
        ] {
            assert_eq!(answer.to_json(), json);
            assert_eq!(Answer::from_json(json).unwrap(), answer);
        }
        for text in ["", "{}", "{\"ok\":1}", "done"] {
            assert!(Answer::from_json(text).is_err(), "{text}");
        }
    }
}
