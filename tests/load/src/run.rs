//! `peace-loadtest run`: from the options to a report.
//!
//! Called by `main`. Looks for everything that can be wrong before it measures anything, lets the
//! conductor measure, and writes what was seen. Knows neither how it is measured nor how it is shown.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use jiff::Zoned;
use peace::settings::DatabaseUrl;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::command::RunOptions;
use crate::conductor::{Conductor, Halt, Seen};
use crate::database::Database;
use crate::events::Disturbances;
use crate::guard::Guard;
use crate::plan::{Plan, Program, Start};
use crate::population::Population;
use crate::progress::Progress;
use crate::report::model::{Card, FORMAT, Machine, Report, ScenarioCard, Series};
use crate::report::warnings::warnings;
use crate::report::{file, page, table, verdict};
use crate::scenario::Scenario;
use crate::target::Target;
use crate::watch::machine;

/// Rows of an own database.
const USERS: u32 = 10_000;
const ITEMS: u32 = 100_000;
/// With `--quick`.
const FEWER: u32 = 10;
/// Rows made over the API of a running server; every user costs it a hash of a password.
const USERS_OVER_API: u32 = 16;
const ITEMS_OVER_API: u32 = 160;
/// What starting and stopping a server takes, about.
const CHANGE: Duration = Duration::from_millis(1500);
/// Names of the report's files.
const JSON: &str = "report.json";
const PAGE: &str = "report.html";

/// Measures, prints the table, and writes the report.
///
/// # Errors
/// What is wrong, and how to mend it, in one line (and the last words of a server that failed). When
/// some rounds were whole before it, there is a report of those.
pub(crate) fn run(options: &RunOptions, mut out: impl Write) -> Result<(), Halt> {
    let machine = machine::machine();
    let plan = Plan::new(options, machine.cpus).map_err(Halt::Usage)?;
    let (name, text, scenario) = Scenario::load(&options.scenario).map_err(Halt::Usage)?;
    let url = options.url.as_deref().map(Target::parse).transpose().map_err(Halt::Usage)?;
    let ourselves = std::env::current_exe().map_err(|error| format!("where are we? {error}"))?;
    let program = server_program(options, &plan, &ourselves)?;
    let folder = report_folder(options)?;
    let connections = scenario.connections(options.connections);
    let scenario_card = ScenarioCard { name, about: scenario.about.clone(), text };
    let mut card = card(options, &plan, connections, scenario_card, machine);
    let mut conductor = Conductor {
        options,
        plan: &plan,
        scenario: &scenario,
        generators: card.generators,
        ourselves,
        program,
        guard: Guard::start().map_err(|error| format!("no room for scratch files: {error}"))?,
        database: None,
        population: Population::default(),
        stop: stop_at_signals()?,
        progress: Progress::new(plan.measurements(), about(&plan)),
        started: Instant::now(),
        secrets: Vec::new(),
        peaks: Vec::new(),
    };
    let seen = match url {
        Some(target) => on_a_running_server(&mut conductor, &target),
        None => on_a_database(&mut conductor, &mut card),
    };
    card.took_s = conductor.started.elapsed().as_secs_f64();
    let Conductor { progress, program, .. } = conductor;
    progress.end();
    let seen = seen.inspect_err(|_| {
        // Only if nothing is in it.
        let _ = fs::remove_dir(&folder);
    })?;
    let (report, halt) = report(card, options, &plan, &program, seen);
    // When nobody reads it there is still the file.
    let _ = show(&report, &mut out);
    file::write(&folder.join(JSON), &report).map_err(|error| error.to_string())?;
    write_page(&report, &folder.join(PAGE))?;
    let _ = writeln!(out, "{}", folder.join(PAGE).display());
    halt.map_or(Ok(()), Err)
}

