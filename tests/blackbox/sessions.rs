//! Sessions: one who refreshes wins, a token that comes again ends its session, and what is over is
//! over on every worker.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::harness::api::{
    PASSWORD, User, add_item, check_problem, connections_to_each, log_in, sign_up,
};
use crate::harness::client::Reply;
use crate::harness::peace::signal_to;
use crate::harness::{Connection, Database, Launch, Peace, Request, Turn, get, post, put, request};

const AT_ONCE: usize = 20;
const ROUNDS: usize = 200;
const WORKERS: usize = 4;
const SOON: Duration = Duration::from_secs(10);

fn refresh(token: &str) -> Request {
    post("/auth/refresh").form(&[("refresh_token", token)])
}

/// The tokens of an answer: for the API, and for the next ones.
fn tokens(reply: &Reply) -> (String, String) {
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    let body = reply.json();
    let text = |name: &str| body[name].as_str().expect("a token").to_owned();
    (text("access_token"), text("refresh_token"))
}

/// Another session of this user.
fn log_in_again(peace: &Peace, name: &str) -> (String, String) {
    tokens(&log_in(peace, &[("username", name), ("password", PASSWORD)]))
}

fn rename(user: &User, token: &str) -> Request {
    put(&user.place).bearer(token).json(&json!({"fullname": "Ann"}))
}

/// What each worker answers.
fn statuses(connections: &mut [Connection], request: &Request) -> Vec<u16> {
    connections.iter_mut().map(|one| one.send(request).unwrap().status).collect()
}

#[test]
fn of_twenty_who_refresh_with_one_token_at_once_one_is_given_the_next() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(WORKERS).serve();
    let mut token = sign_up(&peace, "ann").refresh_token;
    let mut connections: Vec<Connection> =
        (0..AT_ONCE).map(|_| Connection::open(peace.address()).unwrap()).collect();
    for round in 0..ROUNDS {
        let asked = refresh(&token);
        connections.iter_mut().for_each(|one| one.begin(&asked).unwrap());
        let replies = connections.iter_mut().map(|one| one.finish(&asked).unwrap());
        let (won, lost): (Vec<Reply>, Vec<Reply>) = replies.partition(|one| one.status == 200);
        assert_eq!((won.len(), lost.len()), (1, AT_ONCE - 1), "round {round}");
        assert!(lost.iter().all(|one| one.status == 401), "round {round}: {lost:?}");
        // Whether it works the next round tells.
        token = tokens(&won[0]).1;
    }
    assert_eq!(peace.ask(&refresh(&token)).status, 200);
}

/// What twenty new connections hear that refresh with one token at once.
fn race(address: SocketAddr, token: &str) -> Vec<io::Result<Reply>> {
    let asked = refresh(token).header("connection", "close");
    let ask = || {
        let mut connection = Connection::open(address)?;
        connection.begin(&asked)?;
        Ok(connection)
    };
    let connections: Vec<io::Result<Connection>> = (0..AT_ONCE).map(|_| ask()).collect();
    connections.into_iter().map(|one| one?.finish(&asked)).collect()
}

