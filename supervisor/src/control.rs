//! The control socket: where the operator asks the supervisor, and waits for its answer.
//!
//! The loop calls [`Control::requests`] when the socket's token wakes it, and [`Control::answer`] when
//! it knows; nothing here blocks or decides. One connection is one request and one answer. Every
//! client is the own user or root, has a second to ask, and a short line to do it with; there are at
//! most [`CLIENTS_MAX`] of them. One that leaves while it waits is forgotten.
//!
//! All descriptors are watched by an epoll of their own, which the loop's epoll watches as one:
//! so the loop needs one token, and a client is known by its number alone. Source: unix(7), epoll(7).

mod wire;

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{MsgFlags, getsockopt, send, sockopt};
use nix::sys::stat::Mode;
use nix::unistd::geteuid;
use socket2::SockRef;

use crate::door::{self, Door, Visitors};
use crate::heritage::{ClientLeft, ControlLeft, Passing};
use crate::start::Descriptors;
use crate::state::ClientId;
pub use wire::{Answer, NoRequest, Request};

/// The own user alone, and a folder that is missing is made.
const VISITORS: Visitors =
    Visitors { mode: Mode::from_bits_truncate(0o600), backlog: 16, makes_folder: true };
/// Clients at once.
const CLIENTS_MAX: usize = 16;
/// Connections looked at in one turn of the loop.
const ACCEPTS_MAX: usize = 64;
/// Time a client has to send its line, from its accept.
const LINE_TIMEOUT_MS: u64 = 1_000;
/// The longest line of a client, its end included.
const LINE_BYTES_MAX: usize = 256;
/// Room for an answer that is not read yet: a status of all slots is half of it.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// Marks the listening socket in the own epoll; clients have numbers from 1.
const LISTENER: u64 = 0;

/// The listening socket and its clients.
#[derive(Debug)]
pub struct Control {
    door: Door,
    epoll: Epoll,
    clients: BTreeMap<ClientId, Client>,
    next_client: ClientId,
}

#[derive(Debug)]
struct Client {
    stream: UnixStream,
    line: Vec<u8>,
    /// When its time to ask ends; `None` once it has asked.
    deadline_ms: Option<u64>,
}

/// What a client has said so far.
enum Heard {
    Line(String),
    Part,
    TooMuch,
    End,
}

impl Control {
    /// Listens at `path`; `token` is what wakes `epoll` whenever [`Control::requests`] has something
    /// to do. The file is removed when this is dropped by the process that called it, children of it
    /// only close their copies.
    ///
    /// # Errors
    /// When the place is taken or the system refuses; the text says what, and how to mend it.
    pub fn open(path: &Path, epoll: &Epoll, token: u64) -> io::Result<Self> {
        let refused = |source: io::Error| {
            let text = format!("cannot open the control socket {}: {source}", path.display());
            io::Error::new(source.kind(), text)
        };
        Self::of(door::listen(path, VISITORS).map_err(refused)?, epoll, token)
    }

    /// Takes over the socket and the clients of the program before: who waits, waits on. The file is
    /// removed as after [`Control::open`].
    pub(crate) fn adopt(
        left: &ControlLeft,
        descriptors: &mut Descriptors,
        epoll: &Epoll,
        token: u64,
    ) -> io::Result<Self> {
        let door = Door::adopt(descriptors.take(left.listener)?, left.name.clone());
        let mut control = Self::of(door, epoll, token)?;
        control.next_client = left.next_client;
        for ClientLeft { id, stream, line, deadline_ms } in &left.clients {
            let stream = UnixStream::from(descriptors.take(*stream)?);
            let asks = deadline_ms.is_some();
            let interest = if asks { EpollFlags::EPOLLIN } else { EpollFlags::empty() };
            control.epoll.add(&stream, EpollEvent::new(interest, *id))?;
            let client = Client { stream, line: line.clone(), deadline_ms: *deadline_ms };
            control.clients.insert(*id, client);
        }
        Ok(control)
    }

