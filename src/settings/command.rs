//! The command line: made from the table, and read back into texts.
//!
//! `load` calls [`parse`]. Values stay texts here, so that a wrong one is refused in the same words
//! wherever it came from; clap knows the names, the forms, help and completions. A refusal is one
//! line, and repeats an argument only if it cannot be a secret.

use std::ffi::{OsStr, OsString};
use std::iter;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser, ValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint};
use supervisor::Request;

use super::NAME;
use super::found::{Found, Layer, Origin};
use super::problem::Problem;
use super::setting::{Flag, Kind, Setting};
use super::table::{SETTINGS, setting};
use super::value::{Value, Wrong};
use crate::top::Form;

/// What the command line asks for.
#[derive(Debug)]
pub(super) enum Verb {
    Serve,
    ConfigShow,
    ConfigCheck,
    Routes,
    OpenApi,
    Healthcheck {
        /// Whether an answer is enough.
        live: bool,
    },
    Ctl {
        request: Request,
        /// Show the answer as it came.
        json: bool,
    },
    Top {
        /// One frame, and how it is printed.
        once: Option<Form>,
        /// The admin process that is asked, as it was written.
        admin: Option<String>,
        /// As it was written.
        interval: String,
    },
    /// Help, version or a completion script: a text, and that is all.
    Print(String),
}

/// Reads the arguments, the program's name first.
pub(super) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<(Verb, Layer), Problem> {
    let matches = match command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => return no_match(&error).map(|verb| (verb, Layer::new())),
    };
    let chain: Vec<(&str, &ArgMatches)> =
        iter::successors(Some(("", &matches)), |(_, matches)| matches.subcommand()).collect();
    let words: Vec<&str> = chain.iter().skip(1).map(|(word, _)| *word).collect();
    let verb = match words.as_slice() {
        ["config", "show"] => Verb::ConfigShow,
        ["config", "check"] => Verb::ConfigCheck,
        ["routes"] => Verb::Routes,
        ["openapi"] => Verb::OpenApi,
        ["healthcheck"] => Verb::Healthcheck { live: is_set(chain[chain.len() - 1].1, LIVE) },
        ["ctl", word] => ctl(word, chain[chain.len() - 1].1)?,
        ["top"] => top(chain[chain.len() - 1].1),
        ["completions", shell] => Verb::Print(completions(shell)),
        _ => Verb::Serve,
    };
    Ok((verb, flags(&chain)))
}

/// The flags of every level: `--workers 2 config show` means `config show --workers 2`.
fn flags(chain: &[(&str, &ArgMatches)]) -> Layer {
    let given = |setting: &'static Setting| {
        let texts = chain.iter().rev();
        let text = texts.filter_map(|(_, matches)| {
            matches.try_get_one::<String>(setting.name).ok().flatten().cloned()
        });
        let origin = Origin::Flag(setting.long_flag()?);
        text.take(1).last().map(|text| (setting.name, Ok(Found::new(text, origin))))
    };
    SETTINGS.iter().filter_map(given).collect()
}

/// What to ask the supervisor for.
fn ctl(word: &str, matches: &ArgMatches) -> Result<Verb, Problem> {
    let wait = is_set(matches, WAIT);
    let request = match word {
        "reload" => Request::Reload { wait },
        "scale" => Request::Scale { workers: workers(matches)?, wait },
        "upgrade" => Request::Upgrade { wait },
        "stop" => Request::Stop,
        _ => Request::Status,
    };
    Ok(Verb::Ctl { request, json: is_set(matches, JSON) })
}

/// One frame as JSON is one frame.
fn top(matches: &ArgMatches) -> Verb {
    let text = |name| matches.get_one::<String>(name).cloned();
    let once = match (is_set(matches, ONCE), is_set(matches, JSON)) {
        (_, true) => Some(Form::Json),
        (true, false) => Some(Form::Text),
        (false, false) => None,
    };
    Verb::Top { once, admin: text(ADMIN), interval: text(INTERVAL).unwrap_or_default() }
}

