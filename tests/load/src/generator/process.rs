//! The conductor's end of the generators: starts them, hears them, puts together what they say.
//!
//! For a caller that blocks and has other things to do: nothing here waits longer than it is told.
//! Each generator has two threads here, one that feeds its input and one that reads its output, so
//! that neither side ever waits for the other. They are in a process group of their own: a Ctrl-C is
//! the conductor's affair. Dropping a [`Load`] kills what is left; a conductor that is killed closes
//! their input, at which they leave by themselves. Knows no server and no database.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::order::{Line, Order, Outcome, Piece};
use crate::report::model::{Latency, Traffic, Window};

/// The hidden subcommand.
pub(crate) const SUBCOMMAND: &str = "generate";
/// Time for what a generator does besides waiting for answers: starting, reading rows, telling.
const SLACK: Duration = Duration::from_secs(20);
const EXAMPLES_MAX: usize = 8;

/// Running generators.
#[derive(Debug)]
pub(crate) struct Load {
    generators: Vec<Generator>,
    heard: Receiver<(usize, Heard)>,
    order: Order,
    begun: Option<Instant>,
    /// By window, what was said of it so far.
    pieces: BTreeMap<usize, Vec<Piece>>,
    windows: Vec<Window>,
}

#[derive(Debug)]
struct Generator {
    child: Child,
    /// To the thread that feeds it.
    words: Sender<Vec<u8>>,
    is_ready: bool,
    outcome: Option<Outcome>,
}

/// What a generator's output brought.
#[derive(Debug)]
enum Heard {
    Line(Line),
    /// A line that was none.
    Noise(String),
    End,
}

/// What came of it, put together.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) traffic: Traffic,
    pub(crate) windows: Vec<Window>,
    /// The first few errors in words, each once.
    pub(crate) examples: Vec<String>,
}

/// Why there is no measurement.
#[derive(Debug, Error)]
pub(crate) enum LoadError {
    #[error("a generator cannot be started: {0}")]
    Start(std::io::Error),
    #[error("a generator cannot go on: {0}")]
    Failed(String),
    #[error("a generator ended before its work did (process {0}): was it killed?")]
    Ended(u32),
    #[error("a generator said what is not understood: {0}")]
    Noise(String),
    #[error("generators are silent for too long: are there more of them than processors?")]
    Silent,
    #[error("what the generators saw cannot be put together: {0}")]
    Unreadable(String),
}

impl Load {
    /// Starts so many generators that share the order's connections and rate, and returns when all
    /// have opened their connections. `program` is this one.
    ///
    /// # Errors
    /// When one cannot be started or says that it cannot do it, or when they take too long. None is
    /// left then.
    pub(crate) fn start(
        program: &Path,
        order: &Order,
        processes: usize,
    ) -> Result<Self, LoadError> {
        let (said, heard) = channel();
        let mut load = Self {
            generators: Vec::new(),
            heard,
            order: Order { rows: BTreeMap::new(), ..order.clone() },
            begun: None,
            pieces: BTreeMap::new(),
            windows: Vec::new(),
        };
        for share in shares(order, processes) {
            let number = load.generators.len();
            load.generators.push(Generator::start(program, &share, number, &said)?);
        }
        let deadline = Instant::now() + Duration::from_secs_f64(order.timeout_s) + SLACK;
        while !load.generators.iter().all(|generator| generator.is_ready) {
            if !load.hear(deadline)? {
                return Err(LoadError::Silent);
            }
        }
        Ok(load)
    }

