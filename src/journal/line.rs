//! One log line in the making: a JSON object, or words for people.
//!
//! `sink` begins and ends it, `events` and `access` fill it in.
//! Promises: no byte of a value can end the line, begin another member, or tell a terminal anything:
//! quotes, backslashes and control characters are escaped (RFC 8259 section 7), in both forms, and so is what
//! ends a line or turns its direction by Unicode alone (UAX #9, section 2).
//! What is written of each request is inlined into who writes it: names of a known length cost a few stores
//! then, and no call.
//! Does not know: what it says.

use std::fmt::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use tracing::Level;

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// One JSON object.
    Json,
    /// For people; with colours where they are shown.
    Pretty { colours: bool },
}

/// The worker that writes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    pub(super) slot: usize,
    pub(super) generation: u64,
}

/// What begins a line.
pub(super) struct Head<'a> {
    pub(super) form: Form,
    pub(super) level: Level,
    pub(super) target: &'a str,
    pub(super) origin: Option<Origin>,
}

/// A line that has begun.
pub(super) struct Line<'a> {
    out: &'a mut Vec<u8>,
    form: Form,
}

impl<'a> Line<'a> {
    /// Begins a line at the end of `out`.
    pub(super) fn begin(out: &'a mut Vec<u8>, clock: &mut Clock, head: &Head<'_>) -> Self {
        let mut line = Self { out, form: head.form };
        match head.form {
            Form::Json => {
                line.raw(b"{\"timestamp\":\"");
                line.raw(clock.now());
                line.raw(b"\",\"level\":\"");
                line.raw(head.level.as_str().as_bytes());
                line.raw(b"\",\"target\":\"");
                line.raw(head.target.as_bytes());
                line.raw(b"\"");
            }
            Form::Pretty { colours } => {
                line.raw(clock.now());
                line.raw(if colours { colour(head.level) } else { b" " });
                let level = head.level.as_str();
                line.raw(&b"     "[..5_usize.saturating_sub(level.len())]);
                line.raw(level.as_bytes());
                line.raw(if colours { b"\x1b[0m" } else { b"" });
            }
        }
        if let Some(Origin { slot, generation }) = head.origin {
            line.whole("slot", slot as u64);
            line.whole("generation", generation);
        }
        line
    }

