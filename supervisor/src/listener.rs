//! Listening sockets: one `SO_REUSEPORT` socket per slot, opened and owned by the supervisor.
//!
//! The kernel spreads new connections over the sockets of the group by a hash of the connection.
//! The supervisor keeps every socket open as long as the slot exists, whatever its worker does, so
//! that a queue outlives the worker that should have emptied it: closing the last copy of a
//! listening socket resets what is queued on it. Sockets that others opened are never shut, and new
//! connections are never kept from them: they are theirs, and the next program's. Where there is no such
//! group, all slots accept from the same sockets (`shared`).
//!
//! Which sockets get new connections is `steering`'s. Called by the loop. Accepted connections inherit
//! `TCP_NODELAY` and keep-alive from here, which saves two calls per connection.
//! Source: socket(7), tcp(7), listen(2).

use std::io::{self, ErrorKind};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};

use crate::bind::Bind;
use crate::heritage::{ListenersLeft, Passing};
use crate::shared::{Ports, Shared};
use crate::start::Descriptors;
use crate::{Error, door, steering, sys};

/// Fails when anybody listens there already, a second copy of this program included.
///
/// `SO_REUSEPORT` would let two copies share a port in silence, so this asks without it;
/// `SO_REUSEADDR` keeps connections in TIME_WAIT from refusing a restart for a minute.
pub(crate) fn probe(bind: &Bind) -> Result<(), Error> {
    let ask = || match bind {
        Bind::Unix(path) => door::probe(path),
        Bind::Tcp(address) => {
            let socket = open(*address)?;
            socket.set_reuse_address(true)?;
            socket.bind(&(*address).into())
        }
    };
    ask().map_err(|source| Error::refusal(bind.clone(), source))
}

/// Connections that wait on a service's socket: those who ask it are few.
const SERVICE_BACKLOG: i32 = 64;

/// The listening sockets.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    /// By slot: of a group that shares one port, each its own.
    slots: Vec<Option<TcpListener>>,
    /// How many of these, from the first on, others opened, who keep them and may start us again with them.
    given: usize,
    /// Where there is no such group.
    shared: Shared,
}

impl Listeners {
    /// Those that this process was started with, by slot; `given` of them are not our own ones of before.
    pub(crate) fn group(all: Vec<TcpListener>, given: usize) -> Self {
        let slots = all.into_iter().map(Some).collect();
        Self { slots, given, shared: Shared::default() }
    }

    /// Those of all slots.
    pub(crate) fn shared(shared: Shared) -> Self {
        Self { shared, ..Self::default() }
    }

    /// Opens one listening socket per slot, in the order of the slots; or the one of all.
    ///
    /// With port 0 the first socket chooses the port and the others follow.
    pub(crate) fn open(bind: &Bind, slots: usize, backlog: u32) -> Result<Self, Error> {
        let address = match bind {
            Bind::Tcp(address) => *address,
            Bind::Unix(path) => return Shared::open(path, backlog).map(Self::shared),
        };
        probe(bind)?;
        let mut all = Self::group(vec![listen_one(address, backlog)?], 0);
        all.fill(slots, backlog)?;
        Ok(all)
    }

    /// Opens what is missing to so many slots.
    pub(crate) fn fill(&mut self, slots: usize, backlog: u32) -> Result<(), Error> {
        (self.slots.len()..slots).try_for_each(|slot| self.add(slot, backlog))
    }

    /// Whether there are any.
    pub(crate) fn are_open(&self) -> bool {
        self.count() > 0
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.slots.iter().flatten().count() + self.shared.count()
    }

    /// How many slots have one of their own, that was there before us.
    pub(crate) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// How many slots there have to be at least: as many as sockets that others opened, one each.
    pub(crate) fn given(&self) -> usize {
        self.given
    }

