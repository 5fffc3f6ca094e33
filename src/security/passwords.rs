//! Passwords: argon2id, on a thread of its own; and the hashes that were stored before.
//!
//! `users` hashes and replaces, `auth` verifies. Each takes some 20 ms of one CPU and 19 MiB,
//! which would hold up every other request of the worker, so it runs on one low-priority thread
//! behind a queue of 32; beyond it the caller hears `Busy` at once. Who has to ask a database
//! before takes a [`PasswordPlace`] in the queue first.
//! Hashes of bcrypt (`$2a$`, `$2b$`, `$2y$`), which the Python template stored, can be verified; so
//! can those of argon2 made otherwise than ours, up to a limit. A password that fits one comes back
//! with the hash to store instead, computed in the same job: `Verdict::Outdated`. A bcrypt hash of
//! cost 12, which Python makes unless told otherwise, takes the thread ten times as long as one of
//! ours: a full queue of them is seven seconds of waiting, until their users have logged in once.
//! Whether a user exists, has no password, one that cannot be read, or another one: the work is
//! that of one hash, so the time of an answer tells none of it. It can tell a user whose hash is
//! an old one still, since to refuse a password costs what the stored hash says.
//! Source: RFC 9106 (argon2id), OWASP Password Storage (19 MiB, 2 passes, 1 lane); Provos and
//! Mazieres, "A Future-Adaptable Password Scheme" (bcrypt).

use std::ops::RangeInclusive;

use crate::metrics::{PasswordMeters, Queued};
use argon2::{
    Algorithm, Argon2, Params, PasswordHash, PasswordHasher, PasswordVerifier, Version,
    password_hash,
};
use bcrypt::HashParts;
use passwords::analyzer::is_common_password;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value as Schema;
use thiserror::Error;
use tracing::debug;
use worker::{CpuPlace, CpuThread, Fault, Rule, Text, Value};

/// Shortest password, in characters.
const LENGTH_MIN: usize = 8;
/// Longest password, in characters; every byte of it counts.
const LENGTH_MAX: usize = 64;

/// What people may think of, for the API document.
const EXAMPLE: &str = "correct horse";
/// What tokens look like, for the API document.
pub const REFRESH_TOKEN: &str = concat!(
    "6f2c1f0e5d8b4a79962d1b3c4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f6071",
    "0c9d8e7f6a5b4c3d2e1f00112233445566778899aabbccddeeff0123456789ab"
);
/// The same of access tokens.
pub const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl";

/// The rule for a field that holds a secret: judged as text, and kept as what no log shows.
#[derive(Debug, Clone, Copy)]
pub struct Secret {
    text: Text,
    may_be_common: bool,
}

impl Secret {
    /// What a new password must be.
    pub fn new_password() -> Self {
        let text = Text::between(LENGTH_MIN, LENGTH_MAX).like(EXAMPLE);
        Self { text, may_be_common: false }
    }

    /// One that is compared with what is known: too long for that is wrong, not malformed.
    pub fn to_compare() -> Self {
        Self::plain(Text::unbounded().like(EXAMPLE))
    }

    /// A refresh token, which is of our own making.
    pub fn refresh_token() -> Self {
        Self::plain(Text::unbounded().like(REFRESH_TOKEN))
    }

    fn plain(text: Text) -> Self {
        Self { text, may_be_common: true }
    }
}

impl Rule for Secret {
    type Output = SecretString;

    fn check(&self, value: &Value<'_>) -> Result<SecretString, Fault> {
        let text = self.text.check(value)?;
        if !self.may_be_common && is_common(&text) {
            return Err(Fault::value("this is one of the passwords that are guessed first"));
        }
        Ok(SecretString::from(text))
    }

    fn describe(&self) -> Schema {
        let mut schema = self.text.describe();
        schema["format"] = "password".into();
        schema
    }
}

/// Whether many people have this password; capital letters make it no other one.
fn is_common(password: &str) -> bool {
    is_common_password(password) || is_common_password(password.to_lowercase())
}

