//! Recycling: a worker that has done, or holds, or lived as much as it may is replaced, the successor
//! first. Called by [`super::plan`], at each look at the workers.
//!
//! One at a time, the oldest first, and only while every slot is served: so there are never fewer workers
//! than wanted. A successor that fails leaves the worker where it is, and is tried again after a pause.
//! So is what does not help: a worker that is too large, or too old, soon after it was ready. Not so requests:
//! however fast they come, each worker has done its share.

use super::{Look, Turn};
use crate::config::Recycling;
use crate::journal::Event;
use crate::state::{Attempts, Child, ChildId, Exit, Life, Phase, Recycle, Role, RollStep};

/// How much a worker is worn, as far as a limit asks for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wear {
    /// Requests it has begun.
    pub requests: u64,
    /// Memory it holds, in bytes.
    pub rss_bytes: u64,
}

/// The limit that a worker reaches by its work.
const REQUESTS: &str = "max-requests";

impl Turn<'_> {
    /// Begins to replace the oldest worker that is over a limit, if anybody is.
    pub(super) fn recycle(&mut self, look: &Look) {
        self.note_wear(look);
        if look.wear.is_empty() || !self.may_recycle() {
            return;
        }
        let worn = |(id, wear): &(ChildId, Wear)| {
            let child = self.state.children.get(id)?;
            let slot = child.slot().filter(|slot| self.state.server(*slot) == Some(*id))?;
            let reason = why_worn(&self.state.config.recycling, child, *wear, self.now_ms)?;
            Some((child, slot, reason))
        };
        let oldest = look.wear.iter().filter_map(worn).min_by_key(|worn| worn.0.spawned_ms);
        let Some((child, slot, reason)) = oldest else { return };
        let (role, pid) = (child.role, child.pid.unwrap_or_default());
        let early_ms = self.how_early(child, reason);
        self.record(Event::Recycling { role, pid, reason });
        if let (Some(after_ms), 0) = (early_ms, self.state.recycle_attempts.failures) {
            self.record(Event::WornEarly { reason, after_ms });
        }
        let successor = self.spawn_worker(slot);
        let waits_for = RollStep::Successor(successor);
        self.state.recycle = Some(Recycle { slot, waits_for, is_early: early_ms.is_some() });
    }

    /// How soon a worker was over a limit, where that was so soon that the next one will be, too.
    fn how_early(&self, child: &Child, reason: &str) -> Option<u64> {
        let after_ms = child.worn_ms?.saturating_sub(child.ready_ms?);
        let is_early = reason != REQUESTS && after_ms < self.state.config.stable_after_ms;
        is_early.then_some(after_ms)
    }

    /// Notes since when each is over a limit.
    fn note_wear(&mut self, look: &Look) {
        for (id, wear) in &look.wear {
            let Some(child) = self.state.children.get_mut(id) else { continue };
            let limits = &self.state.config.recycling;
            let is_worn = why_worn(limits, child, *wear, self.now_ms).is_some();
            child.worn_ms = is_worn.then(|| child.worn_ms.unwrap_or(self.now_ms));
        }
    }

    fn may_recycle(&self) -> bool {
        let state = &self.state;
        let is_due = state.recycle_attempts.restart_at_ms.is_none_or(|at| at <= self.now_ms);
        // Nobody who leaves counts twice: not one who drains from before, nor one who is scaled away.
        let all = state.target;
        is_due
            && state.phase == Phase::Serve
            && state.is_settled()
            && !state.paused
            && (state.open_slots(), state.workers().count()) == (all, all)
            && (0..all).all(|slot| state.server(slot).is_some())
    }

    /// The successor is ready: its predecessor may go.
    pub(super) fn retire_worn(&mut self, ready: ChildId) {
        let Some(Recycle { slot, waits_for, is_early }) = self.state.recycle else { return };
        if waits_for != RollStep::Successor(ready) {
            return;
        }
        let failures = self.state.recycle_attempts.failures;
        self.state.recycle_attempts =
            if is_early { self.backoff(failures.max(1)) } else { Attempts::default() };
        let predecessor = self.state.fillers(slot).find(|(id, _)| *id != ready);
        match predecessor.map(|(id, _)| id) {
            Some(id) => {
                self.retire(id);
                let waits_for = RollStep::Predecessor(id);
                self.state.recycle = Some(Recycle { slot, waits_for, is_early });
            }
            None => self.end_recycle(),
        }
    }

    pub(super) fn note_recycle_end(&mut self, id: ChildId, child: &Child, exit: Exit) {
        let Some(Recycle { slot, waits_for, .. }) = self.state.recycle else { return };
        if waits_for == RollStep::Predecessor(id) {
            self.end_recycle();
        } else if waits_for == RollStep::Successor(id) {
            let attempts = self.pause(child, self.state.recycle_attempts.failures.max(1));
            self.state.recycle_attempts = attempts;
            let reason = self.why_no_successor(slot, child, exit);
            self.record(Event::RecycleFailed { reason });
            self.end_recycle();
        }
    }

    /// The slot that is being worked on is no more.
    pub(super) fn leave_recycling(&mut self, gone: usize) {
        if self.state.recycle.as_ref().is_some_and(|recycle| recycle.slot == gone) {
            self.end_recycle();
        }
    }

    fn end_recycle(&mut self) {
        self.state.recycle = None;
        self.begin_what_waits();
    }
}

/// Which limit it is over.
fn why_worn(limits: &Recycling, child: &Child, wear: Wear, now_ms: u64) -> Option<&'static str> {
    let Life::Serving { since_ms } = child.life else { return None };
    let over = |limit: Option<u64>, value| limit.is_some_and(|limit| value >= limit);
    let requests_max = limits.requests_max.map(|limit| limit + jitter(child, limits.jitter_max));
    match () {
        () if over(requests_max, wear.requests) => Some(REQUESTS),
        () if over(limits.rss_bytes_max, wear.rss_bytes) => Some("max-rss"),
        () if over(limits.lifetime_ms_max, now_ms.saturating_sub(since_ms)) => Some("max-lifetime"),
        () => None,
    }
}

/// From 0 to `max`, another for each worker and always the same for one: there is no random number
/// before a fork. Source: the mixing function of SplitMix64.
fn jitter(child: &Child, max: u64) -> u64 {
    let Role::Worker { slot, generation } = child.role else { return 0 };
    let seed = (slot as u64) << 48 ^ generation << 24 ^ child.spawned_ms;
    let mut mixed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    (mixed ^ mixed >> 31) % max.saturating_add(1)
}
