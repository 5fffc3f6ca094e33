//! What `revision --autogenerate` writes for tables that are in use: forms that let others work.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::autogenerate::{ITEM, USER, Walk, expect, refused};
use super::stage::psql;
use crate::harness::Turn;

/// No statement of a writer may wait longer than that.
const WAIT_MAX: Duration = Duration::from_millis(200);

// Case 26.
#[test]
fn a_check_that_changes_under_its_name_is_validated_beside_others() {
    let turn = Turn::shared();
    let before = format!("{USER} {ITEM}");
    let files = [
        "alter table item drop constraint item_price_check, \
         add constraint item_price_check check (price >= 0) not valid;",
        "alter table item validate constraint item_price_check;",
    ];
    expect(&turn, &before, &before.replace("> 0", ">= 0"), &[], &files);
}

// Case 27.
#[test]
fn a_foreign_key_gets_another_action_and_rows_survive() {
    let turn = Turn::shared();
    let before = format!("{USER} {ITEM}").replace("user_id int not null", "user_id int");
    let walk = Walk::begin(&turn, &before);
    let sql = walk.database.sql();
    sql.run("insert into \"user\" values (1, 'a'); insert into item values (1, 1, 't', 1)");
    walk.revise(&before.replace("cascade", "set null"), &[]).done();
    let files = [
        "alter table item drop constraint item_user_id_fkey, add constraint item_user_id_fkey \
         foreign key (user_id) references \"user\" (id) on delete set null not valid;",
        "alter table item validate constraint item_user_id_fkey;",
    ];
    assert_eq!(walk.written(".up.sql"), files);
    walk.run(&["check"]).done();
    walk.there_and_back();
    sql.run("delete from \"user\"");
    assert_eq!(sql.value::<i64>("select count(*) from item where user_id is null", &[]), 1);
}

// Case 28.
#[test]
fn a_primary_key_gets_another_column_and_an_exclusion_comes() {
    let turn = Turn::shared();
    let before = "create table t (id int, tenant int not null, at tsrange, primary key (id));";
    let after = "create table t (id int, tenant int not null, at tsrange, \
        primary key (id, tenant), constraint t_at exclude using gist (at with &&));";
    let walk = Walk::begin(&turn, before);
    walk.revise(after, &[]).done();
    let files = [
        "-- An exclusion is built at once: nobody writes until it is there. \
         -- squawk-ignore constraint-missing-not-valid \
         alter table t add constraint t_at exclude using gist (at with &&);",
        "create unique index concurrently t_pkey_new on t (id, tenant);",
        "-- The old one holds until the new one does. alter table t drop constraint t_pkey, \
         add constraint t_pkey primary key using index t_pkey_new;",
    ];
    assert_eq!(walk.written(".up.sql"), files);
    walk.run(&["check"]).done();
    walk.run(&["lint", "--all"]).done();
    walk.there_and_back();
}

// Case 28.
#[test]
fn an_old_key_holds_until_its_successor_does() {
    let turn = Turn::shared();
    let before = "create table p (id int, tenant int not null, code int, primary key (id));
        create table u (a int, b int, constraint old unique (a, b));
        create table c (p int references p, a int, b int, foreign key (a, b) references u (a, b));";
    let after = "create table p (id int, tenant int not null, code int,
            constraint p_key primary key (id, tenant));
        create table u (a int, b int, constraint new unique (b, a));
        create table c (p int, a int, b int, foreign key (b, a) references u (b, a));";
    let walk = Walk::begin(&turn, before);
    walk.revise(after, &[]).done();
    let files = [
        "alter table c drop constraint c_p_fkey;",
        "create unique index concurrently p_key on p (id, tenant);",
        "create unique index concurrently new on u (b, a);",
        "-- The old one holds until the new one does. \
         alter table c drop constraint c_a_b_fkey; \
         -- The old one holds until the new one does. \
         alter table p drop constraint p_pkey; \
         -- The old one holds until the new one does. \
         alter table u drop constraint old; \
         alter table p add constraint p_key primary key using index p_key; \
         alter table u add constraint new unique using index new; \
         alter table c add constraint c_b_a_fkey foreign key (b, a) references u (b, a) not valid;",
        "alter table c validate constraint c_b_a_fkey;",
    ];
    assert_eq!(walk.written(".up.sql"), files);
    walk.run(&["check"]).done();
    walk.there_and_back();
}

