//! The census: how everything is at one instant, for whoever asks.
//!
//! Once a turn the loop writes down what it knows ([`note`]); the answer to a `status` is read from the
//! scoreboard ([`Snapshot::status`]), by the supervisor and by any child that is asked, so that all say
//! the same. Decides nothing.

use crate::listener::Listeners;
use crate::process::Processes;
use crate::scoreboard::{Board, CellView, LifePost, Post, SlotPost, SlotView, Snapshot};
use crate::state::{Child, ChildId, Life, Phase, Slot, State};
use crate::status::{
    ChildState, ChildStatus, LastReload, Status, WorkerStatus, age_s, cpu_s, rss_bytes,
};

/// Writes down how everything is, for whoever reads the scoreboard.
pub(crate) fn note(state: &State, processes: &Processes, listeners: &Listeners) {
    let serves = matches!(
        state.phase,
        Phase::FirstStart | Phase::Serve | Phase::Delay { .. } | Phase::Stop { .. }
    );
    let slot = |(number, slot): (usize, &Slot)| SlotPost {
        listens: serves && slot.socket.listens(),
        generation: slot.generation,
        queue: listeners.queue_length(number),
        last_exit: slot.last_exit,
        restarts: slot.restarts,
    };
    let slots: Vec<SlotPost> = state.slots.iter().enumerate().map(slot).collect();
    let life = |(id, child): (&ChildId, &Child)| {
        let (cell, life) = (processes.cell(*id)?, state_of(child));
        let is_guest = processes.is_guest(*id);
        Some(LifePost { cell, life, asked: child.asked, is_guest })
    };
    processes.mirror(state);
    let lives: Vec<LifePost> = state.children.iter().filter_map(life).collect();
    processes.scoreboard().post(&Post {
        generation: state.round + 1,
        target: state.target,
        ready: (0..state.open_slots()).filter(|slot| state.server(*slot).is_some()).count(),
        last_reload: state.last_reload.as_ref(),
        slots: &slots,
        lives: &lives,
    });
}

impl Snapshot {
    /// The answer to `status`. `programs` are the names of what runs beside the workers, in the order of
    /// their start. Reads a file per process, and waits for nothing.
    #[must_use]
    pub fn status(&self, version: &str, programs: &[&str]) -> Status {
        let now_ms = Board::now_ms();
        let workers = self.cells.iter().filter_map(|cell| self.worker(cell, now_ms));
        let vacant = |slot: &&SlotView| slot.listens && !self.is_filled(slot.slot);
        let vacancies = self.slots.iter().filter(vacant).map(place);
        let mut workers: Vec<WorkerStatus> = workers.chain(vacancies).collect();
        workers.sort_by_key(|worker| (worker.slot, worker.generation));
        let children = self.cells.iter().filter(|cell| cell.slot.is_none());
        let mut children: Vec<&CellView> = children.collect();
        children.sort_by_key(|cell| cell.generation);
        Status {
            version: version.to_owned(),
            pid: self.facts.pid,
            age_s: age_s(self.facts.pid),
            generation: self.facts.generation,
            target: usize::try_from(self.facts.target).unwrap_or_default(),
            ready: usize::try_from(self.facts.ready).unwrap_or_default(),
            last_reload: LastReload::of(self.facts.last_reload.as_ref()),
            workers,
            children: children.into_iter().filter_map(|cell| program(cell, programs)).collect(),
        }
    }

    fn worker(&self, cell: &CellView, now_ms: u64) -> Option<WorkerStatus> {
        let slot = self.slots.get(cell.slot?)?;
        let since_ms = |at_ms: u64| now_ms.saturating_sub(at_ms);
        Some(WorkerStatus {
            pid: (cell.pid != 0).then_some(cell.pid),
            state: cell.life,
            generation: cell.generation,
            age_s: Some(since_ms(cell.spawned_ms) as f64 / 1_000.0),
            heartbeat_age_ms: Some(since_ms(cell.heartbeat_ms)),
            requests: cell.requests,
            in_flight: cell.in_flight,
            connections: cell.connections,
            loop_lag_ms: Some(cell.loop_lag_us as f64 / 1_000.0),
            cpu_s: cpu_s(cell.pid),
            durations: cell.told.clone(),
            rss_bytes: rss_bytes(cell.pid),
            ..place(slot)
        })
    }

    /// Whether somebody is in this slot who was not told to leave.
    fn is_filled(&self, slot: usize) -> bool {
        let mut cells = self.cells.iter().filter(|cell| cell.slot == Some(slot));
        cells.any(|cell| !cell.asked)
    }
}

/// What is known of a slot, whoever is in it.
fn place(slot: &SlotView) -> WorkerStatus {
    WorkerStatus {
        slot: slot.slot,
        pid: None,
        state: ChildState::Backoff,
        generation: slot.generation,
        age_s: None,
        heartbeat_age_ms: None,
        requests: 0,
        in_flight: 0,
        connections: 0,
        queue: slot.queue,
        rss_bytes: 0,
        restarts: slot.restarts,
        last_exit: slot.last_exit.map(|exit| exit.to_string()),
        loop_lag_ms: None,
        cpu_s: None,
        durations: Vec::new(),
    }
}

fn program(cell: &CellView, names: &[&str]) -> Option<ChildStatus> {
    let name = (*names.get(usize::try_from(cell.generation).ok()?)?).to_owned();
    Some(ChildStatus { name, pid: (cell.pid != 0).then_some(cell.pid), state: cell.life })
}

fn state_of(child: &Child) -> ChildState {
    match child.life {
        Life::Booting { .. } => ChildState::Booting,
        Life::Serving { .. } if child.silent => ChildState::Hung,
        Life::Serving { .. } => ChildState::Ready,
        Life::Draining { .. } => ChildState::Draining,
        Life::Hung { .. } | Life::Killed { .. } => ChildState::Hung,
    }
}
