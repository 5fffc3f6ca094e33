//! A stored password hash that changes while it is being verified, or cannot be changed: of two who
//! write at once the one who knows the newer password wins, and a right login is let in.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::api::{User, check_problem, log_in, sign_up};
use crate::harness::client::Reply;
use crate::harness::database::Sql;
use crate::harness::{Connection, Database, Launch, Peace, Request, Turn, post, put};

/// The password of [`OLD_HASH`], and the hash as the Python template stored it.
const OLD: &str = "MyPass123!U1";
const OLD_HASH: &str = "$2b$12$yXNToxGAcqVb1FwFRbDf6u3rkwDu/zlTQ4CyQlQI/eD4kbuG/zwje";
const NEW_PREFIX: &str = "$argon2id$";
const HASHED_ANEW: &str = "a password was hashed anew at login";
const NOT_HASHED: &str = "a password could not be hashed anew at login";
const SOON: Duration = Duration::from_secs(10);
/// How long a statement may take (README, Limits): whoever waits for a lock in vain takes longer.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);

/// A worker whose one user, ann, has not logged in since her password came from Python.
struct Scene<'a> {
    peace: Peace,
    database: &'a Database<'a>,
    ann: User,
}

impl<'a> Scene<'a> {
    fn new(turn: &Turn, database: &'a Database<'a>) -> Self {
        let peace = Launch::on(turn, database).workers(1).serve();
        let scene = Self { ann: sign_up(&peace, "ann"), peace, database };
        scene.store(&scene.database.sql(), OLD_HASH);
        scene
    }

