//! `peace-supervisor healthcheck`: asks the server as a client does, for containers that have no curl.
//!
//! Called by `main`, which exits with 0 or 1. It promises to end within [`PATIENCE`], whatever the other side
//! does. It knows no setting but where the server listens.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use supervisor::Bind;

/// For all of it.
const PATIENCE: Duration = Duration::from_secs(5);
/// As much of an answer as tells how it is.
const HEAD_BYTES: usize = 12;
/// The beginning of a good one.
const GOOD: &[u8; HEAD_BYTES] = b"HTTP/1.1 200";

/// What to ask, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Healthcheck {
    /// Where the server listens.
    pub bind: Bind,
    /// Whether it is enough that it answers, whatever it answers of the database.
    pub live: bool,
}

/// Asks.
///
/// # Errors
/// When nobody answers, or the answer is that it is not ready: in one line.
pub fn run(check: Healthcheck) -> Result<(), String> {
    let path = if check.live { "/health/live" } else { "/health/ready" };
    let bind = match check.bind {
        Bind::Tcp(address) => Bind::Tcp(reachable(address)),
        unix @ Bind::Unix(_) => unix,
    };
    match ask(&bind, path, Instant::now() + PATIENCE) {
        Ok(head) if &head == GOOD => Ok(()),
        Ok(head) => Err(format!(
            "{path} at {bind} answers {}: see the server's log",
            String::from_utf8_lossy(&head).replace(char::is_control, " ")
        )),
        Err(late) if late.kind() == ErrorKind::TimedOut => {
            Err(format!("no answer from {bind} within {PATIENCE:?}: see the server's log"))
        }
        Err(error) => Err(format!("no answer from {bind} ({error}): is it running?")),
    }
}

fn ask(bind: &Bind, path: &str, deadline: Instant) -> io::Result<[u8; HEAD_BYTES]> {
    let mut line = Line { socket: open(bind, deadline)?, deadline };
    let host = match bind {
        Bind::Tcp(address) => address.to_string(),
        Bind::Unix(_) => "localhost".to_owned(),
    };
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    line.write_all(request.as_bytes())?;
    let mut head = [0; HEAD_BYTES];
    line.read_exact(&mut head)?;
    // To its end: a close with something unread would be a reset.
    let _ = io::copy(&mut line.take(1 << 16), &mut io::sink());
    Ok(head)
}

fn open(bind: &Bind, deadline: Instant) -> io::Result<File> {
    match bind {
        Bind::Tcp(address) => {
            let stream = TcpStream::connect_timeout(address, left(deadline)?)?;
            stream.set_nonblocking(true)?;
            Ok(OwnedFd::from(stream).into())
        }
        Bind::Unix(path) => open_unix(path),
    }
}

/// Where too many wait already, nobody is waited for.
fn open_unix(path: &Path) -> io::Result<File> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    match connect(socket.as_raw_fd(), &UnixAddr::new(path)?) {
        Err(Errno::EAGAIN) => Err(io::Error::other("too many wait there")),
        Err(refused) => Err(refused.into()),
        Ok(()) => Ok(socket.into()),
    }
}

/// A connection, up to an instant.
struct Line {
    socket: File,
    deadline: Instant,
}

impl Line {
    fn wait(&self, event: PollFlags) -> io::Result<()> {
        let left = PollTimeout::try_from(left(self.deadline)?).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.socket.as_fd(), event)], left)? {
            0 => Err(ErrorKind::TimedOut.into()),
            _ => Ok(()),
        }
    }
}

impl Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wait(PollFlags::POLLIN)?;
        self.socket.read(buffer)
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wait(PollFlags::POLLOUT)?;
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The time until then.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Who listens everywhere is asked on loopback.
pub(crate) fn reachable(bind: SocketAddr) -> SocketAddr {
    let ip = match bind.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, bind.port())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// What a server is asked that answers so, and what is made of it.
    fn answered(answer: &'static str, live: bool) -> (String, Result<(), String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let bind = Bind::Tcp(listener.local_addr().unwrap());
        let server = thread::spawn(move || serve(listener.accept().unwrap().0, answer));
        let result = run(Healthcheck { bind, live });
        (server.join().unwrap(), result)
    }

    fn serve(mut stream: impl Read + Write, answer: &str) -> String {
        let mut request = vec![0; 1_024];
        let length = stream.read(&mut request).unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    }

    #[test]
    fn only_200_is_healthy() {
        let (asked, result) = answered("HTTP/1.1 200 OK\r\n\r\n{}", false);
        assert!(asked.starts_with("GET /health/ready HTTP/1.1\r\nhost: 127.0.0.1:"), "{asked}");
        assert_eq!(result, Ok(()));
        let (asked, _) = answered("HTTP/1.1 200 OK\r\n\r\n{}", true);
        assert!(asked.starts_with("GET /health/live HTTP/1.1\r\n"), "{asked}");
        for (answer, why) in [
            (
                "HTTP/1.1 503 Service Unavailable\r\n\r\n",
                "answers HTTP/1.1 503: see the server's log",
            ),
            ("\r\n", "no answer from"),
        ] {
            let (_, result) = answered(answer, false);
            assert!(result.as_ref().is_err_and(|text| text.contains(why)), "{result:?}");
        }
    }

    #[test]
    fn a_server_at_a_unix_socket_is_asked_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let answer = "HTTP/1.1 200 OK\r\n\r\n{}";
        let server = thread::spawn(move || serve(listener.accept().unwrap().0, answer));
        let check = Healthcheck { bind: Bind::Unix(path), live: false };
        assert_eq!(run(check.clone()), Ok(()));
        assert!(server.join().unwrap().contains("host: localhost\r\n"));
        let refused = run(check).unwrap_err();
        assert!(refused.contains("no answer from unix:/"), "{refused}");
    }

    #[test]
    fn one_who_says_a_byte_now_and_then_is_not_listened_to_for_ever() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let bind = Bind::Tcp(listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.set_read_timeout(Some(Duration::from_millis(300)));
            // Reads to give time away; the head is never whole.
            for _ in 0..HEAD_BYTES {
                let _ = stream.read(&mut [0; 1_024]);
                let _ = stream.read(&mut [0; 1_024]);
                let _ = stream.read(&mut [0; 1_024]);
                if stream.write_all(b"H").is_err() {
                    break;
                }
            }
        });
        let refused = run(Healthcheck { bind, live: false }).unwrap_err();
        assert!(refused.ends_with("within 5s: see the server's log"), "{refused}");
        server.join().unwrap();
    }

    #[test]
    fn a_server_that_listens_everywhere_is_asked_on_loopback() {
        for (bind, asked) in [
            ("0.0.0.0:8000", "127.0.0.1:8000"),
            ("[::]:8000", "[::1]:8000"),
            ("10.0.0.1:80", "10.0.0.1:80"),
        ] {
            assert_eq!(reachable(bind.parse().unwrap()).to_string(), asked);
        }
    }
}
