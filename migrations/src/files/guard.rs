//! What a file would take away, as far as its words tell.
//!
//! `runner` asks before anything runs: for a way up [`destructive`], for a way down [`losses`],
//! which `loss` then looks for in the database. It calls `sql` for the words.
//! It promises that a drop of data is never overlooked when it is written plainly; what stands in a
//! `do` block cannot be looked into and counts as one.
//! It does not know which names exist, nor what a function does that is only called.

use crate::files::script::{Script, unquoted};
use crate::files::sql::{self, Statement, Token};

/// What else holds data, or the meaning of data.
const KINDS: [&str; 6] = ["schema", "type", "sequence", "materialized", "extension", "database"];
/// Without data of their own: what depends on them has none either.
const HARMLESS: [&str; 7] =
    ["table", "view", "materialized", "index", "trigger", "rule", "sequence"];
/// Statements that only declare what will be done later.
const DECLARATIONS: [&str; 5] = ["create", "grant", "revoke", "comment", "prepare"];

/// Something that a way down takes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Every row of a table.
    Rows {
        /// As written, for `to_regclass`.
        table: String,
    },
    /// Every value of a column.
    Values {
        /// As written, for `to_regclass`.
        table: String,
        /// As the catalogue has it.
        column: String,
    },
    /// The values of a column that its new type cannot hold as they are.
    Retype(Retype),
    /// Nobody can say before it runs.
    Unseen {
        /// `file:line: what`.
        what: String,
    },
}

/// `alter column … type … using …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Retype {
    /// As written, for `to_regclass`.
    pub(crate) table: String,
    /// As the catalogue has it.
    pub(crate) column: String,
    /// As written.
    pub(crate) data_type: String,
    /// As written, or the column.
    pub(crate) value: String,
}

/// What a statement does to data.
enum Act {
    Rows { table: String, what: String },
    Values { table: String, column: String, what: String },
    Overwrite { what: String },
    Retype(Retype),
    Object { what: String },
    Unseen { what: String },
}

/// The statements that destroy data, with their lines in the file.
pub(crate) fn destructive(script: &Script) -> Vec<(usize, String)> {
    let what = |(line, act)| match act {
        Act::Rows { what, .. }
        | Act::Values { what, .. }
        | Act::Overwrite { what }
        | Act::Object { what }
        | Act::Unseen { what } => Some((line, what)),
        // What a value becomes is for whoever writes the file to decide.
        Act::Retype(_) => None,
    };
    let mut found: Vec<_> = each(script).filter_map(what).collect();
    // A statement may name several tables.
    found.dedup();
    found
}

/// What a way down takes with it.
pub(crate) fn losses(script: &Script) -> Vec<Loss> {
    let loss = |(line, act)| match act {
        Act::Rows { table, .. } => Some(Loss::Rows { table }),
        Act::Values { table, column, .. } => Some(Loss::Values { table, column }),
        Act::Retype(retype) => Some(Loss::Retype(retype)),
        Act::Unseen { what } => {
            Some(Loss::Unseen { what: format!("{}:{line}: {what}", script.file) })
        }
        // A way down may well fill an old column, and a type in use cannot be dropped.
        Act::Overwrite { .. } | Act::Object { .. } => None,
    };
    each(script).filter_map(loss).collect()
}

fn each(script: &Script) -> impl Iterator<Item = (usize, Act)> {
    // `Script::parse` has cut the same text before.
    let statements = sql::statements(&script.sql).unwrap_or_default();
    statements.into_iter().flat_map(|statement| {
        let line = sql::line_of(&script.sql, statement[0].at);
        acts(&script.sql, &statement).into_iter().map(move |act| (line, act))
    })
}

fn acts(sql: &str, statement: &Statement<'_>) -> Vec<Act> {
    let is = |keyword| statement[0].is(keyword);
    if is("drop") {
        dropped(&statement[1..])
    } else if is("alter") {
        altered(sql, &statement[1..])
    } else if is("merge") {
        merged(&statement[1..])
    } else if is("truncate") {
        truncated(&statement[1..])
    } else if is("do") {
        vec![Act::Unseen { what: "a `do` block cannot be looked into".to_owned() }]
    } else if DECLARATIONS.iter().any(|keyword| is(keyword)) {
        Vec::new()
    } else {
        rewritten(statement)
    }
}

