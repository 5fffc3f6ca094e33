//! Rules between settings: what is good alone and bad together, above all in production.
//!
//! `resolve` calls them with every value that could be read, so that one wrong number hides no
//! other problem. They compute lines and change nothing.

use std::net::{IpAddr, SocketAddr};

use secrecy::ExposeSecret;

use super::found::Layer;
use super::problem::Problem;
use super::resolve::Values;
use super::setting::Setting;
use super::table::{SETTINGS, setting};
use super::value::{Value, Wrong};

/// How to make a good key.
pub(super) const MEND_SECRET: &str =
    "give 32 random bytes or more, as `openssl rand -base64 48` makes them";

const SECRET_BYTES_MIN: usize = 32;

/// Random text has more; the longest word repeated over and over has not.
const SECRET_DISTINCT_MIN: usize = 8;

/// Keys of examples that are long enough to pass for one.
const KNOWN_SECRETS: &[&str] = &[
    "my-secret-jwt-key",
    "secret",
    "changeme",
    "changethis",
    "change-me",
    "your-secret-key",
    "your-256-bit-secret",
    "a-string-secret-at-least-256-bits-long",
    "your_jwt_secret_key_change_in_production",
    "your-secret-key-change-in-production",
    "super-secret-key-change-in-production",
    "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
];

/// Every rule that the settings break.
pub(super) fn check(values: &Values, found: &Layer) -> Vec<Problem> {
    let rules = Rules { values, found };
    let mut problems = rules.check_addresses();
    if rules.is("env", "production") {
        problems.extend(rules.check_required());
        problems
            .extend(rules.check_secrets().map(|(subject, wrong)| Problem::new(subject, &wrong)));
        problems.extend(SETTINGS.iter().filter_map(|setting| rules.check_exposed(setting)));
        problems.extend(rules.check_aids());
    }
    problems
}

/// What is accepted and had better not stay so: in development what production would refuse, in
/// production what opens a door.
pub(super) fn warn(values: &Values, found: &Layer) -> Vec<Problem> {
    let rules = Rules { values, found };
    if !rules.is("env", "development") {
        return rules.open_item_writes().into_iter().collect();
    }
    let weak = rules.check_secrets().map(|(subject, wrong)| {
        let what = format!("{}, which production refuses", wrong.what);
        Problem::new(subject, &Wrong::new(what, wrong.mend))
    });
    weak.chain(rules.open_to_others()).collect()
}

struct Rules<'a> {
    values: &'a Values,
    found: &'a Layer,
}

