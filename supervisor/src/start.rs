//! How this process was started: by whom, with what, and whether it takes the place of another program.
//!
//! `main` asks first of all, before it reads a setting, and hands the answer to the supervisor. The command
//! line and the environment are kept as they were, since an upgrade execs with them again; they go from
//! program to program, so that one which was given others (by a script in between) hands on these. What the program
//! before this one has left stays untouched, every descriptor open, until the supervisor runs: up to there
//! [`Start::refuse`] brings that program back. It knows no state and no policy.
//! Source: execve(2), fexecve(3), environ(7).

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::prctl;
use nix::unistd::{AccessFlags, access, execve, execveat};

use crate::channel::{ChildChannel, Message};
use crate::heritage::{Heritage, StartLeft};
use crate::sys;

/// Says to the program that is exec'd what it is to do with what it finds.
const VARIABLE: &str = "PEACE_UPGRADE";
/// Sockets of the service manager begin at this number.
const LISTEN_FDS_START: i32 = 3;
/// More than there are slots.
const LISTEN_FDS_MAX: i32 = 512;
/// What the service manager says to this process and not to its children. What is said of sockets is over
/// when they are taken.
const MANAGERS: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];
const SOCKETS: [&str; 3] = ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];
/// What people see of a program that was exec'd by its descriptor; else they see its number.
const NAME: &std::ffi::CStr = c"peace-superviso";

/// The process's own beginning.
#[derive(Debug)]
pub struct Start {
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    /// Until it was done, or there never was any.
    errand: RefCell<Option<Errand>>,
    /// Of the service manager, by name; until they are taken.
    sockets: RefCell<Vec<(String, OwnedFd)>>,
}

/// What the program before this one wants of it.
#[derive(Debug)]
struct Errand {
    kind: Kind,
    heritage: Result<Heritage, String>,
    /// What was inherited, by its number; nobody else has it.
    descriptors: BTreeMap<i32, OwnedFd>,
    /// The number of the heritage itself.
    number: i32,
}

/// As in the variable: a word, the number of the heritage, and what belongs to the word.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// Try whether it could be taken over, and tell it to the channel of this number.
    Check { channel: i32 },
    /// Take over. The program before comes back by the descriptor of this number.
    Take { image: i32 },
    /// Be here again; perhaps another program could not even begin, and says why.
    Back { why: Option<String> },
}

/// What `handover` wants of the program that it execs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wish {
    Check { channel: i32 },
    Take { image: i32 },
    Back,
}

/// What came of a heritage, for `supervisor`.
#[derive(Debug)]
pub(crate) struct Inheritance {
    pub(crate) heritage: Heritage,
    pub(crate) descriptors: Descriptors,
    pub(crate) is_check: bool,
}

/// Copies of what was inherited, to be taken by number.
#[derive(Debug)]
pub(crate) struct Descriptors(BTreeMap<i32, OwnedFd>);

/// What was done with it, for the loop.
pub(crate) enum Arrival {
    /// There was nothing to take over.
    Fresh,
    /// It was taken over; this brings the program before back.
    Took { image: Option<OwnedFd> },
    /// Another program could not begin.
    StayedOn(String),
}

impl Start {
    /// Of this process. To be called once, first of all.
    ///
    /// # Errors
    /// When the process has more than one thread already, or a socket of the service manager is lost.
    pub fn of_process() -> io::Result<Self> {
        let errand = env::var_os(VARIABLE).and_then(|text| Errand::of(text.to_str()?));
        let sockets = listen_fds()?;
        sys::forget_variables(&[&[VARIABLE], &SOCKETS[..]].concat())?;
        let ours = || StartLeft {
            arguments: env::args_os().collect(),
            environment: env::vars_os().collect(),
        };
        let heritage = errand.as_ref().and_then(|errand| errand.heritage.as_ref().ok());
        let left = heritage.map(|heritage| heritage.start.clone());
        let StartLeft { arguments, environment } = left.unwrap_or_else(ours);
        sys::forget_variables(&MANAGERS)?;
        Ok(Self {
            arguments,
            environment,
            errand: RefCell::new(errand),
            sockets: RefCell::new(sockets),
        })
    }

