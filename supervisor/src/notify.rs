//! The service manager: what it is told, and what it keeps.
//!
//! The loop tells it every [`Event`] and every turn; here they become the words of sd_notify(3), one
//! datagram each, sent now or never: a manager that does not listen is no failure. Pings of its watchdog
//! say that the loop turns *and* that somebody serves. It keeps copies of the slots' sockets, so that what
//! is queued outlives even the supervisor: the next one is started with them (`activation`). Without
//! `NOTIFY_SOCKET` nothing here does anything. Decides nothing.
//! Source: sd_notify(3), sd_watchdog_enabled(3), systemd.service(5) on `FileDescriptorStoreMax`.

use std::ffi::OsStr;
use std::io::IoSlice;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, sendmsg, socket,
};

use crate::activation::kept_name;
use crate::clock::{now_ms, now_us};
use crate::config::Config;
use crate::journal::Event;
use crate::start::Start;
use crate::state::{Phase, State};

/// How often a long start, reload or upgrade asks for more time, and for how much.
const EXTEND_EVERY_MS: u64 = 5_000;
const EXTEND_BY_US: u64 = 15_000_000;

/// What people read while nobody serves.
const PAUSED: &str = "paused: a reload brings new workers";

/// The manager, if there is one.
#[derive(Debug)]
pub(crate) struct Notify {
    socket: Option<(OwnedFd, UnixAddr)>,
    /// Between two pings: a quarter of what the manager allows.
    ping_every_ms: Option<u64>,
    next_ping_ms: u64,
    next_extension_ms: u64,
    /// What it is told of: only the end of that makes it ready.
    stage: Stage,
    /// Nobody serves until a reload.
    paused: bool,
}

/// What the manager waits for the end of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The start.
    Start,
    /// Nothing.
    Ready,
    /// A reload.
    Reload,
    /// An upgrade, whose roll may fail before it is over.
    Upgrade,
    /// The stop.
    Stop,
}

impl Notify {
    /// As the environment of the start says.
    pub(crate) fn of(start: &Start) -> Self {
        let socket = start.variable("NOTIFY_SOCKET").and_then(|place| open(&place));
        let number = |name| start.variable(name)?.to_str()?.parse::<u64>().ok();
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let allowed_us = number("WATCHDOG_USEC").filter(|us| is_ours && *us > 0);
        let ping_every_ms = allowed_us.map(|us| (us / 4_000).max(1));
        let stage = if start.is_heir() { Stage::Upgrade } else { Stage::Start };
        Self { socket, ping_every_ms, next_ping_ms: 0, next_extension_ms: 0, stage, paused: false }
    }

    /// What concerns the manager, in its words.
    pub(crate) fn tell(&mut self, event: &Event, config: &Config) {
        match event {
            Event::Serving { workers } => {
                self.end(Stage::Start, &format!("{workers} workers serve"))
            }
            Event::Rolling => self.paused = false,
            Event::Rolled => self.end(Stage::Reload, "all workers were replaced"),
            Event::RollFailed { reason } => {
                self.end(Stage::Reload, &format!("the old workers serve on: {reason}"));
            }
            Event::Upgrading { .. } => self.begin(Stage::Upgrade),
            Event::Upgraded { version } => {
                self.end(Stage::Upgrade, &format!("upgraded to {version}"));
            }
            Event::UpgradeFailed { reason } => {
                self.end(Stage::Upgrade, &format!("the old program serves on: {reason}"));
            }
            Event::Paused => {
                self.paused = true;
                // Whatever was under way is over with it.
                self.end(self.stage, PAUSED);
            }
            Event::Stopping { .. } => {
                self.stage = Stage::Stop;
                let longest_ms = config.shutdown_delay_ms
                    + config.graceful_timeout_ms
                    + config.service_stop_timeout_ms;
                let extension_us = longest_ms * 1_000;
                self.send(&format!(
                    "STOPPING=1\nEXTEND_TIMEOUT_USEC={extension_us}\nSTATUS=stopping"
                ));
            }
            _ => {}
        }
    }

    /// A reload begins, which ends with one of the events.
    pub(crate) fn reloading(&mut self) {
        self.begin(Stage::Reload);
    }

