//! Refresh tokens: random, good for one use, and worth nothing to who reads the database.
//!
//! `sessions` makes and stores them; `auth` reads what clients send back.
//! A token is two secrets of 256 bits, one after the other: the first one is the same in all tokens
//! of a session, the second one is its own. So a token that was used before still proves whose it
//! is, and nobody but a holder of one can name the session. Stored is the SHA-256 of each; they are
//! random, so that no slower hash would make them harder to guess.
//! Does not know: which token is good. Needs no key, so a change of the secret does not touch it.

use std::fmt::Write;

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

/// Of one secret, in digits: 256 bits.
const DIGITS: usize = 64;

/// A token.
pub struct RefreshToken(SecretString);

impl RefreshToken {
    /// The first one of a session.
    pub fn first() -> Self {
        Self::of(&secret(), &secret())
    }

    /// One that was sent.
    pub fn read(text: SecretString) -> Option<Self> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let digits = text.expose_secret().as_bytes();
        let is_one = digits.len() == 2 * DIGITS && digits.iter().copied().all(is_digit);
        is_one.then_some(Self(text))
    }

    /// Another one of the same session.
    pub fn successor(&self) -> Self {
        Self::of(self.halves().0, &secret())
    }

    /// What tells the session.
    pub fn family_hash(&self) -> Vec<u8> {
        Sha256::digest(self.halves().0).to_vec()
    }

    /// What tells this token from the others of its session.
    pub fn hash(&self) -> Vec<u8> {
        Sha256::digest(self.halves().1).to_vec()
    }

    /// What the client is given.
    pub fn text(&self) -> &str {
        self.0.expose_secret()
    }

    fn of(family: &str, own: &str) -> Self {
        Self(SecretString::from(format!("{family}{own}")))
    }

    fn halves(&self) -> (&str, &str) {
        self.text().split_at(DIGITS)
    }
}

/// 256 bits from the kernel: no generator whose state a fork would copy.
fn secret() -> String {
    let mut bytes = [0; DIGITS / 2];
    getrandom::fill(&mut bytes).expect("the kernel has random bytes once it has booted");
    bytes.iter().fold(String::with_capacity(DIGITS), |mut digits, byte| {
        write!(digits, "{byte:02x}").expect("a text takes every digit");
        digits
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<RefreshToken> {
        RefreshToken::read(SecretString::from(text))
    }

    #[test]
    fn a_successor_is_another_token_of_the_same_session() {
        let first = RefreshToken::first();
        let second = first.successor();
        assert_eq!(first.family_hash(), second.family_hash());
        assert_ne!(first.hash(), second.hash());
        let other = RefreshToken::first();
        assert_ne!(first.family_hash(), other.family_hash());
        assert_ne!(first.hash(), other.hash());
    }

    #[test]
    fn a_token_comes_back_as_it_was_given() {
        let token = RefreshToken::first();
        let back = read(token.text()).unwrap();
        assert_eq!((back.family_hash(), back.hash()), (token.family_hash(), token.hash()));
        assert_eq!((token.hash().len(), token.text().len()), (32, 128));
    }

    #[test]
    fn text_that_is_no_token_is_none() {
        let right = RefreshToken::first().text().to_owned();
        let wrong = [
            String::new(),
            right[1..].to_owned(),
            format!("{right}0"),
            right.replacen(|_| true, "g", 1),
            right.replacen(|_| true, "A", 1),
            format!("é{}", &right[2..]),
        ];
        for text in wrong {
            assert!(read(&text).is_none(), "{text}");
        }
    }
}
