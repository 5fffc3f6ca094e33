//! The policy: what to do about what was observed.
//!
//! [`plan`] is pure: it reads and writes one [`State`] and answers with [`Action`]s. It forks
//! nothing, reads no clock and cannot fail, so every rule here is tested without a process, and a
//! seeded random history of a million steps checks what must always hold.
//!
//! Called by the loop, once per observation. The order of a turn: note the fact, then let the
//! phase decide what is missing. New behaviour is a new rule here.

use crate::channel::{Message, Order};
use crate::config::ProgramKind;
use crate::journal::Event;
use crate::state::{
    Attempts, Child, ChildId, Exit, Haste, Life, Outcome, Phase, Role, Roll, RollStep, State,
};

/// Exit code for "the system refused" (sysexits `EX_OSERR`).
pub(crate) const REFUSED: u8 = 71;
/// A child that was killed and is not reaped after this long is killed again.
const KILL_AGAIN_MS: u64 = 2_000;
/// Room for a child to notice its own deadline before the supervisor enforces it.
const ENFORCE_AFTER_MS: u64 = 500;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// The loop starts, or a deadline may have passed.
    Clock,
    /// An operator or the system sent a signal.
    Signal(Signal),
    /// A child said something.
    Message(ChildId, Message),
    /// A child was forked.
    Spawned(ChildId, i32),
    /// A child ended, or could not be forked.
    Exited(ChildId, Exit),
    /// The sockets are open, or were refused.
    Listening(Result<(), String>),
    /// The application has read its files again, or refuses them.
    Reloaded(Result<(), String>),
}

/// A request from outside, by what it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Stop gracefully (TERM, or HUP of a terminal that is gone).
    Stop,
    /// Stop quickly (INT, QUIT).
    Quit,
    /// Read the files again and replace all workers (HUP).
    Reload,
    /// Nothing in this version; carries its name.
    Other(&'static str),
}

/// Something to do. The loop does these in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Fork a child.
    Spawn(ChildId, Role),
    /// Send an order to a child.
    Send(ChildId, Order),
    /// Send a signal (its number) to a child.
    Signal(ChildId, i32),
    /// Send SIGKILL to a child.
    Kill(ChildId),
    /// Open the sockets.
    Listen,
    /// Close the supervisor's copies of the sockets: each worker empties its queue and closes the last
    /// one, so that a client who comes too late is refused at once and can go elsewhere.
    StopListening,
    /// Let the application read its files again.
    Reload,
    /// Tell the journal.
    Record(Event),
}

/// Decides. Answers what to do now; what to wait for is in the state.
pub fn plan(state: &mut State, now_ms: u64, observation: Observation) -> Vec<Action> {
    let mut turn = Turn { state, now_ms, actions: Vec::new() };
    match observation {
        Observation::Clock => {}
        Observation::Signal(signal) => turn.note_signal(signal),
        Observation::Message(child, Message::Ready) => turn.note_ready(child),
        Observation::Message(child, Message::BootFailed { code, text }) => {
            turn.note_boot_failure(child, code, text);
        }
        Observation::Spawned(child, pid) => turn.note_spawned(child, pid),
        Observation::Exited(child, exit) => turn.note_exit(child, exit),
        Observation::Listening(Ok(())) => turn.note_listening(),
        Observation::Listening(Err(text)) => turn.fail(REFUSED, text),
        Observation::Reloaded(Ok(())) => turn.begin_roll(),
        Observation::Reloaded(Err(reason)) => turn.record(Event::RollFailed { reason }),
    }
    turn.advance();
    turn.enforce_deadlines();
    turn.actions
}

/// One call of [`plan`].
struct Turn<'a> {
    state: &'a mut State,
    now_ms: u64,
    actions: Vec<Action>,
}

