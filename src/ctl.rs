//! `peace-supervisor ctl`: asks the supervisor that runs, and puts its answer into words.
//!
//! Called by `main`, which prints the text, and by `top`; speaks with `supervisor::control` over its socket, in the
//! words of [`Request`] and [`Answer`]. It promises to end: at the answer, at the supervisor's end, and
//! after [`PATIENCE`] unless it was told to wait. It knows no setting but the socket's path.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use supervisor::status::{ChildStatus, WorkerStatus};
use supervisor::{Answer, Request, Status};

use crate::programs::UNAVAILABLE;

/// How long the supervisor may take for an answer that is not the end of something.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longer than any answer.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// Exit code when the supervisor says no.
const FAILED: u8 = 1;

/// What to ask, where, and how to show the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The path of the control socket.
    pub control: PathBuf,
    /// What to ask for.
    pub request: Request,
    /// Show a status as it came.
    pub json: bool,
}

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum CtlError {
    /// Nobody listens there.
    #[error("no supervisor answers at {} ({source}): is it running? or give --control", path.display())]
    Nobody {
        /// The path of the control socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It was refused, has failed, or the end of it will never be known.
    #[error("{0}")]
    Failed(String),
}

impl CtlError {
    /// The exit code that says so.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Nobody { .. } => UNAVAILABLE,
            Self::Failed(_) => FAILED,
        }
    }

    fn failed(why: &str) -> Self {
        Self::Failed(why.to_owned())
    }
}

/// Asks, and waits for the answer. The text to print; empty when there is nothing but success to
/// tell.
///
/// **Blocks** until the answer: with `wait` as long as the supervisor lives, else 5 s.
///
/// # Errors
/// When nobody is there, or the supervisor refuses or fails.
pub fn run(ask: &Ask) -> Result<String, CtlError> {
    let line = say(&ask.control, ask.request)?;
    match understood(&line)? {
        Answer::Status(_) if ask.json => Ok(line),
        Answer::Status(status) => Ok(for_people(&status)),
        Answer::Done | Answer::Failed(_) => Ok(String::new()),
    }
}

/// Asks how everything is.
///
/// **Blocks** until the answer, at most 5 s.
///
/// # Errors
/// When nobody is there, or the supervisor refuses.
pub fn status(control: &Path) -> Result<Status, CtlError> {
    match understood(&say(control, Request::Status)?)? {
        Answer::Status(status) => Ok(*status),
        Answer::Done | Answer::Failed(_) => Err(CtlError::failed(OTHER_VERSION)),
    }
}

const OTHER_VERSION: &str = "not the answer of this version: use the running one's ctl";

/// Says a request; the line that answers it.
fn say(control: &Path, request: Request) -> Result<String, CtlError> {
    let nobody = |source| CtlError::Nobody { path: control.to_owned(), source };
    converse(&reach(control).map_err(nobody)?, request)
}

/// An answer, unless it says no.
fn understood(line: &str) -> Result<Answer, CtlError> {
    match Answer::from_json(line) {
        Ok(Answer::Failed(why)) => Err(CtlError::Failed(one_line(&why))),
        Ok(answer) => Ok(answer),
        Err(_) => Err(CtlError::failed(OTHER_VERSION)),
    }
}

/// Connects at once or not at all: the queue of a supervisor that is stopped may be full.
fn reach(path: &Path) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn converse(mut stream: &UnixStream, request: Request) -> Result<String, CtlError> {
    // A supervisor that sends us away does not listen, but says why.
    let _ = stream.write_all(format!("{request}\n").as_bytes());
    let patience = (!waits(request)).then_some(PATIENCE);
    let ended = |_| CtlError::failed("the supervisor ended before it answered");
    stream.set_read_timeout(patience).map_err(ended)?;
    let mut line = String::new();
    match BufReader::new(stream.take(ANSWER_BYTES_MAX)).read_line(&mut line) {
        Ok(_) if line.ends_with('\n') => Ok(line),
        Err(late) if late.kind() == ErrorKind::WouldBlock => {
            Err(CtlError::failed("no answer within 5 s: the supervisor is stopped or busy"))
        }
        Ok(_) => Err(ended(ErrorKind::UnexpectedEof.into())),
        Err(error) => Err(ended(error)),
    }
}

fn waits(request: Request) -> bool {
    match request {
        Request::Reload { wait } | Request::Scale { wait, .. } | Request::Upgrade { wait } => wait,
        Request::Status | Request::Stop => false,
    }
}

