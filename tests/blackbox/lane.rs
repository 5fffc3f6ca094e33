//! Reads share a connection to the database, and with it what goes wrong there: whatever ends it, makes it
//! wait or changes the tables under it costs the requests of that moment, and nobody else.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;
use socket2::SockRef;

use crate::harness::api::{add_item, sign_up};
use crate::harness::cluster::Cluster;
use crate::harness::database::Sql;
use crate::harness::wait::{pause, until_true};
use crate::harness::{Connection, Database, Launch, Peace, Request, Turn, get, post};
use crate::zero_loss::short_or_long;

const SOON: Duration = Duration::from_secs(5);
/// In which everything is right again.
const RECOVERED: Duration = Duration::from_secs(1);
/// Between two requests of one client.
const PACE: Duration = Duration::from_millis(5);
const READERS: usize = 16;
const WRITERS: usize = 2;

/// What became of one request. Status 0: no answer at all.
#[derive(Debug, Clone, Copy)]
struct Answer {
    at: Instant,
    is_right: bool,
    status: u16,
    has_retry_after: bool,
}

/// What the clients send, in turn.
struct Crowd {
    address: SocketAddr,
    reads: Vec<Request>,
    write: Request,
}

#[test]
fn sessions_ended_one_after_the_other_cost_no_more_requests_than_there_were_sessions() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let peace = launch(&turn, &database);
    let (crowd, workers) = (Crowd::of(&peace), peace.workers());
    let beside = database.sql_beside();
    let kill = "select count(*) filter (where pg_terminate_backend(pid)) from \
                (select pid from pg_stat_activity where datname = $1 \
                 and application_name like 'peace/%' order by random() limit 1) one";
    let (answers, (kills, over)) = crowd.asks(WRITERS, || {
        let end = Instant::now() + Duration::from_secs(short_or_long(6, 60));
        let mut kills = 0;
        while Instant::now() < end {
            kills += beside.value::<i64>(kill, &[&database.name()]);
            pause(Duration::from_millis(100));
        }
        let over = Instant::now();
        pause(RECOVERED + Duration::from_secs(1));
        (usize::try_from(kills).unwrap(), over)
    });
    let failed: Vec<&Answer> = answers.iter().filter(|answer| !answer.is_right).collect();
    eprintln!("{} requests, {kills} sessions ended, {} failed", answers.len(), failed.len());
    assert!(kills >= 20, "only {kills} sessions were ended: nothing was tried");
    assert!(failed.len() <= kills, "{failed:?}");
    let late = failed.iter().filter(|answer| answer.at > over + RECOVERED);
    assert_eq!(late.count(), 0, "{failed:?}");
    assert_eq!(peace.workers(), workers);
}

#[test]
fn two_thousand_clients_that_leave_in_mid_query_leave_nothing_behind() {
    const WAVES: usize = 10;
    const CLIENTS: usize = 200;
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = launch(&turn, &database);
    let (crowd, workers) = (Crowd::of(&peace), peace.workers());
    let (sql, beside) = (database.sql(), database.sql_beside());
    for wave in 0..WAVES {
        // Whoever reads an item waits.
        sql.run("begin; lock table item in access exclusive mode");
        let clients: Vec<TcpStream> =
            (0..CLIENTS).map(|client| crowd.only_asks(wave * CLIENTS + client)).collect();
        until_true("every worker waits for the lock", SOON, || {
            let waiting = "wait_event_type = 'Lock'";
            sessions(&beside, &database, waiting) >= workers.len() as i64
        });
        until_true("most requests are in their hands", SOON, || in_flight(&peace) >= CLIENTS / 2);
        drop(clients);
        until_true("the workers know that they left", SOON, || in_flight(&peace) == 0);
        sql.run("commit");
    }
    let mut connection = Connection::open(crowd.address).unwrap();
    for request in crowd.reads.iter().cycle().take(1_000) {
        assert_eq!(connection.send(request).unwrap().status, 200, "{request:?}");
    }
    until_true("no session is left at work", SOON, || {
        sessions(&beside, &database, "state <> 'idle'") == 0
    });
    assert_eq!(peace.workers(), workers);
}

#[test]
fn a_lock_of_a_moment_refuses_nobody_however_many_wait() {
    // More than the pool lets wait for it.
    const CLIENTS: usize = 1_200;
    let turn = Turn::alone();
    allow_files(CLIENTS as u64 + 200);
    let database = Database::new(&turn);
    let peace = launch_with(&turn, &database, 1);
    let (crowd, sql) = (Crowd::of(&peace), database.sql());
    sql.run("begin; lock table item in access exclusive mode");
    let mut clients: Vec<Connection> = Vec::new();
    for client in 0..CLIENTS {
        let mut connection = Connection::open(crowd.address).unwrap();
        connection.begin(&crowd.reads[client % crowd.reads.len()]).unwrap();
        clients.push(connection);
    }
    until_true("all requests are in its hands", SOON, || in_flight(&peace) >= CLIENTS);
    // As long as it takes to notice that nobody is answered.
    pause(Duration::from_millis(200));
    sql.run("commit");
    let asked = crowd.reads.iter().cycle();
    let answers = clients.iter_mut().zip(asked).map(|(client, request)| client.finish(request));
    let refused = answers.filter(|answer| answer.as_ref().is_ok_and(|reply| reply.status != 200));
    assert_eq!(refused.count(), 0);
}

