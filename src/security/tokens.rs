//! Access tokens: who is calling, signed, for 15 minutes.
//!
//! `auth` issues them, `callers` reads them. A token is accepted when its signature is HS256
//! under the current or the previous key, it was issued by us (`iss`) for this API (`aud`), it
//! is an access token (`typ`: no other kind of token opens a route) and it has not expired. No
//! database is asked: a token of a deleted user is good, and finds no row.
//! It does not know where the secrets come from, nor how strong they are: the settings do.
//! Source: RFC 7519 (claims), RFC 7515 (`kid`), RFC 8725 (pinned algorithm, checked claims).

use std::borrow::Cow;
use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::hs256;

/// How long an access token is good.
pub const ACCESS_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// How far the clocks of two of our machines may differ.
const LEEWAY: Duration = Duration::from_secs(5);
const ISSUER: &str = "peace";
const AUDIENCE: &str = "app";

/// Why a token proves nothing. For the log; the client is told only that it is not valid.
#[derive(Debug, thiserror::Error)]
#[error("the token was refused: {0}")]
pub struct BadToken(String);

impl From<jsonwebtoken::errors::Error> for BadToken {
    fn from(error: jsonwebtoken::errors::Error) -> Self {
        Self(error.to_string())
    }
}

/// Signs new tokens and reads those that come back.
pub struct Tokens {
    current: Key,
    previous: Option<Key>,
    rules: Validation,
}

impl Tokens {
    /// Signs with `current`; tokens signed with `previous` stay good until they expire, so that
    /// a change of the secret signs nobody out.
    pub fn new(current: &SecretString, previous: Option<&SecretString>) -> Self {
        hs256::install();
        Self { current: Key::new(current), previous: previous.map(Key::new), rules: rules() }
    }

    /// A new access token of this user, good for [`ACCESS_LIFETIME`].
    pub fn issue(&self, user: Uuid) -> String {
        self.current.sign(&Claims::new(user, jsonwebtoken::get_current_timestamp()))
    }

    /// The user who was given this token.
    ///
    /// **Errors** when it was not signed by us, is of another kind, for another audience, or
    /// has expired.
    pub fn user_of(&self, token: &str) -> Result<Uuid, BadToken> {
        let kid = jsonwebtoken::decode_header(token)?.kid;
        let key = self.key(kid.as_deref()).ok_or_else(|| BadToken("unknown key".to_owned()))?;
        let token = jsonwebtoken::decode::<Claims>(token, &key.decoding, &self.rules)?;
        Ok(token.claims.sub)
    }

    /// The key of this name; the current one when the token names none.
    fn key(&self, kid: Option<&str>) -> Option<&Key> {
        let Some(kid) = kid else { return Some(&self.current) };
        std::iter::once(&self.current).chain(&self.previous).find(|key| key.kid == kid)
    }
}

/// What a token must satisfy besides its signature and the shape of [`Claims`].
fn rules() -> Validation {
    let mut rules = Validation::new(Algorithm::HS256);
    rules.leeway = LEEWAY.as_secs();
    rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    rules.set_issuer(&[ISSUER]);
    rules.set_audience(&[AUDIENCE]);
    rules
}

/// One secret, with the name that tells it from another.
struct Key {
    kid: String,
    encoding: EncodingKey,
    decoding: DecodingKey,
}

impl Key {
    fn new(secret: &SecretString) -> Self {
        let secret = secret.expose_secret().as_bytes();
        Self {
            kid: name_of(secret),
            encoding: EncodingKey::from_secret(secret),
            decoding: DecodingKey::from_secret(secret),
        }
    }

    fn sign(&self, claims: &Claims) -> String {
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(Algorithm::HS256) };
        jsonwebtoken::encode(&header, claims, &self.encoding)
            .expect("HMAC cannot fail, and the claims are plain strings and integers")
    }
}

/// Every worker derives the same name from the same secret, and the name tells as much about
/// the secret as any signature does.
fn name_of(secret: &[u8]) -> String {
    let mac = hs256::mac(secret, b"peace: name of the key");
    mac[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: Cow<'static, str>,
    aud: Cow<'static, str>,
    sub: Uuid,
    /// Seconds since 1970.
    iat: u64,
    /// Seconds since 1970.
    exp: u64,
    /// Makes every token different, and names it in an audit.
    jti: Uuid,
    typ: Kind,
}

/// What a token may be used for.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Access,
}

