//! How many slots: more, fewer, none for a while; and who asked for it and waits. The highest slots come
//! last and go first. Called by [`super::plan`].
//!
//! A slot that goes gets no new connections; its worker serves on until nobody has waited on its socket
//! for a while, half-open connections included; then the socket is shut, and the worker drains.

use super::{Action, Ask, Reload, Turn};
use crate::channel::Order;
use crate::config::SLOTS_MAX;
use crate::journal::Event;
use crate::state::{
    Child, ClientId, Exit, Goal, Haste, Outcome, Phase, RollStep, Slot, Socket, Waiter,
};

/// How long a queue has to be empty before its socket is shut: handshakes that had begun are over.
const EMPTY_FOR_MS: u64 = 1_000;

impl Turn<'_> {
    /// Wants so many workers from now on; at least one, and one for each socket that others opened.
    pub(super) fn scale(&mut self, workers: usize) {
        if matches!(self.state.phase, Phase::Stop { .. } | Phase::Over(_)) {
            return;
        }
        let least = self.state.workers_min;
        if workers < least && least > 1 {
            self.record(Event::ScaleFailed { reason: self.too_few() });
        }
        let workers = workers.clamp(least, SLOTS_MAX);
        if workers != self.state.target {
            self.state.target = workers;
            self.record(Event::Scaling { workers });
            let reason = "another number of workers was asked for";
            self.answer_waiting(|goal| match goal {
                Goal::Scale(other) if *other != workers => Some(Err(reason.to_owned())),
                _ => None,
            });
        }
    }

    /// Why there are not fewer.
    pub(super) fn too_few(&self) -> String {
        let least = self.state.workers_min;
        format!("the service manager opened {least} sockets: they need {least} workers at least")
    }

    /// The same, asked for by an operator: what the settings want meanwhile was asked for before.
    pub(super) fn scale_by_hand(&mut self, workers: usize) {
        self.state.next_target = None;
        self.scale(workers);
    }

    /// Begins to open or close what is missing or too much.
    pub(super) fn adjust_slots(&mut self) {
        let (open, target) = (self.state.open_slots(), self.state.target);
        if open < target {
            self.open_slot(open);
        } else if self.state.roll.is_none()
            && self.state.recycle.is_none()
            && !self.state.reload_asked
        {
            for slot in &mut self.state.slots[target..open] {
                slot.socket = Socket::Closing { empty_since_ms: None };
                slot.attempts.restart_at_ms = None;
            }
        }
        self.shut_emptied();
    }

    /// One at a time: the next one follows when this one is open.
    fn open_slot(&mut self, number: usize) {
        let leaving = self.state.workers().any(|(_, child)| child.slot() == Some(number));
        match self.state.slots.get_mut(number) {
            Some(slot @ Slot { socket: Socket::Closing { .. }, .. }) => {
                // It was not shut yet: it stays, with the worker it has.
                slot.socket = Socket::Open;
                self.adjust_slots();
            }
            Some(Slot { socket: Socket::Opening, .. }) => {}
            // Its last worker is still leaving: one after the other.
            Some(_) if leaving => {}
            Some(slot) => {
                slot.socket = Socket::Opening;
                self.actions.push(Action::Open(number));
            }
            None => {
                self.state.slots.push(Slot { socket: Socket::Opening, ..Slot::default() });
                self.actions.push(Action::Open(number));
            }
        }
    }

    pub(super) fn note_opened(&mut self, number: usize, result: Result<(), String>) {
        let Some(slot) = self.state.slots.get_mut(number) else { return };
        match result {
            Ok(()) => slot.socket = Socket::Open,
            Err(reason) => {
                slot.socket = Socket::Shut;
                self.state.target = self.state.open_slots().max(1);
                self.fail_scaling(&reason);
                self.record(Event::ScaleFailed { reason });
            }
        }
    }

    /// Notes how long the queues are of what is being closed.
    pub(super) fn note_queues(&mut self, queues: &[(usize, u32)]) {
        let now_ms = self.now_ms;
        let stays = self.somebody_stays();
        for (number, length) in queues {
            if let Some(Slot { socket: Socket::Closing { empty_since_ms }, .. }) =
                self.state.slots.get_mut(*number)
            {
                let since = empty_since_ms.get_or_insert(now_ms);
                // As long as no slot that stays is served, this one is still needed.
                *empty_since_ms = (*length == 0 && stays).then_some(*since);
            }
        }
    }

    /// Shuts sockets whose queue was empty for long enough, the highest slot first: the places of the
    /// others in the group must not change.
    fn shut_emptied(&mut self) {
        // Whoever tries whether it could take over looks at every socket.
        if self.state.upgrade.is_some() {
            return;
        }
        while let Some(number) =
            self.state.slots.iter().rposition(|slot| slot.socket != Socket::Shut)
        {
            let Socket::Closing { empty_since_ms: Some(since_ms) } =
                self.state.slots[number].socket
            else {
                return;
            };
            let is_needed = self.state.steered.contains(&number) || !self.somebody_stays();
            if is_needed || self.now_ms - since_ms < EMPTY_FOR_MS {
                return;
            }
            self.shut(number);
        }
    }

    /// Whether a slot that stays is served.
    fn somebody_stays(&self) -> bool {
        (0..self.state.open_slots()).any(|slot| self.state.server(slot).is_some())
    }

    fn shut(&mut self, number: usize) {
        self.state.slots[number].socket = Socket::Shut;
        self.actions.push(Action::Shut(number));
        let workers: Vec<_> = self.state.fillers(number).map(|(id, _)| id).collect();
        workers.into_iter().for_each(|id| self.retire(id));
        self.leave_slot(number);
        self.leave_recycling(number);
    }

    /// Sends all workers home; a reload brings new ones.
    pub(super) fn pause_all(&mut self) {
        // One after the other, so that no more than one worker of a slot is leaving.
        let predecessor = self.state.roll.as_ref().map(|roll| roll.waits_for);
        let is_leaving = |(id, child): (_, &Child)| {
            child.asked && predecessor != Some(RollStep::Predecessor(id))
        };
        let leaving = self.state.workers().any(is_leaving);
        if self.state.phase != Phase::Serve || self.state.paused || leaving {
            return self.record(Event::SignalIgnored { signal: "WINCH" });
        }
        self.state.paused = true;
        self.state.reload_again = false;
        self.state.reload_void = self.state.reload_asked;
        self.record(Event::Paused);
        self.answer_waiting(|_| Some(Err(PAUSED.to_owned())));
        if self.state.roll.is_some() {
            self.fail_roll(Reload::Keep, PAUSED.to_owned());
        }
        self.drop_upgrade();
        self.state.recycle = None;
        for slot in &mut self.state.slots {
            slot.attempts.restart_at_ms = None;
        }
        let workers: Vec<_> = self.state.workers().map(|(id, _)| id).collect();
        workers.into_iter().for_each(|id| self.retire(id));
    }

    pub(super) fn note_ask(&mut self, client: ClientId, ask: Ask) {
        let not_now = match self.state.phase {
            Phase::FirstStart | Phase::Serve => None,
            Phase::Boot { .. } | Phase::Bind => Some("the supervisor is starting: ask again"),
            _ => Some("the supervisor is stopping"),
        };
        match ask {
            Ask::Stop => {
                self.answer(client, Ok(()));
                self.begin_delay();
            }
            _ if not_now.is_some() => {
                self.answer(client, Err(not_now.unwrap_or_default().to_owned()));
            }
            Ask::Reload { wait } => {
                self.ask_reload();
                let pending = u64::from(self.state.reload_again);
                self.answer_or_wait(client, wait, Goal::Reload(self.state.reloads + pending));
            }
            Ask::Upgrade { wait } => match self.ask_upgrade() {
                Ok(()) => {
                    let pending = u64::from(self.state.upgrade_again);
                    self.answer_or_wait(client, wait, Goal::Upgrade(self.state.upgrades + pending));
                }
                Err(reason) => self.answer(client, Err(reason.to_owned())),
            },
            Ask::Scale { workers, .. } if !(1..=SLOTS_MAX).contains(&workers) => {
                self.answer(client, Err(format!("give 1 to {SLOTS_MAX} workers")));
            }
            Ask::Scale { workers, .. } if workers < self.state.workers_min => {
                self.answer(client, Err(self.too_few()));
            }
            Ask::Scale { workers, wait } => {
                self.scale_by_hand(workers);
                if wait && self.state.paused {
                    self.answer(client, Err(PAUSED.to_owned()));
                } else {
                    self.answer_or_wait(client, wait, Goal::Scale(workers));
                }
            }
        }
    }

    fn answer(&mut self, client: ClientId, result: Result<(), String>) {
        self.actions.push(Action::Answer(client, result));
    }

    fn answer_or_wait(&mut self, client: ClientId, wait: bool, goal: Goal) {
        match wait {
            true => self.state.waiting.push(Waiter { client, goal }),
            false => self.answer(client, Ok(())),
        }
    }

    /// Answers those whose goal is decided.
    pub(super) fn answer_waiting(&mut self, decide: impl Fn(&Goal) -> Option<Result<(), String>>) {
        for waiter in std::mem::take(&mut self.state.waiting) {
            match decide(&waiter.goal) {
                Some(result) => self.answer(waiter.client, result),
                None => self.state.waiting.push(waiter),
            }
        }
    }

    /// Whoever waits for so many workers is told when they are there, and no others.
    pub(super) fn answer_scaled(&mut self) {
        if self.state.waiting.is_empty() || !self.is_scaled() {
            return;
        }
        let target = self.state.target;
        self.answer_waiting(|goal| (*goal == Goal::Scale(target)).then_some(Ok(())));
    }

    fn is_scaled(&self) -> bool {
        let state = &self.state;
        let slots = state.slots.iter().skip(state.target);
        state.open_slots() == state.target
            && slots.into_iter().all(|slot| slot.socket == Socket::Shut)
            && (0..state.target).all(|slot| state.server(slot).is_some())
            && state.workers().count() == state.target
    }

    fn fail_scaling(&mut self, reason: &str) {
        self.answer_waiting(|goal| match goal {
            Goal::Scale(_) => Some(Err(reason.to_owned())),
            Goal::Reload(_) | Goal::Upgrade(_) => None,
        });
    }

    /// A worker that never served tells whoever waits for it why.
    pub(super) fn note_scale_failure(&mut self, slot: usize, child: &Child, exit: Exit) {
        if child.served() || child.asked {
            return;
        }
        let reason = match &child.boot_failure {
            Some((_, text)) => text.clone(),
            None => format!("the worker of slot {slot} ended with {exit}"),
        };
        self.fail_scaling(&reason);
    }

    /// Begins a graceful stop: first the delay, if there is one, then a moment for those who are about to
    /// be queued.
    pub(super) fn begin_delay(&mut self) {
        match self.state.phase {
            Phase::FirstStart | Phase::Serve => {
                self.record(Event::Stopping { haste: Haste::Graceful });
                self.drop_upgrade();
                let until_ms = self.now_ms + self.state.config.shutdown_delay_ms;
                self.state.phase = Phase::Delay { until_ms, refusing: false };
                let workers: Vec<_> = self.state.workers().map(|(id, _)| id).collect();
                for id in workers {
                    self.actions.push(Action::Send(id, Order::NotReady));
                }
                self.end_delay();
            }
            Phase::Delay { .. } => {}
            _ => self.begin_stop(Outcome::Drained, Haste::Graceful),
        }
    }

    /// Goes on when the time is over.
    pub(super) fn end_delay(&mut self) {
        let Phase::Delay { until_ms, refusing } = self.state.phase else { return };
        if until_ms > self.now_ms {
            return;
        }
        if refusing {
            return self.begin_stop(Outcome::Drained, Haste::Graceful);
        }
        self.actions.push(Action::RefuseNew);
        let until_ms = self.now_ms + LAST_QUEUED_MS;
        self.state.phase = Phase::Delay { until_ms, refusing: true };
    }
}

/// What a pause is to those who wait for workers.
pub(super) const PAUSED: &str = "all workers were told to leave: a reload brings new ones";

/// Time that a client has to complete the handshake it has begun, and we to accept it.
const LAST_QUEUED_MS: u64 = 200;
