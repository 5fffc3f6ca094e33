//! Where log lines go: the standard error stream, which must never hold up or end the server.
//!
//! Used by [`super::start`] and [`super::tell`]. Whoever reads the stream may be slow or gone: a line
//! that cannot be written at once is dropped and counted, and the count is told when there is room
//! again. A line is one write of at most 4,096 bytes, which a pipe takes whole or not at all
//! (pipe(7)), so that the lines of several processes do not mix. A pipe is opened a second time for
//! that, since `O_NONBLOCK` on the inherited descriptor would be the whole terminal's or shell's; to
//! ask first with poll(2) is not enough there, as a sibling may fill the pipe in between.

use std::fs::{File, OpenOptions};
use std::io::{self, Stderr, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::libc::O_NONBLOCK;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};
use serde_json::{Map, Value, json};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use crate::settings::LogFormat;

const STDERR: &str = "/proc/self/fd/2";
/// The most a pipe takes in one piece (`PIPE_BUF`).
const LINE_BYTES_MAX: usize = 4096;

/// The standard error stream, as a place for lines.
#[derive(Debug)]
pub(super) struct Sink {
    stream: Stream,
    format: LogFormat,
    /// Lines dropped since the last one that was written. A fork copies it: a worker tells what its
    /// supervisor had lost by then, too.
    lost: AtomicU64,
}

/// How to write without waiting.
#[derive(Debug)]
enum Stream {
    /// A pipe of our own opening.
    Pipe(File),
    /// A socket, as systemd gives: each call may say that it does not wait.
    Socket(Stderr),
    /// A file or a terminal: asked first.
    Other(Stderr),
}

impl Sink {
    pub(super) fn new(format: LogFormat) -> Self {
        Self { stream: Stream::of_process(), format, lost: AtomicU64::new(0) }
    }

    /// Waits for room, for at most `limit_ms`.
    pub(super) fn await_room(limit_ms: u16) {
        let stderr = io::stderr();
        let mut room = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
        let _ = poll(&mut room, PollTimeout::from(limit_ms));
    }

    /// Writes `line`, which ends with a newline, now or never.
    pub(super) fn put(&self, line: &[u8]) {
        let lost = self.lost.load(Ordering::Relaxed);
        if lost > 0 {
            if !self.stream.put(self.about_lost(lost).as_bytes()) {
                self.lost.fetch_add(1, Ordering::Relaxed);
                return;
            }
            self.lost.fetch_sub(lost, Ordering::Relaxed);
        }
        if !self.stream.put(&cut(line)) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The line that stands for those that are missing. Not an event: we are inside of one.
    fn about_lost(&self, lost: u64) -> String {
        let mut now = String::new();
        let _ = SystemTime.format_time(&mut Writer::new(&mut now));
        let message = "log lines were lost: nobody read the standard error stream";
        match self.format {
            LogFormat::Pretty => format!("{now}  WARN {message} lost={lost}\n"),
            LogFormat::Json => {
                let fields = json!({
                    "timestamp": now, "level": "WARN", "message": message,
                    "lost": lost, "target": module_path!(),
                });
                format!("{fields}\n")
            }
        }
    }
}

impl Stream {
    fn of_process() -> Self {
        let Ok(found) = std::fs::metadata(STDERR) else { return Self::Other(io::stderr()) };
        let kind = found.file_type();
        if kind.is_socket() {
            return Self::Socket(io::stderr());
        }
        let again = || OpenOptions::new().write(true).custom_flags(O_NONBLOCK).open(STDERR);
        match kind.is_fifo().then(again) {
            Some(Ok(pipe)) => Self::Pipe(pipe),
            // Its reader is gone already, or it is somebody else's.
            Some(Err(_)) | None => Self::Other(io::stderr()),
        }
    }

