//! What holds log lines until they are written, and counts those that never are.
//!
//! `events` and `access` put lines in, `super` has them flushed: after each event, by each heartbeat of a
//! worker, at the end of a process. Calls `stream`.
//! Promises: nobody waits for whoever reads, and a reader that is gone ends nothing. Lines that cannot be
//! written now are kept while there is room ([`KEPT_BYTES_MAX`]) and tried again, then dropped and counted;
//! the count is told when there is room again. Lines of several processes do not mix: each is at most a block
//! of the stream, and in a pipe none crosses the border of one: what is left of a block is filled with spaces.
//! While nobody flushes, a write carries at least [`WRITE_BYTES`], and one that is tried again comes after
//! [`RETRY_LINES`] more. No value is looked at while others are kept out: it may panic, or log.
//! Does not know: what a line says.

use std::borrow::Cow;
use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::time::{Duration, Instant};
use std::{io, thread};

use serde_json::{Map, Value};
use tracing::Level;

use super::line::{Clock, Form, Head, Line, Origin};
use super::stream::{BLOCK_BYTES, Stream, Written};

/// A longer line is cut.
const LINE_BYTES_MAX: usize = BLOCK_BYTES;
/// So many are worth a write.
const WRITE_BYTES: usize = 4 * BLOCK_BYTES;
/// Where the last write was not taken whole, so many lines more are worth the next one.
const RETRY_LINES: usize = 32;
/// What is kept for a reader that is slow.
const KEPT_BYTES_MAX: usize = 256 * BLOCK_BYTES;
/// How long the end waits before it tries again: a socket that poll(2) calls full may have room for a piece.
const FINISH_STEP_MS: u16 = 20;
/// Said instead of lines that were lost.
const LOST: &str = "log lines were lost: nobody took them";

thread_local! {
    /// Where this thread writes a line before it is put to the others.
    static DRAFT: Cell<Draft> = Cell::default();
}

#[derive(Default)]
struct Draft {
    line: Vec<u8>,
    clock: Clock,
}

/// A place for lines.
#[derive(Debug)]
pub(super) struct Sink {
    form: Form,
    /// The file that is opened anew on demand; `None`: the standard error stream.
    path: Option<PathBuf>,
    origin: OnceLock<Origin>,
    state: Mutex<State>,
    dropped: AtomicU64,
}

#[derive(Debug)]
struct State {
    stream: Stream,
    /// Whole lines, but for the first: the beginning of that may be written.
    kept: Vec<u8>,
    is_torn: bool,
    /// The last write took less than it was given.
    is_stalled: bool,
    /// Lines that were put in since the last write.
    untried: usize,
    /// Lines dropped, of which nobody has been told.
    lost: u64,
    /// A line that tells of some is among those that are kept.
    telling: Option<Telling>,
}

#[derive(Debug, Clone, Copy)]
struct Telling {
    lost: u64,
    /// Where it ends.
    end: usize,
}

