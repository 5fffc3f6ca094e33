//! Names and literals in SQL, as the generator needs them made from others.
//!
//! The other rooms of `generate` call it; it calls `sql`. Pure.
//! The names of what is there come quoted from the catalogue; only names that are put together
//! from those are quoted here.
//! Source: PostgreSQL manual, "SQL Syntax", section 4.1.1 (identifiers).

use crate::files::sql;

/// PostgreSQL cuts a longer name.
pub(super) const NAME_BYTES_MAX: usize = 63;

/// The name as the catalogue has it.
pub(super) fn unquoted(name: &str) -> String {
    match name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) => inner.replace("\"\"", "\""),
        None => name.to_owned(),
    }
}

/// The name without its schema.
pub(super) fn bare(qualified: &str) -> &str {
    let mut quoted = false;
    let dot = qualified.char_indices().filter(|(_, letter)| {
        quoted ^= *letter == '"';
        *letter == '.' && !quoted
    });
    dot.last().map_or(qualified, |(at, _)| &qualified[at + 1..])
}

/// The schema's part of a name, with its dot; empty in the home schema.
pub(super) fn prefix(qualified: &str) -> &str {
    &qualified[..qualified.len() - bare(qualified).len()]
}

/// A name of ours: `parts` joined by `_`, and `suffix`. When it gets too long, the longest part is
/// cut, so that all of them can be told from others'.
pub(super) fn joined(parts: &[&str], suffix: &str) -> String {
    let mut parts: Vec<String> = parts.iter().map(|part| unquoted(bare(part))).collect();
    while parts.iter().map(|part| part.len() + 1).sum::<usize>() + suffix.len() > NAME_BYTES_MAX + 1
    {
        let Some(longest) = parts.iter_mut().max_by_key(|part| part.len()) else { break };
        longest.pop();
    }
    let name = parts.join("_") + suffix;
    let is_plain = |letter: char| letter.is_ascii_lowercase() || letter == '_';
    let mut letters = name.chars();
    // With its suffix it is no keyword.
    match letters.next().is_some_and(is_plain)
        && letters.all(|letter| is_plain(letter) || letter.is_ascii_digit())
    {
        true => name,
        false => format!("\"{}\"", name.replace('"', "\"\"")),
    }
}

/// A string in SQL; `standard_conforming_strings` is on.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// PostgreSQL's text with its keywords in lower case; names and strings stay as they are.
pub(super) fn lower(text: &str) -> String {
    let mut lowered = text.to_owned();
    for token in sql::statements(text).unwrap_or_default().into_iter().flatten() {
        if !token.text.starts_with(['\'', '"', '$']) {
            let place = token.at..token.at + token.text.len();
            lowered.replace_range(place, &token.text.to_ascii_lowercase());
        }
    }
    lowered
}

/// `check ((a > 0))` -> `check (a > 0)`: PostgreSQL adds parentheses to those that have to be.
pub(super) fn without_double_parentheses(check: &str) -> String {
    let mut open = Vec::new();
    let mut pairs = Vec::new();
    for token in sql::statements(check).unwrap_or_default().into_iter().flatten() {
        match (token.text, open.last()) {
            ("(", _) => open.push(token.at),
            (")", Some(_)) => pairs.extend(open.pop().map(|begin| (begin, token.at))),
            _ => {}
        }
    }
    let outer = pairs.last().copied();
    let inner = outer.and_then(|(begin, end)| {
        pairs.iter().copied().find(|pair| *pair == (begin + 1, end.wrapping_sub(1)))
    });
    match inner {
        Some((begin, end)) => [&check[..begin], &check[begin + 1..end], &check[end + 1..]].concat(),
        None => check.to_owned(),
    }
}

/// A type as people write it.
pub(super) fn short_type(data_type: &str) -> String {
    let swap = |text: &str, long: &str, short: &str| match text.strip_prefix(long) {
        Some(rest) if !rest.starts_with(|letter: char| letter.is_alphanumeric()) => {
            format!("{short}{rest}")
        }
        _ => text.to_owned(),
    };
    let text = swap(data_type, "character varying", "varchar");
    let is_time = text.starts_with("time");
    match (is_time, text.contains(" with time zone")) {
        (true, true) => {
            let text = text.replace(" with time zone", "");
            swap(&swap(&text, "timestamp", "timestamptz"), "time", "timetz")
        }
        (true, false) => text.replace(" without time zone", ""),
        _ => swap(&text, "character", "char"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_a_schema_or_none() {
        for (name, expected) in [
            ("item", ("", "item")),
            ("app.item", ("app.", "item")),
            ("\"a.b\".\"c.d\"", ("\"a.b\".", "\"c.d\"")),
            ("\"a.\"\"b\"", ("", "\"a.\"\"b\"")),
        ] {
            assert_eq!((prefix(name), bare(name)), expected, "{name}");
        }
        assert_eq!(unquoted("\"a\"\"b\""), "a\"b");
    }

    #[test]
    fn a_name_made_of_others_is_whole_and_quoted_where_it_has_to_be() {
        assert_eq!(joined(&["app.item", "slug"], "_x"), "item_slug_x");
        assert_eq!(joined(&["\"user\"", "\"Name\""], "_x"), "\"user_Name_x\"");
        assert_eq!(joined(&["\"a\"\"b\""], "_x"), "\"a\"\"b_x\"");
        let long = joined(&[&"ü".repeat(40)], "_x");
        assert_eq!(unquoted(&long).len(), 62, "{long}: no letter is cut in two");
    }

    #[test]
    fn keywords_are_lower_case_and_nothing_else_changes() {
        assert_eq!(
            lower("CHECK ((\"Name\" <> 'It''s NULL'::text) AND x = $$A$$) NOT VALID"),
            "check ((\"Name\" <> 'It''s NULL'::text) and x = $$A$$) not valid"
        );
        assert_eq!(literal("it's\n"), "'it''s\n'");
    }

    #[test]
    fn parentheses_are_not_doubled() {
        for (long, short) in [
            ("check ((a > 0))", "check (a > 0)"),
            ("check (((a) > (0)))", "check ((a) > (0))"),
            ("check ((a) > (0))", "check ((a) > (0))"),
            ("check ((a = ')'))", "check (a = ')')"),
            ("check ((a > 0)) not valid", "check (a > 0) not valid"),
            ("unique (a)", "unique (a)"),
        ] {
            assert_eq!(without_double_parentheses(long), short);
        }
    }

    #[test]
    fn a_type_is_written_as_people_do() {
        for (long, short) in [
            ("character varying(255)", "varchar(255)"),
            ("character varying[]", "varchar[]"),
            ("character(3)", "char(3)"),
            ("timestamp without time zone", "timestamp"),
            ("timestamp(3) with time zone", "timestamptz(3)"),
            ("time with time zone", "timetz"),
            ("time(0) without time zone[]", "time(0)[]"),
            ("timetable", "timetable"),
            ("integer", "integer"),
            ("\"character varying\"", "\"character varying\""),
        ] {
            assert_eq!(short_type(long), short);
        }
    }
}
