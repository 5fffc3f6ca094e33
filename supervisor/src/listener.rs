//! Listening sockets: one `SO_REUSEPORT` socket per slot, opened and owned by the supervisor.
//!
//! The kernel spreads new connections over the sockets of the group by a hash of the connection.
//! The supervisor keeps every socket open as long as the slot exists, whatever its worker does, so
//! that a queue outlives the worker that should have emptied it: closing the last copy of a
//! listening socket resets what is queued on it.
//!
//! Which sockets get new connections is `steering`'s. Called by the loop. Accepted connections inherit `TCP_NODELAY` and keep-alive from here, which
//! saves two calls per connection. Source: socket(7), tcp(7), listen(2).

use std::io::{self, ErrorKind};
use std::net::{Shutdown, SocketAddr, TcpListener};

use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};

use crate::{Error, steering, sys};

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

/// The listening sockets, by slot.
#[derive(Debug, Default)]
pub(crate) struct Listeners(Vec<Option<TcpListener>>);

impl Listeners {
    /// Opens one listening socket per slot, in the order of the slots.
    ///
    /// With port 0 the first socket chooses the port and the others follow.
    pub(crate) fn open(address: SocketAddr, slots: usize, backlog: u32) -> Result<Self, Error> {
        probe(address)?;
        let mut all = Self(vec![Some(listen_one(address, backlog)?)]);
        for slot in 1..slots {
            all.add(slot, backlog)?;
        }
        Ok(all)
    }

    /// Opens the socket of one more slot, beside those there are.
    pub(crate) fn add(&mut self, slot: usize, backlog: u32) -> Result<(), Error> {
        let address = self.address().ok_or(Error::NothingListens)?;
        let listener = listen_one(address, backlog)?;
        self.0.resize_with(self.0.len().max(slot + 1), || None);
        self.0[slot] = Some(listener);
        Ok(())
    }

    /// Where they all listen; the port is the real one.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.0.iter().flatten().next().and_then(|listener| listener.local_addr().ok())
    }

    pub(crate) fn of(&self, slot: usize) -> Option<&TcpListener> {
        self.0.get(slot)?.as_ref()
    }

    /// Leaves the slot's own socket, for a worker: the others are closed.
    pub(crate) fn take(&mut self, slot: usize) -> Option<TcpListener> {
        let taken = self.0.get_mut(slot).and_then(Option::take);
        self.close();
        taken
    }

    /// Closes the copies of this process.
    pub(crate) fn close(&mut self) {
        self.0.clear();
    }

    /// Takes the slot's socket out of the group for good, whoever holds a copy of it: what still waits
    /// on it is reset.
    pub(crate) fn shut(&mut self, slot: usize) {
        if let Some(listener) = self.0.get_mut(slot).and_then(Option::take) {
            // A socket that listens is disconnected by this: shutdown(2) on all its copies.
            let _ = SockRef::from(&listener).shutdown(Shutdown::Both);
        }
    }

    /// How many connections wait on the slot's socket.
    pub(crate) fn queue_length(&self, slot: usize) -> u32 {
        self.of(slot).and_then(|listener| sys::queue_length(listener).ok()).unwrap_or(0)
    }

    /// Lets the kernel give new connections to these slots only, at random.
    pub(crate) fn steer(&self, slots: &[usize]) -> io::Result<()> {
        let Some(any) = self.0.iter().flatten().next() else { return Ok(()) };
        steering::attach(any, slots)
    }

    /// Lets the kernel drop whoever asks for a connection from now on; who has asked already gets it.
    /// Whoever is dropped asks again, a second later.
    pub(crate) fn refuse_new(&self) -> io::Result<()> {
        self.0.iter().flatten().try_for_each(|one| SockRef::from(one).attach_filter(&NO_NEW))
    }
}

/// Offset of the flags in a TCP header, and two of them. Source: RFC 9293 section 3.1.
const FLAGS_AT: u32 = 13;
const SYN: u32 = 0x02;
const ACK: u32 = 0x10;

