//! The server behind a pgbouncer in transaction mode that has fewer sessions with PostgreSQL than the
//! server has with it, so that they change hands all the time.

use std::fs;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::Pooler;
use crate::contract::abuse;
use crate::harness::api::{PASSWORD, User, add_item, sign_up};
use crate::harness::client::Reply;
use crate::harness::cluster::Cluster;
use crate::harness::database::Sql;
use crate::harness::wait::until_true;
use crate::harness::{Connection, Database, Launch, Peace, Request, Turn, get, post, put, request};

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
/// Of two workers with two connections each.
const SERVER_SESSIONS: usize = 3;
const CLIENTS: usize = 32;
const ROUNDS: usize = 20;

fn launch(turn: &Turn, database: &Database<'_>, pooler: &Pooler) -> Launch {
    let launch = Launch::on(turn, database).env("DATABASE_URL", &pooler.url(database, "x"));
    launch.args(["--database-pooler", "transaction"])
}

/// As README has it: limits stand with the role, and `peace-migrate` has PostgreSQL's own URL.
#[test]
fn the_whole_contract_holds_behind_a_transaction_pooler() {
    let turn = Turn::shared();
    let cluster = Cluster::start(&[]);
    let readme = fs::read_to_string(README).unwrap();
    let limits: Vec<&str> =
        readme.lines().filter(|line| line.starts_with("alter role peace set ")).collect();
    assert_eq!(limits.len(), 2, "{limits:?}");
    Sql::connect(&cluster.url("postgres")).unwrap().run(&limits.concat());
    let more = format!("min_pool_size = {SERVER_SESSIONS}\nserver_round_robin = 1\n");
    let pooler = Pooler::before(&cluster, SERVER_SESSIONS, &more);
    let migrated = || {
        let database = Database::blank_in(&cluster);
        let migrate = Launch::bare(&turn).program(env!("CARGO_BIN_EXE_peace-migrate"));
        let migrate = migrate.env("DATABASE_URL", &database.url()).args(["upgrade", "head"]);
        let output = migrate.output();
        assert!(output.status.success(), "{output:?}");
        database
    };
    for item_writes in ["owner", "anyone"] {
        let database = migrated();
        abuse::abuse(launch(&turn, &database, &pooler), item_writes);
    }
    let database = migrated();
    abuse::add_unknown(launch(&turn, &database, &pooler));
    let limit = "select current_setting('statement_timeout')";
    assert_eq!(database.sql().value::<String>(limit, &[]), "5s", "as any session of the role");
    let log = pooler.log();
    assert!(!log.contains("prepared statement"), "{log}");
}

#[test]
fn a_crowd_reads_and_writes_behind_a_transaction_pooler_without_a_failure() {
    let turn = Turn::shared();
    let database = logged(&turn);
    let pooler = Pooler::start_rotating(SERVER_SESSIONS);
    let peace = launch(&turn, &database, &pooler).workers(2).serve();
    let users: Vec<User> =
        (0..CLIENTS).map(|number| sign_up(&peace, &format!("user{number}"))).collect();

    thread::scope(|scope| {
        for user in &users {
            scope.spawn(|| read_and_write(&peace, user));
        }
    });

    let log = Cluster::shared().log();
    let ours = format!("{}|peace|", database.name());
    let lines: Vec<&str> = log.lines().filter(|line| line.starts_with(&ours)).collect();
    let count = |part: &str| lines.iter().filter(|line| line.contains(part)).count();
    assert!(
        count("execute <unnamed>: ") > CLIENTS * ROUNDS * 6,
        "the log shows what is looked for"
    );
    assert_eq!(count("START TRANSACTION"), CLIENTS, "each password was changed in one");
    for trace in ["prepared statement", "parse s", "PREPARE", "DEALLOCATE", "ERROR", "FATAL"] {
        assert_eq!(count(trace), 0, "{trace}");
    }
    // Each session is told once who its clients are.
    assert!(count(": SET ") <= SERVER_SESSIONS, "{}", count(": SET "));
    let told: Vec<String> = peace.log().events().into_iter().map(|event| event.text).collect();
    for log in [pooler.log(), told.join("\n")] {
        assert!(!log.contains("prepared statement") && !log.contains("ERROR"), "{log}");
    }
    assert_eq!(sessions(&database, "true"), SERVER_SESSIONS);
}

