//! A server whose worker's system calls are counted.
//!
//! The budgets' tests start it. strace runs beside the server (`-D`), which is our child as ever, and writes
//! a file for each process. A call on a connection is named after whom it leads to as well.
//! Does not know: what is measured.
//! Source: strace(1).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use crate::harness::{Launch, Peace};

/// The server, under strace.
pub(super) struct Strace {
    pub(super) peace: Peace,
    pub(super) worker: i32,
    trace: PathBuf,
    /// What `-yy` shows of a connection's descriptor, and whom it leads to.
    peers: [(String, &'static str); 2],
}

impl Strace {
    /// Starts what `launch` says, one worker, and waits until it serves. The database listens on a port.
    pub(super) fn start(launch: Launch, database_port: u16) -> Self {
        let prefix = launch.folder().path().join("trace").display().to_string();
        let options = ["-D", "-ff", "-yy", "-qq", "-s", "0", "-e", "signal=none", "-o", &prefix];
        let peace = launch.under("strace", options).workers(1).serve();
        let worker = peace.workers()[&0];
        let trace = peace.folder().join(format!("trace.{worker}"));
        let peers = [
            (format!("<TCP:[{}->", peace.address()), "client"),
            (format!("->127.0.0.1:{database_port}]>"), "database"),
        ];
        Self { peace, worker, trace, peers }
    }

    /// How often the worker makes which call while `work` goes on.
    pub(super) fn counted(&self, work: impl FnOnce()) -> BTreeMap<String, usize> {
        let begin = fs::metadata(&self.trace).expect("strace writes it").len();
        work();
        let mut file = File::open(&self.trace).expect("strace writes it");
        let mut text = String::new();
        file.seek(SeekFrom::Start(begin)).expect("it only grows");
        file.read_to_string(&mut text).expect("strace writes ASCII");
        let mut calls = BTreeMap::new();
        for name in text.lines().filter_map(|line| self.name(line)) {
            *calls.entry(name).or_default() += 1;
        }
        calls
    }

    /// The name of the call that a line tells; none where it is the end of one that was begun before.
    fn name(&self, line: &str) -> Option<String> {
        let (call, arguments) = line.split_once('(')?;
        let is_name = call.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let first = arguments.split(',').next()?;
        let peer = self.peers.iter().find(|(mark, _)| first.contains(mark));
        let name = peer.map_or_else(|| call.to_owned(), |(_, peer)| format!("{call}_{peer}"));
        is_name.then_some(name)
    }
}
