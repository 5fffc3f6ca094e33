//! Processes: fork one, signal one, reap those that ended.
//!
//! Called by the loop, with child ids; process ids are its own affair, and since only this module
//! reaps, a process id it remembers is never somebody else's. Holds what belongs to a living child:
//! its channel and its cell. A child that was forked under a scoreboard of another layout is a *guest* in
//! ours: its cell says what the supervisor knows of it. Knows no policy. Source: fork(2), kill(2), waitpid(2).

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{SockType, getsockopt, sockopt};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid};

use crate::boards::{Boards, Counts};
use crate::channel::{self, ChildChannel, Heard, Message, Order, SupervisorChannel};
use crate::clock::now_ms;
use crate::heritage::{ChildLeft, Passing};
use crate::journal::Event;
use crate::scoreboard::{Cell, Reading, Scoreboard};
use crate::start::Descriptors;
use crate::state::{Child, ChildId, Exit, Role, State};
use crate::sys::{self, Side};

/// All living children.
#[derive(Debug)]
pub(crate) struct Processes {
    children: BTreeMap<ChildId, Process>,
    scoreboard: Scoreboard,
    /// Of another layout: the one of the program before this one.
    before: Option<Scoreboard>,
}

#[derive(Debug)]
struct Process {
    pid: Pid,
    channel: SupervisorChannel,
    /// `None` until an heir has given it one.
    cell: Option<usize>,
    counts: Counts,
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
        Self { children: BTreeMap::new(), scoreboard, before: None }
    }

    /// Takes over the children of the program before, and listens to them. Writes nothing into a
    /// scoreboard: whoever only tries has the real ones.
    pub(crate) fn adopt(
        boards: Boards,
        left: &[ChildLeft],
        descriptors: &mut Descriptors,
        epoll: &Epoll,
    ) -> io::Result<Self> {
        let mut children = BTreeMap::new();
        for child in left {
            let channel = SupervisorChannel::from(descriptors.take(child.channel)?);
            if getsockopt(&channel, sockopt::SockType)? != SockType::SeqPacket {
                return Err(io::Error::other("a child's channel is none"));
            }
            epoll.add(channel.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, child.id))?;
            let (cell, counts) = boards.place_of(child);
            let pid = Pid::from_raw(child.pid);
            children.insert(child.id, Process { pid, channel, cell, counts });
        }
        Ok(Self { children, scoreboard: boards.ours, before: boards.before })
    }

    /// Gives every child that was taken over a cell, and goes on with the supervisor's own counts.
    pub(crate) fn settle(&mut self, state: &State) -> io::Result<()> {
        if let Some(before) = &self.before {
            self.scoreboard.go_on_from(before);
        }
        for (id, process) in &mut self.children {
            let Some(child) = state.children.get(id) else { continue };
            let (slot, generation) = place(child.role);
            let claim = || Some(self.scoreboard.claim(slot, generation)?.0);
            let cell = process.cell.or_else(claim).ok_or_else(full)?;
            // Programs may have other numbers now.
            self.scoreboard.belongs(cell, generation, process.pid.as_raw());
            process.cell = Some(cell);
        }
        self.mirror(state);
        Ok(())
    }

    /// Says of every guest how it is.
    pub(crate) fn mirror(&self, state: &State) {
        for (id, process) in &self.children {
            self.mirror_one(process, state.children.get(id));
        }
    }

    fn mirror_one(&self, process: &Process, child: Option<&Child>) {
        match (process.cell, process.counts, &self.before, child) {
            (Some(cell), Counts::Before(original), Some(before), _) => {
                self.scoreboard.mirror(cell, before, original);
            }
            (Some(cell), Counts::Unread, _, Some(child)) => {
                self.scoreboard.presume(cell, child.spawned_ms, child.served());
            }
            _ => {}
        }
    }

    /// Leaves the children to the program after this one; and the scoreboards: that of before, if its
    /// program may have to come back.
    pub(crate) fn leave<'a>(
        &'a self,
        passing: &mut Passing<'a>,
        may_return: bool,
    ) -> (Vec<ChildLeft>, i32, Option<i32>) {
        let leave = |(id, child): (&ChildId, &'a Process)| ChildLeft {
            id: *id,
            pid: child.pid.as_raw(),
            channel: passing.add(&child.channel),
            cell: child.cell,
            is_guest: child.counts != Counts::Here,
            cell_before: match child.counts {
                Counts::Before(cell) if may_return => Some(cell),
                _ => None,
            },
        };
        let children = self.children.iter().map(leave).collect();
        let before = self.before.as_ref().filter(|_| may_return);
        let before = before.map(|before| passing.add(before.file()));
        (children, passing.add(self.scoreboard.file()), before)
    }

    /// Forks a child and begins to listen to its channel.
    pub(crate) fn spawn(&mut self, id: ChildId, role: Role, epoll: &Epoll) -> io::Result<Spawned> {
        let supervisor = getpid();
        let (up, down) = channel::pair()?;
        let (slot, generation) = place(role);
        let (index, cell) = self.scoreboard.claim(slot, generation).ok_or_else(full)?;
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
            self.scoreboard.forked(cell, pid.as_raw());
            let process = Process { pid, channel, cell: Some(cell), counts: Counts::Here };
            self.children.insert(id, process);
        }
        Ok(side)
    }

    pub(crate) fn send(&self, id: ChildId, order: Order) {
        if let Some(child) = self.children.get(&id) {
            child.channel.send(order);
        }
    }

    /// Sends an order and a copy of a descriptor.
    pub(crate) fn send_with(&self, id: ChildId, order: Order, descriptor: &impl AsFd) {
        if let Some(child) = self.children.get(&id) {
            child.channel.send_with(order, descriptor);
        }
    }

    /// When each child last said that it lives.
    pub(crate) fn beats(&self) -> Vec<(ChildId, u64)> {
        let beat = |(id, child): (&ChildId, &Process)| {
            (*id, self.reading(child).map_or_else(now_ms, |reading| reading.heartbeat_ms))
        };
        self.children.iter().map(beat).collect()
    }

    /// How many requests a child has begun.
    pub(crate) fn requests(&self, id: ChildId) -> u64 {
        let reading = self.children.get(&id).and_then(|child| self.reading(child));
        reading.map_or(0, |reading| reading.requests)
    }

    /// What a child itself last said.
    fn reading(&self, child: &Process) -> Option<Reading> {
        match child.counts {
            Counts::Here => Some(self.scoreboard.read(child.cell?)),
            Counts::Before(cell) => Some(self.before.as_ref()?.read(cell)),
            Counts::Unread => None,
        }
    }

    /// Whether a child counts in another scoreboard than ours.
    pub(crate) fn is_guest(&self, id: ChildId) -> bool {
        self.children.get(&id).is_some_and(|child| child.counts != Counts::Here)
    }

    /// Which cell of the scoreboard is a child's.
    pub(crate) fn cell(&self, id: ChildId) -> Option<usize> {
        self.children.get(&id)?.cell
    }

    /// Where all of them say how they are.
    pub(crate) fn scoreboard(&self) -> &Scoreboard {
        &self.scoreboard
    }

    /// Counts what the journal is told.
    pub(crate) fn count(&mut self, event: &Event) {
        self.scoreboard.count(event);
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
        let Some(process) = self.children.remove(&id) else { return };
        // Its last words.
        self.mirror_one(&process, None);
        if let Some(cell) = process.cell {
            self.scoreboard.release(cell);
        }
        if let (Counts::Before(cell), Some(before)) = (process.counts, &mut self.before) {
            before.release(cell);
        }
    }

    fn id_of(&self, pid: Pid) -> Option<ChildId> {
        self.children.iter().find(|(_, child)| child.pid == pid).map(|(id, _)| *id)
    }
}

/// The slot of a child's cell, if it has one, and its number there.
fn place(role: Role) -> (Option<usize>, u64) {
    match role {
        Role::Worker { slot, generation } => (Some(slot), generation),
        Role::Step { program } | Role::Service { program } => (None, program as u64),
        // No program of the list.
        Role::PreFlight => (None, u64::MAX),
    }
}

fn full() -> io::Error {
    io::Error::other("the scoreboard is full")
}
