//! What was found: the text of a setting, and where it is from.
//!
//! `command` and `sources` make it, `resolve` reads it, `show` prints it. Every text is held as a
//! secret until the table says that it is none. It knows no value and no rule.

use std::collections::BTreeMap;
use std::fmt;

use secrecy::{ExposeSecret, SecretString};

use super::problem::Problem;
use super::setting::Setting;
use super::value::Wrong;

/// Characters of a wrong text that a message repeats.
const QUOTED_CHARS_MAX: usize = 60;

/// Where a setting was given, and by which name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// By this flag, dashes included.
    Flag(String),
    /// By this environment variable.
    Environment(String),
    /// By this variable of the `.env` file.
    DotEnv(String),
    /// By a key of the settings file.
    File { path: String, key: String },
    /// By the systemd credential of this name.
    Credential(String),
}

/// A text that was given for a setting.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) text: SecretString,
    pub(super) origin: Origin,
    /// Permission bits of the file that holds it, if a file does.
    pub(super) file_mode: Option<u32>,
}

/// What one source says, by the name of the setting; a text that cannot be had is a problem there.
pub(super) type Layer = BTreeMap<&'static str, Result<Found, Problem>>;

impl Origin {
    /// What the person wrote: a flag, a variable, a key, a file name.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Flag(name) | Self::Environment(name) | Self::DotEnv(name) => name,
            Self::File { key, .. } => key,
            Self::Credential(name) => name,
        }
    }

    fn place(&self) -> String {
        match self {
            Self::Flag(_) => "flag".to_owned(),
            Self::Environment(_) => "environment".to_owned(),
            Self::DotEnv(_) => ".env".to_owned(),
            Self::File { path, .. } => format!("file {path}"),
            Self::Credential(_) => "credential".to_owned(),
        }
    }

    /// `--workers (flag)`: how a message begins.
    pub(super) fn subject(&self) -> String {
        format!("{} ({})", self.name(), self.place())
    }
}

/// As `config show` prints it.
impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(name) | Self::Credential(name) => {
                write!(out, "{} {name}", self.place())
            }
            _ => out.write_str(&self.place()),
        }
    }
}

impl Found {
    /// A text that no file holds.
    pub(super) fn new(text: String, origin: Origin) -> Self {
        Self { text: text.into(), origin, file_mode: None }
    }

    /// The text, for parsing.
    pub(super) fn text(&self) -> &str {
        self.text.expose_secret()
    }

    /// The problem with this text, repeating it only where it is no secret.
    pub(super) fn problem(&self, setting: &Setting, wrong: &Wrong) -> Problem {
        match quotable(setting, self.text()) {
            Some(text) => {
                let Self { origin, .. } = self;
                Problem::new(format!("{} {text:?} ({})", origin.name(), origin.place()), wrong)
            }
            None => Problem::new(self.origin.subject(), wrong),
        }
    }
}

/// The beginning of a text that may be shown. A URL with a password may stand in any setting by
/// mistake, so none is shown.
pub(super) fn quotable(setting: &Setting, text: &str) -> Option<String> {
    let is_url_with_password = text.contains("://") && text.contains('@');
    if setting.secret || is_url_with_password {
        return None;
    }
    let mut short: String = text.chars().take(QUOTED_CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    Some(short)
}