// Case 29.
#[test]
fn indexes_are_built_and_dropped_beside_others() {
    let turn = Turn::shared();
    let table = "create table t (a int, b int, c tsvector, d int);";
    let before = format!(
        "{table} create index i on t (a); create index j on t (b); create index k on t (d);
         comment on index i is 'one'; create unique index g on t (d); create index h on t (c);"
    );
    let after = format!(
        "{table} create index i on t (a desc); create index j on t (b) where a > 3;
         create index n on t (d) include (a); create unique index g on t (d, a);
         create index h on t using gin (c); comment on index i is 'two'; comment on index n is 'n';"
    );
    let walk = Walk::begin(&turn, &before);
    walk.revise(&after, &[]).done();
    let files = [
        "comment on index i is null;",
        "drop index concurrently if exists k;",
        "create unique index concurrently g_new on t (d, a);",
        "create index concurrently h_new on t using gin (c);",
        "create index concurrently i_new on t (a desc);",
        "create index concurrently j_new on t (b) where (a > 3);",
        "create index concurrently n on t (d) include (a);",
        "drop index concurrently if exists g;",
        "drop index concurrently if exists h;",
        "drop index concurrently if exists i;",
        "drop index concurrently if exists j;",
        "alter index g_new rename to g; alter index h_new rename to h; \
         alter index i_new rename to i; comment on index i is 'two'; \
         alter index j_new rename to j; comment on index n is 'n';",
    ];
    assert_eq!(walk.written(".up.sql"), files);
    walk.run(&["check"]).done();
    walk.there_and_back();
}

// Case 29.
#[test]
fn an_index_of_a_new_table_is_a_plain_one() {
    let turn = Turn::shared();
    let file = "create table u ( a integer ); create index u_a_idx on u (a);";
    let after = "create table t (a int); create table u (a int); create index on u (a);";
    expect(&turn, "create table t (a int);", after, &[], &[file]);
}

// Case 30.
#[test]
fn a_unique_index_that_a_foreign_key_points_to_is_seen() {
    let turn = Turn::shared();
    let tables = "create table a (n int not null); create table b (n int);";
    let both = format!(
        "{tables} create unique index a_n on a (n);
         alter table b add foreign key (n) references a (n);"
    );
    let walk = Walk::begin(&turn, &both);
    assert_eq!(walk.revise(&both, &[]).done(), "no changes detected\n");
    // What holds on to it goes first, and comes last on the way back.
    walk.revise(tables, &[]).done();
    let files =
        ["alter table b drop constraint b_n_fkey;", "drop index concurrently if exists a_n;"];
    assert_eq!(walk.written(".up.sql"), files);
    walk.there_and_back();

    let files = [
        "create unique index concurrently a_n_key on a (n);",
        "alter table a add constraint a_n_key unique using index a_n_key; \
         alter table b add constraint b_n_fkey foreign key (n) references a (n) not valid;",
        "alter table b validate constraint b_n_fkey;",
    ];
    let keyed = "create table a (n int not null unique); create table b (n int references a (n));";
    expect(&turn, tables, keyed, &[], &files);
}

// Case 33.
#[test]
fn a_rename_is_never_guessed() {
    let turn = Turn::shared();
    let before = format!("{USER} {ITEM} create index on item (title);");
    let after = before.replace("title", "name");
    let words = ["--rename item.title:item.name\n", "--no-rename"];
    refused(&turn, &before, &after, &[], 3, &words);
    refused(
        &turn,
        &before,
        &after,
        &["--no-rename", "--backfill", "item.name='?'"],
        7,
        &["column item.title"],
    );
    refused(&turn, &before, &after, &["--rename", "item.titel:item.name"], 2, &["item.titel"]);

    let walk = Walk::begin(&turn, &before);
    let sql = walk.database.sql();
    sql.run("insert into \"user\" values (1, 'a'); insert into item values (1, 1, 't', 1)");
    walk.revise(&after, &["--rename", "item.title:item.name"]).done();
    let file = "alter table item rename column title to name; \
        alter index item_title_idx rename to item_name_idx;";
    assert_eq!(walk.written(".up.sql"), [file]);
    walk.run(&["check"]).done();
    walk.there_and_back();
    assert_eq!(sql.value::<String>("select name from item", &[]), "t", "values are kept");

    let flags =
        ["--no-rename", "--allow-destructive", "titles are old", "--backfill", "item.name='?'"];
    let walk = Walk::begin(&turn, &before);
    walk.revise(&after, &flags).done();
    let files = walk.written(".up.sql");
    assert_eq!(files[0], "drop index concurrently if exists item_title_idx;");
    assert_eq!(files[1], "alter table item add column name varchar(255);");
    assert_eq!(files[2], "update item set name = ('?') where name is null;");
    assert_eq!(files.last().unwrap(), "alter table item drop column title;");
    let back = walk.written(".down.sql").pop().unwrap();
    assert!(back.starts_with("-- Refused while there are rows"), "{back}");
    walk.there_and_back();
}

