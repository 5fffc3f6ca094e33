//! One look: a status, from the control socket or from the admin process.
//!
//! Called by `top`; asks through `ctl`, or with one request of HTTP/1.1. Promises to end within [`PATIENCE`]
//! for each step, and to read no more than [`ANSWER_BYTES_MAX`].

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use supervisor::Status;

use crate::ctl::{self, CtlError};
use crate::healthcheck::reachable;

/// For the connection, and for all that is said.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longer than any answer.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Who is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The supervisor, at its control socket.
    Control(PathBuf),
    /// The admin process.
    Admin(SocketAddr),
}

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// The supervisor does not tell.
    #[error(transparent)]
    Control(#[from] CtlError),
    /// The admin process does not.
    #[error("no status from {address} ({source}): is it the server's --admin-bind?")]
    Admin {
        /// Who was asked.
        address: SocketAddr,
        /// What happened.
        source: io::Error,
    },
}

/// How everything was at one instant.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) at: Instant,
    pub(super) status: Status,
}

impl Source {
    /// Asks once.
    pub(super) fn look(&self) -> Result<Look, LookError> {
        let status = match self {
            Self::Control(path) => ctl::status(path)?,
            Self::Admin(address) => {
                let address = reachable(*address);
                fetch(address).map_err(|source| LookError::Admin { address, source })?
            }
        };
        Ok(Look { at: Instant::now(), status })
    }
}

fn fetch(address: SocketAddr) -> io::Result<Status> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET /status HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let answer = read_whole(&stream, Instant::now() + PATIENCE)?;
    let body = answer.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
    match body {
        Some(body) if answer.starts_with(b"HTTP/1.1 200 ") => {
            serde_json::from_slice(&answer[body..])
                .map_err(|_| io::Error::other("not the answer of this version"))
        }
        _ => Err(io::Error::other("it answers something else")),
    }
}

/// All that comes until the other side closes.
fn read_whole(mut stream: &TcpStream, deadline: Instant) -> io::Result<Vec<u8>> {
    let (mut answer, mut part) = (Vec::new(), [0; 16 * 1_024]);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || answer.len() > ANSWER_BYTES_MAX {
            return Err(ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut part) {
            Ok(0) => return Ok(answer),
            Ok(length) => answer.extend_from_slice(&part[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