impl Rules<'_> {
    fn is(&self, name: &str, word: &str) -> bool {
        matches!(self.values.get(name), Some(Value::Choice(choice)) if *choice == word)
    }

    fn address(&self, name: &str) -> Option<SocketAddr> {
        match self.values.get(name) {
            Some(Value::Address(address)) => Some(*address),
            _ => None,
        }
    }

    /// How a message calls a setting: as it was given, else by its usual name.
    fn subject(&self, name: &str) -> String {
        match self.found.get(name) {
            Some(Ok(found)) => found.origin.subject(),
            _ => format!("{} (not set)", setting(name).usual_name()),
        }
    }

    fn check_addresses(&self) -> Vec<Problem> {
        let (bind, admin) = (self.address("bind"), self.address("admin-bind"));
        // Port 0 is another one each time.
        if bind.is_none_or(|bind| bind.port() == 0) || bind != admin {
            return Vec::new();
        }
        let wrong = Wrong::new("the address of --bind", "give another port");
        vec![Problem::new(self.subject("admin-bind"), &wrong)]
    }

    fn check_required(&self) -> Vec<Problem> {
        let needs = [
            ("database-url", super::database::MEND, "production has no embedded database"),
            ("jwt-secret-key", MEND_SECRET, "production generates no key"),
        ];
        let missing = needs.iter().filter(|(name, ..)| !self.found.contains_key(name));
        missing
            .map(|(name, mend, what)| Problem::new(self.subject(name), &Wrong::new(*what, *mend)))
            .collect()
    }

    fn check_secrets(&self) -> impl Iterator<Item = (String, Wrong)> {
        ["jwt-secret-key", "jwt-secret-key-previous"].into_iter().filter_map(|name| {
            let Some(Value::Secret(secret)) = self.values.get(name) else { return None };
            let what = weakness(secret.expose_secret())?;
            Some((self.subject(name), Wrong::new(what, MEND_SECRET)))
        })
    }

    /// A secret in a file that everybody on the machine may read or write.
    fn check_exposed(&self, setting: &Setting) -> Option<Problem> {
        let Some(Ok(found)) = self.found.get(setting.name) else { return None };
        let mode = found.file_mode.filter(|mode| mode & 0o006 != 0)?;
        let holds_secret = match self.values.get(setting.name) {
            Some(Value::Database(url)) => url.config().get_password().is_some(),
            _ => setting.secret,
        };
        let wrong = Wrong::new(
            format!("a secret in a file that is open to every user (mode {mode:04o})"),
            "chmod it to 0600, or 0640 for a group",
        );
        holds_secret.then(|| Problem::new(found.origin.subject(), &wrong))
    }

    /// What helps while building opens doors in production.
    fn check_aids(&self) -> Vec<Problem> {
        let on = |name: &str| {
            matches!(self.values.get(name), Some(Value::Switch(true) | Value::Faults(_)))
        };
        let aids = ["debug", "faults"].into_iter().filter(|name| on(name));
        let wrong = Wrong::new("not in production", "remove it, or set PEACE_ENV=development");
        aids.map(|name| Problem::new(self.subject(name), &wrong)).collect()
    }

    fn open_item_writes(&self) -> Option<Problem> {
        let wrong = Wrong::new(
            "everybody may write everybody's items, without a token",
            "remove it as soon as every client sends one",
        );
        let is_open = self.is("item-writes", "anyone");
        is_open.then(|| Problem::new(self.subject("item-writes"), &wrong))
    }

    fn open_to_others(&self) -> Option<Problem> {
        let address = self.address("bind")?;
        let is_open = match address.ip() {
            IpAddr::V4(ip) => !ip.is_loopback(),
            IpAddr::V6(ip) => !ip.is_loopback(),
        };
        let wrong = Wrong::new(
            "development mode, open to other machines",
            "set PEACE_ENV=production, or bind to 127.0.0.1",
        );
        is_open.then(|| Problem::new(self.subject("bind"), &wrong))
    }
}

/// Why somebody could guess this key.
fn weakness(secret: &str) -> Option<&'static str> {
    let bytes = secret.as_bytes();
    let mut seen = [false; 256];
    bytes.iter().for_each(|byte| seen[usize::from(*byte)] = true);
    let distinct = seen.iter().filter(|seen| **seen).count();
    match secret {
        _ if KNOWN_SECRETS.iter().any(|known| known.eq_ignore_ascii_case(secret.trim())) => {
            Some("a key that everybody knows")
        }
        _ if bytes.len() < SECRET_BYTES_MIN => Some("shorter than 32 bytes"),
        _ if distinct < SECRET_DISTINCT_MIN => Some("made of too few different characters"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_can_be_guessed_are_weak() {
        for (secret, why) in [
            ("my-secret-jwt-key", "a key that everybody knows"),
            ("Secret", "a key that everybody knows"),
            ("changeme", "a key that everybody knows"),
            ("a-string-secret-at-least-256-bits-long", "a key that everybody knows"),
            ("0123456789abcdef0123456789abcde", "shorter than 32 bytes"),
            ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "made of too few different characters"),
            ("changemechangemechangemechangeme", "made of too few different characters"),
        ] {
            assert_eq!(weakness(secret), Some(why), "{secret}");
        }
        assert_eq!(weakness("b7f1c2d90e4a58637f1b2c3d4e5f6071"), None);
    }
}