    /// What happened: in words of ours, perhaps with values in them.
    pub(super) fn message(&mut self, message: &dyn fmt::Debug) {
        match self.form {
            Form::Json => self.shown("message", message),
            Form::Pretty { .. } => {
                self.raw(b" ");
                let _ = write!(Escaped { out: self.out, quotes: false }, "{message:?}");
            }
        }
    }

    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        let is_quoted = match self.form {
            Form::Json => true,
            Form::Pretty { .. } => !is_word(value.as_bytes()),
        };
        if is_quoted {
            self.raw(b"\"");
        }
        escape(self.out, value, true);
        if is_quoted {
            self.raw(b"\"");
        }
    }

    /// A text that cannot be anything but letters, digits and marks that need no escape, without spaces.
    #[inline(always)]
    pub(super) fn word(&mut self, name: &str, value: &str) {
        self.name(name);
        match self.form {
            Form::Json => {
                self.out.push(b'"');
                self.raw(value.as_bytes());
                self.out.push(b'"');
            }
            Form::Pretty { .. } => self.raw(value.as_bytes()),
        }
    }

    /// A value as its type shows it, as a text.
    pub(super) fn shown(&mut self, name: &str, value: &dyn fmt::Debug) {
        match self.form {
            Form::Json => {
                self.name(name);
                self.raw(b"\"");
                let _ = write!(Escaped { out: self.out, quotes: true }, "{value:?}");
                self.raw(b"\"");
            }
            Form::Pretty { .. } => self.text(name, &format!("{value:?}")),
        }
    }

    /// A number or a truth value, which is written as Rust shows it.
    pub(super) fn plain(&mut self, name: &str, value: impl fmt::Display) {
        self.name(name);
        let _ = write!(Escaped { out: self.out, quotes: true }, "{value}");
    }

    #[inline(always)]
    pub(super) fn whole(&mut self, name: &str, value: u64) {
        self.name(name);
        self.decimal(value, 0);
    }

    /// Microseconds, as milliseconds.
    #[inline(always)]
    pub(super) fn ms(&mut self, name: &str, value_us: u64) {
        self.name(name);
        self.decimal(value_us, 3);
    }

    /// Ends the line.
    pub(super) fn end(self) {
        if self.form == Form::Json {
            self.out.push(b'}');
        }
        self.out.push(b'\n');
    }

    #[inline(always)]
    fn name(&mut self, name: &str) {
        match self.form {
            Form::Json => self.joined([b",\"", name.as_bytes(), b"\":"]),
            Form::Pretty { .. } => self.joined([b" ", name.as_bytes(), b"="]),
        }
    }

    /// These three in a row. Put together first where they are short: of those that are known when this is
    /// compiled, a copy of the whole is left, and one look at the room that there is instead of three.
    #[inline(always)]
    fn joined(&mut self, parts: [&[u8]; 3]) {
        let [one, two, three] = parts.map(<[u8]>::len);
        let mut short = [0; 32];
        if let Some(whole) = short.get_mut(..one + two + three) {
            whole[..one].copy_from_slice(parts[0]);
            whole[one..one + two].copy_from_slice(parts[1]);
            whole[one + two..].copy_from_slice(parts[2]);
            self.raw(whole);
        } else {
            parts.into_iter().for_each(|part| self.raw(part));
        }
    }

    #[inline(always)]
    fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// `number`, with a point before its last `places`, if any.
    fn decimal(&mut self, mut number: u64, places: usize) {
        let mut text = [0; 24];
        let (mut begin, mut digits) = (text.len(), 0);
        while number > 0 || digits <= places {
            begin -= 1;
            text[begin] = b'0' + (number % 10) as u8;
            number /= 10;
            digits += 1;
            if digits == places {
                begin -= 1;
                text[begin] = b'.';
            }
        }
        self.raw(&text[begin..]);
    }
}

fn colour(level: Level) -> &'static [u8] {
    match level {
        Level::ERROR => b" \x1b[31m",
        Level::WARN => b" \x1b[33m",
        Level::INFO => b" \x1b[32m",
        _ => b" \x1b[34m",
    }
}

/// Text on its way into a line.
struct Escaped<'a> {
    out: &'a mut Vec<u8>,
    quotes: bool,
}

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        escape(self.out, text, self.quotes);
        Ok(())
    }
}

fn escape(out: &mut Vec<u8>, text: &str, quotes: bool) {
    if is_plain(text.as_bytes()) {
        out.extend_from_slice(text.as_bytes());
    } else {
        escape_each(out, text, quotes);
    }
}

