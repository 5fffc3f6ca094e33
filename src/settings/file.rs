//! Files of settings: reading them within a limit, and the settings file itself (TOML).
//!
//! `sources` calls it. Every file is a plain file of at most 64 KiB of text: a pipe could keep the
//! start waiting for ever. No message repeats what a file holds. Source: TOML 1.1.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::found::{Found, Layer, Origin};
use super::nearest::nearest;
use super::problem::Problem;
use super::table::SETTINGS;
use super::value::Wrong;

/// More than any settings need; keeps a wrong path from filling memory.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// The text of a file and its permission bits.
#[derive(Debug)]
pub(super) struct FileText {
    pub(super) text: String,
    pub(super) mode: u32,
}

/// Reads a file; `None` when there is none.
///
/// **Blocks** on the disk only.
pub(super) fn read(path: &Path) -> Result<Option<FileText>, Wrong> {
    match path.metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(&error)),
        Ok(metadata) if metadata.is_dir() => {
            return Err(Wrong::new("a folder, not a file", "name a file"));
        }
        Ok(metadata) if !metadata.is_file() => {
            return Err(Wrong::new("not a plain file", "name a plain file"));
        }
        Ok(_) => {}
    }
    let file = File::open(path).map_err(|error| unreadable(&error))?;
    let mode = file.metadata().map_err(|error| unreadable(&error))?.permissions().mode() & 0o777;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Wrong::new("a file of more than 64 KiB", "name the right file"));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(FileText { text, mode })),
        Err(_) => Err(Wrong::new("a file that is not UTF-8 text", "write it as text")),
    }
}

fn unreadable(error: &io::Error) -> Wrong {
    let what = format!("cannot be read ({})", error.kind());
    Wrong::new(what, "check the path and its permissions")
}

/// What the settings file says.
///
/// **Errors** are the problems of the file as a whole: unknown keys, keys given twice, no TOML.
pub(super) fn parse(path: &str, file: &FileText) -> Result<Layer, Vec<Problem>> {
    let table: toml::Table =
        file.text.parse().map_err(|error| vec![no_toml(path, file, &error)])?;
    let mut layer = Layer::new();
    let mut problems = Vec::new();
    for (key, value) in &table {
        match entry(path, file, key, value) {
            Ok((name, _)) if layer.contains_key(name) => {
                let wrong = Wrong::new("given twice", "remove one of the two spellings");
                problems.push(Problem::new(subject(path, key), &wrong));
            }
            Ok((name, found)) => drop(layer.insert(name, found)),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(layer) } else { Err(problems) }
}

type Entry = (&'static str, Result<Found, Problem>);

fn entry(path: &str, file: &FileText, key: &str, value: &toml::Value) -> Result<Entry, Problem> {
    let name = key.replace('_', "-");
    let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) else {
        return Err(unknown_key(path, key, &name));
    };
    if name == "config" {
        let wrong = Wrong::new("not for a file", "name one file, by --config or PEACE_CONFIG");
        return Err(Problem::new(subject(path, key), &wrong));
    }
    let origin = Origin::File { path: path.to_owned(), key: key.to_owned() };
    let found = text_of(value)
        .map(|text| Found { file_mode: Some(file.mode), ..Found::new(text, origin.clone()) })
        .map_err(|wrong| Problem::new(origin.subject(), &wrong));
    Ok((setting.name, found))
}

/// The text that means the same where there is only text.
fn text_of(value: &toml::Value) -> Result<String, Wrong> {
    match value {
        toml::Value::String(text) => Ok(text.clone()),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Boolean(switch) => Ok(switch.to_string()),
        toml::Value::Array(list) => {
            let texts: Result<Vec<_>, _> = list.iter().map(text_of).collect();
            Ok(texts?.join(","))
        }
        _ => Err(Wrong::new("a value of a wrong type", "write a text, a whole number or true")),
    }
}

fn unknown_key(path: &str, key: &str, name: &str) -> Problem {
    let names = SETTINGS.iter().map(|setting| setting.name);
    let mend = match nearest(name, names) {
        Some(near) => format!("did you mean {near}?"),
        None => "see `peace-supervisor config show` for all keys".to_owned(),
    };
    Problem::new(subject(path, key), &Wrong::new("no such setting", mend))
}

fn subject(path: &str, key: &str) -> String {
    format!("{key} (file {path})")
}

/// The parser's own words name what it expected, never what it read.
fn no_toml(path: &str, file: &FileText, error: &toml::de::Error) -> Problem {
    let before = error.span().and_then(|span| file.text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let what = format!("not TOML: {}", error.message());
    Problem::new(format!("file {path}, line {line}"), &Wrong::new(what, "write key = \"value\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_text(text: &str) -> Result<Layer, Vec<Problem>> {
        parse("p.toml", &FileText { text: text.to_owned(), mode: 0o600 })
    }

    #[test]
    fn keys_are_names_with_either_stroke_and_values_of_any_plain_type() {
        let text = "workers = 4\npool_size = \"2\"\naccess-log = false\n\
                    trusted-proxies = [\"10.0.0.0/8\", \"::1\"]\n";
        let layer = parse_text(text).unwrap();
        let found: Vec<_> = layer
            .iter()
            .map(|(name, found)| (*name, found.as_ref().unwrap().text().to_owned()))
            .collect();
        let expected = [
            ("access-log", "false"),
            ("pool-size", "2"),
            ("trusted-proxies", "10.0.0.0/8,::1"),
            ("workers", "4"),
        ];
        assert_eq!(found, expected.map(|(name, text)| (name, text.to_owned())));
    }

    #[test]
    fn every_bad_file_is_refused_and_no_value_is_repeated() {
        for (text, line) in [
            ("wrokers = 4", "wrokers (file p.toml): no such setting; did you mean workers?"),
            (
                "zzzzzzzz = 4",
                "zzzzzzzz (file p.toml): no such setting; \
                 see `peace-supervisor config show` for all keys",
            ),
            (
                "pool-size = 1\npool_size = 2",
                "pool_size (file p.toml): given twice; remove one of the two spellings",
            ),
            (
                "config = \"other\"",
                "config (file p.toml): not for a file; name one file, by --config or PEACE_CONFIG",
            ),
        ] {
            let problems = parse_text(text).unwrap_err();
            assert_eq!(problems.iter().map(ToString::to_string).collect::<Vec<_>>(), [line]);
        }
        for text in
            ["workers = 1\njwt-secret-key = hunter2", "workers = 1\nhunter2", "a=1\n'hunter2"]
        {
            let line = parse_text(text).unwrap_err()[0].to_string();
            assert!(line.starts_with("file p.toml, line 2: not TOML: "), "{line}");
            assert!(!line.contains("hunter2"), "{line}");
        }
    }

    #[test]
    fn a_value_of_a_wrong_type_is_a_problem_of_its_setting() {
        for text in ["workers = 1.5", "[workers]\nmany = 1", "workers = 2020-01-01"] {
            let layer = parse_text(text).unwrap();
            let line = layer["workers"].as_ref().unwrap_err().to_string();
            let expected = "workers (file p.toml): a value of a wrong type; \
                            write a text, a whole number or true";
            assert_eq!(line, expected);
        }
    }
}
