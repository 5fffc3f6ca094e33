//! Tokens of the tests' own making: right, wrong and forged.

use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

/// The secret of a server that a test starts with it.
pub(crate) const SECRET: &str = "the secret of these tests, 32 bytes or more";

/// Seconds since 1970.
pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970").as_secs()
}

/// The claims of a good access token of this user, but for `change`; its session is the one that
/// `Database::add_session` makes.
pub(crate) fn claims(user: &str, change: Value) -> Value {
    let now = now_s();
    let mut claims = json!({
        "iss": "peace", "aud": "app", "sub": user, "sid": user, "iat": now, "exp": now + 60,
        "jti": "0193a3a0-0000-7000-8000-000000000001", "typ": "access",
    });
    if let (Some(claims), Value::Object(change)) = (claims.as_object_mut(), change) {
        claims.extend(change);
    }
    claims
}

/// A good access token of this user, but for `change` in its claims.
pub(crate) fn signed(user: &str, change: Value) -> String {
    token(&json!({"alg": "HS256", "typ": "JWT"}), &claims(user, change), SECRET)
}

/// A token that says it is signed by `algorithm`, and has no signature.
pub(crate) fn unsigned(user: &str, algorithm: &str) -> String {
    let header = json!({"alg": algorithm, "typ": "JWT"});
    let whole = token(&header, &claims(user, json!({})), SECRET);
    format!("{}.", whole.rsplit_once('.').expect("three parts").0)
}

/// A token as RFC 7515 has it, signed with HMAC-SHA-256 whatever its header says.
pub(crate) fn token(header: &Value, claims: &Value, secret: &str) -> String {
    let signed = format!("{}.{}", base64(header.to_string()), base64(claims.to_string()));
    format!("{signed}.{}", signature(&signed, secret))
}

/// The signature of a token's first two parts.
pub(crate) fn signature(signed: &str, secret: &str) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key of any length");
    base64(mac.chain_update(signed).finalize().into_bytes())
}

/// base64url without padding (RFC 4648 section 5).
fn base64(bytes: impl AsRef<[u8]>) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digits_of = |three: &[u8]| {
        let mut padded = [0; 4];
        padded[1..=three.len()].copy_from_slice(three);
        let bits = u32::from_be_bytes(padded);
        let digits = (0..=three.len()).map(move |place| bits >> (18 - 6 * place) & 63);
        digits.map(|digit| char::from(DIGITS[digit as usize])).collect::<String>()
    };
    bytes.as_ref().chunks(3).map(digits_of).collect()
}
