//! Reload and roll: the settings are read again, then every worker is replaced, one slot at a time, the
//! successor first. A successor that fails ends the roll, and the old settings are in force again.
//! Called by [`super::plan`].

use super::{Action, Reload, Turn};
use crate::channel::Order;
use crate::journal::Event;
use crate::state::{Child, ChildId, Exit, Life, Phase, Roll, RollStep};

impl Turn<'_> {
    /// One at a time: a request that cannot begin now is remembered, once.
    pub(super) fn ask_reload(&mut self) {
        match self.state.phase {
            Phase::Stop { .. } | Phase::Over(_) => {
                self.record(Event::SignalIgnored { signal: "HUP" });
            }
            Phase::Serve if self.state.roll.is_none() && !self.state.reload_asked => {
                self.state.reload_asked = true;
                self.actions.push(Action::Reload(Reload::Read));
            }
            _ => self.state.reload_again = true,
        }
    }

    /// What was asked for meanwhile may begin.
    pub(super) fn reload_again(&mut self) {
        if std::mem::take(&mut self.state.reload_again) {
            self.ask_reload();
        }
    }

    pub(super) fn note_reloaded(&mut self, result: Result<(), String>) {
        self.state.reload_asked = false;
        match (&self.state.phase, result) {
            (Phase::Serve, Ok(())) => {
                self.record(Event::Rolling);
                self.roll_slot(0);
            }
            (Phase::Serve, Err(reason)) => {
                self.record(Event::RollFailed { reason });
                self.reload_again();
            }
            // The stop came first.
            _ => {}
        }
    }

    fn roll_slot(&mut self, slot: usize) {
        if slot == self.state.slots.len() {
            return self.end_roll(Reload::Keep, Event::Rolled);
        }
        // A slot in its pause gets its worker now, and that worker is the successor. One that is
        // still booting was forked from what `reload` replaced: it is replaced too, when ready.
        let waits_for = RollStep::Successor(self.spawn_worker(slot));
        self.state.roll = Some(Roll { slot, waits_for });
    }

    /// The successor is ready: its predecessor may go. Without one the roll goes on.
    pub(super) fn retire_predecessor(&mut self, ready: ChildId) {
        let Some(Roll { slot, waits_for }) = self.state.roll else { return };
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
            let reason = match &child.boot_failure {
                Some((_, text)) => text.clone(),
                None => format!("the new worker of slot {slot} ended with {exit}"),
            };
            self.end_roll(Reload::Undo, Event::RollFailed { reason });
        }
    }

    fn end_roll(&mut self, settings: Reload, event: Event) {
        self.state.roll = None;
        self.actions.push(Action::Reload(settings));
        self.record(event);
        self.reload_again();
    }
}
