//! Where log lines go, and how to write there without waiting.
//!
//! Opened and written by `sink`. A pipe or a terminal is opened a second time, since `O_NONBLOCK` on the
//! inherited descriptor would be the whole terminal's or shell's; to ask first with poll(2) is not enough
//! there, as a sibling may fill it in between.
//! Promises: no write waits; what is taken of a [`Stream::piece`] ends where a line ends, so that lines of
//! several processes do not mix: of a pipe whole blocks of [`BLOCK_BYTES`] if no line crosses a block, of a
//! local socket all of it or nothing.
//! Does not know: lines, but for their ends.
//! Source: pipe(7), unix(7), pwritev2(2). That a partial write ends between pages is how Linux keeps a pipe: in
//! pages; that a send is not taken in part, how it keeps a local socket: in pieces of up to 32 KiB, and of less
//! than half of the buffer (`unix_stream_sendmsg`). Another stream socket (TCP) may tear lines.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc::O_NONBLOCK;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, getsockopt, send, setsockopt, sockopt};
use rustix::io::{Errno, ReadWriteFlags, pwritev2};

const STDERR: &str = "/proc/self/fd/2";
/// The most a pipe takes in one piece (`PIPE_BUF`), and one page of it.
pub(super) const BLOCK_BYTES: usize = 4096;
/// What a pipe shall hold for a reader who is late; a new one holds a quarter of that.
const PIPE_BYTES: i32 = 256 * 1024;
/// The most a local socket takes in one piece.
const SEND_BYTES_MAX: usize = 32 * 1024;
/// What the kernel adds to a piece when it compares it with half of the buffer.
const SEND_OVERHEAD_BYTES: usize = 64;
/// A stream has no place to write to but its end.
const AT_END: u64 = u64::MAX;

/// How to write without waiting.
#[derive(Debug)]
pub(super) enum Stream {
    /// A pipe or a device of our own opening.
    Own(File),
    /// A file: its end is always free.
    File(File),
    /// A socket, as systemd gives: each call may say that it does not wait.
    Socket {
        socket: OwnedFd,
        /// What is sent at once.
        piece_bytes: usize,
    },
    /// Anything else: each call says so as well, and where that cannot be said it is asked first.
    Other(File),
}

/// What became of a write.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// So many bytes of it were taken.
    Taken(usize),
    /// Nothing now; perhaps later.
    Full,
    /// Nothing, and this will not be taken later either.
    Broken,
}

