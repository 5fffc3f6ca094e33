//! Where schemas are made real: databases that are made and dropped, or one that is given.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::bench::{Bench, Ran};
use crate::harness::cluster::Cluster;
use crate::harness::database::Sql;
use crate::harness::wait::until_true;
use crate::harness::{Database, Turn};

const CLEAN: &str = "no changes: the revisions give what is declared\n";
const LIMIT: Duration = Duration::from_secs(20);
/// Everything that has to go again, one way or the other.
const MUCH: &str = "create schema own; create table own.t (id serial primary key); \
    create type mood as enum ('a'); create domain name as text; \
    create table item (id int generated always as identity primary key, m mood, n name); \
    create table part (id int) partition by range (id); \
    create table part1 partition of part for values from (0) to (9); \
    create view v as select id from item; create materialized view mv as select id from item; \
    create sequence s; create function f(mood) returns int language sql as 'select 1'; \
    create procedure p() language sql as ''; create aggregate total (int) (sfunc = int4pl, \
    stype = int); create collation c (locale = 'C'); create type pair as (a int); \
    create type span as range (subtype = int4); create statistics st on id, m from item; \
    create text search configuration ts (copy = english)";

/// The scratch databases of one role: other tests' are there too.
struct Role<'a> {
    name: &'a str,
    database: Database<'static>,
    sql: Sql,
}

impl<'a> Role<'a> {
    fn new(turn: &Turn, name: &'a str, rights: &str) -> Self {
        let database = Database::blank(turn);
        let sql = database.sql_beside();
        sql.run(&format!("create role {name} login {rights}"));
        Self { name, database, sql }
    }

    fn url(&self) -> String {
        format!("{} user={}", self.database.url(), self.name)
    }

    fn databases(&self) -> BTreeSet<String> {
        let sql = "select datname::text from pg_database join pg_roles r on r.oid = datdba \
            where rolname = $1 and datname like 'peace\\_scratch\\_%'";
        self.sql.rows(sql, &[&self.name]).iter().map(|row| row.get(0)).collect()
    }

    /// Waits until a statement of this role sleeps in a scratch database.
    fn await_work(&self) {
        let sql = "select exists (select from pg_stat_activity where usename = $1 and \
            datname like 'peace\\_scratch\\_%' and state = 'active' and query like '%pg_sleep%')";
        until_true("it works", LIMIT, || self.sql.value(sql, &[&self.name]));
    }

    /// Waits until the server has noticed that a process of this role is gone.
    fn await_silence(&self) {
        let sql = "select count(*) from pg_stat_activity where usename = $1 and \
            datname not like 'peace\\_scratch\\_%'";
        until_true("its sessions end", LIMIT, || self.sql.value::<i64>(sql, &[&self.name]) == 0);
    }
}

