//! From texts to values: each setting of the table parsed once, its default taken where nobody
//! gave it, then the rules between them.
//!
//! `load` calls [`resolve`]; `config` takes the values, `show` the origins. It collects every
//! problem instead of stopping at the first. [`database`] is for programs that ask for no more.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::config::Database;
use super::found::{Found, Layer, Origin};
use super::problem::{Problem, Refusal};
use super::rules;
use super::setting::{Effect, Fallback, Kind, Setting};
use super::sources::Gathered;
use super::table::{PORT, SETTINGS, setting};
use super::value::{Value, Wrong};

/// More workers than slots are refused, so the default does not ask for them either.
const WORKERS_MAX: usize = 256;

/// The values that could be read, by the name of the setting.
#[derive(Debug, Default)]
pub(super) struct Values(BTreeMap<&'static str, Value>);

impl Values {
    /// The value, or `None` if its text was refused.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }
}

/// All that is known about the settings.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) values: Values,
    pub(super) found: Layer,
    pub(super) runtime_folder: Option<PathBuf>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

/// Makes values of what was gathered.
pub(super) fn resolve(gathered: Gathered) -> Resolved {
    let Gathered { found, runtime_folder, mut problems, mut warnings } = gathered;
    let mut values = Values::default();
    for setting in SETTINGS {
        match value_of(setting, found.get(setting.name)) {
            Ok(value) => drop(values.0.insert(setting.name, value)),
            Err(problem) => problems.push(problem),
        }
    }
    problems.extend(rules::check(&values, &found));
    warnings.extend(SETTINGS.iter().filter_map(|setting| no_effect_yet(setting, &found)));
    warnings.extend(rules::warn(&values, &found));
    Resolved { values, found, runtime_folder, problems, warnings }
}

/// Where the rows are, whatever is wrong with other settings. A source that cannot be read may have
/// said it, so it is told unless a stronger one did.
pub(super) fn database(gathered: Gathered) -> Result<Option<Database>, Refusal> {
    let Gathered { found, problems, .. } = gathered;
    let value = |name| value_of(setting(name), found.get(name));
    if let Value::Database(url) = value("database-url")? {
        return Ok(Some(Database::Url(url)));
    }
    Refusal::unless_empty(problems)?;
    match value("env")? {
        Value::Choice("production") => Ok(None),
        _ => Ok(Some(Database::Embedded)),
    }
}

fn value_of(setting: &Setting, found: Option<&Result<Found, Problem>>) -> Result<Value, Problem> {
    match found {
        None => Ok(default_of(setting)),
        Some(Err(problem)) => Err(problem.clone()),
        Some(Ok(found)) => parse(setting, found).map_err(|wrong| found.problem(setting, &wrong)),
    }
}

fn parse(setting: &Setting, found: &Found) -> Result<Value, Wrong> {
    match &found.origin {
        Origin::Environment(name) | Origin::DotEnv(name) if name == PORT => {
            Kind::parse_port(found.text())
        }
        _ => setting.kind.parse(found.text()),
    }
}

fn default_of(setting: &Setting) -> Value {
    match setting.default {
        Fallback::Text(text) => setting.kind.parse(text).expect("a test parses every default"),
        Fallback::Unset(_) => Value::Off,
        Fallback::Cpus => Value::Whole(cpus()),
    }
}

/// The CPUs that this process may use: its affinity mask, capped by the CPU quota of its control
/// groups (a part of a CPU is not counted, but there is always one).
pub(super) fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, |cpus| cpus.get().min(WORKERS_MAX))
}

fn no_effect_yet(setting: &Setting, found: &Layer) -> Option<Problem> {
    let Some(Ok(found)) = found.get(setting.name) else { return None };
    let line = || format!("{}: accepted, but has no effect yet", found.origin.subject());
    (setting.effect == Effect::Later).then(|| Problem::line(&line()))
}
