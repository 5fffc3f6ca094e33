//! From a text to a value: what every kind of setting accepts, and what it tells who got it wrong.
//!
//! `resolve` calls it for each setting of the table; it calls `database` and `faults` for theirs.
//! It is strict (nothing is guessed, nothing is cut off) and it never repeats the text it was
//! given: a wrong text may be a secret in the wrong place. It does not know where a text is from.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use tracing_subscriber::EnvFilter;
use worker::Collector;

use super::database::DatabaseUrl;
use super::faults::Faults;
use super::setting::Kind;
use crate::addresses::Network;

/// What the kernel has room for: 108 bytes, and the last one is NUL. Source: unix(7).
const UNIX_PATH_BYTES_MAX: usize = 107;

/// What a setting became.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// Nothing: not given, or turned off.
    Off,
    Whole(usize),
    Time(Duration),
    /// In bytes.
    Size(u64),
    Switch(bool),
    Choice(&'static str),
    Address(SocketAddr),
    /// Where a unix socket is.
    UnixSocket(PathBuf),
    Path(PathBuf),
    Share(f64),
    Collector(Collector),
    /// Of a user or a group, by name or number.
    Account(String),
    LogFilter(String),
    Networks(Vec<Network>),
    /// As browsers write them; or `*` alone.
    Origins(Vec<String>),
    Faults(Faults),
    Database(DatabaseUrl),
    Secret(SecretString),
}

/// What is wrong with a text, and how to mend it. Never holds a part of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}; {mend}")]
pub struct Wrong {
    pub(super) what: String,
    pub(super) mend: String,
}

impl Wrong {
    pub(super) fn new(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { what: what.into(), mend: mend.into() }
    }
}

impl Kind {
    /// The value of a text of this kind.
    pub(super) fn parse(&self, text: &str) -> Result<Value, Wrong> {
        if text.is_empty() {
            return Err(self.wrong("empty"));
        }
        match self {
            Self::Whole { min, max } => self.whole(text, *min, *max).map(Value::Whole),
            Self::Time { min, max } => self.time(text, *min, *max).map(Value::Time),
            Self::Size { bytes_min, bytes_max } => self.size(text, *bytes_min, *bytes_max),
            Self::Switch => {
                switch(text).map(Value::Switch).ok_or_else(|| self.wrong("not a switch"))
            }
            Self::Choice(words) => self.choice(text, words),
            Self::Address => self.address(text),
            Self::Bind => match text.strip_prefix("unix:") {
                Some(path) => self.unix_socket(path),
                None => self.address(text),
            },
            Self::Path => Ok(Value::Path(text.into())),
            Self::Account => Ok(Value::Account(text.to_owned())),
            Self::Networks => self.networks(text),
            Self::Origins => self.origins(text),
            Self::LogFilter => self.log_filter(text),
            Self::Faults => {
                Faults::parse(text).map(|faults| faults.map_or(Value::Off, Value::Faults))
            }
            Self::Share => self.share(text),
            Self::Collector => {
                text.parse().map(Value::Collector).map_err(|wrong| self.wrong(&wrong.to_string()))
            }
            Self::DatabaseUrl => text.parse().map(Value::Database),
            Self::SecretKey => Ok(Value::Secret(SecretString::from(text))),
            Self::Optional(_) if matches!(text, "off" | "none") => Ok(Value::Off),
            Self::Optional(kind) => kind
                .parse(text)
                .map_err(|wrong| Wrong::new(wrong.what, format!("{}, or off", wrong.mend))),
        }
    }

    /// The address that a bare port means: every address of this machine.
    pub(super) fn parse_port(text: &str) -> Result<Value, Wrong> {
        match text.parse::<u16>() {
            Ok(port) if only_digits(text) => Ok(Value::Address(everywhere(port))),
            _ => Err(Wrong::new("not a port", "give 0 to 65535, as 8000")),
        }
    }