// Case 43: while the revisions are run, and while the declared schema is made.
#[test]
fn a_stop_leaves_no_scratch_database() {
    let turn = Turn::shared();
    let role = Role::new(&turn, "stopped", "createdb");
    role.database.sql().run("grant create on schema public to stopped");
    let bench = Bench::sides(&turn, "select pg_sleep(60)", "");
    bench.run_at(&role.url(), &["stamp", "head", "--force"]).done();
    let declaring = Bench::sides(&turn, "", "select pg_sleep(60)");
    let runs: [(&Bench<'_>, &[&str], Signal); 5] = [
        (&bench, &["check"], Signal::SIGINT),
        (&declaring, &["check"], Signal::SIGTERM),
        (&bench, &["dump"], Signal::SIGTERM),
        (&bench, &["drift"], Signal::SIGINT),
        (&bench, &["upgrade", "--dry-run"], Signal::SIGINT),
    ];
    for (bench, args, signal) in runs {
        let mut run = bench.launch(args).env("DATABASE_URL", &role.url()).start();
        role.await_work();
        assert!(!role.databases().is_empty());
        run.signal(signal);
        let ended = run.end(LIMIT);
        assert_eq!(ended.code, Some(130), "{args:?}: {ended:?}");
        assert!(ended.lines.last().unwrap().contains("interrupted: "), "{ended:?}");
        assert_eq!(role.databases(), BTreeSet::new(), "{args:?}");
    }
}

// Case 43.
#[test]
fn the_next_run_drops_what_a_killed_one_left() {
    let turn = Turn::shared();
    let role = Role::new(&turn, "killed", "createdb");
    let bench = Bench::sides(&turn, "select pg_sleep(60)", "");
    let mut run = bench.launch(&["check"]).env("DATABASE_URL", &role.url()).start();
    role.await_work();
    // A run beside it leaves its databases alone.
    let busy = role.databases();
    let other = Bench::sides(&turn, "select 1", "");
    assert_eq!(other.run_at(&role.url(), &["check"]).done(), CLEAN);
    assert_eq!(role.databases(), busy);

    run.kill();
    role.await_silence();
    assert_eq!(role.databases(), busy);
    assert_eq!(other.run_at(&role.url(), &["check"]).done(), CLEAN);
    assert_eq!(role.databases(), BTreeSet::new());
}

#[test]
fn an_error_leaves_no_scratch_database() {
    let turn = Turn::shared();
    let role = Role::new(&turn, "failed", "createdb");
    for (up, declared) in [("select nonsense", ""), ("", "select nonsense")] {
        let ran = Bench::sides(&turn, up, declared).run_at(&role.url(), &["check"]);
        ran.failed(1, "nonsense");
        assert_eq!(role.databases(), BTreeSet::new());
    }
}

// Case 44, the good part: both sides are made in it, one after the other.
#[test]
fn a_database_that_is_given_is_used_and_empty_again_afterwards() {
    let turn = Turn::shared();
    let role = Role::new(&turn, "modest", "");
    let scratch = Database::blank(&turn);
    role.sql.run(&format!("alter database {} owner to modest", scratch.name()));
    // Set up by an administrator: not ours, and left alone.
    scratch.sql().run("create extension pg_stat_statements");
    let url = format!("{} user=modest", scratch.url());
    let extension = "select count(*) from pg_extension where extname = 'pg_stat_statements'";
    let run = |up: &str, declared: &str, command: &str| {
        let bench = Bench::sides(&turn, up, declared);
        let launch = bench.launch(&[command]).env("PEACE_SCRATCH_URL", &url);
        let ran = Ran::of(&launch.env("DATABASE_URL", &role.url()).output());
        assert_eq!(objects(&scratch), 0, "{ran:?}");
        assert_eq!(scratch.sql().value::<i64>(extension, &[]), 1);
        ran
    };
    assert_eq!(run(MUCH, MUCH, "check").done(), CLEAN);
    assert_eq!(run(MUCH, MUCH, "check").done(), CLEAN, "once more");
    run(MUCH, "", "check").failed(3, "extra table own.t");
    run("select nonsense", MUCH, "check").failed(1, "nonsense");
    assert!(run(MUCH, "", "dump").done().starts_with("wrote "));
    let bench = Bench::sides(&turn, "", "");
    let launch = bench.launch(&["check"]);
    let ran = Ran::of(&launch.env("PEACE_SCRATCH_URL", "host=/nonexistent user=me").output());
    ran.failed(1, "connecting to the database of PEACE_SCRATCH_URL at /nonexistent");
    run(MUCH, "", "drift").done();
}

// Case 44: nothing is executed in somebody's database, whatever it holds.
#[test]
fn a_given_database_that_is_not_empty_is_refused() {
    let turn = Turn::shared();
    let role = Role::new(&turn, "careful", "");
    let contents = [
        ("create table item (id int)", "table item"),
        ("create function f() returns int language sql as 'select 1'", "function f()"),
        ("create type mood as enum ('a')", "type mood"),
        ("create schema theirs", "schema theirs"),
        ("create extension pg_trgm", "extension pg_trgm"),
        ("create sequence s", "sequence s"),
        ("create operator === (leftarg = int, rightarg = int, function = int4eq)", "operator ==="),
    ];
    let bench = Bench::sides(&turn, "create table ours ()", "create table ours ()");
    for (content, named) in contents {
        let scratch = Database::blank(&turn);
        role.sql.run(&format!("alter database {} owner to careful", scratch.name()));
        let url = format!("{} user=careful", scratch.url());
        let theirs = Sql::connect(&url).unwrap();
        theirs.run(content);
        let before = objects(&scratch);
        let launch = bench.launch(&["check"]).env("PEACE_SCRATCH_URL", &url);
        let ran = Ran::of(&launch.output());
        ran.failed(1, &format!("the database of PEACE_SCRATCH_URL is not empty ({named}"));
        assert_eq!(objects(&scratch), before, "{content}");
    }
}

#[test]
fn a_given_database_is_cleared_after_a_stop_and_left_alone_after_a_killed_run() {
    let turn = Turn::shared();
    let role = Role::new(&turn, "unlucky", "");
    let scratch = Database::blank(&turn);
    role.sql.run(&format!("alter database {} owner to unlucky", scratch.name()));
    let url = format!("{} user=unlucky", scratch.url());
    let sessions = |what: &str| {
        let sql =
            "select count(*) from pg_stat_activity where usename = 'unlucky' and query like $1";
        role.sql.value::<i64>(sql, &[&what])
    };
    let bench = Bench::sides(&turn, "create table a (); select pg_sleep(60)", MUCH);
    let start = || {
        let run = bench.launch(&["check"]).env("PEACE_SCRATCH_URL", &url).start();
        until_true("it works", LIMIT, || sessions("%pg_sleep%") == 1);
        run
    };
    let mut stopped = start();
    stopped.signal(Signal::SIGINT);
    assert_eq!(stopped.end(LIMIT).code, Some(130));
    assert_eq!(objects(&scratch), 0);

    start().kill();
    until_true("its sessions end", LIMIT, || sessions("%") == 0);
    // By then somebody may have taken it for his own.
    Sql::connect(&url).unwrap().run("create table customers as values (1), (2)");
    let before = objects(&scratch);
    let ran = Ran::of(&bench.launch(&["check"]).env("PEACE_SCRATCH_URL", &url).output());
    ran.failed(1, "the database of PEACE_SCRATCH_URL is not empty (");
    assert_eq!(objects(&scratch), before);
    assert_eq!(scratch.sql().value::<i64>("select count(*) from customers", &[]), 2);
}

/// Behind a proxy that leads every name to one database.
#[test]
fn nothing_runs_in_a_database_that_answers_to_the_name_of_a_new_one() {
    let turn = Turn::shared();
    let role = Role::new(&turn, "diverted", "createdb");
    let data = Database::blank(&turn);
    data.sql().run("grant create on schema public to diverted");
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = proxy.local_addr().unwrap();
    let (socket, name) = (Cluster::shared().socket(), data.name().to_owned());
    thread::spawn(move || {
        for client in proxy.incoming() {
            divert(client.unwrap(), UnixStream::connect(&socket).unwrap(), &name);
        }
    });
    let url = format!("host={} port={} user=diverted dbname=x", address.ip(), address.port());
    let before = objects(&data);
    let bench = Bench::sides(&turn, "create table ours ()", "create table ours ()");
    let told = format!("a new scratch database was asked for and {} answered", data.name());
    bench.run_at(&url, &["check"]).failed(1, &told);
    assert_eq!(objects(&data), before);
    assert_eq!(role.databases(), BTreeSet::new());
}

/// Passes a connection on, to the database `name` whatever the client asks for.
fn divert(mut client: TcpStream, mut server: UnixStream, name: &str) {
    let mut length = [0; 4];
    client.read_exact(&mut length).unwrap();
    let mut startup = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap() - 4];
    client.read_exact(&mut startup).unwrap();
    let (version, fields) = startup.split_at(4);
    let mut told = version.to_vec();
    let mut fields = fields.split(|byte| *byte == 0);
    while let (Some(key @ [_, ..]), Some(value)) = (fields.next(), fields.next()) {
        let value = if key == b"database" { name.as_bytes() } else { value };
        told.extend([key, b"\0", value, b"\0"].concat());
    }
    told.push(0);
    server.write_all(&u32::try_from(told.len() + 4).unwrap().to_be_bytes()).unwrap();
    server.write_all(&told).unwrap();
    let (mut answers, mut answered) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    thread::spawn(move || {
        drop(io::copy(&mut answers, &mut answered));
        drop(answered.shutdown(Shutdown::Both));
    });
    thread::spawn(move || {
        drop(io::copy(&mut client, &mut server));
        drop(server.shutdown(Shutdown::Both));
    });
}