/// Under which circumstances, as far as they are known before anything is measured.
fn card(
    options: &RunOptions,
    plan: &Plan,
    connections: usize,
    scenario: ScenarioCard,
    machine: Machine,
) -> Card {
    let generators = options.generators.map_or(machine.cpus.div_ceil(4), |count| count as usize);
    Card {
        started: Zoned::now().strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
        took_s: 0.0,
        command: command_line(std::env::args().skip(1)),
        is_quick: options.quick,
        scenario,
        connections,
        generators: generators.min(connections),
        rounds: plan.rounds,
        warm_up_s: plan.warm_up.as_secs_f64(),
        duration_s: plan.duration.as_secs_f64(),
        timeout_s: options.timeout.as_secs_f64(),
        users: 0,
        items: 0,
        database: None,
        events: Disturbances::of(options).words(),
        // What other programs were built from, nobody knows here.
        commit: machine::commit().filter(|_| options.measures_this_tree()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        machine,
    }
}

/// And why it does not hold all rounds.
fn report(
    card: Card,
    options: &RunOptions,
    plan: &Plan,
    program: &Path,
    seen: Seen,
) -> (Report, Option<Halt>) {
    let Seen { runs, lives, rounds, halt } = seen;
    let series = plan.series.iter().map(|one| series(one, options, program)).collect();
    let card = Card { rounds, ..card };
    let mut report = Report { format: FORMAT, card, series, runs, lives, warnings: Vec::new() };
    report.warnings = warnings(&report);
    if let Some(halt) = &halt {
        let why = match halt {
            Halt::Interrupted => "Interrupted",
            Halt::Failed(why) | Halt::Usage(why) => why.lines().next().unwrap_or_default(),
        };
        let told = format!("{why}: {rounds} of {} rounds were measured.", plan.rounds);
        report.warnings.insert(0, told);
    }
    (report, halt)
}

/// Makes a database, fills it, measures, and takes it away.
fn on_a_database(conductor: &mut Conductor<'_>, card: &mut Card) -> Result<Seen, Halt> {
    let options = conductor.options;
    conductor.progress.begin("making the database".to_owned());
    let most = options.workers.iter().copied().chain([64]).max().unwrap_or(64) as usize;
    let database = match &options.database_url {
        Some(url) => Database::given(url)?,
        // Workers, their successors during a reload, and some more, with five connections each.
        None => Database::embedded(&mut conductor.guard, 100 + most * 12)?,
    };
    let scale = if options.quick { FEWER } else { 1 };
    let users = options.users.unwrap_or(USERS / scale);
    let items = options.items.unwrap_or(ITEMS / scale);
    let password = format!("{:032x}", fastrand::u128(..));
    conductor.population = database.fill(users, items, &password, conductor.scenario)?;
    let portrait = database.portrait();
    card.users = users.into();
    card.items = items.into();
    card.database = Some(database.description.clone());
    card.machine.postgres = Some(portrait.version);
    card.machine.postgres_settings = portrait.settings;
    conductor.secrets = secrets(&database.url);
    conductor.database = Some(database);
    let seen = conductor.perform();
    if let Some(database) = conductor.database.take() {
        database.stop(&mut conductor.guard);
    }
    seen
}

/// Makes users over the API if the scenario needs any, measures, and deletes them.
fn on_a_running_server(conductor: &mut Conductor<'_>, target: &Target) -> Result<Seen, Halt> {
    conductor.scenario.check_without_database()?;
    let needed = conductor.scenario.names_used();
    let ours = ["user", "item", "writer", "writer_item"];
    if ours.iter().any(|name| needed.contains(*name)) {
        conductor.progress.begin("creating users and items".to_owned());
        let users = conductor.options.users.unwrap_or(USERS_OVER_API);
        let items = conductor.options.items.unwrap_or(ITEMS_OVER_API);
        conductor.population = Population::create(target, users, items, &conductor.stop)?;
    }
    let seen = conductor.perform();
    let left = conductor.population.delete(target);
    if left > 0 {
        conductor.progress.say(&format!("{left} users, named load-…, could not be deleted"));
    }
    seen
}

/// Where `peace-supervisor` is, if the plan needs it.
fn server_program(options: &RunOptions, plan: &Plan, ourselves: &Path) -> Result<PathBuf, String> {
    if let Some(given) = &options.server {
        let given = given.canonicalize();
        return given.map_err(|error| format!("--server: {error}"));
    }
    let beside = ourselves.with_file_name("peace-supervisor");
    if !plan.series.iter().any(|one| one.start == Start::Peace) {
        return Ok(beside);
    }
    if !beside.exists() {
        return Err(format!("no {}: `cargo build --release`, or give --server", beside.display()));
    }
    match newer_source(&beside) {
        Some(source) => Err(format!(
            "peace-supervisor was built before {source} was changed: `cargo build --release`, or \
             give --server to measure it all the same"
        )),
        None => Ok(beside),
    }
}

/// A source file that was changed after the program was built, by the list that cargo has left beside
/// it. `cargo run` builds this program, and not that one.
fn newer_source(program: &Path) -> Option<String> {
    let built = fs::metadata(program).and_then(|it| it.modified()).ok()?;
    let list = fs::read_to_string(program.with_extension("d")).ok()?;
    let (_, sources) = list.split_once(": ")?;
    // Blanks within a path are written with a backslash; such a tree goes unchecked.
    let newer = |source: &&str| {
        fs::metadata(source).and_then(|it| it.modified()).is_ok_and(|changed| changed > built)
    };
    sources.split_whitespace().find(newer).map(str::to_owned)
}

/// The folder, made and writable: that it is not should be known before anything is measured.
fn report_folder(options: &RunOptions) -> Result<PathBuf, String> {
    let now = || PathBuf::from("loadtest").join(Zoned::now().strftime("%Y%m%d-%H%M%S").to_string());
    let folder = options.out.clone().unwrap_or_else(now);
    let refused = |error| format!("the report cannot be written to {}: {error}", folder.display());
    fs::create_dir_all(&folder).map_err(refused)?;
    let probe = folder.join(".probe");
    fs::write(&probe, []).and_then(|()| fs::remove_file(&probe)).map_err(refused)?;
    Ok(folder)
}

/// The first signal asks for an end in good order; the second one is obeyed at once.
fn stop_at_signals() -> Result<Arc<AtomicBool>, String> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_default(signal, Arc::clone(&stop))
            .and_then(|_| flag::register(signal, Arc::clone(&stop)))
            .map_err(|error| format!("signals cannot be handled: {error}"))?;
    }
    Ok(stop)
}