// What was observed.
impl Turn<'_> {
    fn note_signal(&mut self, signal: Signal) {
        match signal {
            Signal::Stop => self.begin_stop(Outcome::Drained, Haste::Graceful),
            Signal::Quit if self.haste() >= Some(Haste::Quick) => {
                self.begin_stop(Outcome::Forced, Haste::Now);
            }
            Signal::Quit => self.begin_stop(Outcome::Drained, Haste::Quick),
            Signal::Reload => self.note_reload(),
            Signal::Other(signal) => self.record(Event::SignalIgnored { signal }),
        }
    }

    /// One roll at a time: a request during a roll is remembered once, one during the start or the
    /// stop has nothing to replace.
    fn note_reload(&mut self) {
        match (&self.state.phase, &mut self.state.roll) {
            (Phase::Serve, Some(roll)) => roll.again = true,
            (Phase::Serve, None) => self.actions.push(Action::Reload),
            _ => self.record(Event::SignalIgnored { signal: "HUP" }),
        }
    }

    fn note_listening(&mut self) {
        if self.state.phase == Phase::Bind {
            self.state.phase = Phase::FirstStart;
        }
    }

    fn note_spawned(&mut self, id: ChildId, pid: i32) {
        let child = self.state.children.get_mut(&id).expect("only planned children are forked");
        child.pid = Some(pid);
        let role = child.role;
        self.record(Event::Spawned { role, pid });
    }

    fn note_ready(&mut self, id: ChildId) {
        let since_ms = self.now_ms;
        let Some(child) = self.state.children.get_mut(&id) else { return };
        let (Life::Booting { .. }, Role::Worker { .. }) = (child.life, child.role) else { return };
        child.life = Life::Serving { since_ms };
        child.served = true;
        let event = Event::Ready { role: child.role, pid: child.pid.unwrap_or_default() };
        self.record(event);
        self.retire_predecessor(id);
    }

    fn note_boot_failure(&mut self, id: ChildId, code: u8, text: String) {
        if let Some(child) = self.state.children.get_mut(&id) {
            child.boot_failure = Some((code, text));
        }
    }

    fn note_exit(&mut self, id: ChildId, exit: Exit) {
        let Some(child) = self.state.children.remove(&id) else { return };
        let restart_in_ms = match child.role {
            Role::Step { program } => self.note_step_end(program, &child, exit),
            Role::Service { program } => self.note_service_end(program, &child, exit),
            Role::Worker { slot, .. } => self.note_worker_end(id, slot, &child, exit),
        };
        self.record(Event::Exited {
            role: child.role,
            pid: child.pid.unwrap_or_default(),
            exit,
            expected: self.was_expected(&child, exit),
            reason: child.boot_failure.map(|(_, text)| text),
            restart_in_ms,
        });
    }

    fn was_expected(&self, child: &Child, exit: Exit) -> bool {
        let stopping = matches!(self.state.phase, Phase::Stop { .. });
        let done = matches!(child.role, Role::Step { .. }) && exit == Exit::Code(0);
        stopping || done || matches!(child.life, Life::Draining { .. })
    }

    fn note_step_end(&mut self, program: usize, child: &Child, exit: Exit) -> Option<u64> {
        match exit {
            Exit::Code(0) if self.state.phase == (Phase::Boot { program }) => {
                self.state.phase = Phase::Boot { program: program + 1 };
            }
            _ => self.fail_by(child, exit, "a step of the start failed"),
        }
        None
    }

    fn note_service_end(&mut self, program: usize, child: &Child, exit: Exit) -> Option<u64> {
        match self.state.phase {
            Phase::Boot { .. } | Phase::Bind | Phase::FirstStart => {
                self.fail_by(child, exit, "a service ended during the start");
                None
            }
            Phase::Serve => {
                let pause = self.pause(child, self.state.services[program].failures);
                self.state.services[program] = pause.clone();
                pause.restart_at_ms.map(|at| at - self.now_ms)
            }
            Phase::Stop { .. } | Phase::Over(_) => None,
        }
    }

    fn note_worker_end(
        &mut self,
        id: ChildId,
        slot: usize,
        child: &Child,
        exit: Exit,
    ) -> Option<u64> {
        self.state.slots[slot].last_exit = Some(exit);
        let asked = matches!(child.life, Life::Draining { .. });
        if !asked {
            self.state.slots[slot].restarts += 1;
        }
        match self.state.phase {
            Phase::FirstStart if !child.served => {
                self.fail_by(child, exit, "a worker ended before it was ready");
                None
            }
            Phase::Stop { .. } => {
                if child.served && exit != Exit::Code(0) {
                    self.worsen(Outcome::Forced);
                }
                None
            }
            _ => {
                self.note_roll_end(id, child, exit);
                self.refill(slot, child)
            }
        }
    }

    /// A worker died unasked: its slot is filled again, at once the first time.
    fn refill(&mut self, slot: usize, child: &Child) -> Option<u64> {
        if self.state.live_workers(slot).next().is_some() {
            return None;
        }
        let pause = self.pause(child, self.state.slots[slot].attempts.failures);
        self.state.slots[slot].attempts = pause.clone();
        pause.restart_at_ms.map(|at| at - self.now_ms)
    }

    /// The pause that `child`'s death earns, after `failures` early ones in a row.
    fn pause(&self, child: &Child, failures: u32) -> Attempts {
        let config = &self.state.config;
        let stable = match child.life {
            Life::Serving { since_ms } => self.now_ms - since_ms >= config.stable_after_ms,
            _ => false,
        };
        let failures = if stable { 0 } else { failures };
        let pause_ms = match failures {
            0 => 0,
            n => config
                .backoff_min_ms
                .saturating_mul(1_u64 << (n - 1).min(32))
                .min(config.backoff_max_ms),
        };
        let restart_at_ms = Some(self.now_ms + pause_ms);
        Attempts { failures: failures.saturating_add(1), restart_at_ms }
    }
}

