//! The loop: observe, plan, act.
//!
//! Called by the application's `main`. It observes (signals, messages, deaths, the clock), hands
//! each observation to [`plan`], and does what that decides. It waits in one place, for at most
//! until the next deadline. It has no opinion of its own.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::census::Census;
use crate::channel::{Message, Order};
use crate::child::{Post, settle};
use crate::clock::now_ms;
use crate::config::{Config, ProgramKind, SLOTS_MAX};
use crate::control::{Answer, Control, Request};
use crate::error::Error;
use crate::journal::{Event, Journal};
use crate::listener::{self, Listeners};
use crate::plan::{Action, Ask, Look, Observation, REFUSED, Reload, plan};
use crate::process::{Processes, Spawned};
use crate::scoreboard::Scoreboard;
use crate::signals::Signals;
use crate::state::{ChildId, ClientId, Exit, Outcome, Phase, ProgramSpec, Role, State};
use crate::sys;

/// Work of a child: runs in the forked process; its result is the exit code.
pub type Task<'a> = Box<dyn FnMut(Post) -> u8 + 'a>;

/// A program beside the workers.
pub struct Program<'a> {
    /// What people call it.
    pub name: &'static str,
    /// What to do when it fails without saying why, for example where its log is.
    pub hint: Option<String>,
    /// Step or service.
    pub kind: ProgramKind,
    /// What it does.
    pub task: Task<'a>,
}

/// What the application brings.
pub struct Work<'a> {
    /// Programs, in the order of their start: the sockets are opened behind the last one.
    pub programs: Vec<Program<'a>>,
    /// What a worker does.
    pub worker: Task<'a>,
    /// Reads the settings again (HUP), keeps them or goes back; runs in the supervisor. An error at
    /// reading refuses the reload; a number is how many workers the settings want now, where that is
    /// new.
    pub reload: Box<dyn FnMut(Reload) -> Result<Option<usize>, String> + 'a>,
    /// Where facts go.
    pub journal: &'a mut dyn Journal,
    /// What the program calls its version, for whoever asks.
    pub version: &'static str,
}

/// The supervisor, before it runs.
#[derive(Debug)]
pub struct Supervisor {
    config: Config,
    signals: Signals,
    epoll: Epoll,
    processes: Processes,
    listeners: Listeners,
    control: Option<Control>,
}

/// Why a turn of the loop ended early.
enum Detour {
    /// This process is a new child.
    Child(Post),
}

/// Exit code of a child whose task panicked, as Rust programs have it.
const PANICKED: u8 = 101;
/// How long a start waits for a predecessor that was killed: its workers leave within a second.
const PREDECESSOR_MS: u64 = 1_500;
/// How often it looks.
const PREDECESSOR_POLL_MS: u16 = 50;

/// Marks the signal descriptor in epoll; children have ids from 1.
const SIGNALS: u64 = 0;
/// Marks the control socket.
const CONTROL: u64 = u64::MAX;