/// A status as people read it.
fn for_people(status: &Status) -> String {
    let Status { version, pid, generation, target, ready, .. } = status;
    let mut text = format!(
        "supervisor {version}, pid {pid}, generation {generation}: \
         {ready} of {target} workers ready\n"
    );
    if let Some(why) = &status.last_reload.error {
        let _ = writeln!(text, "the last reload failed: {}", one_line(why));
    }
    text.push('\n');
    text.push_str(&table(&WORKER_HEAD, status.workers.iter().map(worker_row)));
    if !status.children.is_empty() {
        let row = |child: &ChildStatus| {
            [one_line(&child.name), or_dash(child.pid), child.state.to_string()]
        };
        text.push('\n');
        text.push_str(&table(&CHILD_HEAD, status.children.iter().map(row)));
    }
    text
}

const CHILD_HEAD: [&str; 3] = ["child", "pid", "state"];
const WORKER_HEAD: [&str; 13] = [
    "slot",
    "pid",
    "state",
    "generation",
    "age",
    "heartbeat",
    "requests",
    "in flight",
    "connections",
    "queue",
    "memory",
    "restarts",
    "last exit",
];

fn worker_row(worker: &WorkerStatus) -> [String; 13] {
    [
        worker.slot.to_string(),
        or_dash(worker.pid),
        worker.state.to_string(),
        worker.generation.to_string(),
        or_dash(worker.age_s.map(age)),
        or_dash(worker.heartbeat_age_ms.map(|age_ms| format!("{age_ms}ms"))),
        worker.requests.to_string(),
        worker.in_flight.to_string(),
        worker.connections.to_string(),
        worker.queue.to_string(),
        format!("{}MiB", worker.rss_bytes.div_ceil(1 << 20)),
        worker.restarts.to_string(),
        or_dash(worker.last_exit.as_deref().map(one_line)),
    ]
}

