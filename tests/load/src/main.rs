//! `peace-loadtest`: how many workers? Measured, compared, and shown as a page.
//!
//! The command line names a verb. `run` makes a plan, the conductor follows it (it starts servers and
//! generators, reads meters), and what was seen becomes a report: data, a table, a page. `compare`,
//! `recommend` and `page` read such data again. The exit code is 0 when it is done, 1 when something
//! failed or a threshold does not hold, 64 for a wrong command line, 130 for an interruption. It knows
//! the API as a client does, the supervisor as an operator does, and the database by its rows.

mod api;
mod command;
mod compare;
mod conductor;
mod database;
mod events;
mod generator;
mod guard;
mod plan;
mod population;
mod progress;
mod recommend;
mod report;
mod run;
mod scenario;
mod server;
mod target;
mod wait;
mod watch;

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use command::{Asked, PageOptions, Verb};
use conductor::Halt;
use scenario::Scenario;

const FAILED: u8 = 1;
const USAGE: u8 = 64;
/// As shells have it: 128 and the number of the signal.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    match command::parse(std::env::args_os()) {
        Ok(Asked::Text(text)) => {
            tell(io::stdout(), &text);
            ExitCode::SUCCESS
        }
        Ok(Asked::Verb(verb)) => perform(verb),
        Err(wrong) => {
            tell(io::stderr(), &format!("peace-loadtest: {wrong}\n"));
            ExitCode::from(USAGE)
        }
    }
}

fn perform(verb: Verb) -> ExitCode {
    let done = match verb {
        Verb::Run(options) => match run::run(&options, io::stdout().lock()) {
            Ok(()) => Ok(0),
            Err(Halt::Interrupted) => Ok(INTERRUPTED),
            Err(Halt::Failed(why)) => Err((FAILED, why)),
            Err(Halt::Usage(why)) => Err((USAGE, why)),
        },
        Verb::Compare(options) => compare::run(&options, &mut io::stdout().lock())
            .map(|holds| if holds { 0 } else { FAILED })
            .map_err(failed),
        Verb::Recommend(options) => recommend::run(&options, &mut io::stdout().lock())
            .map(|fits| if fits { 0 } else { FAILED })
            .map_err(failed),
        Verb::Page(options) => page(&options).map(|()| 0).map_err(failed),
        Verb::Scenarios { name } => scenarios(name.as_deref()).map(|()| 0).map_err(failed),
        Verb::Generate => Ok(generator::serve(io::stdin(), io::stdout())),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err((code, why)) => {
            tell(io::stderr(), &format!("peace-loadtest: {why}\n"));
            ExitCode::from(code)
        }
    }
}

fn failed(why: impl Into<Box<dyn Error>>) -> (u8, String) {
    (FAILED, why.into().to_string())
}

fn page(options: &PageOptions) -> Result<(), String> {
    let report = report::file::read(&options.report).map_err(|error| error.to_string())?;
    let beside = options.report.with_file_name("report.html");
    run::write_page(&report, options.out.as_ref().unwrap_or(&beside))
}

/// Their names, or the file of one.
fn scenarios(name: Option<&str>) -> Result<(), String> {
    let text = match name {
        Some(name) => Scenario::load(name)?.1,
        None => scenario::BUILTIN.iter().map(|(name, _)| format!("{name}\n")).collect(),
    };
    tell(io::stdout(), &text);
    Ok(())
}

/// Writes a text; when nobody reads it any more, there is nobody to tell that either.
fn tell(mut stream: impl Write, text: &str) {
    let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
}
