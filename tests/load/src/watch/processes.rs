//! Processes and who descends from whom.
//!
//! The meters call it. A process is told from a later one with the same id by the time it started at.
//! It does not know threads.
//! Source: proc(5) and proc_pid_stat(5).

use std::collections::BTreeMap;
use std::fs;
use std::iter::successors;

use nix::unistd::Pid;

/// More generations than there are between a supervisor and any of its descendants. A walk upwards
/// ends here even if ids were used again while the processes were being listed.
const GENERATIONS_MAX: usize = 64;

/// One process: its id, and when it started, in clock ticks since the boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Process {
    pub(crate) pid: Pid,
    start_ticks: u64,
}

/// All processes that were there at one moment, zombies included.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    by_pid: BTreeMap<Pid, Stat>,
}

/// What is needed of `/proc/<pid>/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    process: Process,
    parent: Pid,
}

impl Process {
    /// The process that has this id now.
    pub(crate) fn of(pid: Pid) -> Option<Self> {
        Some(Stat::read(pid)?.process)
    }
}

impl Snapshot {
    /// Lists them. Those that come or go meanwhile may be in it or not.
    pub(crate) fn take() -> Self {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let stats = pids.filter_map(|pid| Stat::read(Pid::from_raw(pid)));
        Self { by_pid: stats.map(|stat| (stat.process.pid, stat)).collect() }
    }

    pub(crate) fn processes(&self) -> impl Iterator<Item = Process> {
        self.by_pid.values().map(|stat| stat.process)
    }

    /// A process, its parent, the parent of that one, and so on.
    pub(crate) fn lineage(&self, process: Process) -> impl Iterator<Item = Process> {
        let parent = |child: &Process| {
            let parent = self.by_pid.get(&self.by_pid.get(&child.pid)?.parent)?;
            Some(parent.process)
        };
        successors(Some(process), parent).take(GENERATIONS_MAX)
    }

    /// A process and all that descend from it; none when it is gone.
    pub(crate) fn tree(&self, root: Process) -> Vec<Process> {
        let descends = |process: &Process| self.lineage(*process).any(|one| one == root);
        self.processes().filter(descends).collect()
    }
}

impl Stat {
    /// `None` when there is no such process.
    fn read(pid: Pid) -> Option<Self> {
        // Bytes, since a process may call itself anything.
        let line = fs::read(format!("/proc/{pid}/stat")).ok()?;
        Self::parse(pid, &String::from_utf8_lossy(&line))
    }

    fn parse(pid: Pid, line: &str) -> Option<Self> {
        // The name stands in parentheses and may itself hold some.
        let (_, fields) = line.rsplit_once(") ")?;
        // The first of these is the third of the line, the state.
        let mut fields = fields.split(' ').skip(1);
        let parent = Pid::from_raw(fields.next()?.parse().ok()?);
        let start_ticks = fields.nth(17)?.parse().ok()?;
        Some(Self { process: Process { pid, start_ticks }, parent })
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use nix::sys::wait::{Id, WaitPidFlag, waitid};

    use super::*;

    fn pid(raw: u32) -> Pid {
        Pid::from_raw(i32::try_from(raw).unwrap())
    }

    #[test]
    fn a_name_with_spaces_and_parentheses_is_no_field() {
        let fields = "S 7 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2";
        let stat = Stat::parse(pid(9), &format!("9 (a) Z (b)) {fields}")).unwrap();
        let process = Process { pid: pid(9), start_ticks: 98_765 };
        assert_eq!(stat, Stat { process, parent: pid(7) });
        assert_eq!(Stat::parse(pid(9), "9 (cut"), None);
        assert_eq!(Stat::parse(pid(9), "9 (cut) S 7 1"), None);
    }

    #[test]
    fn a_tree_is_a_process_and_all_below_it() {
        // A shell, a shell in it, and `cat` in that one, which lives until its input is closed.
        let mut shell = Command::new("sh")
            .args(["-c", "sh -c 'cat; true'; true"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let root = Process::of(pid(shell.id())).unwrap();
        let whole = (0..10_000).map(|_| Snapshot::take().tree(root)).find(|tree| tree.len() == 3);
        let whole = whole.expect("three processes come up");
        assert!(whole.contains(&root));
        let own = Process::of(Pid::this()).unwrap();
        let above = Snapshot::take();
        assert!(above.tree(own).contains(&root), "we are above it");
        assert!(above.lineage(root).any(|one| one == own));

        drop(shell.stdin.take());
        shell.wait().unwrap();
        assert_eq!(Snapshot::take().tree(root), []);
    }

    #[test]
    fn a_zombie_is_listed_until_it_is_waited_for() {
        let mut child = Command::new("true").spawn().unwrap();
        let process = Process::of(pid(child.id())).unwrap();
        let ended = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        waitid(Id::Pid(process.pid), ended).unwrap();
        assert!(Snapshot::take().processes().any(|one| one == process));
        child.wait().unwrap();
        assert!(!Snapshot::take().processes().any(|one| one == process));
    }

    #[test]
    fn an_id_that_is_used_again_is_another_process() {
        let own = Process::of(Pid::this()).unwrap();
        let earlier = Process { start_ticks: own.start_ticks - 1, ..own };
        let now = Snapshot::take();
        assert!(now.tree(own).contains(&own));
        assert_eq!(now.tree(earlier), []);
    }
}
