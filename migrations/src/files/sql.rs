//! SQL text cut into statements and tokens, without understanding it.
//!
//! `script` calls it on every file, before anything is connected; it calls nothing.
//! It promises that a `;` inside a string, a quoted name, a comment, a dollar quote, parentheses
//! or a `begin atomic` body does not end a statement.
//! It does not know which statements are valid: the server says that.
//! Source: PostgreSQL manual, "SQL Syntax", section 4.1 (lexical structure).

use std::ops::Range;

/// One word, quoted name, literal or sign, as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) text: &'a str,
    /// Byte offset in the whole text.
    pub(crate) at: usize,
}

impl Token<'_> {
    /// Whether it is this keyword; a quoted name never is one.
    pub(crate) fn is(&self, keyword: &str) -> bool {
        self.text.eq_ignore_ascii_case(keyword)
    }
}

/// The tokens of one statement, never empty, without the closing `;`.
pub(crate) type Statement<'a> = Vec<Token<'a>>;

/// Something was opened and never closed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unclosed {
    pub(crate) what: &'static str,
    pub(crate) at: usize,
}

/// Cuts `sql` into statements; empty ones are left out.
pub(crate) fn statements(sql: &str) -> Result<Vec<Statement<'_>>, Unclosed> {
    let mut all = Vec::new();
    let mut statement: Statement<'_> = Vec::new();
    let mut depth = Depth::default();
    for token in tokens(sql)? {
        depth.follow(statement.last(), &token);
        if token.text == ";" && depth.is_outermost() {
            all.push(std::mem::take(&mut statement));
            depth = Depth::default();
        } else {
            statement.push(token);
        }
    }
    all.push(statement);
    all.retain(|statement| !statement.is_empty());
    Ok(all)
}

/// Whether a `;` ends the last statement.
pub(crate) fn is_terminated(sql: &str) -> bool {
    tokens(sql).is_ok_and(|tokens| tokens.last().is_none_or(|last| last.text == ";"))
}

/// The 1-based line of a byte offset.
pub(crate) fn line_of(sql: &str, at: usize) -> usize {
    sql.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1
}

/// How deep a token lies in what may hold a `;` of its own.
#[derive(Default)]
struct Depth {
    parentheses: usize,
    /// `begin atomic` and, within it, `case`; each closed by `end`.
    blocks: usize,
}

impl Depth {
    fn follow(&mut self, before: Option<&Token<'_>>, token: &Token<'_>) {
        match token.text {
            "(" => self.parentheses += 1,
            ")" => self.parentheses = self.parentheses.saturating_sub(1),
            _ if self.blocks > 0 && token.is("end") => self.blocks -= 1,
            _ if self.blocks > 0 && token.is("case") => self.blocks += 1,
            _ if token.is("atomic") && before.is_some_and(|word| word.is("begin")) => {
                self.blocks += 1;
            }
            _ => {}
        }
    }

    fn is_outermost(&self) -> bool {
        self.parentheses == 0 && self.blocks == 0
    }
}

fn tokens(sql: &str) -> Result<Vec<Token<'_>>, Unclosed> {
    let mut all: Vec<Token<'_>> = Vec::new();
    let mut at = 0;
    while let Some(first) = sql[at..].chars().next() {
        let rest = &sql[at..];
        if first.is_whitespace() {
            at += first.len_utf8();
        } else if rest.starts_with("--") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else if rest.starts_with("/*") {
            at += comment_len(rest).ok_or(Unclosed { what: "comment", at })?;
        } else {
            let escapes = all.last().is_some_and(|word| word.is("e") && word.at + 1 == at);
            let Range { start, end } = token(rest, first, escapes)
                .map(|len| at..at + len)
                .map_err(|what| Unclosed { what, at })?;
            all.push(Token { text: &sql[start..end], at });
            at = end;
        }
    }
    Ok(all)
}

