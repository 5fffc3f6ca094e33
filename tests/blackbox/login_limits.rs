//! Login limits: of wrong passwords exactly so many are looked at, on however many workers, and
//! right ones from elsewhere still are.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::harness::api::{PASSWORD, User, check_problem, connections_to_each, log_in, sign_up};
use crate::harness::client::Reply;
use crate::harness::log::Event;
use crate::harness::peace::signal_to;
use crate::harness::wait::until_true;
use crate::harness::{Connection, Database, Launch, Peace, Request, Turn, post, put};
use crate::upgrade::status;

const WORKERS: usize = 4;
/// To each of them.
const CONNECTIONS: usize = 4;
const TRIES: usize = 200;
/// How many are looked at (README, Limits).
const NAME_MAX: usize = 10;
const ADDRESS_MAX: usize = 100;
const QUEUE_MAX: usize = 32;
const SOON: Duration = Duration::from_secs(10);
/// Whose word counts in these tests, and from whom requests come.
const TRUSTED: [&str; 2] = ["--trusted-proxies", "127.0.0.1"];

fn login(name: &str, password: &str) -> Request {
    post("/auth/token").form(&[("username", name), ("password", password)])
}

fn wrong(name: &str) -> Request {
    login(name, "another-word")
}

fn from(request: Request, address: &str) -> Request {
    request.header("x-forwarded-for", address)
}

fn check_over(reply: &Reply, what: &str) {
    check_problem(reply, 429, what);
    let retry_after: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=900).contains(&retry_after), "{what}: {retry_after}");
    assert_eq!(reply.json()["type"], "/problems/too-many-tries", "{what}");
}

/// Sends them over some connections to each worker at once; counts the statuses.
fn at_once(peace: &Peace, requests: &[Request]) -> BTreeMap<u16, usize> {
    let connections = connections_to_each(peace, CONNECTIONS);
    let ask = |part: &[Request], mut connection: Connection| {
        let statuses = part.iter().map(|one| connection.send(one).unwrap().status);
        statuses.collect::<Vec<u16>>()
    };
    let mut counts = BTreeMap::new();
    thread::scope(|scope| {
        let parts = requests.chunks(requests.len().div_ceil(connections.len())).zip(connections);
        let clients: Vec<_> =
            parts.map(|(part, connection)| scope.spawn(move || ask(part, connection))).collect();
        for status in clients.into_iter().flat_map(|client| client.join().unwrap()) {
            *counts.entry(status).or_default() += 1;
        }
    });
    counts
}

/// How many passwords were compared with a hash, by the log.
fn compared(peace: &Peace) -> usize {
    peace.log().events().iter().filter(|event| event.is("a password is compared")).count()
}

fn served(turn: &Turn, database: &Database<'_>) -> Peace {
    let launch = Launch::on(turn, database).workers(WORKERS).args(TRUSTED);
    launch.env("RUST_LOG", "peace::security=debug,info").serve()
}