// What follows from the phase.
impl Turn<'_> {
    /// Starts what is missing.
    fn advance(&mut self) {
        match self.state.phase {
            Phase::Boot { program } => self.advance_boot(program),
            Phase::Bind => {}
            Phase::FirstStart => self.advance_first_start(),
            Phase::Serve => {
                self.restart_services();
                self.fill_slots();
            }
            Phase::Stop { .. } => self.advance_stop(),
            Phase::Over(_) => {}
        }
    }

    /// Programs start in order: a step is waited for, a service is not.
    fn advance_boot(&mut self, program: usize) {
        match self.state.programs.get(program).cloned() {
            Some(ProgramKind::Step { timeout_ms }) => {
                if self.state.program_child(program).is_none() {
                    self.spawn(Role::Step { program }, timeout_ms);
                }
            }
            Some(ProgramKind::Service { .. }) => {
                self.spawn_service(program);
                self.state.phase = Phase::Boot { program: program + 1 };
                self.advance();
            }
            None => {
                self.state.phase = Phase::Bind;
                self.actions.push(Action::Listen);
            }
        }
    }

    fn advance_first_start(&mut self) {
        self.fill_slots();
        let serving =
            self.state.workers().filter(|(_, child)| matches!(child.life, Life::Serving { .. }));
        let workers = serving.count();
        if workers == self.state.slots.len() {
            self.state.phase = Phase::Serve;
            self.record(Event::Serving { workers });
        }
    }

    /// Forks a worker for every slot that has none and whose pause is over.
    fn fill_slots(&mut self) {
        for slot in 0..self.state.slots.len() {
            let due =
                self.state.slots[slot].attempts.restart_at_ms.is_none_or(|at| at <= self.now_ms);
            if due && self.state.fillers(slot).next().is_none() {
                self.spawn_worker(slot);
            }
        }
    }

    fn restart_services(&mut self) {
        for program in 0..self.state.services.len() {
            let due =
                self.state.services[program].restart_at_ms.is_some_and(|at| at <= self.now_ms);
            if due {
                self.state.services[program].restart_at_ms = None;
                self.spawn_service(program);
            }
        }
    }

    fn spawn_worker(&mut self, slot: usize) -> ChildId {
        let record = &mut self.state.slots[slot];
        record.attempts.restart_at_ms = None;
        record.generation += 1;
        let generation = record.generation;
        self.spawn(Role::Worker { slot, generation }, self.state.config.boot_timeout_ms)
    }

    /// A service says nothing when it is ready (it may exec): it serves from its fork on.
    fn spawn_service(&mut self, program: usize) {
        let id = self.spawn(Role::Service { program }, 0);
        let since_ms = self.now_ms;
        self.child(id).life = Life::Serving { since_ms };
    }

    fn spawn(&mut self, role: Role, timeout_ms: u64) -> ChildId {
        let id = self.state.next_child;
        self.state.next_child += 1;
        let life = Life::Booting { deadline_ms: self.now_ms + timeout_ms };
        self.state
            .children
            .insert(id, Child { pid: None, role, life, served: false, boot_failure: None });
        self.actions.push(Action::Spawn(id, role));
        id
    }
}

