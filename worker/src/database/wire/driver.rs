//! What moves the bytes of a wire, for as long as its session lives.
//!
//! The lane runs it as a task. It is polled after the handlers that asked in the same turn, so that it
//! sends for all of them; it reads all there is before it hands anything on.
//! Promises: answers go to their askers in the server's order; rows that nobody waits for are not kept,
//! nor more than [`ANSWER_MAX_BYTES`] for anybody; when it ends, whoever is owed an answer learns that
//! there is none, and the lane why. Does not know: who asks.
//!
//! Source: PostgreSQL, "Message Formats".

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use postgres_protocol::message::frontend;
use tokio::io::AsyncWrite;

use super::{
    Failed, Owed, Reply, Stage, Wire,
    prepare::{Inbox, check_idle, failure},
};
use crate::database::{
    dial::Socket,
    error::DbError,
    rows::{Column, Rows},
};

/// The longest answer, and the longest message. Only a mistake has one: lists are pages.
pub(super) const ANSWER_MAX_BYTES: usize = 64 << 20;

pub(in crate::database) struct Driver {
    wire: Rc<Wire>,
    socket: Socket,
    inbox: Inbox,
    /// Rows of the answer that is coming in.
    rows: Vec<u8>,
    count: usize,
}

impl Driver {
    pub(super) fn new(wire: Rc<Wire>, socket: Socket) -> Self {
        Self { wire, socket, inbox: Inbox::new(), rows: Vec::new(), count: 0 }
    }

    /// Until the session ends. **Errors** where nobody wanted that.
    pub(in crate::database) async fn run(mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.state.borrow_mut().driver = Some(cx.waker().clone());
        while self.inbox.poll_fill(&mut self.socket, cx)?.is_ready() {
            self.take_in().inspect_err(|error| self.tell_too_long(error))?;
        }
        let stage = self.wire.state.borrow().stage;
        if stage == Stage::Over {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_send(cx))?;
        match stage == Stage::Closing && self.wire.in_flight() == 0 {
            true => self.poll_goodbye(cx),
            false => Poll::Pending,
        }
    }

    /// Sends what was asked since the last time.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let state = &mut *self.wire.state.borrow_mut();
        if state.unsynced > 0 {
            state.sync();
        }
        while !state.outbox.is_empty() {
            match Pin::new(&mut self.socket).poll_write(cx, &state.outbox) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(sent)) => state.outbox.advance(sent),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                // Reading goes on; the socket wakes us.
                Poll::Pending => return Poll::Pending,
            }
        }
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_goodbye(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut word = BytesMut::new();
        frontend::terminate(&mut word);
        // If it does not fit now, the server learns it from the close.
        let _ = Pin::new(&mut self.socket).poll_write(cx, &word)?;
        let _ = Pin::new(&mut self.socket).poll_flush(cx)?;
        Poll::Ready(Ok(()))
    }

    /// Deals with all messages that are whole.
    fn take_in(&mut self) -> io::Result<()> {
        loop {
            if self.inbox.begins_with_row() {
                self.gather()?;
            }
            let Some((tag, body)) = self.inbox.take()? else { return Ok(()) };
            match tag {
                // CommandComplete, EmptyQueryResponse.
                b'C' | b'I' => {
                    let (rows, count) = (std::mem::take(&mut self.rows), self.count);
                    self.count = 0;
                    self.wire.answer(|columns| Ok(Rows::of_wire(columns, count, rows)))?;
                }
                b'E' => {
                    let failed = failure(body);
                    self.wire.link.meters.refused(failed.sqlstate.code());
                    self.rows.clear();
                    self.count = 0;
                    if failed.ends_session {
                        return Err(failed.into_end());
                    }
                    self.wire.answer(|_| Err(failed.why))?;
                }
                b'Z' => {
                    check_idle(body)?;
                    self.wire.synced()?;
                }
                // BindComplete; notices, parameters, notifications.
                b'2' | b'N' | b'S' | b'A' => {}
                _ => return Err(unexpected()),
            }
        }
    }

    /// Takes the rows that are there, for the one who asked next if they have not left.
    fn gather(&mut self) -> io::Result<()> {
        let state = self.wire.state.borrow();
        let Some(Owed::Answer { columns, asker, .. }) = state.owed.front() else {
            return Err(unexpected());
        };
        let (rows, count) = self.inbox.take_rows(columns.len())?;
        if asker.as_ref().is_some_and(|asker| !asker.is_closed()) {
            if self.rows.len() + rows.len() > ANSWER_MAX_BYTES {
                return Err(too_long());
            }
            self.rows.extend_from_slice(rows);
            self.count += count;
        }
        Ok(())
    }

    /// Whose answer is too long hears that: elsewhere it would be as long.
    fn tell_too_long(&self, error: &io::Error) {
        if error.kind() == io::ErrorKind::FileTooLarge {
            let _ = self.wire.answer(|_| Err(Failed::Error(DbError::other(&error.to_string()))));
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.wire.end();
    }
}

pub(super) fn unexpected() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the server sent what nobody asked for")
}

pub(super) fn too_long() -> io::Error {
    let limit = ANSWER_MAX_BYTES >> 20;
    let text = format!("an answer is longer than {limit} MiB: ask for fewer rows");
    io::Error::new(io::ErrorKind::FileTooLarge, text)
}

impl Wire {
    /// The answer to the statement that is next.
    fn answer(&self, reply: impl FnOnce(Rc<[Column]>) -> Reply) -> io::Result<()> {
        let next = self.state.borrow_mut().owed.pop_front();
        let Some(Owed::Answer { columns, asker, .. }) = next else { return Err(unexpected()) };
        self.answers.set(self.answers.get() + 1);
        if let Some(asker) = asker {
            // Whoever asked may have left.
            let _ = asker.send(reply(columns));
        }
        Ok(())
    }

    /// The server is through with all before the Sync; what it has not answered it has left out.
    fn synced(&self) -> io::Result<()> {
        loop {
            let next = self.state.borrow_mut().owed.pop_front();
            match next {
                Some(Owed::Sync) => return Ok(()),
                Some(Owed::Answer { asker: Some(asker), asked, .. }) => {
                    let _ = asker.send(Err(Failed::Skipped { asked }));
                }
                Some(Owed::Answer { asker: None, .. }) => {}
                None => return Err(unexpected()),
            }
        }
    }

    /// There is no session any more: those who wait for an answer see their senders go.
    fn end(&self) {
        let owed = {
            let mut state = self.state.borrow_mut();
            state.stage = Stage::Over;
            state.driver = None;
            std::mem::take(&mut state.owed)
        };
        drop(owed);
        self.link.ended();
    }
}