#[test]
fn of_two_hundred_wrong_passwords_ten_are_looked_at() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let mut peace = served(&turn, &database);
    sign_up(&peace, "ann");
    let before = compared(&peace);
    let counts = at_once(&peace, &vec![wrong("ann"); TRIES]);
    assert_eq!(counts, BTreeMap::from([(401, NAME_MAX), (429, TRIES - NAME_MAX)]));
    assert_eq!(compared(&peace) - before, NAME_MAX);

    let right = login("ann", PASSWORD);
    let check_still_over = |peace: &Peace, what: &str| {
        check_over(&peace.ask(&wrong("ann")), what);
        check_over(&peace.ask_told(&right), &format!("{what}, a right password"));
    };
    check_still_over(&peace, "after them");
    let mut elsewhere =
        Connection::open_from(Ipv4Addr::new(127, 0, 0, 2), peace.address()).unwrap();
    assert_eq!(elsewhere.send(&right).unwrap().status, 200, "ann is somewhere else");
    check_still_over(&peace, "after a right one from elsewhere");
    assert_eq!(peace.ask(&wrong("bob")).status, 401, "another name");

    let mark = peace.log().len();
    let (slot, pid) = peace.workers().into_iter().next().unwrap();
    signal_to(pid, Signal::SIGKILL);
    peace.await_event("a successor", mark, SOON, |event| {
        event.is_worker("ready") && event.number_of("slot") == Some(slot)
    });
    check_still_over(&peace, "after a kill");
    for (order, what) in [("reload", "after a roll"), ("upgrade", "after an upgrade")] {
        let told = peace.ctl([order, "--wait"]);
        assert!(told.status.success(), "{told:?}");
        check_still_over(&peace, what);
    }
    // The right one from elsewhere, and that of bob.
    assert_eq!(compared(&peace) - before, NAME_MAX + 2, "nothing else was looked at");
    peace.stop(SOON);
    peace.start_again();
    peace.await_serving();
    check_still_over(&peace, "after a start");
    assert_eq!(compared(&peace), 0, "nothing of that was looked at");

    // The limits of another version of the program end with its window.
    database.sql().run("update login_tries set until = now(), count = 0, count_max = 0");
    assert_eq!(peace.ask(&right).status, 200, "a quarter of an hour later");
}

#[test]
fn from_one_address_a_hundred_are_looked_at_whatever_the_names() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = served(&turn, &database);
    sign_up(&peace, "ann");
    let requests: Vec<Request> = (0..150).map(|user| wrong(&format!("user-{user}"))).collect();
    let counts = at_once(&peace, &requests);
    assert_eq!(counts, BTreeMap::from([(401, ADDRESS_MAX), (429, 150 - ADDRESS_MAX)]));
    check_over(&peace.ask(&login("ann", PASSWORD)), "a name that nobody has tried");
    assert_eq!(peace.ask(&from(login("ann", PASSWORD), "192.0.2.1")).status, 200, "elsewhere");
}

#[test]
fn a_right_password_forgets_the_wrong_ones_before_it() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = served(&turn, &database);
    sign_up(&peace, "ann");
    for round in 0..3 {
        for _ in 1..NAME_MAX {
            assert_eq!(peace.ask(&wrong("ann")).status, 401, "round {round}");
        }
        assert_eq!(peace.ask(&login("ann", PASSWORD)).status, 200, "round {round}");
    }
    let count: i64 = database.sql().value(
        "select count from (select count::bigint from login_tries where count_max = 100) one",
        &[],
    );
    assert_eq!(count, 3 * (NAME_MAX as i64 - 1), "the address has failed so often");
}

#[test]
fn only_a_trusted_proxy_is_believed_about_addresses() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = served(&turn, &database);
    let mut stranger = Connection::open_from(Ipv4Addr::new(127, 0, 0, 2), peace.address()).unwrap();
    for last in 0..NAME_MAX {
        let claimed = from(wrong("ann"), &format!("192.0.2.{last}"));
        assert_eq!(stranger.send(&claimed).unwrap().status, 401);
    }
    let claimed = from(wrong("ann"), "192.0.2.99");
    check_over(&stranger.send(&claimed).unwrap(), "whoever it claims to be");
    let is_warning = |event: &Event| event.text.contains("is not in --trusted-proxies");
    peace.await_event("whom nobody believes", 0, SOON, is_warning);
    let warnings = peace.log().events().into_iter().filter(is_warning).count();
    assert_eq!(warnings, 1, "once by the worker that was asked");
    // The proxy's last word counts, what stands before it may be the client's.
    for last in 0..NAME_MAX {
        let passed_on = from(wrong("ann"), &format!("198.51.100.{last}, 203.0.113.7"));
        assert_eq!(peace.ask(&passed_on).status, 401);
    }
    check_over(&peace.ask(&from(wrong("ann"), "198.51.100.99, 203.0.113.7")), "one client");
    assert_eq!(peace.ask(&from(wrong("ann"), "203.0.113.8")).status, 401, "another client");
    // A proxy that writes one header passes on the other as the client made it up; also where it had
    // to append to what is no text.
    for last in 0..NAME_MAX {
        let made_up = from(wrong("ann"), "é, 203.0.113.7");
        let made_up = made_up.header("forwarded", format!("for=192.0.2.{last}"));
        assert_eq!(peace.ask(&made_up).status, 401);
    }
    let made_up = from(wrong("ann"), "unknown").header("forwarded", "for=192.0.2.99");
    check_over(&peace.ask(&made_up), "the proxy itself");
    // A site is one client, whichever of its addresses it takes.
    for last in 0..NAME_MAX {
        let moved = from(wrong("ann"), &format!("2001:db8:1:2::{last:x}"));
        assert_eq!(peace.ask(&moved).status, 401);
    }
    check_over(&peace.ask(&from(wrong("ann"), "2001:db8:1:2:ffff::1")), "one site");
    assert_eq!(peace.ask(&from(wrong("ann"), "2001:db8:1:3::1")).status, 401, "another site");
}

