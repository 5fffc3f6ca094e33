//! What each observation changes. Called by [`super::plan`].

use super::upgrade::{STOPPING, UNDER_WAY};
use super::{Action, Observation, Signal, Turn};
use crate::channel::{Message, Order};
use crate::journal::Event;
use crate::state::{Attempts, Child, ChildId, Exit, Haste, Life, Outcome, Phase, Role};

impl Turn<'_> {
    pub(super) fn note(&mut self, observation: Observation) {
        match observation {
            Observation::Clock => {}
            Observation::Signal(signal) => self.note_signal(signal),
            Observation::Message(child, Message::Ready) => self.note_ready(child),
            Observation::Message(child, Message::BootFailed { code, text }) => {
                self.note_boot_failure(child, code, text);
            }
            Observation::Message(child, Message::Passed { version }) => {
                self.note_passed(child, version);
            }
            Observation::Spawned(child, pid) => self.note_spawned(child, pid),
            Observation::Exited(child, exit) => self.note_exit(child, exit),
            Observation::Listening(result) => self.note_listening(result),
            Observation::Reloaded(result) => self.note_reloaded(result),
            Observation::Message(child, Message::Leaving) => self.note_leaving(child),
            Observation::Message(child, Message::Unfostered { slot }) => {
                self.note_unfostered(child, slot);
            }
            Observation::Looked(look) => self.note_look(&look),
            Observation::Opened(slot, result) => self.note_opened(slot, result),
            Observation::Asked(client, ask) => self.note_ask(client, ask),
            Observation::TookOver(workers) => self.note_took_over(workers),
            Observation::StayedOn(why) => self.note_stayed_on(why),
        }
    }

    fn note_signal(&mut self, signal: Signal) {
        match signal {
            Signal::Stop => self.begin_delay(),
            Signal::Quit if self.haste() >= Some(Haste::Quick) => {
                self.begin_stop(Outcome::Drained, Haste::Now);
            }
            Signal::Quit => self.begin_stop(Outcome::Drained, Haste::Quick),
            Signal::Reload => self.ask_reload(),
            Signal::More => self.scale_by_hand(self.state.target + 1),
            Signal::Fewer => self.scale_by_hand(self.state.target.saturating_sub(1)),
            Signal::Pause => self.pause_all(),
            Signal::Reopen => self.reopen_logs(),
            Signal::Upgrade => match self.ask_upgrade() {
                Ok(()) => {}
                // What goes on is no failure of this one's.
                Err(UNDER_WAY | STOPPING) => {
                    self.record(Event::SignalIgnored { signal: "USR2" });
                }
                Err(reason) => self.record(Event::UpgradeFailed { reason: reason.to_owned() }),
            },
            Signal::Other(signal) => self.record(Event::SignalIgnored { signal }),
        }
    }

    /// Here first, so that the children find the new file rather than make it.
    fn reopen_logs(&mut self) {
        self.record(Event::Reopening);
        // A pre-flight reads no orders, and opens the file itself if it becomes anything.
        let children = self.state.children.iter();
        let told = children.filter(|(_, child)| child.role != Role::PreFlight);
        self.actions.extend(told.map(|(id, _)| Action::Send(*id, Order::Reopen)));
    }

    fn note_listening(&mut self, result: Result<(), String>) {
        match (&self.state.phase, result) {
            (Phase::Bind, Ok(())) => {
                self.state.phase = Phase::FirstStart;
                if self.state.config.workers < self.state.workers_min {
                    self.record(Event::ScaleFailed { reason: self.too_few() });
                }
            }
            (Phase::Bind, Err(text)) => self.fail(super::REFUSED, text),
            // The stop came first: what was opened for nothing is closed.
            (_, Ok(())) => self.stop_listening(),
            (_, Err(_)) => {}
        }
    }

    fn note_spawned(&mut self, id: ChildId, pid: i32) {
        let Some(child) = self.state.children.get_mut(&id) else { return };
        child.pid = Some(pid);
        let role = child.role;
        self.record(Event::Spawned { role, pid });
    }

    fn note_ready(&mut self, id: ChildId) {
        let since_ms = self.now_ms;
        let Some(child) = self.state.children.get_mut(&id) else { return };
        if !matches!(child.role, Role::Worker { .. }) {
            return;
        }
        child.ready_ms = child.ready_ms.or(Some(since_ms));
        child.beat_ms = since_ms;
        if matches!(child.life, Life::Booting { .. }) {
            child.life = Life::Serving { since_ms };
            let event = Event::Ready { role: child.role, pid: child.pid.unwrap_or_default() };
            self.record(event);
            if matches!(self.state.phase, Phase::Delay { .. }) {
                self.actions.push(Action::Send(id, Order::NotReady));
            }
            self.retire_predecessor(id);
            self.retire_worn(id);
        }
    }

    fn note_boot_failure(&mut self, id: ChildId, code: u8, text: String) {
        if let Some(child) = self.state.children.get_mut(&id) {
            child.boot_failure = Some((code, text));
        }
    }

    fn note_exit(&mut self, id: ChildId, exit: Exit) {
        let Some(child) = self.state.children.remove(&id) else { return };
        // Told before what follows from it, although that decides a part of it.
        let place = self.actions.len();
        let restart_in_ms = match child.role {
            Role::Step { program } => self.note_step_end(program, &child, exit),
            Role::Service { program } => self.note_service_end(program, &child, exit),
            Role::Worker { slot, .. } => self.note_worker_end(id, slot, &child, exit),
            Role::PreFlight => {
                self.note_preflight_end(id, &child, exit);
                None
            }
        };
        let event = Event::Exited {
            role: child.role,
            pid: child.pid.unwrap_or_default(),
            exit,
            expected: self.was_expected(&child, exit),
            reason: child.boot_failure.map(|(_, text)| text),
            restart_in_ms,
        };
        self.actions.insert(place, Action::Record(event));
    }

    fn was_expected(&self, child: &Child, exit: Exit) -> bool {
        let stopping = matches!(self.state.phase, Phase::Stop { .. });
        let ends = matches!(child.role, Role::Step { .. } | Role::PreFlight);
        let done = ends && exit == Exit::Code(0);
        let told = child.asked && (!child.leaves_unasked || exit == Exit::Code(0));
        stopping || done || told || matches!(child.life, Life::Killed { .. })
    }

    fn note_step_end(&mut self, program: usize, child: &Child, exit: Exit) -> Option<u64> {
        if self.state.phase == (Phase::Boot { program }) {
            match exit {
                Exit::Code(0) => self.state.phase = Phase::Boot { program: program + 1 },
                _ => self.fail_by(child, exit),
            }
        }
        None
    }

    fn note_service_end(&mut self, program: usize, child: &Child, exit: Exit) -> Option<u64> {
        match self.state.phase {
            Phase::Boot { .. } | Phase::Bind | Phase::FirstStart => {
                self.fail_by(child, exit);
                None
            }
            // One that was asked to leave, for a newer one's sake, has not failed.
            Phase::Serve if child.asked => {
                self.state.services[program] =
                    Attempts { restart_at_ms: Some(self.now_ms), ..Attempts::default() };
                Some(0)
            }
            Phase::Serve | Phase::Delay { .. } => {
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
        self.state.slots[slot].restarts += u64::from(!child.asked);
        match self.state.phase {
            Phase::FirstStart if !child.served() => {
                self.fail_by(child, exit);
                None
            }
            Phase::Stop { .. } => {
                if child.served() && exit != Exit::Code(0) {
                    self.worsen(Outcome::Forced);
                }
                None
            }
            _ => {
                self.note_roll_end(id, child, exit);
                self.note_recycle_end(id, child, exit);
                self.note_scale_failure(slot, child, exit);
                self.refill(slot, child)
            }
        }
    }
}