    /// What the service manager is to keep a copy of, for this slot: not what it has itself.
    pub(crate) fn to_keep(&self, slot: usize) -> Option<BorrowedFd<'_>> {
        match self.of(slot) {
            Some(own) => (self.given == 0).then(|| own.as_fd()),
            None => self.shared.ours().filter(|_| slot == 0),
        }
    }

    /// Whether one has a name that is taken away when it is closed.
    pub(crate) fn has_name(&self) -> bool {
        self.shared.ours().is_some()
    }

    /// Whether that one was kept for us over the end of a program before.
    pub(crate) fn is_kept(&self) -> bool {
        self.shared.is_kept()
    }

    /// Takes that name away.
    pub(crate) fn withdraw(&self) {
        self.shared.withdraw();
    }

    /// Takes over the sockets of the program before.
    pub(crate) fn adopt(left: &ListenersLeft, descriptors: &mut Descriptors) -> io::Result<Self> {
        let mut adopt = |number: &Option<i32>| {
            let Some(number) = number else { return Ok(None) };
            let listener = TcpListener::from(descriptors.take(*number)?);
            listener.local_addr()?;
            match SockRef::from(&listener).is_listener()? {
                true => Ok(Some(listener)),
                false => Err(io::Error::other("a slot's socket does not listen")),
            }
        };
        let slots = left.slots.iter().map(&mut adopt).collect::<io::Result<_>>()?;
        let shared = Shared::adopt(&left.shared, descriptors)?;
        Ok(Self { slots, given: left.given, shared })
    }

    /// Leaves them to the program after this one.
    pub(crate) fn leave<'a>(&'a self, passing: &mut Passing<'a>) -> ListenersLeft {
        let pass = |one: &'a Option<TcpListener>| one.as_ref().map(|one| passing.add(one));
        let slots = self.slots.iter().map(pass).collect();
        ListenersLeft { slots, given: self.given, shared: self.shared.leave(passing) }
    }

    /// Opens the socket of one more slot, beside those there are.
    pub(crate) fn add(&mut self, slot: usize, backlog: u32) -> Result<(), Error> {
        if !self.shared.is_empty() {
            return Ok(());
        }
        let address = self.address().ok_or(Error::NothingListens)?;
        let listener = listen_one(address, backlog).map_err(|refused| match refused {
            Error::AddressInUse(address) if self.given > 0 => {
                Error::NoneBesideGiven { address, given: self.given }
            }
            other => other,
        })?;
        self.slots.resize_with(self.slots.len().max(slot + 1), || None);
        self.slots[slot] = Some(listener);
        Ok(())
    }

    /// Where they listen; ports are the real ones.
    pub(crate) fn addresses(&self) -> Vec<Bind> {
        self.address().map(Bind::Tcp).into_iter().chain(self.shared.addresses()).collect()
    }

    /// Where all of the group listen.
    fn address(&self) -> Option<SocketAddr> {
        self.slots.iter().flatten().next().and_then(|listener| listener.local_addr().ok())
    }

    /// The slot's own one.
    pub(crate) fn of(&self, slot: usize) -> Option<&TcpListener> {
        self.slots.get(slot)?.as_ref()
    }

    /// In a child: what the worker of this slot accepts from. The others are closed.
    pub(crate) fn take(&mut self, slot: usize) -> io::Result<Ports> {
        let mut ports = self.shared.take()?;
        ports.tcp.extend(self.slots.get_mut(slot).and_then(Option::take));
        self.close();
        Ok(ports)
    }

    /// Closes the copies of this process.
    pub(crate) fn close(&mut self) {
        self.slots.clear();
        self.shared = Shared::default();
    }

    /// Takes the slot's socket out of the group for good, whoever holds a copy of it: what still waits
    /// on it is reset. One that others opened stays as it is.
    pub(crate) fn shut(&mut self, slot: usize) {
        if let Some(listener) = self.slots.get_mut(slot).and_then(Option::take)
            && slot >= self.given
        {
            // A socket that listens is disconnected by this: shutdown(2) on all its copies.
            let _ = SockRef::from(&listener).shutdown(Shutdown::Both);
        }
    }

    /// How many connections wait on the slot's socket; what all slots share is counted at the first one.
    pub(crate) fn queue_length(&self, slot: usize) -> u32 {
        match self.of(slot) {
            Some(listener) => sys::queue_length(listener).unwrap_or(0),
            None if slot == 0 => self.shared.queue_length(),
            None => 0,
        }
    }

    /// Lets the kernel give new connections to these slots only, at random.
    pub(crate) fn steer(&self, slots: &[usize]) -> io::Result<()> {
        let any = self.slots.iter().flatten().next();
        any.map_or(Ok(()), |any| steering::attach(any, slots))
    }

    /// Lets the kernel drop whoever asks for a connection from now on; who has asked already gets it.
    /// Whoever is dropped asks again, a second later. Of those that others keep, whoever comes now is for
    /// the next program.
    pub(crate) fn refuse_new(&self) -> io::Result<()> {
        self.withdraw();
        let ours = self.slots.iter().skip(self.given).flatten();
        ours.into_iter().try_for_each(|one| refuse_new_at(&SockRef::from(one)))
    }

    /// Lets so many wait on each of our own again, whatever a supervisor before us has left of that.
    pub(crate) fn queue_again(&self, backlog: u32) -> io::Result<()> {
        let ours = self.slots.iter().skip(self.given).flatten();
        ours.into_iter().try_for_each(|one| queue_at_most(&SockRef::from(one), backlog))
    }
}