fn about(plan: &Plan) -> Duration {
    let contestants = u32::try_from(plan.contestants.len()).unwrap_or(u32::MAX);
    let phases = u32::try_from(plan.phases_of_a_round()).unwrap_or(u32::MAX);
    let lives = (plan.warm_up + CHANGE) * contestants;
    let look =
        if plan.looks_for_peaks() { lives + plan.look() * contestants } else { Duration::ZERO };
    look + (lives + plan.duration * phases) * plan.rounds
}

/// What was typed, but for the database's address: there may be a password in it.
fn command_line(args: impl Iterator<Item = String>) -> String {
    let mut hides = false;
    let words = args.map(|word| {
        let was_hidden = std::mem::replace(&mut hides, word == "--database-url");
        match word.split_once('=') {
            Some(("--database-url", _)) => r#"--database-url="$DATABASE_URL""#.to_owned(),
            _ if was_hidden => r#""$DATABASE_URL""#.to_owned(),
            _ => shell_words::quote(&word).into_owned(),
        }
    });
    ["peace-loadtest".to_owned()].into_iter().chain(words).collect::<Vec<_>>().join(" ")
}

/// The address of a database, and the password in it.
fn secrets(url: &str) -> Vec<String> {
    let read = url.parse::<DatabaseUrl>().ok();
    let password = read.as_ref().and_then(|read| read.config().get_password());
    let password = password.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    [url.to_owned()].into_iter().chain(password).filter(|secret| !secret.is_empty()).collect()
}

fn series(program: &Program, options: &RunOptions, ours: &Path) -> Series {
    let (command, version) = match &program.start {
        Start::Peace => (peace_line(options, ours), version_of(ours)),
        Start::Command(command) => (command.clone(), None),
        Start::Running(url) => (url.clone(), None),
    };
    Series { name: program.name.clone(), command, version }
}

fn peace_line(options: &RunOptions, ours: &Path) -> String {
    let program = match options.server {
        Some(_) => ours.display().to_string(),
        None => "peace-supervisor".to_owned(),
    };
    let words = [program.as_str(), "--workers", "{workers}"].into_iter();
    words.chain(options.settings.iter().map(String::as_str)).collect::<Vec<_>>().join(" ")
}

fn version_of(program: &Path) -> Option<String> {
    let output = std::process::Command::new(program).arg("--version").output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Writes the page of a report.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn write_page(report: &Report, path: &Path) -> Result<(), String> {
    let text = page::render(report, &verdict::verdict(report));
    file::replace(path, text.as_bytes()).map_err(|error| error.to_string())
}

fn show(report: &Report, out: &mut impl Write) -> std::io::Result<()> {
    writeln!(out, "{}", table::table(report, table::terminal_width()))?;
    for sentence in verdict::verdict(report).iter().chain(&report.warnings) {
        writeln!(out, "{sentence}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn the_command_that_repeats_it_holds_no_secret() {
        let told = |line: &[&str]| command_line(line.iter().map(|&word| word.to_owned()));
        let expected = r#"peace-loadtest run --database-url "$DATABASE_URL" --out 'a b'"#;
        assert_eq!(
            told(&["run", "--database-url", "postgres://a:b@c/d", "--out", "a b"]),
            expected
        );
        let expected = r#"peace-loadtest run --database-url="$DATABASE_URL""#;
        assert_eq!(told(&["run", "--database-url=postgres://a:b@c/d"]), expected);
    }

    #[test]
    fn a_server_that_is_older_than_its_sources_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let [program, source] = ["server", "main.rs"].map(path);
        fs::write(&source, "").unwrap();
        fs::write(&program, "").unwrap();
        assert_eq!(newer_source(&program), None, "cargo has left no list");
        let list = format!("{}: {}\n", program.display(), source.display());
        fs::write(path("server.d"), list).unwrap();
        assert_eq!(newer_source(&program), None);
        let later = SystemTime::now() + Duration::from_secs(5);
        fs::File::options().write(true).open(&source).unwrap().set_modified(later).unwrap();
        assert_eq!(newer_source(&program), Some(source.display().to_string()));
    }

    #[test]
    fn a_databases_address_and_password_are_secrets() {
        assert_eq!(secrets("postgres://a:b@c/d"), ["postgres://a:b@c/d", "b"]);
        assert_eq!(secrets("host=/tmp user=a dbname=d"), ["host=/tmp user=a dbname=d"]);
    }
}