#[test]
fn rolls_an_upgrade_and_a_killed_worker_make_no_second_winner() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(WORKERS).serve();
    sign_up(&peace, "ann");
    let mut token = log_in_again(&peace, "ann").1;
    let mut rounds = |disturbance: &(dyn Fn() + Sync), may_lose: bool| {
        let mut count = 0;
        thread::scope(|scope| {
            let disturbed = scope.spawn(disturbance);
            while !disturbed.is_finished() || count < 5 {
                let replies = race(peace.address(), &token);
                let lost = replies.iter().filter(|one| one.is_err()).count();
                let replies: Vec<Reply> = replies.into_iter().flatten().collect();
                assert!(lost == 0 || may_lose, "{lost} got no answer");
                let won: Vec<&Reply> = replies.iter().filter(|one| one.status == 200).collect();
                assert!(won.len() == 1 || (won.is_empty() && lost > 0), "{} winners", won.len());
                // The one whose answer was lost has to log in again.
                token = match won.first() {
                    Some(won) => tokens(won).1,
                    None => log_in_again(&peace, "ann").1,
                };
                count += 1;
            }
        });
        count
    };
    let roll = |order: &str| {
        let told = peace.ctl([order, "--wait"]);
        assert!(told.status.success(), "{told:?}");
    };
    let in_rolls = rounds(&|| roll("reload"), false) + rounds(&|| roll("reload"), false);
    let in_upgrades = rounds(&|| roll("upgrade"), false);
    let in_kills = rounds(
        &|| {
            let mark = peace.log().len();
            let (slot, pid) = peace.workers().into_iter().next().expect("a worker");
            signal_to(pid, Signal::SIGKILL);
            peace.await_event("a successor", mark, SOON, |event| {
                event.is_worker("ready") && event.number_of("slot") == Some(slot)
            });
        },
        true,
    );
    eprintln!(
        "{AT_ONCE} at once: {in_rolls} times beside rolls, {in_upgrades} beside an upgrade, \
         {in_kills} beside a kill"
    );
    assert_eq!(peace.ask(&refresh(&token)).status, 200);
}

#[test]
fn a_token_that_comes_again_after_the_grace_ends_its_session_on_every_worker() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(WORKERS).serve();
    let ann = sign_up(&peace, "ann");
    let other = log_in_again(&peace, "ann");
    let second = tokens(&peace.ask(&refresh(&ann.refresh_token)));
    let third = tokens(&peace.ask(&refresh(&second.1)));
    // Both were used a moment ago: no harm is done.
    for used in [&ann.refresh_token, &second.1, &ann.refresh_token] {
        check_problem(&peace.ask(&refresh(used)), 401, "used a moment ago");
    }
    let fourth = tokens(&peace.ask(&refresh(&third.1)));
    assert_eq!(peace.ask(&rename(&ann, &fourth.0)).status, 200);

    // Eleven seconds go by.
    database.sql().run(
        "update session set spent_at = array(select at - interval '11 s' from unnest(spent_at) at)",
    );
    let mut workers = connections_to_each(&peace, 1);
    let reused = workers[0].send(&refresh(&second.1)).unwrap();
    check_problem(&reused, 401, "used long ago");
    assert_eq!(reused.json()["error"], "invalid_grant");
    peace.await_event("the thief is told of", 0, SOON, |event| {
        event.is("a refresh token was used again: its session is over")
    });
    assert_eq!(statuses(&mut workers, &refresh(&fourth.1)), [401; WORKERS], "the token of now");
    for token in [&ann.token, &fourth.0] {
        assert_eq!(statuses(&mut workers, &rename(&ann, token)), [401; WORKERS], "writes");
    }
    assert_eq!(statuses(&mut workers, &get(&ann.place)), [200; WORKERS], "reading needs no token");
    // Another session of the same user has nothing to do with it.
    assert_eq!(statuses(&mut workers, &rename(&ann, &other.0)), [200; WORKERS]);
    assert_eq!(peace.ask(&refresh(&other.1)).status, 200);
}

#[test]
fn of_the_tokens_used_within_the_grace_the_last_sixteen_do_no_harm() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(1).args(["--refresh-grace", "10m"]).serve();
    let mut used = vec![sign_up(&peace, "ann").refresh_token];
    let mut last = tokens(&peace.ask(&refresh(&used[0]))).1;
    for _ in 1..17 {
        let next = tokens(&peace.ask(&refresh(&last))).1;
        used.push(std::mem::replace(&mut last, next));
    }
    for token in &used[1..] {
        check_problem(&peace.ask(&refresh(token)), 401, "one of the last sixteen");
    }
    used.push(last.clone());
    last = tokens(&peace.ask(&refresh(&last))).1;
    check_problem(&peace.ask(&refresh(&used[1])), 401, "the seventeenth");
    check_problem(&peace.ask(&refresh(&last)), 401, "the session is over");
}

