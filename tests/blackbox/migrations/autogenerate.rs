//! What `revision --autogenerate` writes, and that it leads there and back.
//!
//! Each case declares a schema, changes the declaration, and expects exactly the statements; then
//! the files are applied, taken back and applied again on a database of its own.

use std::fs;

use super::bench::{Bench, Ran};
use super::stage::catalog;
use crate::harness::{Database, Turn};

/// Two tables that most cases change.
pub(super) const USER: &str =
    r#"create table "user" (id int primary key, name varchar(30) not null);"#;
pub(super) const ITEM: &str = r#"create table item (
    id int primary key,
    user_id int not null references "user" on delete cascade,
    title varchar(255) not null,
    price int not null check (price > 0)
);"#;

/// A database at the head of one revision, and what is declared.
pub(super) struct Walk<'a> {
    pub(super) bench: Bench<'a>,
    pub(super) database: Database<'static>,
}

impl<'a> Walk<'a> {
    /// `before` is applied and declared.
    pub(super) fn begin(turn: &'a Turn, before: &str) -> Self {
        let walk =
            Self { bench: Bench::sides(turn, before, before), database: Database::blank(turn) };
        walk.run(&["upgrade"]).done();
        walk
    }

    pub(super) fn run(&self, args: &[&str]) -> Ran {
        self.bench.run_on(&self.database, args)
    }

    /// Declares `after`, and lets the difference be written.
    pub(super) fn revise(&self, after: &str, flags: &[&str]) -> Ran {
        self.bench.declare(after);
        self.run(&[&["revision", "--autogenerate", "-m", "change"], flags].concat())
    }

    /// The statements of the new files in order, spaces and line breaks made one.
    pub(super) fn written(&self, side: &str) -> Vec<String> {
        let names = self.bench.files().into_iter().skip(1);
        names.filter(|name| name.ends_with(side)).map(|name| self.body(&name)).collect()
    }

    fn body(&self, name: &str) -> String {
        let text = fs::read_to_string(self.bench.versions().join(name)).unwrap();
        let body = text.split_once("\n\n").unwrap().1;
        body.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Applies what was written, takes it back, and applies it again.
    #[track_caller]
    pub(super) fn there_and_back(&self) {
        let before = catalog(&self.database);
        self.run(&["upgrade"]).done();
        self.run(&["drift"]).done();
        let after = catalog(&self.database);
        assert_ne!(before, after);
        self.run(&["downgrade", "root", "--yes"]).done();
        self.run(&["drift"]).done();
        assert_eq!(catalog(&self.database), before, "down returns");
        self.run(&["upgrade"]).done();
        assert_eq!(catalog(&self.database), after, "and up again");
    }
}

/// The change from `before` to `after` is written as these files, and leads there and back.
#[track_caller]
pub(super) fn expect(turn: &Turn, before: &str, after: &str, flags: &[&str], files: &[&str]) {
    let walk = Walk::begin(turn, before);
    walk.revise(after, flags).done();
    assert_eq!(walk.written(".up.sql"), files);
    walk.run(&["check"]).done();
    walk.there_and_back();
}

/// The change is refused with this exit code and these words, and nothing is written.
#[track_caller]
pub(super) fn refused(
    turn: &Turn,
    before: &str,
    after: &str,
    flags: &[&str],
    code: i32,
    words: &[&str],
) {
    let walk = Walk::begin(turn, before);
    let ran = walk.revise(after, flags);
    let told = format!("{}{}", ran.out, ran.err);
    assert_eq!(ran.code, Some(code), "{told}");
    for word in words {
        assert!(told.contains(word), "{word}: {told}");
    }
    assert_eq!(walk.bench.files().len(), 1, "nothing is written");
}

// Case 22.
#[test]
fn nothing_is_written_when_nothing_has_changed() {
    let turn = Turn::shared();
    let schema = format!("{USER} {ITEM}");
    let walk = Walk::begin(&turn, &schema);
    let spelled = schema.replace("int ", "INTEGER ").replace("(price > 0)", "( PRICE>0 )");
    assert_eq!(walk.revise(&spelled, &[]).done(), "no changes detected\n");
    assert_eq!(walk.bench.files().len(), 1);
}

// Case 22.
#[test]
fn a_fresh_project_gets_one_pair_that_makes_its_tables() {
    let turn = Turn::shared();
    let (bench, database) = (Bench::new(&turn), Database::blank(&turn));
    bench.declare(
        r#"create table item (
               id uuid primary key,
               user_id uuid not null references "user" on delete cascade
           );
           create table "user" (id uuid primary key, email varchar(255) not null, full_name text);
           create unique index user_email_idx on "user" (email);"#,
    );
    let run = |args: &[&str]| bench.run_on(&database, args);
    let out = run(&["revision", "--autogenerate", "-m", "The first one"]).done();
    let [down, up] = &bench.files()[..] else { panic!("{:?}", bench.files()) };
    assert!(up.ends_with("_the_first_one.up.sql"), "{up}");
    let paths = [up, down].map(|name| bench.versions().join(name).display().to_string());
    assert_eq!(out.lines().collect::<Vec<_>>(), paths);
    let read = |name: &String| fs::read_to_string(bench.versions().join(name)).unwrap();
    let id = &up[..14];
    let expected = format!(
        "-- revision: {id}\n-- revises: none\n-- message: The first one\n-- transaction: yes\n\n\
         {INIT_UP}"
    );
    assert_eq!(read(up), expected);
    let expected = format!(
        "-- revision: {id}\n-- transaction: yes\n\ndrop table item;\ndrop table \"user\";\n"
    );
    assert_eq!(read(down), expected);
    run(&["upgrade"]).done();
    run(&["check"]).done();
    run(&["drift"]).done();
    run(&["downgrade", "base", "--yes"]).done();
    run(&["upgrade"]).done();
    run(&["drift"]).done();
}