#[test]
fn who_has_a_token_may_not_guess_the_password_either() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = served(&turn, &database);
    let (ann, bob) = (sign_up(&peace, "ann"), sign_up(&peace, "bob"));
    for _ in 0..NAME_MAX {
        check_problem(&peace.ask(&change(&ann, "another-word")), 403, "a wrong one");
    }
    check_over(&peace.ask(&change(&ann, PASSWORD)), "one too many");
    assert_eq!(peace.ask(&login("ann", PASSWORD)).status, 200, "logging in is another matter");
    assert_eq!(peace.ask(&change(&bob, PASSWORD)).status, 204, "another user, who is as near");
}

fn change(user: &User, current: &str) -> Request {
    let body = json!({"current": current, "new": "a-newer-password"});
    put(format!("{}/password", user.place)).bearer(&user.token).json(&body)
}

#[test]
fn what_was_refused_for_another_reason_does_not_count() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = served(&turn, &database);
    let ann = sign_up(&peace, "ann");
    for _ in 0..=NAME_MAX {
        let of_another_version = change(&ann, PASSWORD).header("if-match", "\"of-nothing\"");
        check_problem(&peace.ask(&of_another_version), 412, "the password was right");
    }
    assert_eq!(counted(&database), 0);
    assert_eq!(peace.ask(&change(&ann, PASSWORD)).status, 204);
}

/// Tries that count for their addresses.
fn counted(database: &Database<'_>) -> i64 {
    let counted = "select coalesce(sum(count), 0) from login_tries where count_max = 100";
    database.sql().value(counted, &[])
}

#[test]
fn whose_clients_leave_before_the_answer_are_not_shut_out() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(1).serve();
    sign_up(&peace, "ann");
    let right = login("ann", PASSWORD);
    // Two of the pool, and the lane.
    database.await_warm(3);
    let (lock, sql) = (database.sql(), database.sql());
    let sessions = || sql.value::<i64>("select count(*) from session", &[]);
    for round in 1..=NAME_MAX as i64 {
        lock.run(r#"begin; lock table "user" in access exclusive mode"#);
        let mut client = Connection::open(peace.address()).unwrap();
        client.begin(&right).unwrap();
        database.await_waiting(1);
        assert_eq!(counted(&database), 1, "the try has begun");
        drop(client);
        until_true("the server notices it", SOON, || {
            status(&peace)["workers"][0]["connections"] == 0
        });
        lock.run("commit");
        until_true("the try is at its end", SOON, || {
            sessions() == 1 + round && counted(&database) == 0
        });
    }
    assert_eq!(peace.ask(&right).status, 200, "who waits");
}

