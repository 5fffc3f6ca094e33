//! A unix socket that wakes its reader only for what can be read.
//!
//! `dial` connects it, for a server on the same machine.
//! Promises: what tokio's own does, except that the peer's reading wakes nobody: on such a socket each
//! read by the peer makes it writable anew, and whoever waits for both is woken for every message they
//! sent, which was a turn of the event loop for nothing. Does not know: what the bytes are.
//!
//! Source: unix(7), epoll(7).

use std::{
    io::{self, ErrorKind, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::unix::pipe::{Receiver, Sender},
};

/// tokio watches a pipe's end for one direction, and a descriptor is all it wants of it.
pub(super) struct Local {
    read: Receiver,
    stream: UnixStream,
    /// Waits for room, while the kernel takes no more.
    full: Option<Sender>,
}

impl Local {
    pub(super) async fn connect(path: &Path) -> io::Result<Self> {
        Self::over(tokio::net::UnixStream::connect(path).await?.into_std()?)
    }

    /// `stream` does not block.
    fn over(stream: UnixStream) -> io::Result<Self> {
        let read = Receiver::from_owned_fd_unchecked(OwnedFd::from(stream.try_clone()?))?;
        Ok(Self { read, stream, full: None })
    }
}

impl AsyncRead for Local {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.read).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Local {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.full.is_none() {
            match self.stream.write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
            let again = OwnedFd::from(self.stream.try_clone()?);
            self.full = Some(Sender::from_owned_fd_unchecked(again)?);
        }
        let Some(full) = &mut self.full else { return Poll::Pending };
        let written = ready!(Pin::new(full).poll_write(cx, bytes));
        self.full = None;
        Poll::Ready(written)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.stream.shutdown(std::net::Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read, thread};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A megabyte is more than the kernel takes at once: it waits for room, in pieces.
    #[tokio::test]
    async fn what_does_not_fit_waits_and_arrives_whole() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let peer = thread::spawn(move || {
            let mut all = vec![0; 1 << 20];
            theirs.read_exact(&mut all).unwrap();
            theirs.write_all(&all).unwrap();
        });
        let mut socket = Local::over(ours).unwrap();
        let sent: Vec<u8> = (0..1 << 20).map(|place: u32| (place % 251) as u8).collect();
        socket.write_all(&sent).await.unwrap();
        let mut back = Vec::new();
        socket.read_to_end(&mut back).await.unwrap();
        assert!(back == sent);
        peer.join().unwrap();
    }
}
