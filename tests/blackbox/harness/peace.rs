//! The real program: how it is started, what can be asked of it, and that nothing is left of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use peace::embedded::{Cluster, Place};

use super::client::{Reply, Request};
use super::database::Database;
use super::folder::Folder;
use super::log::{Event, Log};
use super::proc::{self, Process};
use super::turn::Turn;
use super::wait::{pause, until};

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_peace-supervisor");
/// How long a start may take before a test has failed. A debug build on a busy machine is slow.
const START: Duration = Duration::from_secs(20);
/// How long what is left of a program may take to leave.
const LEAVE: Duration = Duration::from_secs(2);

/// How to start a program: in an environment that holds only what the test puts there.
pub(crate) struct Launch {
    program: &'static str,
    folder: Folder,
    embedded: Option<Place>,
    args: Vec<String>,
    env: Vec<(String, String)>,
}

impl Launch {
    /// Without any setting.
    pub(crate) fn bare(_turn: &Turn) -> Self {
        Self {
            program: PROGRAM,
            folder: Folder::new(),
            embedded: None,
            args: Vec::new(),
            env: Vec::new(),
        }
    }

    /// On `database`, at a port of the system's choice.
    pub(crate) fn on(turn: &Turn, database: &Database<'_>) -> Self {
        Self::bare(turn).env("DATABASE_URL", &database.url()).usual()
    }

    /// On a database that the program runs itself.
    pub(crate) fn embedded(turn: &Turn) -> Self {
        Self::bare(turn).with_embedded().usual()
    }

    /// Another program than the server.
    pub(crate) fn program(mut self, program: &'static str) -> Self {
        self.program = program;
        self
    }

    /// Sees to it that the embedded database is watched, and removed at the end.
    pub(crate) fn with_embedded(mut self) -> Self {
        let place = Place::of_project(self.folder.path()).expect("a place for the data");
        self.embedded = Some(place);
        self
    }

    fn usual(self) -> Self {
        self.args(["--bind", "127.0.0.1:0", "--pool-size", "2", "--log-format", "json"])
    }

    pub(crate) fn args<'a>(mut self, args: impl IntoIterator<Item = &'a str>) -> Self {
        self.args.extend(args.into_iter().map(str::to_owned));
        self
    }

    pub(crate) fn workers(self, count: usize) -> Self {
        self.args(["--workers", &count.to_string()])
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The folder it works in.
    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Starts it and waits until it serves.
    pub(crate) fn serve(self) -> Peace {
        let peace = self.start();
        peace.await_event("serving", 0, START, |event| event.is("serving"));
        peace
    }

    /// Starts it.
    pub(crate) fn start(self) -> Peace {
        let started = Instant::now();
        let (child, log) = self.spawn();
        Peace { launch: self, child, log, started, family: BTreeSet::new() }
    }

    /// Runs it to its end, which has to come within `limit`.
    pub(crate) fn run(self, limit: Duration) -> Ended {
        self.start().end(limit)
    }

    /// Runs it for what it prints.
    pub(crate) fn output(&self) -> Output {
        self.command().output().expect("the program runs")
    }

    fn spawn(&self) -> (Child, Log) {
        let mut child = self.command().stdout(Stdio::null()).spawn().expect("the program runs");
        let log = Log::read(child.stderr.take().expect("standard error is a pipe"));
        (child, log)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.program);
        command.args(&self.args).env_clear().current_dir(self.folder.path());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("XDG_RUNTIME_DIR", self.folder.path());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// What runs of anything started here.
    fn processes(&self) -> impl Iterator<Item = Process> {
        let folders = [Some(self.folder.path()), self.embedded.as_ref().map(Place::base)];
        folders.into_iter().flatten().flat_map(proc::working_in)
    }
}

impl Drop for Launch {
    fn drop(&mut self) {
        if let Some(place) = &self.embedded {
            // Inside our own folder unless we are root; then it is gone with that.
            let _ = std::fs::remove_dir_all(place.base());
        }
    }
}

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
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("process ids are positive")
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        let listening = self.await_event("listening", 0, START, |event| event.is("listening"));
        let address = listening.text_of("address").expect("the event says where");
        address.parse().expect("an address with a port")
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

    pub(crate) fn try_ask(&self, request: &Request) -> io::Result<Reply> {
        request.fresh(self.address())
    }

    /// Signals the supervisor.
    pub(crate) fn signal(&self, signal: Signal) {
        signal_to(self.pid(), signal);
    }

    /// The database that it runs itself.
    pub(crate) fn embedded(&self) -> Cluster {
        let place = self.launch.embedded.clone().expect("it was started with one");
        Cluster::new(place).expect("PostgreSQL is installed")
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

    /// Stops it gracefully.
    pub(crate) fn stop(self, limit: Duration) -> Ended {
        self.signal(Signal::SIGTERM);
        self.end(limit)
    }

    /// Waits for its end; nothing may be left then.
    pub(crate) fn end(mut self, limit: Duration) -> Ended {
        let status = self.await_exit(limit);
        let took = self.started.elapsed();
        self.await_nothing_left(LEAVE);
        self.log.await_end(LEAVE);
        let lines = self.log.events().into_iter().map(|event| event.text).collect();
        Ended { code: status.code(), took, lines }
    }

    fn await_exit(&mut self, limit: Duration) -> ExitStatus {
        until("the program ends", limit, || self.child.try_wait().expect("it is our child"))
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

pub(crate) fn signal_to(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap_or_else(|error| panic!("{signal} to {pid}: {error}"));
}

fn described(processes: &[Process]) -> String {
    let described: Vec<String> = processes
        .iter()
        .map(|process| format!("{} {}", process.pid, proc::command_line(process.pid)))
        .collect();
    described.join("; ")
}
