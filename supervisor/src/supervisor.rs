//! The loop: observe, plan, act.
//!
//! Called by the application's `main`. It observes (signals, messages, deaths, the clock), hands
//! each observation to [`plan`], and does what that decides. It waits in one place, for at most
//! until the next deadline. It has no opinion of its own.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollTimeout};

use crate::activation::{Activated, activate, kept_name};
use crate::bind::Bind;
use crate::census;
use crate::channel::{Message, Order};
use crate::child::{Post, settle};
use crate::clock::now_ms;
use crate::config::{Config, ProgramKind, SLOTS_MAX};
use crate::control::{Answer, Control, Request};
use crate::error::Error;
use crate::journal::{Event, Journal};
use crate::listener::{self, Listeners};
use crate::notify::Notify;
use crate::plan::{Action, Ask, Look, Observation, REFUSED, Reload, Wear, plan};
use crate::process::{Processes, Spawned};
use crate::scoreboard::Scoreboard;
use crate::shared::Ports;
use crate::signals::Signals;
use crate::start::{Inheritance, Start};
use crate::state::{
    Child, ChildId, ClientId, Exit, Outcome, Phase, ProgramSpec, Role, Slot, State, Upgrade,
};
use crate::status::rss_bytes;
use crate::sys;
use crate::takeover::{changed, watch};

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
    pub(crate) config: Config,
    pub(crate) signals: Signals,
    pub(crate) epoll: Epoll,
    pub(crate) processes: Processes,
    pub(crate) listeners: Listeners,
    /// By program: the sockets of services, which outlive them as a slot's outlives its workers.
    pub(crate) service_listeners: BTreeMap<&'static str, TcpListener>,
    pub(crate) control: Option<Control>,
    pub(crate) wants_control: bool,
    /// What the application keeps over an upgrade, by its own names.
    pub(crate) entrusted: BTreeMap<String, OwnedFd>,
    /// What is still to be taken over.
    inheritance: Option<Inheritance>,
    pub(crate) notify: Notify,
    /// The program before this one, as long as it may have to come back.
    pub(crate) predecessor: Option<OwnedFd>,
    /// The scoreboard is a new one: the program before has counted other things.
    pub(crate) counts_begin_at_zero: bool,
}

/// Why a turn of the loop ended early.
enum Detour {
    /// This process is a new child.
    Child(Box<Post>),
}

/// What an action leads to.
type Acted = Result<Vec<Observation>, Detour>;

/// Exit code of a child whose task panicked, as Rust programs have it.
const PANICKED: u8 = 101;
/// How long a start waits for a predecessor that was killed: its workers leave within a second.
const PREDECESSOR_MS: u64 = 1_500;
/// How often it looks.
const PREDECESSOR_POLL_MS: u16 = 50;

/// Marks the signal descriptor in epoll; children have ids from 1.
pub(crate) const SIGNALS: u64 = 0;
/// Marks the control socket.
pub(crate) const CONTROL: u64 = u64::MAX;

impl Supervisor {
    /// Takes what the supervisor needs of the system. Forks nothing and opens no port, but refuses
    /// an address that is taken. In an upgrade it takes over what there is.
    ///
    /// From here on the signals it reacts to are blocked in this process.
    ///
    /// # Errors
    /// When the address is taken, the system refuses a descriptor, or what there is does not fit.
    pub fn new(config: Config, start: &Start) -> Result<Self, Error> {
        if config.workers > SLOTS_MAX {
            return Err(Error::TooManyWorkers(config.workers));
        }
        if let Some(left) = start.inheritance().map_err(Error::Takeover)? {
            return Self::heir(config, left, start);
        }
        let scoreboard = Scoreboard::new(config.cells).map_err(Error::system("memfd_create"))?;
        let (signals, epoll) = watch(Signals::block())?;
        let processes = Processes::new(scoreboard);
        let activated = activate(start.take_sockets(), &config.bind);
        let Activated { listeners, closed } = activated.map_err(Error::system("LISTEN_FDS"))?;
        let notify = Notify::of(start);
        closed.iter().for_each(|name| notify.forget(name));
        listeners.queue_again(config.backlog).map_err(Error::system("listen"))?;
        if listeners.slots() > SLOTS_MAX {
            return Err(Error::TooManyWorkers(listeners.slots()));
        }
        if !listeners.are_open() {
            probe_patiently(&config.bind, &epoll)?;
        }
        Ok(Self::of(config, (signals, epoll), processes, listeners, notify, None))
    }

