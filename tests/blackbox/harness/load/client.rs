//! One client of a load: a connection, at most one request on it, and the verdict about that.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::PollFlags;
use socket2::{Domain, Socket, Type};

use super::tally::{Class, Kind, Outcome};
use super::{Call, READABLE, WRITABLE};

/// A client.
pub(super) struct Client {
    server: SocketAddr,
    kind: Kind,
    call: Call,
    request: Vec<u8>,
    patience: Duration,
    stream: Option<TcpStream>,
    exchange: Option<Exchange>,
}

/// A request that was begun.
struct Exchange {
    begun: Instant,
    stage: Stage,
    reply: Vec<u8>,
    /// Why there is no connection, when that was known at once.
    failed: Option<io::Error>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting,
    /// So many bytes are out.
    Sending(usize),
    Receiving,
    /// The reply is whole and right; the server is to close.
    Closing,
}

/// How a request was lost.
struct Loss(Class, String);

impl Client {
    pub(super) fn fresh(server: SocketAddr, call: Call, patience: Duration) -> Self {
        Self::new(server, Kind::Fresh, call, patience)
    }

    pub(super) fn kept(server: SocketAddr, call: Call, patience: Duration) -> Self {
        Self::new(server, Kind::Kept, call, patience)
    }

    fn new(server: SocketAddr, kind: Kind, call: Call, patience: Duration) -> Self {
        let request = call.bytes(kind);
        Self { server, kind, call, request, patience, stream: None, exchange: None }
    }

    /// Whether a reply is awaited.
    pub(super) fn is_busy(&self) -> bool {
        self.exchange.is_some()
    }

    /// Begins a request, on the connection there is or a new one.
    pub(super) fn begin(&mut self, now: Instant) {
        if self.stream.as_mut().is_some_and(was_closed) {
            self.stream = None;
        }
        let stage = match self.stream {
            Some(_) => Stage::Sending(0),
            None => Stage::Connecting,
        };
        let mut failed = None;
        let mut begun = now;
        if stage == Stage::Connecting {
            match connect(self.server) {
                Ok(stream) => self.stream = Some(stream),
                Err(error) => failed = Some(error),
            }
            // The server's kernel was asked by then: a stop that begins later has to answer it.
            begun = Instant::now();
        }
        self.exchange = Some(Exchange { begun, stage, reply: Vec::new(), failed });
    }

    /// What it waits for.
    pub(super) fn interest(&self) -> Option<(&TcpStream, PollFlags)> {
        let flags = match self.exchange.as_ref()?.stage {
            Stage::Connecting | Stage::Sending(_) => WRITABLE,
            Stage::Receiving | Stage::Closing => READABLE,
        };
        Some((self.stream.as_ref()?, flags))
    }

    /// Does what can be done without waiting. Gives the outcome of a request that has ended.
    pub(super) fn advance(&mut self, now: Instant) -> Option<Outcome> {
        let begun = self.exchange.as_ref()?.begun;
        let (class, text) = match self.step() {
            Ok(true) => (Class::Ok, String::new()),
            Ok(false) if now.saturating_duration_since(begun) < self.patience => return None,
            Ok(false) => (Class::TimedOut, format!("no whole reply, {}", self.progress())),
            Err(Loss(class, text)) => (class, format!("{text}, {}", self.progress())),
        };
        self.exchange = None;
        if class != Class::Ok || self.kind == Kind::Fresh {
            self.stream = None;
        }
        Some(Outcome {
            kind: self.kind,
            begun,
            took: now.saturating_duration_since(begun),
            class,
            text,
        })
    }

    /// How far it came, and from which port.
    fn progress(&self) -> String {
        let port = self.stream.as_ref().and_then(|stream| Some(stream.local_addr().ok()?.port()));
        let stage = match self.exchange.as_ref().map(|exchange| (exchange.stage, &exchange.reply)) {
            Some((Stage::Connecting, _)) => "connecting".to_owned(),
            Some((Stage::Sending(sent), _)) => format!("{sent} bytes sent"),
            Some((Stage::Receiving, reply)) => format!("sent, {} bytes received", reply.len()),
            Some((Stage::Closing, _)) => "answered, not closed".to_owned(),
            None => "idle".to_owned(),
        };
        format!("{stage}, from port {port:?}")
    }