#[test]
fn runs_in_one_given_database_take_turns() {
    let turn = Turn::shared();
    let role = Role::new(&turn, "patient", "");
    let scratch = Database::blank(&turn);
    role.sql.run(&format!("alter database {} owner to patient", scratch.name()));
    let url = format!("{} user=patient", scratch.url());
    let bench = Bench::sides(&turn, MUCH, MUCH);
    thread::scope(|scope| {
        let run = || {
            let launch = bench.launch(&["check"]).env("PEACE_SCRATCH_URL", &url);
            Ran::of(&launch.output())
        };
        let runs: Vec<_> = (0..3).map(|_| scope.spawn(run)).collect();
        for run in runs {
            assert_eq!(run.join().unwrap().done(), CLEAN);
        }
    });
}

/// How much is in a database beside what the system and extensions put there.
fn objects(database: &Database<'_>) -> i64 {
    let sql = "select count(*) from pg_depend join pg_namespace n on refobjid = n.oid \
        where refclassid = 'pg_namespace'::regclass and deptype = 'n' and nspname !~ '^pg_' \
        and nspname <> 'information_schema' and classid <> 'pg_extension'::regclass \
        and not exists (select from pg_depend e where e.classid = pg_depend.classid \
        and e.objid = pg_depend.objid and e.deptype = 'e')";
    let schemas = "select count(*) - 1 from pg_namespace where nspname !~ '^pg_' \
        and nspname <> 'information_schema'";
    let sql = format!("select ({sql}) + ({schemas})");
    database.sql().value(&sql, &[])
}