// Roll: one slot at a time, the successor first.
impl Turn<'_> {
    fn begin_roll(&mut self) {
        if self.state.phase == Phase::Serve {
            self.record(Event::Rolling);
            self.roll_slot(0);
        }
    }

    fn roll_slot(&mut self, slot: usize) {
        if slot == self.state.slots.len() {
            return self.end_roll();
        }
        let again = self.state.roll.as_ref().is_some_and(|roll| roll.again);
        // A slot in its pause gets its worker now, and that worker is the successor. One that is
        // still booting was forked from what `reload` replaced: it is replaced too, when ready.
        let waits_for = RollStep::Successor(self.spawn_worker(slot));
        self.state.roll = Some(Roll { slot, waits_for, again });
    }

    /// The successor is ready: its predecessor may go. Without one the roll goes on.
    fn retire_predecessor(&mut self, ready: ChildId) {
        let Some(Roll { slot, waits_for, again }) = self.state.roll else { return };
        if waits_for != RollStep::Successor(ready) {
            return;
        }
        let predecessor = self.state.fillers(slot).find(|(id, _)| *id != ready);
        match predecessor.map(|(id, child)| (id, child.life)) {
            Some((id, life)) => {
                if !matches!(life, Life::Killed { .. }) {
                    self.drain(id, Order::Drain, self.state.config.graceful_timeout_ms);
                }
                let waits_for = RollStep::Predecessor(id);
                self.state.roll = Some(Roll { slot, waits_for, again });
            }
            None => self.roll_slot(slot + 1),
        }
    }

    fn note_roll_end(&mut self, id: ChildId, child: &Child, exit: Exit) {
        let Some(Roll { slot, waits_for, .. }) = self.state.roll else { return };
        if waits_for == RollStep::Predecessor(id) {
            self.roll_slot(slot + 1);
        } else if waits_for == RollStep::Successor(id) {
            // What serves, serves on.
            self.state.roll = None;
            let reason = match &child.boot_failure {
                Some((_, text)) => text.clone(),
                None => format!("the new worker of slot {slot} ended with {exit}"),
            };
            self.record(Event::RollFailed { reason });
        }
    }

    fn end_roll(&mut self) {
        let again = self.state.roll.take().is_some_and(|roll| roll.again);
        self.record(Event::Rolled);
        if again {
            self.actions.push(Action::Reload);
        }
    }
}