impl Stream {
    /// The standard error stream.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub(super) fn of_process() -> io::Result<Self> {
        let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
        let kind = stderr.metadata()?.file_type();
        if kind.is_socket() {
            return Ok(Self::of_socket(stderr.into()));
        }
        if kind.is_file() {
            return Ok(Self::File(stderr));
        }
        let is_shared = kind.is_fifo() || kind.is_char_device();
        let again = || OpenOptions::new().write(true).custom_flags(O_NONBLOCK).open(STDERR);
        Ok(match is_shared.then(again) {
            Some(Ok(own)) => Self::of_open(own)?,
            // Its reader is gone already, or it is somebody else's.
            Some(Err(_)) | None => Self::Other(stderr),
        })
    }

    /// The file at `path`, made when there is none; a device or a named pipe that somebody reads will do.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn of_file(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o640).custom_flags(O_NONBLOCK);
        Self::of_open(options.open(path)?)
    }

    /// What was opened so that no write waits.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn of_open(file: File) -> io::Result<Self> {
        let kind = file.metadata()?.file_type();
        if kind.is_fifo()
            && fcntl(&file, FcntlArg::F_GETPIPE_SZ).is_ok_and(|size| size < PIPE_BYTES)
        {
            // A user who has very many pipes may not.
            let _ = fcntl(&file, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES));
        }
        Ok(if kind.is_file() { Self::File(file) } else { Self::Own(file) })
    }

    pub(super) fn of_socket(socket: OwnedFd) -> Self {
        let buffer_bytes = || getsockopt(&socket, sockopt::SndBuf).unwrap_or_default();
        let needed_bytes = 2 * (BLOCK_BYTES + SEND_OVERHEAD_BYTES);
        if buffer_bytes() < needed_bytes {
            // A line fits then. The kernel doubles what it is told.
            let _ = setsockopt(&socket, sockopt::SndBuf, &needed_bytes);
        }
        let piece_bytes = (buffer_bytes() / 2).saturating_sub(SEND_OVERHEAD_BYTES);
        let piece_bytes = piece_bytes.clamp(BLOCK_BYTES, SEND_BYTES_MAX);
        Self::Socket { socket, piece_bytes }
    }

    /// A copy of what is written into, where it is a file of ours.
    pub(super) fn file(&self) -> Option<OwnedFd> {
        match self {
            Self::Own(file) | Self::File(file) => file.try_clone().ok().map(OwnedFd::from),
            Self::Socket { .. } | Self::Other(_) => None,
        }
    }

    /// Whether lines are to be kept within blocks.
    pub(super) fn has_blocks(&self) -> bool {
        matches!(self, Self::Own(_) | Self::Other(_))
    }

    /// How much of these lines can be written at once, so that none is torn.
    pub(super) fn piece(&self, lines: &[u8]) -> usize {
        match self {
            Self::File(_) => lines.len(),
            Self::Own(_) | Self::Other(_) if lines.len() < BLOCK_BYTES => lines.len(),
            Self::Own(_) | Self::Other(_) => lines.len() - lines.len() % BLOCK_BYTES,
            Self::Socket { piece_bytes, .. } => {
                let piece = &lines[..lines.len().min(*piece_bytes)];
                let end = piece.iter().rposition(|byte| *byte == b'\n');
                end.map_or(piece.len(), |end| end + 1)
            }
        }
    }

    /// Writes what of a piece can be written at once.
    pub(super) fn write(&self, piece: &[u8]) -> Written {
        let written = match self {
            Self::Own(file) | Self::File(file) => (&mut &*file).write(piece),
            Self::Socket { socket, .. } => {
                let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
                send(socket.as_raw_fd(), piece, flags).map_err(io::Error::from)
            }
            Self::Other(file) => {
                match pwritev2(file, &[IoSlice::new(piece)], AT_END, ReadWriteFlags::NOWAIT) {
                    // Before Linux 6.4, or no pipe.
                    Err(Errno::OPNOTSUPP) => write_if_free(file, piece),
                    written => written.map_err(io::Error::from),
                }
            }
        };
        match written {
            Ok(0) => Written::Broken,
            Ok(taken) => Written::Taken(taken),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Written::Full,
            Err(_) => Written::Broken,
        }
    }

    /// Waits until something can be written, for at most `limit_ms`.
    pub(super) fn await_room(&self, limit_ms: u16) {
        match self {
            Self::Own(file) | Self::File(file) | Self::Other(file) => {
                has_room(file, limit_ms.into())
            }
            Self::Socket { socket, .. } => has_room(socket, limit_ms.into()),
        };
    }
}

fn write_if_free(mut file: &File, bytes: &[u8]) -> io::Result<usize> {
    match has_room(file, PollTimeout::ZERO) {
        true => file.write(&bytes[..bytes.len().min(BLOCK_BYTES)]),
        false => Err(io::ErrorKind::WouldBlock.into()),
    }
}

fn has_room(stream: &impl AsFd, within: PollTimeout) -> bool {
    let mut room = [PollFd::new(stream.as_fd(), PollFlags::POLLOUT)];
    matches!(poll(&mut room, within), Ok(1..))
        && room[0].revents().is_some_and(|seen| seen.contains(PollFlags::POLLOUT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_that_cannot_be_opened_again_is_not_waited_for_either() {
        let (reader, writer) = io::pipe().unwrap();
        let stream = Stream::Other(OwnedFd::from(writer).into());
        let block = [b'x'; BLOCK_BYTES];
        let mut taken = 0;
        while let Written::Taken(more) = stream.write(&block) {
            taken += more;
        }
        assert!(taken >= 16 * BLOCK_BYTES, "{taken}");
        assert_eq!(stream.write(&block), Written::Full);
        drop(reader);
        assert_eq!(stream.write(&block), Written::Broken);
    }

    #[test]
    fn a_pipe_of_ours_holds_more_than_a_new_one() {
        let (_reader, writer) = io::pipe().unwrap();
        let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
        let stream = Stream::of_file(Path::new(&path)).unwrap();
        assert_eq!(fcntl(&writer, FcntlArg::F_GETPIPE_SZ), Ok(PIPE_BYTES));
        assert_eq!(stream.write(&[b'x'; PIPE_BYTES as usize]), Written::Taken(PIPE_BYTES as usize));
        assert_eq!(stream.write(b"x"), Written::Full);
    }
}
