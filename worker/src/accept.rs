//! Accepting connections, as many as the worker may have.
//!
//! `runtime.rs` starts one task per listener of the slot and `foster.rs` one per listener of a sibling;
//! each connection gets a task of its own (`connection.rs`).
//! Promises: no error of `accept` makes it spin, and none ends it but that the listener was shut; the
//! worker never has more connections than it may, over all its listeners together, so it never runs out
//! of descriptors; listeners take turns, at accepting and at seats that come free; clients who wait too
//! long for one are told so; at a drain everyone who is in the queue already is served.
//! Does not know: HTTP, who opened the listener, whose it is, of which kind it is (`listen.rs`).
//! Source: accept(2).

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::Poll;

use futures_util::FutureExt;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::task::yield_now;
use tokio::time::{Duration, Instant, sleep};

use crate::connection::open;
use crate::listen::{Listen, Peer};
use crate::refuse::refuse;
use crate::shared::Shared;

/// Connections accepted in a row before those already open, and other listeners, get their turn.
const BATCH: usize = 32;
/// The longest queue a kernel keeps by default (`net.core.somaxconn`): whoever is behind it came later.
const QUEUE_MAX: usize = 4096;
/// How often a worker that is full looks whether somebody waits.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long to wait when the system has no more descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);

/// Accept from `listener` until it is shut, or until the drain and then those who are queued; drop it.
pub(crate) async fn accept(listener: impl Listen, shared: Rc<Shared>) {
    tokio::select! {
        biased;
        () = shared.drain.draining() => {}
        () = keep_accepting(&listener, &shared) => return,
    }
    if let Err(error) = take_queued(listener, &shared).await {
        tracing::warn!(%error, "the queue of a listener could not be emptied");
    }
}

/// Accept until the listener is shut.
async fn keep_accepting(listener: &impl Listen, shared: &Rc<Shared>) {
    let mut pausing = false;
    // A seat that comes free now and then does not begin the wait anew: with one client out and one in, the
    // queue would stay as long as it is.
    let mut queued = None;
    loop {
        for _ in 0..BATCH {
            await_seat(listener, shared, &mut queued).await;
            match next(listener, shared, &mut queued).await {
                None => {}
                Some(Ok((stream, peer))) => {
                    pausing = false;
                    open(stream, peer, shared);
                    if shared.is_full() {
                        // The next seat is for another listener: all stand in line for it before us.
                        break;
                    }
                }
                Some(Err(error)) => match Failure::of(&error) {
                    Failure::Gone => {}
                    Failure::Shut => return,
                    Failure::Exhausted => {
                        if !pausing {
                            tracing::error!(%error, "cannot accept; trying again every 100 ms");
                        }
                        pausing = true;
                        sleep(PAUSE).await;
                    }
                },
            }
        }
        yield_now().await;
    }
}

/// Wait until a connection may be opened; whoever is queued for too long meanwhile is refused.
async fn await_seat(listener: &impl Listen, shared: &Shared, queued: &mut Option<Queued>) {
    while shared.is_full() {
        tokio::select! {
            biased;
            () = shared.room.notified() => {}
            () = refuse_late(listener, shared, queued) => {}
        }
    }
}

/// Look at the queue, and refuse who is there when there was somebody at each look for too long. One look that
/// finds nobody begins the wait anew: a sibling may have room, and accept from the same socket. A sibling that is so
/// busy that its queue is never seen empty is as good as full.
async fn refuse_late(listener: &impl Listen, shared: &Shared, queued: &mut Option<Queued>) {
    while shared.is_full() {
        if has_queued(listener) {
            let found = queued.get_or_insert_with(Queued::begin);
            found.looks += 1;
            if found.is_late(shared.limits.queue_timeout) && refuse_queued(listener, shared).await {
                *queued = None;
            }
        } else {
            *queued = None;
        }
        sleep(LOOK_EVERY).await;
    }
}

/// A queue in which somebody was at every look so far.
struct Queued {
    since: Instant,
    looks: u32,
}

impl Queued {
    fn begin() -> Self {
        Self { since: Instant::now(), looks: 0 }
    }

    /// Whether it has been like that for so long. A process that did not run for a while has not seen how often the
    /// queue was empty meanwhile, so half of the looks that fit in are needed, too.
    fn is_late(&self, timeout: Duration) -> bool {
        let looks_min = timeout.as_millis() / LOOK_EVERY.as_millis() / 2;
        self.since.elapsed() >= timeout && u128::from(self.looks) >= looks_min
    }
}