    /// What every program that comes later is run with.
    pub(crate) fn leave(&self) -> StartLeft {
        let (arguments, environment) = (self.arguments.clone(), self.environment.clone());
        StartLeft { arguments, environment }
    }

    /// A variable of the start, one that the children do not see included.
    pub(crate) fn variable(&self, name: &str) -> Option<OsString> {
        let found = self.environment.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.clone())
    }

    /// The sockets that the service manager has started this process with, by name; once.
    pub(crate) fn take_sockets(&self) -> Vec<(String, OwnedFd)> {
        self.sockets.take()
    }

    /// Whether this program takes the place of another one, or tries to.
    #[must_use]
    pub fn is_heir(&self) -> bool {
        self.errand.borrow().is_some()
    }

    /// What the program before this one has entrusted to the supervisor under this name.
    #[must_use]
    pub fn inherited(&self, name: &str) -> Option<OwnedFd> {
        let errand = self.errand.borrow();
        let errand = errand.as_ref()?;
        let number = errand.heritage.as_ref().ok()?.entrusted.get(name)?;
        errand.descriptors.get(number)?.try_clone().ok()
    }

    /// The process that the children know as their supervisor: not this one while it only tries.
    #[must_use]
    pub fn supervisor(&self) -> u32 {
        let errand = self.errand.borrow();
        let heritage = errand.as_ref().and_then(|errand| errand.heritage.as_ref().ok());
        let pid = heritage.and_then(|heritage| u32::try_from(heritage.supervisor).ok());
        pid.unwrap_or_else(std::process::id)
    }

    /// This program cannot run: says why to whom it concerns. In an upgrade it does not return, unless
    /// even the way back is closed: the program before is here again, or goes on without us.
    pub fn refuse(&self, code: u8, text: &str) {
        let Some(errand) = self.errand.take() else { return };
        match errand.kind {
            Kind::Check { channel } => {
                if let Some(channel) = errand.descriptors.get(&channel)
                    && let Ok(channel) = channel.try_clone()
                {
                    let text = text.to_owned();
                    ChildChannel::from(channel).send(&Message::BootFailed { code, text });
                }
                sys::leave(code);
            }
            Kind::Take { image } => {
                if let Some(image) = errand.descriptors.get(&image) {
                    let why = text.replace('\0', " ");
                    let _ = self.exec_image(image, &format!("back {} {why}", errand.number));
                }
            }
            Kind::Back { .. } => {}
        }
    }

    /// A copy of what is to be taken over, if anything is.
    pub(crate) fn inheritance(&self) -> Result<Option<Inheritance>, String> {
        let errand = self.errand.borrow();
        let Some(Errand { kind, heritage, descriptors, .. }) = errand.as_ref() else {
            return Ok(None);
        };
        let heritage = heritage.clone()?;
        let copy = |(number, one): (&i32, &OwnedFd)| Ok((*number, one.try_clone()?));
        let copies = descriptors.iter().map(copy).collect::<io::Result<_>>();
        let descriptors = Descriptors(copies.map_err(|refused: io::Error| too_many(&refused))?);
        let is_check = matches!(kind, Kind::Check { .. });
        Ok(Some(Inheritance { heritage, descriptors, is_check }))
    }

    /// Ends the check: this program could take over. Does not return.
    pub(crate) fn pass(&self, version: &str) -> ! {
        if let Some(Errand { kind: Kind::Check { channel }, descriptors, .. }) = self.errand.take()
            && let Some(channel) = descriptors.get(&channel)
            && let Ok(channel) = channel.try_clone()
        {
            let version = version.to_owned();
            ChildChannel::from(channel).send(&Message::Passed { version });
        }
        sys::leave(0)
    }

    /// From here on what was inherited is this program's own: the originals are closed.
    pub(crate) fn arrive(&self) -> Arrival {
        let Some(Errand { kind, mut descriptors, .. }) = self.errand.take() else {
            return Arrival::Fresh;
        };
        match kind {
            Kind::Take { image } => {
                // A copy, since a later exec must not hand it on.
                let image = descriptors.remove(&image).and_then(|image| image.try_clone().ok());
                Arrival::Took { image }
            }
            Kind::Back { why: None } | Kind::Check { .. } => Arrival::Took { image: None },
            Kind::Back { why: Some(why) } => Arrival::StayedOn(why),
        }
    }

    /// Becomes the program that now stands where this one was started from. Returns only an error.
    pub(crate) fn exec_program(&self, wish: Wish, heritage: i32) -> io::Error {
        let attempt = || -> io::Result<Infallible> {
            let program = self.program()?;
            let about = |refused: Errno| {
                let refused = io::Error::from(refused);
                let text = format!("{}: {refused}", program.display());
                io::Error::new(refused.kind(), text)
            };
            let named = CString::new(program.as_os_str().as_bytes())?;
            let environment = self.environment(&wish.text(heritage))?;
            execve(&named, &self.arguments()?, &environment).map_err(about)
        };
        match attempt() {
            Err(refused) => refused,
        }
    }

    /// Becomes the program of this descriptor. Returns only an error.
    pub(crate) fn exec_image(&self, image: impl AsFd, errand: &str) -> io::Error {
        let attempt = || -> io::Result<Infallible> {
            let (arguments, environment) = (self.arguments()?, self.environment(errand)?);
            Ok(execveat(image, c"", &arguments, &environment, AtFlags::AT_EMPTY_PATH)?)
        };
        match attempt() {
            Err(refused) => refused,
        }
    }

    /// Where the shell, or whoever it was, found the program that was started.
    fn program(&self) -> io::Result<PathBuf> {
        let missing = || io::Error::new(ErrorKind::NotFound, "the command line names no program");
        let name = self.arguments.first().ok_or_else(missing)?;
        if name.as_bytes().contains(&b'/') {
            return Ok(PathBuf::from(name));
        }
        let folders = self.environment.iter().find(|(name, _)| name == "PATH");
        let folders = folders.map_or(OsStr::new(""), |(_, folders)| folders);
        let mut places = env::split_paths(folders).map(|folder| folder.join(name));
        let runs = |place: &Path| place.is_file() && access(place, AccessFlags::X_OK).is_ok();
        places.find(|place| runs(place)).ok_or_else(missing)
    }

    fn arguments(&self) -> io::Result<Vec<CString>> {
        let text = |argument: &OsString| CString::new(argument.as_bytes());
        Ok(self.arguments.iter().map(text).collect::<Result<_, _>>()?)
    }

    fn environment(&self, errand: &str) -> io::Result<Vec<CString>> {
        let line = |(name, value): &(OsString, OsString)| {
            CString::new([name.as_bytes(), b"=", value.as_bytes()].concat())
        };
        let ours = CString::new(format!("{VARIABLE}={errand}"));
        Ok(self.environment.iter().map(line).chain([ours]).collect::<Result<_, _>>()?)
    }
}