fn is_set(matches: &ArgMatches, switch: &str) -> bool {
    matches.try_get_one(switch).ok().flatten().copied().unwrap_or(false)
}

/// So many as `--workers` takes.
fn workers(matches: &ArgMatches) -> Result<usize, Problem> {
    let text = matches.get_one::<String>(COUNT).map_or("", String::as_str);
    match setting("workers").kind.parse(text) {
        Ok(Value::Whole(workers)) => Ok(workers),
        Ok(other) => panic!("--workers is {other:?}"),
        Err(wrong) => Err(Problem::new("ctl scale", &wrong)),
    }
}

/// The whole command line.
pub(super) fn command() -> Command {
    let config = Command::new("config")
        .about("Print or check the settings")
        .subcommand_required(true)
        .subcommand(with_flags("show", "Print every setting, its value and where it is from"))
        .subcommand(with_flags("check", "Print every problem with the settings; exit 64 if any"));
    let shells = SHELLS.iter().map(|(name, _)| Command::new(*name).about(format!("For {name}")));
    let completions = Command::new("completions")
        .about("Print the completion script of a shell")
        .subcommand_required(true)
        .subcommands(shells);
    with_flags(NAME, "Serve the API from several worker processes")
        .bin_name(NAME)
        .version(env!("CARGO_PKG_VERSION"))
        .max_term_width(100)
        .disable_help_subcommand(true)
        .subcommand(with_flags("serve", "Serve; the same as no command"))
        .subcommand(config)
        .subcommand(ctl_command())
        .subcommand(top_command())
        .subcommand(healthcheck_command())
        .subcommand(Command::new("routes").about("Print the routes of the API"))
        .subcommand(Command::new("openapi").about("Print the API document (OpenAPI, JSON)"))
        .subcommand(completions)
}

fn healthcheck_command() -> Command {
    let live = Arg::new(LIVE).long(LIVE).action(ArgAction::SetTrue);
    Command::new("healthcheck")
        .about("Ask the server that listens at --bind whether it is ready; exit 1 if not")
        .arg(flag(setting("bind")))
        .arg(live.help("Ask only whether it answers, whatever its database does"))
}

fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

fn top_command() -> Command {
    let admin = Arg::new(ADMIN).long(ADMIN).value_name("ADDRESS:PORT");
    let interval = Arg::new(INTERVAL).long(INTERVAL).value_name("TIME").default_value("1s");
    Command::new("top")
        .about("Show how the workers are, on a screen that follows them")
        .args_override_self(true)
        .arg(flag(setting("control")))
        .arg(admin.help("Ask the admin process there; keys then need --control"))
        .arg(interval.help("Between two looks, and what rates are over"))
        .arg(switch(ONCE, "Print one frame as text, and that is all"))
        .arg(switch(JSON, "Print it as JSON, in one line"))
}

fn ctl_command() -> Command {
    let wait = || switch(WAIT, "Wait for the end; exit 1 with the reason if it fails");
    let count = Arg::new(COUNT).value_name("N").required(true).help("Workers to run: 1 to 256");
    let status = Command::new("status").about("Print how the workers are");
    let reload = Command::new("reload").about("Read the settings again, replace every worker");
    let upgrade = Command::new("upgrade")
        .about("Become the program that now has the supervisor's name, replace every worker");
    let scale = Command::new("scale").about("Run so many workers");
    Command::new("ctl")
        .about("Ask the supervisor that runs")
        .subcommand_required(true)
        .arg(flag(setting("control")).global(true))
        .subcommand(status.arg(switch(JSON, "Print it as JSON, in one line")))
        .subcommand(reload.arg(wait()))
        .subcommand(upgrade.arg(wait()))
        .subcommand(scale.arg(count).arg(wait()))
        .subcommand(Command::new("stop").about("Stop gracefully"))
}

