//! The two kinds of sockets that a worker accepts from: with a port, and with a name in the file system.
//!
//! `accept.rs` does the same with either; what differs is here. Promises: a stream that is given was
//! accepted, and is ready for the event loop. Does not know: who opened the socket, or how many connections
//! there may be. Source: accept(2), unix(7).

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as StdTcpListener};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::task::{Context, Poll};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::socket::Stream;

/// Where a connection comes from: `None` for a unix socket, whose clients have no address.
pub(crate) type Peer = Option<IpAddr>;

/// What a log says of a client that came by a unix socket.
const NO_ADDRESS: &str = "unix:";

/// What it is called.
pub(crate) fn address_text(peer: Peer) -> String {
    peer.map_or_else(|| NO_ADDRESS.to_owned(), |address| address.to_string())
}

/// A socket that the event loop watches.
pub(crate) trait Listen: AsFd + Sized + 'static {
    type Stream: Stream + AsFd;
    /// The same, when nobody watches it any more.
    type Unwatched;

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Self::Stream, Peer)>>;

    /// Takes it out of the event loop.
    fn unwatched(self) -> io::Result<Self::Unwatched>;

    /// Accepts at once, or not.
    fn accept_now(listener: &Self::Unwatched) -> io::Result<(Self::Stream, Peer)>;
}

impl Listen for TcpListener {
    type Stream = TcpStream;
    type Unwatched = StdTcpListener;

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, Peer)>> {
        let with_peer = |(stream, client): (TcpStream, SocketAddr)| (stream, Some(client.ip()));
        self.poll_accept(cx).map_ok(with_peer)
    }

    fn unwatched(self) -> io::Result<StdTcpListener> {
        self.into_std()
    }

    fn accept_now(listener: &StdTcpListener) -> io::Result<(TcpStream, Peer)> {
        let (stream, client) = listener.accept()?;
        stream.set_nonblocking(true)?;
        Ok((TcpStream::from_std(stream)?, Some(client.ip())))
    }
}

impl Listen for UnixListener {
    type Stream = UnixStream;
    type Unwatched = StdUnixListener;

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(UnixStream, Peer)>> {
        self.poll_accept(cx).map_ok(|(stream, _)| (stream, None))
    }

    fn unwatched(self) -> io::Result<StdUnixListener> {
        self.into_std()
    }

    fn accept_now(listener: &StdUnixListener) -> io::Result<(UnixStream, Peer)> {
        let (stream, _) = listener.accept()?;
        stream.set_nonblocking(true)?;
        Ok((UnixStream::from_std(stream)?, None))
    }
}

/// A listener as the event loop watches it.
///
/// # Errors
/// When the system has no room for it, or it is none; it is closed then.
pub(crate) fn watched(listener: StdTcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// The same for one that has no port.
///
/// # Errors
/// As [`watched`].
pub(crate) fn watched_unix(listener: StdUnixListener) -> io::Result<UnixListener> {
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}