/// One listening socket that no other shares, for a service. Source: socket(7), `SO_REUSEADDR`.
pub(crate) fn listen_alone(address: SocketAddr) -> Result<TcpListener, Error> {
    let ask = || {
        let socket = open(address)?;
        socket.set_reuse_address(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(SERVICE_BACKLOG)?;
        Ok(socket.into())
    };
    ask().map_err(|source| Error::refusal(address.into(), source))
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

/// Some kernels let only root filter what comes (`CAP_NET_ADMIN`). For others the queue is made as short as there
/// is: one waits, and who asks after it is dropped, or gets a SYN cookie, which then is no use. Source: listen(2),
/// tcp(7).
fn refuse_new_at(socket: &SockRef<'_>) -> io::Result<()> {
    match socket.attach_filter(&NO_NEW) {
        Err(refused) if refused.kind() == ErrorKind::PermissionDenied => socket.listen(0),
        done => done,
    }
}

fn queue_at_most(socket: &SockRef<'_>, backlog: u32) -> io::Result<()> {
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))
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
        queue_at_most(&SockRef::from(&socket), backlog)?;
        Ok(socket.into())
    };
    ask().map_err(|source| Error::refusal(address.into(), source))
}

/// A close-on-exec TCP socket (socket2 sets the flag).
fn open(address: SocketAddr) -> io::Result<Socket> {
    Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::TcpStream;

    use nix::errno::Errno;

    use super::*;

    const ANY: Bind =
        Bind::Tcp(SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0));

    #[test]
    fn slots_share_one_port() {
        let listeners = Listeners::open(&ANY, 3, 16).unwrap();
        let address = listeners.address().unwrap();
        assert!((0..3).all(|slot| listeners.of(slot).unwrap().local_addr().unwrap() == address));
    }

    #[test]
    fn a_second_copy_is_refused_although_the_port_could_be_shared() {
        let listeners = Listeners::open(&ANY, 1, 16).unwrap();
        let address = listeners.address().unwrap();
        let refused = Listeners::open(&address.into(), 1, 16).unwrap_err();
        let is_taken = matches!(&refused, Error::AddressInUse(taken) if *taken == address.into());
        assert!(is_taken, "{refused}");
    }

    #[test]
    fn a_connection_in_time_wait_does_not_refuse_a_restart() {
        let listener = listen_one("127.0.0.1:0".parse().unwrap(), 16).unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(false).unwrap();
        let client = TcpStream::connect(address).unwrap();
        let (served, _) = listener.accept().unwrap();
        // The side that closes first is the one left in TIME_WAIT: the server's.
        drop(served);
        let mut end = [0_u8; 1];
        assert_eq!(io::Read::read(&mut &client, &mut end).unwrap(), 0);
        drop((client, listener));
        Listeners::open(&address.into(), 2, 16).unwrap();
    }

    /// Connections per slot, of so many fresh ones.
    fn spread(listeners: &Listeners, connections: usize) -> Vec<u32> {
        let address = listeners.address().unwrap();
        let clients: Vec<_> =
            (0..connections).map(|_| TcpStream::connect(address).unwrap()).collect();
        let lengths = (0..listeners.slots.len()).map(|slot| listeners.queue_length(slot)).collect();
        for listener in listeners.slots.iter().flatten() {
            while listener.accept().is_ok() {}
        }
        drop(clients);
        lengths
    }

    #[test]
    fn new_connections_go_where_they_are_steered() {
        let mut listeners = Listeners::open(&ANY, 4, 512).unwrap();
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
        let mut listeners = Listeners::open(&ANY, 3, 512).unwrap();
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
    fn what_others_opened_is_neither_shut_nor_kept_from_anybody() {
        let Listeners { slots, .. } = Listeners::open(&ANY, 2, 16).unwrap();
        let mut listeners = Listeners::group(slots.into_iter().flatten().collect(), 2);
        let address = listeners.address().unwrap();
        listeners.add(2, 16).unwrap();
        let copies: Vec<_> =
            (0..3).map(|slot| listeners.of(slot).unwrap().try_clone().unwrap()).collect();
        listeners.refuse_new().unwrap();
        (0..3).rev().for_each(|slot| listeners.shut(slot));
        let clients: Vec<_> = (0..8).map(|_| TcpStream::connect(address).unwrap()).collect();
        let listens = |copy: &TcpListener| SockRef::from(copy).is_listener().unwrap();
        assert_eq!(copies.iter().map(listens).collect::<Vec<_>>(), [true, true, false]);
        let queued: u32 = copies[..2].iter().map(|copy| sys::queue_length(copy).unwrap()).sum();
        assert_eq!(queued as usize, clients.len());
    }

    #[test]
    fn who_comes_too_late_is_dropped_and_who_is_queued_is_not() {
        let listeners = Listeners::open(&ANY, 1, 16).unwrap();
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

    #[test]
    fn who_may_not_filter_lets_one_wait_until_a_next_start() {
        let listeners = Listeners::open(&ANY, 1, 16).unwrap();
        let address = listeners.address().unwrap();
        SockRef::from(listeners.of(0).unwrap()).listen(0).unwrap();
        let connect =
            || TcpStream::connect_timeout(&address, std::time::Duration::from_millis(100));
        let _waits = connect().unwrap();
        assert_eq!(connect().unwrap_err().kind(), ErrorKind::TimedOut);
        listeners.queue_again(16).unwrap();
        let _wait_too = [connect().unwrap(), connect().unwrap()];
    }
}
