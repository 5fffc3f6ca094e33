//! Passwords: argon2id, on a thread of its own.
//!
//! `users` hashes and replaces, `auth` verifies. Each takes some 20 ms of one CPU and 19 MiB,
//! which would hold up every other request of the worker, so it runs on one low-priority thread
//! behind a queue of 32; beyond it the caller hears `Busy` at once.
//! Whether a user exists, has no password, one that cannot be read, or another one: the work is
//! that of one hash, so the time of an answer tells none of it. It can tell a hash that was stored
//! with other parameters than ours, which costs what they say.
//! Not there yet: hashes of bcrypt (`$2b$`), which the Python template stored. They cannot be read,
//! so their users cannot log in; `users` logs a warning that says whose it is.
//! Does not know which passwords are allowed: the payloads do.
//! Source: RFC 9106 (argon2id), OWASP Password Storage (19 MiB, 2 passes, 1 lane).

use argon2::{
    Algorithm, Argon2, Params, PasswordHash, PasswordHasher, PasswordVerifier, Version,
    password_hash,
};
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;
use worker::{CpuThread, JobError};

/// Shortest password, in characters.
pub const LENGTH_MIN: usize = 8;
/// Longest password, in characters; every byte of it counts.
pub const LENGTH_MAX: usize = 64;

/// No password is longer than this, in bytes: a longer text is wrong without being hashed, since
/// the time that takes grows with it.
const BYTES_MAX: usize = 4 * LENGTH_MAX;

/// How many passwords may wait: about half a second of work.
const QUEUE_MAX: usize = 32;

/// Nobody's hash: its digest was made up, so no password fits. Verified where there is none.
const NOBODY: &str = concat!(
    "$argon2id$v=19$m=19456,t=2,p=1",
    "$cGVhY2Utbm9ib2R5LTAx$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"
);

/// Why a password was neither hashed nor verified.
#[derive(Debug, Error)]
pub enum PasswordError {
    /// Too many others wait.
    #[error("{QUEUE_MAX} passwords are waiting already")]
    Busy,
    /// The hash could not be computed.
    #[error("a password could not be hashed: {0}")]
    Failed(String),
}

/// Hashes and verifies passwords, one after the other.
pub struct Passwords {
    thread: CpuThread,
}

impl Passwords {
    /// Starts the thread. Only after the fork, which no thread survives.
    pub fn start() -> std::io::Result<Self> {
        Ok(Self { thread: CpuThread::start("passwords", QUEUE_MAX)? })
    }

    /// What to store for this password.
    pub async fn hash(&self, password: SecretString) -> Result<String, PasswordError> {
        self.run(move || hash(&password)).await
    }

    /// Whether this password is the one that was stored; without a stored one it is not.
    pub async fn verify(
        &self,
        password: SecretString,
        stored: Option<String>,
    ) -> Result<bool, PasswordError> {
        self.run(move || Ok(verify(&password, stored.as_deref()))).await
    }

    /// What to store for `new`, or nothing if `current` is not the password that was stored.
    pub async fn replace(
        &self,
        current: SecretString,
        stored: Option<String>,
        new: SecretString,
    ) -> Result<Option<String>, PasswordError> {
        self.run(move || verify(&current, stored.as_deref()).then(|| hash(&new)).transpose()).await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, password_hash::Error> + Send + 'static,
    ) -> Result<T, PasswordError> {
        match self.thread.run(work).await {
            Ok(done) => done.map_err(|error| PasswordError::Failed(error.to_string())),
            Err(JobError::Busy) => Err(PasswordError::Busy),
            Err(error @ JobError::Panicked) => Err(PasswordError::Failed(error.to_string())),
        }
    }
}

/// Hashes with a new salt from the kernel: no generator whose state a fork would copy.
fn hash(password: &SecretString) -> Result<String, password_hash::Error> {
    let hash = Argon2::default().hash_password(password.expose_secret().as_bytes())?;
    Ok(hash.to_string())
}

/// One hash is computed in any case, also where nothing can fit.
fn verify(password: &SecretString, stored: Option<&str>) -> bool {
    let password = Some(password.expose_secret().as_bytes()).filter(|it| it.len() <= BYTES_MAX);
    let stored = stored.and_then(parse);
    let can_fit = password.is_some() && stored.is_some();
    let hash = stored.unwrap_or_else(nobody);
    let fits = Argon2::default().verify_password(password.unwrap_or_default(), &hash);
    fits.is_ok() && can_fit
}

