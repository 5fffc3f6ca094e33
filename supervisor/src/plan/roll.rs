//! Reload and roll: the settings are read again, then every worker is replaced, one slot at a time, the
//! successor first. A successor that fails ends the roll, and the old settings are in force again.
//! Called by [`super::plan`], and at a fork: whether the new process has a predecessor that may serve on.

use super::scale::PAUSED;
use super::{Action, Reload, Turn};
use crate::journal::Event;
use crate::state::{Child, ChildId, Exit, Goal, Life, Phase, Role, Roll, RollStep, State, Upgrade};

impl State {
    /// Whether the slot of a process that is being forked has a worker that may serve on. After an upgrade that
    /// has failed none may: those of the new program go, whatever their successors can do.
    #[must_use]
    pub fn is_served_by_another(&self, forked: Role) -> bool {
        matches!(forked, Role::Worker { slot, .. } if self.server(slot).is_some())
            && !self.is_undoing()
    }

    /// Whether the old program is back, and takes the new one's workers away.
    fn is_undoing(&self) -> bool {
        matches!(self.upgrade, Some(Upgrade::Undone { .. }))
    }
}

impl Turn<'_> {
    /// One at a time: a request that cannot begin now is remembered, once.
    pub(super) fn ask_reload(&mut self) {
        match self.state.phase {
            Phase::Delay { .. } | Phase::Stop { .. } | Phase::Over(_) => {
                self.record(Event::SignalIgnored { signal: "HUP" });
            }
            Phase::Serve if self.state.is_settled() => {
                self.state.reload_asked = true;
                self.state.reloads += 1;
                self.actions.push(Action::Reload(Reload::Read));
            }
            _ => self.state.reload_again = true,
        }
    }

    /// What was asked for meanwhile may begin: one now, the other behind it.
    pub(super) fn begin_what_waits(&mut self) {
        if std::mem::take(&mut self.state.upgrade_again) {
            // What speaks against it by now has told who waits for it.
            let _ = self.ask_upgrade();
        } else if std::mem::take(&mut self.state.reload_again) {
            self.ask_reload();
        }
    }

    pub(super) fn note_reloaded(&mut self, result: Result<Option<usize>, String>) {
        self.state.reload_asked = false;
        let void = std::mem::take(&mut self.state.reload_void);
        match (&self.state.phase, result) {
            (Phase::Serve, Ok(_)) if void => {
                self.fail_roll(Reload::Undo, PAUSED.to_owned());
            }
            (Phase::Serve, Ok(workers)) => {
                self.state.round += 1;
                self.state.paused = false;
                self.state.next_target = workers;
                self.record(Event::Rolling);
                self.roll_slot(0);
            }
            (Phase::Serve, Err(reason)) => {
                self.note_reload_end(Err(reason.clone()));
                self.record(Event::RollFailed { reason });
                self.begin_what_waits();
            }
            // The stop came first.
            _ => {}
        }
    }

    /// Goes on with `slot`. A worker that was forked since needs no successor.
    pub(super) fn roll_slot(&mut self, slot: usize) {
        if slot >= self.state.open_slots() {
            return self.end_roll(Reload::Keep, self.rolled(), Ok(()));
        }
        let round = self.state.round;
        let fresh = self.state.fillers(slot).find(|(_, child)| child.round == round);
        let fresh = fresh.map(|(id, child)| (id, child.life));
        match fresh {
            Some((_, Life::Serving { .. })) => self.roll_slot(slot + 1),
            Some((id, _)) => self.await_successor(id, slot),
            // A slot in its pause gets its worker now, and that worker is the successor. One that is
            // still booting was forked from what `reload` replaced: it is replaced too, when ready.
            None => {
                let id = self.spawn_worker(slot);
                self.await_successor(id, slot);
            }
        }
    }

    fn await_successor(&mut self, id: ChildId, slot: usize) {
        self.state.roll = Some(Roll { slot, waits_for: RollStep::Successor(id) });
    }

    /// The successor is ready: its predecessor may go. Without one the roll goes on.
    pub(super) fn retire_predecessor(&mut self, ready: ChildId) {
        let Some(Roll { slot, waits_for }) = self.state.roll else { return };
        if waits_for != RollStep::Successor(ready) {
            return;
        }
        let predecessor = self.state.fillers(slot).find(|(id, _)| *id != ready);
        match predecessor.map(|(id, _)| id) {
            Some(id) => {
                self.retire(id);
                let waits_for = RollStep::Predecessor(id);
                self.state.roll = Some(Roll { slot, waits_for });
            }
            None => self.roll_slot(slot + 1),
        }
    }

    pub(super) fn note_roll_end(&mut self, id: ChildId, child: &Child, exit: Exit) {
        let Some(Roll { slot, waits_for }) = self.state.roll else { return };
        if waits_for == RollStep::Predecessor(id) {
            self.roll_slot(slot + 1);
        } else if waits_for == RollStep::Successor(id) {
            // What serves, serves on.
            let reason = self.why_no_successor(slot, child, exit);
            self.fail_roll(Reload::Undo, reason);
        }
    }

    pub(super) fn why_no_successor(&self, slot: usize, child: &Child, exit: Exit) -> String {
        let timeout_ms = self.state.config.boot_timeout_ms;
        match (&child.boot_failure, child.life) {
            (Some((_, text)), _) => text.clone(),
            (None, Life::Killed { .. }) => {
                format!("the new worker of slot {slot} was not ready within {timeout_ms} ms")
            }
            (None, _) => format!("the new worker of slot {slot} ended with {exit}"),
        }
    }

    /// The slot that is being replaced is no more.
    pub(super) fn leave_slot(&mut self, gone: usize) {
        if let Some(Roll { slot, .. }) = self.state.roll
            && slot == gone
        {
            self.roll_slot(slot + 1);
        }
    }

    /// What to tell of a roll that went well: nothing when it only takes back one that has failed.
    fn rolled(&self) -> Option<Event> {
        (!self.state.is_undoing()).then_some(Event::Rolled)
    }

    /// The old workers serve on, with the old settings or (`Keep`) the new ones to come.
    pub(super) fn fail_roll(&mut self, settings: Reload, reason: String) {
        let event = Event::RollFailed { reason: reason.clone() };
        self.end_roll(settings, Some(event), Err(reason));
    }

    fn end_roll(&mut self, settings: Reload, event: Option<Event>, result: Result<(), String>) {
        self.state.roll = None;
        self.actions.push(Action::Reload(settings));
        event.into_iter().for_each(|event| self.record(event));
        if let Some(workers) = self.state.next_target.take()
            && settings != Reload::Undo
        {
            self.scale(workers);
        }
        if !self.note_upgrade_rolled(&result) {
            self.note_reload_end(result);
        }
        self.begin_what_waits();
    }

    /// Tells who waits for this reload.
    fn note_reload_end(&mut self, result: Result<(), String>) {
        let ended = self.state.reloads;
        self.answer_waiting(|goal| match goal {
            Goal::Reload(number) if *number <= ended => Some(result.clone()),
            _ => None,
        });
        self.state.last_reload = Some(result);
    }
}
