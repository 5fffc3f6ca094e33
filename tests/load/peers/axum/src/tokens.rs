//! Tokens: who is calling, signed with HS256 (RFC 7515, RFC 7519), with the claims of Peace.
//!
//! One algorithm and one key: a token with any other head is none of ours.

use std::borrow::Cow;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use uuid::Uuid;

/// `{"alg":"HS256","typ":"JWT"}`
const HEAD: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";
const ISSUER: &str = "peace";
const AUDIENCE: &str = "app";
/// How far the clocks of two machines may differ.
const LEEWAY_S: u64 = 5;

/// What a token may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Access,
    Refresh,
}

impl Kind {
    pub(crate) fn lifetime_s(self) -> u64 {
        match self {
            Self::Access => 15 * 60,
            Self::Refresh => 30 * 24 * 60 * 60,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Claims<'a> {
    iss: Cow<'a, str>,
    aud: Cow<'a, str>,
    sub: Uuid,
    iat: u64,
    exp: u64,
    jti: Uuid,
    typ: Kind,
}

/// Signs tokens and reads them.
pub(crate) struct Tokens {
    key: Hmac<Sha256>,
}

impl Tokens {
    pub(crate) fn new(secret: &str) -> Self {
        let key = Hmac::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
        Self { key }
    }

    pub(crate) fn issue(&self, typ: Kind, user: Uuid) -> String {
        let (iat, exp) = (now_s(), now_s() + typ.lifetime_s());
        let [iss, aud] = [ISSUER, AUDIENCE].map(Cow::Borrowed);
        let claims = Claims { iss, aud, sub: user, iat, exp, jti: Uuid::new_v4(), typ };
        let claims = serde_json::to_vec(&claims).expect("strings and integers are JSON");
        let signed = format!("{HEAD}.{}", BASE64.encode(claims));
        let signature = self.key.clone().chain_update(&signed).finalize().into_bytes();
        format!("{signed}.{}", BASE64.encode(signature))
    }

    /// The user who was given this token.
    pub(crate) fn user_of(&self, kind: Kind, token: &str) -> Option<Uuid> {
        let (signed, signature) = token.rsplit_once('.')?;
        let signature = BASE64.decode(signature).ok()?;
        self.key.clone().chain_update(signed).verify_slice(&signature).ok()?;
        let (head, claims) = signed.split_once('.')?;
        let claims = BASE64.decode(claims).ok()?;
        let claims: Claims<'_> = serde_json::from_slice(&claims).ok()?;
        let is_ours = head == HEAD && claims.iss == ISSUER && claims.aud == AUDIENCE;
        let is_good = claims.typ == kind && claims.exp + LEEWAY_S > now_s();
        (is_ours && is_good).then_some(claims.sub)
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
