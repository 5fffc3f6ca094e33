//! squawk-linter asked about one file, and its answers judged.
//!
//! `lint` calls it; it calls `rules` for what a rule is about. Pure.
//! It promises: no finding twice, none about a table that the same file makes, `squawk-ignore`
//! as squawk reads it.
//! Source: the crates squawk-linter and squawk-syntax 2.68, whose interface is not a stable one:
//! nothing else calls them.

use std::collections::BTreeSet;

use squawk_linter::{Linter, Rule, Violation};
use squawk_syntax::SourceFile;
use squawk_syntax::ast::{self, AstNode};

use super::rules::{Concern, RULES, concern};
use super::{Finding, Severity};
use crate::files::chain::Revision;
use crate::files::script::{Mode, Script};
use crate::files::sql::line_of;

/// What a file that squawk cannot read is reported as.
const UNREADABLE: &str = "syntax";

/// The findings in the up file of `revision`, in the order of its lines.
pub(super) fn lint(chain: &[Revision], revision: &Revision) -> Vec<Finding> {
    let script = &revision.up;
    let parsed = SourceFile::parse(&script.sql);
    let unreadable = parsed.errors().into_iter().next().map(|error| Finding {
        severity: Severity::Warning,
        help: Some("the server may read it all the same; errors here are warnings".to_owned()),
        ..finding(script, error.range().start().into(), UNREADABLE, error.message())
    });
    // Half-read text, and what another tool applied long ago, must not block anybody.
    let read_until = parsed.errors().iter().map(|error| error.range().start()).min();
    let milder = |violation: &Violation| {
        let is_half_read = read_until.is_some_and(|end| violation.text_range.end() > end);
        is_half_read || is_alembics(&revision.id)
    };
    let new_tables = NewTables::of(&parsed.tree());
    let violations = violations(script, RULES.map(|(rule, _)| rule));
    let kept = violations
        .iter()
        .filter(|violation| !is_repeated(violation, &violations))
        .filter(|violation| !new_tables.excuse(violation))
        .filter(|violation| !is_checked_before(violation, chain, revision))
        .filter(|violation| !is_permitted(violation, revision))
        .map(|violation| judged(script, violation, milder(violation)));
    unreadable.into_iter().chain(kept).collect()
}

/// squawk's own answer.
fn violations(script: &Script, rules: impl IntoIterator<Item = Rule>) -> Vec<Violation> {
    let mut linter = Linter::from(rules);
    // Its default version is the oldest one we support, 15.
    linter.settings.assume_in_transaction = script.mode == Mode::Transaction;
    linter.lint(&SourceFile::parse(&script.sql), &script.sql)
}

fn judged(script: &Script, violation: &Violation, milder: bool) -> Finding {
    let concern = concern(violation.code);
    let severity = if milder { Severity::Warning } else { concern.severity() };
    let at = violation.text_range.start().into();
    let header = || "if it is meant: `-- allow-destructive: <reason>` in the header".to_owned();
    let help = violation.help.as_deref().map(one_line);
    Finding {
        severity,
        help: if concern == Concern::Loss { Some(header()) } else { help },
        ..finding(script, at, &violation.code.to_string(), &violation.message)
    }
}

