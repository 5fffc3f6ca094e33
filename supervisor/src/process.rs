//! Processes: fork one, signal one, reap those that ended.
//!
//! Called by the loop, with child ids; process ids are its own affair, and since only this module
//! reaps, a process id it remembers is never somebody else's. Holds what belongs to a living child:
//! its channel and its cell. Knows no policy. Source: fork(2), kill(2), waitpid(2).

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid};

use crate::channel::{self, ChildChannel, Heard, Message, Order, SupervisorChannel};
use crate::scoreboard::{Cell, Reading, Scoreboard};
use crate::state::{ChildId, Exit, Role};
use crate::sys::{self, Side};

/// All living children.
#[derive(Debug)]
pub(crate) struct Processes {
    children: BTreeMap<ChildId, Process>,
    scoreboard: Scoreboard,
}

#[derive(Debug)]
struct Process {
    pid: Pid,
    channel: SupervisorChannel,
    cell: usize,
}

/// What a fork gave, on either side of it.
pub(crate) enum Spawned {
    /// In the supervisor: the child's process id.
    Parent(i32),
    /// In the child: its ends of what it shares with the supervisor.
    Child { channel: ChildChannel, cell: Cell, supervisor: Pid },
}

impl Processes {
    pub(crate) fn new(scoreboard: Scoreboard) -> Self {
        Self { children: BTreeMap::new(), scoreboard }
    }

    /// Forks a child and begins to listen to its channel.
    pub(crate) fn spawn(&mut self, id: ChildId, role: Role, epoll: &Epoll) -> io::Result<Spawned> {
        let supervisor = getpid();
        let (up, down) = channel::pair()?;
        let (slot, generation) = match role {
            Role::Worker { slot, generation } => (slot, generation),
            Role::Step { .. } | Role::Service { .. } => (usize::MAX, 0),
        };
        let (index, cell) = self
            .scoreboard
            .claim(slot, generation)
            .ok_or_else(|| io::Error::other("the scoreboard is full"))?;
        match self.fork(id, up, index, epoll) {
            Ok(Side::Parent(pid)) => Ok(Spawned::Parent(pid.as_raw())),
            Ok(Side::Child) => Ok(Spawned::Child { channel: down, cell, supervisor }),
            Err(refused) => {
                self.scoreboard.release(index);
                Err(refused)
            }
        }
    }

    fn fork(
        &mut self,
        id: ChildId,
        channel: SupervisorChannel,
        cell: usize,
        epoll: &Epoll,
    ) -> io::Result<Side> {
        // Registered before the fork: a child that exists is a child that is heard.
        epoll.add(channel.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, id))?;
        let side = sys::fork_single_threaded()?;
        if let Side::Parent(pid) = side {
            self.children.insert(id, Process { pid, channel, cell });
        }
        Ok(side)
    }

    pub(crate) fn send(&self, id: ChildId, order: Order) {
        if let Some(child) = self.children.get(&id) {
            child.channel.send(order);
        }
    }

    /// Sends an order and a copy of a socket.
    pub(crate) fn send_with(&self, id: ChildId, order: Order, listener: &TcpListener) {
        if let Some(child) = self.children.get(&id) {
            child.channel.send_with(order, listener);
        }
    }

    /// When each child last said that it lives.
    pub(crate) fn beats(&self) -> Vec<(ChildId, u64)> {
        let beat = |(id, child): (&ChildId, &Process)| {
            (*id, self.scoreboard.read(child.cell).heartbeat_ms)
        };
        self.children.iter().map(beat).collect()
    }

    /// What a child last reported.
    pub(crate) fn reading(&self, id: ChildId) -> Option<Reading> {
        self.children.get(&id).map(|child| self.scoreboard.read(child.cell))
    }

    /// Signals a child; one that has ended already is no error.
    pub(crate) fn signal(&self, id: ChildId, signal: i32) {
        if let (Some(child), Ok(signal)) = (self.children.get(&id), Signal::try_from(signal)) {
            let _ = kill(child.pid, signal);
        }
    }

    pub(crate) fn kill(&self, id: ChildId) {
        self.signal(id, Signal::SIGKILL as i32);
    }

    /// What the children said since the last look.
    pub(crate) fn messages(&self, epoll: &Epoll) -> Vec<(ChildId, Message)> {
        let mut messages = Vec::new();
        for (id, child) in &self.children {
            loop {
                match child.channel.receive() {
                    Heard::Message(message) => messages.push((*id, message)),
                    Heard::Nothing => break,
                    Heard::End => {
                        // Its death is reaped elsewhere; an end of file would wake the loop for ever.
                        let _ = epoll.delete(child.channel.as_fd());
                        break;
                    }
                }
            }
        }
        messages
    }

    /// Reaps every process that ended. Foreign ones (as process 1 we inherit orphans) are reaped and
    /// forgotten.
    pub(crate) fn reap(&mut self) -> Vec<(ChildId, Exit)> {
        let mut ended = Vec::new();
        loop {
            let (pid, exit) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, Exit::Code(code.to_le_bytes()[0])),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, Exit::Signal(signal as i32)),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return ended,
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(_) => return ended,
            };
            if let Some(id) = self.id_of(pid) {
                ended.push((id, exit));
            }
        }
    }

    /// Forgets a reaped child: its channel is closed, its cell is free, its counts are kept.
    pub(crate) fn forget(&mut self, id: ChildId) {
        if let Some(child) = self.children.remove(&id) {
            self.scoreboard.release(child.cell);
        }
    }

    fn id_of(&self, pid: Pid) -> Option<ChildId> {
        self.children.iter().find(|(_, child)| child.pid == pid).map(|(id, _)| *id)
    }
}