    /// Leaves the socket and the clients to the program after this one.
    pub(crate) fn leave<'a>(&'a self, passing: &mut Passing<'a>) -> ControlLeft {
        let leave = |(id, client): (&ClientId, &'a Client)| ClientLeft {
            id: *id,
            stream: passing.add(&client.stream),
            line: client.line.clone(),
            deadline_ms: client.deadline_ms,
        };
        ControlLeft {
            clients: self.clients.iter().map(leave).collect(),
            listener: passing.add(&self.door.listener),
            name: self.door.name(),
            next_client: self.next_client,
        }
    }

    fn of(door: Door, epoll: &Epoll, token: u64) -> io::Result<Self> {
        let own = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        // At each new connection, and not as long as one waits: without a free descriptor that would
        // wake the loop for ever.
        own.add(
            &door.listener,
            EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, LISTENER),
        )?;
        epoll.add(&own.0, EpollEvent::new(EpollFlags::EPOLLIN, token))?;
        let clients = BTreeMap::new();
        Ok(Self { door, epoll: own, clients, next_client: 1 })
    }

    /// What was asked since the last look; each is to be answered once. Never blocks.
    pub fn requests(&mut self, now_ms: u64) -> Vec<(ClientId, Request)> {
        let mut requests = Vec::new();
        for client in self.awake() {
            requests.extend(self.hear(client).map(|request| (client, request)));
        }
        self.dismiss_late(now_ms);
        // Last, when seats were left. What new ones say wakes the loop at once.
        self.admit(now_ms);
        requests
    }

    /// Answers a client and parts with it; one that has left is no error. Never blocks: who does not
    /// read loses what does not fit into the socket.
    pub fn answer(&mut self, client: ClientId, answer: &Answer) {
        if let Some(asking) = self.clients.get(&client) {
            tell(&asking.stream, answer);
        }
        self.forget(client);
    }

    /// Whether this client still waits for its answer.
    #[must_use]
    pub fn has(&self, client: ClientId) -> bool {
        self.clients.contains_key(&client)
    }

    /// When [`Control::requests`] has to be called next, even if nothing wakes the loop.
    #[must_use]
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.clients.values().filter_map(|client| client.deadline_ms).min()
    }

    /// Accepts whom it may. Those who wait because there was no descriptor are asked in at the next
    /// look.
    fn admit(&mut self, now_ms: u64) {
        for _ in 0..ACCEPTS_MAX {
            match self.door.listener.accept() {
                Ok((stream, _)) if !is_admitted(&stream) => drop(stream),
                Ok((stream, _)) => drop(self.seat(stream, now_ms + LINE_TIMEOUT_MS)),
                Err(error) if is_of_one_connection(&error) => {}
                Err(_) => return,
            }
        }
    }

    fn seat(&mut self, stream: UnixStream, deadline_ms: u64) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        SockRef::from(&stream).set_send_buffer_size(ANSWER_BYTES_MAX)?;
        if self.clients.len() >= CLIENTS_MAX {
            tell(&stream, &failed("busy: others are asking; try again"));
            return Ok(());
        }
        let client = self.next_client;
        self.epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, client))?;
        self.next_client += 1;
        let deadline_ms = Some(deadline_ms);
        self.clients.insert(client, Client { stream, line: Vec::new(), deadline_ms });
        Ok(())
    }

    /// The clients who have said something, or have left.
    fn awake(&self) -> Vec<ClientId> {
        let mut events = [EpollEvent::empty(); CLIENTS_MAX + 1];
        let count = self.epoll.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
        let tokens = events[..count].iter().map(EpollEvent::data);
        tokens.filter(|token| *token != LISTENER).collect()
    }

    /// Listens to a client until its request is whole.
    fn hear(&mut self, id: ClientId) -> Option<Request> {
        let client = self.clients.get_mut(&id)?;
        match client.hear() {
            Heard::Line(line) => match line.parse() {
                Ok(request) => {
                    client.deadline_ms = None;
                    // From here on only its leaving is of interest, which is always reported.
                    let silence = &mut EpollEvent::new(EpollFlags::empty(), id);
                    let _ = self.epoll.modify(&client.stream, silence);
                    return Some(request);
                }
                Err(refused) => self.answer(id, &failed(&NoRequest::to_string(&refused))),
            },
            Heard::Part => {}
            Heard::TooMuch => {
                self.answer(id, &failed("a request is one line of 256 bytes or fewer"))
            }
            Heard::End => self.forget(id),
        }
        None
    }

    fn dismiss_late(&mut self, now_ms: u64) {
        let is_late = |client: &Client| client.deadline_ms.is_some_and(|end_ms| end_ms <= now_ms);
        let late = self.clients.iter().filter(|(_, client)| is_late(client));
        let late: Vec<ClientId> = late.map(|(id, _)| *id).collect();
        for client in late {
            self.answer(client, &failed("no whole line came within 1 s"));
        }
    }

    fn forget(&mut self, client: ClientId) {
        if let Some(Client { stream, .. }) = self.clients.remove(&client) {
            // Closing is not enough while a child that was just forked has a copy.
            let _ = self.epoll.delete(&stream);
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Client {
    /// Reads on; what follows the line is ignored.
    fn hear(&mut self) -> Heard {
        let mut bytes = [0_u8; LINE_BYTES_MAX];
        while self.deadline_ms.is_some() {
            let room = LINE_BYTES_MAX - self.line.len();
            match self.stream.read(&mut bytes[..room]) {
                Ok(0) => return Heard::End,
                Ok(count) => self.line.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Heard::Part,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Heard::End,
            }
            if let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
                return Heard::Line(String::from_utf8_lossy(&self.line[..end]).into_owned());
            }
            if self.line.len() == LINE_BYTES_MAX {
                return Heard::TooMuch;
            }
        }
        // It has asked already: all that can wake it is its end.
        Heard::End
    }
}

/// Whether the other side may ask: whoever runs us, and root.
fn is_admitted(stream: &UnixStream) -> bool {
    let ours = geteuid().as_raw();
    getsockopt(stream, sockopt::PeerCredentials)
        .is_ok_and(|peer| peer.uid() == ours || peer.uid() == 0)
}

/// Whether the refusal of an accept says nothing of the next one.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted)
}

fn tell(stream: &UnixStream, answer: &Answer) {
    let mut line = answer.to_json();
    line.push('\n');
    // A client that is gone must give an error, not a signal.
    let _ = send(stream.as_raw_fd(), line.as_bytes(), MsgFlags::MSG_NOSIGNAL);
}

fn failed(why: &str) -> Answer {
    Answer::Failed(why.to_owned())
}

#[cfg(test)]
mod tests;
