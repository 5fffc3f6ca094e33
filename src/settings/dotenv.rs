//! The `.env` file: `NAME=value` lines, read strictly.
//!
//! `sources` calls it. A line that two readers could take for two things is refused with its
//! number: a value with blanks needs quotes, nothing is expanded, no name is given twice. No
//! message repeats a line: it may hold a secret.
//!
//! ```text
//! # a comment
//! export PEACE_WORKERS=4        # and another
//! DATABASE_URL='postgres://…'   # '…' as it stands; in "…" the escapes \n \r \t \" \\ \$
//! ```

use std::collections::BTreeMap;

use super::value::Wrong;

/// A line that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadLine {
    pub(super) number: usize,
    pub(super) wrong: Wrong,
}

/// The variables of the file, or every line that is wrong.
pub(super) fn parse(text: &str) -> Result<BTreeMap<String, String>, Vec<BadLine>> {
    let mut variables = BTreeMap::new();
    let mut bad = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let read = parse_line(line.trim()).and_then(|pair| match pair {
            Some((name, _)) if variables.contains_key(name) => Err(twice()),
            pair => Ok(pair),
        });
        match read {
            Ok(None) => {}
            Ok(Some((name, value))) => drop(variables.insert(name.to_owned(), value)),
            Err(wrong) => bad.push(BadLine { number: index + 1, wrong }),
        }
    }
    if bad.is_empty() { Ok(variables) } else { Err(bad) }
}

fn parse_line(line: &str) -> Result<Option<(&str, String)>, Wrong> {
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let line = line.strip_prefix("export ").map_or(line, str::trim_start);
    let Some((name, value)) = line.split_once('=') else {
        return Err(Wrong::new("no = in it", "write NAME=value"));
    };
    if !is_name(name) {
        return Err(Wrong::new("a bad name", "write NAME=value, with no blank around the ="));
    }
    parse_value(value).map(|value| Some((name, value)))
}

fn is_name(name: &str) -> bool {
    let word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    word && name.starts_with(|first: char| !first.is_ascii_digit())
}

fn parse_value(value: &str) -> Result<String, Wrong> {
    let (text, rest) = match value.chars().next() {
        Some('\'') => single_quoted(&value[1..])?,
        Some('"') => double_quoted(&value[1..])?,
        Some(first) if first.is_whitespace() => {
            return Err(Wrong::new("a blank after the =", "write NAME=value"));
        }
        _ => unquoted(value)?,
    };
    let rest = rest.trim_start();
    if rest.is_empty() || rest.starts_with('#') {
        return Ok(text);
    }
    Err(Wrong::new("more text after the value", "put a value with blanks in quotes"))
}

fn single_quoted(text: &str) -> Result<(String, &str), Wrong> {
    let (value, rest) = text.split_once('\'').ok_or_else(unterminated)?;
    Ok((value.to_owned(), rest))
}

fn double_quoted(text: &str) -> Result<(String, &str), Wrong> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, one)) = chars.next() {
        match one {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => value.push(escaped(chars.next().map(|(_, one)| one))?),
            '$' => check_dollar(&text[at..]).map(|()| value.push('$'))?,
            _ => value.push(one),
        }
    }
    Err(unterminated())
}

fn escaped(one: Option<char>) -> Result<char, Wrong> {
    match one {
        Some('n') => Ok('\n'),
        Some('r') => Ok('\r'),
        Some('t') => Ok('\t'),
        Some(one @ ('"' | '\\' | '$')) => Ok(one),
        _ => Err(Wrong::new("an unknown escape", "write \\\\ for a backslash")),
    }
}

fn unquoted(text: &str) -> Result<(String, &str), Wrong> {
    let (value, rest) = text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()));
    if value.contains(['\'', '"', '\\', '`']) {
        return Err(Wrong::new("a quote or backslash in the value", "put the value in quotes"));
    }
    value.match_indices('$').try_for_each(|(at, _)| check_dollar(&value[at..]))?;
    Ok((value.to_owned(), rest))
}

/// Other readers of the file would put something in its place.
fn check_dollar(text: &str) -> Result<(), Wrong> {
    if text.starts_with("${") || text.starts_with("$(") {
        return Err(Wrong::new(
            "a variable in the value",
            "write it out, or put the value in single quotes",
        ));
    }
    Ok(())
}

fn twice() -> Wrong {
    Wrong::new("a name given twice", "remove one of the two lines")
}

fn unterminated() -> Wrong {
    Wrong::new("a quote that does not end", "end it on the same line")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_lines() {
        for (line, value) in [
            ("A=b", "b"),
            ("  A=b  ", "b"),
            ("export A=b", "b"),
            ("export   A=b", "b"),
            ("A=", ""),
            ("A=b # comment", "b"),
            ("A=b#c", "b#c"),
            ("A=b=c", "b=c"),
            ("A=pa$word", "pa$word"),
            ("A='b c # $(x) \\n'", "b c # $(x) \\n"),
            ("A='b' # comment", "b"),
            ("A=\"b c\\n\\\"\\\\ \\$ $x\"", "b c\n\"\\ $ $x"),
            ("A=postgres://u:p@h:1/d?a=b&c=d", "postgres://u:p@h:1/d?a=b&c=d"),
        ] {
            assert_eq!(
                parse(line).unwrap(),
                BTreeMap::from([("A".into(), value.into())]),
                "{line}"
            );
        }
        assert_eq!(parse("\n# A=b\n   \n\r\n").unwrap(), BTreeMap::new());
        assert_eq!(parse("A=1\r\nB=2\r\n").unwrap().len(), 2);
    }

    #[test]
    fn every_bad_line_is_named_by_its_number() {
        for (line, what) in [
            ("A", "no = in it"),
            ("A =b", "a bad name"),
            ("A: b=c", "a bad name"),
            ("1A=b", "a bad name"),
            ("=b", "a bad name"),
            ("A-B=c", "a bad name"),
            ("\u{feff}A=b", "a bad name"),
            ("A= b", "a blank after the ="),
            ("A=b c", "more text after the value"),
            ("A='b'c", "more text after the value"),
            ("A='b", "a quote that does not end"),
            ("A=\"b", "a quote that does not end"),
            ("A=\"b\\", "an unknown escape"),
            ("A=\"\\x\"", "an unknown escape"),
            ("A=b'c'", "a quote or backslash in the value"),
            ("A=${B}", "a variable in the value"),
            ("A=\"$(date)\"", "a variable in the value"),
            ("Z=1", "a name given twice"),
        ] {
            let file = format!("# first\nZ=1\n{line}\nY=2\n");
            let bad = parse(&file).unwrap_err();
            assert_eq!(
                (bad.len(), bad[0].number, bad[0].wrong.what.as_str()),
                (1, 3, what),
                "{line}"
            );
        }
        let numbers: Vec<_> =
            parse("A\nB=1\nC").unwrap_err().iter().map(|bad| bad.number).collect();
        assert_eq!(numbers, [1, 3]);
    }
}
