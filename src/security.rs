//! Secrets: what a password becomes before it is stored, what a token proves.
//!
//! Handlers and `callers` call it; it calls no database and knows no HTTP. `Passwords` is for
//! the slow, memory-hard work on a thread of its own, `Tokens`, `RefreshToken` and `Fingerprints`
//! for what a request can afford on the event loop. Neither prints a secret, a password or a token.

pub mod fingerprints;
pub mod passwords;
pub mod refresh_tokens;
pub mod tokens;

mod hs256;