// Case 33.
#[test]
fn a_table_is_renamed_with_all_that_is_called_after_it() {
    let turn = Turn::shared();
    let before = format!(
        "{USER} {ITEM} create table tag (id serial primary key, item int references item);"
    );
    let after =
        before.replace("table item", "table thing").replace("references item", "references thing");
    let after = after.replace("title", "name");
    refused(&turn, &before, &before.replace("tag", "label"), &[], 3, &["--rename tag:label\n"]);
    let walk = Walk::begin(&turn, &before);
    let flags = ["--rename", "item:thing", "--rename", "item.title:thing.name"];
    walk.revise(&after, &flags).done();
    let file = "alter table item rename to thing; alter table thing rename column title to name; \
        alter table thing rename constraint item_pkey to thing_pkey; \
        alter table thing rename constraint item_price_check to thing_price_check; \
        alter table thing rename constraint item_user_id_fkey to thing_user_id_fkey;";
    assert_eq!(walk.written(".up.sql"), [file]);
    walk.run(&["check"]).done();
    walk.there_and_back();

    let walk = Walk::begin(&turn, &before);
    walk.revise(&before.replace("tag", "label"), &["--rename", "tag:label"]).done();
    let file = "alter table tag rename to label; alter sequence tag_id_seq rename to label_id_seq; \
        alter table label rename constraint tag_item_fkey to label_item_fkey; \
        alter table label rename constraint tag_pkey to label_pkey;";
    assert_eq!(walk.written(".up.sql"), [file]);
    walk.there_and_back();
}

// Case 33.
#[test]
fn a_rename_that_is_declared_needs_no_flag_and_may_stay() {
    migrations::table! {
        #[allow(dead_code, reason = "only what it declares is looked at")]
        struct Thing: "thing" {
            id: i32 = "int primary key",
            title: String = "varchar(30) not null",
        }
        renamed "item" to "thing";
        renamed "thing.name" to "title";
    }
    let turn = Turn::shared();
    let walk =
        Walk::begin(&turn, "create table item (id int primary key, name varchar(30) not null)");
    let declared = migrations::Declared::tables(&[Thing::TABLE]);
    let draft = || {
        let chain = migrations::Chain::read(walk.bench.versions()).unwrap();
        let server = walk.database.access();
        let wishes = migrations::Wishes::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let work = migrations::draft(&server, Some(&chain), &declared, &wishes);
        runtime.block_on(work).unwrap()
    };
    let [draft_of_it] = &draft()[..] else { panic!("one file") };
    let expected = [
        "alter table item rename to thing;",
        "alter table thing rename column name to title;",
        "alter table thing rename constraint item_pkey to thing_pkey;",
    ];
    assert_eq!(draft_of_it.up, expected);
    walk.bench.revision(2, "renamed", "root", &expected.concat(), "select 1");
    assert_eq!(draft(), [], "nothing is left to do");
}