/// What one client does: all over one connection, and every answer has to be about what it asked for.
fn read_and_write(peace: &Peace, user: &User) {
    let mut connection = Connection::open(peace.address()).unwrap();
    let mut ask = |request: &Request, status| expect(&mut connection, request, status);
    for round in 0..ROUNDS {
        let name = format!("thing {round}");
        let item = json!({"name": name, "user_pubid": user.pubid, "added": "2024-12-12 13:25"});
        let created = ask(&post("/items").bearer(&user.token).json(&item), 201);
        let item = created.header("location").unwrap().to_owned();
        assert_eq!(ask(&get(&item), 200).json()["name"], name);
        let change = json!({"added": "2025-01-02T03:04:05.000006"});
        let changed = ask(&put(&item).bearer(&user.token).json(&change), 200);
        assert_eq!(changed.json()["added"], "2025-01-02T03:04:05.000006");
        let items = ask(&get(format!("/items?user_pubid={}", user.pubid)), 200).json();
        assert_eq!(items["items"].as_array().unwrap().len(), 1, "{items}");
        assert_eq!(ask(&get(&user.place), 200).json()["pubid"], user.pubid);
        let fullname = if round % 2 == 0 { json!("Ann A.") } else { Value::Null };
        let renamed = put(&user.place).bearer(&user.token).json(&json!({"fullname": fullname}));
        assert_eq!(ask(&renamed, 200).json()["fullname"], fullname);
        ask(&request("DELETE", &item).bearer(&user.token), 200);
        ask(&get(&item), 404);
    }
    let place = format!("{}/password", user.place);
    let change = json!({"current": PASSWORD, "new": "another-horse"});
    ask(&put(place).bearer(&user.token).json(&change), 204);
}

fn expect(connection: &mut Connection, request: &Request, status: u16) -> Reply {
    let reply = connection.send(request).unwrap();
    let body = String::from_utf8_lossy(&reply.body);
    assert_eq!(reply.status, status, "{request:?}: {body}");
    reply
}

#[test]
fn a_pooler_that_was_restarted_is_used_again() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let mut pooler = Pooler::start_rotating(SERVER_SESSIONS);
    let peace = launch(&turn, &database, &pooler).workers(2).serve();
    let ann = sign_up(&peace, "ann");
    let workers = peace.workers();

    pooler.stop();
    assert_eq!(peace.ask(&get(&ann.place)).status, 503);
    assert_eq!(peace.ask(&get("/health/live")).status, 200);

    pooler.resume();
    await_serving(&peace, &ann);
    add_item(&peace, &ann, "thing");
    assert_eq!(peace.workers(), workers, "nobody was restarted");
}

#[test]
fn a_database_that_was_restarted_behind_the_pooler_is_used_again() {
    let turn = Turn::shared();
    let cluster = Cluster::start(&[]);
    let database = Database::migrated_in(&cluster);
    let pooler = Pooler::before(&cluster, SERVER_SESSIONS, "server_login_retry = 1\n");
    let peace = launch(&turn, &database, &pooler).workers(2).serve();
    let ann = sign_up(&peace, "ann");

    cluster.stop();
    // The pooler lets it wait, so that it is our own limit that ends it.
    assert_eq!(peace.ask(&get(&ann.place)).status, 503);
    assert_eq!(peace.ask(&get("/health/live")).status, 200);

    cluster.resume();
    await_serving(&peace, &ann);
    add_item(&peace, &ann, "thing");
}

/// Waits until both workers have the database: a few in a row are no luck.
fn await_serving(peace: &Peace, user: &User) {
    let mut in_a_row = 0;
    until_true("it serves again", Duration::from_secs(5), || {
        in_a_row = if peace.ask(&get(&user.place)).status == 200 { in_a_row + 1 } else { 0 };
        in_a_row == 20
    });
}

