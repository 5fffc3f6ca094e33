//! Why the supervisor could not do its work.
//!
//! Returned to the application's `main`, which turns it into one line and an exit code. Each text
//! says what was refused and, where a person can mend it, how.

use std::io::{self, ErrorKind};

use crate::bind::Bind;

/// What the system refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody listens there already.
    #[error("{0} is already in use: stop what listens there, or choose another --bind")]
    AddressInUse(Bind),
    /// Sockets of a port have to be one user's, and those that there are were given to us.
    #[error(
        "{given} sockets were given for {address}, and no other can be opened beside them (has another user made \
         them?): give their unit a ListenStream= more for each worker, or choose --workers {given}"
    )]
    NoneBesideGiven {
        /// Where they listen.
        address: Bind,
        /// How many they are.
        given: usize,
    },
    /// Ports below 1024 need a privilege.
    #[error("{0} needs a privilege: choose a port above 1023, or grant CAP_NET_BIND_SERVICE")]
    AddressForbidden(Bind),
    /// The address is not one of this machine, or another refusal of bind(2) or listen(2).
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address that was asked for.
        address: Bind,
        /// What the system said.
        source: io::Error,
    },
    /// A call the supervisor cannot do without failed.
    #[error("the system refused {call}: {source}")]
    System {
        /// The call, by its manual page.
        call: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A slot can only be added to others.
    #[error("nothing listens that another slot could stand beside")]
    NothingListens,
    /// The program before this one, or what it has left, does not fit.
    #[error("{0}")]
    Takeover(String),
    /// More slots than the scoreboard has cells.
    #[error("{0} workers are more than the {max} this build has room for", max = crate::config::SLOTS_MAX)]
    TooManyWorkers(usize),
}

impl Error {
    /// What bind(2), listen(2) or the file system said of an address.
    pub(crate) fn refusal(address: Bind, source: io::Error) -> Self {
        match (source.kind(), &address) {
            (ErrorKind::AddrInUse, _) => Self::AddressInUse(address),
            (ErrorKind::PermissionDenied, Bind::Tcp(_)) => Self::AddressForbidden(address),
            _ => Self::Listen { address, source },
        }
    }

    /// A failure of `call`, for `map_err`.
    pub(crate) fn system<E: Into<io::Error>>(call: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System { call, source: source.into() }
    }
}