fn dropped(words: &[Token<'_>]) -> Vec<Act> {
    let Some((kind, rest)) = words.split_first() else { return Vec::new() };
    let what = || format!("`drop {}`", text(words));
    if kind.is("table") {
        let tables = names(after_if_exists(rest)).into_iter();
        return tables.map(|table| Act::Rows { table, what: what() }).collect();
    }
    let is_one_of = |kinds: &[&str]| kinds.iter().any(|keyword| kind.is(keyword));
    if cascades(rest) && !is_one_of(&HARMLESS) || kind.is("owned") {
        vec![Act::Unseen { what: what() }]
    } else if cascades(rest) || is_one_of(&KINDS) {
        vec![Act::Object { what: what() }]
    } else {
        Vec::new()
    }
}

fn altered(sql: &str, words: &[Token<'_>]) -> Vec<Act> {
    let words = after(words, "foreign");
    let Some((kind, rest)) = words.split_first() else { return Vec::new() };
    let (table, actions) = name(after(after_if_exists(rest), "only"));
    let mut acts = Vec::new();
    for action in parts(actions) {
        if kind.is("table") && action[0].is("alter") {
            acts.extend(retyped(sql, &table, &action[1..]));
        }
        let Some((_, object)) = action.split_first().filter(|(verb, _)| verb.is("drop")) else {
            continue;
        };
        let what = format!("`alter {} {table} {}`", kind.text.to_ascii_lowercase(), text(action));
        let is = |keyword| object.first().is_some_and(|word| word.is(keyword));
        if kind.is("table") && !is("constraint") {
            let column = after_if_exists(after(object, "column")).first();
            let column = column.map(|word| unquoted(word.text)).unwrap_or_default();
            acts.push(Act::Values { table: table.clone(), column, what });
        } else if cascades(object) || kind.is("type") && is("attribute") {
            acts.push(Act::Object { what });
        }
    }
    acts
}

/// `[column] NAME [set data] type TYPE [using EXPRESSION]`
fn retyped(sql: &str, table: &str, words: &[Token<'_>]) -> Option<Act> {
    let (column, rest) = after(words, "column").split_first()?;
    let (verb, rest) = after(after(rest, "set"), "data").split_first()?;
    let using = rest.iter().position(|word| word.is("using"));
    let (data_type, value) = rest.split_at(using.unwrap_or(rest.len()));
    let name = unquoted(column.text);
    let source = |words: &[Token<'_>]| {
        let (first, last) = (words.first()?, words.last()?);
        Some(sql[first.at..last.at + last.text.len()].to_owned())
    };
    let value = value.get(1..).unwrap_or_default();
    if !verb.is("type") {
        None
    } else if !value.is_empty() && value.iter().all(|word| unquoted(word.text) != name) {
        let what = format!("`alter table {table} alter {} {}`", column.text, text(&words[1..]));
        Some(Act::Values { table: table.to_owned(), column: name, what })
    } else {
        let (data_type, value) = (source(data_type)?, source(value));
        let value = value.unwrap_or(column.text.to_owned());
        Some(Act::Retype(Retype { table: table.to_owned(), column: name, data_type, value }))
    }
}

/// `when matched then delete`, which no further condition chooses.
fn merged(words: &[Token<'_>]) -> Vec<Act> {
    let (table, _) = name(after(after(words, "into"), "only"));
    let all = words.split(|word| word.is("when")).skip(1).any(|arm| {
        let condition = arm.iter().take_while(|word| !word.is("then"));
        let deletes = arm.windows(2).any(|pair| pair[0].is("then") && pair[1].is("delete"));
        deletes && condition.into_iter().all(|word| !word.is("and"))
    });
    let what = format!("`merge into {table}` that deletes");
    if all { vec![Act::Rows { table, what }] } else { Vec::new() }
}

fn truncated(words: &[Token<'_>]) -> Vec<Act> {
    let what = format!("`truncate {}`", text(words));
    let end = words.iter().position(|word| word.is("restart") || word.is("continue"));
    let tables = names(after(&words[..end.unwrap_or(words.len())], "table"));
    tables.into_iter().map(|table| Act::Rows { table, what: what.clone() }).collect()
}

/// `delete` and `update` without `where`, also within `with`.
fn rewritten(statement: &[Token<'_>]) -> Vec<Act> {
    let begins = |at: usize| {
        let before = at.checked_sub(1).map(|before| statement[before]);
        before.is_none_or(|word| {
            ["(", ")"].contains(&word.text) || word.is("analyze") || word.is("verbose")
        })
    };
    let mut acts = Vec::new();
    for at in (0..statement.len()).filter(|at| begins(*at)) {
        let words = within_parentheses(&statement[at + 1..]);
        let says = |keyword| outermost(words).any(|word| word.is(keyword));
        if chooses(words) {
            continue;
        }
        if statement[at].is("delete") && words.first().is_some_and(|word| word.is("from")) {
            let (table, _) = name(after(&words[1..], "only"));
            let what = format!("`delete from {table}` without `where`");
            acts.push(Act::Rows { table, what });
        } else if statement[at].is("update") && says("set") {
            let (table, _) = name(after(words, "only"));
            acts.push(Act::Overwrite { what: format!("`update {table}` without `where`") });
        }
    }
    acts
}

/// Says `where`, and something behind it that may be false.
fn chooses(words: &[Token<'_>]) -> bool {
    let mut outermost = outermost(words).skip_while(|word| !word.is("where"));
    let says_where = outermost.next().is_some();
    let condition = outermost.take_while(|word| !word.is("returning"));
    let condition: Vec<_> = condition.filter(|word| !["(", ")"].contains(&word.text)).collect();
    match condition[..] {
        [word] => says_where && !word.is("true"),
        [one, equals, other] => equals.text != "=" || one.text != other.text,
        _ => says_where,
    }
}

/// Behind a keyword that may stand there or not.
fn after<'a, 'b>(words: &'a [Token<'b>], keyword: &str) -> &'a [Token<'b>] {
    match words.split_first() {
        Some((first, rest)) if first.is(keyword) => rest,
        _ => words,
    }
}

fn after_if_exists<'a, 'b>(words: &'a [Token<'b>]) -> &'a [Token<'b>] {
    after(after(words, "if"), "exists")
}

/// A name with its schema, and what follows it.
fn name<'a, 'b>(words: &'a [Token<'b>]) -> (String, &'a [Token<'b>]) {
    let dots = words.chunks(2).take_while(|pair| pair.get(1).is_some_and(|dot| dot.text == "."));
    let end = (2 * dots.count() + 1).min(words.len());
    let name = words[..end].iter().map(|word| word.text).collect();
    (name, &words[end..])
}

/// Names in a list, up to `cascade`.
fn names(words: &[Token<'_>]) -> Vec<String> {
    parts(words).map(|part| name(after(part, "only")).0).collect()
}

/// What stands between the commas.
fn parts<'a, 'b>(words: &'a [Token<'b>]) -> impl Iterator<Item = &'a [Token<'b>]> {
    let mut depth = 0_usize;
    words
        .split(move |word| {
            match word.text {
                "(" => depth += 1,
                ")" => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0 && word.text == ","
        })
        .filter(|part| !part.is_empty())
}

/// Up to the parenthesis that closes what is around `words`.
fn within_parentheses<'a, 'b>(words: &'a [Token<'b>]) -> &'a [Token<'b>] {
    let mut depth = 0_usize;
    let end = words.iter().position(|word| match word.text {
        "(" => {
            depth += 1;
            false
        }
        ")" if depth == 0 => true,
        ")" => {
            depth -= 1;
            false
        }
        _ => false,
    });
    &words[..end.unwrap_or(words.len())]
}