    fn begin(&mut self, stage: Stage) {
        self.stage = stage;
        self.next_extension_ms = 0;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}\nSTATUS=reloading", now_us()));
    }

    /// Something has ended: where the manager waits for that, it is ready again.
    fn end(&mut self, stage: Stage, status: &str) {
        match self.stage {
            Stage::Stop => {}
            Stage::Ready => self.say(status),
            waited if waited == stage => {
                self.stage = Stage::Ready;
                self.say_with("READY=1\n", status);
            }
            _ => self.say(status),
        }
    }

    fn say(&self, status: &str) {
        self.say_with("", status);
    }

    /// One line for people, behind what is for the manager. As long as nobody serves, that is the line.
    fn say_with(&self, before: &str, status: &str) {
        let status = if self.paused { PAUSED } else { status };
        self.send(&format!("{before}STATUS={}", status.replace(char::is_control, " ")));
    }

    /// A turn of the loop: pings, when it is time and all is well, and asks for time for what takes long.
    pub(crate) fn turn(&mut self, state: &State) {
        let now_ms = now_ms();
        if let Some(every_ms) = self.ping_every_ms
            && now_ms >= self.next_ping_ms
        {
            self.next_ping_ms = now_ms + every_ms;
            if is_healthy(state) {
                self.send("WATCHDOG=1");
            }
        }
        if !self.needs_time(state) {
            // The next one that does asks at once.
            self.next_extension_ms = 0;
        } else if now_ms >= self.next_extension_ms {
            self.next_extension_ms = now_ms + EXTEND_EVERY_MS;
            self.send(&format!("EXTEND_TIMEOUT_USEC={EXTEND_BY_US}"));
        }
    }

    /// When the next turn has to be, even if nothing else happens.
    pub(crate) fn next_deadline_ms(&self, state: &State) -> Option<u64> {
        self.socket.as_ref()?;
        let ping = self.ping_every_ms.map(|_| self.next_ping_ms);
        let extension = self.needs_time(state).then_some(self.next_extension_ms);
        ping.into_iter().chain(extension).min()
    }

    /// Whether the manager waits for something that ends by limits of its own: a start, a reload, an upgrade, or
    /// a reload behind something else. The time counts for its watchdog, too, so that who does not serve gets
    /// none for a reload.
    fn needs_time(&self, state: &State) -> bool {
        let is_rolling = matches!(self.stage, Stage::Reload | Stage::Upgrade);
        is_starting(state)
            || (state.phase == Phase::Serve
                && (is_rolling || state.reload_again)
                && is_healthy(state))
    }

    /// Lets the manager keep a copy of a slot's socket.
    pub(crate) fn store(&self, slot: usize, listener: BorrowedFd<'_>) {
        // Else it would let go of one that it finds readable with an error.
        let text = format!("FDSTORE=1\nFDNAME={}\nFDPOLL=0", kept_name(slot));
        self.send_with(&text, &[listener.as_raw_fd()]);
    }

    /// And lets it close that.
    pub(crate) fn forget(&self, name: &str) {
        self.send(&format!("FDSTOREREMOVE=1\nFDNAME={name}"));
    }

    fn send(&self, text: &str) {
        self.send_with(text, &[]);
    }

    fn send_with(&self, text: &str, descriptors: &[i32]) {
        let Some((socket, address)) = &self.socket else { return };
        let rights = [ControlMessage::ScmRights(descriptors)];
        let rights = if descriptors.is_empty() { &[][..] } else { &rights[..] };
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        let text = [IoSlice::new(text.as_bytes())];
        let _ = sendmsg(socket.as_raw_fd(), &text, rights, flags, Some(address));
    }
}

/// Somebody serves, or nobody is expected to yet, or any more.
fn is_healthy(state: &State) -> bool {
    state.phase != Phase::Serve
        || state.paused
        || (0..state.open_slots()).any(|slot| state.server(slot).is_some())
}

fn is_starting(state: &State) -> bool {
    matches!(state.phase, Phase::Boot { .. } | Phase::Bind | Phase::FirstStart)
}

/// A path, or a name behind `@` that is in no folder.
fn open(place: &OsStr) -> Option<(OwnedFd, UnixAddr)> {
    let address = match place.as_bytes() {
        [b'@', name @ ..] => UnixAddr::new_abstract(name),
        [b'/', ..] => UnixAddr::new(place.as_bytes()),
        _ => return None,
    };
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None).ok()?;
    Some((socket, address.ok()?))
}