// Case 34.
#[test]
fn a_column_that_old_rows_lack_a_value_for_is_refused_or_filled() {
    let turn = Turn::shared();
    let before = "create table item (id int primary key, title text not null);";
    let after =
        "create table item (id int primary key, title text not null, slug text not null unique);";
    let words =
        ["column item.slug: `not null` without a default", "--backfill item.slug=EXPRESSION"];
    refused(&turn, before, after, &[], 3, &words);

    let walk = Walk::begin(&turn, before);
    let sql = walk.database.sql();
    sql.run("insert into item select n, 'Title ' || n from generate_series(1, 10000) n");
    walk.revise(after, &["--backfill", "item.slug=lower(title)"]).done();
    let files = [
        "alter table item add column slug text;",
        "update item set slug = (lower(title)) where slug is null;",
        "-- From here on, rows without a value are refused. \
         alter table item add constraint item_slug_is_not_null check (slug is not null) not valid;",
        "update item set slug = (lower(title)) where slug is null;",
        "alter table item validate constraint item_slug_is_not_null;",
        "create unique index concurrently item_slug_key on item (slug);",
        "-- The validated check proves it: the table is not scanned under this lock. \
         alter table item alter column slug set not null, \
         add constraint item_slug_key unique using index item_slug_key; \
         alter table item drop constraint item_slug_is_not_null;",
    ];
    assert_eq!(walk.written(".up.sql"), files);
    walk.run(&["check"]).done();
    walk.there_and_back();
    let filled = "select count(*) from item where slug = lower(title)";
    assert_eq!(sql.value::<i64>(filled, &[]), 10_000);

    let simple = ["--backfill", "item.slug=lower(title)", "--simple"];
    let file = "-- Builds an index under a lock: whoever writes to the table waits for it. \
        -- Reads the table under a lock: everybody waits for it. \
        -- squawk-ignore-file adding-not-nullable-field, constraint-missing-not-valid, \
        disallowed-unique-constraint \
        alter table item add column slug text; \
        update item set slug = (lower(title)) where slug is null; \
        alter table item alter column slug set not null, \
        add constraint item_slug_key unique (slug);";
    let walk = Walk::begin(&turn, before);
    walk.revise(after, &simple).done();
    assert_eq!(walk.written(".up.sql"), [file]);
    walk.run(&["check"]).done();
    walk.there_and_back();
}

// Case 34.
#[test]
fn a_default_of_null_is_no_value_for_old_rows() {
    let turn = Turn::shared();
    let after = "create table a (n int, x varchar(9) not null default null::varchar);";
    refused(&turn, "create table a (n int);", after, &[], 3, &["--backfill a.x=EXPRESSION"]);
}

// Case 34.
#[test]
fn values_may_come_from_columns_and_tables_that_go() {
    let turn = Turn::shared();
    let before = "create type mood as enum ('a'); create table old (title text); \
        create table t (id int, fullname text not null, m mood not null);";
    let after = "create table t (id int, first text not null, m text not null, title text);";
    let walk = Walk::begin(&turn, before);
    let sql = walk.database.sql();
    sql.run("insert into t values (1, 'Ada Lovelace', 'a'); insert into old values ('Countess')");
    let first = "t.first=split_part(fullname, ' ', 1)";
    let flags = ["--backfill", first, "--backfill", "t.title=(select title from old)"];
    walk.revise(after, &[&flags[..], &["--no-rename", "--allow-destructive", "split"]].concat())
        .done();
    let files = walk.written(".up.sql");
    let last = "alter table t drop column fullname; drop table old; drop type mood;";
    assert_eq!(files.last().unwrap(), last);
    walk.run(&["check"]).done();
    walk.run(&["upgrade"]).done();
    let read = "select first || ', ' || title from t";
    assert_eq!(sql.value::<String>(read, &[]), "Ada, Countess");
    sql.run("delete from t");
    walk.run(&["downgrade", "root", "--yes"]).done();
    walk.there_and_back();
}