/// Drops a packet that asks for a connection: SYN without ACK. Source: bpf(4); the data of a socket
/// filter begin with the TCP header.
const NO_NEW: [SockFilter; 5] = [
    SockFilter::new(steering::LOAD_BYTE, 0, 0, FLAGS_AT),
    SockFilter::new(steering::AND, 0, 0, SYN | ACK),
    SockFilter::new(steering::JUMP_IF_EQUAL, 0, 1, SYN),
    SockFilter::new(steering::RETURN, 0, 0, 0),
    SockFilter::new(steering::RETURN, 0, 0, u32::MAX),
];

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

    use nix::errno::Errno;

    use super::*;

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    #[test]
    fn slots_share_one_port() {
        let listeners = Listeners::open(ANY, 3, 16).unwrap();
        let address = listeners.address().unwrap();
        assert!((0..3).all(|slot| listeners.of(slot).unwrap().local_addr().unwrap() == address));
    }

    #[test]
    fn a_second_copy_is_refused_although_the_port_could_be_shared() {
        let listeners = Listeners::open(ANY, 1, 16).unwrap();
        let address = listeners.address().unwrap();
        let refused = Listeners::open(address, 1, 16).unwrap_err();
        assert!(matches!(refused, Error::AddressInUse(taken) if taken == address), "{refused}");
    }

    #[test]
    fn a_connection_in_time_wait_does_not_refuse_a_restart() {
        let listener = listen_one(ANY, 16).unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(false).unwrap();
        let client = TcpStream::connect(address).unwrap();
        let (served, _) = listener.accept().unwrap();
        // The side that closes first is the one left in TIME_WAIT: the server's.
        drop(served);
        let mut end = [0_u8; 1];
        assert_eq!(io::Read::read(&mut &client, &mut end).unwrap(), 0);
        drop((client, listener));
        Listeners::open(address, 2, 16).unwrap();
    }

    /// Connections per slot, of so many fresh ones.
    fn spread(listeners: &Listeners, connections: usize) -> Vec<u32> {
        let address = listeners.address().unwrap();
        let clients: Vec<_> =
            (0..connections).map(|_| TcpStream::connect(address).unwrap()).collect();
        let lengths = (0..listeners.0.len()).map(|slot| listeners.queue_length(slot)).collect();
        for listener in listeners.0.iter().flatten() {
            while listener.accept().is_ok() {}
        }
        drop(clients);
        lengths
    }

    #[test]
    fn new_connections_go_where_they_are_steered() {
        let mut listeners = Listeners::open(ANY, 4, 512).unwrap();
        listeners.steer(&[0, 2, 3]).unwrap();
        let lengths = spread(&listeners, 300);
        assert_eq!((lengths[1], lengths.iter().sum::<u32>()), (0, 300), "{lengths:?}");
        assert!([0, 2, 3].iter().all(|slot| lengths[*slot] > 60), "{lengths:?}");
        for slots in [&[1][..], &[3], &[0, 3], &[1, 2]] {
            listeners.steer(slots).unwrap();
            let lengths = spread(&listeners, 100);
            let steered: u32 = slots.iter().map(|slot| lengths[*slot]).sum();
            assert_eq!(steered, 100, "{slots:?}: {lengths:?}");
        }
        // A slot that was added is reached as soon as it is in the set, and none by its number before.
        listeners.add(4, 512).unwrap();
        assert_eq!(spread(&listeners, 50)[4], 0);
        listeners.steer(&[0, 1, 2, 3, 4]).unwrap();
        assert!(spread(&listeners, 500).iter().all(|length| *length > 50));
    }

    #[test]
    fn a_slot_that_was_shut_is_out_of_the_group_whoever_holds_a_copy() {
        let mut listeners = Listeners::open(ANY, 3, 512).unwrap();
        let copy = listeners.of(2).unwrap().try_clone().unwrap();
        listeners.shut(2);
        assert_eq!(copy.accept().unwrap_err().raw_os_error(), Some(Errno::EINVAL as i32));
        assert_eq!(spread(&listeners, 100).iter().sum::<u32>(), 100);
        listeners.steer(&[0, 1]).unwrap();
        assert!(spread(&listeners, 100).iter().take(2).all(|length| *length > 10));
        // Its number is the next one's.
        listeners.add(2, 512).unwrap();
        listeners.steer(&[2]).unwrap();
        assert_eq!(spread(&listeners, 100)[2], 100);
    }

    #[test]
    fn who_comes_too_late_is_dropped_and_who_is_queued_is_not() {
        let listeners = Listeners::open(ANY, 1, 16).unwrap();
        let address = listeners.address().unwrap();
        let mut queued = TcpStream::connect(address).unwrap();
        listeners.refuse_new().unwrap();
        let late = TcpStream::connect_timeout(&address, std::time::Duration::from_millis(100));
        assert_eq!(late.unwrap_err().kind(), ErrorKind::TimedOut);
        io::Write::write_all(&mut queued, b"still heard").unwrap();
        let (mut served, _) = listeners.of(0).unwrap().accept().unwrap();
        let mut heard = [0; 11];
        io::Read::read_exact(&mut served, &mut heard).unwrap();
        assert_eq!(&heard, b"still heard");
    }
}