/// The length of the token at the beginning of `rest`. `escapes`: a string right after `E`.
fn token(rest: &str, first: char, escapes: bool) -> Result<usize, &'static str> {
    match first {
        '\'' => quoted_len(rest, '\'', escapes).ok_or("string"),
        '"' => quoted_len(rest, '"', false).ok_or("quoted name"),
        '$' => match dollar_tag(rest) {
            Some(tag) => rest[tag.len()..]
                .find(tag)
                .map(|body| body + 2 * tag.len())
                .ok_or("dollar-quoted string"),
            None => Ok(1),
        },
        _ if is_word(first) => {
            Ok(rest.find(|next: char| !is_word(next) && next != '$').unwrap_or(rest.len()))
        }
        _ => Ok(first.len_utf8()),
    }
}

fn is_word(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_' || !letter.is_ascii()
}

/// `$$` or `$tag$` at the beginning of `rest`; `$1` is a parameter, not a tag.
fn dollar_tag(rest: &str) -> Option<&str> {
    let len = rest[1..].find('$')?;
    let name = &rest[1..=len];
    let plausible = name.chars().all(is_word) && !name.starts_with(|c: char| c.is_ascii_digit());
    plausible.then(|| &rest[..len + 2])
}

fn quoted_len(rest: &str, quote: char, escapes: bool) -> Option<usize> {
    let mut letters = rest.char_indices().skip(1).peekable();
    while let Some((at, letter)) = letters.next() {
        if escapes && letter == '\\' {
            letters.next();
        } else if letter == quote && letters.next_if(|(_, next)| *next == quote).is_none() {
            return Some(at + 1);
        }
    }
    None
}

/// Comments nest, as the standard says.
fn comment_len(rest: &str) -> Option<usize> {
    let mut depth = 0;
    let mut at = 0;
    loop {
        at += rest[at..].find(['/', '*'])?;
        let step = match rest.get(at..at + 2) {
            Some("/*") => {
                depth += 1;
                2
            }
            Some("*/") => {
                depth -= 1;
                2
            }
            _ => 1,
        };
        at += step;
        if depth == 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(sql: &str, expected: &[&str]) {
        let found: Vec<String> = statements(sql)
            .unwrap()
            .iter()
            .map(|words| words.iter().map(|word| word.text).collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(found, expected, "{sql}");
    }

    #[test]
    fn a_semicolon_ends_a_statement_only_where_it_is_one() {
        check("", &[]);
        check(" ; ;\n-- x;\n", &[]);
        check("select 1; select 2", &["select 1", "select 2"]);
        check("select 'a;''b'; x", &["select 'a;''b'", "x"]);
        check(r"select e'a\';b'; x", &[r"select e 'a\';b'", "x"]);
        check(r"select 'a\'; x", &[r"select 'a\'", "x"]);
        check("select \"a;\"\"b\"; x", &["select \"a;\"\"b\"", "x"]);
        check("do $$ begin; end $$; x", &["do $$ begin; end $$", "x"]);
        check("do $a$ $b$; $a$; x", &["do $a$ $b$; $a$", "x"]);
        check("select $1; x", &["select $ 1", "x"]);
        check("select a$b; c$d", &["select a$b", "c$d"]);
        check("a /* ; /* ; */ ; */ b; x", &["a b", "x"]);
        check(
            "create rule r as on insert to t do (a; b); x",
            &["create rule r as on insert to t do ( a ; b )", "x"],
        );
        check(
            "create function f() begin atomic select case when a then b end; c; end; x",
            &["create function f ( ) begin atomic select case when a then b end ; c ; end", "x"],
        );
        check("select 'é;'; größe", &["select 'é;'", "größe"]);
    }

    #[test]
    fn what_stays_open_is_named() {
        let cases = [
            ("select 'a", "string", 7),
            ("select \"a", "quoted name", 7),
            ("do $x$ a $$", "dollar-quoted string", 3),
            ("a /* /* */", "comment", 2),
            ("/*/", "comment", 0),
        ];
        for (sql, what, at) in cases {
            assert_eq!(statements(sql), Err(Unclosed { what, at }), "{sql}");
        }
    }

    #[test]
    fn the_last_semicolon_is_one_outside_of_comments() {
        for (sql, expected) in [("", true), ("a; -- b", true), ("a -- b;", false), ("a", false)] {
            assert_eq!(is_terminated(sql), expected, "{sql}");
        }
    }

    #[test]
    fn lines_count_from_one() {
        assert_eq!(line_of("a\nb\nc", 0), 1);
        assert_eq!(line_of("a\nb\nc", 4), 3);
    }
}
