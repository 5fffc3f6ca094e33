//! Access tokens: who is calling, signed. They are good for 15 minutes.
//!
//! `auth` issues them, `callers` reads them. A token is accepted when its signature is HS256 under
//! the current or the previous key, it was issued by us (`iss`) for this API (`aud`), it is an
//! access token (`typ`), names no extension that has to be understood (`crit`: there is none that
//! is) and has not expired. No database is asked: of a session that is over the token is good until
//! then, so whatever writes asks for the session, too (`sessions`).
//! It does not know where the secrets come from, nor how strong they are: the settings do.
//! Source: RFC 7519 (claims), RFC 7515 (`kid`, `crit`), RFC 8725 (pinned algorithm, checked claims,
//! kinds of tokens told apart).

use std::borrow::Cow;
use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::hs256;

/// How long an access token is good.
pub const LIFETIME: Duration = Duration::from_mins(15);

/// How far the clocks of two of our machines may differ.
const LEEWAY: Duration = Duration::from_secs(5);
const ISSUER: &str = "peace";
const AUDIENCE: &str = "app";

/// Whom a token was given to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The user.
    pub user: Uuid,
    /// What they have logged in to.
    pub session: Uuid,
}

/// What a token may be used for; `typ` among its claims.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Use {
    /// To call the API.
    Access,
}

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
    /// Signs with `current`; tokens signed with `previous` stay good until they expire, so that a
    /// change of the secret is not noticed, if the previous one is kept for a [`LIFETIME`].
    pub fn new(current: &SecretString, previous: Option<&SecretString>) -> Self {
        hs256::install();
        Self { current: Key::new(current), previous: previous.map(Key::new), rules: rules() }
    }

    /// A new token, good for a [`LIFETIME`].
    pub fn issue(&self, holder: Holder) -> String {
        self.current.sign(&Claims::new(holder, jsonwebtoken::get_current_timestamp()))
    }

    /// Whom this token was given to.
    ///
    /// **Errors** when it was not signed by us, is of another kind, for another audience, or
    /// has expired.
    pub fn holder(&self, token: &str) -> Result<Holder, BadToken> {
        let Header { kid, crit, .. } = jsonwebtoken::decode_header(token)?;
        if crit.is_some() {
            return Err(BadToken("it names extensions, and none is known".to_owned()));
        }
        let key = self.key(kid.as_deref()).ok_or_else(|| BadToken("unknown key".to_owned()))?;
        let claims = jsonwebtoken::decode::<Claims>(token, &key.decoding, &self.rules)?.claims;
        Ok(Holder { user: claims.sub, session: claims.sid })
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
    rules.validate_nbf = true;
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
    /// The session, so that it can be ended.
    sid: Uuid,
    /// Seconds since 1970.
    iat: u64,
    /// Seconds since 1970.
    exp: u64,
    /// Makes every token different, and names it in an audit.
    jti: Uuid,
    typ: Use,
}

impl Claims {
    fn new(holder: Holder, now_s: u64) -> Self {
        Self {
            iss: Cow::Borrowed(ISSUER),
            aud: Cow::Borrowed(AUDIENCE),
            sub: holder.user,
            sid: holder.session,
            iat: now_s,
            exp: now_s + LIFETIME.as_secs(),
            jti: Uuid::new_v4(),
            typ: Use::Access,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ANN: Holder = Holder {
        user: Uuid::from_u128(0x0193_a3a0_0000_7000_8000_0000_0000_0001),
        session: Uuid::from_u128(0x0193_a3a0_0000_7000_8000_0000_0000_0002),
    };

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
        let mut claims = serde_json::to_value(Claims::new(ANN, now_s())).unwrap();
        let members = claims.as_object_mut().unwrap();
        for (name, value) in change.as_object().unwrap() {
            members.insert(name.clone(), value.clone());
        }
        members.retain(|_, value| !value.is_null());
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &tokens().current.encoding)
            .unwrap()
    }

    #[test]
    fn a_token_comes_back_as_its_holder() {
        let tokens = tokens();
        assert_eq!(tokens.holder(&tokens.issue(ANN)).unwrap(), ANN);
        assert_ne!(tokens.issue(ANN), tokens.issue(ANN), "each is another one");
    }

    #[test]
    fn the_claims_are_all_there() {
        let claims = serde_json::to_value(Claims::new(ANN, 1_700_000_000)).unwrap();
        assert_eq!(claims["sub"], ANN.user.to_string());
        assert_eq!(claims["sid"], ANN.session.to_string());
        assert_eq!(claims["iss"], "peace");
        assert_eq!(claims["aud"], "app");
        assert_eq!(claims["typ"], "access");
        assert_eq!(
            (&claims["iat"], &claims["exp"]),
            (&json!(1_700_000_000), &json!(1_700_000_900))
        );
        assert!(claims["jti"].is_string());
    }

