//! Who serves which slot: heartbeats, steering, fostering. Called by [`super::plan`], at the end of every
//! turn.
//!
//! New connections are steered to the slots that serve. Those that wait already on the socket of one that
//! does not (dead, booting, silent, paused between two deaths) are accepted by a sibling, which gets a copy
//! of that socket until the slot has a worker again.

use super::{Action, ENFORCE_AFTER_MS, Look, SUSPENDED_AFTER_MS, Turn};
use crate::channel::Order;
use crate::journal::Event;
use crate::state::{ChildId, LOOK_EVERY_MS, Life};

/// A worker without a heartbeat for this long gets no new connections.
const SILENT_AFTER_MS: u64 = 1_000;
/// A slot that nobody serves for this long is fostered: a successor is usually quicker.
const FOSTER_AFTER_MS: u64 = 100;
/// Time to die of SIGABRT.
const ABORT_MS: u64 = 1_000;
/// signal(7).
const SIGABRT: i32 = 6;

impl Turn<'_> {
    pub(super) fn note_look(&mut self, look: &Look) {
        let gap_ms = self.now_ms.saturating_sub(self.state.looked_at_ms);
        self.state.looked_at_ms = self.now_ms;
        for (id, beat_ms) in &look.beats {
            if let Some(child) = self.state.children.get_mut(id) {
                child.beat_ms = child.beat_ms.max(*beat_ms);
            }
        }
        if gap_ms >= LOOK_EVERY_MS + SUSPENDED_AFTER_MS {
            // We were stopped, perhaps the whole machine was: nobody could be heard.
            let heard_ms = self.now_ms;
            self.state.children.values_mut().for_each(|child| child.beat_ms = heard_ms);
        }
        self.state.waiting.retain(|waiter| !look.gone.contains(&waiter.client));
        self.note_queues(&look.queues);
        self.note_silence();
        self.recycle(look);
    }

    fn note_silence(&mut self) {
        let serving: Vec<ChildId> = self
            .state
            .workers()
            .filter(|(_, child)| matches!(child.life, Life::Serving { .. }))
            .map(|(id, _)| id)
            .collect();
        for id in serving {
            let (now_ms, timeout_ms) = (self.now_ms, self.state.config.timeout_ms);
            let child = self.child(id);
            let silence_ms = now_ms.saturating_sub(child.beat_ms);
            let (role, pid) = (child.role, child.pid.unwrap_or_default());
            let was_silent = std::mem::replace(&mut child.silent, silence_ms >= SILENT_AFTER_MS);
            if silence_ms >= timeout_ms {
                child.life = Life::Hung { deadline_ms: now_ms + ABORT_MS };
                self.actions.push(Action::Signal(id, SIGABRT));
                self.record(Event::Hung { role, pid, silence_ms });
            } else if silence_ms >= SILENT_AFTER_MS && !was_silent {
                self.record(Event::Silent { role, pid });
            } else if silence_ms < SILENT_AFTER_MS && was_silent {
                self.record(Event::Heard { role, pid });
            }
        }
    }

    /// Steers and fosters as it should be now.
    pub(super) fn tend(&mut self) {
        if !self.state.watches() {
            return;
        }
        self.steer();
        for slot in 0..self.state.slots.len() {
            self.foster(slot);
        }
    }

    fn steer(&mut self) {
        let wanted = self.wanted();
        if !wanted.is_empty() && wanted != self.state.steered {
            self.state.steered.clone_from(&wanted);
            self.actions.push(Action::Steer(wanted));
        }
    }

    /// The slots that new connections are for; none when the kernel is to go on as it does.
    fn wanted(&self) -> Vec<usize> {
        let state = &self.state;
        let open = 0..state.open_slots();
        if !state.config.steering {
            // Only away from slots that are being closed.
            let closing = state.closing_slots().next().is_some() || !state.steered.is_empty();
            return if closing { open.collect() } else { Vec::new() };
        }
        let served = |slot: &usize| state.server(*slot).is_some();
        let serving: Vec<usize> = open.filter(served).collect();
        // When nobody else serves, those who are to leave do; and when nobody does, it does not matter.
        if serving.is_empty() { state.closing_slots().filter(served).collect() } else { serving }
    }

    fn foster(&mut self, slot: usize) {
        let listens = self.state.slots[slot].socket.listens();
        let is_served = self.state.server(slot).is_some();
        let foster = self.state.slots[slot].foster;
        if let Some(id) = foster {
            let serves = self.state.children.get(&id).is_some_and(|child| child.serves());
            if is_served || !listens || !serves {
                self.state.slots[slot].foster = None;
                if self.state.children.contains_key(&id) {
                    self.actions.push(Action::Send(id, Order::Unfoster { slot }));
                }
            }
        }
        if is_served || !listens {
            self.state.slots[slot].unserved_since_ms = None;
            return;
        }
        let since_ms = *self.state.slots[slot].unserved_since_ms.get_or_insert(self.now_ms);
        let due = self.now_ms - since_ms >= FOSTER_AFTER_MS;
        if due {
            self.give_away(slot);
        }
    }

    /// Gives a slot to a sibling, if there is one and none has it.
    fn give_away(&mut self, slot: usize) {
        if self.state.slots[slot].foster.is_none()
            && let Some(id) = self.sibling_for(slot)
        {
            self.state.slots[slot].foster = Some(id);
            self.actions.push(Action::Send(id, Order::Foster { slot }));
        }
    }

    /// A worker leaves without having been told to by us: as if it had died, but that it answers first.
    pub(super) fn note_leaving(&mut self, id: ChildId) {
        let Some(child) = self.state.children.get(&id) else { return };
        let Some(slot) = child.slot() else { return };
        if child.asked || !matches!(child.life, Life::Booting { .. } | Life::Serving { .. }) {
            return;
        }
        let (role, pid) = (child.role, child.pid.unwrap_or_default());
        let pause = self.pause(child, self.state.slots[slot].attempts.failures);
        if self.state.fillers(slot).count() == 1 && slot < self.state.open_slots() {
            self.state.slots[slot].attempts = pause;
        }
        self.state.slots[slot].restarts += 1;
        self.child(id).leaves_unasked = true;
        self.record(Event::Leaving { role, pid });
        self.wait_for_end(id, self.state.config.graceful_timeout_ms + ENFORCE_AFTER_MS);
    }

    /// Gives every slot that nobody serves to a sibling, before the sockets are closed.
    pub(super) fn foster_all(&mut self) {
        for slot in 0..self.state.slots.len() {
            if self.state.slots[slot].socket.listens() && self.state.server(slot).is_none() {
                self.give_away(slot);
            }
        }
    }

    /// The copy is closed. Where nobody asked for that, the worker could not keep it: the slot is given
    /// away again, a moment later.
    pub(super) fn note_unfostered(&mut self, id: ChildId, number: usize) {
        let now_ms = self.now_ms;
        if let Some(slot) = self.state.slots.get_mut(number)
            && slot.foster == Some(id)
        {
            slot.foster = None;
            slot.unserved_since_ms = Some(now_ms);
            // It may have been the report of an earlier copy: then this one is given back, too.
            self.actions.push(Action::Send(id, Order::Unfoster { slot: number }));
        }
    }

    /// The serving worker that fosters the fewest slots; of those the next one after `slot`.
    fn sibling_for(&self, slot: usize) -> Option<ChildId> {
        let count = self.state.slots.len();
        let others = (1..count).map(|distance| (slot + distance) % count);
        let servers = others.filter_map(|other| self.state.server(other));
        servers.min_by_key(|id| {
            self.state.slots.iter().filter(|slot| slot.foster == Some(*id)).count()
        })
    }
}
