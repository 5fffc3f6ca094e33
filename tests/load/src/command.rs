//! The command line: what is asked for, or one line about what is wrong with it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, value_parser};

use crate::events::ScaleAt;
use crate::scenario::CONNECTIONS;
use crate::{compare, recommend};

/// How many workers? Measure this server with several, compare, and leave a page to read.
#[derive(Debug, Parser)]
#[command(name = "peace-loadtest", version, max_term_width = 100, disable_help_subcommand = true)]
struct Line {
    #[command(subcommand)]
    verb: Verb,
}

/// What a good command line asks for.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Measure, and write report.json and report.html.
    Run(Box<RunOptions>),
    /// Write the page of a report anew.
    Page(PageOptions),
    /// Tell whether reports differ, and fail on thresholds.
    Compare(compare::Options),
    /// Tell which number of workers a report speaks for.
    Recommend(recommend::Options),
    /// List the built-in scenarios, or show the file of one.
    Scenarios {
        /// Which one.
        name: Option<String>,
    },
    /// Make a load (what `run` starts as processes of their own).
    #[command(hide = true)]
    Generate,
}

/// What to measure.
#[derive(Debug, Clone, Args)]
pub(crate) struct RunOptions {
    /// Numbers of workers to compare; a number may be named twice, to see the noise [default: 1,
    /// half of the processors, all of them, twice as many]
    #[arg(long, value_name = "N,N", value_delimiter = ',', conflicts_with = "url")]
    #[arg(value_parser = value_parser!(u32).range(1..=256))]
    pub(crate) workers: Vec<u32>,
    /// Built-in scenario, or the path of a scenario file; see `peace-loadtest scenarios`
    #[arg(long, value_name = "NAME|FILE", default_value = "reads")]
    pub(crate) scenario: String,
    /// Connections of all clients together [default: what the scenario says, or 64]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(CONNECTIONS))]
    pub(crate) connections: Option<u32>,
    /// Offer these rates, in requests per second, instead of looking for the peak
    #[arg(long, value_name = "R,R", value_delimiter = ',')]
    #[arg(value_parser = value_parser!(u64).range(1..=1_000_000))]
    pub(crate) rate: Vec<u64>,
    /// Rounds; in each, every server is started and measured once [default: 5]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=100))]
    pub(crate) rounds: Option<u32>,
    /// Length of each measurement, as 4s or 500ms [default: 4s]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) duration: Option<Duration>,
    /// Load before the measurements of a round, not counted [default: 2s]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) warm_up: Option<Duration>,
    /// How long a client waits for an answer
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "10s")]
    pub(crate) timeout: Duration,
    /// A first look in less than 40 s: short rounds, one rate; compares 1 with all processors
    #[arg(long)]
    pub(crate) quick: bool,
    /// Folder for the report [default: loadtest/TIME]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// An empty PostgreSQL database to fill and use, instead of an embedded one
    #[arg(long, value_name = "URL", conflicts_with = "url")]
    pub(crate) database_url: Option<String>,
    /// Users in the database; with --url: to create
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=10_000_000))]
    pub(crate) users: Option<u32>,
    /// Items in the database, spread evenly over the users; with --url: to create
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=100_000_000))]
    pub(crate) items: Option<u32>,
    /// Processes that make the load [default: a quarter of the processors]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=64))]
    pub(crate) generators: Option<u32>,
    /// Measure a server that runs already; it has to be one whose users and items may be written
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Another server to compare, as a shell command (of several, begin the last one with exec);
    /// {port} and {workers} are filled in, and DATABASE_URL and JWT_SECRET_KEY set; may be repeated
    #[arg(long, value_name = "COMMAND", conflicts_with = "url")]
    pub(crate) command: Vec<String>,
    /// Name of the server of each --command [default: its first word]
    #[arg(long, value_name = "NAME", requires = "command")]
    pub(crate) name: Vec<String>,
    /// Where a --command without {port} listens
    #[arg(long, value_name = "PORT", requires = "command")]
    #[arg(value_parser = value_parser!(u16).range(1..))]
    pub(crate) port: Option<u16>,
    /// Only the servers of --command
    #[arg(long, requires = "command")]
    pub(crate) without_peace: bool,
    /// The server's program [default: peace-supervisor beside this one]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["url", "without_peace"])]
    pub(crate) server: Option<PathBuf>,
    /// Kill one worker this often while rates are offered
    #[arg(long, value_name = "TIME", value_parser = time, conflicts_with = "url")]
    pub(crate) kill_worker_every: Option<Duration>,
    /// Reload this often while rates are offered; a --command gets the signal HUP
    #[arg(long, value_name = "TIME", value_parser = time, conflicts_with = "url")]
    pub(crate) reload_every: Option<Duration>,
    /// Change the number of workers at a moment of each offered rate, as 4@1s; may be repeated
    #[arg(long, value_name = "N@TIME", value_delimiter = ',', conflicts_with = "url")]
    pub(crate) scale: Vec<ScaleAt>,
    /// Further settings for peace-supervisor, as --pool-size 8
    #[arg(last = true, value_name = "SETTINGS")]
    pub(crate) settings: Vec<String>,
}