#[test]
fn a_users_hundred_newest_sessions_go_on_and_older_ones_give_way() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(1).serve();
    let (ann, bob) = (sign_up(&peace, "ann"), sign_up(&peace, "bob"));
    let sql = database.sql();
    // Beside the one that each has: of these every one is a minute older than the one before.
    sql.run(
        "insert into session (id, user_id, family_hash, token_hash, created, expires)
         select gen_random_uuid(), user_id, int4send(i) || uuid_send(user_id), '',
             now() - i * interval '1 minute', now() + interval '1 day'
         from session, generate_series(1, 110) i",
    );
    let count = |user: &User| {
        let of = "select count(*) from session where user_id = $1";
        sql.value::<i64>(of, &[&user.pubid.parse::<uuid::Uuid>().unwrap()])
    };
    assert_eq!((count(&ann), count(&bob)), (111, 111));
    let wrong = log_in(&peace, &[("username", "ann"), ("password", "another-word")]);
    check_problem(&wrong, 401, "who is not let in ends nothing");
    assert_eq!(count(&ann), 111);
    let new = log_in_again(&peace, "ann");
    assert_eq!((count(&ann), count(&bob)), (100, 111));
    assert_eq!(peace.ask(&rename(&ann, &ann.token)).status, 200, "one of the newest");
    assert_eq!(peace.ask(&rename(&ann, &new.0)).status, 200, "the newest");
    let oldest = "select (extract(epoch from now() - min(created)) / 60)::int from session
                  where user_id = $1";
    let oldest: i32 = sql.value(oldest, &[&ann.pubid.parse::<uuid::Uuid>().unwrap()]);
    assert!((98..=99).contains(&oldest), "{oldest}: the oldest gave way");
}

#[test]
fn without_a_grace_the_second_use_ends_the_session() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(1).args(["--refresh-grace", "0"]).serve();
    let ann = sign_up(&peace, "ann");
    let next = tokens(&peace.ask(&refresh(&ann.refresh_token)));
    check_problem(&peace.ask(&refresh(&ann.refresh_token)), 401, "used before");
    check_problem(&peace.ask(&refresh(&next.1)), 401, "its successor");
}

#[test]
fn who_logs_out_writes_nothing_any_more() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(WORKERS).serve();
    let ann = sign_up(&peace, "ann");
    let item = add_item(&peace, &ann, "thing");
    let [one, two, three] = [(); 3].map(|()| log_in_again(&peace, "ann"));
    let mut workers = connections_to_each(&peace, 1);
    let writes = |token: &str| {
        let secret = json!({"current": PASSWORD, "new": "another-word"});
        let new = json!({"name": "a", "user_pubid": ann.pubid});
        [
            rename(&ann, token),
            request("PATCH", &ann.place).json(&json!({"fullname": "Ann"})).bearer(token),
            request("PATCH", &ann.place).json(&json!({})).bearer(token),
            put(format!("{}/password", ann.place)).json(&secret).bearer(token),
            request("DELETE", &ann.place).bearer(token),
            post("/items").json(&new).bearer(token),
            post("/items").json(&new).bearer(token).header("idempotency-key", "once"),
            put(&item).json(&json!({"added": "2024-12-12"})).bearer(token),
            request("PATCH", &item).json(&json!({})).bearer(token),
            request("DELETE", &item).bearer(token),
            post("/auth/logout").bearer(token),
            post("/auth/logout-all").bearer(token),
        ]
    };
    let mut check_over = |tokens: &(String, String), what: &str| {
        for write in writes(&tokens.0) {
            for reply in workers.iter_mut().map(|one| one.send(&write).unwrap()) {
                check_problem(&reply, 401, &format!("{what}: {write:?}"));
            }
        }
        assert_eq!(statuses(&mut workers, &refresh(&tokens.1)), [401; WORKERS], "{what}");
    };
    let logout = peace.ask(&post("/auth/logout").bearer(&one.0));
    assert_eq!((logout.status, logout.body.len()), (204, 0));
    check_over(&one, "one session");
    assert_eq!(peace.ask(&rename(&ann, &two.0)).status, 200, "another session goes on");

    assert_eq!(peace.ask(&post("/auth/logout-all").bearer(&two.0)).status, 204);
    for (tokens, what) in [(&two, "the one that asked"), (&three, "all others")] {
        check_over(tokens, what);
    }
    let again = log_in_again(&peace, "ann");
    assert_eq!(peace.ask(&request("DELETE", &ann.place).bearer(&again.0)).status, 200);
    check_over(&again, "a user who is gone");
}