    /// Goes on until it would have to wait; true at the end of a good reply.
    fn step(&mut self) -> Result<bool, Loss> {
        let Some(exchange) = &mut self.exchange else { return Ok(false) };
        if let Some(error) = exchange.failed.take() {
            return Err(Loss::of("connect", &error));
        }
        let Some(stream) = &mut self.stream else { return Ok(false) };
        loop {
            match exchange.stage {
                Stage::Connecting => {
                    if !is_connected(stream)? {
                        return Ok(false);
                    }
                    exchange.stage = Stage::Sending(0);
                }
                Stage::Sending(sent) if sent == self.request.len() => {
                    exchange.stage = Stage::Receiving;
                }
                Stage::Sending(sent) => match stream.write(&self.request[sent..]) {
                    Ok(more) => exchange.stage = Stage::Sending(sent + more),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                    Err(error) => return Err(Loss::of("send", &error)),
                },
                Stage::Receiving | Stage::Closing => {
                    let mut bytes = [0; 4096];
                    match stream.read(&mut bytes) {
                        Ok(0) if exchange.stage == Stage::Closing => return Ok(true),
                        Ok(0) => return Err(Loss(Class::Short, "closed".to_owned())),
                        Ok(count) => exchange.reply.extend(&bytes[..count]),
                        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                        Err(error) => return Err(Loss::of("receive", &error)),
                    }
                    let Some(closes) = check(&exchange.reply, self.call.status)? else { continue };
                    if self.kind == Kind::Kept {
                        if closes {
                            self.stream = None;
                        }
                        return Ok(true);
                    }
                    exchange.stage = Stage::Closing;
                }
            }
        }
    }
}

impl Loss {
    fn of(what: &str, error: &io::Error) -> Self {
        let class = match error.kind() {
            ErrorKind::ConnectionRefused => Class::Refused,
            ErrorKind::TimedOut => Class::TimedOut,
            _ => Class::Reset,
        };
        Self(class, format!("{what}: {error}"))
    }
}

/// Whether the server has ended a connection on which nothing was asked.
fn was_closed(stream: &mut TcpStream) -> bool {
    match stream.peek(&mut [0]) {
        Err(error) => error.kind() != ErrorKind::WouldBlock,
        Ok(_) => true,
    }
}

/// Begins to connect. Panics when it is the client's own fault that it cannot.
fn connect(server: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, None);
    let socket = socket.expect("the client has descriptors left");
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&server.into()) {
        Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {
            panic!("the client has no port left: {error}")
        }
        Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => Err(error),
        _ => Ok(socket.into()),
    }
}

fn is_connected(stream: &TcpStream) -> Result<bool, Loss> {
    let failed = |error| Err(Loss::of("connect", &error));
    match stream.take_error() {
        Ok(None) => {}
        Ok(Some(error)) | Err(error) => return failed(error),
    }
    match stream.peer_addr() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
        Err(error) => failed(error),
    }
}

/// Looks at what came: `None` when it is not the whole reply yet, else whether the server closes.
fn check(reply: &[u8], status: u16) -> Result<Option<bool>, Loss> {
    let wrong = |text: String| Err(Loss(Class::Wrong, text));
    let Some(end) = reply.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = String::from_utf8_lossy(&reply[..end]).to_ascii_lowercase();
    let value = |name: &str| {
        let mut headers = head.lines().skip(1).filter_map(|line| line.split_once(':'));
        headers.find(|(one, _)| *one == name).map(|(_, value)| value.trim().to_owned())
    };
    let Some(length) = value("content-length").and_then(|text| text.parse::<usize>().ok()) else {
        return wrong(format!("no length: {head}"));
    };
    let got = reply.len() - (end + 4);
    if got < length {
        return Ok(None);
    }
    if got > length || !head.starts_with(&format!("http/1.1 {status} ")) {
        return wrong(format!("not a {status}: {}", String::from_utf8_lossy(reply)));
    }
    Ok(Some(value("connection").is_some_and(|value| value == "close")))
}