/// No password is longer than this, in bytes: a longer text is wrong without being hashed, since
/// the time that takes grows with it.
const BYTES_MAX: usize = 4 * LENGTH_MAX;

/// How many passwords may wait: about half a second of work on hashes of ours.
const QUEUE_MAX: usize = 32;

/// The bcrypt hashes that are read. Each step doubles the work and nothing can stop it midway:
/// 14 is about a second of the thread, and one login at 31 would hold it for a day.
const BCRYPT_COSTS: RangeInclusive<u32> = 4..=14;

/// The argon2 hashes that are read: memory (KiB), passes and lanes at most. Whoever knows a user's
/// name can have them computed, and one of a GiB would be more than the worker may hold. Others'
/// usual ones are below: 64 MiB, 3 passes, 4 lanes. The most is half a second of the thread.
const ARGON2_KIB_MAX: u32 = 64 * 1024;
const ARGON2_PASSES_MAX: u32 = 10;
const ARGON2_LANES_MAX: u32 = 4;

/// What bcrypt sees of a password and the zero byte behind it; it does not see what follows.
const BCRYPT_BYTES_MAX: usize = 72;

/// Nobody's hash: made as ours are, but its digest was made up, so no password fits. Verified
/// where there is none.
const NOBODY: &str = concat!(
    "$argon2id$v=19$m=19456,t=2,p=1",
    "$cGVhY2Utbm9ib2R5LTAx$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"
);

/// What a password is to the hash that was stored. No `Debug`: a hash is a secret.
pub enum Verdict {
    /// It is not the password, or there is none.
    Wrong,
    /// It is the password.
    Right,
    /// It is the password, and the stored hash is not made as we make them today.
    Outdated {
        /// What to store instead, unless the stored hash has changed in the meantime: the user
        /// may have replaced the password since.
        new_hash: String,
    },
}

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
    meters: PasswordMeters,
}

impl Passwords {
    /// Starts the thread. Only after the fork, which no thread survives.
    pub fn start() -> std::io::Result<Self> {
        let thread = CpuThread::start("passwords", QUEUE_MAX)?;
        Ok(Self { thread, meters: PasswordMeters::default() })
    }

    /// Counts there what it does.
    #[must_use]
    pub fn counted_in(self, meters: PasswordMeters) -> Self {
        Self { meters, ..self }
    }

    /// Whether a place can be had at this moment: for who has something to look up before.
    ///
    /// **Errors**: `Busy`, which is counted as a password that was turned away.
    pub fn must_have_a_place(&self) -> Result<(), PasswordError> {
        if self.thread.is_full() { Err(self.busy()) } else { Ok(()) }
    }

    /// Takes a place in the queue.
    ///
    /// **Errors**: `Busy` when too many others wait.
    pub fn place(&self) -> Result<PasswordPlace, PasswordError> {
        let place = self.thread.place().map_err(|_| self.busy())?;
        Ok(PasswordPlace { place, meters: self.meters, _queued: self.meters.queued() })
    }

    /// What to store for this password.
    pub async fn hash(&self, password: SecretString) -> Result<String, PasswordError> {
        self.place()?.run(move || hash(&password)).await
    }

    fn busy(&self) -> PasswordError {
        self.meters.refused();
        PasswordError::Busy
    }
}

/// A place in the queue, for one password after the other.
pub struct PasswordPlace {
    place: CpuPlace,
    meters: PasswordMeters,
    _queued: Queued,
}

impl PasswordPlace {
    /// Whether this password is the one that was stored; without a stored one it is not.
    pub async fn verify(
        &mut self,
        password: SecretString,
        stored: Option<String>,
    ) -> Result<Verdict, PasswordError> {
        self.run(move || verify(&password, stored.as_deref())).await
    }

