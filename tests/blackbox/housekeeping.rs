//! Housekeeping: what has expired is deleted, in small parts, by one worker at a time, and nothing
//! else.

use std::time::Duration;

use crate::harness::api::{PASSWORD, sign_up};
use crate::harness::wait::until_true;
use crate::harness::{Connection, Database, Launch, Peace, Turn, get, post};

const SOON: Duration = Duration::from_secs(20);
/// More than one batch of each.
const OLD: i64 = 2_500;

/// Rows that have expired, and one of each kind that has not yet.
const ROWS: &str = r#"
    insert into "user" (id, name) values ('0193a3a0-0000-7000-8000-000000000001', 'ann');
    insert into session (id, user_id, family_hash, token_hash, expires)
        select gen_random_uuid(), '0193a3a0-0000-7000-8000-000000000001', int4send(i), '',
            now() - interval '61 minutes' from generate_series(1, 2500) i;
    insert into session (id, user_id, family_hash, token_hash, expires)
        select gen_random_uuid(), '0193a3a0-0000-7000-8000-000000000001', 'kept', '',
            now() - interval '50 minutes';
    insert into login_tries select now() - interval '1 second', int4send(i), 1, 10
        from generate_series(1, 2500) i;
    insert into login_tries select now() + interval '5 minutes', 'kept', 10, 10;
    insert into idempotency (key, fingerprint, created)
        select int4send(i), '', now() - interval '24 hours' - interval '1 minute'
        from generate_series(1, 2500) i;
    insert into idempotency (key, fingerprint, created)
        select 'kept', '', now() - interval '23 hours'"#;

const LEFT: &str = "select (select count(*) from session) + (select count(*) from login_tries)
    + (select count(*) from idempotency)";

fn served(turn: &Turn, database: &Database<'_>, args: &[&str]) -> Peace {
    let launch = Launch::on(turn, database).workers(2).args(["--housekeeping-interval", "100ms"]);
    launch.args(args.iter().copied()).serve()
}

#[test]
fn what_has_expired_is_deleted_and_nothing_else() {
    let turn = Turn::shared();
    for args in [&[][..], &["--database-pooler", "transaction"]] {
        let database = Database::new(&turn);
        let sql = database.sql();
        sql.run(ROWS);
        assert_eq!(sql.value::<i64>(LEFT, &[]), 3 * OLD + 3);
        let peace = served(&turn, &database, args);
        until_true("what has expired is gone", SOON, || sql.value::<i64>(LEFT, &[]) <= 3);
        for table in ["session", "login_tries", "idempotency"] {
            let count: i64 = sql.value(&format!("select count(*) from {table}"), &[]);
            assert_eq!(count, 1, "{table}");
        }
        peace.await_event("it is told", 0, SOON, |event| event.is("expired rows were deleted"));
    }
}

#[test]
fn who_finds_the_lock_taken_deletes_nothing_and_keeps_nobody_waiting() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let (holder, sql) = (database.sql(), database.sql());
    sql.run(ROWS);
    holder.run("begin; select pg_advisory_xact_lock(482737218405)");
    let peace = served(&turn, &database, &[]);
    // Each round asks for the lock, and is done with it.
    let beside = database.sql_beside();
    let rounds = "select coalesce(sum(calls), 0)::bigint from pg_stat_statements
                  join pg_database d on d.oid = dbid
                  where datname = $1 and query like 'select pg_try_advisory_xact_lock%'";
    until_true("several rounds", SOON, || beside.value::<i64>(rounds, &[&database.name()]) > 6);
    let user = serde_json::json!({"name": "bob", "password": PASSWORD});
    assert_eq!(peace.ask(&post("/users").json(&user)).status, 201);
    assert_eq!(sql.value::<i64>(LEFT, &[]), 3 * OLD + 3);
    let waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted";
    assert_eq!(sql.value::<i64>(waiting, &[]), 0);
    holder.run("rollback");
    until_true("what has expired is gone", SOON, || sql.value::<i64>(LEFT, &[]) <= 3);
}

/// A drain that waits for clients is not one in which work begins.
#[test]
fn a_worker_that_is_to_leave_begins_no_batch() {
    const ROWS: i64 = 40_000;
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let sql = database.sql();
    sql.run(&format!(
        "insert into login_tries select now() - interval '1 second', int4send(i), 1, 10
             from generate_series(1, {ROWS}) i;
         create function slow() returns trigger language plpgsql
             as $$ begin perform pg_sleep(0.1); return null; end $$;
         create trigger slow after delete on login_tries for each statement execute function slow()"
    ));
    let left = || sql.value::<i64>("select count(*) from login_tries", &[]);
    let args = ["--housekeeping-interval", "100ms", "--keepalive-grace", "3s"];
    let mut peace = Launch::on(&turn, &database).workers(1).args(args).serve();
    let mut kept = Connection::open(peace.address()).unwrap();
    assert_eq!(kept.send(&get("/health/live")).unwrap().status, 200);
    until_true("it is at it", SOON, || left() < ROWS);
    peace.stop(SOON);
    assert!(left() > ROWS / 2, "{} of {ROWS} rows are left", left());
}

/// What a worker deletes is not in the way of the request that needs it.
#[test]
fn logins_go_on_beside_it() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = served(&turn, &database, &[]);
    let sql = database.sql();
    sign_up(&peace, "ann");
    for round in 0..20 {
        sql.run("update login_tries set until = now()");
        let login = post("/auth/token").form(&[("username", "ann"), ("password", PASSWORD)]);
        assert_eq!(peace.ask(&login).status, 200, "round {round}");
    }
}