/// The words that stand in no parentheses of their own.
fn outermost<'a, 'b>(words: &'a [Token<'b>]) -> impl Iterator<Item = &'a Token<'b>> {
    let mut depth = 0_usize;
    words.iter().filter(move |word| {
        match word.text {
            "(" => depth += 1,
            ")" => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0
    })
}

/// Says `cascade`, and not as the action of a foreign key.
fn cascades(words: &[Token<'_>]) -> bool {
    let is_action = |before: &Token<'_>| before.is("delete") || before.is("update");
    words.iter().enumerate().any(|(at, word)| {
        word.is("cascade") && at.checked_sub(1).is_none_or(|before| !is_action(&words[before]))
    })
}

/// The words on one line, not too many of them.
fn text(words: &[Token<'_>]) -> String {
    const LEN_MAX: usize = 80;
    let mut line = String::new();
    for word in words {
        if !line.is_empty() && ![".", ",", ")"].contains(&word.text) && !line.ends_with(['.', '('])
        {
            line.push(' ');
        }
        if line.len() + word.text.len() > LEN_MAX {
            line.push('…');
            break;
        }
        line.push_str(word.text);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::script::Header;

    fn script(sql: &str) -> Script {
        let text = format!("-- transaction: yes\n\n{sql}");
        let header = Header::parse("x.sql", &text, &["transaction"]).unwrap();
        Script::parse(&header, text.clone()).unwrap()
    }

    #[track_caller]
    fn check(sql: &str, expected: &[&str]) {
        let found: Vec<String> =
            destructive(&script(sql)).into_iter().map(|(_, what)| what).collect();
        assert_eq!(found, expected, "{sql}");
    }

    #[test]
    fn what_drops_data_is_named() {
        check("DROP TABLE IF EXISTS a.\"B\"", &["`drop TABLE IF EXISTS a.\"B\"`"]);
        check("drop table a, b", &["`drop table a, b`"]);
        check("drop schema a", &["`drop schema a`"]);
        check("drop type mood", &["`drop type mood`"]);
        check("drop sequence s", &["`drop sequence s`"]);
        check("drop materialized view v", &["`drop materialized view v`"]);
        check("drop owned by ann", &["`drop owned by ann`"]);
        check("drop extension hstore", &["`drop extension hstore`"]);
        check("drop view v cascade", &["`drop view v cascade`"]);
        check(
            "truncate table only a, b restart identity",
            &["`truncate table only a, b restart identity`"],
        );
        check(
            "alter table a drop column b, drop if exists \"C\", add d int",
            &["`alter table a drop column b`", "`alter table a drop if exists \"C\"`"],
        );
        check("alter table if exists only s.a drop b", &["`alter table s.a drop b`"]);
        check(
            "alter table a drop constraint b cascade",
            &["`alter table a drop constraint b cascade`"],
        );
        check("alter type t drop attribute a", &["`alter type t drop attribute a`"]);
        check("do $$ begin end $$", &["a `do` block cannot be looked into"]);
    }

    #[test]
    fn rows_that_no_where_chooses_are_named() {
        check("delete from only s.a", &["`delete from s.a` without `where`"]);
        check("delete from a using b", &["`delete from a` without `where`"]);
        check("update a set b = (select c from d where e)", &["`update a` without `where`"]);
        check(
            "with gone as (delete from a returning b) select from gone where b",
            &["`delete from a` without `where`"],
        );
        check(
            "with b as (select 1 where true) update a set c = 1",
            &["`update a` without `where`"],
        );
        check("explain analyze delete from a", &["`delete from a` without `where`"]);
        check("delete from a where true", &["`delete from a` without `where`"]);
        check("update a set b = 1 where 1 = 1 returning b", &["`update a` without `where`"]);
        check(
            "merge into a using b on a.c = b.c when not matched then insert values (1) \
             when matched then delete",
            &["`merge into a` that deletes"],
        );
        check(
            "alter table a alter b type int using 0, alter c set data type text using c::text",
            &["`alter table a alter b type int using 0`"],
        );
    }

    #[test]
    fn what_keeps_data_is_let_pass() {
        for sql in [
            "drop index a; drop view v; drop function f(int); drop trigger t on a",
            "alter table a drop constraint b",
            "alter table a alter column b drop not null, alter b drop default",
            "alter table a drop constraint b, add foreign key (c) references d on delete cascade",
            "create table a (b int references c on delete cascade, d numeric(3, 2))",
            "delete from a where b; update a set b = 1 where c",
            "delete from a where (b); delete from a where b = 1; delete from a where (b or c)",
            "merge into a using b on c when matched and d then delete when matched then do nothing",
            "alter table a alter b type int, alter column b set data type int using b::int",
            "with a as (delete from b where c returning d) insert into e select d from a",
            "insert into a values (1) on conflict (b) do update set c = 1",
            "select from a for update",
            "create trigger t after delete or update on a for each row execute function f()",
            "create function f() returns void begin atomic delete from a; end",
            "grant delete, update on a to b",
            "select 'drop table a', \"drop\" from \"truncate\"",
        ] {
            check(sql, &[]);
        }
    }

    #[test]
    fn a_finding_has_its_line() {
        let lines = destructive(&script("select 1;\n\ndrop table\na;")).into_iter();
        assert_eq!(lines.map(|(line, _)| line).collect::<Vec<_>>(), [5]);
    }

    #[test]
    fn a_way_down_loses_rows_values_or_what_nobody_knows() {
        let rows = |table: &str| Loss::Rows { table: table.to_owned() };
        let check = |sql: &str, expected: &[Loss]| {
            assert_eq!(losses(&script(sql)), expected, "{sql}");
        };
        check("drop table a, s.\"user\" cascade", &[rows("a"), rows("s.\"user\"")]);
        check("truncate a", &[rows("a")]);
        check("delete from a", &[rows("a")]);
        let values = Loss::Values { table: "a".to_owned(), column: "B c".to_owned() };
        check("alter table a drop column if exists \"B c\" cascade", &[values]);
        let unseen = |what: &str| Loss::Unseen { what: format!("x.sql:3: {what}") };
        check("drop schema s cascade", &[unseen("`drop schema s cascade`")]);
        check("do $$ begin end $$", &[unseen("a `do` block cannot be looked into")]);
        let retype = |column: &str, data_type: &str, value: &str| {
            let [table, column, data_type, value] =
                ["s.a", column, data_type, value].map(str::to_owned);
            Loss::Retype(Retype { table, column, data_type, value })
        };
        check(
            "alter table s.a alter \"B\" type varchar(3), alter column c set data type \
             numeric(10, 2) using (c || e'\\'')::numeric",
            &[
                retype("B", "varchar(3)", "\"B\""),
                retype("c", "numeric(10, 2)", "(c || e'\\'')::numeric"),
            ],
        );
        check("drop type t; drop sequence s; update a set b = 1; drop index i", &[]);
    }
}
