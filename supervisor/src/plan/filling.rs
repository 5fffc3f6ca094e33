//! What is started when: programs in their order, then a worker for every slot, and again whatever
//! died, after a pause that grows with its failures. Called by [`super::plan`].

use super::{Action, Turn};
use crate::config::ProgramKind;
use crate::journal::Event;
use crate::state::{Attempts, Child, ChildId, Life, Phase, Role};

impl Turn<'_> {
    /// Starts what is missing.
    pub(super) fn advance(&mut self) {
        match self.state.phase {
            Phase::Boot { program } => self.advance_boot(program),
            Phase::FirstStart => self.advance_first_start(),
            Phase::Serve | Phase::Delay { .. } => {
                self.restart_services();
                // A socket that is opened now would not know that nobody is let in any more.
                if !matches!(self.state.phase, Phase::Delay { refusing: true, .. }) {
                    self.adjust_slots();
                    self.begin_upgrade_that_waits();
                }
                self.fill_slots();
                self.answer_scaled();
            }
            Phase::Stop { .. } => self.advance_stop(),
            Phase::Bind | Phase::Over(_) => {}
        }
    }

    /// Programs start in order: a step is waited for, a service is not.
    fn advance_boot(&mut self, program: usize) {
        match self.state.programs.get(program).map(|spec| spec.kind.clone()) {
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
            self.begin_what_waits();
        }
    }

    /// Forks a worker for every slot that has none and whose pause is over.
    fn fill_slots(&mut self) {
        if self.state.paused {
            return;
        }
        for slot in 0..self.state.open_slots() {
            let restart_at_ms = self.state.slots[slot].attempts.restart_at_ms;
            let due = restart_at_ms.is_none_or(|at| at <= self.now_ms);
            if due && self.state.is_vacant(slot) {
                self.spawn_worker(slot);
            }
        }
    }

    fn restart_services(&mut self) {
        for program in 0..self.state.services.len() {
            let restart_at_ms = self.state.services[program].restart_at_ms;
            if restart_at_ms.is_some_and(|at| at <= self.now_ms) {
                self.state.services[program].restart_at_ms = None;
                self.spawn_service(program);
            }
        }
    }

    pub(super) fn spawn_worker(&mut self, slot: usize) -> ChildId {
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
        let child = self.child(id);
        child.life = Life::Serving { since_ms };
        child.ready_ms = Some(since_ms);
    }

    pub(super) fn spawn(&mut self, role: Role, timeout_ms: u64) -> ChildId {
        let id = self.state.next_child;
        self.state.next_child += 1;
        let life = Life::Booting { deadline_ms: self.now_ms + timeout_ms };
        let child = Child {
            pid: None,
            role,
            life,
            spawned_ms: self.now_ms,
            round: self.state.round,
            beat_ms: self.now_ms,
            silent: false,
            ready_ms: None,
            asked: false,
            leaves_unasked: false,
            boot_failure: None,
            worn_ms: None,
            passed: None,
        };
        self.state.children.insert(id, child);
        self.actions.push(Action::Spawn(id, role));
        id
    }

    /// A worker is gone and nobody is in its slot: it is filled again, at once the first time.
    pub(super) fn refill(&mut self, slot: usize, child: &Child) -> Option<u64> {
        // One that was asked to leave has not failed: the slot's record is its successor's.
        if child.asked || self.state.live_workers(slot).next().is_some() {
            return None;
        }
        // One that is being closed is not filled any more: a sibling serves who still waits there.
        if slot >= self.state.open_slots() || self.state.paused {
            return None;
        }
        let pause = self.pause(child, self.state.slots[slot].attempts.failures);
        self.state.slots[slot].attempts = pause.clone();
        pause.restart_at_ms.map(|at| at - self.now_ms)
    }

    /// The pause that `child`'s death earns, after `failures` early ones in a row.
    pub(super) fn pause(&self, child: &Child, failures: u32) -> Attempts {
        let config = &self.state.config;
        let served_ms = child.ready_ms.map_or(0, |at| self.now_ms.saturating_sub(at));
        let stable = child.served() && served_ms >= config.stable_after_ms;
        self.backoff(if stable { 0 } else { failures })
    }

    /// The pause after one more failure than `failures`.
    pub(super) fn backoff(&self, failures: u32) -> Attempts {
        let config = &self.state.config;
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
