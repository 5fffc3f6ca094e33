//! What the supervisor tells of itself when it is asked: the answer to `status`.
//!
//! Filled by the loop, sent by [`crate::control`], read again by the command line. Plain data; its
//! names and its order are the JSON that people write scripts for. What belongs to a process is
//! `null` where there is none; what an older version did not tell is none, too.
//! Source: proc_pid_statm(5), proc_pid_stat(5), proc_uptime(5).

use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};
use serde::{Deserialize, Serialize};

/// Everything at one instant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// The supervisor's process id.
    pub pid: i32,
    /// Time since the supervisor's start, in seconds; an upgrade is none.
    #[serde(default)]
    pub age_s: Option<f64>,
    /// Which reading of the settings the next worker gets.
    pub generation: u64,
    /// How many workers are wanted.
    pub target: usize,
    /// How many of them are ready.
    pub ready: usize,
    /// How the last reload ended.
    pub last_reload: LastReload,
    /// Every worker, and every slot that waits for one, by slot.
    pub workers: Vec<WorkerStatus>,
    /// The programs beside the workers.
    pub children: Vec<ChildStatus>,
}

/// How the last reload ended; the start counts as the first one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastReload {
    /// Whether every worker was replaced.
    pub ok: bool,
    /// Why not, in one line.
    pub error: Option<String>,
}

/// One worker, or a slot that waits for one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Its slot.
    pub slot: usize,
    /// Its process id.
    pub pid: Option<i32>,
    /// How far it is.
    pub state: ChildState,
    /// Which worker of its slot it is, from 1.
    pub generation: u64,
    /// Time since its fork, in seconds.
    pub age_s: Option<f64>,
    /// Time since its event loop last said that it lives, in milliseconds.
    pub heartbeat_age_ms: Option<u64>,
    /// Requests it has answered.
    pub requests: u64,
    /// Requests it is answering.
    pub in_flight: u64,
    /// Connections it holds.
    pub connections: u64,
    /// Connections that wait in the queue of its slot.
    pub queue: u64,
    /// Memory it holds, in bytes.
    pub rss_bytes: u64,
    /// How many workers of its slot died unasked.
    pub restarts: u64,
    /// How the last worker of its slot ended.
    pub last_exit: Option<String>,
    /// How late its event loop was at its last heartbeat, in milliseconds.
    #[serde(default)]
    pub loop_lag_ms: Option<f64>,
    /// CPU time it has used, in seconds.
    #[serde(default)]
    pub cpu_s: Option<f64>,
    /// The counters that the application tells of it; see [`Told`](crate::Told).
    #[serde(default)]
    pub durations: Vec<u64>,
}

/// One program beside the workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildStatus {
    /// What people call it.
    pub name: String,
    /// Its process id.
    pub pid: Option<i32>,
    /// How far it is.
    pub state: ChildState,
}

/// How far a child is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChildState {
    /// Forked, not ready yet.
    Booting,
    /// Doing its work.
    Ready,
    /// Told to end.
    Draining,
    /// Dead; the next one comes after a pause.
    Backoff,
    /// Silent for too long.
    Hung,
}

impl LastReload {
    /// Of what is known of it; nothing, when there was none yet.
    #[must_use]
    pub fn of(ended: Option<&Result<(), String>>) -> Self {
        let error = ended.and_then(|ended| ended.as_ref().err()).cloned();
        Self { ok: error.is_none(), error }
    }
}

/// As in JSON.
impl std::fmt::Display for ChildState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Booting => "booting",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Backoff => "backoff",
            Self::Hung => "hung",
        })
    }
}

/// The memory that process `pid` holds, in bytes; 0 when there is no such process.
#[must_use]
pub fn rss_bytes(pid: i32) -> u64 {
    let pages = std::fs::read_to_string(format!("/proc/{pid}/statm"))
        .ok()
        .and_then(|statm| statm.split(' ').nth(1)?.parse::<u64>().ok());
    let page_bytes = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    let page_bytes = page_bytes.and_then(|bytes| u64::try_from(bytes).ok());
    pages.unwrap_or(0) * page_bytes.unwrap_or(0)
}

/// The CPU time that process `pid` has used, in seconds; `None` when there is no such process.
#[must_use]
pub fn cpu_s(pid: i32) -> Option<f64> {
    let ticks = ticks(pid)?;
    let used = |field: usize| ticks.get(field - FIRST_FIELD)?.parse::<f64>().ok();
    Some((used(UTIME)? + used(STIME)?) / ticks_per_s()?)
}