/// As many open files as that, if the system's limit for this process is lower.
fn allow_files(count: u64) {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(count), hard).unwrap();
}

#[test]
fn a_statement_that_takes_long_leaves_the_others_to_the_pool() {
    const CLIENTS: usize = 64;
    const ROUNDS: usize = 4;
    const STATEMENT: Duration = Duration::from_millis(20);
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let peace = launch_with(&turn, &database, 1);
    let crowd = Crowd::of(&peace);
    database.sql().run(
        "alter table item rename to slow_item;
         create function slowly() returns boolean language sql volatile
             as 'select pg_sleep(0.02) is not null';
         create view item as select * from slow_item where slowly()",
    );
    let request = &crowd.reads[0];
    assert_eq!(peace.ask(request).status, 200);
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut connection = Connection::open(crowd.address).unwrap();
                for _ in 0..ROUNDS {
                    assert_eq!(connection.send(request).unwrap().status, 200);
                }
            });
        }
    });
    let (took, alone) = (begun.elapsed(), STATEMENT * (CLIENTS * ROUNDS) as u32);
    eprintln!("{took:?}, {alone:?} for one after the other");
    assert!(took < alone / 2, "{took:?}, {alone:?} for one after the other");
}

#[test]
fn tables_that_change_under_the_readers_cost_no_request() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let beside = database.sql_beside();
    let name = database.name();
    beside.run(&format!("alter database {name} set log_min_duration_statement = 0"));
    let peace = launch(&turn, &database);
    let (crowd, sql) = (Crowd::of(&peace), database.sql());
    let log_start = Cluster::shared().log().len();
    let (answers, ()) = crowd.asks(0, || {
        for change in ["add column x int", "alter column name type varchar(31)", "drop column x"] {
            pause(Duration::from_millis(300));
            sql.run(&format!("alter table item {change}"));
        }
        pause(Duration::from_millis(300));
    });
    let failed: Vec<&Answer> = answers.iter().filter(|answer| !answer.is_right).collect();
    assert!(answers.len() >= 10 * READERS, "only {} requests were sent", answers.len());
    assert!(failed.is_empty(), "{failed:?}");

    let log = Cluster::shared().log().split_off(log_start);
    let prepared = prepared_again(&log, &format!("{name}|peace/"));
    eprintln!("{} requests; prepared meanwhile: {prepared:?}", answers.len());
    let sessions = sessions(&beside, &database, "true");
    for (statement, times) in &prepared {
        // What does not touch the table is prepared again by a session that replaces another, and each
        // worker needs one of those at most.
        let touches_it = statement.contains("item");
        let times_max = if touches_it { sessions } else { peace.workers().len() as i64 };
        assert!(*times <= times_max, "{times} times, not {times_max}: {statement}");
    }
    assert!(!prepared.is_empty(), "the type of a result has changed");
}

/// How often each statement was prepared by those whose lines begin so.
fn prepared_again(log: &str, whose: &str) -> BTreeMap<String, i64> {
    let mut times = BTreeMap::new();
    for line in log.lines().filter(|line| line.starts_with(whose)) {
        // Behind it stand the statement's name and its text, of which the first line may be empty.
        let statement = line.split_once(" ms  parse ").and_then(|(_, rest)| rest.split_once(": "));
        if let Some((_, text)) = statement.filter(|(_, text)| !text.is_empty()) {
            *times.entry(text.to_owned()).or_default() += 1;
        }
    }
    times
}

#[test]
fn a_role_that_may_not_have_so_many_connections_is_told_of_its_limit() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let role = format!("{}_few", database.name());
    database.sql().run(&format!("create role {role} login connection limit 14"));
    let url = database.url().replace("user=peace", &format!("user={role}"));
    let ended = Launch::bare(&turn).env("DATABASE_URL", &url).workers(2).run(SOON);
    database.sql().run(&format!("drop role {role}"));
    assert_eq!((ended.code, ended.lines.len()), (Some(64), 1), "{:?}", ended.lines);
    for word in ["15 connections", "there are 14", "raise the role's CONNECTION LIMIT"] {
        assert!(ended.lines[0].contains(word), "{word}: {}", ended.lines[0]);
    }
}