    pub(crate) fn of(
        config: Config,
        (signals, epoll): (Signals, Epoll),
        processes: Processes,
        listeners: Listeners,
        notify: Notify,
        inheritance: Option<Inheritance>,
    ) -> Self {
        Self {
            config,
            signals,
            epoll,
            processes,
            listeners,
            notify,
            inheritance,
            service_listeners: BTreeMap::new(),
            control: None,
            wants_control: false,
            entrusted: BTreeMap::new(),
            predecessor: None,
            counts_begin_at_zero: false,
        }
    }

    /// Keeps a descriptor over an upgrade: the next program finds it by [`Start::inherited`]. The
    /// children do not have it.
    pub fn entrust(&mut self, name: &str, descriptor: OwnedFd) {
        self.entrusted.insert(name.to_owned(), descriptor);
    }

    /// Answers requests at the socket `path`, as soon as it runs.
    ///
    /// # Errors
    /// When there can be no such socket; see [`Control::open`].
    pub fn open_control(&mut self, path: &Path) -> io::Result<()> {
        self.wants_control = true;
        match &self.inheritance {
            None => self.control = Some(Control::open(path, &self.epoll, CONTROL)?),
            Some(left) => {
                let control = left.heritage.control.as_ref();
                if control.is_some_and(|control| control.name.0 != path) {
                    return Err(io::Error::other(changed("control")));
                }
            }
        }
        Ok(())
    }

    /// Opens a socket for the service `program`, and keeps it whatever becomes of that: each process of
    /// it finds a copy in its [`Post`]. In an upgrade it is the one that there is, unless the address has
    /// changed. Gives the address, with the real port.
    ///
    /// # Errors
    /// When the address is taken, or the system refuses.
    pub fn listen_for(
        &mut self,
        program: &'static str,
        address: SocketAddr,
    ) -> Result<SocketAddr, Error> {
        let left = self.inheritance.as_mut().and_then(|left| left.listener_of(program, address));
        let listener = left.map_or_else(|| listener::listen_alone(address), Ok)?;
        let address = listener.local_addr().unwrap_or(address);
        self.service_listeners.insert(program, listener);
        Ok(address)
    }

    /// Runs the programs, then the workers, until the end. In the children it never returns.
    ///
    /// # Errors
    /// When the loop itself cannot go on. Failures of children are part of the [`Outcome`].
    pub fn run(mut self, mut work: Work<'_>, start: &Start) -> Result<Outcome, Error> {
        let (mut state, first) = self.begin(&work, start)?;
        if self.counts_begin_at_zero {
            work.journal.record(&Event::CountsBegin);
        }
        match self.supervise(&mut state, &mut work, first, start)? {
            Ok(outcome) => Ok(outcome),
            Err(Detour::Child(post)) => {
                if post.role == Role::PreFlight {
                    let refused = self.try_out(&state, start, &post.channel);
                    sys::leave(post.fail(REFUSED, format!("cannot run {refused}")));
                }
                // The child keeps nothing that is not its own: a copy of a sibling's channel would
                // hide the supervisor's death from that sibling, a copy of its listener would keep
                // connections queueing where nobody accepts.
                drop(self);
                let task = match post.role {
                    Role::Worker { .. } => &mut work.worker,
                    Role::Step { program } | Role::Service { program } => {
                        &mut work.programs[program].task
                    }
                    Role::PreFlight => sys::leave(REFUSED),
                };
                // A panic must not unwind into frames that are the parent's.
                let code = catch_unwind(AssertUnwindSafe(|| task(*post))).unwrap_or(PANICKED);
                sys::leave(code)
            }
        }
    }

    /// A state of its own, or the one of the program before.
    fn begin(&mut self, work: &Work<'_>, start: &Start) -> Result<(State, Observation), Error> {
        let programs = work.programs.iter().map(Program::spec).collect();
        let Some(left) = self.inheritance.take() else {
            let mut state = State::new(self.config.clone(), programs);
            // Those that are too many are closed as in any scaling, when nobody waits there; but not what
            // others opened.
            state.workers_min = self.listeners.given().max(1);
            state.target = state.target.max(state.workers_min);
            let count = self.listeners.slots().max(state.slots.len());
            state.slots.resize_with(count, Slot::default);
            return Ok((state, Observation::Clock));
        };
        // Before this supervisor is dropped: the files it would remove are still the other's.
        let refuse = |refused: &Error| start.refuse(REFUSED, &refused.to_string());
        self.succeed(left, programs, work.version, start).inspect_err(refuse)
    }

