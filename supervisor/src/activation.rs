//! Sockets that this process was started with: opened by the service manager, or kept by it for us.
//!
//! Called by `Supervisor::new`. The name of one that was kept for us (`notify`) says so, and whose slot it
//! is; one that listens elsewhere by now is closed. The others are all taken, in their order. Where all are
//! one unit's (have one name) and share one port each is a slot's; else every slot accepts from all of them:
//! in which order several units began to listen is not known, and `steering` counts by that. Knows no policy.
//! Source: sd_listen_fds_with_names(3).

use std::collections::BTreeSet;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;

use socket2::{SockRef, Type};

use crate::bind::Bind;
use crate::door::Door;
use crate::listener::Listeners;
use crate::shared::{Ports, Shared};

/// Before the number of a slot, in the name under which the service manager keeps one of ours.
const KEPT: &str = "peace-slot-";

/// What we call a slot's socket when we let the service manager keep it.
pub(crate) fn kept_name(slot: usize) -> String {
    format!("{KEPT}{slot}")
}

/// What came of the sockets of the start.
#[derive(Debug, Default)]
pub(crate) struct Activated {
    /// What to begin with; nothing when none fits.
    pub(crate) listeners: Listeners,
    /// Names of those that were closed.
    pub(crate) closed: Vec<String>,
}

/// A socket that listens.
enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Takes those that listen, in the order of their slots.
///
/// # Errors
/// When one that others opened cannot be used: that is for people to mend.
pub(crate) fn activate(sockets: Vec<(String, OwnedFd)>, bind: &Bind) -> io::Result<Activated> {
    let (mut closed, mut door) = (Vec::new(), None);
    let (mut slots, mut theirs, mut units) = (Vec::new(), 0, BTreeSet::new());
    for (name, descriptor) in sockets {
        let socket = Listening::of(descriptor, &name);
        let Some(slot) = number(&name, KEPT) else {
            theirs += 1;
            slots.push((usize::MAX, socket?));
            units.insert(name);
            continue;
        };
        match (socket, bind) {
            (Ok(Listening::Tcp(socket)), Bind::Tcp(_)) if listens_at(&socket, bind) => {
                slots.push((slot, Listening::Tcp(socket)));
            }
            (Ok(Listening::Unix(socket)), Bind::Unix(path)) if is_at(&socket, path) => {
                door = Door::found(socket, path).inspect_err(|_| closed.push(name)).ok();
            }
            _ => closed.push(name),
        }
    }
    // Stable: those without a number stay in their order.
    slots.sort_by_key(|(slot, _)| *slot);
    let sockets: Vec<_> = slots.into_iter().map(|(_, socket)| socket).collect();
    let is_group = door.is_none() && units.len() <= 1 && is_group(&sockets);
    let given = if theirs == 0 { 0 } else { sockets.len() };
    let listeners = match is_group {
        // A slot's each.
        true => Listeners::group(ports(sockets).tcp, given),
        false => Listeners::shared(Shared::given(ports(sockets), door)),
    };
    Ok(Activated { listeners, closed })
}

/// Whether all share one port.
fn is_group(sockets: &[Listening]) -> bool {
    let place = |socket: &Listening| match socket {
        Listening::Tcp(one) if SockRef::from(one).reuse_port().unwrap_or(false) => {
            one.local_addr().ok()
        }
        _ => None,
    };
    let Some((first, others)) = sockets.split_first() else { return true };
    let first = place(first);
    first.is_some() && others.iter().all(|other| place(other) == first)
}

fn ports(sockets: Vec<Listening>) -> Ports {
    let mut ports = Ports::default();
    for socket in sockets {
        match socket {
            Listening::Tcp(one) => ports.tcp.push(one),
            Listening::Unix(one) => ports.unix.push(one),
        }
    }
    ports
}

impl Listening {
    /// As our own ones are.
    fn of(descriptor: OwnedFd, name: &str) -> io::Result<Self> {
        let socket = SockRef::from(&descriptor);
        let listens = socket.is_listener().unwrap_or(false)
            && socket.r#type().is_ok_and(|kind| kind == Type::STREAM);
        let address = socket.local_addr().ok().filter(|_| listens);
        let Some(address) = address.filter(|it| it.is_unix() || it.as_socket().is_some()) else {
            let text = format!(
                "socket {name:?} of the service manager is none that listens for connections: \
                 restart the .socket unit, or give it ListenStream="
            );
            return Err(io::Error::other(text));
        };
        socket.set_nonblocking(true)?;
        // At its end a supervisor before us turned new connections away. There may be nothing to undo.
        let _ = socket.detach_filter();
        if address.is_unix() {
            return Ok(Self::Unix(descriptor.into()));
        }
        socket.set_tcp_nodelay(true)?;
        socket.set_keepalive(true)?;
        Ok(Self::Tcp(descriptor.into()))
    }
}

