//! A crowd of slow clients in one thread, of four kinds in equal parts.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::harness::wait::pause;

/// Between two bytes of one client that trickles.
const PERIOD: Duration = Duration::from_secs(4);
/// How often somebody has a turn to send.
const TURN: Duration = Duration::from_millis(1);
/// After how many of them it is looked who was cut.
const TURNS: usize = 100;

const HEAD: &[u8] = b"GET /users HT";
const BODY: &[u8] = b"POST /users HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                      content-length: 1000\r\n\r\n";
/// What one that sends its body too slowly sends at a time: of the minimum rate, a fiftieth.
const PIECE: &[u8] = b"xxxxxxxxxxxxxxxxxxxx";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Says nothing.
    Silent,
    /// A byte of its head from time to time.
    Head,
    /// A body that stops.
    Idle,
    /// A body below the minimum rate.
    Trickle,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Silent, Self::Head, Self::Idle, Self::Trickle];

    fn first(self) -> &'static [u8] {
        match self {
            Self::Silent => b"",
            Self::Head => HEAD,
            Self::Idle | Self::Trickle => BODY,
        }
    }

    fn piece(self) -> &'static [u8] {
        match self {
            Self::Silent | Self::Idle => b"",
            Self::Head => b"x",
            Self::Trickle => PIECE,
        }
    }

    /// How its answer begins, if it gets one: who has sent a head is told why.
    fn answer(self) -> &'static [u8] {
        match self {
            Self::Silent | Self::Head => b"",
            Self::Idle | Self::Trickle => b"HTTP/1.1 408 ",
        }
    }
}

struct Client {
    kind: Kind,
    stream: TcpStream,
    opened: Instant,
    read: Vec<u8>,
    /// After which time it was cut.
    end: Option<Duration>,
}

impl Client {
    fn open(server: SocketAddr, kind: Kind) -> Self {
        // Earlier than the server can count from, however long we are kept from running.
        let opened = Instant::now();
        let mut stream = TcpStream::connect(server).unwrap();
        stream.write_all(kind.first()).unwrap();
        stream.set_nonblocking(true).unwrap();
        Self { kind, stream, opened, read: Vec::new(), end: None }
    }

    fn send(&mut self) {
        if self.end.is_none() {
            // Who was cut since is noticed when it reads.
            let _ = self.stream.write(self.kind.piece());
        }
    }

    fn read(&mut self) {
        let mut bytes = [0; 1024];
        match self.stream.read(&mut bytes) {
            Ok(0) => {
                let text = String::from_utf8_lossy(&self.read);
                let is_right = self.read.starts_with(self.kind.answer())
                    && (self.read.is_empty() == self.kind.answer().is_empty());
                assert!(is_right, "{:?}: {text}", self.kind);
                self.end.get_or_insert(self.opened.elapsed());
                let _ = self.stream.shutdown(std::net::Shutdown::Both);
            }
            Ok(length) => self.read.extend_from_slice(&bytes[..length]),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{:?}", self.kind),
        }
    }
}

/// They come one after the other, and so they are cut: all of them are there for six of their ten seconds.
pub(super) struct Crowd {
    server: SocketAddr,
    count: usize,
    clients: Vec<Client>,
    /// Whose turn it is: the first time to come, from then on to send.
    turn: usize,
    begun: Instant,
}

impl Crowd {
    pub(super) fn new(server: SocketAddr, count: usize) -> Self {
        Self { server, count, clients: Vec::new(), turn: 0, begun: Instant::now() }
    }

    /// Whether all have come, and all were cut.
    pub(super) fn is_gone(&self) -> bool {
        self.turn >= self.count && self.clients.iter().all(|client| client.end.is_some())
    }

    /// Does for a while what is due, then reads what has come. It looks at all sockets rarely, so that
    /// what it costs is not taken for what the server does.
    pub(super) fn go_on(&mut self) {
        for _ in 0..TURNS {
            let periods = self.begun.elapsed().as_secs_f64() / PERIOD.as_secs_f64();
            while (self.turn as f64) < periods * self.count as f64 {
                self.take_turn();
            }
            pause(TURN);
        }
        self.read();
    }

    fn take_turn(&mut self) {
        match self.clients.get_mut(self.turn % self.count) {
            Some(client) => client.send(),
            None => {
                let kind = Kind::ALL[self.turn % Kind::ALL.len()];
                self.clients.push(Client::open(self.server, kind));
            }
        }
        self.turn += 1;
    }

    fn read(&mut self) {
        let mut open: Vec<&mut Client> =
            self.clients.iter_mut().filter(|client| client.end.is_none()).collect();
        let ready: Vec<bool> = {
            let mut fds: Vec<PollFd<'_>> = open
                .iter()
                .map(|client| PollFd::new(client.stream.as_fd(), PollFlags::POLLIN))
                .collect();
            poll(&mut fds, PollTimeout::ZERO).unwrap();
            fds.iter().map(|fd| fd.any().unwrap_or_default()).collect()
        };
        for (client, _) in open.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
            client.read();
        }
    }

    /// When the first and the last of a kind was cut.
    pub(super) fn ends_of(&self, kind: Kind) -> (Duration, Duration) {
        let ends = self.clients.iter().filter(|client| client.kind == kind);
        let ends: Vec<Duration> = ends.filter_map(|client| client.end).collect();
        (*ends.iter().min().unwrap(), *ends.iter().max().unwrap())
    }
}
