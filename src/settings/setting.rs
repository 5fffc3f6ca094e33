//! What a setting is: the record type of the table, and the questions every reader asks it.
//!
//! `table` holds the records; `command`, `sources`, `show` and `readme` read them. A record
//! promises to be complete: whatever a flag, a variable, a help text or a README row needs stands
//! in it. How a text becomes a value is in `value`; no value is known here.

use std::time::Duration;

/// One setting, wherever it may be given.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// What it is called: the flag without dashes, the key of the settings file, the name of the
    /// systemd credential.
    pub name: &'static str,
    /// Whether the command line takes it.
    pub flag: Flag,
    /// The environment variables that give it, the first one that is set deciding.
    pub variables: &'static [&'static str],
    /// Where help and README list it.
    pub section: Section,
    /// Which texts are accepted.
    pub kind: Kind,
    /// What holds when nobody gives it.
    pub default: Fallback,
    /// One line for help and README.
    pub meaning: &'static str,
    /// Never shown; may also come from `<VARIABLE>_FILE` and from a systemd credential.
    pub secret: bool,
    /// Whether the part behind it exists.
    pub effect: Effect,
}

/// Whether the command line takes a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    /// As `--name`.
    Long,
    /// As `--name` and by one letter.
    Short(char),
    /// No: a secret would stand in the process list, a switch of tests would be typed by hand.
    None,
}

/// Chapters of help and README, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// What runs.
    Processes,
    /// Where it listens.
    Network,
    /// Where the rows are.
    Database,
    /// Who may do what.
    Security,
    /// How long everything may take.
    Times,
    /// When a worker is replaced.
    Replacement,
    /// What is written down.
    Logs,
    /// What helps while building.
    Development,
}

/// Which texts a setting accepts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// A whole number in this range, both ends included.
    Whole {
        /// The smallest one accepted.
        min: usize,
        /// The largest one accepted.
        max: usize,
    },
    /// A time: `500ms`, `30s`, `2m`, `1h`; a plain number is seconds.
    Time {
        /// The shortest one accepted.
        min: Duration,
        /// The longest one accepted.
        max: Duration,
    },
    /// An amount of memory: `512MiB`; a plain number is bytes.
    Size {
        /// The smallest one accepted.
        bytes_min: u64,
        /// The largest one accepted.
        bytes_max: u64,
    },
    /// `on` or `off`, in the usual spellings and no other.
    Switch,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// `ADDRESS:PORT`.
    Address,
    /// That, or `unix:/PATH`.
    Bind,
    /// A file.
    Path,
    /// A user or a group of the system.
    Account,
    /// Addresses and networks, separated by commas.
    Networks,
    /// Web origins, separated by commas.
    Origins,
    /// Which log lines are written, in the syntax of `RUST_LOG`.
    LogFilter,
    /// Faults to inject, separated by commas.
    Faults,
    /// A part of all, 0 to 1.
    Share,
    /// Who takes traces.
    Collector,
    /// Where PostgreSQL is.
    DatabaseUrl,
    /// A signing key.
    SecretKey,
    /// That, or `off`.
    Optional(&'static Kind),
}

/// What holds when nobody gives a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// The same as giving this text.
    Text(&'static str),
    /// Nothing is set; what happens then, in words.
    Unset(&'static str),
    /// The number of CPUs that this process may use.
    Cpus,
}

/// Whether the part behind a setting exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It does.
    Now,
    /// The setting is accepted and checked, but changes nothing yet.
    Later,
}

impl Setting {
    /// The long flag, dashes included, where there is one.
    pub fn long_flag(&self) -> Option<String> {
        (self.flag != Flag::None).then(|| format!("--{}", self.name))
    }

    /// How a message calls it when nobody gave it: by its first variable.
    pub fn usual_name(&self) -> &'static str {
        self.variables.first().copied().unwrap_or(self.name)
    }

    /// The meaning, with a mark where the effect comes later.
    pub fn marked_meaning(&self) -> String {
        match self.effect {
            Effect::Now => self.meaning.to_owned(),
            Effect::Later => format!("{} (later)", self.meaning),
        }
    }
}

impl Fallback {
    /// For people: the text, or what happens without one.
    pub fn described(&self) -> &'static str {
        match self {
            Self::Text(text) => text,
            Self::Unset(words) => words,
            Self::Cpus => "CPUs this process may use",
        }
    }
}

impl Section {
    /// The heading in help.
    pub fn title(self) -> &'static str {
        match self {
            Self::Processes => "Processes",
            Self::Network => "Network",
            Self::Database => "Database",
            Self::Security => "Security",
            Self::Times => "Times",
            Self::Replacement => "Replacement of workers",
            Self::Logs => "Logs",
            Self::Development => "Development",
        }
    }
}