#[test]
fn who_finds_the_queue_full_costs_no_statement_and_is_not_counted() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let waiting = QUEUE_MAX + 1;
    let pool = ["--pool-size", "40"];
    let peace = Launch::on(&turn, &database).workers(1).args(TRUSTED).args(pool).serve();
    sign_up(&peace, "ann");
    database.await_warm(41);
    let (lock, beside) = (database.sql(), database.sql_beside());
    // Who reads goes on, who counts waits.
    lock.run("begin; lock table login_tries in share row exclusive mode");
    let mut clients: Vec<(Connection, Request)> = (0..waiting)
        .map(|last| {
            let client = Connection::open(peace.address()).unwrap();
            (client, from(wrong("ann"), &format!("192.0.2.{last}")))
        })
        .collect();
    clients.iter_mut().for_each(|(client, request)| client.begin(request).unwrap());
    database.await_waiting(waiting);
    let reset =
        "select pg_stat_statements_reset(0, oid, 0)::text from pg_database where datname = $1";
    beside.rows(reset, &[&database.name()]);
    for _ in 0..10 {
        let refused = peace.ask_told(&login("ann", PASSWORD));
        check_problem(&refused, 503, "all places are taken");
        assert_eq!(refused.header("retry-after"), Some("1"));
    }
    let asked = "select count(*) from pg_stat_statements join pg_database d on d.oid = dbid
                 where datname = $1 and (query like '%login_tries%' or query like '%\"user\"%')";
    assert_eq!(beside.value::<i64>(asked, &[&database.name()]), 0);
    lock.run("commit");
    for (client, request) in &mut clients {
        assert_eq!(client.finish(request).unwrap().status, 401);
    }
    assert_eq!(counted(&database), waiting as i64, "those who had a place");
    assert_eq!(peace.ask(&login("ann", PASSWORD)).status, 200);
}

#[test]
fn who_is_over_the_limit_until_others_have_ended_may_come_again_soon() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let pool = ["--pool-size", "4"];
    let peace = Launch::on(&turn, &database).workers(1).args(pool).serve();
    sign_up(&peace, "ann");
    let right = login("ann", PASSWORD);
    let lock = database.sql();
    lock.run("update login_tries set count = 8 where count_max = 10");
    // A login that begins a session waits for this.
    lock.run(r#"begin; select from "user" for update"#);
    let mut clients: Vec<Connection> =
        (8..NAME_MAX).map(|_| Connection::open(peace.address()).unwrap()).collect();
    clients.iter_mut().for_each(|client| client.begin(&right).unwrap());
    database.await_waiting(clients.len());
    for _ in 0..3 {
        let refused = peace.ask(&right);
        check_over(&refused, "eight were wrong, and two may be right");
        assert_eq!(refused.header("retry-after"), Some("1"));
    }
    lock.run("commit");
    for client in &mut clients {
        assert_eq!(client.finish(&right).unwrap().status, 200);
    }
    assert_eq!(peace.ask(&right).status, 200, "soon");
    for _ in 0..NAME_MAX {
        assert_eq!(peace.ask(&wrong("ann")).status, 401);
    }
    let refused = peace.ask(&right);
    let retry_after: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((800..=900).contains(&retry_after), "{retry_after}: somebody was wrong");
}

#[test]
fn nothing_is_counted_where_the_settings_say_so() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(1).args(["--login-limits", "off"]).serve();
    for _ in 0..=NAME_MAX {
        assert_eq!(log_in(&peace, &[("username", "ann"), ("password", "a")]).status, 401);
    }
    assert_eq!(database.sql().value::<i64>("select count(*) from login_tries", &[]), 0);
}

#[test]
fn what_is_counted_tells_no_name_and_no_address() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(1).serve();
    assert_eq!(peace.ask(&wrong("a-password-in-the-wrong-field")).status, 401);
    let rows = database.sql().rows("select t::text from login_tries t", &[]);
    let rows: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(rows.len(), 2);
    for row in rows {
        assert!(!row.contains("127.0.0") && !row.contains("password"), "{row}");
    }
}