// Stop: workers first, then the services, the last one started first.
impl Turn<'_> {
    /// Begins to stop, or hurries a stop that is under way.
    fn begin_stop(&mut self, outcome: Outcome, haste: Haste) {
        match &mut self.state.phase {
            Phase::Over(_) => return,
            Phase::Stop { haste: current, .. } if *current >= haste => return,
            Phase::Stop { haste: current, .. } => *current = haste,
            phase => *phase = Phase::Stop { outcome: outcome.clone(), haste },
        }
        // A failed start is told once, by whoever asked for it.
        if !matches!(outcome, Outcome::Failed { .. }) {
            self.record(Event::Stopping { haste });
        }
        self.worsen(outcome);
        self.actions.push(Action::StopListening);
        self.state.roll = None;
        for attempts in self.state.slots.iter_mut().map(|slot| &mut slot.attempts) {
            attempts.restart_at_ms = None;
        }
        for attempts in &mut self.state.services {
            attempts.restart_at_ms = None;
        }
        self.stop_workers(haste);
    }

    fn stop_workers(&mut self, haste: Haste) {
        let config = &self.state.config;
        let (graceful_ms, quick_ms) = (config.graceful_timeout_ms, config.quick_timeout_ms);
        let workers: Vec<_> = self.state.workers().map(|(id, child)| (id, child.life)).collect();
        for (id, life) in workers {
            match (life, haste) {
                (Life::Killed { .. }, _) => {}
                // One that boots has no client yet, and may not read its orders yet.
                (Life::Booting { .. }, _) | (_, Haste::Now) => self.kill(id),
                (_, Haste::Graceful) => self.drain(id, Order::Drain, graceful_ms),
                (_, Haste::Quick) => self.drain(id, Order::Quit, quick_ms),
            }
        }
    }

    fn advance_stop(&mut self) {
        if self.state.workers().next().is_some() {
            return;
        }
        let programs = self.state.children.iter();
        let last = programs.max_by_key(|(_, child)| child.role.program());
        match last.map(|(id, child)| (*id, child.role.program(), child.life)) {
            None => self.finish(),
            Some((id, Some(program), Life::Booting { .. } | Life::Serving { .. })) => {
                self.stop_program(id, program);
            }
            Some(_) => {}
        }
    }

    fn stop_program(&mut self, id: ChildId, program: usize) {
        match self.state.programs[program] {
            ProgramKind::Step { .. } => self.kill(id),
            ProgramKind::Service { stop_signal } => {
                self.actions.push(Action::Signal(id, stop_signal));
                let timeout_ms = self.state.config.service_stop_timeout_ms;
                self.child(id).life = Life::Draining { deadline_ms: self.now_ms + timeout_ms };
            }
        }
    }

    fn finish(&mut self) {
        if let Phase::Stop { outcome, .. } = &self.state.phase {
            self.state.phase = Phase::Over(outcome.clone());
        }
    }

    /// The start failed because `child` ended.
    fn fail_by(&mut self, child: &Child, exit: Exit, what: &str) {
        let (code, text) = match &child.boot_failure {
            Some((code, text)) => (*code, text.clone()),
            None => (REFUSED, format!("{what} ({})", describe(child.role, exit))),
        };
        self.fail(code, text);
    }

    fn fail(&mut self, code: u8, text: String) {
        self.begin_stop(Outcome::Failed { code, text }, Haste::Quick);
    }

    /// The first failure is the one to report; a forced stop is worse than a drained one.
    fn worsen(&mut self, new: Outcome) {
        if let Phase::Stop { outcome, .. } = &mut self.state.phase
            && *outcome == Outcome::Drained
        {
            *outcome = new;
        }
    }

    fn haste(&self) -> Option<Haste> {
        match self.state.phase {
            Phase::Stop { haste, .. } => Some(haste),
            _ => None,
        }
    }
}

// What the clock enforces.
impl Turn<'_> {
    fn enforce_deadlines(&mut self) {
        let late: Vec<_> = self
            .state
            .children
            .iter()
            .filter(|(_, child)| child.life.deadline_ms().is_some_and(|at| at <= self.now_ms))
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            let child = self.child(id);
            let event = Event::Killed { role: child.role, pid: child.pid.unwrap_or_default() };
            self.record(event);
            self.kill(id);
        }
    }

    fn drain(&mut self, id: ChildId, order: Order, timeout_ms: u64) {
        self.actions.push(Action::Send(id, order));
        let deadline_ms = self.now_ms + timeout_ms + ENFORCE_AFTER_MS;
        self.child(id).life = Life::Draining { deadline_ms };
    }

    fn kill(&mut self, id: ChildId) {
        self.actions.push(Action::Kill(id));
        let deadline_ms = self.now_ms + KILL_AGAIN_MS;
        self.child(id).life = Life::Killed { deadline_ms };
    }

    fn child(&mut self, id: ChildId) -> &mut Child {
        self.state.children.get_mut(&id).expect("ids come from this state")
    }

    fn record(&mut self, event: Event) {
        self.actions.push(Action::Record(event));
    }
}

fn describe(role: Role, exit: Exit) -> String {
    match role {
        Role::Worker { slot, .. } => format!("slot {slot}, {exit}"),
        Role::Step { .. } | Role::Service { .. } => exit.to_string(),
    }
}