/// Whether somebody waits to be accepted. Source: poll(2) on a socket that listens.
fn has_queued(listener: &impl Listen) -> bool {
    let mut asked = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    poll(&mut asked, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// The next connection. `None`: other listeners have taken the last seats while this one had nobody.
async fn next<L: Listen>(
    listener: &L,
    shared: &Shared,
    queued: &mut Option<Queued>,
) -> Option<io::Result<(L::Stream, Peer)>> {
    poll_fn(|cx| {
        if shared.is_full() {
            return Poll::Ready(None);
        }
        let accepted = listener.poll_accept(cx);
        if accepted.is_pending() {
            *queued = None;
        }
        accepted.map(Some)
    })
    .await
}

/// Refuse who is queued, for as long as the worker is full. Gives whether nobody is left.
async fn refuse_queued(listener: &impl Listen, shared: &Shared) -> bool {
    while shared.is_full() {
        for _ in 0..BATCH {
            let accepted = poll_fn(|cx| listener.poll_accept(cx)).now_or_never();
            let Some(Ok((stream, peer))) = accepted else { return true };
            shared.stats.shed.increment();
            // A client that is gone already needs no answer.
            let _ = refuse(&stream, peer, shared);
        }
        yield_now().await;
    }
    false
}

/// Accept what the kernel has queued. The listener leaves the event loop first, so that it is asked
/// itself and not what the loop last knew about it.
async fn take_queued<L: Listen>(listener: L, shared: &Rc<Shared>) -> io::Result<()> {
    let listener = listener.unwatched()?;
    for taken in 1..=QUEUE_MAX {
        if !has_seat(shared).await {
            break;
        }
        match L::accept_now(&listener) {
            Ok((stream, peer)) => open(stream, peer, shared),
            Err(error) if Failure::of(&error) == Failure::Gone => {}
            Err(_) => break,
        }
        if taken % BATCH == 0 {
            yield_now().await;
        }
    }
    Ok(())
}

/// Wait for a seat during the grace of a drain, when connections end one after the other. `false`: it is
/// over, and whoever is queued still is left to whoever else holds the listener.
async fn has_seat(shared: &Shared) -> bool {
    while shared.is_full() && !shared.drain.is_closing() {
        tokio::select! {
            biased;
            () = shared.room.notified() => {}
            () = shared.drain.closing() => {}
        }
    }
    !shared.is_full()
}

/// What an error of `accept` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// This one client is gone: take the next.
    Gone,
    /// The listener was shut for good: the slot is being closed.
    Shut,
    /// The system has no room, or something unknown happened: pause, and try again.
    Exhausted,
}

impl Failure {
    fn of(error: &io::Error) -> Self {
        match Errno::from_raw(error.raw_os_error().unwrap_or_default()) {
            // The network's pending errors, which Linux reports through accept.
            Errno::ECONNABORTED
            | Errno::ECONNRESET
            | Errno::EINTR
            | Errno::EPROTO
            | Errno::EPERM
            | Errno::ENETDOWN
            | Errno::ENOPROTOOPT
            | Errno::EHOSTDOWN
            | Errno::ENONET
            | Errno::EHOSTUNREACH
            | Errno::EOPNOTSUPP
            | Errno::ENETUNREACH
            | Errno::ETIMEDOUT => Self::Gone,
            Errno::EINVAL => Self::Shut,
            _ => Self::Exhausted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(errno: Errno) -> Failure {
        Failure::of(&io::Error::from_raw_os_error(errno as i32))
    }

    #[test]
    fn a_client_that_left_costs_nothing() {
        for errno in [Errno::ECONNABORTED, Errno::ECONNRESET, Errno::EINTR, Errno::EHOSTUNREACH] {
            assert_eq!(failure(errno), Failure::Gone, "{errno}");
        }
    }

    #[test]
    fn a_lack_of_descriptors_or_memory_makes_a_pause() {
        for errno in [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM] {
            assert_eq!(failure(errno), Failure::Exhausted, "{errno}");
        }
        assert_eq!(Failure::of(&io::Error::other("no errno")), Failure::Exhausted);
    }

    #[test]
    fn who_waits_is_late_when_the_queue_was_looked_at_meanwhile() {
        let timeout = Duration::from_secs(1);
        let long_ago = Instant::now().checked_sub(timeout).unwrap();
        let queued = |since, looks| Queued { since, looks };
        assert!(queued(long_ago, 25).is_late(timeout));
        assert!(!queued(long_ago, 2).is_late(timeout), "it did not run meanwhile");
        assert!(!queued(Instant::now(), 25).is_late(timeout), "it is early");
    }

    #[test]
    fn a_listener_that_was_shut_is_left_alone() {
        assert_eq!(failure(Errno::EINVAL), Failure::Shut);
    }
}
