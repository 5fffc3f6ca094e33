//! Fingerprints: which request it was, told from any other, and nothing else about it.
//!
//! `idempotency` keeps one of each request with a key, `login_limits` of names and addresses. It is
//! an HMAC under a key of the server, so that a short secret in a body, as the password of a new
//! user, cannot be guessed from what is kept. Keys are derived from the secrets that sign tokens; a
//! fingerprint under the previous one still counts, so that a change of the secret does not turn a
//! repeated request into another one. Tries to log in are counted under the current one only: a change
//! begins their counts anew, and while workers are replaced both have their own.
//! Source: RFC 2104 (HMAC).

use secrecy::{ExposeSecret, SecretString};

use super::hs256;

/// Takes fingerprints.
pub struct Fingerprints {
    current: [u8; 32],
    previous: Option<[u8; 32]>,
}

/// One request's, under each key.
#[derive(Debug)]
pub struct Fingerprint {
    current: [u8; 32],
    previous: Option<[u8; 32]>,
}

impl Fingerprints {
    /// With keys of their own, made of these secrets.
    pub fn new(current: &SecretString, previous: Option<&SecretString>) -> Self {
        Self { current: key(current), previous: previous.map(key) }
    }

    /// The fingerprint of a request.
    pub fn of(&self, method: &str, path: &str, body: &[u8]) -> Fingerprint {
        // No method or path holds NUL, so no two requests are the same text.
        let request = [method.as_bytes(), path.as_bytes(), body].join(&0);
        let under = |key: &[u8; 32]| hs256::mac(key, &request);
        Fingerprint { current: under(&self.current), previous: self.previous.as_ref().map(under) }
    }
}

impl Fingerprints {
    /// The fingerprint of tries to log in from a network, under a name where there is one.
    pub fn of_try(&self, network: &str, name: Option<&str>) -> Vec<u8> {
        let name = name.map_or_else(Vec::new, |name| [b"\0", name.as_bytes()].concat());
        // No method begins with a space, so no request is the same text.
        hs256::mac(&self.current, &[b" ", network.as_bytes(), &name].concat()).to_vec()
    }
}

impl Fingerprint {
    /// To be kept.
    pub fn bytes(&self) -> &[u8] {
        &self.current
    }

    /// Whether a kept one is of the same request.
    pub fn is(&self, kept: &[u8]) -> bool {
        kept == self.current || self.previous.is_some_and(|previous| kept == previous)
    }
}

fn key(secret: &SecretString) -> [u8; 32] {
    hs256::mac(secret.expose_secret().as_bytes(), b"peace: fingerprints of requests")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"name": "ann", "password": "correct horse"}"#;

    fn secret(text: &str) -> SecretString {
        SecretString::from(text)
    }

    #[test]
    fn a_request_is_known_by_its_method_path_and_body() {
        let prints = Fingerprints::new(&secret("the secret of these tests"), None);
        let kept = prints.of("POST", "/users", BODY);
        assert!(prints.of("POST", "/users", BODY).is(kept.bytes()));
        for (method, path, body) in [
            ("PUT", "/users", BODY),
            ("POST", "/users/", BODY),
            ("POST", "/user", b"s{}"),
            ("POST", "/users", &BODY[1..]),
        ] {
            assert!(!prints.of(method, path, body).is(kept.bytes()), "{method} {path}");
        }
    }

    #[test]
    fn a_changed_secret_does_not_make_it_another_request() {
        let (old, new) = (secret("the secret before"), secret("the secret of today"));
        let kept = Fingerprints::new(&old, None).of("POST", "/users", BODY);
        let changed = Fingerprints::new(&new, Some(&old)).of("POST", "/users", BODY);
        assert!(changed.is(kept.bytes()));
        let stranger = Fingerprints::new(&new, None).of("POST", "/users", BODY);
        assert!(!stranger.is(kept.bytes()), "without the secret it tells nothing");
    }
}
