//! Several servers: one falls out, another takes over, and no worker is restarted.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::cluster::Cluster;
use crate::harness::wait::until_true;
use crate::harness::{Database, Launch, Peace, Request, Turn, get, post};

/// In which a write is answered while no server takes it.
const ANSWERED: Duration = Duration::from_secs(4);
/// In which writes succeed again after the promotion.
const RECOVERED: Duration = Duration::from_secs(10);

fn user(name: &str) -> Request {
    post("/users").json(&json!({"name": name, "password": "correct-horse"}))
}

fn launch(turn: &Turn, url: &str) -> Launch {
    let launch = Launch::bare(turn).env("DATABASE_URL", url);
    launch.args(["--bind", "127.0.0.1:0", "--log-format", "json", "--pool-size", "2"])
}

/// Both servers, for a program that writes.
fn url(primary: &Cluster, standby: &Cluster, database: &Database<'_>) -> String {
    format!(
        "host={},{} user=peace dbname={} target_session_attrs=read-write",
        primary.socket_folder(),
        standby.socket_folder(),
        database.name()
    )
}

/// Waits until the standby has everything that the primary has.
fn await_replay(primary: &Database<'_>, standby: &Database<'_>) {
    let written: String = primary.sql().value("select pg_current_wal_lsn()::text", &[]);
    let replayed = format!("select pg_last_wal_replay_lsn() >= '{written}'");
    let standby = standby.sql_beside();
    until_true("the standby has it all", Duration::from_secs(10), || standby.value(&replayed, &[]));
}

fn servers_of(peace: &Peace) -> Vec<String> {
    let events = peace.log().events();
    let connected = events.iter().filter(|event| event.is("connected to the database"));
    connected.filter_map(|event| Some(event.text_of("server")?.to_owned())).collect()
}

#[test]
fn writes_go_on_at_the_promoted_standby_without_a_restart() {
    let turn = Turn::shared();
    let primary = Cluster::start(&[]);
    let database = Database::migrated_in(&primary);
    let standby = Cluster::standby_of(&primary);
    let copy = database.on(&standby);
    let peace = launch(&turn, &url(&primary, &standby, &database)).workers(2).serve();
    let workers = peace.workers();
    assert_eq!(peace.ask(&user("before")).status, 201);
    await_replay(&database, &copy);

    primary.crash();
    for asked in 0..10 {
        let (name, asked_at) = (format!("during-{asked}"), Instant::now());
        for request in [user(&name), get("/users")] {
            assert_eq!(peace.ask(&request).status, 503);
        }
        assert!(asked_at.elapsed() < ANSWERED, "{:?}", asked_at.elapsed());
    }
    copy.sql_beside().run("select pg_promote()");
    let promoted = Instant::now();
    let mut tries = 0;
    until_true("a write succeeds", RECOVERED, || {
        tries += 1;
        peace.ask(&user(&format!("after-{tries}"))).status == 201
    });
    eprintln!("writes succeed {:?} after the promotion", promoted.elapsed());
    until_true("every worker writes", RECOVERED, || {
        tries += 1;
        (0..10).all(|one| peace.ask(&user(&format!("later-{tries}-{one}"))).status == 201)
    });
    let names: i64 = copy.sql().value("select count(*) from \"user\" where name = 'before'", &[]);
    assert_eq!(names, 1);
    assert_eq!(peace.workers(), workers);
    let asked = servers_of(&peace);
    assert!(asked.iter().any(|server| *server == standby.socket()), "{asked:?}");
}