/// Whether passwords can be verified against this stored hash.
pub fn is_readable(stored: &str) -> bool {
    parse(stored).is_some()
}

/// A hash with all that verifying needs.
fn parse(stored: &str) -> Option<PasswordHash> {
    let hash = PasswordHash::new(stored).ok()?;
    Algorithm::try_from(hash.algorithm.as_str()).ok()?;
    hash.version.map(Version::try_from).transpose().ok()?;
    Params::try_from(&hash).ok()?;
    (hash.salt.is_some() && hash.hash.is_some()).then_some(hash)
}

fn nobody() -> PasswordHash {
    PasswordHash::new(NOBODY).expect("NOBODY is well-formed: a test reads it")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn password(text: &str) -> SecretString {
        SecretString::from(text)
    }

    #[test]
    fn a_password_fits_its_hash_and_no_other() {
        let stored = hash(&password("MyPassword! [?中")).unwrap();
        assert!(verify(&password("MyPassword! [?中"), Some(&stored)));
        assert!(!verify(&password("MyPassword! [?"), Some(&stored)));
        assert!(!verify(&password(""), Some(&stored)));
    }

    #[test]
    fn the_same_password_has_another_hash_every_time() {
        assert_ne!(hash(&password("12345678")).unwrap(), hash(&password("12345678")).unwrap());
    }

    #[test]
    fn the_last_byte_of_the_longest_password_counts() {
        let long = "🕊".repeat(LENGTH_MAX);
        let stored = hash(&password(&long)).unwrap();
        let mut other = long.clone();
        other.pop();
        other.push('🕋');
        assert!(verify(&password(&long), Some(&stored)));
        assert!(!verify(&password(&other), Some(&stored)));
    }

    #[test]
    fn without_a_readable_hash_nothing_fits_after_the_work_of_one() {
        let shortest = timed(|| verify(&password("secret"), Some(NOBODY))) / 4;
        for stored in [
            "",
            "secret",
            "$argon2id$",
            "$argon2id$v=19$m=19456,t=2,p=1",
            "$argon2id$v=19$m=19456,t=2,p=1$cGVhY2Utbm9ib2R5LTAx",
            &NOBODY.replace("v=19$m=19456", "v=18$m=19456"),
            &NOBODY.replace("v=19$m=19456", "v=19$m=1"),
            "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
        ] {
            assert!(!is_readable(stored), "{stored}");
            let took = timed(|| assert!(!verify(&password("secret"), Some(stored)), "{stored}"));
            assert!(took > shortest, "{stored}: {took:?}, a hash takes four times {shortest:?}");
        }
        assert!(!verify(&password("secret"), None));
        assert!(is_readable(NOBODY) && !verify(&password("secret"), Some(NOBODY)));
    }

    #[test]
    fn a_text_longer_than_any_password_is_not_hashed() {
        let fitting = "x".repeat(BYTES_MAX);
        assert!(verify(&password(&fitting), Some(&hash(&password(&fitting)).unwrap())));
        let endless = "x".repeat(BYTES_MAX + 1);
        assert!(!verify(&password(&endless), Some(&hash(&password(&endless)).unwrap())));
        assert!(!verify(&password(&endless), Some(&hash(&password("")).unwrap())), "nor cut off");
    }

    fn timed<T>(work: impl FnOnce() -> T) -> Duration {
        let start = Instant::now();
        work();
        start.elapsed()
    }

    #[test]
    fn nobody_costs_as_much_as_a_user() {
        let cost = |hash: &PasswordHash| (hash.algorithm, hash.version, hash.params.clone());
        let user = hash(&password("12345678")).unwrap();
        assert_eq!(cost(&nobody()), cost(&PasswordHash::new(&user).unwrap()));
        let length = |hash: &PasswordHash| hash.hash.map(|digest| digest.as_bytes().len());
        assert_eq!(length(&nobody()), length(&PasswordHash::new(&user).unwrap()));
    }

    #[test]
    fn a_hash_says_how_it_was_made() {
        let stored = hash(&password("12345678")).unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
    }
}
