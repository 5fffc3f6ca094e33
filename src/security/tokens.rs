//! Tokens: who is calling, signed. Access tokens for 15 minutes, refresh tokens for 30 days.
//!
//! `auth` issues both and reads refresh tokens, `callers` reads access tokens. A token is accepted
//! when its signature is HS256 under the current or the previous key, it was issued by us (`iss`)
//! for this API (`aud`), it is of the kind that is asked for (`typ`: no other kind of token opens a
//! route) and it has not expired. No database is asked: a token of a deleted user is good, and
//! finds no row. So a refresh token can be used more than once, and nothing but a change of both
//! secrets revokes it before it expires.
//! It does not know where the secrets come from, nor how strong they are: the settings do.
//! Source: RFC 7519 (claims), RFC 7515 (`kid`), RFC 8725 (pinned algorithm, checked claims, kinds
//! of tokens told apart).

use std::borrow::Cow;
use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::hs256;

/// How far the clocks of two of our machines may differ.
const LEEWAY: Duration = Duration::from_secs(5);
const ISSUER: &str = "peace";
const AUDIENCE: &str = "app";

/// What a token may be used for; `typ` among its claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenKind {
    /// To call the API.
    Access,
    /// To get the next pair of tokens, and nothing else.
    Refresh,
}

impl TokenKind {
    /// How long a token of this kind is good.
    pub fn lifetime(self) -> Duration {
        match self {
            Self::Access => Duration::from_mins(15),
            Self::Refresh => Duration::from_hours(30 * 24),
        }
    }
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
    /// Signs with `current`; tokens signed with `previous` stay good until they expire, so that
    /// a change of the secret signs nobody out: if the previous one is kept for as long as the
    /// last refresh token lives.
    pub fn new(current: &SecretString, previous: Option<&SecretString>) -> Self {
        hs256::install();
        Self { current: Key::new(current), previous: previous.map(Key::new), rules: rules() }
    }

    /// A new token of this user, good for the [lifetime](TokenKind::lifetime) of its kind.
    pub fn issue(&self, kind: TokenKind, user: Uuid) -> String {
        self.current.sign(&Claims::new(kind, user, jsonwebtoken::get_current_timestamp()))
    }