    fn supervise(
        &mut self,
        state: &mut State,
        work: &mut Work<'_>,
        first: Observation,
        start: &Start,
    ) -> Result<Result<Outcome, Detour>, Error> {
        let mut observations = VecDeque::from([first, Observation::Clock]);
        loop {
            while let Some(observation) = observations.pop_front() {
                for action in plan(state, now_ms(), observation) {
                    match self.act(action, state, work) {
                        Ok(observed) => observations.extend(observed),
                        Err(detour) => return Ok(Err(detour)),
                    }
                }
            }
            if state.hands_over() {
                observations.push_back(Observation::StayedOn(self.become_other(state, start)));
                continue;
            }
            if let Phase::Over(outcome) = &state.phase {
                return Ok(Ok(outcome.clone()));
            }
            census::note(state, &self.processes, &self.listeners);
            let asking = self.control.as_ref().and_then(Control::next_deadline_ms);
            let telling = self.notify.next_deadline_ms(state);
            self.wait(state.next_deadline_ms().into_iter().chain(asking).chain(telling).min())?;
            self.notify.turn(state);
            observations.extend(self.observe(state, work.version)?);
        }
    }

    /// Becomes another program. Returns only why not.
    fn become_other(&self, state: &State, start: &Start) -> String {
        match state.upgrade {
            Some(Upgrade::HandBack { .. }) => self.hand_back(state, start).to_string(),
            _ => format!("cannot run {}", self.hand_over(state, start)),
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
        let (mut asked, mut curious) = (Vec::new(), Vec::new());
        for (client, request) in control.requests(now_ms()) {
            let ask = match request {
                Request::Reload { wait } => Ask::Reload { wait },
                Request::Scale { workers, wait } => Ask::Scale { workers, wait },
                Request::Upgrade { wait } => Ask::Upgrade { wait },
                Request::Stop => Ask::Stop,
                Request::Status => {
                    curious.push(client);
                    continue;
                }
            };
            asked.push(Observation::Asked(client, ask));
        }
        for client in curious {
            control.answer(client, &status(state, &self.processes, &self.listeners, version));
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
            wear: self.wear(state),
            gone: waiting.filter(has_left).collect(),
        }
    }

    /// How much the workers are worn, where anybody asks.
    fn wear(&self, state: &State) -> Vec<(ChildId, Wear)> {
        let limits = &state.config.recycling;
        if !limits.is_on() {
            return Vec::new();
        }
        let wear = |(id, child): (ChildId, &Child)| {
            let requests = self.processes.requests(id);
            let rss_bytes = match (limits.rss_bytes_max, child.pid) {
                (Some(_), Some(pid)) => rss_bytes(pid),
                _ => 0,
            };
            (id, Wear { requests, rss_bytes })
        };
        state.workers().map(wear).collect()
    }

    fn act(&mut self, action: Action, state: &State, work: &mut Work<'_>) -> Acted {
        match action {
            Action::Spawn(id, role) => return self.spawn(id, role, state, &work.programs),
            Action::Send(id, order @ Order::Foster { slot }) => {
                if let Some(listener) = self.listeners.of(slot) {
                    self.processes.send_with(id, order, listener);
                }
            }
            Action::Send(id, Order::Reopen) => match work.journal.file() {
                Some(file) => self.processes.send_with(id, Order::Reopen, &file),
                None => self.processes.send(id, Order::Reopen),
            },
            Action::Send(id, order) => self.processes.send(id, order),
            Action::Signal(id, signal) => self.processes.signal(id, signal),
            Action::Kill(id) => self.processes.kill(id),
            Action::Listen => return Ok(vec![self.listen(work.journal)]),
            Action::StopListening => self.stop_listening(),
            Action::LeaveListening if self.listeners.is_kept() => self.listeners.close(),
            Action::LeaveListening => self.stop_listening(),
            Action::Open(slot) => {
                let opened = self.listeners.add(slot, self.config.backlog);
                self.store(slot);
                let opened = opened.map_err(|refused| refused.to_string());
                return Ok(vec![Observation::Opened(slot, opened)]);
            }
            Action::Shut(slot) => {
                self.listeners.shut(slot);
                self.notify.forget(&kept_name(slot));
            }
            Action::Steer(slots) => {
                let event = match self.listeners.steer(&slots) {
                    Ok(()) => Event::Steered { slots },
                    Err(refused) => Event::not_steered(&refused),
                };
                self.tell(&event, work);
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
                self.notify.reloading();
                return Ok(vec![Observation::Reloaded((work.reload)(Reload::Read))]);
            }
            // Keeping and going back are memory only: nothing can refuse them.
            Action::Reload(done) => drop((work.reload)(done)),
            Action::Commit => self.predecessor = None,
            Action::Record(event) => self.tell(&event, work),
        }
        Ok(Vec::new())
    }

    /// Counts a fact, and tells the journal.
    fn tell(&mut self, event: &Event, work: &mut Work<'_>) {
        self.processes.count(event);
        self.notify.tell(event, &self.config);
        work.journal.record(event);
    }

    fn spawn(&mut self, id: ChildId, role: Role, state: &State, programs: &[Program<'_>]) -> Acted {
        match self.processes.spawn(id, role, &self.epoll) {
            Ok(Spawned::Parent(pid)) => Ok(vec![Observation::Spawned(id, pid)]),
            Ok(Spawned::Child { channel, cell, supervisor }) => {
                if let Err(refused) = settle(role, supervisor) {
                    let text = format!("a new process could not settle: {refused}");
                    channel.send(&Message::BootFailed { code: REFUSED, text });
                    sys::leave(REFUSED);
                }
                let ports = self.take_listeners(role, programs);
                let Ok(Ports { tcp: listeners, unix: unix_listeners }) = ports else {
                    let text = "no descriptor is left for a socket".to_owned();
                    channel.send(&Message::BootFailed { code: REFUSED, text });
                    sys::leave(REFUSED);
                };
                let supervisor = supervisor.as_raw();
                let board = self.processes.scoreboard().board();
                let replaces = state.is_served_by_another(role);
                let post = Post {
                    role,
                    listeners,
                    unix_listeners,
                    channel,
                    cell,
                    board,
                    replaces,
                    supervisor,
                };
                Err(Detour::Child(Box::new(post)))
            }
            Err(refused) => {
                let text = format!("fork was refused: {refused}");
                let why = Message::BootFailed { code: REFUSED, text };
                Ok(vec![Observation::Message(id, why), Observation::Exited(id, Exit::NotForked)])
            }
        }
    }

    /// In the child: the socket of its slot or of its service. The rest is dropped with the supervisor's
    /// copy.
    fn take_listeners(&mut self, role: Role, programs: &[Program<'_>]) -> io::Result<Ports> {
        let service = match role {
            Role::Worker { slot, .. } => return self.listeners.take(slot),
            Role::Service { program } => self.service_listeners.remove(programs[program].name),
            Role::Step { .. } | Role::PreFlight => None,
        };
        Ok(Ports { tcp: service.into_iter().collect(), ..Ports::default() })
    }

    /// Lets the service manager keep a copy, unless it has its own.
    fn store(&self, slot: usize) {
        if let Some(socket) = self.listeners.to_keep(slot) {
            self.notify.store(slot, socket);
        }
    }

    fn stop_listening(&mut self) {
        // Its name goes: who starts next could not be found there.
        if self.listeners.has_name() {
            self.notify.forget(&kept_name(0));
        }
        self.listeners.withdraw();
        self.listeners.close();
    }

    fn listen(&mut self, journal: &mut dyn Journal) -> Observation {
        let Config { workers, backlog, ref bind, .. } = self.config;
        let opened = match self.listeners.are_open() {
            false => Listeners::open(bind, workers, backlog).map(|opened| self.listeners = opened),
            true => self.listeners.fill(workers, backlog),
        };
        match opened {
            Ok(()) => {
                let addresses: Vec<String> =
                    self.listeners.addresses().iter().map(Bind::to_string).collect();
                let slots = self.listeners.count();
                journal.record(&Event::Listening { address: addresses.join(", "), slots });
                (0..slots).for_each(|slot| self.store(slot));
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

/// How everything is, now.
fn status(state: &State, processes: &Processes, listeners: &Listeners, version: &str) -> Answer {
    census::note(state, processes, listeners);
    let programs: Vec<&str> = state.programs.iter().map(|spec| spec.name.as_str()).collect();
    match processes.scoreboard().board().snapshot() {
        Some(snapshot) => Answer::Status(Box::new(snapshot.status(version, &programs))),
        None => Answer::Failed("the scoreboard cannot be read".to_owned()),
    }
}

/// Refuses an address that is taken, and stays so: orphans of a killed supervisor give it up by
/// themselves. A signal ends the wait.
fn probe_patiently(bind: &Bind, epoll: &Epoll) -> Result<(), Error> {
    let give_up_ms = now_ms() + PREDECESSOR_MS;
    loop {
        let refused = match listener::probe(bind) {
            Err(refused @ Error::AddressInUse(_)) if now_ms() < give_up_ms => refused,
            result => return result,
        };
        if epoll.wait(&mut [EpollEvent::empty()], PREDECESSOR_POLL_MS) != Ok(0) {
            return Err(refused);
        }
    }
}
