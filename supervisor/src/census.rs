//! The census: how everything is at one instant, for whoever asks.
//!
//! Called by the loop for a `status`; puts together what the state, the scoreboard and the kernel know.
//! Decides nothing.

use nix::unistd::getpid;

use crate::listener::Listeners;
use crate::process::Processes;
use crate::scoreboard::Reading;
use crate::state::{Child, ChildId, Life, Phase, Role, Slot, State};
use crate::status::{ChildState, ChildStatus, LastReload, Status, WorkerStatus, rss_bytes};

/// Where the numbers are.
pub(crate) struct Census<'a> {
    pub(crate) state: &'a State,
    pub(crate) processes: &'a Processes,
    pub(crate) listeners: &'a Listeners,
    pub(crate) now_ms: u64,
}

impl Census<'_> {
    /// Takes it. Reads a file per worker, and waits for nothing.
    pub(crate) fn take(&self, version: &str) -> Status {
        let state = self.state;
        let slots = state.slots.iter().enumerate();
        let mut workers: Vec<WorkerStatus> =
            state.workers().filter_map(|(id, child)| self.worker(id, child)).collect();
        workers.extend(slots.filter_map(|(number, slot)| self.vacancy(number, slot)));
        workers.sort_by_key(|worker| (worker.slot, worker.generation));
        let programs = state.children.values().filter_map(|child| self.program(child));
        Status {
            version: version.to_owned(),
            pid: getpid().as_raw(),
            generation: state.round + 1,
            target: state.target,
            ready: (0..state.open_slots()).filter(|slot| state.server(*slot).is_some()).count(),
            last_reload: LastReload::of(state.last_reload.as_ref()),
            workers,
            children: programs.collect(),
        }
    }

    fn worker(&self, id: ChildId, child: &Child) -> Option<WorkerStatus> {
        let Role::Worker { slot, generation } = child.role else { return None };
        let load = self.processes.reading(id).map(|Reading { load, .. }| load).unwrap_or_default();
        let since_ms = |at_ms: u64| self.now_ms.saturating_sub(at_ms);
        let beat_ms = self.processes.reading(id).map(|reading| reading.heartbeat_ms);
        Some(WorkerStatus {
            pid: child.pid,
            state: state_of(child),
            generation,
            age_s: Some(since_ms(child.spawned_ms) as f64 / 1_000.0),
            heartbeat_age_ms: beat_ms.map(since_ms),
            requests: load.requests,
            in_flight: load.in_flight,
            connections: load.connections,
            rss_bytes: child.pid.map_or(0, rss_bytes),
            ..self.place(slot)
        })
    }

    /// A slot without a worker.
    fn vacancy(&self, number: usize, slot: &Slot) -> Option<WorkerStatus> {
        let is_filled = self.state.fillers(number).next().is_some();
        let is_wanted = slot.socket.listens();
        let is_over = matches!(self.state.phase, Phase::Boot { .. } | Phase::Bind);
        (is_wanted && !is_filled && !is_over).then(|| self.place(number))
    }

    /// What is known of a slot, whoever is in it.
    fn place(&self, number: usize) -> WorkerStatus {
        let slot = &self.state.slots[number];
        WorkerStatus {
            slot: number,
            pid: None,
            state: ChildState::Backoff,
            generation: slot.generation,
            age_s: None,
            heartbeat_age_ms: None,
            requests: 0,
            in_flight: 0,
            connections: 0,
            queue: self.listeners.queue_length(number).into(),
            rss_bytes: 0,
            restarts: slot.restarts,
            last_exit: slot.last_exit.map(|exit| exit.to_string()),
        }
    }

    fn program(&self, child: &Child) -> Option<ChildStatus> {
        let name = self.state.programs[child.role.program()?].name.clone();
        Some(ChildStatus { name, pid: child.pid, state: state_of(child) })
    }
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