#[cold]
fn escape_each(out: &mut Vec<u8>, text: &str, quotes: bool) {
    for character in text.chars() {
        match character {
            '"' | '\\' if quotes => out.extend([b'\\', character as u8]),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            control if control.is_control() || is_format(control) => {
                out.extend_from_slice(format!("\\u{:04x}", u32::from(control)).as_bytes());
            }
            other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Whether a terminal may end a line at it, show what follows in another order, or show nothing for it.
fn is_format(character: char) -> bool {
    matches!(
        character,
        '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    )
}

/// Whether nothing of it needs a second look. All bytes are looked at, which is done in blocks.
fn is_plain(text: &[u8]) -> bool {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') & (byte != b'"') & (byte != b'\\');
    text.iter().fold(true, |all, byte| all & is_plain(*byte))
}

fn is_word(text: &[u8]) -> bool {
    !text.is_empty() && is_plain(text) && !text.contains(&b' ')
}

/// The time of a line. Most of its text is that of the line before.
#[derive(Debug, Default)]
pub(super) struct Clock {
    second: u64,
    text: [u8; 27],
}

impl Clock {
    /// As `2026-01-31T12:00:00.000000Z`.
    pub(super) fn now(&mut self) -> &[u8; 27] {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.second != now.as_secs() {
            self.second = now.as_secs();
            let second = i64::try_from(self.second).unwrap_or(i64::MAX);
            let text = Timestamp::from_second(second).unwrap_or_default().to_string();
            // A year of five digits is not to be a panic.
            let text = text.get(..19).unwrap_or_default().as_bytes();
            self.text[..text.len()].copy_from_slice(text);
            self.text[19] = b'.';
            self.text[26] = b'Z';
        }
        let mut rest = now.subsec_micros();
        for digit in self.text[20..26].iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn line(form: Form, fill: impl FnOnce(&mut Line<'_>)) -> String {
        let origin = Some(Origin { slot: 3, generation: 7 });
        let head = Head { form, level: Level::WARN, target: "here", origin };
        let mut out = Vec::new();
        let mut line = Line::begin(&mut out, &mut Clock::default(), &head);
        fill(&mut line);
        line.end();
        String::from_utf8(out).unwrap()
    }

    const HOSTILE: &str = "a\"b\\c\n{\"level\":\"INFO\"}\r\t\0\u{1b}[31m\u{7f}\u{9b}é\u{2028}\
                           \u{202e}txt\u{2066}\u{200f}";

    fn is_hostile(character: char) -> bool {
        character.is_control() || "\u{2028}\u{202e}\u{2066}\u{200f}".contains(character)
    }

    #[test]
    fn whatever_a_value_holds_the_line_is_one_object_that_holds_it() {
        let text = line(Form::Json, |line| {
            line.message(&format_args!("said {HOSTILE}"));
            line.text("text", HOSTILE);
            line.shown("shown", &Some(1));
            line.whole("zero", 0);
            line.whole("most", u64::MAX);
            line.ms("ms", 1_020);
            line.ms("tiny", 5);
            line.word("word", "a-b.c");
            line.plain("yes", true);
            line.plain("minus", -1.5);
        });
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        assert!(!text.trim_end().contains(is_hostile), "{text:?}");
        let mut told: Value = serde_json::from_str(&text).unwrap();
        let time = told.as_object_mut().unwrap().remove("timestamp").unwrap();
        assert!(time.as_str().unwrap().parse::<Timestamp>().is_ok(), "{time}");
        let want = json!({
            "level": "WARN", "target": "here", "slot": 3, "generation": 7,
            "message": format!("said {HOSTILE}"), "text": HOSTILE, "shown": "Some(1)", "zero": 0,
            "most": u64::MAX, "ms": 1.02, "tiny": 0.005, "word": "a-b.c", "yes": true, "minus": -1.5,
        });
        assert_eq!(told, want);
    }

    #[test]
    fn whatever_a_value_holds_a_line_for_people_is_one_line() {
        let text = line(Form::Pretty { colours: false }, |line| {
            line.message(&format_args!("said {HOSTILE}"));
            line.text("word", "a/b");
            line.text("text", HOSTILE);
            line.text("empty", "");
        });
        assert!(!text.trim_end().contains(is_hostile), "{text:?}");
        let (_, said) = text.split_once("Z  WARN ").unwrap();
        assert!(said.starts_with("slot=3 generation=7 said a\"b"), "{said}");
        assert!(said.contains(" word=a/b text=\"a\\\"b"), "{said}");
        assert!(said.ends_with(" empty=\"\"\n"), "{said}");
    }

    #[test]
    fn the_clock_shows_the_time_it_is() {
        let mut clock = Clock::default();
        for _ in 0..3 {
            let before = Timestamp::now();
            let text = String::from_utf8(clock.now().to_vec()).unwrap();
            let shown = text.parse::<Timestamp>().unwrap();
            let behind = before.duration_since(shown);
            assert!(behind.as_micros() < 1 && shown <= Timestamp::now(), "{text} at {before}");
        }
    }
}