    fn store(&self, sql: &Sql, hash: &str) {
        sql.run(&format!(r#"update "user" set password_hash = '{hash}'"#));
    }

    fn stored(&self) -> String {
        self.database.sql().value(r#"select password_hash from "user""#, &[])
    }

    fn log_in(&self, password: &str) -> Reply {
        log_in(&self.peace, &[("username", "ann"), ("password", password)])
    }

    fn change(&self, new: &str) -> Request {
        let body = json!({"current": OLD, "new": new});
        put(format!("{}/password", self.ann.place)).bearer(&self.ann.token).json(&body)
    }

    /// A transaction of the test's own that has locked ann's row, as one that changes it does.
    fn lock_row(&self) -> Sql {
        let sql = self.database.sql();
        sql.run(r#"begin; select 1 from "user" for no key update"#);
        sql
    }

    /// Sends a request whose answer has to wait for what the test has locked.
    fn begin(&self, request: &Request) -> Connection {
        let mut client = Connection::open(self.peace.address()).unwrap();
        client.begin(request).unwrap();
        client
    }

    /// Waits for an event of the log.
    fn await_event(&self, name: &str) {
        self.peace.await_event(name, 0, SOON, |event| event.is(name));
    }
}

/// An argon2id hash as the program stores it, of this password.
fn hash_of(scene: &Scene<'_>, password: &str) -> String {
    let body = json!({"name": "maker", "password": password});
    assert_eq!(scene.peace.ask(&post("/users").json(&body)).status, 201);
    let sql = scene.database.sql();
    let hash = sql.value(r#"select password_hash from "user" where name = 'maker'"#, &[]);
    sql.run(r#"delete from "user" where name = 'maker'"#);
    hash
}

#[test]
fn a_password_that_changed_during_a_login_is_not_put_back() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let scene = Scene::new(&turn, &database);
    let newer = hash_of(&scene, "a-newer-password");
    let sql = database.sql();
    // Whoever reads goes on, whoever writes waits, whatever rows it locks.
    sql.run(r#"begin; lock table "user" in share row exclusive mode"#);
    let login = post("/auth/token").form(&[("username", "ann"), ("password", OLD)]);
    let mut client = scene.begin(&login);
    database.await_waiting(1);
    scene.store(&sql, &newer);
    sql.run("commit");
    assert_eq!(client.finish(&login).unwrap().status, 200, "it was right when it was looked at");
    assert_eq!(scene.stored(), newer);
    check_problem(&scene.log_in(OLD), 401, "the password of before");
    assert_eq!(scene.log_in("a-newer-password").status, 200);
}

/// Otherwise whoever knows the password of before could begin a session that its change does not
/// end.
#[test]
fn a_login_that_meets_a_change_of_the_password_begins_no_session() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let scene = Scene::new(&turn, &database);
    let newer = hash_of(&scene, "a-newer-password");
    let sql = database.sql();
    sql.run(r#"begin; select 1 from "user" for update; delete from session"#);
    let login = post("/auth/token").form(&[("username", "ann"), ("password", OLD)]);
    let mut client = scene.begin(&login);
    database.await_waiting(1);
    scene.store(&sql, &newer);
    sql.run("commit");
    check_problem(&client.finish(&login).unwrap(), 401, "the password of before");
    assert_eq!(database.sql().value::<i64>("select count(*) from session", &[]), 0);
    assert_eq!(scene.log_in("a-newer-password").status, 200);
}

#[test]
fn a_login_goes_on_where_another_one_has_stored_the_same_password_anew() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let scene = Scene::new(&turn, &database);
    let same = hash_of(&scene, OLD);
    let sql = database.sql();
    sql.run(r#"begin; select 1 from "user" for update"#);
    let login = post("/auth/token").form(&[("username", "ann"), ("password", OLD)]);
    let mut client = scene.begin(&login);
    database.await_waiting(1);
    scene.store(&sql, &same);
    sql.run("commit");
    assert_eq!(client.finish(&login).unwrap().status, 200, "the password is right");
    assert_eq!(scene.stored(), same);
}

#[test]
fn of_two_changes_at_once_one_is_refused() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let scene = Scene::new(&turn, &database);
    let row = scene.lock_row();
    let words = ["the-first-word", "the-second-word"];
    let changes = words.map(|new| scene.change(new));
    let mut clients: Vec<Connection> = changes.iter().map(|one| scene.begin(one)).collect();
    database.await_waiting(2);
    row.run("commit");
    let replies: Vec<Reply> = clients
        .iter_mut()
        .zip(&changes)
        .map(|(client, change)| client.finish(change).unwrap())
        .collect();
    let won = replies.iter().position(|reply| reply.status == 204).expect("one is taken");
    check_problem(&replies[1 - won], 403, "its current password is no longer the one");
    assert_eq!(replies[1 - won].json()["type"], "/problems/wrong-password");
    assert_eq!(scene.log_in(words[won]).status, 200);
    check_problem(&scene.log_in(words[1 - won]), 401, "the refused one");
}

#[test]
fn a_change_goes_on_where_a_login_has_stored_the_same_password_anew() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let scene = Scene::new(&turn, &database);
    let same = hash_of(&scene, OLD);
    let row = scene.lock_row();
    let change = scene.change("a-newer-password");
    let mut client = scene.begin(&change);
    database.await_waiting(1);
    scene.store(&row, &same);
    row.run("commit");
    assert_eq!(client.finish(&change).unwrap().status, 204, "the current password is right");
    assert_eq!(scene.log_in("a-newer-password").status, 200);
    check_problem(&scene.log_in(OLD), 401, "the password of before");
}

#[test]
fn a_login_does_not_wait_for_whoever_has_locked_the_row() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let scene = Scene::new(&turn, &database);
    let row = scene.lock_row();
    let start = Instant::now();
    assert_eq!(scene.log_in(OLD).status, 200);
    let took = start.elapsed();
    eprintln!("a login on a bcrypt hash whose row is locked: {took:?}");
    assert!(took < STATEMENT_TIMEOUT, "{took:?}");
    assert_eq!(scene.stored(), OLD_HASH);
    row.run("commit");
    assert_eq!(scene.log_in(OLD).status, 200);
    assert!(scene.stored().starts_with(NEW_PREFIX), "the next login stores it");
    scene.await_event(HASHED_ANEW);
    let events = scene.peace.log().events();
    assert!(!events.iter().any(|event| event.is(NOT_HASHED)), "nothing to warn of");
}

#[test]
fn a_password_that_cannot_be_stored_anew_lets_its_user_in() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let scene = Scene::new(&turn, &database);
    let sql = database.sql();
    sql.run(
        r#"create function refuse() returns trigger language plpgsql
               as $$ begin raise exception 'no'; end $$;
           create trigger refuse before update on "user" for each row execute function refuse()"#,
    );
    for _ in 0..2 {
        assert_eq!(scene.log_in(OLD).status, 200);
    }
    scene.await_event(NOT_HASHED);
    assert_eq!(scene.stored(), OLD_HASH);
    check_problem(&scene.log_in("another-word"), 401, "another password");
    sql.run(r#"drop trigger refuse on "user""#);
    assert_eq!(scene.log_in(OLD).status, 200);
    assert!(scene.stored().starts_with(NEW_PREFIX));
}
