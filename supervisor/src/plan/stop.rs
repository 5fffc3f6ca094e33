//! The stop: workers first, then the services, the last one started first. It can only get hastier.
//! Called by [`super::plan`].

use super::{Action, REFUSED, Turn};
use crate::channel::Order;
use crate::config::ProgramKind;
use crate::journal::Event;
use crate::state::{Child, ChildId, Exit, Haste, Life, Outcome, Phase, Role};

impl Turn<'_> {
    /// Begins to stop, or hurries a stop that is under way.
    pub(super) fn begin_stop(&mut self, outcome: Outcome, haste: Haste) {
        let delayed = matches!(self.state.phase, Phase::Delay { .. }) && haste == Haste::Graceful;
        match &mut self.state.phase {
            Phase::Over(_) => return,
            Phase::Stop { haste: current, .. } if *current >= haste => return,
            Phase::Stop { haste: current, .. } => *current = haste,
            phase => *phase = Phase::Stop { outcome: outcome.clone(), haste },
        }
        self.answer_waiting(|_| Some(Err("the supervisor is stopping".to_owned())));
        // A failed start is told once, by whoever asked for it; a delay has told it already.
        if !matches!(outcome, Outcome::Failed { .. }) && !delayed {
            self.record(Event::Stopping { haste });
        }
        self.worsen(outcome);
        if haste == Haste::Graceful {
            self.foster_all();
        }
        self.stop_listening();
        self.start_nothing_more();
        self.stop_workers(haste);
        if haste == Haste::Now {
            self.hurry_services();
        }
    }

    pub(super) fn stop_listening(&mut self) {
        let outcome = match &self.state.phase {
            Phase::Stop { outcome, .. } | Phase::Over(outcome) => outcome,
            _ => return,
        };
        self.actions.push(match outcome {
            Outcome::Failed { .. } => Action::LeaveListening,
            _ => Action::StopListening,
        });
    }

    fn start_nothing_more(&mut self) {
        self.state.roll = None;
        self.state.recycle = None;
        self.drop_upgrade();
        for slot in &mut self.state.slots {
            slot.foster = None;
        }
        self.state.reload_again = false;
        let slots = self.state.slots.iter_mut().map(|slot| &mut slot.attempts);
        for attempts in slots.chain(&mut self.state.services) {
            attempts.restart_at_ms = None;
        }
    }

    fn stop_workers(&mut self, haste: Haste) {
        let config = &self.state.config;
        let (graceful_ms, quick_ms) = (config.graceful_timeout_ms, config.quick_timeout_ms);
        let workers: Vec<_> = self.state.workers().map(|(id, child)| (id, child.life)).collect();
        for (id, life) in workers {
            match (life, haste) {
                (Life::Killed { .. }, _) => {}
                // One that boots serves, before it leaves, whoever waits on its socket already.
                (_, Haste::Graceful) => self.drain(id, Order::Drain, graceful_ms),
                (Life::Booting { .. }, _) | (_, Haste::Now) => self.kill(id),
                (_, Haste::Quick) => self.drain(id, Order::Quit, quick_ms),
            }
        }
    }

    /// A service that is ending already is told to do so at once.
    fn hurry_services(&mut self) {
        let children = self.state.children.iter();
        let ending = children
            .filter(|(_, child)| matches!(child.life, Life::Draining { .. }))
            .filter_map(|(id, child)| Some((*id, child.role.program()?)))
            .collect::<Vec<_>>();
        for (id, program) in ending {
            self.stop_program(id, program);
        }
    }

    pub(super) fn advance_stop(&mut self) {
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
        match self.state.programs[program].kind {
            ProgramKind::Step { .. } => self.kill(id),
            ProgramKind::Service { stop_signal, hurry_signal } => {
                let hurry = self.haste() == Some(Haste::Now);
                let signal = if hurry { hurry_signal } else { stop_signal };
                self.actions.push(Action::Signal(id, signal));
                self.wait_for_end(id, self.state.config.service_stop_timeout_ms);
            }
        }
    }

    fn finish(&mut self) {
        if let Phase::Stop { outcome, .. } = &self.state.phase {
            self.state.phase = Phase::Over(outcome.clone());
        }
    }

    /// The start failed because `child` ended.
    pub(super) fn fail_by(&mut self, child: &Child, exit: Exit) {
        let (code, text) = match &child.boot_failure {
            Some((code, text)) => (*code, text.clone()),
            None => (REFUSED, self.describe(child.role, exit)),
        };
        self.fail(code, text);
    }

    pub(super) fn fail(&mut self, code: u8, text: String) {
        self.begin_stop(Outcome::Failed { code, text }, Haste::Quick);
    }

    fn describe(&self, role: Role, exit: Exit) -> String {
        match role {
            Role::Worker { slot, .. } => {
                format!("the worker of slot {slot} ended before it was ready ({exit})")
            }
            Role::PreFlight => format!("the pre-flight failed ({exit})"),
            Role::Step { program } | Role::Service { program } => {
                let spec = &self.state.programs[program];
                let hint = spec.hint.as_ref().map(|hint| format!(": {hint}")).unwrap_or_default();
                format!("{} failed ({exit}){hint}", spec.name)
            }
        }
    }

    /// The first failure is the one to report; a forced stop is worse than a drained one.
    pub(super) fn worsen(&mut self, new: Outcome) {
        if let Phase::Stop { outcome, .. } = &mut self.state.phase
            && *outcome == Outcome::Drained
        {
            *outcome = new;
        }
    }

    pub(super) fn haste(&self) -> Option<Haste> {
        match self.state.phase {
            Phase::Stop { haste, .. } => Some(haste),
            _ => None,
        }
    }
}