impl Wish {
    pub(crate) fn text(self, heritage: i32) -> String {
        match self {
            Self::Check { channel } => format!("check {heritage} {channel}"),
            Self::Take { image } => format!("take {heritage} {image}"),
            Self::Back => format!("back {heritage}"),
        }
    }
}

impl Errand {
    /// What the variable says; `None` when it is none of ours.
    fn of(text: &str) -> Option<Self> {
        let (kind, number) = parse(text)?;
        let heritage = Heritage::text_of(number).map_err(|error| error.to_string());
        let heritage = heritage.and_then(|text| Heritage::read(&text));
        let mut numbers = BTreeSet::from([number]);
        numbers.extend(heritage.iter().flat_map(|heritage| heritage.descriptors.iter()));
        match kind {
            Kind::Check { channel: extra } | Kind::Take { image: extra } => {
                numbers.insert(extra);
            }
            Kind::Back { .. } => {
                // The kernel has named us after the descriptor; only people look at it.
                let _ = prctl::set_name(NAME);
            }
        }
        match sys::inherited(&numbers) {
            Ok(descriptors) => Some(Self { kind, heritage, descriptors, number }),
            Err(refused) => {
                let why = format!("a descriptor of the running program is lost: {refused}");
                let descriptors = BTreeMap::new();
                Some(Self { kind, heritage: Err(why), descriptors, number })
            }
        }
    }
}

