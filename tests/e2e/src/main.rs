//! `peace-e2e`: clients that use a running server as many people at once would, and check every
//! answer.
//!
//! The command line names a scenario; a scenario's clients talk to the server, a [`run::Run`] counts
//! what they did and keeps every failure, a [`report::Report`] tells it. The exit code is 0 when
//! there was no failure, 1 when there was one or nobody answered, 64 for a wrong command line. It
//! knows the API as a client does, from its contract, and shares no code with the server.

mod api;
mod app_url;
mod client;
mod command;
mod concurrency;
mod crowd;
mod deadlocks;
mod failure;
mod guests;
mod names;
mod report;
mod run;
mod sample_data;

use std::io::{self, Write};
use std::process::ExitCode;

use client::Client;
use command::{Asked, Scenario, Task};
use failure::Failure;
use names::Account;
use report::Report;
use run::Run;

const FAILED: u8 = 1;
const USAGE: u8 = 64;

fn main() -> ExitCode {
    match command::parse(std::env::args_os()) {
        Ok(Asked::Text(text)) => {
            tell(io::stdout(), &text);
            ExitCode::SUCCESS
        }
        Ok(Asked::Task(task)) => perform(&task),
        Err(wrong) => {
            tell(io::stderr(), &format!("peace-e2e: {wrong}\n"));
            ExitCode::from(USAGE)
        }
    }
}

/// Asks the server once, lets the scenario run, and tells what came of it.
fn perform(task: &Task) -> ExitCode {
    let run = Run::new(task.app_url.clone(), task.scenario.goals());
    let logins = match Client::new(&run, "probe").list_users() {
        Ok(_) => play(&task.scenario, &run),
        Err(failure) if failure.status.is_none() => {
            tell(io::stderr(), &nobody_there(&run, &failure));
            return ExitCode::from(FAILED);
        }
        Err(failure) => {
            run.fail(failure);
            Vec::new()
        }
    };
    let report = Report::new(task.scenario.name(), run, logins);
    tell(io::stdout(), &if task.json { report.json() } else { report.text() });
    ExitCode::from(if report.is_clean() { 0 } else { FAILED })
}

/// Answers whom one can log in as afterwards.
fn play(scenario: &Scenario, run: &Run) -> Vec<Account> {
    match scenario {
        Scenario::Concurrency(plan) => concurrency::play(run, plan),
        Scenario::Deadlocks(plan) => deadlocks::play(run, plan),
        Scenario::SampleData { n_users } => return sample_data::play(run, *n_users),
    }
    Vec::new()
}

fn nobody_there(run: &Run, failure: &Failure) -> String {
    format!("{} does not answer: {}; is the server running?\n", run.app_url(), failure.came)
}

/// Writes a text; when nobody reads it any more, there is nobody to tell that either.
fn tell(mut stream: impl Write, text: &str) {
    let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
}