const INIT_UP: &str = r#"create table "user" (
    id uuid not null,
    email varchar(255) not null,
    full_name text,
    constraint user_pkey primary key (id)
);

create unique index user_email_idx on "user" (email);

create table item (
    id uuid not null,
    user_id uuid not null,
    constraint item_pkey primary key (id),
    constraint item_user_id_fkey foreign key (user_id) references "user" (id) on delete cascade
);
"#;

// Case 23.
#[test]
fn a_longer_varchar_is_one_statement_and_a_shorter_one_needs_a_reason() {
    let turn = Turn::shared();
    let schema = format!("{USER} {ITEM}");
    let [longer, shorter] = ["300", "100"].map(|len| schema.replace("255", len));
    expect(
        &turn,
        &schema,
        &longer,
        &[],
        &["alter table item alter column title type varchar(300);"],
    );
    let words = [
        "column item.title: character varying(255) -> character varying(100)",
        "--allow-destructive",
    ];
    refused(&turn, &schema, &shorter, &[], 7, &words);

    let walk = Walk::begin(&turn, &schema);
    walk.revise(&shorter, &["--allow-destructive", "they are short"]).done();
    let head = walk.bench.files().pop().unwrap();
    let text = fs::read_to_string(walk.bench.versions().join(head)).unwrap();
    assert!(
        text.contains("\n-- allow-destructive: they are short\n\n-- Writes the table"),
        "{text}"
    );
    walk.there_and_back();
    // PostgreSQL refuses what does not fit instead of cutting it.
    walk.run(&["downgrade", "root", "--yes"]).done();
    let rows =
        "insert into \"user\" values (1, 'a'); insert into item values (1, 1, repeat('x', 101), 1)";
    walk.database.sql().run(rows);
    walk.run(&["upgrade"]).failed(1, "value too long");
}

#[test]
fn a_file_says_what_it_costs_and_how_far_it_leads_back() {
    let turn = Turn::shared();
    let before = "create table a (n int, t varchar(9), at timestamp, x text);";
    let after = "create table a (n numeric, t varchar(20), at timestamptz, x text collate \"C\", \
        u uuid default gen_random_uuid(), g int generated always as (length(x)) stored);";
    let walk = Walk::begin(&turn, before);
    walk.revise(after, &["--using", "a.at=at at time zone 'UTC'"]).done();
    let up = "-- Writes the table anew under a lock: everybody waits for it. \
        -- squawk-ignore-file adding-field-with-default \
        -- Writes the table and its indexes anew, under a lock that nobody gets past. \
        -- Builds the column's indexes anew, under a lock that nobody gets past. \
        alter table a alter column at type timestamptz using at at time zone 'UTC', \
        alter column n type numeric, alter column t type varchar(20), \
        alter column x type text collate \"C\", \
        add column u uuid default gen_random_uuid(), \
        add column g integer generated always as (length(x)) stored;";
    assert_eq!(walk.written(".up.sql"), [up]);
    let down = walk.written(".down.sql").swap_remove(0);
    for line in [
        "-- Writes the table and its indexes anew",
        "-- Builds the column's indexes anew",
        "-- The way back has less room: what does not fit is refused, or rounded. ",
        "-- The way back is PostgreSQL's own cast, which may refuse or change values: read it. ",
        "-- The way back is PostgreSQL's own cast, not the inverse of --using: read it. ",
    ] {
        assert_eq!(down.matches(line).count(), 1, "{line}: {down}");
    }
    assert_eq!(down.matches("alter table").count(), 1, "{down}");
    walk.there_and_back();
}

