//! The settings as people read them: `config show`, `config check`, and README's table.
//!
//! `load` prints the first two, a test keeps README equal to the third. Secrets are hidden; a
//! database URL is shown without its password.

use std::fmt::Write;

use super::found::{Found, quotable};
use super::resolve::{Resolved, cpus};
use super::setting::{Fallback, Flag, Setting};
use super::table::SETTINGS;
use super::value::Value;

const HIDDEN: &str = "(hidden)";

/// Longer values push their origin to the right.
const VALUE_WIDTH: usize = 36;

/// Every setting, its value and where it is from, in columns.
pub(super) fn show(resolved: &Resolved) -> String {
    let rows: Vec<[String; 3]> = SETTINGS.iter().map(|setting| row(setting, resolved)).collect();
    let name_width = rows.iter().map(|[name, ..]| name.len()).max().unwrap_or(0);
    rows.iter().fold(String::new(), |mut text, [name, value, origin]| {
        let _ = writeln!(text, "{name:name_width$}  {value:VALUE_WIDTH$}  {origin}");
        text
    })
}

/// What `config check` says when there is nothing to complain about.
pub(super) fn all_good(resolved: &Resolved) -> String {
    let given = resolved.found.len();
    format!("settings: good ({given} given, {} by default)\n", SETTINGS.len() - given)
}

/// README's table of settings, in markdown.
pub fn readme_table() -> String {
    let head = "| flag | variable | default | meaning |\n|---|---|---|---|\n";
    SETTINGS.iter().fold(head.to_owned(), |mut table, setting| {
        let _ = writeln!(
            table,
            "| {} | {} | {} | {} |",
            flags_cell(setting),
            variables_cell(setting),
            default_cell(setting),
            setting.marked_meaning().replace('|', "\\|"),
        );
        table
    })
}

fn row(setting: &Setting, resolved: &Resolved) -> [String; 3] {
    let name = setting.name.to_owned();
    match resolved.found.get(setting.name) {
        None => [name, default_text(setting), "default".to_owned()],
        Some(Err(_)) => [name, "(unreadable)".to_owned(), "see below".to_owned()],
        Some(Ok(found)) => [name, text(setting, found, resolved), found.origin.to_string()],
    }
}

fn default_text(setting: &Setting) -> String {
    match setting.default {
        Fallback::Cpus => cpus().to_string(),
        default => default.described().to_owned(),
    }
}

fn text(setting: &Setting, found: &Found, resolved: &Resolved) -> String {
    match resolved.values.get(setting.name) {
        Some(Value::Database(url)) => url.to_string().escape_debug().to_string(),
        Some(Value::Address(address)) => address.to_string(),
        _ => match quotable(setting, found.text()) {
            Some(text) => text.escape_debug().to_string(),
            None => HIDDEN.to_owned(),
        },
    }
}

fn flags_cell(setting: &Setting) -> String {
    match setting.flag {
        Flag::None => String::new(),
        Flag::Long => format!("`--{}`", setting.name),
        Flag::Short(letter) => format!("`--{}`, `-{letter}`", setting.name),
    }
}

fn variables_cell(setting: &Setting) -> String {
    let suffix = if setting.secret { " (or `_FILE`)" } else { "" };
    let variables: Vec<_> = setting.variables.iter().map(|name| format!("`{name}`")).collect();
    format!("{}{suffix}", variables.join(", "))
}

fn default_cell(setting: &Setting) -> String {
    match setting.default {
        Fallback::Text(text) => format!("`{text}`"),
        default => default.described().to_owned(),
    }
}