    /// The generators' processes.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.generators.iter().map(|generator| generator.child.id()).collect()
    }

    /// Lets them begin. The phase lasts as long as the order says from now.
    ///
    /// # Errors
    /// When one has ended meanwhile.
    pub(crate) fn begin(&mut self) -> Result<(), LoadError> {
        for generator in &self.generators {
            let ended = |_| LoadError::Ended(generator.child.id());
            generator.words.send(b"\n".to_vec()).map_err(ended)?;
        }
        self.begun = Some(Instant::now());
        Ok(())
    }

    /// The next window of the time line, as soon as all have told theirs; `None` when that is not so
    /// within `timeout`. Waits that long also when there is none left.
    ///
    /// # Errors
    /// When a generator has ended, or says that it has to.
    pub(crate) fn next(&mut self, timeout: Duration) -> Result<Option<Window>, LoadError> {
        let deadline = Instant::now() + timeout;
        loop {
            let index = self.windows.len();
            let is_whole = |pieces: &Vec<Piece>| pieces.len() == self.generators.len();
            if self.pieces.get(&index).is_some_and(is_whole) {
                let pieces = self.pieces.remove(&index).unwrap_or_default();
                let window = self.put_together(index, &pieces)?;
                self.windows.push(window.clone());
                return Ok(Some(window));
            }
            if !self.hear(deadline)? {
                return Ok(None);
            }
        }
    }

    /// Waits until all have told everything, and lets them go.
    ///
    /// # Errors
    /// As [`Load::next`], and when they take longer than the phase and the timeout can last.
    pub(crate) fn end(mut self) -> Result<Ended, LoadError> {
        // One timeout to be sent, one to be answered.
        let lasts = self.order.duration_s + 2.0 * self.order.timeout_s;
        let begun = self.begun.unwrap_or_else(Instant::now);
        let deadline = begun + Duration::from_secs_f64(lasts) + SLACK;
        while !self.generators.iter().all(|generator| generator.outcome.is_some()) {
            if !self.hear(deadline)? {
                return Err(LoadError::Silent);
            }
        }
        while self.next(Duration::ZERO)?.is_some() {}
        let outcomes: Vec<Outcome> =
            self.generators.iter_mut().filter_map(|generator| generator.outcome.take()).collect();
        let windows = std::mem::take(&mut self.windows);
        let traffic = sum(&outcomes).map_err(LoadError::Unreadable)?;
        let mut examples: Vec<String> = Vec::new();
        for example in outcomes.into_iter().flat_map(|outcome| outcome.examples) {
            if examples.len() < EXAMPLES_MAX && !examples.contains(&example) {
                examples.push(example);
            }
        }
        Ok(Ended { traffic, windows, examples })
    }

    /// Hears one thing more; `false` when there was none by the deadline.
    fn hear(&mut self, deadline: Instant) -> Result<bool, LoadError> {
        let rest = deadline.saturating_duration_since(Instant::now());
        let Ok((number, heard)) = self.heard.recv_timeout(rest) else { return Ok(false) };
        let generator = &mut self.generators[number];
        match heard {
            Heard::Line(Line::Ready) => generator.is_ready = true,
            Heard::Line(Line::Piece(piece)) => {
                self.pieces.entry(piece.index).or_default().push(piece);
            }
            Heard::Line(Line::Done(outcome)) => generator.outcome = Some(*outcome),
            Heard::Line(Line::Failed(error)) => return Err(LoadError::Failed(error)),
            Heard::Noise(error) => return Err(LoadError::Noise(error)),
            Heard::End => return Err(LoadError::Ended(generator.child.id())),
        }
        Ok(true)
    }

    fn put_together(&self, index: usize, pieces: &[Piece]) -> Result<Window, LoadError> {
        let latency = Latency::merged(pieces.iter().map(|piece| &piece.latency));
        let latency = latency.map_err(LoadError::Unreadable)?;
        let at_s = index as f64 * self.order.window_s;
        Ok(Window {
            at_s,
            length_s: self.order.window_s.min(self.order.duration_s - at_s),
            ok: pieces.iter().map(|piece| piece.ok).sum(),
            errors: pieces.iter().map(|piece| piece.errors).sum(),
            p50_ms: latency.p50_ms,
            p99_ms: latency.p99_ms,
            max_ms: latency.max_ms,
        })
    }
}

