//! The socket as hyper sees it, reporting what happens to the connection's watch.
//!
//! Made by `connection.rs`, driven by hyper.
//! Promises: reads and writes are passed on as they are, vectored writes included, but for hyper's own
//! answers to what is no request, which are replaced (`refuse.rs`); before a connection is
//! closed that the client may use, the kernel itself is asked whether it has; and where the client may
//! still be sending, closing waits a moment for it to notice, since a close with unread bytes in the queue
//! resets the connection, and an answer on its way is lost.
//! Source: RFC 9112 section 9.6 (closing in stages).

use std::io::{self, Cursor, IoSlice};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Duration, Instant};

use crate::connection::Connection;
use crate::metered::Metered;
use crate::stats::Stats;

/// How long a closed connection waits for a client that still sends.
const LINGER: Duration = Duration::from_secs(1);

/// What a connection can be made of.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + 'static {
    /// Whether bytes have come of which the event loop need not know yet.
    fn has_unread(&self) -> bool;
}

impl Stream for TcpStream {
    fn has_unread(&self) -> bool {
        has_bytes(self)
    }
}

impl Stream for UnixStream {
    fn has_unread(&self) -> bool {
        has_bytes(self)
    }
}

/// A client that has closed sends nothing any more, and one whose socket fails neither.
fn has_bytes(stream: &impl AsFd) -> bool {
    matches!(recv(stream, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT), Ok((_, 1..)))
}

/// A client's socket.
pub(crate) struct Socket<T> {
    io: TokioIo<Metered<T>>,
    connection: Rc<Connection>,
    lingering: bool,
    /// What is left to write in place of an answer of hyper's own.
    refusal: Option<Cursor<Vec<u8>>>,
}

impl<T> Socket<T> {
    pub(crate) fn new(stream: T, connection: Rc<Connection>) -> Self {
        let Stats { received_bytes, sent_bytes, .. } = connection.shared.stats;
        let io = TokioIo::new(Metered::new(stream, received_bytes, sent_bytes));
        Self { io, connection, lingering: false, refusal: None }
    }
}

impl<T: Stream> Read for Socket<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        let Connection { watch, .. } = &*self.connection;
        if read.is_ready()
            || (self.connection.is_unwanted() && self.io.inner().stream().has_unread())
        {
            watch.received(self.connection.limits());
        }
        read
    }
}

impl<T: Stream> Write for Socket<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.connection.watch.is_between_requests() {
            return self.poll_refuse(cx, &[IoSlice::new(bytes)]);
        }
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.connection.watch.is_between_requests() {
            return self.poll_refuse(cx, slices);
        }
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.wrote(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.io).poll_flush(cx));
        self.connection.watch.flushed(self.connection.limits());
        Poll::Ready(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.lingering {
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
            if !self.connection.lingers() {
                return Poll::Ready(Ok(()));
            }
            self.lingering = true;
            self.connection.watch.lingers(Instant::now() + LINGER);
        }
        self.discard(cx)
    }
}

impl<T: Stream> Socket<T> {
    fn wrote(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let Connection { watch, .. } = &*self.connection;
        match written {
            Poll::Ready(_) => watch.moved(),
            Poll::Pending => watch.stalled(self.connection.limits()),
        }
        written
    }

    /// Write our own refusal in place of hyper's, which counts as written when ours is.
    fn poll_refuse(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bare: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let ours = || self.connection.refuse(&bare).unwrap_or_else(|| bare.clone());
        let mut rest = self.refusal.take().unwrap_or_else(|| Cursor::new(ours()));
        while rest.has_remaining() {
            let written = Pin::new(&mut self.io).poll_write(cx, rest.chunk());
            match self.wrote(written) {
                // As hyper takes it: nothing can be written any more.
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(0)),
                Poll::Ready(written) => rest.advance(written?),
                Poll::Pending => {
                    self.refusal = Some(rest);
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(bare.len()))
    }

    /// Read until the client closes, too; the watch's deadline ends it otherwise.
    fn discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut scratch = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            ready!(Pin::new(self.io.inner_mut()).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
