//! The handover: this process becomes another program, and what it was is left to that program.
//!
//! Called by the loop when `plan` says so, and in the child that is a pre-flight, which gets a copy of it
//! all. Descriptors stay open over the exec by number, signals stay blocked, children stay children. An
//! exec that is refused changes nothing. Knows no policy. Source: execve(2), proc_pid_exe(5).

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::getpid;

use crate::channel::ChildChannel;
use crate::heritage::{Heritage, Passing};
use crate::start::{Start, Wish};
use crate::state::{State, Upgrade};
use crate::supervisor::Supervisor;

/// The running program, whatever its name belongs to by now.
const IMAGE: &str = "/proc/self/exe";

impl Supervisor {
    /// Becomes the program that now stands where this one was started from. Returns only why not.
    pub(crate) fn hand_over(&self, state: &State, start: &Start) -> io::Error {
        let image = match image() {
            Ok(image) => image,
            Err(refused) => return refused,
        };
        let wish = Wish::Take { image: image.as_raw_fd() };
        self.exec(state, start, &image, |heritage| start.exec_program(wish, heritage))
    }

    /// Becomes the program before this one again. Returns only why not.
    pub(crate) fn hand_back(&self, state: &State, start: &Start) -> io::Error {
        match &self.predecessor {
            Some(image) => self.exec(state, start, image, |heritage| {
                start.exec_image(image, &Wish::Back.text(heritage))
            }),
            None => io::Error::other("its file is lost"),
        }
    }

    /// In the child that is the pre-flight: becomes the other program, which only tries. Returns only why
    /// not.
    pub(crate) fn try_out(&self, state: &State, start: &Start, up: &ChildChannel) -> io::Error {
        let wish = Wish::Check { channel: up.as_fd().as_raw_fd() };
        self.exec(state, start, up, |heritage| match (&state.upgrade, &self.predecessor) {
            (Some(Upgrade::WayBack { .. }), Some(image)) => {
                start.exec_image(image, &wish.text(heritage))
            }
            _ => start.exec_program(wish, heritage),
        })
    }

    /// Execs with everything that is left, and one descriptor more.
    fn exec(
        &self,
        state: &State,
        start: &Start,
        more: &impl AsFd,
        exec: impl FnOnce(i32) -> io::Error,
    ) -> io::Error {
        let mut passing = Passing::default();
        passing.add(more);
        let attempt = || {
            let text = self.leave(state, start, &mut passing).write()?;
            let mut all = Passing::default();
            all.add(&text);
            passing.stay_open(true)?;
            all.stay_open(true)?;
            Ok(exec(text.as_raw_fd()))
        };
        let refused = attempt().unwrap_or_else(|refused| refused);
        let _ = passing.stay_open(false);
        refused
    }

    fn leave<'a>(&'a self, state: &State, start: &Start, passing: &mut Passing<'a>) -> Heritage {
        let may_return = self.predecessor.is_some();
        let (children, scoreboard, scoreboard_before) = self.processes.leave(passing, may_return);
        let entrust = |(name, one): (&String, &'a OwnedFd)| (name.clone(), passing.add(one));
        let entrusted = self.entrusted.iter().map(entrust).collect();
        let services = self.service_listeners.iter();
        let service_listeners =
            services.map(|(name, one)| ((*name).to_owned(), passing.add(one))).collect();
        Heritage {
            supervisor: getpid().as_raw(),
            state: state.clone(),
            children,
            listeners: self.listeners.leave(passing),
            service_listeners,
            scoreboard,
            scoreboard_before,
            start: start.leave(),
            control: self.control.as_ref().map(|control| control.leave(passing)),
            signals: self.signals.leave(),
            entrusted,
            descriptors: passing.numbers(),
        }
    }
}

/// A descriptor of the running program, to come back by.
fn image() -> io::Result<OwnedFd> {
    Ok(open(IMAGE, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?)
}