impl Claims {
    fn new(user: Uuid, now_s: u64) -> Self {
        Self {
            iss: Cow::Borrowed(ISSUER),
            aud: Cow::Borrowed(AUDIENCE),
            sub: user,
            iat: now_s,
            exp: now_s + ACCESS_LIFETIME.as_secs(),
            jti: Uuid::new_v4(),
            typ: Kind::Access,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const USER: Uuid = Uuid::from_u128(0x0193_a3a0_0000_7000_8000_0000_0000_0001);

    fn secret(text: &str) -> SecretString {
        SecretString::from(text)
    }

    fn tokens() -> Tokens {
        Tokens::new(&secret("the current secret of these tests"), None)
    }

    fn now_s() -> u64 {
        jsonwebtoken::get_current_timestamp()
    }

    /// A token as ours, but for the claims changed; `null` takes a claim away.
    fn forged(change: &Value) -> String {
        let mut claims = serde_json::to_value(Claims::new(USER, now_s())).unwrap();
        let members = claims.as_object_mut().unwrap();
        for (name, value) in change.as_object().unwrap() {
            members.insert(name.clone(), value.clone());
        }
        members.retain(|_, value| !value.is_null());
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &tokens().current.encoding)
            .unwrap()
    }

    #[test]
    fn a_token_comes_back_as_its_user() {
        let tokens = tokens();
        assert_eq!(tokens.user_of(&tokens.issue(USER)).unwrap(), USER);
        assert_ne!(tokens.issue(USER), tokens.issue(USER), "every token is another one");
    }

    #[test]
    fn the_claims_are_all_there() {
        let claims = serde_json::to_value(Claims::new(USER, 1_700_000_000)).unwrap();
        assert_eq!(claims["sub"], USER.to_string());
        assert_eq!(claims["iss"], "peace");
        assert_eq!(claims["aud"], "app");
        assert_eq!(claims["typ"], "access");
        assert_eq!(claims["iat"], 1_700_000_000);
        assert_eq!(claims["exp"], 1_700_000_900);
        assert!(claims["jti"].is_string());
    }

    #[test]
    fn a_foreign_signature_is_refused() {
        let stranger = Tokens::new(&secret("the secret of somebody else, as long"), None);
        assert!(tokens().user_of(&stranger.issue(USER)).is_err());
    }

    #[test]
    fn a_changed_token_is_refused() {
        let tokens = tokens();
        let token = tokens.issue(USER);
        for at in 0..token.len() - 1 {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(tokens.user_of(&changed).is_err(), "byte {at} of {token}");
        }
    }

    #[test]
    fn an_unsigned_token_is_refused() {
        // {"alg":"none"}, with and without a signature behind it.
        let signed = tokens().issue(USER);
        let claims = signed.split('.').nth(1).unwrap();
        for header in ["eyJhbGciOiJub25lIn0", "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0"] {
            for signature in ["", signed.split('.').nth(2).unwrap()] {
                let token = format!("{header}.{claims}.{signature}");
                assert!(tokens().user_of(&token).is_err(), "{token}");
            }
        }
    }

    #[test]
    fn another_algorithm_is_refused() {
        // {"alg":"HS512","typ":"JWT"} and {"alg":"RS256","typ":"JWT"}
        let signed = tokens().issue(USER);
        let rest = &signed[signed.find('.').unwrap()..];
        for header in
            ["eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCJ9", "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9"]
        {
            assert!(tokens().user_of(&format!("{header}{rest}")).is_err(), "{header}");
        }
    }

    #[test]
    fn text_that_is_no_token_is_refused() {
        for text in ["", ".", "..", "...", "a.b", "a.b.c", "null", "{}", "\u{0}", "Bearer x"] {
            assert!(tokens().user_of(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_wrong_or_missing_claim_is_refused() {
        assert!(tokens().user_of(&forged(&json!({}))).is_ok(), "the unchanged one is good");
        for change in [
            json!({ "typ": "refresh" }),
            json!({ "typ": null }),
            json!({ "aud": "another" }),
            json!({ "aud": null }),
            json!({ "iss": "another" }),
            json!({ "iss": null }),
            json!({ "sub": "asd" }),
            json!({ "sub": null }),
            json!({ "exp": null }),
            json!({ "exp": "soon" }),
            json!({ "iat": null }),
            json!({ "jti": null }),
        ] {
            assert!(tokens().user_of(&forged(&change)).is_err(), "{change}");
        }
    }

    #[test]
    fn a_token_expires() {
        assert!(tokens().user_of(&forged(&json!({ "exp": now_s() - 60 }))).is_err());
        assert!(tokens().user_of(&forged(&json!({ "exp": now_s() - 1 }))).is_ok(), "leeway");
    }

    #[test]
    fn the_previous_key_reads_and_does_not_sign() {
        let (old, new) = (secret("the secret of last month, in full"), secret("this month's one"));
        let before = Tokens::new(&old, None);
        let after = Tokens::new(&new, Some(&old));
        let later = Tokens::new(&new, None);
        let token = before.issue(USER);
        assert_eq!(after.user_of(&token).unwrap(), USER);
        assert!(later.user_of(&token).is_err(), "a key that is gone opens nothing");
        assert!(before.user_of(&after.issue(USER)).is_err(), "new tokens are signed by the new");
        assert!(later.user_of(&after.issue(USER)).is_ok());
    }

    #[test]
    fn a_key_is_named_alike_in_every_process_and_not_by_its_secret() {
        let name = name_of(b"a secret");
        assert_eq!(name, name_of(b"a secret"));
        assert_eq!(name.len(), 16);
        assert_ne!(name, name_of(b"b secret"));
    }
}