#[test]
fn types_that_are_no_wider_need_an_expression() {
    let turn = Turn::shared();
    let before =
        "create table a (id serial primary key, n text default '3', t varchar(9) check (t <> ''));
        create index on a (t) where t <> '';";
    let after =
        "create table a (id bigserial primary key, n numeric default 4, t text check (t <> ''));
        create index on a (t) where t <> '';";
    refused(
        &turn,
        before,
        after,
        &[],
        3,
        &["column a.n: text does not become numeric", "--using a.n=EXPRESSION"],
    );
    refused(
        &turn,
        before,
        before,
        &["--using", "a.n=n::int"],
        2,
        &["a.n: no change of this column"],
    );
    refused(
        &turn,
        before,
        after,
        &["--using", "a.n=n::numeric", "--using", "a.x=1"],
        2,
        &["a.x: no change"],
    );
    // The check and the index follow by themselves.
    let expected = "-- Writes the table and its indexes anew, under a lock that nobody gets past. \
        alter table a alter column id type bigint, \
        alter column n drop default, alter column n type numeric using n::numeric, \
        alter column n set default 4, alter column t type text; \
        alter sequence a_id_seq as bigint;";
    expect(&turn, before, after, &["--using", "a.n=n::numeric"], &[expected]);
}

// Case 25.
#[test]
fn defaults_come_change_and_go() {
    let turn = Turn::shared();
    expect(
        &turn,
        "create table a (n int default 0, at timestamptz default now(), x text default 'x', \
         j jsonb)",
        "create table a (n int default 1, at timestamptz default clock_timestamp(), x text, \
         j jsonb default '{}'::jsonb)",
        &[],
        &["alter table a alter column at set default clock_timestamp(), \
           alter column j set default '{}'::jsonb, alter column n set default 1, \
           alter column x drop default;"],
    );
}

// Case 31.
#[test]
fn a_label_comes_into_its_place_and_goes_with_a_new_type() {
    let turn = Turn::shared();
    let before = "create type mood as enum ('a', 'b');
        create table t (m mood not null default 'a', ms mood[], check (m <> 'b'));
        comment on type mood is 'how';";
    let after = before.replace("'a', 'b'", "'a', 'c', 'b', 'it''s'");
    let after = after.replace("default 'a'", "default 'c'");
    let files = [
        "alter type mood add value 'c' before 'b'; alter type mood add value 'it''s';",
        "alter table t alter column m set default 'c'::mood;",
    ];
    expect(&turn, before, &after, &[], &files);
}

// Case 31.
#[test]
fn a_label_that_goes_or_moves_is_refused_with_what_to_write() {
    let turn = Turn::shared();
    let before = "create type mood as enum ('a', 'b'); create table t (m mood default 'a');";
    let recipe = [
        "    alter type mood rename to mood_old;\n    create type mood as enum ('b', 'a');\n",
        "    alter table t\n        alter column m drop default,\n        \
         alter column m type mood using m::text::mood,\n        \
         alter column m set default 'a'::mood;\n    drop type mood_old;\n",
        "change places",
    ];
    refused(&turn, before, &before.replace("'a', 'b'", "'b', 'a'"), &[], 3, &recipe);
    let renamed = before.replace("'a', 'b'", "'a', 'c'");
    refused(
        &turn,
        before,
        &renamed,
        &[],
        3,
        &["label 'b' goes and 'c' comes", "--rename mood.b:mood.c"],
    );
    let files = ["alter type mood rename value 'b' to 'c';"];
    let walk = Walk::begin(&turn, before);
    walk.revise(&renamed, &["--rename", "mood.b:mood.c"]).done();
    assert_eq!(walk.written(".up.sql"), files);
    walk.there_and_back();
}