    /// Whether `line` was written, or never can be.
    fn put(&self, line: &[u8]) -> bool {
        let written = match self {
            Self::Pipe(pipe) => (&mut &*pipe).write(line),
            Self::Socket(socket) => {
                let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
                send(socket.as_raw_fd(), line, flags).map_err(io::Error::from)
            }
            Self::Other(stream) if has_room(stream) => stream.lock().write(line),
            Self::Other(_) => return false,
        };
        written.is_ok()
    }
}

fn has_room(stream: &Stderr) -> bool {
    let mut room = [PollFd::new(stream.as_fd(), PollFlags::POLLOUT)];
    matches!(poll(&mut room, PollTimeout::ZERO), Ok(1..))
        && room[0].revents().is_some_and(|seen| seen.contains(PollFlags::POLLOUT))
}

/// `line` in at most [`LINE_BYTES_MAX`] bytes. JSON stays JSON: its longest texts lose their ends.
fn cut(line: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    if line.len() <= LINE_BYTES_MAX {
        return line.into();
    }
    let mut short = serde_json::from_slice::<Map<String, Value>>(line)
        .ok()
        .and_then(cut_json)
        .unwrap_or_else(|| {
            let text = String::from_utf8_lossy(line);
            text[..text.floor_char_boundary(LINE_BYTES_MAX - 1)].as_bytes().to_vec()
        });
    short.push(b'\n');
    short.into()
}

/// `fields` as a line without its end. `None` when there is no text to shorten.
fn cut_json(mut fields: Map<String, Value>) -> Option<Vec<u8>> {
    loop {
        let line = serde_json::to_vec(&fields).ok()?;
        if line.len() < LINE_BYTES_MAX {
            return Some(line);
        }
        let texts = fields.values_mut().filter_map(|value| match value {
            Value::String(text) => Some(text),
            _ => None,
        });
        let longest = texts.max_by_key(|text| text.len()).filter(|text| text.len() > 16)?;
        // Escapes take several bytes each, so this may need another round.
        let excess = (line.len() + '…'.len_utf8() - LINE_BYTES_MAX).min(longest.len() / 2) + 4;
        let end = longest.floor_char_boundary(longest.len().saturating_sub(excess));
        longest.truncate(end);
        longest.push('…');
    }
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = Lines<'a>;

    fn make_writer(&'a self) -> Lines<'a> {
        Lines(self)
    }
}

/// What an event is written to: in one call, with its newline.
#[derive(Debug)]
pub(super) struct Lines<'a>(&'a Sink);

impl Write for Lines<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// Both ends of a pipe; a write into the full one gives an error.
    fn pipe() -> (io::PipeReader, Sink) {
        let (reader, writer) = io::pipe().unwrap();
        let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
        let again = OpenOptions::new().write(true).custom_flags(O_NONBLOCK).open(path).unwrap();
        let stream = Stream::Pipe(again);
        (reader, Sink { stream, format: LogFormat::Json, lost: AtomicU64::new(0) })
    }

    #[test]
    fn a_full_pipe_costs_lines_and_the_next_reader_hears_how_many() {
        let (mut reader, sink) = pipe();
        let line = [&b"x".repeat(999)[..], b"\n"].concat();
        for _ in 0..1000 {
            sink.put(&line);
        }
        let lost = sink.lost.load(Ordering::Relaxed);
        assert!(lost > 0, "a pipe does not hold a megabyte");
        let mut read = vec![0_u8; 64 * 1024];
        let length = reader.read(&mut read).unwrap();
        sink.put(b"{}\n");
        drop(sink);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        let lines = rest.lines().filter(|line| line.starts_with('{')).collect::<Vec<_>>();
        let told: Value = serde_json::from_str(lines[0]).unwrap();
        assert_eq!((told["lost"].as_u64(), lines[1]), (Some(lost), "{}"));
        assert_eq!(length as u64 / 1000 + lost, 1000);
    }

    #[test]
    fn nobody_reads_and_nobody_fails() {
        let (reader, sink) = pipe();
        drop(reader);
        assert_eq!(sink.make_writer().write(b"x\n").unwrap(), 2);
    }

    #[test]
    fn a_long_line_is_cut_and_json_stays_json() {
        let line = json!({ "level": "INFO", "message": "\u{1}é".repeat(4000), "n": 7 });
        let short = cut(format!("{line}\n").as_bytes()).into_owned();
        assert!(short.len() <= LINE_BYTES_MAX && short.ends_with(b"\n"), "{}", short.len());
        let back: Value = serde_json::from_slice(&short).unwrap();
        assert_eq!((&back["level"], &back["n"]), (&json!("INFO"), &json!(7)));
        assert!(back["message"].as_str().unwrap().ends_with('…'));

        let short = cut("é".repeat(4000).as_bytes()).into_owned();
        assert!(short.len() <= LINE_BYTES_MAX && short.ends_with("é\n".as_bytes()));
        assert_eq!(&*cut(b"short\n"), b"short\n");
    }
}