#[test]
fn a_database_that_restarts_costs_503s_until_it_is_back() {
    let turn = Turn::alone();
    let cluster = Cluster::start(&[]);
    let database = Database::migrated_in(&cluster);
    let peace = launch(&turn, &database);
    let (crowd, workers) = (Crowd::of(&peace), peace.workers());
    for (how, stop) in [("fast", Cluster::stop as fn(&Cluster)), ("immediate", Cluster::crash)] {
        let (answers, back) = crowd.asks(WRITERS, || {
            pause(Duration::from_millis(500));
            stop(&cluster);
            cluster.resume();
            let back = Instant::now();
            pause(RECOVERED + Duration::from_secs(1));
            back
        });
        let failed: Vec<&Answer> = answers.iter().filter(|answer| !answer.is_right).collect();
        let last = failed.iter().map(|answer| answer.at).max().unwrap_or(back);
        let after = last.saturating_duration_since(back);
        let (count, all) = (failed.len(), answers.len());
        eprintln!("{how}: {count} of {all} failed, the last {after:?} after its return");
        assert!(after <= RECOVERED, "{how}: {after:?}");
        let is_503 = |answer: &&&Answer| answer.status == 503 && answer.has_retry_after;
        assert_eq!(failed.iter().filter(is_503).count(), failed.len(), "{how}: {failed:?}");
    }
    assert_eq!(peace.workers(), workers);
}

fn launch(turn: &Turn, database: &Database<'_>) -> Peace {
    launch_with(turn, database, 2)
}

fn launch_with(turn: &Turn, database: &Database<'_>, workers: usize) -> Peace {
    let launch = Launch::bare(turn).env("DATABASE_URL", &database.url()).workers(workers);
    let launch = launch.args(["--bind", "127.0.0.1:0", "--log-format", "json"]);
    launch.args(["--access-log", "off"]).serve()
}

/// How many sessions of the server are as `state` says.
fn sessions(beside: &Sql, database: &Database<'_>, state: &str) -> i64 {
    let count = "select count(*) from pg_stat_activity \
                 where datname = $1 and application_name like 'peace/%' and ";
    beside.value(&format!("{count}{state}"), &[&database.name()])
}

/// How many requests the workers are at, by their last heartbeats.
fn in_flight(peace: &Peace) -> usize {
    let status = peace.ctl(["status", "--json"]);
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    let workers = status["workers"].as_array().unwrap().iter();
    workers.map(|worker| usize::try_from(worker["in_flight"].as_u64().unwrap()).unwrap()).sum()
}

impl Crowd {
    /// Those of a user with items.
    fn of(peace: &Peace) -> Self {
        let ann = sign_up(peace, "ann");
        let items = ["pen", "cup", "hat"].map(|name| get(add_item(peace, &ann, name)));
        let list = get(format!("/items?user_pubid={}&limit=3", ann.pubid));
        let new = json!({"name": "one more", "user_pubid": ann.pubid});
        Self {
            address: peace.address(),
            reads: items.into_iter().chain([list]).collect(),
            write: post("/items").bearer(&ann.token).json(&new),
        }
    }

    /// Lets all readers and so many writers ask while `happening` goes on.
    fn asks<T>(&self, writers: usize, happening: impl FnOnce() -> T) -> (Vec<Answer>, T) {
        let (answers, over) = (Mutex::new(Vec::new()), AtomicBool::new(false));
        let result = thread::scope(|scope| {
            for client in 0..READERS + writers {
                let (answers, over) = (&answers, &over);
                scope.spawn(move || {
                    let mine = self.ask_until(over, client);
                    answers.lock().unwrap().extend(mine);
                });
            }
            let result = happening();
            over.store(true, Ordering::Relaxed);
            result
        });
        (answers.into_inner().unwrap(), result)
    }

    /// One client: a request after the other over a connection that it keeps.
    fn ask_until(&self, over: &AtomicBool, client: usize) -> Vec<Answer> {
        let (request, right) = match client < READERS {
            true => (&self.reads[client % self.reads.len()], 200),
            false => (&self.write, 201),
        };
        let mut answers = Vec::new();
        let mut connection = Connection::open(self.address).ok();
        while !over.load(Ordering::Relaxed) {
            let at = Instant::now();
            let reply = connection.as_mut().and_then(|connection| connection.send(request).ok());
            let status = reply.as_ref().map_or(0, |reply| reply.status);
            let retry_after = reply.as_ref().and_then(|reply| reply.header("retry-after"));
            let has_retry_after = retry_after.is_some();
            answers.push(Answer { at, is_right: status == right, status, has_retry_after });
            if reply.is_none() {
                connection = Connection::open(self.address).ok();
            }
            pause(PACE);
        }
        answers
    }

    /// Sends a request and waits for nothing. Every other client will reset its connection, not close it.
    fn only_asks(&self, client: usize) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let linger = client.is_multiple_of(2).then_some(Duration::ZERO);
        SockRef::from(&stream).set_linger(linger).unwrap();
        let request = &self.reads[client % self.reads.len()];
        std::io::Write::write_all(&mut stream, &request.bytes(self.address)).unwrap();
        stream
    }
}
