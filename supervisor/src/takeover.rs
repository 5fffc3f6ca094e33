//! The takeover: a supervisor that begins with what the program before it has left.
//!
//! Called by `Supervisor::new` and `Supervisor::run`, in a program that was exec'd by `handover`, and in a
//! pre-flight, where everything happens but the last step. What does not fit is an error here, as long as
//! the program before can still come back. Knows no policy.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use crate::boards::Boards;
use crate::config::{Config, ProgramKind};
use crate::control::Control;
use crate::error::Error;
use crate::listener::Listeners;
use crate::notify::Notify;
use crate::plan::Observation;
use crate::process::Processes;
use crate::signals::Signals;
use crate::start::{Arrival, Inheritance, Start};
use crate::state::{Attempts, ProgramSpec, Role, State};
use crate::supervisor::{CONTROL, SIGNALS, Supervisor};

impl Supervisor {
    /// With the sockets, the children and the scoreboard of the program before.
    pub(crate) fn heir(
        config: Config,
        mut left: Inheritance,
        start: &Start,
    ) -> Result<Self, Error> {
        if left.heritage.state.config.bind != config.bind {
            return Err(changed("bind"));
        }
        let heritage = &left.heritage;
        let awake = watch(Signals::adopt(heritage.signals))?;
        let epoll = &awake.1;
        let mut adopt = || {
            let descriptors = &mut left.descriptors;
            let scoreboard = descriptors.take(heritage.scoreboard)?;
            let before = heritage.scoreboard_before.map(|number| descriptors.take(number));
            let boards = Boards::of(scoreboard, before.transpose()?, config.cells)?;
            let begin_at_zero = boards.begin_at_zero();
            let processes = Processes::adopt(boards, &heritage.children, descriptors, epoll)?;
            let listeners = Listeners::adopt(&heritage.listeners, descriptors)?;
            Ok((processes, listeners, begin_at_zero))
        };
        let (processes, listeners, begin_at_zero) =
            adopt().map_err(|refused| not_whole(&refused))?;
        let notify = Notify::of(start);
        let mut heir = Self::of(config, awake, processes, listeners, notify, Some(left));
        heir.counts_begin_at_zero = begin_at_zero;
        Ok(heir)
    }

    /// A service that listens is this program's own code, and reads the scoreboard as that has it: one of the
    /// program before is to end, and is followed by one of ours on the same socket.
    fn renew_services(&self, state: &mut State) {
        for (id, child) in &mut state.children {
            let Role::Service { program } = child.role else { continue };
            let spec = &state.programs[program];
            if let ProgramKind::Service { stop_signal, .. } = spec.kind
                && self.service_listeners.contains_key(spec.name.as_str())
            {
                child.asked = true;
                self.processes.signal(*id, stop_signal);
            }
        }
    }

    /// The last steps of a takeover; a pre-flight ends before the very last one.
    pub(crate) fn succeed(
        &mut self,
        mut left: Inheritance,
        programs: Vec<ProgramSpec>,
        version: &str,
        start: &Start,
    ) -> Result<(State, Observation), Error> {
        let mut state = left.heritage.state;
        let workers = state.succeed(self.config.clone(), programs).map_err(Error::Takeover)?;
        if let Some(control) = &left.heritage.control {
            if !self.wants_control {
                return Err(changed("control"));
            }
            let adopted = Control::adopt(control, &mut left.descriptors, &self.epoll, CONTROL);
            self.control = Some(adopted.map_err(|refused| not_whole(&refused))?);
        }
        if left.is_check {
            start.pass(version);
        }
        for (name, number) in &left.heritage.entrusted {
            let kept = left.descriptors.take(*number).map_err(|refused| not_whole(&refused))?;
            self.entrusted.insert(name.clone(), kept);
        }
        self.processes.settle(&state).map_err(|refused| not_whole(&refused))?;
        match start.arrive() {
            Arrival::StayedOn(why) => Ok((state, Observation::StayedOn(why))),
            Arrival::Took { image } => {
                self.predecessor = image;
                self.renew_services(&mut state);
                Ok((state, Observation::TookOver(workers)))
            }
            Arrival::Fresh => Ok((state, Observation::Clock)),
        }
    }
}

impl Inheritance {
    /// The socket of a service, if it listens there.
    pub(crate) fn listener_of(
        &mut self,
        program: &str,
        address: SocketAddr,
    ) -> Option<TcpListener> {
        let number = self.heritage.service_listeners.get(program)?;
        let listener = TcpListener::from(self.descriptors.take(*number).ok()?);
        let there = listener.local_addr().ok()?;
        let is_same = there == address || (address.port() == 0 && there.ip() == address.ip());
        is_same.then_some(listener)
    }
}

/// Everything that wakes the loop, but for children and clients.
pub(crate) fn watch(signals: io::Result<Signals>) -> Result<(Signals, Epoll), Error> {
    let signals = signals.map_err(Error::system("signalfd"))?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
        .and_then(|epoll| {
            epoll.add(signals.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, SIGNALS))?;
            Ok(epoll)
        })
        .map_err(Error::system("epoll"))?;
    Ok((signals, epoll))
}

pub(crate) fn changed(setting: &str) -> Error {
    Error::Takeover(format!("{setting} has changed: that needs a restart"))
}

fn not_whole(refused: &io::Error) -> Error {
    Error::Takeover(format!("what the running program left cannot be used: {refused}"))
}

impl State {
    /// Goes on under these settings and programs; the number of workers that the settings want, where it
    /// is new. Programs are known again by their names.
    fn succeed(
        &mut self,
        config: Config,
        programs: Vec<ProgramSpec>,
    ) -> Result<Option<usize>, String> {
        let mut places = BTreeMap::new();
        let mut services = vec![Attempts::default(); programs.len()];
        for (old, spec) in self.programs.iter().enumerate() {
            let Some(new) = programs.iter().position(|other| other.name == spec.name) else {
                continue;
            };
            places.insert(old, new);
            services[new] = self.services[old].clone();
        }
        for child in self.children.values_mut() {
            if let Role::Step { program } | Role::Service { program } = &mut child.role {
                let gone = || {
                    format!(
                        "there is no {} any more: that needs a restart",
                        self.programs[*program].name
                    )
                };
                *program = *places.get(program).ok_or_else(gone)?;
            }
        }
        let wanted = (config.workers != self.config.workers).then_some(config.workers);
        (self.config, self.programs, self.services) = (config, programs, services);
        Ok(wanted)
    }
}
