//! The one way to let time pass: until a server is there or gone, one looks, pauses, and looks again.

use nix::poll::{PollTimeout, poll};

const POLL_MS: u8 = 10;

/// Some milliseconds in which other processes get on. A signal ends it early, and that is as good.
pub(crate) fn pause() {
    let _ = poll(&mut [], PollTimeout::from(POLL_MS));
}