impl Supervisor {
    /// Takes what the supervisor needs of the system. Forks nothing and opens no port, but refuses
    /// an address that is taken.
    ///
    /// From here on the signals it reacts to are blocked in this process.
    ///
    /// # Errors
    /// When the address is taken or the system refuses a descriptor.
    pub fn new(config: Config) -> Result<Self, Error> {
        if config.workers > SLOTS_MAX {
            return Err(Error::TooManyWorkers(config.workers));
        }
        let scoreboard =
            Scoreboard::new(config.cell_words).map_err(Error::system("memfd_create"))?;
        let signals = Signals::block().map_err(Error::system("signalfd"))?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .and_then(|epoll| {
                epoll.add(signals.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, SIGNALS))?;
                Ok(epoll)
            })
            .map_err(Error::system("epoll"))?;
        probe_patiently(config.bind, &epoll)?;
        let processes = Processes::new(scoreboard);
        Ok(Self {
            config,
            signals,
            epoll,
            processes,
            listeners: Listeners::default(),
            control: None,
        })
    }

    /// Answers requests at the socket `path`, as soon as it runs.
    ///
    /// # Errors
    /// When there can be no such socket; see [`Control::open`].
    pub fn open_control(&mut self, path: &Path) -> io::Result<()> {
        self.control = Some(Control::open(path, &self.epoll, CONTROL)?);
        Ok(())
    }

    /// Runs the programs, then the workers, until the end. In the children it never returns.
    ///
    /// # Errors
    /// When the loop itself cannot go on. Failures of children are part of the [`Outcome`].
    pub fn run(mut self, mut work: Work<'_>) -> Result<Outcome, Error> {
        let programs = work.programs.iter().map(Program::spec).collect();
        let mut state = State::new(self.config.clone(), programs);
        match self.supervise(&mut state, &mut work)? {
            Ok(outcome) => Ok(outcome),
            Err(Detour::Child(post)) => {
                // The child keeps nothing that is not its own: a copy of a sibling's channel would
                // hide the supervisor's death from that sibling, a copy of its listener would keep
                // connections queueing where nobody accepts.
                drop(self);
                let task = match post.role {
                    Role::Worker { .. } => &mut work.worker,
                    Role::Step { program } | Role::Service { program } => {
                        &mut work.programs[program].task
                    }
                };
                // A panic must not unwind into frames that are the parent's.
                let code = catch_unwind(AssertUnwindSafe(|| task(post))).unwrap_or(PANICKED);
                sys::leave(code)
            }
        }
    }

    fn supervise(
        &mut self,
        state: &mut State,
        work: &mut Work<'_>,
    ) -> Result<Result<Outcome, Detour>, Error> {
        let mut observations = VecDeque::from([Observation::Clock]);
        loop {
            while let Some(observation) = observations.pop_front() {
                for action in plan(state, now_ms(), observation) {
                    match self.act(action, work) {
                        Ok(observed) => observations.extend(observed),
                        Err(detour) => return Ok(Err(detour)),
                    }
                }
            }
            if let Phase::Over(outcome) = &state.phase {
                return Ok(Ok(outcome.clone()));
            }
            let asking = self.control.as_ref().and_then(Control::next_deadline_ms);
            self.wait(state.next_deadline_ms().into_iter().chain(asking).min())?;
            observations.extend(self.observe(state, work.version)?);
        }
    }

    /// Waits for a signal or a message, at most until `deadline_ms`.
    fn wait(&self, deadline_ms: Option<u64>) -> Result<(), Error> {
        let timeout = match deadline_ms {
            Some(at) => {
                EpollTimeout::try_from(at.saturating_sub(now_ms())).unwrap_or(EpollTimeout::MAX)
            }
            None => EpollTimeout::NONE,
        };
        match self.epoll.wait(&mut [EpollEvent::empty(); 16], timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(refused) => Err(Error::system("epoll_wait")(refused)),
        }
    }

    /// Everything that happened. What a child said comes before its death.
    fn observe(&mut self, state: &State, version: &str) -> Result<Vec<Observation>, Error> {
        let mut observed = Vec::new();
        while let Some(signal) = self.signals.next().map_err(Error::system("read of signalfd"))? {
            observed.push(Observation::Signal(signal));
        }
        let ended = self.processes.reap();
        let messages = self.processes.messages(&self.epoll);
        observed
            .extend(messages.into_iter().map(|(id, message)| Observation::Message(id, message)));
        for (id, exit) in ended {
            self.processes.forget(id);
            observed.push(Observation::Exited(id, exit));
        }
        observed.extend(self.requests(state, version));
        if state.watches() {
            observed.push(Observation::Looked(self.look(state)));
        }
        observed.push(Observation::Clock);
        Ok(observed)
    }

    /// What was asked on the control socket, but for what asks nothing of the plan.
    fn requests(&mut self, state: &State, version: &str) -> Vec<Observation> {
        let Some(control) = &mut self.control else { return Vec::new() };
        let mut asked = Vec::new();
        for (client, request) in control.requests(now_ms()) {
            let ask = match request {
                Request::Reload { wait } => Ask::Reload { wait },
                Request::Scale { workers, wait } => Ask::Scale { workers, wait },
                Request::Stop => Ask::Stop,
                Request::Status => {
                    let (processes, listeners) = (&self.processes, &self.listeners);
                    let census = Census { state, processes, listeners, now_ms: now_ms() };
                    control.answer(client, &Answer::Status(Box::new(census.take(version))));
                    continue;
                }
            };
            asked.push(Observation::Asked(client, ask));
        }
        asked
    }

    fn look(&self, state: &State) -> Look {
        let queue = |slot| (slot, self.listeners.queue_length(slot));
        let has_left =
            |client: &ClientId| self.control.as_ref().is_none_or(|control| !control.has(*client));
        let waiting = state.waiting.iter().map(|waiter| waiter.client);
        Look {
            beats: self.processes.beats(),
            queues: state.closing_slots().map(queue).collect(),
            gone: waiting.filter(has_left).collect(),
        }
    }

    fn act(&mut self, action: Action, work: &mut Work<'_>) -> Result<Vec<Observation>, Detour> {
        match action {
            Action::Spawn(id, role) => return self.spawn(id, role),
            Action::Send(id, order @ Order::Foster { slot }) => {
                if let Some(listener) = self.listeners.of(slot) {
                    self.processes.send_with(id, order, listener);
                }
            }
            Action::Send(id, order) => self.processes.send(id, order),
            Action::Signal(id, signal) => self.processes.signal(id, signal),
            Action::Kill(id) => self.processes.kill(id),
            Action::Listen => return Ok(vec![self.listen(work.journal)]),
            Action::StopListening => self.listeners.close(),
            Action::Open(slot) => {
                let opened = self.listeners.add(slot, self.config.backlog);
                let opened = opened.map_err(|refused| refused.to_string());
                return Ok(vec![Observation::Opened(slot, opened)]);
            }
            Action::Shut(slot) => self.listeners.shut(slot),
            Action::Steer(slots) => {
                let event = match self.listeners.steer(&slots) {
                    Ok(()) => Event::Steered { slots },
                    Err(refused) => Event::not_steered(&refused),
                };
                work.journal.record(&event);
            }
            Action::RefuseNew => {
                if let Err(refused) = self.listeners.refuse_new() {
                    work.journal.record(&Event::not_steered(&refused));
                }
            }
            Action::Answer(client, result) => {
                if let Some(control) = &mut self.control {
                    control.answer(client, &result.map_or_else(Answer::Failed, |()| Answer::Done));
                }
            }
            Action::Reload(Reload::Read) => {
                return Ok(vec![Observation::Reloaded((work.reload)(Reload::Read))]);
            }
            // Keeping and going back are memory only: nothing can refuse them.
            Action::Reload(done) => drop((work.reload)(done)),
            Action::Record(event) => work.journal.record(&event),
        }
        Ok(Vec::new())
    }

    fn spawn(&mut self, id: ChildId, role: Role) -> Result<Vec<Observation>, Detour> {
        match self.processes.spawn(id, role, &self.epoll) {
            Ok(Spawned::Parent(pid)) => Ok(vec![Observation::Spawned(id, pid)]),
            Ok(Spawned::Child { channel, cell, supervisor }) => {
                if let Err(refused) = settle(role, supervisor) {
                    let text = format!("a new process could not settle: {refused}");
                    channel.send(&Message::BootFailed { code: REFUSED, text });
                    sys::leave(REFUSED);
                }
                let listeners = self.take_listeners(role);
                let supervisor = supervisor.as_raw();
                Err(Detour::Child(Post { role, listeners, channel, cell, supervisor }))
            }
            Err(refused) => {
                let text = format!("fork was refused: {refused}");
                let why = Message::BootFailed { code: REFUSED, text };
                Ok(vec![Observation::Message(id, why), Observation::Exited(id, Exit::NotForked)])
            }
        }
    }

    /// In the child: its slot's socket. The rest is dropped with the supervisor's copy.
    fn take_listeners(&mut self, role: Role) -> Vec<TcpListener> {
        match role {
            Role::Worker { slot, .. } => self.listeners.take(slot).into_iter().collect(),
            Role::Step { .. } | Role::Service { .. } => Vec::new(),
        }
    }

    fn listen(&mut self, journal: &mut dyn Journal) -> Observation {
        let Config { bind, workers, backlog, .. } = self.config;
        match Listeners::open(bind, workers, backlog) {
            Ok(listeners) => {
                let address = listeners.address().unwrap_or(bind);
                journal.record(&Event::Listening { address, slots: workers });
                self.listeners = listeners;
                Observation::Listening(Ok(()))
            }
            Err(refused) => Observation::Listening(Err(refused.to_string())),
        }
    }
}

impl Program<'_> {
    fn spec(&self) -> ProgramSpec {
        ProgramSpec { name: self.name.to_owned(), hint: self.hint.clone(), kind: self.kind.clone() }
    }
}

/// Refuses an address that is taken, and stays so: orphans of a killed supervisor give it up by
/// themselves. A signal ends the wait.
fn probe_patiently(address: SocketAddr, epoll: &Epoll) -> Result<(), Error> {
    let give_up_ms = now_ms() + PREDECESSOR_MS;
    loop {
        let refused = match listener::probe(address) {
            Err(refused @ Error::AddressInUse(_)) if now_ms() < give_up_ms => refused,
            result => return result,
        };
        if epoll.wait(&mut [EpollEvent::empty()], PREDECESSOR_POLL_MS) != Ok(0) {
            return Err(refused);
        }
    }
}