    /// What to store for `new`, or nothing if `current` is not the password that was stored.
    pub async fn replace(
        &mut self,
        current: SecretString,
        stored: Option<String>,
        new: SecretString,
    ) -> Result<Option<String>, PasswordError> {
        self.run(move || fitted(&current, stored.as_deref()).map(|_| hash(&new)).transpose()).await
    }

    async fn run<T: Send + 'static>(
        &mut self,
        work: impl FnOnce() -> Result<T, password_hash::Error> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let ended = self.place.run(work).await;
        self.meters.done();
        match ended {
            Ok(done) => done.map_err(|error| PasswordError::Failed(error.to_string())),
            Err(error) => Err(PasswordError::Failed(error.to_string())),
        }
    }
}

/// Hashes with a new salt from the kernel: no generator whose state a fork would copy.
fn hash(password: &SecretString) -> Result<String, password_hash::Error> {
    debug!("a password is hashed");
    let hash = Argon2::default().hash_password(password.expose_secret().as_bytes())?;
    Ok(hash.to_string())
}

fn verify(password: &SecretString, stored: Option<&str>) -> Result<Verdict, password_hash::Error> {
    match fitted(password, stored) {
        None => Ok(Verdict::Wrong),
        Some(old) if old.gives_way_to(password.expose_secret()) => {
            hash(password).map(|new_hash| Verdict::Outdated { new_hash })
        }
        Some(_) => Ok(Verdict::Right),
    }
}

/// The stored hash, if the password fits it. One hash is computed in any case, also where nothing
/// can fit.
fn fitted<'a>(password: &SecretString, stored: Option<&'a str>) -> Option<Stored<'a>> {
    let password = Some(password.expose_secret().as_bytes()).filter(|it| it.len() <= BYTES_MAX);
    let stored = stored.and_then(Stored::parse);
    let can_fit = password.is_some() && stored.is_some();
    let hash = stored.unwrap_or_else(|| Stored::Argon2(nobody()));
    debug!("a password is compared");
    let fits = hash.fits(password.unwrap_or_default());
    (fits && can_fit).then_some(hash)
}

/// Whether passwords can be verified against this stored hash.
pub fn is_readable(stored: &str) -> bool {
    Stored::parse(stored).is_some()
}

/// A stored hash with all that verifying needs.
enum Stored<'a> {
    Argon2(Box<PasswordHash>),
    Bcrypt(&'a str),
}

impl<'a> Stored<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let bcrypt = || is_bcrypt(text).then_some(Self::Bcrypt(text));
        parse_argon2(text).map(Self::Argon2).or_else(bcrypt)
    }

    fn fits(&self, password: &[u8]) -> bool {
        match self {
            Self::Argon2(hash) => Argon2::default().verify_password(password, &**hash).is_ok(),
            // Its errors are those of parsing, which is done: then nothing fits.
            Self::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
        }
    }

    /// Whether a hash of ours should replace this one, now that `password` fits it.
    ///
    /// One of bcrypt only where no other password fits it. It does not see what is behind its
    /// limit, and it repeats what is short with a zero byte between, so that "a\0a" fits as "a"
    /// does. There a typing error could become the password.
    fn gives_way_to(&self, password: &str) -> bool {
        match self {
            Self::Argon2(hash) => recipe(hash) != recipe(&nobody()),
            Self::Bcrypt(_) => password.len() < BCRYPT_BYTES_MAX && !password.contains('\0'),
        }
    }
}

fn parse_argon2(text: &str) -> Option<Box<PasswordHash>> {
    let hash = PasswordHash::new(text).map(Box::new).ok()?;
    Algorithm::try_from(hash.algorithm.as_str()).ok()?;
    hash.version.map(Version::try_from).transpose().ok()?;
    let params = Params::try_from(&*hash).ok()?;
    let is_affordable = params.m_cost() <= ARGON2_KIB_MAX
        && params.t_cost() <= ARGON2_PASSES_MAX
        && params.p_cost() <= ARGON2_LANES_MAX;
    (is_affordable && hash.salt.is_some() && hash.hash.is_some()).then_some(hash)
}