/// The number behind the beginning of a name.
fn number(name: &str, before: &str) -> Option<usize> {
    name.strip_prefix(before)?.parse().ok()
}

fn listens_at(listener: &TcpListener, bind: &Bind) -> bool {
    let Bind::Tcp(bind) = bind else { return false };
    let there = listener.local_addr();
    there.is_ok_and(|there| there == *bind || (bind.port() == 0 && there.ip() == bind.ip()))
}

fn is_at(listener: &UnixListener, path: &Path) -> bool {
    listener.local_addr().is_ok_and(|there| there.as_pathname() == Some(path))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use socket2::{Domain, Socket};

    use super::*;

    fn tcp(address: &str, shares: bool) -> OwnedFd {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_port(shares).unwrap();
        socket.bind(&address.parse::<SocketAddr>().unwrap().into()).unwrap();
        socket.listen(16).unwrap();
        socket.into()
    }

    fn place(descriptor: &OwnedFd) -> SocketAddr {
        SockRef::from(descriptor).local_addr().unwrap().as_socket().unwrap()
    }

    /// How many slots have a socket of their own, how many of them are others', and how many sockets there
    /// are in all.
    fn counts(sockets: Vec<(&str, OwnedFd)>, bind: &str) -> (usize, usize, usize) {
        let sockets = sockets.into_iter().map(|(name, one)| (name.to_owned(), one)).collect();
        let bind = Bind::Tcp(bind.parse().unwrap());
        let Activated { listeners, .. } = activate(sockets, &bind).unwrap();
        (listeners.slots(), listeners.given(), listeners.count())
    }

    #[test]
    fn sockets_of_one_port_are_a_slot_s_each_and_others_everybody_s() {
        let folder = tempfile::tempdir().unwrap();
        let unix = || OwnedFd::from(UnixListener::bind(folder.path().join("unix")).unwrap());
        let first = tcp("127.0.0.1:0", true);
        let port = place(&first).to_string();
        let second = tcp(&port, true);
        let any = "127.0.0.1:1";
        let copy = |one: &OwnedFd| one.try_clone().unwrap();
        assert_eq!(counts(vec![("web", copy(&first)), ("web", copy(&second))], any), (2, 2, 2));
        let units = vec![("one", copy(&first)), ("two", copy(&second))];
        assert_eq!(counts(units, any), (0, 0, 2), "of which nobody knows the order");
        assert_eq!(counts(vec![("peace-slot-0", copy(&first))], &port), (1, 0, 1));
        assert_eq!(counts(vec![("peace-slot-0", copy(&first))], any), (0, 0, 0), "elsewhere");
        let others = tcp("127.0.0.1:0", true);
        assert_eq!(counts(vec![("web", first), ("web", others)], any), (0, 0, 2));
        assert_eq!(counts(vec![("web", tcp("127.0.0.1:0", false))], any), (0, 0, 1));
        assert_eq!(counts(vec![("web", second), ("web", unix())], any), (0, 0, 2));
        assert_eq!(counts(Vec::new(), any), (0, 0, 0));
    }

    #[test]
    fn what_does_not_listen_is_refused_by_its_name() {
        let bind = Bind::Tcp("127.0.0.1:1".parse().unwrap());
        let deaf = || OwnedFd::from(Socket::new(Domain::IPV4, Type::STREAM, None).unwrap());
        let refused = activate(vec![("web".to_owned(), deaf())], &bind).unwrap_err().to_string();
        assert!(refused.contains("socket \"web\" of the service manager"), "{refused}");
        let Activated { closed, .. } = activate(vec![(kept_name(3), deaf())], &bind).unwrap();
        assert_eq!(closed, ["peace-slot-3"], "ours is only forgotten");
    }

    #[test]
    fn a_kept_unix_socket_is_taken_as_long_as_it_has_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api.sock");
        let (bind, listener) = (Bind::Unix(path.clone()), UnixListener::bind(&path).unwrap());
        let kept = || vec![(kept_name(0), listener.try_clone().unwrap().into())];
        let Activated { listeners, closed } = activate(kept(), &bind).unwrap();
        assert_eq!((listeners.addresses(), closed.len()), (vec![bind.clone()], 0));
        drop(listeners);
        assert!(path.exists(), "the manager has it: a start that fails takes nothing away");
        activate(kept(), &bind).unwrap().listeners.withdraw();
        assert!(!path.exists(), "it is ours");
        let Activated { listeners, closed } = activate(kept(), &bind).unwrap();
        assert_eq!((listeners.count(), closed), (0, vec![kept_name(0)]));
    }
}
