//! Time as the supervisor counts it: milliseconds of the monotonic clock.
//!
//! Called by the loop, and by children for their heartbeat. All processes of the machine read the
//! same clock, so the numbers may cross shared memory, and an exec. It does not know the date: the
//! wall clock may jump, and a jump must not look like a hung worker.
//! Source: clock_gettime(2), `CLOCK_MONOTONIC`.

use nix::time::{ClockId, clock_gettime};

/// The current time in milliseconds since an arbitrary start that all processes share.
pub(crate) fn now_ms() -> u64 {
    now_us() / 1_000
}

/// The same in microseconds, as systemd compares it.
pub(crate) fn now_us() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("the monotonic clock always exists");
    let seconds = u64::try_from(now.tv_sec()).expect("the monotonic clock is never negative");
    let micros = u64::try_from(now.tv_nsec()).expect("nanoseconds are never negative") / 1_000;
    seconds * 1_000_000 + micros
}
