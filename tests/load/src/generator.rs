//! The load: made in processes of its own, so that its cost can be told from the server's.
//!
//! The conductor starts `peace-loadtest generate` with an [`Order`] and waits for its [`Line`]s; that
//! process is one thread with one event loop, as a worker is.

pub(crate) mod order;