    /// What the setting takes, for help.
    pub(super) fn placeholder(&self) -> &'static str {
        match self {
            Self::Whole { .. } => "N",
            Self::Time { .. } => "TIME",
            Self::Size { .. } => "SIZE",
            Self::Switch => "SWITCH",
            Self::Choice(_) => "WORD",
            Self::Address | Self::Bind => "ADDRESS:PORT",
            Self::Path => "FILE",
            Self::Account => "NAME",
            Self::Networks | Self::Origins | Self::Faults => "LIST",
            Self::LogFilter => "FILTER",
            Self::Share => "0..1",
            Self::Collector | Self::DatabaseUrl => "URL",
            Self::SecretKey => "SECRET",
            Self::Optional(kind) => kind.placeholder(),
        }
    }

    fn wrong(&self, what: &str) -> Wrong {
        Wrong::new(what, self.mend())
    }

    /// How to write one that is accepted.
    fn mend(&self) -> String {
        match self {
            Self::Whole { min, max } => format!("give {min} to {max}"),
            Self::Time { min, max } => format!(
                "give {} to {}, as 500ms, 30s or 2m (a plain number is seconds)",
                time_text(*min),
                time_text(*max)
            ),
            Self::Size { bytes_min, bytes_max } => {
                format!("give {}MiB to {}MiB, as 512MiB", bytes_min >> 20, bytes_max >> 20)
            }
            Self::Switch => "give on or off".to_owned(),
            Self::Choice(words) => format!("give {}", words.join(" or ")),
            Self::Address => {
                "give ADDRESS:PORT in numbers, as 127.0.0.1:8000, or :8000 for every address"
                    .to_owned()
            }
            Self::Bind => format!("{}, or unix:/PATH", Self::Address.mend()),
            Self::Path => "give the path of a file".to_owned(),
            Self::Account => "give a name".to_owned(),
            Self::Networks => {
                "give addresses or networks, as 10.0.0.0/8,192.168.1.7, or unix: for whoever \
                 comes by a unix socket"
                    .to_owned()
            }
            Self::Origins => "give scheme and host as browsers do, as https://app.example.org or \
                              http://localhost:3000; or * for all"
                .to_owned(),
            Self::LogFilter => "give a level or a list, as info or info,worker=debug".to_owned(),
            Self::Faults => super::faults::MEND.to_owned(),
            Self::Share => "give 0 to 1, as 0.05".to_owned(),
            Self::Collector => {
                "give http://HOST:PORT, as http://127.0.0.1:4318; a collector beside the server needs no TLS"
                    .to_owned()
            }
            Self::DatabaseUrl => super::database::MEND.to_owned(),
            Self::SecretKey => super::rules::MEND_SECRET.to_owned(),
            Self::Optional(kind) => format!("{}, or off", kind.mend()),
        }
    }

    fn whole(&self, text: &str, min: usize, max: usize) -> Result<usize, Wrong> {
        if !only_digits(text) {
            return Err(self.wrong("not a whole number"));
        }
        let number = text.parse().unwrap_or(usize::MAX);
        match number {
            _ if number < min => Err(self.wrong("too small")),
            _ if number > max => Err(self.wrong("too large")),
            _ => Ok(number),
        }
    }

    fn time(&self, text: &str, min: Duration, max: Duration) -> Result<Duration, Wrong> {
        let (digits, unit) = split_unit(text);
        let unit_ms = match unit {
            "ms" => 1,
            "" | "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(self.wrong("not a time")),
        };
        if digits.is_empty() {
            return Err(self.wrong("not a time"));
        }
        let number: u64 = digits.parse().unwrap_or(u64::MAX);
        let time = Duration::from_millis(number.saturating_mul(unit_ms));
        match time {
            _ if time < min => Err(self.wrong("too short")),
            _ if time > max => Err(self.wrong("too long")),
            _ => Ok(time),
        }
    }

    fn size(&self, text: &str, bytes_min: u64, bytes_max: u64) -> Result<Value, Wrong> {
        let (digits, unit) = split_unit(text);
        let unit_bytes: u64 = match unit {
            "" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(self.wrong("not a size")),
        };
        if digits.is_empty() {
            return Err(self.wrong("not a size"));
        }
        match digits.parse().unwrap_or(u64::MAX).saturating_mul(unit_bytes) {
            bytes if bytes < bytes_min => Err(self.wrong("too small")),
            bytes if bytes > bytes_max => Err(self.wrong("too large")),
            bytes => Ok(Value::Size(bytes)),
        }
    }

    fn choice(&self, text: &str, words: &'static [&'static str]) -> Result<Value, Wrong> {
        let word = words.iter().find(|word| **word == text);
        word.map(|word| Value::Choice(word)).ok_or_else(|| self.wrong("not one of its words"))
    }

    fn address(&self, text: &str) -> Result<Value, Wrong> {
        if only_digits(text) {
            return Err(self.wrong("a port without an address"));
        }
        match text.strip_prefix(':') {
            Some(port) => Self::parse_port(port).map_err(|_| self.wrong("not a port")),
            None => text.parse().map(Value::Address).map_err(|_| self.wrong("not an address")),
        }
    }

    fn unix_socket(&self, path: &str) -> Result<Value, Wrong> {
        match path.len() {
            _ if !path.starts_with('/') => Err(self.wrong("not a path from the root")),
            length if length > UNIX_PATH_BYTES_MAX => {
                let what = format!("{length} bytes are too long for the path of a unix socket");
                Err(Wrong::new(what, format!("give {UNIX_PATH_BYTES_MAX} bytes at most")))
            }
            _ => Ok(Value::UnixSocket(path.into())),
        }
    }

    fn networks(&self, list: &str) -> Result<Value, Wrong> {
        let networks = list.split(',').map(|one| Network::parse(one.trim()));
        let networks = networks.collect::<Option<_>>().map(Value::Networks);
        networks.ok_or_else(|| self.wrong("not a list of networks"))
    }

    fn origins(&self, list: &str) -> Result<Value, Wrong> {
        let origins: Vec<String> = list.split(',').map(|one| one.trim().to_owned()).collect();
        let is_good = origins == ["*"] || origins.iter().all(|one| is_origin(one));
        if is_good {
            Ok(Value::Origins(origins))
        } else {
            Err(self.wrong("not a list of web origins"))
        }
    }

    fn share(&self, text: &str) -> Result<Value, Wrong> {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        match text.parse() {
            Ok(share) if is_plain && share <= 1.0 => Ok(Value::Share(share)),
            _ => Err(self.wrong("not a part of one")),
        }
    }

    fn log_filter(&self, text: &str) -> Result<Value, Wrong> {
        match EnvFilter::try_new(text) {
            Ok(_) => Ok(Value::LogFilter(text.to_owned())),
            Err(_) => Err(self.wrong("not a log filter")),
        }
    }
}