#[test]
fn a_server_that_takes_no_writes_any_more_is_left_by_reads_too() {
    let turn = Turn::shared();
    let primary = Cluster::start(&[]);
    let database = Database::migrated_in(&primary);
    let standby = Cluster::standby_of(&primary);
    let copy = database.on(&standby);
    let peace = launch(&turn, &url(&primary, &standby, &database)).workers(2).serve();
    let workers = peace.workers();
    assert_eq!(peace.ask(&user("before")).status, 201);
    await_replay(&database, &copy);

    copy.sql_beside().run("select pg_promote()");
    // No session ends of that, and none learns of it before it writes.
    database.sql_beside().run("alter system set default_transaction_read_only = on");
    database.sql_beside().run("select pg_reload_conf()");
    let mut tries = 0;
    until_true("every worker writes and reads at the new one", RECOVERED, || {
        tries += 1;
        (0..10).all(|one| {
            let written = peace.ask(&user(&format!("after-{tries}-{one}")));
            let read = written.header("location").map(|place| peace.ask(&get(place)).status);
            (written.status, read) == (201, Some(200))
        })
    });
    let at_both = "select count(*) from \"user\" where name like 'after-%'";
    assert_eq!(database.sql().value::<i64>(at_both, &[]), 0);
    assert!(copy.sql().value::<i64>(at_both, &[]) >= 10);
    assert_eq!(peace.workers(), workers);
}

#[test]
fn of_several_servers_a_standby_that_comes_first_is_not_taken() {
    let turn = Turn::shared();
    let primary = Cluster::start(&[]);
    let database = Database::migrated_in(&primary);
    let standby = Cluster::standby_of(&primary);
    let said = url(&standby, &primary, &database);
    let unsaid = said.replace(" target_session_attrs=read-write", "");
    assert_ne!(said, unsaid);
    let peace = launch(&turn, &unsaid).workers(1).serve();
    assert_eq!(peace.ask(&user("ann")).status, 201);
    let asked = servers_of(&peace);
    assert!(asked.iter().all(|server| *server == primary.socket()), "{asked:?}");
}

// What deploy/SCALING.md says of hosts that only read.
#[test]
fn a_host_on_a_standby_answers_reads_and_refuses_writes() {
    let turn = Turn::shared();
    let primary = Cluster::start(&[]);
    let database = Database::migrated_in(&primary);
    let standby = Cluster::standby_of(&primary);
    let any = url(&standby, &primary, &database).replace("=read-write", "=any");
    let writes = launch(&turn, &database.url()).workers(1).serve();
    let reads = launch(&turn, &any).workers(1).serve();
    let created = writes.ask(&user("ann"));
    let place = created.header("location").unwrap();
    await_replay(&database, &database.on(&standby));
    assert_eq!(reads.ask(&get(place)).json()["name"], "ann");
    assert_eq!(reads.ask(&get("/users")).status, 200);
    assert_eq!(reads.ask(&get("/health/ready")).status, 200);
    let refused = reads.ask(&user("bob"));
    assert_eq!((refused.status, refused.header("retry-after").is_some()), (503, true));
    // And reads go on after that.
    assert_eq!(reads.ask(&get(place)).status, 200);
}

#[test]
fn a_first_server_that_keeps_silent_holds_nobody_up() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    // Accepts connections, as far as the kernel goes, and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!(
        "host=127.0.0.1,{} port={},5432 user=peace dbname={}",
        Cluster::shared().socket_folder(),
        silent.local_addr().unwrap().port(),
        database.name()
    );
    let peace = launch(&turn, &url).workers(1).serve();
    assert_eq!(peace.ask(&get("/users")).status, 200);
    let asked = servers_of(&peace);
    let is_its = |server: &String| *server == Cluster::shared().socket();
    assert!(!asked.is_empty() && asked.iter().all(is_its), "{asked:?}");
}

#[test]
fn a_failure_says_what_each_server_said() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!(
        "host=127.0.0.1,{} port={nobody},5432 user=peace dbname=none",
        Cluster::shared().socket_folder()
    );
    let ended = launch(&turn, &url).run(Duration::from_secs(10));
    assert_eq!((ended.code, ended.lines.len()), (Some(69), 1), "{:?}", ended.lines);
    for word in [&format!("127.0.0.1:{nobody}: "), "refused", "DATABASE_URL"] {
        assert!(ended.lines[0].contains(word), "{word}: {}", ended.lines[0]);
    }
    drop(database);
}