impl Generator {
    fn start(
        program: &Path,
        order: &Order,
        number: usize,
        said: &Sender<(usize, Heard)>,
    ) -> Result<Self, LoadError> {
        let mut command = Command::new(program);
        command.arg(SUBCOMMAND).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(LoadError::Start)?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (words, to_say) = channel();
        let generator = Self { child, words, is_ready: false, outcome: None };
        let mut text =
            serde_json::to_vec(order).map_err(|error| LoadError::Unreadable(error.to_string()))?;
        text.push(b'\n');
        // The thread that it goes to ends with the generator at the latest.
        _ = generator.words.send(text);
        let said = said.clone();
        let threads = [
            thread::Builder::new().spawn(move || feed(stdin, &to_say)),
            thread::Builder::new().spawn(move || report(stdout, number, &said)),
        ];
        threads.into_iter().try_for_each(|thread| thread.map(drop)).map_err(LoadError::Start)?;
        Ok(generator)
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        // It has told all or is not wanted any more. Killing one that has left already does nothing.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Says what it is given until nobody gives anything, or nobody hears it.
fn feed(stdin: Option<ChildStdin>, words: &Receiver<Vec<u8>>) {
    let Some(mut stdin) = stdin else { return };
    while let Ok(word) = words.recv() {
        if stdin.write_all(&word).is_err() {
            return;
        }
    }
}

fn report(stdout: Option<ChildStdout>, number: usize, said: &Sender<(usize, Heard)>) {
    let Some(stdout) = stdout else { return };
    for line in BufReader::new(stdout).lines() {
        let heard = line.map_err(|error| error.to_string()).and_then(|line| {
            serde_json::from_str(&line).map_err(|error| format!("{error} in {line:.200}"))
        });
        if said.send((number, heard.map_or_else(Heard::Noise, Heard::Line))).is_err() {
            return;
        }
    }
    _ = said.send((number, Heard::End));
}

/// The order, divided: connections as evenly as they can be, the rate by the connections.
fn shares(order: &Order, processes: usize) -> Vec<Order> {
    let processes = processes.clamp(1, order.connections.max(1));
    let share = |number: usize| {
        let connections =
            order.connections / processes + usize::from(number < order.connections % processes);
        let part = connections as f64 / order.connections as f64;
        Order {
            connections,
            rate: order.rate.map(|rate| rate * part),
            seed: order.seed.wrapping_mul(1024).wrapping_add(number as u64),
            ..order.clone()
        }
    };
    (0..processes).map(share).collect()
}

fn sum(outcomes: &[Outcome]) -> Result<Traffic, String> {
    let all = || outcomes.iter().map(|outcome| &outcome.traffic);
    let mut errors = BTreeMap::new();
    for (kind, count) in all().flat_map(|traffic| &traffic.errors) {
        *errors.entry(kind.clone()).or_default() += count;
    }
    let is_open = all().all(|traffic| traffic.lateness.is_some());
    let lateness = Latency::merged(all().filter_map(|traffic| traffic.lateness.as_ref()))?;
    Ok(Traffic {
        ok: all().map(|traffic| traffic.ok).sum(),
        late: all().map(|traffic| traffic.late).sum(),
        errors,
        unsent: all().map(|traffic| traffic.unsent).sum(),
        latency: Latency::merged(all().map(|traffic| &traffic.latency))?,
        service: Latency::merged(all().map(|traffic| &traffic.service))?,
        lateness: is_open.then_some(lateness),
        sent_bytes: all().map(|traffic| traffic.sent_bytes).sum(),
        received_bytes: all().map(|traffic| traffic.received_bytes).sum(),
        connects: all().map(|traffic| traffic.connects).sum(),
    })
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{self, Read};
    use std::net::TcpListener;

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    use tempfile::TempDir;

    use super::super::tests::{Server, order};
    use super::*;

    /// Set for the copies of this test program that are to be generators.
    const IS_GENERATOR: &str = "PEACE_LOADTEST_IS_GENERATOR";

    /// Also the generators of the other tests: they start this program with this test.
    #[test]
    fn a_generator_without_an_order_says_so_and_fails() {
        if std::env::var_os(IS_GENERATOR).is_some() {
            let output = File::options().write(true).open("/proc/self/fd/3").unwrap();
            super::super::serve(io::stdin(), output);
            return;
        }
        let (mut lines, output) = io::pipe().unwrap();
        assert_eq!(super::super::serve(io::empty(), output), 1);
        let mut text = String::new();
        lines.read_to_string(&mut text).unwrap();
        assert_eq!(text, "{\"failed\":\"no order came\"}\n");
    }

    /// A program that does this. Another process writes it: what this one holds open for writing, if
    /// only for a moment, a child of another test may hold, too, and then nobody can execute it.
    fn program(folder: &TempDir, script: &str) -> std::path::PathBuf {
        let path = folder.path().join("generator");
        let mut write = Command::new("/bin/sh");
        write.args(["-c", "printf '#!/bin/sh\n%s\n' \"$1\" >\"$2\" && chmod 700 \"$2\"", "sh"]);
        assert!(write.arg(script).arg(&path).status().unwrap().success());
        path
    }

    /// The generator itself. What the test harness prints is not for the conductor.
    fn generator(folder: &TempDir) -> std::path::PathBuf {
        let ourselves = std::env::current_exe().unwrap();
        let test = "generator::process::tests::a_generator_without_an_order_says_so_and_fails";
        let script = format!(
            "exec 3>&1 >/dev/null\n{IS_GENERATOR}=1 exec '{}' --exact {test} --nocapture",
            ourselves.display()
        );
        program(folder, &script)
    }

    fn is_gone(pid: u32) -> bool {
        kill(Pid::from_raw(pid as i32), None::<Signal>).is_err()
    }

    #[test]
    fn generators_share_the_work_and_their_parts_make_the_whole() {
        let (folder, server) = (tempfile::tempdir().unwrap(), Server::answering());
        let order = Order { connections: 5, rate: Some(200.0), ..order(server.address, 1.0) };
        let mut load = Load::start(&generator(&folder), &order, 2).unwrap();
        let pids = load.pids();
        assert_eq!(pids.len(), 2);
        assert_eq!(load.next(Duration::ZERO).unwrap(), None);
        load.begin().unwrap();
        let first = load.next(Duration::from_secs(20)).unwrap().unwrap();
        assert_eq!((first.at_s, first.length_s), (0.0, 0.5));
        let ended = load.end().unwrap();
        let traffic = &ended.traffic;
        assert_eq!(traffic.ok + traffic.late + traffic.unsent, 200);
        assert_eq!((traffic.connects, server.connections()), (5, 5));
        assert_eq!(traffic.latency.count, 200);
        assert!(traffic.lateness.as_ref().unwrap().count > 0);
        assert_eq!(ended.windows.iter().map(|window| window.at_s).collect::<Vec<_>>(), [0.0, 0.5]);
        assert_eq!(ended.windows[0], first);
        assert_eq!(ended.windows.iter().map(|window| window.ok).sum::<u64>(), traffic.ok);
        assert!(pids.into_iter().all(is_gone));
    }

    #[test]
    fn a_load_that_is_given_up_leaves_no_process() {
        let (folder, server) = (tempfile::tempdir().unwrap(), Server::answering());
        let mut load = Load::start(&generator(&folder), &order(server.address, 60.0), 2).unwrap();
        load.begin().unwrap();
        let pids = load.pids();
        assert!(!pids.iter().any(|pid| is_gone(*pid)));
        drop(load);
        assert!(pids.into_iter().all(is_gone));
    }

    #[test]
    fn a_generator_that_dies_is_an_error_and_takes_the_others_with_it() {
        let (folder, server) = (tempfile::tempdir().unwrap(), Server::answering());
        let mut load = Load::start(&generator(&folder), &order(server.address, 60.0), 2).unwrap();
        load.begin().unwrap();
        let pids = load.pids();
        kill(Pid::from_raw(pids[0] as i32), Signal::SIGKILL).unwrap();
        let error = load.end().unwrap_err();
        assert!(matches!(error, LoadError::Ended(pid) if pid == pids[0]), "{error}");
        assert!(pids.into_iter().all(is_gone));
    }

    #[test]
    fn what_cannot_be_started_or_done_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let order = order(TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap(), 1.0);
        let start = |program: &Path, order: &Order| Load::start(program, order, 2).unwrap_err();
        let none = start(&folder.path().join("none"), &order);
        assert!(matches!(none, LoadError::Start(_)), "{none}");
        let error = start(&program(&folder, "echo hello"), &order);
        assert!(matches!(error, LoadError::Noise(_)), "{error}");
        let error = start(&program(&folder, "exit 0"), &order);
        assert!(matches!(error, LoadError::Ended(_)), "{error}");
        let error = start(&generator(&folder), &Order { duration_s: -1.0, ..order });
        assert!(error.to_string().contains("duration"), "{error}");
    }

    #[test]
    fn connections_and_rate_are_divided_without_a_rest() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let order = Order { connections: 5, rate: Some(100.0), ..order(server, 1.0) };
        let parts = shares(&order, 3);
        assert_eq!(parts.iter().map(|part| part.connections).collect::<Vec<_>>(), [2, 2, 1]);
        let rates: Vec<f64> = parts.iter().filter_map(|part| part.rate).collect();
        assert_eq!(rates, [40.0, 40.0, 20.0]);
        assert!(parts[0].seed != parts[1].seed && parts[1].seed != parts[2].seed);
        assert_eq!(shares(&order, 9).len(), 5, "none without a connection");
    }
}
