//! Signals that come while one program gives its place to another.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::{SOON, launch};
use crate::harness::wait::pause;
use crate::harness::{Database, Peace, Turn, get};
use crate::zero_loss::short_or_long;

/// Asks for an upgrade and waits until the program is about to exec; then for a moment more.
fn almost_upgrade(peace: &Peace, moment: Duration) {
    let mark = peace.log().len();
    peace.signal(Signal::SIGUSR2);
    peace.await_event("it can", mark, SOON, |event| event.is("upgrading"));
    pause(moment);
}

/// Moments all over the first 20 ms.
fn moments(count: u32) -> impl Iterator<Item = Duration> {
    (0..count)
        .map(move |number| Duration::from_micros(u64::from(number) * 20_000 / u64::from(count)))
}

#[test]
fn signals_in_the_middle_of_an_upgrade_are_not_lost_and_kill_nobody() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let mut peace = launch(&turn, &database, 1).serve();
    for moment in moments(short_or_long(10, 80)) {
        let mark = peace.log().len();
        almost_upgrade(&peace, moment);
        peace.signal(Signal::SIGUSR1);
        peace.signal(Signal::SIGHUP);
        peace.await_event("the new program", mark, SOON, |event| event.is("upgraded"));
        let rolled = |event: &crate::harness::log::Event| event.is("rolled");
        let first = peace.await_event("its roll", mark, SOON, rolled);
        peace.await_event("the reload behind it", first.index + 1, SOON, rolled);
    }
    // At any moment, the pre-flight included.
    for (number, moment) in moments(short_or_long(10, 160)).enumerate() {
        let mark = peace.log().len();
        peace.signal(Signal::SIGUSR2);
        pause(if number % 2 == 0 { moment } else { moment * 10 });
        peace.signal(Signal::SIGUSR1);
        peace.signal(Signal::SIGHUP);
        peace.await_event("a reload", mark, SOON, |event| event.is("rolled"));
        peace.await_event("an upgrade", mark, SOON, |event| event.is("upgraded"));
    }
    assert_eq!(peace.ask(&get("/health/live")).status, 200);
    assert_eq!(peace.stop(SOON).code, Some(0));
}

#[test]
fn a_stop_in_the_middle_of_an_upgrade_is_a_graceful_stop() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    for moment in moments(short_or_long(5, 40)) {
        let mut peace = launch(&turn, &database, 1).serve();
        almost_upgrade(&peace, moment);
        assert_eq!(peace.stop(SOON).code, Some(0), "after {moment:?}");
        let mut peace = launch(&turn, &database, 1).serve();
        peace.signal(Signal::SIGUSR2);
        pause(moment);
        assert_eq!(peace.stop(SOON).code, Some(0), "{moment:?} after the request");
    }
}
