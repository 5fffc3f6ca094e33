//! The command line: what is asked for, or one line about what is wrong with it.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, value_parser};

use crate::app_url::AppUrl;
use crate::sample_data;

/// Use a running server as many clients at once, and check every answer.
#[derive(Debug, Parser)]
#[command(name = "peace-e2e", version, max_term_width = 100, disable_help_subcommand = true)]
struct Line {
    /// Where the server is: http or https, perhaps with a path in front of the API's own.
    #[arg(long, global = true, value_name = "URL", default_value = "http://127.0.0.1:8000")]
    app_url: String,
    /// Print the report as one JSON object.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Play a scenario; exit 1 after any answer that is not as it has to be.
    #[command(subcommand)]
    Test(Test),
    /// Add users whose names and passwords are known: never to a server that others can reach.
    #[command(alias = "sample_data")]
    SampleData {
        /// How many users; user 0 has no item, user 1 has one, user 2 has two and so on.
        #[arg(long, value_name = "N", default_value_t = 3)]
        #[arg(value_parser = value_parser!(u32).range(1..=i64::from(sample_data::USERS_MAX)))]
        n_users: u32,
    },
}

#[derive(Debug, Subcommand)]
enum Test {
    /// Clients create users and items and read each back, while another lists the users.
    Concurrency(ConcurrencyPlan),
    /// Clients update one user, while another reads it.
    Deadlocks(DeadlocksPlan),
}

/// The sizes of `test concurrency`.
#[derive(Debug, Clone, Args, PartialEq, Eq)]
pub(crate) struct ConcurrencyPlan {
    /// How many users are created in all.
    #[arg(long, value_name = "N", default_value_t = 10)]
    #[arg(value_parser = value_parser!(u32).range(1..=1000))]
    pub(crate) users: u32,
    /// How many items each user gets.
    #[arg(long, value_name = "N", default_value_t = 10)]
    #[arg(value_parser = value_parser!(u32).range(0..=1000))]
    pub(crate) items: u32,
    /// How many clients share the work.
    #[arg(long, value_name = "N", default_value_t = 4)]
    #[arg(value_parser = value_parser!(u32).range(1..=256))]
    pub(crate) clients: u32,
}

/// The sizes of `test deadlocks`.
#[derive(Debug, Clone, Args, PartialEq, Eq)]
pub(crate) struct DeadlocksPlan {
    /// How many updates there are in all.
    #[arg(long, value_name = "N", default_value_t = 20)]
    #[arg(value_parser = value_parser!(u32).range(1..=100_000))]
    pub(crate) updates: u32,
    /// How many clients share the work.
    #[arg(long, value_name = "N", default_value_t = 4)]
    #[arg(value_parser = value_parser!(u32).range(1..=256))]
    pub(crate) clients: u32,
}

/// What a good command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Task(Task),
    /// Help or version.
    Text(String),
}

/// A scenario, and where to play it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Task {
    pub(crate) app_url: AppUrl,
    pub(crate) json: bool,
    pub(crate) scenario: Scenario,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    Concurrency(ConcurrencyPlan),
    Deadlocks(DeadlocksPlan),
    SampleData { n_users: u32 },
}

impl Scenario {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Concurrency(_) => "concurrency",
            Self::Deadlocks(_) => "deadlocks",
            Self::SampleData { .. } => "sample-data",
        }
    }

    /// What the scenario counts as done, in the report's order.
    pub(crate) fn goals(&self) -> &'static [&'static str] {
        match self {
            Self::Concurrency(_) => &["users", "items", "polls"],
            Self::Deadlocks(_) => &["updates", "polls"],
            Self::SampleData { .. } => sample_data::GOALS,
        }
    }
}

/// Reads the arguments, the program's name first. The error is one line.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Asked, String> {
    let line = match Line::try_parse_from(args) {
        Ok(line) => line,
        Err(error) => return no_match(&error).map(Asked::Text),
    };
    let app_url = AppUrl::parse(&line.app_url).map_err(|wrong| format!("--app-url: {wrong}"))?;
    let scenario = match line.verb {
        Verb::Test(Test::Concurrency(plan)) => Scenario::Concurrency(plan),
        Verb::Test(Test::Deadlocks(plan)) => Scenario::Deadlocks(plan),
        Verb::SampleData { n_users } => Scenario::SampleData { n_users },
    };
    Ok(Asked::Task(Task { app_url, json: line.json, scenario }))
}

/// Help and version are clap's errors, too; of the others the first line says it.
fn no_match(error: &clap::Error) -> Result<String, String> {
    let rendered = error.render().to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(rendered),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            Err("half a command; go on with `test concurrency`, `test deadlocks` or `sample-data`"
                .to_owned())
        }
        _ => {
            let first = rendered.lines().next().unwrap_or_default();
            Err(format!("{}; see `peace-e2e --help`", first.trim_start_matches("error: ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse_words(line: &str) -> Result<Asked, String> {
        parse(line.split(' ').map(OsString::from))
    }

    fn task(line: &str) -> Task {
        match parse_words(line) {
            Ok(Asked::Task(task)) => task,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn the_command_is_consistent() {
        Line::command().debug_assert();
    }

    #[test]
    fn the_address_may_stand_anywhere() {
        for line in [
            "peace-e2e --app-url http://h:1 --json test deadlocks",
            "peace-e2e test --app-url http://h:1/ --json deadlocks",
            "peace-e2e test deadlocks --json --app-url=http://h:1",
        ] {
            let task = task(line);
            assert_eq!(task.app_url.to_string(), "http://h:1", "{line}");
            assert!(task.json, "{line}");
            let plan = DeadlocksPlan { updates: 20, clients: 4 };
            assert_eq!(task.scenario, Scenario::Deadlocks(plan), "{line}");
        }
    }

    #[test]
    fn sizes_have_defaults_and_bounds() {
        let plan = ConcurrencyPlan { users: 10, items: 10, clients: 4 };
        assert_eq!(task("peace-e2e test concurrency").scenario, Scenario::Concurrency(plan));
        let three = Scenario::SampleData { n_users: 3 };
        assert_eq!(task("peace-e2e sample_data").scenario, three, "the older name");
        assert_eq!(task("peace-e2e sample-data --n-users 3").scenario, three);
        let refused = parse_words("peace-e2e sample-data --n-users 1002").unwrap_err();
        assert!(refused.contains("1..=1001"), "{refused}");
    }

    #[test]
    fn every_bad_command_line_is_one_line() {
        for line in [
            "peace-e2e",
            "peace-e2e test",
            "peace-e2e tset",
            "peace-e2e test concurency",
            "peace-e2e test concurrency --users",
            "peace-e2e test concurrency --users 0",
            "peace-e2e test concurrency --clients x",
            "peace-e2e test concurrency --zzz",
            "peace-e2e test concurrency --app-url h:1",
            "peace-e2e sample-data --n-users 0",
        ] {
            let wrong = parse_words(line).unwrap_err();
            assert!(!wrong.is_empty() && !wrong.contains('\n'), "{line}: {wrong}");
        }
        assert!(matches!(parse_words("peace-e2e --help"), Ok(Asked::Text(_))));
        assert!(matches!(parse_words("peace-e2e --version"), Ok(Asked::Text(_))));
    }
}