/// Arguments of `ctl` and `top`; no setting may have their names.
const WAIT: &str = "wait";
const JSON: &str = "json";
const COUNT: &str = "count";
const ONCE: &str = "once";
const ADMIN: &str = "admin";
const INTERVAL: &str = "interval";
/// The one of `healthcheck`.
const LIVE: &str = "live";

const SHELLS: &[(&str, clap_complete::Shell)] = &[
    ("bash", clap_complete::Shell::Bash),
    ("zsh", clap_complete::Shell::Zsh),
    ("fish", clap_complete::Shell::Fish),
];

fn completions(name: &str) -> String {
    let mut script = Vec::new();
    for (_, shell) in SHELLS.iter().filter(|(shell, _)| *shell == name) {
        clap_complete::generate(*shell, &mut command(), NAME, &mut script);
    }
    // clap_complete 4.6 names a bash state in two ways when the program's name has a hyphen, and
    // nothing after a subcommand is completed (clap-rs/clap#6421).
    let script = String::from_utf8_lossy(&script);
    script.replace(&NAME.replace('-', "__subcmd__"), &NAME.replace('-', "__"))
}

fn with_flags(name: &'static str, about: &'static str) -> Command {
    Command::new(name)
        .about(about)
        .after_help(after_help())
        .args_override_self(true)
        .args(SETTINGS.iter().filter(|setting| setting.flag != Flag::None).map(flag))
}

fn flag(setting: &'static Setting) -> Arg {
    let default = setting.default.described();
    let variables = setting.variables.join(", ");
    let arg = Arg::new(setting.name)
        .long(setting.name)
        .value_name(setting.kind.placeholder())
        .value_parser(words(&setting.kind))
        .value_hint(hint(&setting.kind))
        .help_heading(setting.section.title())
        .help(format!("{} [default: {default}] [env: {variables}]", setting.marked_meaning()));
    match setting.flag {
        Flag::Short(letter) => arg.short(letter),
        _ => arg,
    }
}

/// The settings that the flags do not show.
fn after_help() -> String {
    let hidden = SETTINGS.iter().filter(|setting| setting.flag == Flag::None);
    let lines = hidden.map(|setting| {
        let default = setting.default.described();
        let meaning = setting.marked_meaning();
        format!("\n  {}\n      {meaning} [default: {default}]", setting.usual_name())
    });
    let lines: String = lines.collect();
    format!("By environment, .env or settings file only:{lines}")
}

fn hint(kind: &Kind) -> ValueHint {
    match kind {
        Kind::Path | Kind::Optional(Kind::Path) => ValueHint::FilePath,
        _ => ValueHint::Other,
    }
}

fn words(kind: &Kind) -> ValueParser {
    match kind {
        Kind::Switch => Words(&["on", "off"]).into(),
        Kind::Choice(words) => Words(words).into(),
        _ => StringValueParser::new().into(),
    }
}

/// Any text, with words to complete: whether the text is one of them is checked with all others.
#[derive(Clone)]
struct Words(&'static [&'static str]);

impl TypedValueParser for Words {
    type Value = String;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.0.iter().map(PossibleValue::new)))
    }
}

/// Help and version are clap's errors, too; the others become one line.
fn no_match(error: &clap::Error) -> Result<Verb, Problem> {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            Ok(Verb::Print(error.render().to_string()))
        }
        _ => Err(Problem::new("command line", &wrong(error))),
    }
}

fn wrong(error: &clap::Error) -> Wrong {
    let arg = || argument(error, ContextKind::InvalidArg);
    let word = || argument(error, ContextKind::InvalidSubcommand);
    let see_help = || format!("see `{NAME} --help`");
    match error.kind() {
        ErrorKind::UnknownArgument => Wrong::new(
            format!("{}: no such flag", arg()),
            suggestion(error, ContextKind::SuggestedArg).unwrap_or_else(see_help),
        ),
        ErrorKind::InvalidSubcommand => Wrong::new(
            format!("{}: no such command", word()),
            suggestion(error, ContextKind::SuggestedSubcommand).unwrap_or_else(see_help),
        ),
        ErrorKind::InvalidValue => Wrong::new(format!("{}: no value", arg()), "write one after it"),
        ErrorKind::MissingSubcommand => Wrong::new("half a command", next_words(error)),
        ErrorKind::MissingRequiredArgument => {
            Wrong::new("half a command", "write a number after it")
        }
        ErrorKind::InvalidUtf8 => Wrong::new("an argument that is not UTF-8", see_help()),
        _ => Wrong::new("not a command line of ours", see_help()),
    }
}