    #[test]
    fn a_foreign_signature_is_refused() {
        let stranger = Tokens::new(&secret("the secret of somebody else, as long"), None);
        assert!(tokens().holder(&stranger.issue(ANN)).is_err());
    }

    #[test]
    fn a_changed_token_is_refused() {
        let tokens = tokens();
        let token = tokens.issue(ANN);
        for at in 0..token.len() - 1 {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(tokens.holder(&changed).is_err(), "byte {at} of {token}");
        }
    }

    #[test]
    fn an_unsigned_token_is_refused() {
        // {"alg":"none"}, with and without a signature behind it.
        let signed = tokens().issue(ANN);
        let claims = signed.split('.').nth(1).unwrap();
        for header in ["eyJhbGciOiJub25lIn0", "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0"] {
            for signature in ["", signed.split('.').nth(2).unwrap()] {
                let token = format!("{header}.{claims}.{signature}");
                assert!(tokens().holder(&token).is_err(), "{token}");
            }
        }
    }

    #[test]
    fn another_algorithm_is_refused() {
        // {"alg":"HS512","typ":"JWT"} and {"alg":"RS256","typ":"JWT"}
        let signed = tokens().issue(ANN);
        let rest = &signed[signed.find('.').unwrap()..];
        for header in
            ["eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCJ9", "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9"]
        {
            assert!(tokens().holder(&format!("{header}{rest}")).is_err(), "{header}");
        }
    }

    #[test]
    fn text_that_is_no_token_is_refused() {
        for text in ["", ".", "..", "...", "a.b", "a.b.c", "null", "{}", "\u{0}", "Bearer x"] {
            assert!(tokens().holder(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_wrong_or_missing_claim_is_refused() {
        let holder = |change: &Value| tokens().holder(&forged(change));
        assert!(holder(&json!({})).is_ok(), "the unchanged one is good");
        for change in [
            json!({ "typ": "another" }),
            json!({ "typ": "refresh" }),
            json!({ "typ": "" }),
            json!({ "typ": ["access"] }),
            json!({ "typ": null }),
            json!({ "aud": "another" }),
            json!({ "aud": null }),
            json!({ "iss": "another" }),
            json!({ "iss": null }),
            json!({ "sub": "asd" }),
            json!({ "sub": null }),
            json!({ "sid": "asd" }),
            json!({ "sid": null }),
            json!({ "exp": null }),
            json!({ "exp": "soon" }),
            json!({ "iat": null }),
            json!({ "jti": null }),
            json!({ "nbf": now_s() + 60 }),
        ] {
            assert!(holder(&change).is_err(), "{change}");
        }
    }

    #[test]
    fn an_extension_that_has_to_be_understood_is_refused() {
        let header = Header { crit: Some(vec!["b64".to_owned()]), ..Header::new(Algorithm::HS256) };
        let claims = Claims::new(ANN, now_s());
        let token = jsonwebtoken::encode(&header, &claims, &tokens().current.encoding).unwrap();
        assert!(tokens().holder(&token).is_err());
    }

    #[test]
    fn a_token_of_the_python_template_is_refused() {
        // Signed with the same secret for the same audience, and that is all it says.
        let claims = json!({ "sub": ANN.user, "aud": "app", "exp": now_s() + 900 });
        let header = Header::new(Algorithm::HS256);
        let token = jsonwebtoken::encode(&header, &claims, &tokens().current.encoding).unwrap();
        assert!(tokens().holder(&token).is_err());
    }

    #[test]
    fn a_token_expires() {
        let holder = |exp| tokens().holder(&forged(&json!({ "exp": exp })));
        assert!(holder(now_s() - 60).is_err());
        assert!(holder(now_s() - 1).is_ok(), "leeway");
    }

    #[test]
    fn the_previous_key_reads_and_does_not_sign() {
        let (old, new) = (secret("the secret of last month, in full"), secret("this month's one"));
        let before = Tokens::new(&old, None);
        let after = Tokens::new(&new, Some(&old));
        let later = Tokens::new(&new, None);
        let token = before.issue(ANN);
        assert_eq!(after.holder(&token).unwrap(), ANN);
        assert!(later.holder(&token).is_err(), "a key that is gone opens nothing");
        assert!(before.holder(&after.issue(ANN)).is_err(), "new tokens are signed by the new");
        assert!(later.holder(&after.issue(ANN)).is_ok());
    }

    #[test]
    fn a_key_is_named_alike_in_every_process_and_not_by_its_secret() {
        let name = name_of(b"a secret");
        assert_eq!(name, name_of(b"a secret"));
        assert_eq!(name.len(), 16);
        assert_ne!(name, name_of(b"b secret"));
    }
}
