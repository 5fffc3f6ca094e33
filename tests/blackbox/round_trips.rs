//! One database call per read request, exactly: no BEGIN, no ping, no preparing in steady state.
//!
//! Counted by the server, in pg_stat_statements and, since an empty statement does not appear
//! there, in its log.

use serde_json::json;

use crate::harness::api::{add_item, sign_up};
use crate::harness::cluster::Cluster;
use crate::harness::{Connection, Database, Launch, Peace, Turn, get, post};

const REQUESTS: usize = 1_000;

#[test]
fn a_user_is_read_with_one_call() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = warm(&turn, &database);
    let user = create_user(&peace);
    check_calls(&database, &peace, &user);
}

#[test]
fn a_page_of_users_is_read_with_one_call() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = warm(&turn, &database);
    create_user(&peace);
    check_calls(&database, &peace, "/users?limit=10");
}

#[test]
fn an_item_its_list_and_its_user_are_read_with_one_call_each() {
    let turn = Turn::shared();
    for target in ["/items/{item}", "/items?user_pubid={user}", "/users/{user}?incl_items=true"] {
        let database = Database::new(&turn);
        let peace = warm(&turn, &database);
        let ann = sign_up(&peace, "ann");
        let item = add_item(&peace, &ann, "thing");
        let target = target.replace("/items/{item}", &item).replace("{user}", &ann.pubid);
        check_calls(&database, &peace, &target);
    }
}

#[test]
fn where_nothing_may_be_prepared_each_read_is_one_call_without_a_name() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let pooled = ["--database-pooler", "transaction"];
    let peace = logged(&turn, &database).args(pooled).serve();
    let ann = sign_up(&peace, "ann");
    let item = add_item(&peace, &ann, "thing");
    let lines = steps(&database, &peace, &item);
    for step in [" ms  parse <unnamed>: ", " ms  bind <unnamed>: ", " ms  execute <unnamed>: "] {
        assert_eq!(lines.iter().filter(|line| line.contains(step)).count(), REQUESTS, "{step}");
    }
    assert_eq!(lines.len(), 3 * REQUESTS, "no BEGIN, no ping, nothing else");
}

/// The program on `database`.
fn warm(turn: &Turn, database: &Database<'_>) -> Peace {
    logged(turn, database).serve()
}

/// The same, all of whose statements the server logs.
fn logged(turn: &Turn, database: &Database<'_>) -> Launch {
    database
        .sql_beside()
        .run(&format!("alter database {} set log_min_duration_statement = 0", database.name()));
    Launch::on(turn, database).workers(2)
}

/// Creates one; answers where it can be read.
fn create_user(peace: &Peace) -> String {
    let created = peace.ask(&post("/users").json(&json!({"name": "ann", "password": "pass word"})));
    assert_eq!(created.status, 201);
    created.header("location").expect("201 says where").to_owned()
}

fn check_calls(database: &Database<'_>, peace: &Peace, target: &str) {
    let lines = steps(database, peace, target);
    let count = |step: &str| lines.iter().filter(|line| line.contains(step)).count();
    assert_eq!(count(" ms  execute "), REQUESTS);
    assert_eq!(count(" ms  bind "), REQUESTS);
    assert_eq!(count(" ms  parse "), 0, "nothing is prepared again");
    assert_eq!(lines.len(), 2 * REQUESTS, "no BEGIN, no ping, nothing else");
}

/// Reads it, with one call each; gives what the server logs of them.
fn steps(database: &Database<'_>, peace: &Peace, target: &str) -> Vec<String> {
    let sql = database.sql_beside();
    let mut connections: Vec<Connection> =
        (0..8).map(|_| Connection::open(peace.address()).unwrap()).collect();
    // Every worker has answered it once: what follows is the steady state.
    read(&mut connections, target, 8);
    database.await_counted();

    let reset =
        "select pg_stat_statements_reset(0, oid, 0)::text from pg_database where datname = $1";
    sql.rows(reset, &[&database.name()]);
    let log_start = Cluster::shared().log().len();
    read(&mut connections, target, REQUESTS);
    database.await_counted();

    let rows = sql.rows(
        "select query, calls from pg_stat_statements join pg_database d on d.oid = dbid \
         where datname = $1",
        &[&database.name()],
    );
    let calls: Vec<(String, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    eprintln!("{REQUESTS} x GET {target}: {calls:?}");
    assert_eq!(calls.len(), 1, "one statement and no other");
    assert_eq!(calls[0].1, 1_000, "calls per request: exactly 1.00");

    let log = Cluster::shared().log().split_off(log_start);
    let ours = format!("{}|peace", database.name());
    // A second line tells the parameters of each.
    let is_step = |line: &&str| line.starts_with(&ours) && line.contains("|LOG:");
    log.lines().filter(is_step).map(str::to_owned).collect()
}

fn read(connections: &mut [Connection], target: &str, times: usize) {
    for turn in 0..times {
        let connection = &mut connections[turn % 8];
        assert_eq!(connection.send(&get(target)).unwrap().status, 200);
    }
}