    /// The user who was given this token.
    ///
    /// **Errors** when it was not signed by us, is of another kind, for another audience, or
    /// has expired.
    pub fn user_of(&self, kind: TokenKind, token: &str) -> Result<Uuid, BadToken> {
        let kid = jsonwebtoken::decode_header(token)?.kid;
        let key = self.key(kid.as_deref()).ok_or_else(|| BadToken("unknown key".to_owned()))?;
        let claims = jsonwebtoken::decode::<Claims>(token, &key.decoding, &self.rules)?.claims;
        if claims.typ != kind {
            return Err(BadToken(format!("its kind is {:?}, not {kind:?}", claims.typ)));
        }
        Ok(claims.sub)
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
    typ: TokenKind,
}

impl Claims {
    fn new(kind: TokenKind, user: Uuid, now_s: u64) -> Self {
        Self {
            iss: Cow::Borrowed(ISSUER),
            aud: Cow::Borrowed(AUDIENCE),
            sub: user,
            iat: now_s,
            exp: now_s + kind.lifetime().as_secs(),
            jti: Uuid::new_v4(),
            typ: kind,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::TokenKind::{Access, Refresh};
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
    fn forged(kind: TokenKind, change: &Value) -> String {
        let mut claims = serde_json::to_value(Claims::new(kind, USER, now_s())).unwrap();
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
        for kind in [Access, Refresh] {
            assert_eq!(tokens.user_of(kind, &tokens.issue(kind, USER)).unwrap(), USER);
            assert_ne!(tokens.issue(kind, USER), tokens.issue(kind, USER), "each is another one");
        }
    }

    #[test]
    fn a_token_of_one_kind_is_none_of_the_other() {
        let tokens = tokens();
        for (issued, asked) in [(Access, Refresh), (Refresh, Access)] {
            let refused = tokens.user_of(asked, &tokens.issue(issued, USER)).unwrap_err();
            let why = format!("the token was refused: its kind is {issued:?}, not {asked:?}");
            assert_eq!(refused.to_string(), why);
        }
    }

    #[test]
    fn the_claims_are_all_there() {
        for (kind, typ, exp) in
            [(Access, "access", 1_700_000_900), (Refresh, "refresh", 1_702_592_000)]
        {
            let claims = serde_json::to_value(Claims::new(kind, USER, 1_700_000_000)).unwrap();
            assert_eq!(claims["sub"], USER.to_string());
            assert_eq!(claims["iss"], "peace");
            assert_eq!(claims["aud"], "app");
            assert_eq!(claims["typ"], typ);
            assert_eq!(claims["iat"], 1_700_000_000);
            assert_eq!(claims["exp"], exp);
            assert!(claims["jti"].is_string());
        }
    }

    #[test]
    fn a_foreign_signature_is_refused() {
        let stranger = Tokens::new(&secret("the secret of somebody else, as long"), None);
        assert!(tokens().user_of(Access, &stranger.issue(Access, USER)).is_err());
    }

    #[test]
    fn a_changed_token_is_refused() {
        let tokens = tokens();
        let token = tokens.issue(Access, USER);
        for at in 0..token.len() - 1 {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(tokens.user_of(Access, &changed).is_err(), "byte {at} of {token}");
        }
    }

    #[test]
    fn an_unsigned_token_is_refused() {
        // {"alg":"none"}, with and without a signature behind it.
        let signed = tokens().issue(Access, USER);
        let claims = signed.split('.').nth(1).unwrap();
        for header in ["eyJhbGciOiJub25lIn0", "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0"] {
            for signature in ["", signed.split('.').nth(2).unwrap()] {
                let token = format!("{header}.{claims}.{signature}");
                assert!(tokens().user_of(Access, &token).is_err(), "{token}");
            }
        }
    }

    #[test]
    fn another_algorithm_is_refused() {
        // {"alg":"HS512","typ":"JWT"} and {"alg":"RS256","typ":"JWT"}
        let signed = tokens().issue(Access, USER);
        let rest = &signed[signed.find('.').unwrap()..];
        for header in
            ["eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCJ9", "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9"]
        {
            assert!(tokens().user_of(Access, &format!("{header}{rest}")).is_err(), "{header}");
        }
    }

    #[test]
    fn text_that_is_no_token_is_refused() {
        for text in ["", ".", "..", "...", "a.b", "a.b.c", "null", "{}", "\u{0}", "Bearer x"] {
            assert!(tokens().user_of(Access, text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_wrong_or_missing_claim_is_refused() {
        for kind in [Access, Refresh] {
            let user_of = |change: &Value| tokens().user_of(kind, &forged(kind, change));
            assert!(user_of(&json!({})).is_ok(), "the unchanged one is good");
            for change in [
                json!({ "typ": "another" }),
                json!({ "typ": "" }),
                json!({ "typ": ["access", "refresh"] }),
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
                assert!(user_of(&change).is_err(), "{kind:?} {change}");
            }
        }
    }

    #[test]
    fn a_token_of_the_python_template_is_refused() {
        // Signed with the same secret for the same audience, and that is all it says.
        let claims = json!({ "sub": USER, "aud": "app", "exp": now_s() + 900 });
        let header = Header::new(Algorithm::HS256);
        let token = jsonwebtoken::encode(&header, &claims, &tokens().current.encoding).unwrap();
        for kind in [Access, Refresh] {
            assert!(tokens().user_of(kind, &token).is_err(), "{kind:?}");
        }
    }

    #[test]
    fn a_token_expires() {
        for kind in [Access, Refresh] {
            let user_of = |exp| tokens().user_of(kind, &forged(kind, &json!({ "exp": exp })));
            assert!(user_of(now_s() - 60).is_err(), "{kind:?}");
            assert!(user_of(now_s() - 1).is_ok(), "{kind:?}: leeway");
        }
    }

    #[test]
    fn the_previous_key_reads_and_does_not_sign() {
        let (old, new) = (secret("the secret of last month, in full"), secret("this month's one"));
        let before = Tokens::new(&old, None);
        let after = Tokens::new(&new, Some(&old));
        let later = Tokens::new(&new, None);
        let token = before.issue(Access, USER);
        assert_eq!(after.user_of(Access, &token).unwrap(), USER);
        assert!(later.user_of(Access, &token).is_err(), "a key that is gone opens nothing");
        assert!(
            before.user_of(Access, &after.issue(Access, USER)).is_err(),
            "new tokens are signed by the new"
        );
        assert!(later.user_of(Access, &after.issue(Access, USER)).is_ok());
    }

    #[test]
    fn a_key_is_named_alike_in_every_process_and_not_by_its_secret() {
        let name = name_of(b"a secret");
        assert_eq!(name, name_of(b"a secret"));
        assert_eq!(name.len(), 16);
        assert_ne!(name, name_of(b"b secret"));
    }
}
