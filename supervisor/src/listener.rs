//! Listening sockets: one `SO_REUSEPORT` socket per slot, opened and owned by the supervisor.
//!
//! The kernel spreads new connections over the sockets of the group by a hash of the connection.
//! The supervisor keeps every socket open as long as the slot exists, whatever its worker does, so
//! that a queue outlives the worker that should have emptied it: closing the last copy of a
//! listening socket resets what is queued on it.
//!
//! Called by the loop. Accepted connections inherit `TCP_NODELAY` and keep-alive from here, which
//! saves two calls per connection. Source: socket(7), tcp(7), listen(2).

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use crate::Error;

/// Fails when anybody listens on `address` already, a second copy of this program included.
///
/// `SO_REUSEPORT` would let two copies share a port in silence, so this asks without it;
/// `SO_REUSEADDR` keeps connections in TIME_WAIT from refusing a restart for a minute.
pub(crate) fn probe(address: SocketAddr) -> Result<(), Error> {
    let ask = || {
        let socket = open(address)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())
    };
    ask().map_err(refusal(address))
}

/// Opens one listening socket per slot, in the order of the slots.
///
/// With port 0 the first socket chooses the port and the others follow.
pub(crate) fn listen(
    address: SocketAddr,
    slots: usize,
    backlog: u32,
) -> Result<Vec<TcpListener>, Error> {
    probe(address)?;
    let first = listen_one(address, backlog)?;
    let chosen = first.local_addr().map_err(refusal(address))?;
    let rest = (1..slots).map(|_| listen_one(chosen, backlog));
    std::iter::once(Ok(first)).chain(rest).collect()
}

fn listen_one(address: SocketAddr, backlog: u32) -> Result<TcpListener, Error> {
    let ask = || {
        let socket = open(address)?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_keepalive(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        Ok(socket.into())
    };
    ask().map_err(refusal(address))
}

/// A close-on-exec TCP socket (socket2 sets the flag).
fn open(address: SocketAddr) -> io::Result<Socket> {
    Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))
}

fn refusal(address: SocketAddr) -> impl FnOnce(io::Error) -> Error {
    move |source| match source.kind() {
        ErrorKind::AddrInUse => Error::AddressInUse(address),
        ErrorKind::PermissionDenied => Error::AddressForbidden(address),
        _ => Error::Listen { address, source },
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    #[test]
    fn slots_share_one_port() {
        let listeners = listen(ANY, 3, 16).unwrap();
        let address = listeners[0].local_addr().unwrap();
        assert_eq!(listeners.len(), 3);
        assert!(listeners.iter().all(|one| one.local_addr().unwrap() == address));
    }

    #[test]
    fn a_second_copy_is_refused_although_the_port_could_be_shared() {
        let listeners = listen(ANY, 1, 16).unwrap();
        let address = listeners[0].local_addr().unwrap();
        let refused = listen(address, 1, 16).unwrap_err();
        assert!(matches!(refused, Error::AddressInUse(taken) if taken == address), "{refused}");
    }

    #[test]
    fn a_connection_in_time_wait_does_not_refuse_a_restart() {
        let listeners = listen(ANY, 1, 16).unwrap();
        let address = listeners[0].local_addr().unwrap();
        listeners[0].set_nonblocking(false).unwrap();
        let client = TcpStream::connect(address).unwrap();
        let (served, _) = listeners[0].accept().unwrap();
        // The side that closes first is the one left in TIME_WAIT: the server's.
        drop(served);
        let mut end = [0_u8; 1];
        assert_eq!(io::Read::read(&mut &client, &mut end).unwrap(), 0);
        drop((client, listeners));
        listen(address, 2, 16).unwrap();
    }
}
