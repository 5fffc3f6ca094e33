//! Accepting connections, as many as the worker may have.
//!
//! `runtime.rs` starts one task per listener; each connection gets a task of its own (`connection.rs`).
//! Promises: no error of `accept` ends it or makes it spin; the worker never runs out of descriptors,
//! since it stops accepting when it is full; clients who wait too long for that are told so; at a drain
//! everyone who is in the queue already is served.
//! Does not know: HTTP, who opened the listener.
//! Source: accept(2).

use std::io;
use std::rc::Rc;

use futures_util::FutureExt;
use nix::errno::Errno;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::yield_now;
use tokio::time::{Duration, Instant, sleep, timeout_at};

use crate::connection::open;
use crate::refuse::refuse;
use crate::shared::Shared;

/// Connections accepted in a row before those already open get their turn.
const BATCH: usize = 32;
/// The longest queue a kernel keeps by default (`net.core.somaxconn`): whoever is behind it came later.
const QUEUE_MAX: usize = 4096;
/// How long to wait when the system has no more descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);

/// Accept from `listener` until the drain, then those who are queued, then drop it.
pub(crate) async fn accept(listener: TcpListener, shared: Rc<Shared>) {
    tokio::select! {
        biased;
        () = shared.drain.draining() => {}
        () = keep_accepting(&listener, &shared) => shared.drain.draining().await,
    }
    if let Err(error) = take_queued(listener, &shared).await {
        tracing::warn!(%error, "the queue of a listener could not be emptied");
    }
}

/// Accept until the listener is shut.
async fn keep_accepting(listener: &TcpListener, shared: &Rc<Shared>) {
    let mut pausing = false;
    // Since when the queue was not seen empty. A seat that comes free now and then does not begin the wait
    // anew: with one client out and one in, the queue would stay as long as it is.
    let mut queued_since = None;
    loop {
        for _ in 0..BATCH {
            while shared.is_full() {
                let since = *queued_since.get_or_insert_with(Instant::now);
                let until = since + shared.limits.queue_timeout;
                let waited = timeout_at(until, shared.room.notified()).await;
                if waited.is_err() && refuse_queued(listener, shared).await {
                    queued_since = None;
                }
            }
            let accepted = match listener.accept().now_or_never() {
                Some(accepted) => accepted,
                None => {
                    queued_since = None;
                    listener.accept().await
                }
            };
            match accepted {
                Ok((stream, _)) => {
                    pausing = false;
                    open(stream, shared);
                }
                Err(error) => match Failure::of(&error) {
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

/// Refuse who is queued, for as long as the worker is full. Gives whether nobody is left.
async fn refuse_queued(listener: &TcpListener, shared: &Shared) -> bool {
    while shared.is_full() {
        for _ in 0..BATCH {
            let Some(Ok((stream, _))) = listener.accept().now_or_never() else { return true };
            shared.stats.shed.increment();
            // A client that is gone already needs no answer.
            let _ = refuse(stream);
        }
        yield_now().await;
    }
    false
}

/// Accept what the kernel has queued. The listener leaves the event loop first, so that it is asked
/// itself and not what the loop last knew about it.
async fn take_queued(listener: TcpListener, shared: &Rc<Shared>) -> io::Result<()> {
    let listener = listener.into_std()?;
    for taken in 1..=QUEUE_MAX {
        // What finds no room stays in the queue: the slot keeps it for the successor.
        if shared.is_full() {
            break;
        }
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(true)?;
                open(TcpStream::from_std(stream)?, shared);
            }
            Err(error) if Failure::of(&error) == Failure::Gone => {}
            Err(_) => break,
        }
        if taken % BATCH == 0 {
            yield_now().await;
        }
    }
    Ok(())
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
    fn a_listener_that_was_shut_is_left_alone() {
        assert_eq!(failure(Errno::EINVAL), Failure::Shut);
    }
}