#[test]
fn a_new_password_ends_all_other_sessions() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(1).serve();
    let (ann, bob) = (sign_up(&peace, "ann"), sign_up(&peace, "bob"));
    let other = log_in_again(&peace, "ann");
    let body = json!({"current": PASSWORD, "new": "another-word"});
    let change = put(format!("{}/password", ann.place)).bearer(&ann.token).json(&body);
    assert_eq!(peace.ask(&change).status, 204);
    check_problem(&peace.ask(&rename(&ann, &other.0)), 401, "another session");
    check_problem(&peace.ask(&refresh(&other.1)), 401, "its refresh token");
    assert_eq!(peace.ask(&rename(&ann, &ann.token)).status, 200, "the one that has changed it");
    assert_eq!(peace.ask(&refresh(&ann.refresh_token)).status, 200);
    assert_eq!(peace.ask(&rename(&bob, &bob.token)).status, 200, "somebody else's");
}

/// Also where the server's default would have the change see nothing that was saved since it began.
#[test]
fn a_session_that_begins_while_a_new_password_waits_for_it_is_ended() {
    let turn = Turn::shared();
    for isolation in ["read committed", "repeatable read", "serializable"] {
        let database = Database::new(&turn);
        let name = database.name();
        let default = format!("alter database {name} set default_transaction_isolation = ");
        database.sql_beside().run(&format!("{default}'{isolation}'"));
        let peace = Launch::on(&turn, &database).workers(1).serve();
        let ann = sign_up(&peace, "ann");
        // As a login does, which is not saved yet.
        let (login, sql) = (database.sql(), database.sql());
        login.run(
            r#"begin isolation level read committed; select from "user" for key share;
               insert into session (id, user_id, family_hash, token_hash, expires)
               select gen_random_uuid(), id, 'new', '', now() + interval '30 days' from "user""#,
        );
        let body = json!({"current": PASSWORD, "new": "another-word"});
        let change = put(format!("{}/password", ann.place)).bearer(&ann.token).json(&body);
        let mut client = Connection::open(peace.address()).unwrap();
        client.begin(&change).unwrap();
        database.await_waiting(1);
        login.run("commit");
        assert_eq!(client.finish(&change).unwrap().status, 204, "{isolation}");
        let left = sql.value::<i64>("select count(*) from session", &[]);
        assert_eq!(left, 1, "{isolation}: the one that has changed it");
    }
}

#[test]
fn a_session_is_over_after_thirty_days_however_often_it_was_refreshed() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(1).serve();
    let ann = sign_up(&peace, "ann");
    let token = tokens(&peace.ask(&refresh(&ann.refresh_token))).1;
    let days: f64 = database
        .sql()
        .value("select extract(epoch from expires - created)::float8 / 86400 from session", &[]);
    assert!((days - 30.0).abs() < 0.001, "{days}");
    database.sql().run("update session set expires = now()");
    check_problem(&peace.ask(&refresh(&token)), 401, "the last moment is over");
}

#[test]
fn what_is_stored_opens_nothing() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(1).serve();
    let ann = sign_up(&peace, "ann");
    let stored: String = database.sql().value("select session::text from session", &[]);
    assert!(
        !stored.contains(&ann.refresh_token[..64]) && !stored.contains(&ann.refresh_token[64..])
    );
    let hashes: String = database
        .sql()
        .value("select encode(family_hash, 'hex') || encode(token_hash, 'hex') from session", &[]);
    check_problem(&peace.ask(&refresh(&hashes)), 401, "what somebody has read");
    assert_eq!(
        peace.ask(&refresh(&ann.refresh_token)).status,
        200,
        "who only guesses ends nothing"
    );
}