/// `on` and `off` in the spellings that people use; any other text is nothing.
pub(super) fn switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "on" | "yes" => Some(true),
        "false" | "0" | "off" | "no" => Some(false),
        _ => None,
    }
}

/// The number and its unit; `parse` alone would take a sign.
fn split_unit(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

fn only_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn everywhere(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))
}

/// The shortest way to write a time that the table names.
fn time_text(time: Duration) -> String {
    match time.as_millis() {
        0 => "0".to_owned(),
        ms if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        ms if ms % 1000 == 0 => format!("{}s", ms / 1000),
        ms => format!("{ms}ms"),
    }
}

/// `https://host` or `http://host:port`, without a path and without a wildcard.
/// As a browser writes it: in lower case, without a path, and without the usual port.
fn is_origin(text: &str) -> bool {
    let rest = |scheme, port| text.strip_prefix(scheme).filter(|rest: &&str| !rest.ends_with(port));
    let host = rest("https://", ":443").or_else(|| rest("http://", ":80"));
    let is_sign =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-:[]".contains(&byte);
    host.is_some_and(|host| !host.is_empty() && host.bytes().all(is_sign))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::setting::Fallback;
    use crate::settings::table::{SETTINGS, setting};

    fn refusal(name: &str, text: &str) -> String {
        match setting(name).kind.parse(text) {
            Ok(value) => panic!("{name} took {text:?}: {value:?}"),
            Err(wrong) => wrong.what,
        }
    }

    #[test]
    fn every_default_of_the_table_is_a_value() {
        for setting in SETTINGS {
            if let Fallback::Text(text) = setting.default {
                setting
                    .kind
                    .parse(text)
                    .unwrap_or_else(|wrong| panic!("{}: {wrong}", setting.name));
            }
        }
    }

    #[test]
    fn every_bad_text_is_refused_with_its_reason() {
        let long = format!("unix:/{}", "x".repeat(111));
        for (name, text, what) in [
            ("workers", "abc", "not a whole number"),
            ("workers", "+4", "not a whole number"),
            ("workers", "-1", "not a whole number"),
            ("workers", "4.0", "not a whole number"),
            ("workers", "", "empty"),
            ("workers", "0", "too small"),
            ("workers", "257", "too large"),
            ("workers", "99999999999999999999999", "too large"),
            ("pool-size", "101", "too large"),
            ("boot-timeout", "0", "too short"),
            ("boot-timeout", "61m", "too long"),
            ("boot-timeout", "99999999999999999999h", "too long"),
            ("boot-timeout", "1.5s", "not a time"),
            ("boot-timeout", "s", "not a time"),
            ("boot-timeout", "30 s", "not a time"),
            ("boot-timeout", "-1s", "not a time"),
            ("max-rss", "1MB", "not a size"),
            ("max-rss", "1MiB", "too small"),
            ("max-rss", "2048GiB", "too large"),
            ("access-log", "ja", "not a switch"),
            ("access-log", "2", "not a switch"),
            ("env", "staging", "not one of its words"),
            ("env", "Production", "not one of its words"),
            ("bind", "8000", "a port without an address"),
            ("bind", "unix:", "not a path from the root"),
            ("bind", "unix:run/peace.sock", "not a path from the root"),
            ("bind", "unix:@peace", "not a path from the root"),
            ("bind", long.as_str(), "112 bytes are too long for the path of a unix socket"),
            ("admin-bind", "unix:/run/peace.sock", "not an address"),
            ("bind", ":70000", "not a port"),
            ("bind", "localhost:8000", "not an address"),
            ("bind", "127.0.0.1", "not an address"),
            ("trusted-proxies", "10.0.0.0/33", "not a list of networks"),
            ("trusted-proxies", "10.0.0.1,proxy", "not a list of networks"),
            ("cors-origins", "*, https://a.example", "not a list of web origins"),
            ("cors-origins", "null", "not a list of web origins"),
            ("cors-origins", "https://A.example", "not a list of web origins"),
            ("cors-origins", "https://a.example:443", "not a list of web origins"),
            ("cors-origins", "https://a.example/path", "not a list of web origins"),
            ("log-filter", "peace=loud", "not a log filter"),
            ("faults", "boot-exit", "not a list of faults"),
        ] {
            assert_eq!(refusal(name, text), what, "{name} {text:?}");
        }
    }

    #[test]
    fn times_have_units() {
        let kind = setting("boot-timeout").kind;
        for (text, ms) in
            [("30", 30_000), ("500ms", 500), ("30s", 30_000), ("2m", 120_000), ("1h", 3_600_000)]
        {
            let Ok(Value::Time(time)) = kind.parse(text) else { panic!("{text}") };
            assert_eq!(time.as_millis(), ms, "{text}");
        }
    }

    #[test]
    fn switches_are_strict() {
        for text in ["true", "True", "1", "on", "YES"] {
            assert_eq!(switch(text), Some(true), "{text}");
        }
        for text in ["false", "0", "off", "no"] {
            assert_eq!(switch(text), Some(false), "{text}");
        }
        for text in ["", "y", "2", "enabled", " on"] {
            assert_eq!(switch(text), None, "{text}");
        }
    }

    #[test]
    fn addresses_are_numbers() {
        for (text, means) in [
            ("127.0.0.1:8000", "127.0.0.1:8000"),
            (":8000", "0.0.0.0:8000"),
            ("[::1]:8000", "[::1]:8000"),
            ("127.0.0.1:0", "127.0.0.1:0"),
        ] {
            let Ok(Value::Address(address)) = Kind::Address.parse(text) else { panic!("{text}") };
            assert_eq!(address.to_string(), means);
        }
    }

    #[test]
    fn what_may_be_off_can_be_turned_off() {
        for name in ["admin-bind", "max-requests", "max-rss", "max-lifetime", "cors-origins"] {
            assert!(matches!(setting(name).kind.parse("off"), Ok(Value::Off)), "{name}");
        }
        assert!(setting("workers").kind.parse("off").is_err());
        assert!(matches!(setting("max-lifetime").kind.parse("48h"), Ok(Value::Time(_))));
        assert!(matches!(setting("max-rss").kind.parse("512MiB"), Ok(Value::Size(0x2000_0000))));
        assert!(setting("trusted-proxies").kind.parse("10.0.0.0/8, ::1").is_ok());
        for text in ["*", "https://a.example, http://[::1]:3000", "https://a.example:4430"] {
            assert!(setting("cors-origins").kind.parse(text).is_ok(), "{text}");
        }
    }
}