// Case 32.
#[test]
fn comments_come_change_and_go() {
    let turn = Turn::shared();
    let before = "create table a (b int, c int); comment on table a is 'old';
        comment on column a.b is 'goes';";
    let after = "create table a (b int, c int); comment on table a is 'it''s
new'; comment on column a.c is 'comes';";
    let expected = "comment on column a.b is null; comment on column a.c is 'comes'; \
        comment on table a is 'it''s new';";
    let walk = Walk::begin(&turn, before);
    walk.revise(after, &[]).done();
    assert_eq!(walk.written(".up.sql"), [expected]);
    let back = "comment on table a is 'old'; comment on column a.c is null; \
        comment on column a.b is 'goes';";
    assert_eq!(walk.written(".down.sql"), [back]);
    walk.run(&["upgrade"]).done();
    walk.run(&["check"]).done();
    walk.run(&["drift"]).done();
    let read = "select obj_description('a'::regclass)";
    assert_eq!(walk.database.sql().value::<String>(read, &[]), "it's\nnew");
    walk.run(&["downgrade", "root"]).done();
    walk.run(&["drift"]).done();
}

// Case 36.
#[test]
fn an_enum_becomes_text_before_it_goes() {
    let turn = Turn::shared();
    let before =
        "create type mood as enum ('a', 'b'); create table t (m mood not null default 'a');";
    let after = "create table t (m text not null default 'a');";
    refused(&turn, before, after, &[], 7, &["type mood"]);
    let other = "create type b as enum ('a', 'c'); create table t (m b not null default 'c');";
    let walk = Walk::begin(&turn, before);
    let flags = ["--allow-destructive", "b is better", "--using", "t.m=m::text::b"];
    walk.revise(other, &flags).done();
    let back = walk.written(".down.sql").swap_remove(0);
    assert!(back.contains("alter column m type mood using m::text::mood"), "{back}");
    walk.there_and_back();

    let expected = "-- Writes the table and its indexes anew, under a lock that nobody gets past. \
        alter table t alter column m drop default, alter column m type text, \
        alter column m set default 'a'::text; drop type mood;";
    expect(&turn, before, after, &["--allow-destructive", "text is enough"], &[expected]);
}

// Case 37.
#[test]
fn numbers_that_the_server_gives_stay_its_own() {
    let turn = Turn::shared();
    let before = "create table a (i int generated always as identity, j int not null,
        k int generated by default as identity);";
    let after = "create table a (i int generated by default as identity, s serial, \
        j int generated always as identity, k int not null); \
        create table b (s bigserial primary key, i int generated always as identity (start 5));";
    let expected = "create table b ( s bigserial, \
        i integer generated always as identity (start with 5), \
        constraint b_pkey primary key (s) ); \
        alter table a alter column i set generated by default, \
        alter column j add generated always as identity; \
        -- Numbers go on after those that are there. \
        select setval(pg_get_serial_sequence('a', 'j'), (select greatest(max(j) + 1, 1) from a), false) \
        where exists (select from a); \
        -- Writes the table and its indexes anew, under a lock that nobody gets past. \
        alter table a alter column k drop identity, add column s serial;";
    expect(&turn, before, after, &[], &[expected]);
    for (before, after) in [
        (
            "a int, b int generated always as (a * 2) stored",
            "a int, b int generated always as (a * 3) stored",
        ),
        ("id int not null", "id serial"),
    ] {
        let [before, after] = [before, after].map(|columns| format!("create table t ({columns})"));
        refused(&turn, &before, &after, &[], 3, &["by hand", "revision --empty"]);
    }
}

// Case 37.
#[test]
fn a_new_identity_begins_where_it_says_or_behind_the_rows() {
    let turn = Turn::shared();
    for (options, rows, next) in [
        ("start with 1000", "values (5)", 1000),
        ("start with 1000", "values (2000)", 2001),
        ("start with 1000 increment by 10", "select where false", 1000),
        ("increment by 10", "values (11)", 21),
        ("increment by -1", "values (5)", -1),
        ("increment by -1", "values (-7)", -8),
        ("increment by -1", "select where false", -1),
    ] {
        let walk = Walk::begin(&turn, "create table a (id int);");
        let sql = walk.database.sql();
        let rows = rows.replace("select", "select 1");
        sql.run(&format!("insert into a {rows}"));
        let after = format!("create table a (id int generated by default as identity ({options}))");
        walk.revise(&after, &[]).done();
        walk.there_and_back();
        let given = "insert into a values (default) returning id";
        assert_eq!(sql.value::<i32>(given, &[]), next, "{options}, {rows}");
    }
}

