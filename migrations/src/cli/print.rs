//! Where lines go: results to stdout, everything else to stderr.
//!
//! Every command calls it. It promises plain text in a pipe; on a terminal the step that runs is one
//! line that is replaced by its end, and what matters has a colour (not with `NO_COLOR`).

use std::env;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use super::Failure;
use crate::database::runner::Event;

const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
/// To the beginning of the line, and nothing behind it.
const ERASE: &str = "\r\x1b[K";

/// What a stream can show.
#[derive(Clone, Copy)]
struct Screen {
    /// Lines can be replaced.
    is_terminal: bool,
    has_colour: bool,
}

impl Screen {
    fn of(stream: &impl IsTerminal) -> Self {
        let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_terminal =
            stream.is_terminal() && env::var_os("TERM").is_none_or(|name| name != "dumb");
        Self { is_terminal, has_colour: is_terminal && !is_set("NO_COLOR") }
    }

    fn paint(self, colour: &str, text: &str) -> String {
        match self.has_colour {
            true => format!("\x1b[{colour}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }
}

/// A closed stderr must not end a migration.
pub(super) fn say(line: &dyn Display) {
    drop(writeln!(io::stderr(), "{line}"));
}

/// Why the command ended.
pub(super) fn failure(failure: &dyn Display) {
    let screen = Screen::of(&io::stderr());
    let erase = if screen.is_terminal { ERASE } else { "" };
    say(&format_args!("{erase}{} {failure}", screen.paint(RED, "peace-migrate:")));
}

/// What a run says on its way.
pub(super) fn event(event: Event<'_>) {
    let text = progress(Screen::of(&io::stderr()), event);
    drop(io::stderr().write_all(text.as_bytes()));
}

fn progress(screen: Screen, event: Event<'_>) -> String {
    if !screen.is_terminal {
        return format!("{event}\n");
    }
    match event {
        Event::Running { .. } => format!("{ERASE}{event} …"),
        Event::Done { .. } => format!("{ERASE}{}\n", screen.paint(GREEN, &event.to_string())),
        _ => format!("{ERASE}{}\n", screen.paint(YELLOW, &event.to_string())),
    }
}

/// Results, a line each.
pub(super) fn lines(lines: &[impl AsRef<str>]) -> Result<(), Failure> {
    let screen = Screen::of(&io::stdout());
    let mark = |line: &str| {
        let head = line.replace("(head)", &screen.paint(GREEN, "(head)"));
        head.replace("(current)", &screen.paint(YELLOW, "(current)")) + "\n"
    };
    text(&lines.iter().map(|line| mark(line.as_ref())).collect::<String>())
}

/// A result as it is.
pub(super) fn text(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Whoever read it has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

/// A result for programs.
pub(super) fn json(value: &impl serde::Serialize) -> Result<(), Failure> {
    text(&(serde_json::to_string_pretty(value).map_err(io::Error::from)? + "\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_terminal_gets_more_than_text() {
        let plain = Screen { is_terminal: false, has_colour: false };
        let terminal = Screen { is_terminal: true, has_colour: true };
        let event = Event::Losing { what: "a: 1 row" };
        assert_eq!(progress(plain, event), "losing a: 1 row\n");
        assert_eq!(progress(terminal, event), "\r\x1b[K\x1b[33mlosing a: 1 row\x1b[0m\n");
        let colourless = Screen { has_colour: false, ..terminal };
        assert_eq!(progress(colourless, event), "\r\x1b[Klosing a: 1 row\n");
    }
}
