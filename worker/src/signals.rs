//! What tells a worker what to do: signals, and the orders of its supervisor.
//!
//! `runtime.rs` opens the inbox after the fork and reads it; `drain.rs` reads on while the worker leaves.
//! Promises: a signal that came before the handlers were there is not lost (it stays blocked until then);
//! INT and HUP, which a terminal sends to every process, and what is meant for the supervisor (USR1, TTIN,
//! TTOU) change nothing here.
//! Does not know: what is done about an order, the channel's format.
//! Source: signal(7); signal-hook's `low_level::pipe`.

use std::future::pending;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR1};
use signal_hook::{flag, low_level::pipe};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// What a worker can be told.
#[derive(Debug)]
pub enum Order {
    /// Stop accepting, answer what is in flight, leave.
    Drain,
    /// The same, quickly; a second one: now.
    Quit,
    /// The supervisor died: the same, quicker still.
    Orphaned,
    /// Accept for another slot, too, whose own worker cannot.
    Foster {
        /// The other slot.
        slot: usize,
        /// A copy of its listener.
        listener: TcpListener,
    },
    /// Close that copy: the slot's own worker is back.
    Unfoster {
        /// The other slot.
        slot: usize,
    },
}

/// How the supervisor's orders arrive.
pub struct Orders {
    /// A unix socket, readable while an order waits; made nonblocking here.
    pub wake: OwnedFd,
    /// Takes the next one without blocking; `None`: nothing now.
    pub next: Box<dyn FnMut() -> Option<Order>>,
}

/// Everything that tells this worker what to do.
pub(crate) struct Inbox {
    term: UnixStream,
    quit: UnixStream,
    wake: UnixStream,
    next: Box<dyn FnMut() -> Option<Order>>,
    orphaned: bool,
}

impl Inbox {
    /// Install the signal handlers of this process, then unblock all signals.
    pub(crate) fn open(orders: Orders) -> io::Result<Self> {
        let inbox = Self {
            term: heard(SIGTERM)?,
            quit: heard(SIGQUIT)?,
            wake: watched(orders.wake)?,
            next: orders.next,
            orphaned: false,
        };
        for swallowed in [SIGINT, SIGHUP, SIGUSR1, SIGTTIN, SIGTTOU] {
            flag::register(swallowed, Arc::new(AtomicBool::new(false)))?;
        }
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
        Ok(inbox)
    }

    /// Wait for the next order. Nothing is lost when this future is dropped.
    pub(crate) async fn next(&mut self) -> Order {
        tokio::select! {
            biased;
            () = told(&self.quit) => Order::Quit,
            () = told(&self.term) => Order::Drain,
            order = ordered(&self.wake, &mut self.next), if !self.orphaned => {
                // After that the channel stays readable for ever, and says nothing new.
                self.orphaned = matches!(order, Order::Orphaned);
                order
            }
        }
    }
}

/// A stream that gets a byte whenever the signal comes.
fn heard(signal: i32) -> io::Result<UnixStream> {
    let (ours, handlers) = StdUnixStream::pair()?;
    ours.set_nonblocking(true)?;
    pipe::register(signal, handlers)?;
    UnixStream::from_std(ours)
}

/// Wait for a signal; several at once count as one.
async fn told(stream: &UnixStream) {
    let mut bytes = [0; 64];
    loop {
        if stream.readable().await.is_err() {
            // The handlers keep the other end for as long as the process lives.
            return pending().await;
        }
        if let Ok(1..) = stream.try_read(&mut bytes) {
            return;
        }
    }
}

/// The supervisor's channel as the event loop watches it; only its readiness is used here.
fn watched(channel: OwnedFd) -> io::Result<UnixStream> {
    let channel = StdUnixStream::from(channel);
    channel.set_nonblocking(true)?;
    UnixStream::from_std(channel)
}

async fn ordered(wake: &UnixStream, next: &mut dyn FnMut() -> Option<Order>) -> Order {
    let mut take = || next().ok_or_else(|| io::Error::from(io::ErrorKind::WouldBlock));
    loop {
        if wake.readable().await.is_err() {
            return pending().await;
        }
        // Readiness is forgotten only when there was nothing to take.
        if let Ok(order) = wake.try_io(Interest::READABLE, &mut take) {
            return order;
        }
    }
}