/// Columns as wide as they have to be; numbers stand to the right.
fn table<const N: usize>(head: &[&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<[String; N]> = rows.collect();
    let is_number = |cell: &String| cell == "-" || cell.starts_with(|c: char| c.is_ascii_digit());
    let columns: [(usize, bool); N] = std::array::from_fn(|column| {
        let widths = rows.iter().map(|row| row[column].len());
        let width = widths.chain([head[column].len()]).max().unwrap_or(0);
        (width, rows.iter().all(|row| is_number(&row[column])))
    });
    let head = head.map(str::to_owned);
    [head].iter().chain(&rows).fold(String::new(), |mut text, row| {
        let cells = row.iter().zip(columns).map(|(cell, (width, to_the_right))| {
            if to_the_right { format!("{cell:>width$}") } else { format!("{cell:width$}") }
        });
        let cells: Vec<String> = cells.collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
        text
    })
}

/// In the largest unit that is whole at least once.
pub(crate) fn age(seconds: f64) -> String {
    match seconds {
        _ if seconds < 60.0 => format!("{seconds:.1}s"),
        _ if seconds < 3_600.0 => format!("{:.0}m", (seconds / 60.0).floor()),
        _ if seconds < 86_400.0 => format!("{:.0}h", (seconds / 3_600.0).floor()),
        _ => format!("{:.0}d", (seconds / 86_400.0).floor()),
    }
}

pub(crate) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Texts of others may hold what a terminal obeys.
pub(crate) fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use supervisor::status::{ChildState, LastReload};
    use tempfile::TempDir;

    use super::*;

    /// A supervisor that says this to the first who asks, once their line is whole.
    struct Supervisor {
        folder: TempDir,
        heard: thread::JoinHandle<String>,
    }

    impl Supervisor {
        fn saying(answer: &'static str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let listener = UnixListener::bind(folder.path().join("c.sock")).unwrap();
            let heard = thread::spawn(move || {
                let (stream, _) = listener.accept().unwrap();
                let mut line = String::new();
                BufReader::new(&stream).read_line(&mut line).unwrap();
                (&stream).write_all(answer.as_bytes()).unwrap();
                line
            });
            Self { folder, heard }
        }

        fn asked(self, request: Request, json: bool) -> (String, Result<String, CtlError>) {
            let control = self.folder.path().join("c.sock");
            let answer = run(&Ask { control, request, json });
            (self.heard.join().unwrap(), answer)
        }
    }

    const STATUS: &str = concat!(
        r#"{"version":"0.1.0","pid":10,"generation":3,"target":2,"ready":1,"#,
        r#""last_reload":{"ok":false,"error":"no\ndatabase"},"#,
        r#""workers":[{"slot":0,"pid":12,"state":"ready","generation":3,"age_s":75.2,"#,
        r#""heartbeat_age_ms":12,"requests":12345,"in_flight":1,"connections":3,"queue":0,"#,
        r#""rss_bytes":12000000,"restarts":0,"last_exit":null},"#,
        r#"{"slot":1,"pid":null,"state":"backoff","generation":7,"age_s":null,"#,
        r#""heartbeat_age_ms":null,"requests":9,"in_flight":0,"connections":0,"queue":2,"#,
        r#""rss_bytes":0,"restarts":6,"last_exit":"signal 9"}],"#,
        r#""children":[{"name":"postgres","pid":11,"state":"ready"}]}"#,
        "\n"
    );

    #[test]
    fn a_status_is_a_table_for_people_and_the_very_line_for_programs() {
        let (heard, shown) = Supervisor::saying(STATUS).asked(Request::Status, false);
        assert_eq!(heard, "status\n");
        let table = concat!(
            "supervisor 0.1.0, pid 10, generation 3: 1 of 2 workers ready\n",
            "the last reload failed: no database\n",
            "\n",
            "slot  pid  state    generation  age  heartbeat  requests  in flight",
            "  connections  queue  memory  restarts  last exit\n",
            "   0   12  ready             3   1m       12ms     12345          1",
            "            3      0   12MiB         0  -\n",
            "   1    -  backoff           7    -          -         9          0",
            "            0      2    0MiB         6  signal 9\n",
            "\n",
            "child     pid  state\n",
            "postgres   11  ready\n",
        );
        assert_eq!(shown.unwrap(), table);
        let (_, json) = Supervisor::saying(STATUS).asked(Request::Status, true);
        assert_eq!(json.unwrap(), STATUS);
    }

    #[test]
    fn success_is_silent_and_failure_says_why() {
        let reload = Request::Reload { wait: true };
        let (heard, done) = Supervisor::saying("{\"ok\":true}\n").asked(reload, false);
        assert_eq!((heard.as_str(), done.unwrap().as_str()), ("reload wait\n", ""));
        for (answer, why) in [
            ("{\"ok\":false,\"error\":\"slot 0:\\tno database\"}\n", "slot 0: no database"),
            ("", "the supervisor ended before it answered"),
            ("{\"ok\":true}", "the supervisor ended before it answered"),
            ("hello\n", "not the answer of this version: use the running one's ctl"),
        ] {
            let (_, failed) = Supervisor::saying(answer).asked(reload, false);
            let failed = failed.unwrap_err();
            assert_eq!((failed.to_string().as_str(), failed.code()), (why, 1), "{answer}");
        }
    }

    #[test]
    fn where_nobody_listens_it_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let abandoned = folder.path().join("abandoned");
        drop(UnixListener::bind(&abandoned).unwrap());
        for control in [folder.path().join("absent"), abandoned, "x".repeat(200).into()] {
            let ask = Ask { control, request: Request::Status, json: false };
            let nobody = run(&ask).unwrap_err();
            let text = nobody.to_string();
            let start = format!("no supervisor answers at {} (", ask.control.display());
            assert!(text.starts_with(&start), "{text}");
            assert!(text.ends_with("): is it running? or give --control"), "{text}");
            assert_eq!(nobody.code(), 69);
        }
    }

    #[test]
    fn who_is_told_to_go_before_asking_still_reads_why() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (&theirs).write_all(b"{\"ok\":false,\"error\":\"busy\"}\n").unwrap();
        drop(theirs);
        let line = converse(&ours, Request::Stop).unwrap();
        assert_eq!(Answer::from_json(&line).unwrap(), Answer::Failed("busy".to_owned()));
    }

    #[test]
    fn times_are_short() {
        for (seconds, text) in
            [(0.04, "0.0s"), (59.9, "59.9s"), (60.0, "1m"), (7_300.0, "2h"), (200_000.0, "2d")]
        {
            assert_eq!(age(seconds), text);
        }
    }

    #[test]
    fn a_supervisor_with_nothing_beside_its_workers_has_one_table() {
        let status = Status {
            version: "0.1.0".to_owned(),
            pid: 1,
            age_s: None,
            generation: 1,
            target: 1,
            ready: 0,
            last_reload: LastReload::of(None),
            workers: Vec::new(),
            children: Vec::new(),
        };
        assert_eq!(for_people(&status).lines().count(), 3);
        let child = ChildStatus { name: "a".to_owned(), pid: None, state: ChildState::Backoff };
        let status = Status { children: vec![child], ..status };
        assert!(for_people(&status).ends_with("\nchild  pid  state\na        -  backoff\n"));
    }
}