impl RunOptions {
    /// Whether what is measured was built from the sources that are here.
    pub(crate) fn measures_this_tree(&self) -> bool {
        self.url.is_none() && self.server.is_none() && !self.without_peace
    }
}

/// Which page to write.
#[derive(Debug, Clone, Args)]
pub(crate) struct PageOptions {
    /// The report.json
    pub(crate) report: PathBuf,
    /// Where to write the page [default: report.html beside it]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// What a command line is.
#[derive(Debug)]
pub(crate) enum Asked {
    Verb(Verb),
    /// Help or version.
    Text(String),
}

/// Reads the arguments, the program's name first. The error is one line.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Asked, String> {
    let args: Vec<OsString> = args.into_iter().collect();
    match Line::try_parse_from(&args) {
        Ok(line) => Ok(Asked::Verb(line.verb)),
        Err(error) => no_match(&error, args.get(1)).map(Asked::Text),
    }
}

/// Help and version are clap's errors, too; of the others the first paragraph says it.
fn no_match(error: &clap::Error, verb: Option<&OsString>) -> Result<String, String> {
    let rendered = error.render().to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(rendered),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            Err("nothing asked for; begin with `peace-loadtest run --quick`".to_owned())
        }
        _ => {
            // What is missing stands in lines of its own, up to the first empty one.
            let said: Vec<&str> =
                rendered.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
            let said = said.join(" ");
            let is_verb = |word: &&str| Line::command().find_subcommand(word).is_some();
            let verb = verb.and_then(|verb| verb.to_str()).filter(is_verb);
            let verb = verb.map_or_else(String::new, |verb| format!("{verb} "));
            let said = said.trim_start_matches("error: ");
            Err(format!("{said}; see `peace-loadtest {verb}--help`"))
        }
    }
}

/// A duration: a number with ms, s or min.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is no time: write it as 4s, 500ms or 1min");
    let split = text.find(|char: char| !char.is_ascii_digit() && char != '.').ok_or_else(wrong)?;
    let (number, unit) = text.split_at(split);
    let unit_s = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "min" => 60.0,
        _ => return Err(wrong()),
    };
    let seconds = number.parse::<f64>().map_err(|_| wrong())? * unit_s;
    match seconds {
        0.1..=3600.0 => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(format!("'{text}' is not between 100ms and 60min")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(line: &str) -> String {
        parse(line.split(' ').map(OsString::from)).unwrap_err()
    }

    #[test]
    fn the_command_is_consistent() {
        Line::command().debug_assert();
    }

    #[test]
    fn a_refusal_is_one_line_that_names_the_help_to_read() {
        for (line, help) in [
            ("peace-loadtest run --rate 0", "`peace-loadtest run --help`"),
            ("peace-loadtest compare", "`peace-loadtest compare --help`"),
            ("peace-loadtest run --port 80", "`peace-loadtest run --help`"),
            ("peace-loadtest rnu", "`peace-loadtest --help`"),
            ("peace-loadtest", "`peace-loadtest run --quick`"),
        ] {
            let refused = refused(line);
            assert!(refused.ends_with(help) && !refused.contains('\n'), "{line}: {refused}");
        }
        assert!(refused("peace-loadtest run --port 80").contains("--command"), "what is missing");
    }

    #[test]
    fn a_time_has_a_unit_and_bounds() {
        assert_eq!(time("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(time("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(time("1min"), Ok(Duration::from_secs(60)));
        for bad in ["4", "s", "4h", "-1s", "0s", "99ms", "61min", "1e9s"] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }
}