/// The time since the fork of process `pid`, in seconds; `None` when there is no such process.
#[must_use]
pub fn age_s(pid: i32) -> Option<f64> {
    let started: f64 = ticks(pid)?.get(START_TIME - FIRST_FIELD)?.parse().ok()?;
    // The clock of the start time. In a sandbox /proc/uptime may not be there.
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?;
    let now_s = now.tv_sec() as f64 + now.tv_nsec() as f64 / 1e9;
    Some((now_s - started / ticks_per_s()?).max(0.0))
}

/// Fields of proc_pid_stat(5), by its numbers.
const FIRST_FIELD: usize = 3;
const UTIME: usize = 14;
const STIME: usize = 15;
const START_TIME: usize = 22;

/// The fields of process `pid` from the third on: the second, its name, may hold anything.
fn ticks(pid: i32) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    Some(fields.split(' ').map(str::to_owned).collect())
}

fn ticks_per_s() -> Option<f64> {
    sysconf(SysconfVar::CLK_TCK).ok().flatten().map(|ticks| ticks as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_is_the_one_that_scripts_know() {
        let worker = WorkerStatus {
            slot: 0,
            pid: Some(12),
            state: ChildState::Ready,
            generation: 3,
            age_s: Some(1.2),
            heartbeat_age_ms: Some(12),
            requests: 9,
            in_flight: 0,
            connections: 3,
            queue: 0,
            rss_bytes: 1,
            restarts: 0,
            last_exit: None,
            loop_lag_ms: Some(0.5),
            cpu_s: Some(0.25),
            durations: vec![8, 1],
        };
        let child =
            ChildStatus { name: "admin".to_owned(), pid: Some(11), state: ChildState::Ready };
        let status = Status {
            version: "0.1.0".to_owned(),
            pid: 1,
            age_s: Some(60.5),
            generation: 3,
            target: 4,
            ready: 4,
            last_reload: LastReload::of(None),
            workers: vec![worker],
            children: vec![child],
        };
        let json = concat!(
            r#"{"version":"0.1.0","pid":1,"age_s":60.5,"generation":3,"target":4,"ready":4,"#,
            r#""last_reload":{"ok":true,"error":null},"#,
            r#""workers":[{"slot":0,"pid":12,"state":"ready","generation":3,"age_s":1.2,"#,
            r#""heartbeat_age_ms":12,"requests":9,"in_flight":0,"connections":3,"queue":0,"#,
            r#""rss_bytes":1,"restarts":0,"last_exit":null,"#,
            r#""loop_lag_ms":0.5,"cpu_s":0.25,"durations":[8,1]}],"#,
            r#""children":[{"name":"admin","pid":11,"state":"ready"}]}"#,
        );
        assert_eq!(serde_json::to_string(&status).unwrap(), json);
        assert_eq!(serde_json::from_str::<Status>(json).unwrap(), status);
    }

    #[test]
    fn states_are_shown_as_in_json() {
        use ChildState::{Backoff, Booting, Draining, Hung, Ready};
        for state in [Booting, Ready, Draining, Backoff, Hung] {
            assert_eq!(serde_json::to_string(&state).unwrap(), format!("\"{state}\""));
        }
    }

    #[test]
    fn the_last_reload_says_why_it_failed() {
        assert_eq!(LastReload::of(Some(&Ok(()))), LastReload { ok: true, error: None });
        let why = "no database".to_owned();
        let failed = LastReload { ok: false, error: Some(why.clone()) };
        assert_eq!(LastReload::of(Some(&Err(why))), failed);
    }

    #[test]
    fn memory_of_a_process_is_counted_in_bytes() {
        let ours = rss_bytes(i32::try_from(std::process::id()).unwrap());
        assert!((1 << 20..1 << 36).contains(&ours), "{ours}");
        assert_eq!(rss_bytes(-1), 0);
    }

    #[test]
    fn times_of_a_process_are_seconds() {
        let ours = i32::try_from(std::process::id()).unwrap();
        let (cpu, age) = (cpu_s(ours).unwrap(), age_s(ours).unwrap());
        // Of init, whose fork was before ours.
        assert!(age < age_s(1).unwrap() && cpu < 3_600.0, "{age} {cpu}");
        assert_eq!((cpu_s(-1), age_s(-1)), (None, None));
    }
}
