//! The real program, started: what can be asked of it, and that nothing is left of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use peace::embedded::Cluster;

use super::client::{Reply, Request};
use super::declared;
use super::launch::Launch;
use super::log::{Event, Log};
use super::proc::{self, Process};
use super::wait::{pause, until, until_true};

/// How long a start may take before a test has failed. A debug build on a busy machine is slow.
const START: Duration = Duration::from_secs(30);
/// How long what is left of a program may take to leave.
const LEAVE: Duration = Duration::from_secs(2);

/// The program, started.
pub(crate) struct Peace {
    launch: Launch,
    child: Child,
    log: Log,
    started: Instant,
    /// Every process that was seen of it.
    family: BTreeSet<Process>,
}

/// How the program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) took: Duration,
    /// The lines of its standard error stream.
    pub(crate) lines: Vec<String>,
}

impl Peace {
    pub(super) fn start(launch: Launch) -> Self {
        let started = Instant::now();
        let (child, log) = launch.spawn();
        Self { launch, child, log, started, family: BTreeSet::new() }
    }

    pub(crate) fn await_serving(&self) {
        self.await_event("serving", 0, START, |event| event.is("serving"));
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("process ids are positive")
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// The folder it works in.
    pub(crate) fn folder(&self) -> &Path {
        self.launch.folder().path()
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        let listening = self.await_event("listening", 0, START, |event| event.is("listening"));
        let address = listening.text_of("address").expect("the event says where");
        address.parse().expect("an address with a port")
    }

    /// Where its admin process listens.
    pub(crate) fn admin_address(&self) -> SocketAddr {
        let fits = |event: &Event| event.is("metrics and status");
        let told = self.await_event("metrics and status", 0, START, fits);
        told.text_of("address").expect("the event says where").parse().expect("an address")
    }

    /// The process of each slot's worker, by what it last said to be ready.
    pub(crate) fn workers(&self) -> BTreeMap<i32, i32> {
        let events = self.log.events();
        let ready = events.iter().filter(|event| event.is_worker("ready"));
        ready
            .filter_map(|event| Some((event.number_of("slot")?, event.number_of("pid")?)))
            .collect()
    }

    /// The first event from log line number `from` on that `fits`.
    pub(crate) fn await_event(
        &self,
        what: &str,
        from: usize,
        limit: Duration,
        fits: impl Fn(&Event) -> bool,
    ) -> Event {
        self.log.await_event(what, from, limit, fits)
    }

    /// One request over a connection of its own, which has to be answered.
    pub(crate) fn ask(&self, request: &Request) -> Reply {
        self.try_ask(request).unwrap_or_else(|error| panic!("{request:?}: {error}"))
    }

    /// The same; the API document has to have declared what comes.
    pub(crate) fn ask_told(&self, request: &Request) -> Reply {
        let reply = self.ask(request);
        declared::check(request, &reply);
        reply
    }

    pub(crate) fn try_ask(&self, request: &Request) -> io::Result<Reply> {
        request.fresh(self.address())
    }

    /// Runs `peace-supervisor ctl` beside it.
    pub(crate) fn ctl<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_peace-supervisor"));
        command.arg("ctl").args(args).env_clear().current_dir(self.folder());
        command.stdin(Stdio::null()).output().expect("the program runs")
    }

    /// Runs another program beside it: the same user, folder and environment.
    pub(crate) fn beside<'a>(
        &self,
        program: &str,
        args: impl IntoIterator<Item = &'a str>,
    ) -> Output {
        self.launch.beside(program).args(args).output().expect("the program runs")
    }

    /// Signals the supervisor.
    pub(crate) fn signal(&self, signal: Signal) {
        signal_to(self.pid(), signal);
    }

    /// The database that it runs itself.
    pub(crate) fn embedded(&self) -> Cluster {
        let place = self.launch.embedded_place().expect("it was started with one");
        Cluster::new(place.clone()).expect("PostgreSQL is installed")
    }

    /// Kills the supervisor, and it alone.
    pub(crate) fn kill(&mut self) {
        self.family.extend(self.launch.processes());
        self.family.extend(proc::descendants(self.pid()));
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");
    }

    /// Waits until nothing runs any more of what was started, the database included.
    pub(crate) fn await_nothing_left(&mut self, limit: Duration) {
        let left = described(&self.leftovers(limit));
        assert!(left.is_empty(), "left after {limit:?}: {left}\n{}", self.log.tail());
    }

    /// What still runs after giving it up to `limit` to leave.
    fn leftovers(&mut self, limit: Duration) -> Vec<Process> {
        let start = Instant::now();
        loop {
            self.family.extend(self.launch.processes());
            self.family.retain(|process| process.is_alive());
            if self.family.is_empty() || start.elapsed() >= limit {
                return self.family.iter().copied().collect();
            }
            pause(Duration::from_millis(2));
        }
    }

    /// Starts it again in the same folder; the last one has to be gone.
    pub(crate) fn start_again(&mut self) {
        assert!(matches!(self.child.try_wait(), Ok(Some(_))), "it still runs");
        self.started = Instant::now();
        (self.child, self.log) = self.launch.spawn();
    }

    /// Starts another copy in the same folder, and waits for its end.
    pub(crate) fn second_copy(&self, limit: Duration) -> Ended {
        let started = Instant::now();
        let (mut child, log) = self.launch.spawn();
        let status = await_exit(&mut child, limit);
        Ended::new(status, started.elapsed(), &log)
    }

    /// Stops it gracefully.
    pub(crate) fn stop(&mut self, limit: Duration) -> Ended {
        self.signal(Signal::SIGTERM);
        self.end(limit)
    }

    /// Waits for its end; nothing may be left then.
    pub(crate) fn end(&mut self, limit: Duration) -> Ended {
        let status = await_exit(&mut self.child, limit);
        let took = self.started.elapsed();
        self.await_nothing_left(LEAVE);
        Ended::new(status, took, &self.log)
    }
}

fn await_exit(child: &mut Child, limit: Duration) -> ExitStatus {
    until("the program ends", limit, || child.try_wait().expect("it is our child"))
}

impl Ended {
    fn new(status: ExitStatus, took: Duration, log: &Log) -> Self {
        log.await_end(LEAVE);
        let lines = log.events().into_iter().map(|event| event.text).collect();
        Self { code: status.code(), took, lines }
    }
}

impl Drop for Peace {
    fn drop(&mut self) {
        let is_panicking = std::thread::panicking();
        if is_panicking {
            eprintln!("{}", self.log.tail());
        }
        // Its children follow by themselves: that is part of what is tested.
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
        }
        let left = self.leftovers(LEAVE);
        let told = described(&left);
        for process in left {
            let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
        }
        assert!(told.is_empty() || is_panicking, "processes were left: {told}");
    }
}

/// A signal that stops is heeded within this time.
const STOPPED_AFTER: Duration = Duration::from_secs(10);

/// Signals a process. A stop is waited for: one that runs on another processor goes on for a moment.
pub(crate) fn signal_to(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap_or_else(|error| panic!("{signal} to {pid}: {error}"));
    if signal == Signal::SIGSTOP {
        until_true("it is stopped", STOPPED_AFTER, || proc::is_stopped(pid));
    }
}

fn described(processes: &[Process]) -> String {
    let described: Vec<String> = processes
        .iter()
        .map(|process| format!("{} {}", process.pid, proc::command_line(process.pid)))
        .collect();
    described.join("; ")
}