// Case 38.
#[test]
fn tables_that_point_at_each_other_and_hard_names() {
    let turn = Turn::shared();
    let long = "x".repeat(63);
    let tables = format!(
        r#"create table a (id int primary key, b int, self int references a);
        create table b (id int primary key, a int references a);
        alter table a add foreign key (b) references b;
        comment on constraint a_b_fkey on a is 'closes the circle';
        create table "user" ("order" int primary key, "it's 100%" text default '%s');
        comment on column "user"."it's 100%" is '"quoted"';
        create table "a""b%" (id serial primary key, {long} int);
        create table {long} (id int primary key, {long} int);"#
    );
    let before = "create table z (id int)";
    let walk = Walk::begin(&turn, before);
    walk.revise(&format!("{before}; {tables}"), &[]).done();
    let [up] = &walk.written(".up.sql")[..] else { panic!("one file") };
    assert!(
        up.contains("alter table a add constraint a_b_fkey foreign key (b) references b (id);"),
        "{up}"
    );
    walk.run(&["check"]).done();
    walk.there_and_back();

    // Then they change, and go.
    let changed = tables.replace(r#""order" int"#, r#""n w" int, "order" bigint"#);
    let changed = changed.replace(&format!("{long} int)"), &format!("{long} int not null unique)"));
    walk.revise(&format!("{before}; {changed}"), &[]).done();
    walk.run(&["upgrade"]).done();
    walk.run(&["check"]).done();
    let gone = walk.revise(before, &[]);
    for table in ["a", "b", r#""a""b%""#, r#""user""#] {
        assert!(gone.out.contains(&format!("table {table}\n")), "{gone:?}");
    }
    walk.revise(before, &["--allow-destructive", "all of it"]).done();
    walk.run(&["upgrade"]).done();
    walk.there_and_back_to_base_is_refused();
    walk.run(&["drift"]).done();
}

impl Walk<'_> {
    /// The first revision of a bench has no way back.
    #[track_caller]
    fn there_and_back_to_base_is_refused(&self) {
        self.run(&["downgrade", "root", "--yes"]).done();
        self.run(&["upgrade"]).done();
        self.run(&["downgrade", "base", "--yes"]).failed(1, "irreversible");
    }
}

#[test]
fn what_is_compared_as_text_is_written_by_hand() {
    let turn = Turn::shared();
    let before = "create table t (a int);";
    let after = format!(
        "{before} create table u (x int); create view v as select a from t;
        create function f() returns int language sql as 'select 1';
        create domain d as int; create table p (a int) partition by list (a);"
    );
    let walk = Walk::begin(&turn, before);
    let ran = walk.revise(&after, &[]);
    for key in ["view v", "routine f()", "type d", "table p"] {
        let told = ran
            .out
            .lines()
            .any(|line| line.starts_with(key) && line.ends_with("create it by hand"));
        assert!(told, "{key}: {ran:?}");
    }
    ran.failed(3, "`peace-migrate revision --empty -m …`");
    assert_eq!(walk.bench.files().len(), 1);

    // By hand, then again for the rest.
    let out = walk.run(&["revision", "-m", "by hand"]).done();
    let up = out.lines().next().unwrap();
    let text = fs::read_to_string(up).unwrap();
    assert!(text.ends_with("-- transaction: yes\n\n-- Write the statements here.\n"), "{text}");
    let sql = after.split_once("(x int);").unwrap().1;
    fs::write(up, text.replace("-- Write the statements here.", sql)).unwrap();
    walk.revise(&after, &[]).done();
    assert_eq!(walk.written(".up.sql").pop().unwrap(), "create table u ( x integer );");
    walk.run(&["upgrade"]).done();
    walk.run(&["check"]).done();
}

#[test]
fn a_dry_run_prints_what_would_be_written() {
    let turn = Turn::shared();
    let walk = Walk::begin(&turn, "create table a (b int)");
    let out = walk.revise("create table a (b int, c int)", &["--dry-run"]).done();
    assert!(out.contains("_change.up.sql\n-- revision: 2"), "{out}");
    assert!(out.contains("\n\nalter table a add column c integer;\n"), "{out}");
    assert!(out.contains("\n\nalter table a drop column c;\n"), "{out}");
    assert_eq!(walk.bench.files().len(), 1);
}