/// As README says: announce the new one, change over, and later drop the old one.
#[test]
fn a_change_of_the_secret_in_three_steps_is_not_noticed() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let launch = Launch::on(&turn, &database).workers(WORKERS);
    let file = |name: &str| launch.folder().path().join(name);
    let (current, previous) = (file("current"), file("previous"));
    let write = |now: &str, other: &str| {
        fs::write(&current, format!("a secret of 32 bytes and more, {now}")).unwrap();
        fs::write(&previous, format!("a secret of 32 bytes and more, {other}")).unwrap();
    };
    write("the first", "none");
    let peace = launch
        .env("JWT_SECRET_KEY_FILE", current.to_str().unwrap())
        .env("JWT_SECRET_KEY_PREVIOUS_FILE", previous.to_str().unwrap())
        .serve();
    let ann = sign_up(&peace, "ann");
    write("the first", "the second");
    let (announced, token) = write_beside_a_reload(&peace, &ann, &ann.refresh_token);
    write("the second", "the first");
    let (changed, token) = write_beside_a_reload(&peace, &ann, &token);
    eprintln!("{announced} and {changed} times written beside the two reloads, with new tokens");

    let head = |token: &str| token.split('.').next().unwrap().to_owned();
    let mut workers = connections_to_each(&peace, 1);
    assert_eq!(
        statuses(&mut workers, &rename(&ann, &ann.token)),
        [200; WORKERS],
        "the first one's"
    );
    let next = tokens(&peace.ask(&refresh(&token)));
    assert_ne!(head(&next.0), head(&ann.token), "new tokens name the new key");
    write("the second", "none");
    assert!(peace.ctl(["reload", "--wait"]).status.success());
    check_problem(&peace.ask(&rename(&ann, &ann.token)), 401, "a key that is gone opens nothing");
    assert_eq!(peace.ask(&rename(&ann, &next.0)).status, 200);
    assert_eq!(peace.ask(&refresh(&next.1)).status, 200, "a session needs no key");
}

/// Refreshes and writes with what that gives, and with the token of before, while all workers are
/// replaced; gives how often, and the refresh token that is good then.
fn write_beside_a_reload(peace: &Peace, user: &User, token: &str) -> (usize, String) {
    let (mut count, mut token) = (0, token.to_owned());
    thread::scope(|scope| {
        let reload = scope.spawn(|| peace.ctl(["reload", "--wait"]));
        while !reload.is_finished() || count < 10 {
            let (access, next) = tokens(&peace.ask(&refresh(&token)));
            for access in [&access, &access, &access, &user.token] {
                let reply = peace.ask(&rename(user, access));
                assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
                count += 1;
            }
            token = next;
        }
        assert!(reload.join().unwrap().status.success());
    });
    (count, token)
}

#[test]
fn sessions_are_the_same_behind_a_transaction_pooler() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let pooled = ["--database-pooler", "transaction"];
    let peace = Launch::on(&turn, &database).workers(1).args(pooled).serve();
    let ann = sign_up(&peace, "ann");
    let next = tokens(&peace.ask(&refresh(&ann.refresh_token)));
    check_problem(&peace.ask(&refresh(&ann.refresh_token)), 401, "used a moment ago");
    assert_eq!(peace.ask(&rename(&ann, &next.0)).status, 200);
    let wrong = log_in(&peace, &[("username", "ann"), ("password", "another-word")]);
    check_problem(&wrong, 401, "a wrong password");
    assert_eq!(peace.ask(&post("/auth/logout-all").bearer(&next.0)).status, 204);
    check_problem(&peace.ask(&rename(&ann, &next.0)), 401, "logged out");
}