impl Sink {
    /// Writes to the file at `path`, or to the standard error stream.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub(super) fn open(form: Form, path: Option<PathBuf>) -> io::Result<Self> {
        let stream = path.as_deref().map_or_else(Stream::of_process, Stream::of_file)?;
        Ok(Self::new(form, path, stream))
    }

    fn new(form: Form, path: Option<PathBuf>, stream: Stream) -> Self {
        let (state, dropped) = (Mutex::new(State::new(stream)), AtomicU64::new(0));
        Self { form, path, origin: OnceLock::new(), state, dropped }
    }

    /// Goes on in the `given` file, or opens its own again, which may be another one by now. What was put in
    /// before goes to the old one.
    ///
    /// # Errors
    /// When it cannot be opened; the old one is written on.
    pub(super) fn reopen(&self, given: Option<OwnedFd>) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let stream = match given {
            Some(given) => Stream::of_open(given.into()),
            None => Stream::of_file(path),
        }?;
        if let Some(mut state) = self.state() {
            state.write(1, self);
            state.stream = stream;
            state.is_stalled = false;
        }
        Ok(())
    }

    /// A copy of the file that is opened anew on demand, as it is now.
    pub(super) fn file(&self) -> Option<OwnedFd> {
        self.path.as_ref().and_then(|_| self.state()?.stream.file())
    }

    /// Makes it that of a new process: what its parent has kept and counted is not its own.
    pub(super) fn begin(&self, origin: Option<Origin>) {
        if let Some(mut state) = self.state() {
            state.kept.clear();
            (state.is_torn, state.is_stalled) = (false, false);
            (state.lost, state.telling) = (0, None);
        }
        if let Some(origin) = origin {
            // A process has one.
            let _ = self.origin.set(origin);
        }
        self.dropped.store(0, Ordering::Relaxed);
    }

    /// Takes a line, which `fill` says. It is written with others.
    pub(super) fn put(&self, level: Level, target: &str, fill: impl FnOnce(&mut Line<'_>)) {
        // A value that logs while it is shown finds another one there.
        let mut draft = DRAFT.try_with(Cell::take).unwrap_or_default();
        draft.line.clear();
        let head = Head { form: self.form, level, target, origin: self.origin.get().copied() };
        let mut line = Line::begin(&mut draft.line, &mut draft.clock, &head);
        fill(&mut line);
        line.end();
        self.take(&cut(&draft.line));
        draft.line.shrink_to(2 * LINE_BYTES_MAX);
        let _ = DRAFT.try_with(|place| place.set(draft));
    }

    fn take(&self, line: &[u8]) {
        match self.state() {
            Some(mut state) => state.put(line, self),
            // The line of a panic in here: it is worth a try past all others.
            None => drop(Stream::of_process().map(|stream| stream.write(line))),
        }
    }

    /// Writes what there is, now or later.
    pub(super) fn flush(&self) {
        if let Some(mut state) = self.state() {
            state.write(1, self);
        }
    }

    /// Writes what there is, and waits for that: for `limit` at most, and for `patience` while nobody takes
    /// any of it. What is left then is lost, and there may be room to say so.
    pub(super) fn finish(&self, patience: Duration, limit: Duration) {
        let Some(mut state) = self.state() else { return };
        state.persist(patience, limit, self);
        state.give_up(&self.dropped);
        if state.lost > 0 {
            state.tell_lost(self);
            state.persist(patience, patience, self);
        }
    }

    /// How many lines of this process were lost.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// `None` for who panics and may have it already.
    fn state(&self) -> Option<MutexGuard<'_, State>> {
        if !thread::panicking() {
            return Some(self.state.lock().unwrap_or_else(PoisonError::into_inner));
        }
        match self.state.try_lock() {
            Ok(state) => Some(state),
            Err(TryLockError::Poisoned(state)) => Some(state.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl State {
    fn new(stream: Stream) -> Self {
        Self {
            stream,
            kept: Vec::new(),
            is_torn: false,
            is_stalled: false,
            untried: 0,
            lost: 0,
            telling: None,
        }
    }

    fn put(&mut self, line: &[u8], sink: &Sink) {
        self.untried += 1;
        match self.kept.len() + 2 * BLOCK_BYTES <= KEPT_BYTES_MAX {
            true => self.add(line),
            false => self.lose(1, &sink.dropped),
        }
        if self.kept.len() >= WRITE_BYTES && (!self.is_stalled || self.untried >= RETRY_LINES) {
            self.write(WRITE_BYTES, sink);
        }
    }

    fn lose(&mut self, lines: u64, dropped: &AtomicU64) {
        self.lost += lines;
        dropped.fetch_add(lines, Ordering::Relaxed);
    }

    fn add(&mut self, line: &[u8]) {
        let begin = self.kept.len();
        let rest = begin.next_multiple_of(BLOCK_BYTES) - begin;
        if self.stream.has_blocks() && (1..line.len()).contains(&rest) {
            // Before the end of the line before.
            self.kept.pop();
            self.kept.resize(begin - 1 + rest, b' ');
            self.kept.push(b'\n');
        }
        self.kept.extend_from_slice(line);
    }

    /// Writes while at least `bytes_min` are there and are taken.
    fn write(&mut self, bytes_min: usize, sink: &Sink) {
        self.untried = 0;
        while self.kept.len() >= bytes_min {
            let piece = self.stream.piece(&self.kept);
            match self.stream.write(&self.kept[..piece]) {
                Written::Taken(taken) => {
                    self.is_stalled = taken < piece;
                    self.is_torn = self.kept[taken - 1] != b'\n';
                    self.kept.drain(..taken);
                    self.telling = self.telling.and_then(|telling| telling.behind(taken));
                }
                Written::Full => {
                    self.is_stalled = true;
                    return;
                }
                Written::Broken => return self.give_up(&sink.dropped),
            }
            if self.lost > 0 && self.telling.is_none() && self.kept.len() <= KEPT_BYTES_MAX / 2 {
                self.tell_lost(sink);
            }
        }
    }

    /// Writes again and again, for `limit` at most, and for `patience` while nobody takes anything.
    fn persist(&mut self, patience: Duration, limit: Duration, sink: &Sink) {
        let begin = Instant::now();
        let mut taken_at = begin;
        self.write(1, sink);
        while self.is_stalled && begin.elapsed() < limit && taken_at.elapsed() < patience {
            let before = self.kept.len();
            self.stream.await_room(FINISH_STEP_MS);
            self.write(1, sink);
            if self.kept.len() < before {
                taken_at = Instant::now();
            }
        }
    }

    /// Drops what is kept.
    fn give_up(&mut self, dropped: &AtomicU64) {
        let lines = self.kept.strip_prefix(b"\n").unwrap_or(&self.kept);
        let lines = lines.iter().filter(|byte| **byte == b'\n').count() as u64;
        let telling = self.telling.take();
        self.kept.clear();
        self.is_stalled = false;
        self.lose(lines.saturating_sub(u64::from(telling.is_some())), dropped);
        self.lost += telling.map_or(0, |telling| telling.lost);
        if self.is_torn {
            // The line whose beginning is written ends there.
            self.kept.push(b'\n');
        }
    }

    fn tell_lost(&mut self, sink: &Sink) {
        let (target, origin) = (module_path!(), sink.origin.get().copied());
        let head = Head { form: sink.form, level: Level::WARN, target, origin };
        let mut told = Vec::new();
        let mut line = Line::begin(&mut told, &mut Clock::default(), &head);
        line.message(&format_args!("{LOST}"));
        let lost = std::mem::take(&mut self.lost);
        line.whole("lost", lost);
        line.end();
        self.add(&told);
        self.telling = Some(Telling { lost, end: self.kept.len() });
    }
}

impl Telling {
    /// After so many bytes were taken; `None` when it was among them.
    fn behind(self, taken: usize) -> Option<Self> {
        let end = self.end.checked_sub(taken).filter(|end| *end > 0)?;
        Some(Self { end, ..self })
    }
}

/// `line` in at most [`LINE_BYTES_MAX`] bytes. JSON stays JSON: its longest texts lose their ends.
fn cut(line: &[u8]) -> Cow<'_, [u8]> {
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

#[cfg(test)]
mod tests {
    use std::fmt;
    use std::fs::OpenOptions;
    use std::io::{PipeReader, Read};
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::OpenOptionsExt;
    use std::os::unix::net::UnixStream;
    use std::path::Path;
    use std::sync::mpsc::channel;

    use nix::libc::O_NONBLOCK;
    use nix::sys::socket::{setsockopt, sockopt};
    use serde_json::json;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn sink(stream: Stream) -> Sink {
        Sink::new(Form::Json, None, stream)
    }

    fn kept(sink: &Sink) -> usize {
        sink.state().unwrap().kept.len()
    }

    /// A pipe of our own opening, and its other end.
    fn pipe() -> (PipeReader, Sink) {
        let (reader, writer) = io::pipe().unwrap();
        let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
        let again = OpenOptions::new().write(true).custom_flags(O_NONBLOCK).open(path).unwrap();
        (reader, sink(Stream::Own(again)))
    }

    /// As long as the line of a request.
    fn put(sink: &Sink, number: u64) {
        sink.put(Level::INFO, "test", |line| {
            line.text("padding", &"x".repeat(usize::try_from(200 + number % 100).unwrap()));
            line.whole("number", number);
        });
    }

    fn rest(mut reader: PipeReader, sink: Sink) -> Vec<Value> {
        drop(sink);
        let mut text = Vec::new();
        reader.read_to_end(&mut text).unwrap();
        lines(&text)
    }

    fn lines(text: &[u8]) -> Vec<Value> {
        let text = str::from_utf8(text).unwrap();
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    fn numbers(lines: &[Value]) -> Vec<u64> {
        lines.iter().filter_map(|line| line["number"].as_u64()).collect()
    }

    #[test]
    fn lines_are_written_in_their_order_many_at_a_time() {
        let (mut reader, sink) = pipe();
        let (mut text, mut writes, mut lines) = (vec![0; 64 * 1024], 0, 0);
        for number in 0..1000 {
            let before = kept(&sink);
            put(&sink, number);
            if kept(&sink) < before {
                let length = reader.read(&mut text).unwrap();
                lines += text[..length].iter().filter(|byte| **byte == b'\n').count();
                writes += 1;
            }
        }
        assert!(writes > 5 && lines >= 32 * writes, "{lines} lines in {writes} writes");
        sink.flush();
        assert_eq!(sink.dropped(), 0);
        assert_eq!(numbers(&rest(reader, sink)).last(), Some(&999));
    }

    #[test]
    fn a_full_pipe_costs_lines_but_no_line_is_torn_and_the_next_reader_hears_how_many() {
        let (mut reader, sink) = pipe();
        for number in 0..6000 {
            put(&sink, number);
            if number % 100 == 0 {
                sink.flush();
            }
        }
        let lost = sink.dropped();
        assert!(lost > 0, "nobody holds 1.8 megabytes");
        assert!(kept(&sink) <= KEPT_BYTES_MAX && sink.state().unwrap().kept.capacity() <= 1 << 21);
        let (mut text, mut part) = (Vec::new(), vec![0; 64 * 1024]);
        while kept(&sink) > 0 {
            let length = reader.read(&mut part).unwrap();
            text.extend_from_slice(&part[..length]);
            sink.flush();
        }
        put(&sink, 6000);
        sink.flush();
        assert_eq!(sink.dropped(), lost);
        drop(sink);
        reader.read_to_end(&mut text).unwrap();
        let lines = lines(&text);
        let kept = 6000 - lost;
        assert_eq!(numbers(&lines), (0..kept).chain([6000]).collect::<Vec<_>>());
        assert_eq!(lines[usize::try_from(kept).unwrap()]["lost"], lost);
    }

    #[test]
    fn a_reader_who_was_late_gets_every_line_and_a_flush_is_not_waited_for() {
        let (mut reader, sink) = pipe();
        (0..2000).for_each(|number| put(&sink, number));
        let (mut text, mut part) = (Vec::new(), vec![0; 64 * 1024]);
        for round in 0..50 {
            // It has read everything by now, so the pipe has room for all that is kept and more.
            let before = kept(&sink);
            if before >= WRITE_BYTES {
                let length = reader.read(&mut part).unwrap();
                text.extend_from_slice(&part[..length]);
            }
            (0..RETRY_LINES as u64).for_each(|number| put(&sink, 2000 + 32 * round + number));
            assert!(before < WRITE_BYTES || kept(&sink) < before, "round {round}: {before}");
        }
        let reading = thread::spawn(move || reader.read_to_end(&mut text).map(|_| text).unwrap());
        sink.finish(PATIENCE, PATIENCE);
        assert_eq!((sink.dropped(), kept(&sink)), (0, 0));
        drop(sink);
        let text = reading.join().unwrap();
        assert_eq!(numbers(&lines(&text)), (0..3600).collect::<Vec<_>>());
    }

    #[test]
    fn while_nobody_reads_a_write_is_tried_once_in_many_lines() {
        let (_reader, sink) = pipe();
        (0..1000).for_each(|number| put(&sink, number));
        let mut tries = 0;
        for number in 0..8000 {
            let before = sink.state().unwrap().untried;
            put(&sink, number);
            tries += usize::from(sink.state().unwrap().untried <= before);
        }
        assert_eq!(tries, 8000 / RETRY_LINES);
    }

    /// A local socket as a service manager gives, with a small buffer, for `writers`; and its other end.
    fn sockets<const N: usize>() -> (UnixStream, [Sink; N]) {
        let (reader, writer) = UnixStream::pair().unwrap();
        setsockopt(&writer, sockopt::SndBuf, &(8 * 1024)).unwrap();
        let copy = || writer.try_clone().unwrap().into();
        (reader, std::array::from_fn(|_| sink(Stream::of_socket(copy()))))
    }

    #[test]
    fn several_who_share_a_socket_whose_reader_is_slow_tear_no_line_and_count_what_they_lose() {
        let (mut reader, sinks) = sockets::<2>();
        // Reads a little for each time that somebody has written much.
        let (tick, ticks) = channel::<()>();
        let reading = thread::spawn(move || {
            let (mut text, mut part) = (Vec::new(), vec![0; 5000]);
            for () in ticks {
                let length = reader.read(&mut part).unwrap();
                text.extend_from_slice(&part[..length]);
            }
            reader.read_to_end(&mut text).unwrap();
            text
        });
        let put_all = |sink: Sink, tick: std::sync::mpsc::Sender<()>| {
            for number in 0..10_000 {
                put(&sink, number);
                if number % 50 == 0 {
                    sink.flush();
                    tick.send(()).unwrap();
                }
            }
            drop(tick);
            sink.finish(PATIENCE, PATIENCE);
            assert_eq!(kept(&sink), 0);
            sink.dropped()
        };
        let dropped: u64 = thread::scope(|scope| {
            let writing = sinks
                .map(|sink| (sink, tick.clone()))
                .map(|(sink, tick)| scope.spawn(move || put_all(sink, tick)));
            drop(tick);
            writing.map(|writing| writing.join().unwrap()).iter().sum()
        });
        let lines = lines(&reading.join().unwrap());
        let told: u64 = lines.iter().filter_map(|line| line["lost"].as_u64()).sum();
        assert!(dropped > 0, "6 megabytes are more than anybody holds");
        assert_eq!((numbers(&lines).len() as u64 + told, told), (20_000, dropped));
    }

    #[test]
    fn the_end_waits_for_a_reader_who_is_slow_and_not_for_one_who_does_not_read() {
        let (mut reader, [sink]) = sockets();
        (0..1000).for_each(|number| put(&sink, number));
        let reading = thread::spawn(move || {
            let mut text = Vec::new();
            reader.read_to_end(&mut text).unwrap();
            text
        });
        sink.finish(PATIENCE, PATIENCE);
        assert_eq!((kept(&sink), sink.dropped()), (0, 0));
        drop(sink);
        assert_eq!(numbers(&lines(&reading.join().unwrap())), (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn what_the_end_cannot_write_is_told_to_a_reader_who_comes_just_in_time() {
        let (mut reader, sink) = pipe();
        (0..1000).for_each(|number| put(&sink, number));
        let text = thread::scope(|scope| {
            scope.spawn(|| sink.finish(Duration::from_secs(1), PATIENCE));
            while sink.dropped() == 0 {
                thread::yield_now();
            }
            let (mut text, mut part) = (String::new(), vec![0; 64 * 1024]);
            while !text.contains(LOST) {
                let length = reader.read(&mut part).unwrap();
                text.push_str(str::from_utf8(&part[..length]).unwrap());
            }
            text
        });
        let lines = lines(text.as_bytes());
        let told = lines.last().unwrap()["lost"].as_u64().unwrap();
        assert_eq!((told, numbers(&lines).len() as u64 + told), (sink.dropped(), 1000));
    }

    /// A value that should not be shown.
    struct Bad;

    impl fmt::Debug for Bad {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            panic!("a mistake of a value")
        }
    }

    /// One that has something to say itself.
    struct Chatty<'a>(&'a Sink);

    impl fmt::Debug for Chatty<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            put(self.0, 1);
            self.0.flush();
            f.write_str("chatty")
        }
    }

    #[test]
    fn a_value_that_panics_or_logs_when_it_is_shown_stops_nobody() {
        let (reader, sink) = pipe();
        let bad = || sink.put(Level::INFO, "test", |line| line.shown("bad", &Bad));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(bad)).is_err());
        sink.put(Level::INFO, "test", |line| line.shown("chatty", &Chatty(&sink)));
        put(&sink, 2);
        sink.flush();
        let lines = rest(reader, sink);
        assert_eq!(numbers(&lines), [1, 2]);
        assert_eq!((lines.len(), &lines[1]["chatty"]), (3, &json!("chatty")));
    }

    #[test]
    fn who_panics_while_lines_are_kept_from_it_does_not_wait() {
        struct LogsAtItsEnd<'a>(&'a Sink);
        impl Drop for LogsAtItsEnd<'_> {
            fn drop(&mut self) {
                put(self.0, 0);
                self.0.flush();
            }
        }
        let (_reader, sink) = pipe();
        let kept_from_all = sink.state();
        let panicking = thread::scope(|scope| {
            let work = || {
                let _logs = LogsAtItsEnd(&sink);
                panic!("a mistake")
            };
            scope.spawn(work).join()
        });
        assert!(panicking.is_err());
        drop(kept_from_all);
        assert_eq!(kept(&sink), 0);
    }

    #[test]
    fn two_who_share_a_full_pipe_tear_no_line() {
        let (mut reader, one) = pipe();
        let other = match &one.state().unwrap().stream {
            Stream::Own(file) => sink(Stream::Own(file.try_clone().unwrap())),
            _ => unreachable!("it is a pipe"),
        };
        let mut text = Vec::new();
        let mut part = vec![0; 5000];
        for number in 0..20_000 {
            put(if number % 3 == 0 { &one } else { &other }, number);
            if number % 50 == 0 {
                one.flush();
                other.flush();
                let length = reader.read(&mut part).unwrap();
                text.extend_from_slice(&part[..length]);
            }
        }
        assert!(one.dropped() + other.dropped() > 0);
        drop((one, other));
        reader.read_to_end(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
    }

    #[test]
    fn nobody_reads_and_nobody_fails() {
        let (reader, sink) = pipe();
        drop(reader);
        put(&sink, 0);
        sink.flush();
        sink.finish(PATIENCE, PATIENCE);
        assert_eq!(sink.dropped(), 1);
    }

    #[test]
    fn a_full_disk_loses_lines_and_nothing_else() {
        let sink = sink(Stream::of_file(Path::new("/dev/full")).unwrap());
        for number in 0..1000 {
            put(&sink, number);
        }
        sink.flush();
        assert_eq!(sink.dropped(), 1000);
    }

    #[test]
    fn lines_are_not_forgotten_when_the_line_that_tells_of_them_is_lost() {
        let (mut reader, sink) = pipe();
        let full = Stream::of_file(Path::new("/dev/full")).unwrap();
        let well = std::mem::replace(&mut sink.state().unwrap().stream, full);
        (0..100).for_each(|number| put(&sink, number));
        sink.flush();
        {
            let mut state = sink.state().unwrap();
            state.tell_lost(&sink);
            state.write(1, &sink);
            state.stream = well;
        }
        assert_eq!(sink.dropped(), 100);
        put(&sink, 100);
        sink.flush();
        drop(sink);
        let mut text = Vec::new();
        reader.read_to_end(&mut text).unwrap();
        let lines = lines(&text);
        assert_eq!((lines.len(), numbers(&lines), &lines[1]["lost"]), (2, vec![100], &json!(100)));
    }

    #[test]
    fn a_line_whose_end_was_lost_does_not_take_the_next_one_along() {
        let (reader, sink) = pipe();
        put(&sink, 0);
        let mut state = sink.state().unwrap();
        state.kept.drain(..10);
        state.is_torn = true;
        state.give_up(&sink.dropped);
        drop(state);
        put(&sink, 1);
        sink.flush();
        let mut reader = reader;
        drop(sink);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines.len(), lines[0]), (3, ""));
        assert!(lines[1].contains("\"number\":1") && lines[2].contains("\"lost\":1"), "{text}");
    }

    #[test]
    fn what_a_parent_has_kept_is_not_written_twice() {
        let (reader, sink) = pipe();
        put(&sink, 0);
        sink.begin(Some(Origin { slot: 4, generation: 2 }));
        put(&sink, 1);
        sink.flush();
        let lines = rest(reader, sink);
        assert_eq!(numbers(&lines), [1]);
        assert_eq!((&lines[0]["slot"], &lines[0]["generation"]), (&json!(4), &json!(2)));
    }

    #[test]
    fn a_file_that_was_renamed_keeps_what_came_before_and_the_new_one_gets_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let [path, old] = ["log", "log.1"].map(|name| folder.path().join(name));
        let sink = Sink::open(Form::Json, Some(path.clone())).unwrap();
        put(&sink, 0);
        std::fs::rename(&path, &old).unwrap();
        put(&sink, 1);
        sink.reopen(None).unwrap();
        put(&sink, 2);
        sink.flush();
        let written = |path: &Path| numbers(&lines(&std::fs::read(path).unwrap()));
        assert_eq!((written(&old), written(&path)), (vec![0, 1], vec![2]));
        // Somebody else may have opened it.
        let moved = folder.path().join("log.2");
        std::fs::rename(&path, &moved).unwrap();
        let given = Sink::open(Form::Json, Some(path.clone())).unwrap().file().unwrap();
        std::fs::rename(&path, &old).unwrap();
        sink.reopen(Some(given)).unwrap();
        put(&sink, 3);
        sink.flush();
        assert_eq!((written(&moved), written(&old), path.exists()), (vec![2], vec![3], false));
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