// Case 34.
#[test]
fn old_rows_get_values_while_others_write() {
    const ROWS: i32 = 50_000;
    let turn = Turn::alone();
    let before = "create table item (id serial primary key, n int not null default 0, title text);";
    let after = "create table item (id serial primary key, n int not null default 0, \
        title text not null, slug text not null);";
    let walk = Walk::begin(&turn, before);
    let sql = walk.database.sql();
    sql.run(&format!("insert into item (n) select n from generate_series(1, {ROWS}) n"));
    let flags = ["--backfill", "item.slug='s' || n", "--backfill", "item.title='t' || n"];
    walk.revise(after, &flags).done();

    let (done, writers) = (AtomicBool::new(false), AtomicU32::new(0));
    thread::scope(|scope| {
        for place in 0..3 {
            let (walk, done, writers) = (&walk, &done, &writers);
            scope.spawn(move || {
                let sql = walk.database.sql();
                let ids = (1..=ROWS).rev().cycle().skip(place * 7919).step_by(17);
                writers.fetch_add(1, Ordering::Relaxed);
                for id in ids.take_while(|_| !done.load(Ordering::Relaxed)) {
                    sql.rows("update item set n = n + 1 where id = $1", &[&id]);
                }
            });
        }
        // The release that knows nothing of the columns, and is refused at last.
        scope.spawn(|| {
            let sql = walk.database.sql();
            writers.fetch_add(1, Ordering::Relaxed);
            while !done.load(Ordering::Relaxed) {
                sql.run(
                    "do $$ begin insert into item (n) values (0);
                     exception when check_violation or not_null_violation then null; end $$",
                );
            }
        });
        crate::harness::wait::until_true("all write", WAIT_MAX * 50, || {
            writers.load(Ordering::Relaxed) == 4
        });
        let ran = walk.run(&["upgrade"]);
        done.store(true, Ordering::Relaxed);
        ran.done();
    });
    walk.run(&["drift"]).done();
    let filled = "select count(*) from item where slug is not null and title is not null";
    assert!(sql.value::<i64>(filled, &[]) > i64::from(ROWS));
}

// Case 35.
#[test]
fn a_column_becomes_not_null_while_others_write() {
    let turn = Turn::alone();
    let is_long = std::env::var_os("PEACE_TEST_LONG").is_some_and(|value| value == "1");
    let rows = if is_long { 1_000_000 } else { 50_000 };
    let before = "create table item (id int primary key, n int not null default 0, title text);";
    let after = before.replace("title text", "title text not null");
    let walk = Walk::begin(&turn, before);
    let sql = walk.database.sql();
    sql.run(&format!(
        "insert into item select n, 0, repeat('title ', 10) from generate_series(1, {rows}) n"
    ));
    sql.run("vacuum (analyze) item");
    walk.revise(&after, &[]).done();
    let files = [
        "alter table item add constraint item_title_is_not_null check (title is not null) \
         not valid;",
        "alter table item validate constraint item_title_is_not_null;",
        "-- The validated check proves it: the table is not scanned under this lock. \
         alter table item alter column title set not null; \
         alter table item drop constraint item_title_is_not_null;",
    ];
    assert_eq!(walk.written(".up.sql"), files);

    let (done, ready) = (AtomicBool::new(false), AtomicBool::new(false));
    let (waited, writes) = thread::scope(|scope| {
        let writer = scope.spawn(|| write_until(&walk, rows, &ready, &done));
        crate::harness::wait::until_true("somebody writes", WAIT_MAX * 50, || {
            ready.load(Ordering::Relaxed)
        });
        walk.run(&["upgrade"]).done();
        done.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    eprintln!("{rows} rows, {writes} writes meanwhile, the longest took {} ms", waited.as_millis());
    assert!(waited < WAIT_MAX, "a write took {waited:?}");

    // The server itself says that it did not look at the rows.
    let last = walk.bench.files().into_iter().rfind(|name| name.ends_with(".up.sql")).unwrap();
    let last = walk.bench.versions().join(last);
    walk.run(&["downgrade", "-1"]).done();
    sql.run("alter table item validate constraint item_title_is_not_null");
    let script = fs::read_to_string(last).unwrap();
    let script = format!("set client_min_messages = debug1; begin; {script} rollback");
    let told = psql(&walk.database, &["-c", &script]);
    let told = String::from_utf8(told.stderr).unwrap();
    assert!(told.contains("are sufficient to prove that it does not contain nulls"), "{told}");
}

/// One row after another, until it is over: the longest time that one took, and how many.
fn write_until(
    walk: &Walk<'_>,
    rows: i32,
    ready: &AtomicBool,
    done: &AtomicBool,
) -> (Duration, u32) {
    let sql = walk.database.sql();
    let (mut longest, mut writes) = (Duration::ZERO, 0);
    while !done.load(Ordering::Relaxed) {
        let id = 1 + i32::try_from(writes).unwrap() * 7919 % rows;
        let begin = Instant::now();
        sql.rows("update item set n = n + 1 where id = $1", &[&id]);
        longest = longest.max(begin.elapsed());
        writes += 1;
        ready.store(true, Ordering::Relaxed);
    }
    (longest, writes)
}