/// Every descriptor is there twice for a moment, so that the program before can still come back.
fn too_many(refused: &io::Error) -> String {
    match refused.raw_os_error() {
        Some(number) if number == Errno::EMFILE as i32 => format!(
            "{refused}: a takeover needs twice as many for a moment; raise LimitNOFILE= or `ulimit -n`"
        ),
        _ => refused.to_string(),
    }
}

/// The sockets of the service manager, if they are for this process. Source: sd_listen_fds(3).
fn listen_fds() -> io::Result<Vec<(String, OwnedFd)>> {
    let number = |name| env::var(name).ok()?.parse::<i32>().ok();
    let count = number("LISTEN_FDS").unwrap_or(0).clamp(0, LISTEN_FDS_MAX);
    let is_ours = number("LISTEN_PID").is_some_and(|pid| pid.unsigned_abs() == std::process::id());
    if !is_ours {
        return Ok(Vec::new());
    }
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':').map(str::to_owned);
    let sockets = sys::inherited(&(LISTEN_FDS_START..LISTEN_FDS_START + count).collect())?;
    // In the order of their numbers. A copy each, since no program that is exec'd is to have them.
    let named = |socket: OwnedFd| Ok((names.next().unwrap_or_default(), socket.try_clone()?));
    sockets.into_values().map(named).collect()
}

fn parse(text: &str) -> Option<(Kind, i32)> {
    let mut words = text.splitn(3, ' ');
    let (word, number, rest) = (words.next()?, words.next()?.parse().ok()?, words.next());
    let extra = || rest.and_then(|rest| rest.parse().ok());
    let kind = match word {
        "check" => Kind::Check { channel: extra()? },
        "take" => Kind::Take { image: extra()? },
        "back" => Kind::Back { why: rest.map(str::to_owned) },
        _ => return None,
    };
    Some((kind, number))
}

impl Descriptors {
    /// The one of this number; each is taken once.
    pub(crate) fn take(&mut self, number: i32) -> io::Result<OwnedFd> {
        let lost =
            || io::Error::other(format!("descriptor {number} of the program before is lost"));
        self.0.remove(&number).ok_or_else(lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errands_are_read_as_they_are_written() {
        for (wish, kind) in [
            (Wish::Check { channel: 7 }, Kind::Check { channel: 7 }),
            (Wish::Take { image: 8 }, Kind::Take { image: 8 }),
            (Wish::Back, Kind::Back { why: None }),
        ] {
            assert_eq!(parse(&wish.text(5)), Some((kind, 5)));
        }
        let why = Some("bind: not an address".to_owned());
        assert_eq!(parse("back 5 bind: not an address"), Some((Kind::Back { why }, 5)));
        for other in ["", "take", "take x 3", "take 5", "take 5 x", "check 5", "bake 5 3"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn who_has_no_descriptor_left_is_told_how_many_it_takes() {
        let told = |errno: Errno| too_many(&io::Error::from(errno));
        assert!(
            told(Errno::EMFILE).contains("twice as many") && told(Errno::EMFILE).contains("24")
        );
        assert!(!told(Errno::EIO).contains("twice"));
    }

    #[test]
    fn the_program_is_looked_for_where_it_was_started_from() {
        let start = |name: &str, path: &str| Start {
            arguments: vec![name.into()],
            environment: vec![("PATH".into(), path.into())],
            errand: RefCell::new(None),
            sockets: RefCell::default(),
        };
        let found = |name, path| start(name, path).program().ok();
        assert_eq!(found("./releases/peace", "/bin"), Some("./releases/peace".into()));
        assert_eq!(found("sh", "/nowhere:/bin:/usr/bin"), Some("/bin/sh".into()));
        assert_eq!(found("sh", "/nowhere"), None);
    }
}