#[test]
fn clients_that_leave_in_mid_query_spoil_nobodys_answer() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let pooler = Pooler::start_rotating(SERVER_SESSIONS);
    let peace = launch(&turn, &database, &pooler).workers(2).serve();
    let ann = sign_up(&peace, "ann");
    let item = add_item(&peace, &ann, "thing");

    let locked = database.sql();
    locked.run("begin; lock table item in access exclusive mode");
    let leaving = || {
        let mut connection = Connection::open(peace.address()).unwrap();
        connection.begin(&get(&item)).unwrap();
        connection
    };
    let leaving: Vec<Connection> = (0..16).map(|_| leaving()).collect();
    await_sessions(&database, "wait_event_type = 'Lock'", SERVER_SESSIONS);
    drop(leaving);
    locked.run("commit");

    for _ in 0..100 {
        assert_eq!(peace.ask(&get(&item)).json()["name"], "thing");
        assert_eq!(peace.ask(&get(&ann.place)).json()["name"], "ann");
    }
    await_sessions(&database, "state = 'idle in transaction'", 0);
}

#[test]
fn the_roles_own_limit_ends_a_statement() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let limit = "alter role peace in database {} set statement_timeout = '500ms'";
    database.sql_beside().run(&limit.replace("{}", database.name()));
    let pooler = Pooler::start_rotating(SERVER_SESSIONS);
    let peace = launch(&turn, &database, &pooler).workers(1).serve();
    let ann = sign_up(&peace, "ann");
    let item = add_item(&peace, &ann, "thing");

    let locked = database.sql();
    locked.run("begin; lock table item in access exclusive mode");
    assert_eq!(peace.ask(&get(&item)).status, 503);
    await_sessions(&database, "wait_event_type = 'Lock'", 0);
    locked.run("commit");
    assert_eq!(peace.ask(&get(&item)).status, 200);
}

/// A read is one statement, whichever session it meets; no SET, no ping, nothing is prepared.
#[test]
fn a_read_behind_a_transaction_pooler_is_one_call() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let pooler = Pooler::start_rotating(SERVER_SESSIONS);
    let peace = launch(&turn, &database, &pooler).workers(2).serve();
    let ann = sign_up(&peace, "ann");
    let item = add_item(&peace, &ann, "thing");
    let connect = |_| Connection::open(peace.address()).unwrap();
    let mut connections: Vec<Connection> = (0..8).map(connect).collect();
    let mut read = |times: usize| {
        for turn in 0..times {
            expect(&mut connections[turn % 8], &get(&item), 200);
        }
    };
    // The pooler opens one after the other, and tells each once who its clients are.
    until_true("each session has served", Duration::from_secs(5), || {
        read(8);
        sessions(&database, "true") == SERVER_SESSIONS
    });
    let sql = database.sql_beside();
    let reset =
        "select pg_stat_statements_reset(0, oid, 0)::text from pg_database where datname = $1";
    sql.rows(reset, &[&database.name()]);
    read(400);
    let calls = "select query, calls from pg_stat_statements join pg_database d on d.oid = dbid \
                 where datname = $1";
    let rows = sql.rows(calls, &[&database.name()]);
    let calls: Vec<(String, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert!(calls.len() == 1 && calls[0].1 == 400, "{calls:?}");
}

/// A database all of whose statements the server logs.
fn logged(turn: &Turn) -> Database<'static> {
    let database = Database::new(turn);
    let log = format!("alter database {} set log_min_duration_statement = 0", database.name());
    database.sql_beside().run(&log);
    database
}

/// Waits until that many sessions of the server are so.
fn await_sessions(database: &Database<'_>, so: &str, count: usize) {
    until_true(so, Duration::from_secs(5), || sessions(database, so) == count);
}

/// Of those that PostgreSQL has for the server, how many are so.
fn sessions(database: &Database<'_>, so: &str) -> usize {
    let count = format!(
        "select count(*) from pg_stat_activity where datname = $1 and application_name = 'peace' \
         and {so}"
    );
    let count = database.sql_beside().value::<i64>(&count, &[&database.name()]);
    count.try_into().expect("a count")
}