fn argument(error: &clap::Error, kind: ContextKind) -> String {
    let text = match error.get(kind) {
        Some(ContextValue::String(text)) => shown(text),
        _ => None,
    };
    text.unwrap_or_else(|| "an argument".to_owned())
}

fn next_words(error: &clap::Error) -> String {
    match error.get(ContextKind::ValidSubcommand) {
        Some(ContextValue::Strings(words)) => format!("go on with {}", words.join(" or ")),
        _ => format!("see `{NAME} --help`"),
    }
}

fn suggestion(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(near) => Some(format!("did you mean {near}?")),
        ContextValue::Strings(near) => Some(format!("did you mean {}?", near.join(" or "))),
        _ => None,
    }
}

/// An argument as a message may repeat it: a flag without its value, or a short plain word.
fn shown(text: &str) -> Option<String> {
    let name = text.split(' ').next().unwrap_or_default();
    let is_plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    (is_plain && name.len() <= 24 && !name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(line: &str) -> Result<(Verb, Layer), Problem> {
        parse(line.split(' ').map(OsString::from))
    }

    #[test]
    fn the_command_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_form_is_understood() {
        for (line, verb) in [
            ("peace-supervisor", "Serve"),
            ("peace-supervisor serve", "Serve"),
            ("peace-supervisor --workers 2", "Serve"),
            ("peace-supervisor config show -w 2", "ConfigShow"),
            ("peace-supervisor config check", "ConfigCheck"),
            ("peace-supervisor --workers 2 config check", "ConfigCheck"),
            ("peace-supervisor routes", "Routes"),
            ("peace-supervisor openapi", "OpenApi"),
            ("peace-supervisor ctl status", "Ctl { request: Status, json: false }"),
            ("peace-supervisor ctl status --json", "Ctl { request: Status, json: true }"),
            ("peace-supervisor ctl reload", "Ctl { request: Reload { wait: false }, json: false }"),
            (
                "peace-supervisor ctl reload --wait",
                "Ctl { request: Reload { wait: true }, json: false }",
            ),
            (
                "peace-supervisor ctl scale 4 --wait",
                "Ctl { request: Scale { workers: 4, wait: true }, json: false }",
            ),
            ("peace-supervisor top", "Top { once: None, admin: None, interval: \"1s\" }"),
            (
                "peace-supervisor top --json --admin 1 --interval 2s",
                "Top { once: Some(Json), admin: Some(\"1\"), interval: \"2s\" }",
            ),
            (
                "peace-supervisor top --once",
                "Top { once: Some(Text), admin: None, interval: \"1s\" }",
            ),
            ("peace-supervisor ctl stop", "Ctl { request: Stop, json: false }"),
        ] {
            assert_eq!(format!("{:?}", parse_words(line).unwrap().0), verb, "{line}");
        }
    }

    #[test]
    fn the_last_flag_of_the_innermost_command_decides() {
        for (line, workers) in [
            ("peace-supervisor -w 2", "2"),
            ("peace-supervisor -w2", "2"),
            ("peace-supervisor --workers=2", "2"),
            ("peace-supervisor --workers 1 --workers 2", "2"),
            ("peace-supervisor --workers 1 serve --workers 2", "2"),
            ("peace-supervisor --workers 2 config show", "2"),
        ] {
            let (_, flags) = parse_words(line).unwrap();
            assert_eq!(flags["workers"].as_ref().unwrap().text(), workers, "{line}");
        }
        for line in [
            "--control a ctl stop",
            "ctl --control a stop",
            "ctl stop --control a",
            "top --control a",
        ] {
            let (_, flags) = parse_words(&format!("peace-supervisor {line}")).unwrap();
            assert_eq!(flags["control"].as_ref().unwrap().text(), "a", "{line}");
        }
    }

    #[test]
    fn every_bad_command_line_is_one_line_without_values() {
        for (line, message) in [
            ("--wrokers 2", "--wrokers: no such flag; did you mean --workers?"),
            ("--wrokers=hunter2", "--wrokers: no such flag; did you mean --workers?"),
            ("--zzz", "--zzz: no such flag; see `peace-supervisor --help`"),
            ("-x", "-x: no such flag; see `peace-supervisor --help`"),
            ("--workers", "--workers: no value; write one after it"),
            ("confg", "confg: no such command; did you mean config?"),
            ("ctl", "half a command; go on with status or reload or upgrade or scale or stop"),
            ("ctl upgrad", "upgrad: no such command; did you mean upgrade?"),
            ("ctl zzz", "zzz: no such command; see `peace-supervisor --help`"),
            ("ctl scale", "half a command; write a number after it"),
            ("ctl stop --wait", "--wait: no such flag; see `peace-supervisor --help`"),
            ("config", "half a command; go on with show or check"),
            ("completions", "half a command; go on with bash or zsh or fish"),
            ("completions tcsh", "tcsh: no such command; did you mean zsh?"),
            (
                "postgres://u:hunter2@h",
                "an argument: no such command; see `peace-supervisor --help`",
            ),
            ("serve Hunter2", "an argument: no such flag; see `peace-supervisor --help`"),
        ] {
            let problem = parse_words(&format!("peace-supervisor {line}")).unwrap_err();
            assert_eq!(problem.to_string(), format!("command line: {message}"), "{line}");
        }
        let problem = parse_words("peace-supervisor ctl scale many").unwrap_err();
        assert_eq!(problem.to_string(), "ctl scale: not a whole number; give 1 to 256");
    }

    #[test]
    fn help_shows_every_setting_and_completions_every_flag() {
        let Ok((Verb::Print(help), _)) = parse_words("peace-supervisor --help") else { panic!() };
        for setting in SETTINGS {
            assert!(help.contains(setting.usual_name()), "{}", setting.name);
        }
        for (shell, _) in SHELLS {
            let line = format!("peace-supervisor completions {shell}");
            let Ok((Verb::Print(script), _)) = parse_words(&line) else { panic!("{shell}") };
            for setting in SETTINGS.iter().filter(|setting| setting.flag != Flag::None) {
                assert!(script.contains(setting.name), "{shell}: {}", setting.name);
            }
        }
        let Ok((Verb::Print(version), _)) = parse_words("peace-supervisor --version") else {
            panic!()
        };
        assert_eq!(version, format!("peace-supervisor {}\n", env!("CARGO_PKG_VERSION")));
    }

    #[test]
    fn bash_completes_at_every_level() {
        let function = format!("_{}", NAME.replace('-', "__"));
        for (words, expected) in [
            ("--wor", "--workers"),
            ("conf", "config"),
            ("config sh", "show"),
            ("config show --log-format js", "json"),
            ("serve --access-log o", "on off"),
            ("completions z", "zsh"),
            ("ctl re", "reload"),
            ("ctl scale 2 --wa", "--wait"),
        ] {
            let script = format!(
                "{}\nCOMP_WORDS=({NAME} {words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n\
                 {function} {NAME} \"${{COMP_WORDS[-1]}}\" \"${{COMP_WORDS[-2]}}\" \
                 2>/dev/null; echo ${{COMPREPLY[*]}}",
                completions("bash")
            );
            let bash = std::process::Command::new("bash").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&bash.stdout).trim(), expected, "{words}");
        }
    }
}
