//! One connection, from accepting it to its end.
//!
//! `accept.rs` starts one task per connection; hyper parses heads and bodies and calls `answer.rs` for
//! each request.
//! Promises: a connection ends when the client closes it, when it runs into a deadline, or when the drain
//! says so; an idle one is closed by a drain only after the grace; a request of which a byte has reached
//! the kernel when an idle connection is to be closed is answered instead.
//! Does not know: routes.

use std::cell::{Cell, OnceCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use tokio::task::spawn_local;
use tokio::time::{Duration, Instant, Sleep, sleep_until, timeout};

use crate::answer::answer;
use crate::config::Limits;
use crate::error::HttpError;
use crate::listen::{Peer, address_text};
use crate::refuse::unparsed;
use crate::shared::Shared;
use crate::socket::{Socket, Stream};
use crate::watch::Watch;

/// An unread body of up to this many bytes is read and dropped, which keeps the connection.
const DISCARD_MAX_BYTES: u64 = 64 * 1024;
/// And if it comes within this time.
const DISCARD_WITHIN: Duration = Duration::from_secs(1);

/// While a handler works the timer has nothing to do; it is set this far ahead.
const HANDLER_CHECK: Duration = Duration::from_secs(60);

/// What hyper, the socket and the request at work know of their connection.
pub(crate) struct Connection {
    pub(crate) shared: Rc<Shared>,
    /// Where it comes from.
    pub(crate) peer: Peer,
    pub(crate) watch: Watch,
    peer_text: OnceCell<String>,
    /// Until its first request; where that is traced.
    accepted: Cell<Option<Instant>>,
    unread: Cell<Option<Incoming>>,
    lingers: Cell<bool>,
    held_bytes: Cell<usize>,
}

impl Connection {
    fn new(peer: Peer, shared: Rc<Shared>) -> Self {
        let watch = Watch::new(&shared.limits);
        let accepted = Cell::new(shared.traces.as_ref().map(|_| Instant::now()));
        Self {
            shared,
            peer,
            watch,
            peer_text: OnceCell::new(),
            accepted,
            unread: Cell::new(None),
            lingers: Cell::new(false),
            held_bytes: Cell::new(0),
        }
    }

    /// The address of the client, as text.
    pub(crate) fn client(&self) -> &str {
        self.peer_text.get_or_init(|| address_text(self.peer))
    }

    /// When the server began to be busy with the request whose head is complete now, and whether it is the
    /// first one of its connection.
    pub(crate) fn began(&self) -> Option<(Instant, bool)> {
        match self.accepted.take() {
            Some(accepted) => Some((accepted, true)),
            None => self.watch.head_began(self.limits()).map(|began| (began, false)),
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// Count bytes of a body that the request at work holds from now on.
    ///
    /// # Errors
    /// When all bodies together would be over the limit.
    pub(crate) fn hold(&self, bytes: usize) -> Result<(), HttpError> {
        let all = self.shared.bodies_bytes.get() + bytes;
        if all > self.limits().bodies_max_bytes {
            return Err(HttpError::BodiesFull);
        }
        self.shared.bodies_bytes.set(all);
        self.held_bytes.set(self.held_bytes.get() + bytes);
        Ok(())
    }

    /// The request at work has ended, and what it held is free.
    pub(crate) fn release(&self) {
        let rest = self.shared.bodies_bytes.get() - self.held_bytes.take();
        self.shared.bodies_bytes.set(rest);
    }

    /// Take back a body that was not read to its end.
    pub(crate) fn leave_unread(&self, body: Incoming) {
        self.unread.set(Some(body));
    }

    /// Deal with what the handler left of the body: a little is read and dropped while the answer is on
    /// its way. `false`: too much is left, so the connection cannot take another request. `wanted` is
    /// `false` when the rest of the body should not even be awaited.
    pub(crate) fn settle(self: &Rc<Self>, wanted: bool) -> bool {
        let Some(body) = self.unread.take() else { return true };
        if !wanted || body.size_hint().lower() > DISCARD_MAX_BYTES {
            self.lingers.set(true);
            return false;
        }
        let connection = Rc::clone(self);
        spawn_local(async move {
            match discard(body).await {
                true => connection.watch.received_whole(),
                // hyper closes the connection now that nobody reads the body.
                false => connection.lingers.set(true),
            }
        });
        true
    }

    /// What hyper writes although there is no request: an answer to a head that it could not parse. Gives
    /// what is written instead, if anything.
    pub(crate) fn refuse(&self, bare: &[u8]) -> Option<Vec<u8>> {
        self.shared.stats.malformed.increment();
        self.lingers.set(true);
        unparsed(bare, self.client(), &self.shared)
    }

    /// Whether the client may still be sending when we close: a body that nobody read, a head that hyper
    /// refused, or a request that it began before it knew that there can be none any more.
    pub(crate) fn lingers(&self) -> bool {
        self.lingers.get()
            || self.watch.is_in_head()
            || self.watch.is_expired()
            || self.shared.drain.is_draining()
    }

    /// Whether it is idle, and to be closed for that.
    pub(crate) fn is_unwanted(&self) -> bool {
        self.watch.is_idle() && (self.watch.is_expired() || self.shared.drain.is_closing())
    }
}

async fn discard(mut body: Incoming) -> bool {
    let read_to_end = async {
        let mut left = DISCARD_MAX_BYTES;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return false };
            let length = frame.data_ref().map_or(0, bytes::Bytes::len) as u64;
            let Some(less) = left.checked_sub(length) else { return false };
            left = less;
        }
        true
    };
    timeout(DISCARD_WITHIN, read_to_end).await.unwrap_or(false)
}

/// Give a connection from `peer` its seat, and a task to serve it.
pub(crate) fn open(stream: impl Stream, peer: Peer, shared: &Rc<Shared>) {
    // Taken here and not in the task: the next accept must see it.
    let seat = Seat::take(Rc::clone(shared));
    spawn_local(serve(stream, peer, Rc::clone(shared), seat));
}

/// Serve one connection to its end.
async fn serve(stream: impl Stream, peer: Peer, shared: Rc<Shared>, _seat: Seat) {
    let connection = Rc::new(Connection::new(peer, Rc::clone(&shared)));
    let socket = Socket::new(stream, Rc::clone(&connection));
    let service = {
        let connection = Rc::clone(&connection);
        service_fn(move |request| answer(request, Rc::clone(&connection)))
    };
    let mut http = pin!(shared.http.serve_connection(socket, service));
    let mut closing = pin!(shared.drain.closing());
    let mut timer = pin!(sleep_until(Instant::now() + shared.limits.first_byte_timeout));
    let (mut registered, mut told) = (false, false);
    poll_fn(|cx| {
        if !registered {
            // Once is enough: a task's waker never changes, and the stage is asked for below.
            registered = true;
            let _ = closing.as_mut().poll(cx);
        }
        loop {
            let was_unwanted = connection.is_unwanted();
            // How it ended (closed, reset, malformed) is the client's affair.
            if http.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            if connection.is_unwanted() && !told {
                // If it was before, hyper has just tried to read, and the socket has looked for more than
                // the loop knows of. Otherwise that is done first.
                told = was_unwanted;
                if told {
                    http.as_mut().graceful_shutdown();
                }
                continue;
            }
            ready!(poll_deadline(&connection.watch, timer.as_mut(), cx));
            if told || !connection.watch.expire() {
                return Poll::Ready(());
            }
        }
    })
    .await;
}

/// Ready when the watch's deadline is over. The timer is only moved to an earlier time; a later deadline
/// is looked up when it fires.
fn poll_deadline(watch: &Watch, mut timer: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<()> {
    loop {
        let due = watch.deadline();
        if due.is_some_and(|due| due < timer.deadline()) {
            timer.as_mut().reset(due.unwrap_or_else(Instant::now));
        }
        ready!(timer.as_mut().poll(cx));
        match due {
            Some(due) if due <= Instant::now() => return Poll::Ready(()),
            Some(due) => timer.as_mut().reset(due),
            None => timer.as_mut().reset(Instant::now() + HANDLER_CHECK),
        }
    }
}

/// A connection's place among those the worker may have.
struct Seat(Rc<Shared>);

impl Seat {
    fn take(shared: Rc<Shared>) -> Self {
        shared.stats.connections.increment();
        Self(shared)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.stats.connections.decrement();
        self.0.room.notify_waiters();
    }
}