/// Not `$2x$`, which marks the hashes of a bcrypt that took letters beyond ASCII wrongly: the
/// library would compute the right ones, and Python makes neither.
fn is_bcrypt(text: &str) -> bool {
    let is_sound = ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| text.starts_with(prefix));
    let parts = text.parse::<HashParts>();
    is_sound && parts.is_ok_and(|parts| BCRYPT_COSTS.contains(&parts.get_cost()))
}

fn nobody() -> Box<PasswordHash> {
    parse_argon2(NOBODY).expect("NOBODY is well-formed: a test reads it")
}

/// How a hash was made: algorithm, version, parameters, and bytes of the digest.
fn recipe(hash: &PasswordHash) -> (&str, Option<u32>, &str, Option<usize>) {
    let digest_bytes = hash.hash.as_ref().map(|digest| digest.len());
    (hash.algorithm.as_str(), hash.version, hash.params.as_str(), digest_bytes)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nix::time::{ClockId, clock_gettime};

    use super::*;

    /// Made by Python's bcrypt 4.3.0, as are all the bcrypt hashes below; the ones of other
    /// prefixes and costs were derived from them.
    const FROM_PYTHON: [(&str, &str); 6] = [
        ("", "$2b$04$5wERLjm2J0Cf8Ad7HD6.9.0pqZXZJIx1mwrP9Lx2Dg8JniuROqt1S"),
        ("correct horse battery", "$2b$04$levsMJepgLYEWLFq6.HCC.WQHuK8u1/PuL6tZ0PKdr5aOgy3IutT."),
        ("correct horse battery", "$2a$05$jCm7d4Ik3O.Eat0Jpwyls.KZRan32.VuH8h00tQbZxtlIwirhKLFq"),
        ("correct horse battery", "$2y$05$jCm7d4Ik3O.Eat0Jpwyls.KZRan32.VuH8h00tQbZxtlIwirhKLFq"),
        ("Käse-Fräulein 中文密码", "$2b$06$SB7YU.t43oJifY2TBFPeIOtbgCvNyWxgXC0IazfMr/5r/k5rHJqAK"),
        ("MyPassword! [?", "$2b$12$Ndz5RjqIJkd3qZITaySslOhF0dF6a7SPqN4ArQTX03EXo50o5O.Zq"),
    ];
    /// Of "x" 71, 72 and 73 times.
    const OF_71: &str = "$2b$04$6K8tC/3QEwOqPZaGrmt26Oq67EJFOmZB5jkI8fABiLKI56q9hsmtq";
    const OF_72: &str = "$2b$04$V5OQM/cDB8dwCmyJSQQ2/emO8dUsspHuWgyz86f0egNeU/VDHgUZK";
    const OF_73: &str = "$2b$04$ec6q6qM2LEr4J2KPAlWsOuTr3TFt/HHIST7g33axg1wugL/9ldUCu";
    /// Of a dove, 64 times: 256 bytes.
    const OF_DOVES: &str = "$2b$05$HGI7hEz3GaNGKJW/M7kdQeRtyGoDmVP4KgLZ8SJLSLV5UeL1psJGG";
    /// Of "a".
    const OF_A: &str = "$2b$04$XwjJneJfrpPSvhw.8G5l7.oBvySYoEB7y0z/hTx1u5i0BdphowXgi";

    fn password(text: &str) -> SecretString {
        SecretString::from(text)
    }

    fn fits(text: &str, stored: &str) -> bool {
        fitted(&password(text), Some(stored)).is_some()
    }

    /// The verdict without what it holds.
    #[derive(Debug, PartialEq, Eq)]
    enum Kind {
        Wrong,
        Right,
        Outdated,
    }

    /// The verdict on a password; a new hash must be one of ours that fits it.
    fn verdict(text: &str, stored: &str) -> Kind {
        match verify(&password(text), Some(stored)).unwrap() {
            Verdict::Wrong => Kind::Wrong,
            Verdict::Right => Kind::Right,
            Verdict::Outdated { new_hash } => {
                assert_eq!(verdict(text, &new_hash), Kind::Right, "the new hash of {text:?}");
                Kind::Outdated
            }
        }
    }

    #[test]
    fn a_password_fits_its_hash_and_no_other() {
        let stored = hash(&password("MyPassword! [?中")).unwrap();
        assert_eq!(verdict("MyPassword! [?中", &stored), Kind::Right);
        assert_eq!(verdict("MyPassword! [?", &stored), Kind::Wrong);
        assert_eq!(verdict("", &stored), Kind::Wrong);
    }

    #[test]
    fn every_byte_of_64_characters_of_any_script_counts() {
        for script in ["x", "é", "Ж", "中", "🕊"] {
            let text = script.repeat(LENGTH_MAX);
            let stored = hash(&password(&text)).unwrap();
            assert_eq!(verdict(&text, &stored), Kind::Right, "{script}");
            let last = text.len() - script.len();
            for other in [&text[..last], &format!("{}y", &text[..last]), &format!("{text}{script}")]
            {
                assert_eq!(verdict(other, &stored), Kind::Wrong, "{script}");
            }
        }
    }

    #[test]
    fn what_many_people_choose_is_no_new_password() {
        let judge = |rule: Secret, text: &str| rule.check(&Value::Text(text.into())).is_ok();
        for common in
            ["password", "12345678", "Password123", "PASSWORD123", "qwertyuiop", "iloveyou1"]
        {
            assert!(!judge(Secret::new_password(), common), "{common}");
            assert!(judge(Secret::to_compare(), common), "{common}: who has it may log in");
        }
        for rare in [EXAMPLE, "pass word", "ein Hauch von Nichts", "中文密码也可以的"] {
            assert!(judge(Secret::new_password(), rare), "{rare}");
        }
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
        assert!(fits(&long, &stored));
        assert!(!fits(&other, &stored));
    }

    #[test]
    fn without_a_readable_hash_nothing_fits_after_the_work_of_one() {
        let shortest = (0..3).map(|_| timed(|| fits("secret", NOBODY))).min().unwrap() / 4;
        for stored in [
            "",
            "secret",
            "$argon2id$",
            "$argon2id$v=19$m=19456,t=2,p=1",
            "$argon2id$v=19$m=19456,t=2,p=1$cGVhY2Utbm9ib2R5LTAx",
            &NOBODY.replace("v=19$m=19456", "v=18$m=19456"),
            &NOBODY.replace("v=19$m=19456", "v=19$m=1"),
            &NOBODY.replace("v=19$m=19456", "v=19$m=1048576"),
            "$2b$",
            "$2b$04$5wERLjm2J0Cf8Ad7HD6.9.0pqZXZJIx1mwrP9Lx2Dg8JniuROqt1",
            "$2b$04$5wERLjm2J0Cf8Ad7HD6.9.0pqZXZJIx1mwrP9Lx2Dg8JniuROqt1S ",
            "$2b$04$5wERLjm2J0Cf8Ad7HD6!9.0pqZXZJIx1mwrP9Lx2Dg8JniuROqt1S",
            "$2b$04$5wERLjm2J0Cf8Ad7HD6.ä.pqZXZJIx1mwrP9Lx2Dg8JniuROqt1S0",
            "$2b$xx$5wERLjm2J0Cf8Ad7HD6.9.0pqZXZJIx1mwrP9Lx2Dg8JniuROqt1S",
            "$2c$04$5wERLjm2J0Cf8Ad7HD6.9.0pqZXZJIx1mwrP9Lx2Dg8JniuROqt1S",
            "$2x$04$5wERLjm2J0Cf8Ad7HD6.9.0pqZXZJIx1mwrP9Lx2Dg8JniuROqt1S",
            "$2b$03$5wERLjm2J0Cf8Ad7HD6.9.0pqZXZJIx1mwrP9Lx2Dg8JniuROqt1S",
            "$2b$15$5wERLjm2J0Cf8Ad7HD6.9.0pqZXZJIx1mwrP9Lx2Dg8JniuROqt1S",
            "$2b$31$5wERLjm2J0Cf8Ad7HD6.9.0pqZXZJIx1mwrP9Lx2Dg8JniuROqt1S",
            "$2b$99$5wERLjm2J0Cf8Ad7HD6.9.0pqZXZJIx1mwrP9Lx2Dg8JniuROqt1S",
        ] {
            assert!(!is_readable(stored), "{stored}");
            let took = timed(|| assert!(!fits("secret", stored), "{stored}"));
            assert!(took > shortest, "{stored}: {took:?}, a hash takes four times {shortest:?}");
        }
        assert!(fitted(&password("secret"), None).is_none());
        assert!(is_readable(NOBODY) && !fits("secret", NOBODY));
    }

    #[test]
    fn a_text_longer_than_any_password_is_not_hashed() {
        let fitting = "x".repeat(BYTES_MAX);
        assert!(fits(&fitting, &hash(&password(&fitting)).unwrap()));
        assert!(fits(&fitting, OF_73));
        let endless = "x".repeat(BYTES_MAX + 1);
        assert!(!fits(&endless, &hash(&password(&endless)).unwrap()));
        assert!(!fits(&endless, &hash(&password("")).unwrap()), "nor cut off");
        assert!(!fits(&endless, OF_73), "nor where bcrypt would cut it off");
        assert!(!fits(&endless, FROM_PYTHON[0].1), "nor taken for an empty one");
    }

    #[test]
    fn a_secret_is_judged_as_text_and_not_shown() {
        let check = |rule: Secret, text: &str| rule.check(&Value::Text(text.into()));
        let kind = |rule, text: &str| check(rule, text).unwrap_err().kind;
        let secret = check(Secret::new_password(), "1x3y5z78").unwrap();
        assert_eq!(secret.expose_secret(), "1x3y5z78");
        assert!(!format!("{secret:?}").contains('1'));
        assert_eq!(kind(Secret::new_password(), "1234567"), "string_too_short");
        assert!(check(Secret::new_password(), &"x".repeat(64)).is_ok());
        assert_eq!(kind(Secret::new_password(), &"x".repeat(65)), "string_too_long");
        assert!(check(Secret::to_compare(), "").is_ok());
        assert!(check(Secret::to_compare(), &"x".repeat(10_000)).is_ok());
        let described = Secret::new_password().describe();
        assert_eq!((&described["minLength"], &described["maxLength"]), (&8.into(), &64.into()));
    }

    /// How much processor time it takes: what else the machine does is not in it.
    fn timed<T>(work: impl FnOnce() -> T) -> Duration {
        let now = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap());
        let start = now();
        work();
        now() - start
    }

    #[test]
    fn nobody_costs_as_much_as_a_user() {
        let user = hash(&password("12345678")).unwrap();
        assert_eq!(recipe(&nobody()), recipe(&PasswordHash::new(&user).unwrap()));
    }

    #[test]
    fn a_hash_says_how_it_was_made() {
        let stored = hash(&password("12345678")).unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
    }

    #[test]
    fn a_hash_from_python_fits_its_password_only_and_is_outdated() {
        for (text, stored) in FROM_PYTHON {
            assert!(is_readable(stored), "{stored}");
            assert_eq!(verdict(text, stored), Kind::Outdated, "{text:?}, {stored}");
            assert_eq!(verdict("Correct horse battery", stored), Kind::Wrong, "{stored}");
        }
    }

    #[test]
    fn a_hash_of_argon2_that_takes_the_most_is_read_and_the_next_is_not() {
        let of_cost = |cost: &str| NOBODY.replace("m=19456,t=2,p=1", cost);
        for cost in ["m=65536,t=10,p=4", "m=65536,t=2,p=1", "m=8,t=10,p=1", "m=32,t=1,p=4"] {
            assert!(is_readable(&of_cost(cost)), "{cost}");
        }
        for cost in ["m=65537,t=2,p=1", "m=1048576,t=2,p=1", "m=19456,t=11,p=1", "m=19456,t=2,p=5"]
        {
            assert!(!is_readable(&of_cost(cost)), "{cost}");
        }
    }

    #[test]
    fn a_hash_with_the_highest_cost_is_read_and_the_next_is_not() {
        let of_cost = |cost: &str| OF_A.replace("$04$", cost);
        assert!(is_readable(&of_cost("$14$")));
        assert!(!is_readable(&of_cost("$15$")));
    }

    #[test]
    fn what_bcrypt_cannot_tell_apart_does_not_become_the_password() {
        assert_eq!(verdict(&"x".repeat(71), OF_71), Kind::Outdated);
        assert_eq!(verdict(&"x".repeat(72), OF_71), Kind::Wrong, "bcrypt saw where it ends");
        for stored in [OF_72, OF_73] {
            assert_eq!(verdict(&"x".repeat(71), stored), Kind::Wrong);
            // Either may have been cut off, the one that is stored or the one that is typed.
            assert_eq!(verdict(&"x".repeat(72), stored), Kind::Right);
            assert_eq!(verdict(&"x".repeat(73), stored), Kind::Right);
            assert_eq!(verdict(&("x".repeat(72) + "typo"), stored), Kind::Right);
        }
        assert_eq!(verdict(&"🕊".repeat(64), OF_DOVES), Kind::Right);
        assert_eq!(verdict("a", OF_A), Kind::Outdated);
        assert_eq!(verdict("a\0a", OF_A), Kind::Right, "bcrypt repeats what is short");
    }

    #[test]
    fn a_hash_of_argon2_made_otherwise_is_outdated() {
        let ours = || Params::new(19_456, 2, 1, Some(32)).unwrap();
        let stored = |algorithm, version, params| {
            let argon2 = Argon2::new(algorithm, version, params);
            argon2.hash_password(b"12345678").unwrap().to_string()
        };
        let same = stored(Algorithm::Argon2id, Version::V0x13, ours());
        assert_eq!(verdict("12345678", &same), Kind::Right);
        let params = |m, t, p, bytes| Params::new(m, t, p, Some(bytes)).unwrap();
        for other in [
            stored(Algorithm::Argon2i, Version::V0x13, ours()),
            stored(Algorithm::Argon2d, Version::V0x13, ours()),
            stored(Algorithm::Argon2id, Version::V0x10, ours()),
            stored(Algorithm::Argon2id, Version::V0x13, params(19_457, 2, 1, 32)),
            stored(Algorithm::Argon2id, Version::V0x13, params(19_456, 3, 1, 32)),
            stored(Algorithm::Argon2id, Version::V0x13, params(19_456, 2, 2, 32)),
            stored(Algorithm::Argon2id, Version::V0x13, params(19_456, 2, 1, 16)),
        ] {
            assert_eq!(verdict("12345678", &other), Kind::Outdated, "{other}");
            assert_eq!(verdict("12345679", &other), Kind::Wrong, "{other}");
        }
    }

    #[tokio::test]
    async fn an_old_hash_is_verified_and_replaced_on_the_thread() {
        let passwords = Passwords::start().unwrap();
        let (text, stored) = FROM_PYTHON[1];
        let stored = || Some(stored.to_owned());
        let mut place = passwords.place().unwrap();
        let verdict = place.verify(password(text), stored()).await.unwrap();
        assert!(matches!(verdict, Verdict::Outdated { .. }));
        let verdict = place.verify(password(text), None).await.unwrap();
        assert!(matches!(verdict, Verdict::Wrong));

        let new = place.replace(password(text), stored(), password("87654321")).await.unwrap();
        assert!(fits("87654321", &new.unwrap()));
        let new = place.replace(password("wrong"), stored(), password("87654321")).await;
        assert!(new.unwrap().is_none());
    }
}
