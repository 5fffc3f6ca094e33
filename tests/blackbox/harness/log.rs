//! What the program writes to its standard error stream, as events that tests wait for.
//!
//! A thread reads the lines as they come, since a full pipe would stop the program. A line that is
//! JSON is an event, any other is kept for the refusals' tests.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// One line.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// Its number, from 0.
    pub(crate) index: usize,
    /// When it was read.
    pub(crate) at: Instant,
    /// As it was written.
    pub(crate) text: String,
    fields: Value,
}

impl Event {
    /// Whether this is an event of that name.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.text_of("message") == Some(name)
    }

    pub(crate) fn text_of(&self, field: &str) -> Option<&str> {
        self.fields.get(field)?.as_str()
    }

    pub(crate) fn number_of(&self, field: &str) -> Option<i32> {
        self.fields.get(field)?.as_i64()?.try_into().ok()
    }

    /// Whether this is an event of that name about a worker.
    pub(crate) fn is_worker(&self, name: &str) -> bool {
        self.is(name) && self.text_of("name") == Some("worker")
    }
}

/// All lines so far, and whether there will be more.
#[derive(Default)]
struct Lines {
    events: Vec<Event>,
    ended: bool,
}

/// The log of one program.
#[derive(Clone)]
pub(crate) struct Log(Arc<(Mutex<Lines>, Condvar)>);

impl Log {
    /// Reads `stream` to its end, in a thread of its own.
    pub(crate) fn read(stream: impl Read + Send + 'static) -> Self {
        let log = Self(Arc::default());
        let writer = log.clone();
        thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n') {
                let Ok(line) = line else { break };
                writer.push(String::from_utf8_lossy(&line).into_owned());
            }
            writer.lines().ended = true;
            writer.0.1.notify_all();
        });
        log
    }

    fn push(&self, text: String) {
        let mut lines = self.lines();
        let fields = serde_json::from_str(&text).unwrap_or(Value::Null);
        let index = lines.events.len();
        lines.events.push(Event { index, at: Instant::now(), text, fields });
        self.0.1.notify_all();
    }

    /// Every line so far.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.lines().events.clone()
    }

    /// How many lines there are so far.
    pub(crate) fn len(&self) -> usize {
        self.lines().events.len()
    }

    /// The first event from line number `from` on that `fits`. Panics when none came within `limit`,
    /// or the log has ended.
    pub(crate) fn await_event(
        &self,
        what: &str,
        from: usize,
        limit: Duration,
        fits: impl Fn(&Event) -> bool,
    ) -> Event {
        let found = |lines: &Lines| lines.events.iter().skip(from).find(|one| fits(one)).cloned();
        let mut lines = self.lines();
        let deadline = Instant::now() + limit;
        loop {
            if let Some(event) = found(&lines) {
                return event;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let over = lines.ended || left.is_zero();
            assert!(!over, "no event within {limit:?}: {what}\n{}", tail(&lines.events));
            lines = self.0.1.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until the program and all who share its standard error have closed it.
    pub(crate) fn await_end(&self, limit: Duration) {
        let wait = self.0.1.wait_timeout_while(self.lines(), limit, |lines| !lines.ended);
        let (lines, outcome) = wait.unwrap_or_else(PoisonError::into_inner);
        assert!(!outcome.timed_out(), "the log is still open\n{}", tail(&lines.events));
    }

    /// The last lines, for a failed test's output.
    pub(crate) fn tail(&self) -> String {
        tail(&self.lines().events)
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tail(events: &[Event]) -> String {
    let last = events.len().saturating_sub(30);
    let lines: Vec<&str> = events[last..].iter().map(|event| event.text.as_str()).collect();
    format!("-- the last lines of its log:\n{}", lines.join("\n"))
}