fn finding(script: &Script, at: usize, rule: &str, message: &str) -> Finding {
    let before = &script.sql[..at];
    let line_begin = before.rfind('\n').map_or(0, |newline| newline + 1);
    Finding {
        file: script.file.clone(),
        line: line_of(&script.sql, at),
        column: before[line_begin..].chars().count() + 1,
        rule: rule.to_owned(),
        severity: Severity::Warning,
        message: one_line(message).trim_end_matches('.').to_owned(),
        help: None,
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Alembic's ids are 12 hexadecimal digits; ours are dates. Such a revision cannot be mended.
fn is_alembics(id: &str) -> bool {
    id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// `not valid` is wanted of every constraint, also of those for which another rule says more.
fn is_repeated(violation: &Violation, all: &[Violation]) -> bool {
    let says_more = |rule| {
        [
            Rule::AddingForeignKeyConstraint,
            Rule::DisallowedUniqueConstraint,
            Rule::AddingSerialPrimaryKeyField,
        ]
        .contains(&rule)
    };
    let whole = violation.text_range;
    violation.code == Rule::ConstraintMissingNotValid
        && all.iter().any(|one| says_more(one.code) && whole.contains_range(one.text_range))
}

/// `set not null` after the check that makes it cheap, which stands in an earlier file.
fn is_checked_before(violation: &Violation, chain: &[Revision], revision: &Revision) -> bool {
    if violation.code != Rule::AddingNotNullableField {
        return false;
    }
    let earlier = chain.iter().take_while(|one| one.id != revision.id);
    // What another file ignores for itself is not ignored here.
    let before: String =
        earlier.map(|one| one.up.sql.replace("squawk-ignore-file", "") + ";\n").collect();
    let shift = before.len();
    let history = Script { sql: before + &revision.up.sql, ..revision.up.clone() };
    let at: usize = violation.text_range.start().into();
    let left = violations(&history, [Rule::AddingNotNullableField]);
    !left.iter().any(|one| usize::from(one.text_range.start()) == shift + at)
}

fn is_permitted(violation: &Violation, revision: &Revision) -> bool {
    concern(violation.code) == Concern::Loss && revision.allow_destructive.is_some()
}

/// The statements about tables and materialised views that the same file has made: nobody waits
/// for their locks, and no release knows them.
struct NewTables {
    statements: Vec<ast::Stmt>,
}

impl NewTables {
    fn of(file: &SourceFile) -> Self {
        let mut made: BTreeSet<String> = BTreeSet::new();
        let mut statements = Vec::new();
        for statement in file.stmts() {
            if altered(&statement).is_some_and(|table| made.contains(&table)) {
                statements.push(statement);
            } else {
                made.extend(created(&statement));
            }
        }
        Self { statements }
    }

    fn excuse(&self, violation: &Violation) -> bool {
        let within = |statement: &ast::Stmt| {
            statement.syntax().text_range().contains_range(violation.text_range)
        };
        concern(violation.code).needs_users() && self.statements.iter().any(within)
    }
}

/// `if not exists` may find one that is there already.
fn created(statement: &ast::Stmt) -> Option<String> {
    let (path, conditional) = match statement {
        ast::Stmt::CreateTable(one) => (one.table_name()?.path()?, one.if_not_exists()),
        ast::Stmt::CreateTableAs(one) => (one.table_name()?.path()?, one.if_not_exists()),
        ast::Stmt::CreateMaterializedView(one) => (one.view()?.path()?, one.if_not_exists()),
        _ => return None,
    };
    path.segment().filter(|_| conditional.is_none()).map(|name| name.text())
}

fn altered(statement: &ast::Stmt) -> Option<String> {
    let relation = match statement {
        ast::Stmt::AlterTable(one) => one.table_relation_name(),
        ast::Stmt::CreateIndex(one) => one.table_relation_name(),
        _ => None,
    };
    Some(relation?.table_name_ref()?.path_ref()?.segment()?.text())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::chain::Chain;

    /// A chain of these up files, the header of each being its `header` lines and a usual rest.
    fn chain(files: &[(&str, &str)]) -> Chain {
        let mut parent = "none".to_owned();
        let texts: Vec<(String, String)> = files
            .iter()
            .enumerate()
            .map(|(index, (header, sql))| {
                let (id, revises) = (format!("aaa{index}"), parent.clone());
                parent = id.clone();
                let mode =
                    if header.contains("transaction: none") { "" } else { "-- transaction: yes\n" };
                let text = format!(
                    "-- revision: {id}\n-- revises: {revises}\n-- message: m\n{mode}{header}\
                     -- irreversible: test\n\n{sql}\n"
                );
                (format!("{index:014}_m.up.sql"), text)
            })
            .collect();
        Chain::new(texts.iter().map(|(name, text)| (name.as_str(), text.as_str()))).unwrap()
    }

    /// The last file's findings.
    fn findings(files: &[(&str, &str)]) -> Vec<Finding> {
        let chain = chain(files);
        lint(chain.all(), chain.head())
    }

    /// `E` or `W` and the rule of each finding in one transactional file.
    #[track_caller]
    fn check(sql: &str, expected: &[&str]) {
        check_files(&[("", sql)], expected);
    }

    #[track_caller]
    fn check_files(files: &[(&str, &str)], expected: &[&str]) {
        let found: Vec<String> = findings(files)
            .iter()
            .map(|one| match one.severity {
                Severity::Error => format!("E {}", one.rule),
                Severity::Warning => format!("W {}", one.rule),
            })
            .collect();
        assert_eq!(found, expected, "{files:?}");
    }

    const NONE: &str = "-- transaction: none\n";
    const DESTRUCTIVE: &str = "-- allow-destructive: nobody reads it\n";

    #[test]
    fn what_holds_a_long_lock_is_an_error() {
        let cases = [
            ("create index i on t (a)", "require-concurrent-index-creation"),
            ("create unique index i on only s.t (a)", "require-concurrent-index-creation"),
            ("drop index i", "require-concurrent-index-deletion"),
            ("reindex table t", "require-concurrent-reindex"),
            ("alter table t detach partition p", "require-concurrent-partition-detach"),
            ("alter table t add constraint c check (a > 0)", "constraint-missing-not-valid"),
            (
                "alter table t add constraint c foreign key (a) references b (a)",
                "adding-foreign-key-constraint",
            ),
            ("alter table t add column a int references b (a)", "adding-foreign-key-constraint"),
            ("alter table t add constraint c unique (a)", "disallowed-unique-constraint"),
            ("alter table t add column a int unique", "disallowed-unique-constraint"),
            ("alter table t add primary key (a)", "adding-serial-primary-key-field"),
            ("alter table t alter column a set not null", "adding-not-nullable-field"),
            ("alter table t add column a uuid default random()", "adding-field-with-default"),
            (
                "alter table t add constraint c check (a > 0) not valid; \
                 alter table t validate constraint c",
                "constraint-missing-not-valid",
            ),
        ];
        for (sql, rule) in cases {
            check(sql, &[&format!("E {rule}")]);
        }
    }

    #[test]
    fn the_way_around_a_long_lock_is_clean() {
        for sql in ["create index concurrently i on t (a)", "drop index concurrently i"] {
            check_files(&[(NONE, sql)], &[]);
        }
        for sql in [
            "alter table t add constraint c check (a > 0) not valid",
            "alter table t add constraint c foreign key (a) references b (a) not valid",
            "alter table t validate constraint c",
            "alter table t add constraint c unique using index i",
            "alter table t add constraint c primary key using index i",
            "alter table t add column a timestamptz default now()",
            "alter table t add column a int not null default 0",
            "alter table t drop constraint c",
            "insert into t (a) values (1)",
        ] {
            check(sql, &[]);
        }
    }

    #[test]
    fn not_null_after_its_check_is_clean_also_in_a_later_file() {
        let steps = [
            ("", "alter table t add constraint c check (a is not null) not valid"),
            ("", "alter table t validate constraint c"),
            ("", "alter table t alter column a set not null; alter table t drop constraint c"),
        ];
        check_files(&steps, &[]);
        check_files(&[steps[0], steps[2]], &["E adding-not-nullable-field"]);
        let other = ("", "alter table t alter column b set not null");
        check_files(&[steps[0], steps[1], other], &["E adding-not-nullable-field"]);
        let ignored = ("", "-- squawk-ignore-file adding-not-nullable-field\nselect 1");
        check_files(&[ignored, steps[2]], &["E adding-not-nullable-field"]);
    }

    #[test]
    fn what_loses_data_is_an_error_unless_the_header_allows_it() {
        let cases = [
            ("drop table t", "ban-drop-table"),
            ("alter table t drop column a", "ban-drop-column"),
            ("drop schema s", "ban-drop-schema"),
            ("drop type e", "ban-drop-type"),
            ("drop view v", "ban-drop-view"),
            ("drop materialized view v", "ban-drop-view"),
            ("drop sequence s", "ban-drop-sequence"),
            ("drop domain d", "ban-drop-domain"),
            ("drop extension e", "ban-drop-extension"),
            ("drop function f()", "ban-drop-function"),
            ("truncate t cascade", "ban-truncate-cascade"),
        ];
        for (sql, rule) in cases {
            check(sql, &[&format!("E {rule}")]);
            check_files(&[(DESTRUCTIVE, sql)], &[]);
        }
        check_files(&[(NONE, "drop database d")], &["E ban-drop-database"]);
        let lock = [(DESTRUCTIVE, "drop index i; drop table t")];
        check_files(&lock, &["E require-concurrent-index-deletion"]);
    }

    #[test]
    fn what_only_may_go_wrong_is_a_warning() {
        let cases = [
            ("alter table t alter column a type text", "changing-column-type"),
            ("alter table t add column a int not null", "adding-required-field"),
            ("alter table t rename column a to b", "renaming-column"),
            ("alter table t rename to u", "renaming-table"),
            ("alter table t alter column a drop not null", "ban-drop-not-null"),
            ("alter table t alter column a drop default", "ban-drop-default"),
            ("alter type e add value 'x'", "require-enum-value-ordering"),
            ("create table t (a timestamp)", "prefer-timestamp-tz"),
            ("create table t (a serial)", "prefer-identity"),
            ("create table t (a char(3))", "ban-char-field"),
            ("-- squawk-ignore ban-drop-tabel\nselect 1", "unused-ignore"),
        ];
        for (sql, rule) in cases {
            check(sql, &[&format!("W {rule}")]);
        }
        let long = format!("create table {} (a int)", "x".repeat(64));
        check(&long, &["W identifier-too-long"]);
    }

    #[test]
    fn what_we_do_ourselves_is_no_finding() {
        // No `if not exists`, no timeouts, 32 bits, a length.
        check("create table t (a int, b varchar(30), c smallint)", &[]);
    }

    #[test]
    fn a_table_of_the_same_file_has_no_users_yet() {
        let made = [
            "create table t (a int);",
            "create table t as select 1 as a;",
            "create materialized view t as select 1 as a;",
        ];
        for made in made {
            check(&format!("{made} create index i on t (a)"), &[]);
        }
        for sql in [
            "alter table t add constraint c unique (a)",
            "alter table t add column b int unique",
            "alter table t add primary key (a)",
            "alter table t add constraint c foreign key (a) references b (a)",
            "alter table t add column b int references b (a)",
            "alter table t add column b uuid not null default random()",
            "alter table t alter column a set not null",
            "alter table only \"t\" add check (a > 0)",
        ] {
            check(&format!("{} {sql}", made[0]), &[]);
        }
        check(
            &format!("{} create index i on u (a)", made[0]),
            &["E require-concurrent-index-creation"],
        );
        check(&format!("{} alter table t add b serial", made[0]), &["W prefer-identity"]);
    }

    #[test]
    fn squawk_ignore_silences() {
        let rule = "require-concurrent-index-creation";
        check(&format!("-- squawk-ignore {rule}\ncreate index i on t (a)"), &[]);
        check(&format!("-- squawk-ignore {rule} -- 3 rows\ncreate index i on t (a)"), &[]);
        check(&format!("-- squawk-ignore-file {rule}\nselect 1;\n\ncreate index i on t (a)"), &[]);
        let other = "-- squawk-ignore ban-drop-table\ncreate index i on t (a)";
        check(other, &["E require-concurrent-index-creation"]);
    }

    #[test]
    fn what_squawk_cannot_read_does_not_block() {
        check(
            "frobnicate t; create index i on t (a)",
            &["W syntax", "W require-concurrent-index-creation"],
        );
        check(
            "create index i on t (a); frobnicate t; create index j on t (a)",
            &[
                "W syntax",
                "E require-concurrent-index-creation",
                "W require-concurrent-index-creation",
            ],
        );
    }

    #[test]
    fn a_finding_is_one_line_with_its_place() {
        let sql = "select 'größe';\n  /* ä */ drop table t;";
        let found = findings(&[("", sql)]);
        assert_eq!(
            found[0].to_string(),
            "00000000000000_m.up.sql:8:11: error: Dropping a table may break existing clients \
             [ban-drop-table]; if it is meant: `-- allow-destructive: <reason>` in the header"
        );
    }

    #[test]
    fn the_shipped_revisions_have_no_errors() {
        let chain = crate::files::embedded::embedded().unwrap();
        let found: Vec<Finding> =
            chain.all().iter().flat_map(|revision| lint(chain.all(), revision)).collect();
        assert!(found.iter().all(|one| one.severity == Severity::Warning), "{found:#?}");
    }
}