#[test]
fn the_lock_file_follows_and_check_is_clean() {
    let turn = Turn::shared();
    let walk = Walk::begin(&turn, "create table a (b int)");
    walk.run(&["dump"]).done();
    walk.revise("create table a (b int, c int)", &[]).done();
    walk.run(&["check"]).done();
    let lock = fs::read_to_string(walk.bench.lock_file()).unwrap();
    assert!(lock.contains("column a.c: integer"), "{lock}");
}

#[test]
fn two_heads_are_refused_before_anything_is_made() {
    let turn = Turn::shared();
    let bench = Bench::sides(&turn, "create table a (b int)", "");
    bench.revision(2, "left", "root", "select 1", "select 1");
    bench.revision(3, "right", "root", "select 1", "select 1");
    for args in [&["revision", "-m", "m"][..], &["revision", "--autogenerate", "-m", "m"]] {
        bench
            .run_at("postgres://nobody@127.0.0.1:1/x", args)
            .failed(1, "run `peace-migrate rebase`");
    }
}

// Case 39.
#[test]
fn a_broken_generator_is_found_by_the_replay() {
    use migrations::{Chain, Declared, Unwritten, Wishes};

    let turn = Turn::shared();
    let before = format!("{USER} {ITEM}");
    let after = format!(
        "{USER} {ITEM} create index on item (title); alter table item add x text not null;"
    );
    let walk = Walk::begin(&turn, &before);
    let chain = Chain::read(walk.bench.versions()).unwrap();
    let declared = Declared::sql(&after).unwrap();
    let backfill = vec![("item.x".to_owned(), "title".to_owned())];
    let wishes = Wishes { backfill, ..Wishes::default() };
    let server = walk.database.access();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let prove = |drafts: &[_]| {
        runtime.block_on(migrations::prove(&server, Some(&chain), &declared, drafts))
    };
    let drafts =
        runtime.block_on(migrations::draft(&server, Some(&chain), &declared, &wishes)).unwrap();
    prove(&drafts).unwrap();

    // In every file, a statement that is not about rows is needed.
    let is_about_rows = |sql: &str| sql.starts_with("update") || sql.contains("validate");
    for (file, draft) in drafts.iter().enumerate().filter(|(_, draft)| draft.transaction) {
        if let Some(at) = draft.up.iter().position(|sql| !is_about_rows(sql)) {
            let mut broken = drafts.clone();
            let gone = broken[file].up.remove(at);
            // One without any statement is refused for that.
            broken.retain(|draft| !draft.up.is_empty());
            let error = prove(&broken).unwrap_err();
            let is_found = matches!(error, Unwritten::Unproven(..) | Unwritten::Fails { .. });
            assert!(is_found && error.exit_code() == 3, "{gone}: {error}");
        }
        if !draft.down.is_empty() {
            let mut broken = drafts.clone();
            let gone = broken[file].down.remove(0);
            let error = prove(&broken).unwrap_err();
            assert!(matches!(error, Unwritten::Unproven("lead back", _)), "{gone}: {error}");
        }
    }
    // What a way back leaves behind is found by what it is, or by what comes of it.
    let mut broken = drafts.clone();
    broken[0].down.push("create table debris (a int);".to_owned());
    let error = prove(&broken).unwrap_err();
    assert!(matches!(error, Unwritten::Unproven("lead back", _)), "{error}");
    let mut broken = drafts.clone();
    let debris = "do $$ begin if exists (select from pg_publication where pubname = 'debris') \
        then create table again (a int); else create publication debris; end if; end $$;";
    broken[0].up.push(debris.to_owned());
    let error = prove(&broken).unwrap_err();
    let words = "reach the declared schema a second time";
    assert!(matches!(error, Unwritten::Unproven(found, _) if found == words), "{error}");

    let mut broken = drafts;
    broken.pop();
    let error = prove(&broken).unwrap_err();
    assert!(
        error.to_string().contains("the generated SQL does not reach the declared schema"),
        "{error}"
    );
    assert!(error.lines().iter().any(|line| line.contains("item.x")), "{:?}", error.lines());
}
