//! The contract under abuse, of the black-box tests.

#[allow(dead_code, reason = "it serves two targets; this one needs a part of it")]
#[path = "../blackbox/contract/abuse.rs"]
pub(crate) mod abuse;
#[path = "../blackbox/contract/parts.rs"]
mod parts;
