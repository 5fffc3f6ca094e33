//! How much memory a server uses.
//!
//! The conductor asks at the end of a phase. What counts is the proportional set size: a page that
//! several processes share is divided among them, so that the sum over forked workers is what they
//! really take. It does not know what PostgreSQL uses.
//! Source: proc_pid_smaps(5) and the kernel's Documentation/ABI/testing/procfs-smaps_rollup.

use std::fs;
use std::io::{Error, ErrorKind};

use nix::errno::Errno;
use nix::unistd::Pid;

use super::processes::{Process, Snapshot};
use crate::report::model::Memory;

/// Of a server and all its processes; `workers` are those of them to be told one by one, in their
/// order, or all. `None` when it is gone, or not ours to look into.
pub(crate) fn measure(server: Pid, workers: Option<&[Pid]>) -> Option<Memory> {
    let tree = Snapshot::take().tree(Process::of(server)?);
    let sizes: Vec<(Pid, u64)> = tree
        .iter()
        .filter_map(|process| Some(pss_bytes(process.pid).transpose()?.map(|it| (process.pid, it))))
        .collect::<Result<_, Error>>()
        .ok()?;
    let size = |worker: &Pid| sizes.iter().find(|(pid, _)| pid == worker).map(|(_, size)| *size);
    let all = || sizes.iter().map(|(_, size)| *size).collect();
    (!sizes.is_empty()).then(|| Memory {
        total_bytes: sizes.iter().map(|(_, size)| size).sum(),
        worker_bytes: workers.map_or_else(all, |pids| pids.iter().filter_map(size).collect()),
    })
}

/// `None` of a process that has ended.
fn pss_bytes(pid: Pid) -> Result<Option<u64>, Error> {
    let text = match fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) {
        Ok(text) => text,
        Err(error) if has_ended(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(kib.map(|kib| kib * 1024))
}

/// Its folder is gone, or (a zombie's) its memory.
fn has_ended(error: &Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(Errno::ESRCH as i32)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Command, Stdio};

    use super::*;

    /// Fills itself with 16 MB, and forks two that stay.
    const SCRIPT: &str = "x=$(head -c 16000000 /dev/zero | tr '\\0' x); echo full; read -r go
        (read -r end) <&3 & (read -r end) <&3 & echo \"$! forked\"; read -r end";

    #[test]
    fn what_forked_processes_share_counts_once() {
        let mut server = Command::new("sh")
            .args(["-c", &format!("exec 3<&0; {SCRIPT}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(i32::try_from(server.id()).unwrap());
        let mut input = server.stdin.take().unwrap();
        let mut said = BufReader::new(server.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert_eq!(said.next().unwrap(), "full");
        let alone = measure(pid, None).unwrap();
        assert!((16_000_000..200_000_000).contains(&alone.total_bytes), "{alone:?}");
        assert_eq!(alone.worker_bytes, [alone.total_bytes]);

        writeln!(input, "go").unwrap();
        let forked = said.next().unwrap();
        let (last, _) = forked.split_once(' ').unwrap();
        let last = Pid::from_raw(last.parse().unwrap());
        let three = measure(pid, None).unwrap();
        assert_eq!(three.worker_bytes.len(), 3);
        assert!(three.total_bytes < alone.total_bytes * 5 / 4, "{alone:?} {three:?}");
        let chosen = measure(pid, Some(&[last, Pid::from_raw(i32::MAX)])).unwrap();
        assert_eq!(chosen.worker_bytes.len(), 1, "one that is gone has no size");
        assert!(chosen.worker_bytes[0] < alone.total_bytes / 2, "{alone:?} {chosen:?}");
        assert!(chosen.total_bytes > alone.total_bytes * 3 / 4, "{alone:?} {chosen:?}");

        drop(input);
        server.wait().unwrap();
        assert_eq!(measure(pid, None), None);
    }
}
