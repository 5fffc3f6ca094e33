//! Starts that are refused: within 3 s, with the right exit code, one line that says what is wrong
//! and how to mend it, and nothing left running.

use std::net::TcpListener;
use std::time::Duration;

use crate::harness::cluster::Cluster;
use crate::harness::{Database, Launch, Turn};

const LIMIT: Duration = Duration::from_secs(3);

/// Exit codes, as DESIGN and README have them.
const USAGE: i32 = 64;
const UNAVAILABLE: i32 = 69;
const REFUSED: i32 = 71;

/// What production accepts.
const GOOD_KEY: &str = "0123456789abcdefghijklmnopqrstuvwxyz";

/// Runs it and checks how it ended. `says` are parts of the one line: what is wrong, how to mend it.
fn check(launch: Launch, code: i32, says: &[&str]) {
    let ended = launch.run(LIMIT);
    // Log lines are JSON here; the line for people is not.
    let told: Vec<&String> = ended.lines.iter().filter(|line| !line.starts_with('{')).collect();
    assert_eq!(ended.code, Some(code), "{:?}", ended.lines);
    assert_eq!(told.len(), 1, "one line: {:?}", ended.lines);
    let line = told[0];
    assert!(line.starts_with("peace-supervisor: "), "{line}");
    for part in says {
        assert!(line.contains(part), "{part:?} is not in: {line}");
    }
    eprintln!("{code} after {:?}: {line}", ended.took);
}

#[test]
fn wrong_flags_and_numbers() {
    let turn = Turn::shared();
    let bare = |args: &[&str]| Launch::bare(&turn).args(args.iter().copied());
    check(bare(&["--worker", "2"]), USAGE, &["--worker", "--workers"]);
    check(bare(&["--workers", "two"]), USAGE, &["--workers", "two", "1"]);
    check(bare(&["--workers", "0"]), USAGE, &["--workers", "1"]);
    check(bare(&["--bind", "localhost"]), USAGE, &["--bind", "localhost"]);
    check(bare(&["--boot-timeout", "never"]), USAGE, &["--boot-timeout", "never"]);
    check(bare(&["serv"]), USAGE, &["serv"]);
}

#[test]
fn wrong_variables_and_files() {
    let turn = Turn::shared();
    let with = |name: &str, value: &str| Launch::bare(&turn).env(name, value);
    check(with("PEACE_WORKERS", "many"), USAGE, &["PEACE_WORKERS", "many"]);
    check(with("PEACE_FAULTS", "boot"), USAGE, &["PEACE_FAULTS", "boot-exit"]);
    check(with("DATABASE_URL", "mysql://db/peace"), USAGE, &["DATABASE_URL", "postgres"]);
    let file = Launch::bare(&turn).args(["--config", "absent.toml"]);
    check(file, USAGE, &["absent.toml"]);
    let misspelt = Launch::bare(&turn).args(["--config", "peace.toml"]);
    misspelt.folder().write("peace.toml", "worker = 2\n");
    check(misspelt, USAGE, &["worker", "workers"]);
}

#[test]
fn weak_settings_in_production() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let production = |key: &str| {
        let launch = Launch::on(&turn, &database).env("PEACE_ENV", "production");
        launch.env("JWT_SECRET_KEY", key)
    };
    let missing = Launch::on(&turn, &database).env("PEACE_ENV", "production");
    check(missing, USAGE, &["JWT_SECRET_KEY", "openssl rand"]);
    for weak in ["short", "my-secret-jwt-key", &"a".repeat(40)] {
        check(production(weak), USAGE, &["JWT_SECRET_KEY", "openssl rand"]);
    }
    check(production(GOOD_KEY).env("PEACE_FAULTS", "1"), USAGE, &["PEACE_FAULTS", "remove"]);
    check(production(GOOD_KEY).env("DEBUG", "1"), USAGE, &["DEBUG", "remove"]);
    let embedded = Launch::bare(&turn).env("PEACE_ENV", "production");
    check(embedded.env("JWT_SECRET_KEY", GOOD_KEY), USAGE, &["DATABASE_URL", "production"]);
}

#[test]
fn databases_that_do_not_let_us_in() {
    let turn = Turn::shared();
    let url = |url: &str| {
        let launch = Launch::bare(&turn).env("DATABASE_URL", url);
        launch.args(["--bind", "127.0.0.1:0", "--log-format", "json"])
    };
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let unreachable = format!("postgres://ann@127.0.0.1:{nobody}/peace");
    check(url(&unreachable), UNAVAILABLE, &[&format!("127.0.0.1:{nobody}"), "DATABASE_URL"]);

    // Accepts connections, as far as the kernel goes, and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    check(
        url(&format!("postgres://ann@127.0.0.1:{port}/peace")),
        UNAVAILABLE,
        &["does not answer", "DATABASE_URL"],
    );

    let database = Database::new(&turn);
    database.sql_beside().run("create role locked login password 'the-right-word'");
    let wrong = database.url().replace("user=peace", "user=locked password=a-wrong-word");
    let launch = url(&wrong);
    check(launch, UNAVAILABLE, &["locked", "DATABASE_URL"]);
    let absent = Cluster::shared().url("no_such_database");
    check(url(&absent), UNAVAILABLE, &["no_such_database", "DATABASE_URL"]);
}

#[test]
fn a_wrong_password_is_not_repeated() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let url = database.url().replace("user=peace", "user=nobody_here password=a-wrong-word");
    let ended = Launch::on(&turn, &database).env("DATABASE_URL", &url).run(LIMIT);
    assert_eq!(ended.code, Some(UNAVAILABLE));
    assert!(ended.lines.iter().all(|line| !line.contains("a-wrong-word")), "{:?}", ended.lines);
}

#[test]
fn more_connections_than_the_server_has() {
    let turn = Turn::shared();
    let small = Cluster::start_small(20);
    let database = Database::migrated_in(&small);
    let launch = Launch::bare(&turn).env("DATABASE_URL", &database.url());
    let launch = launch.args(["--bind", "127.0.0.1:0", "--log-format", "json", "--workers", "4"]);
    check(launch, USAGE, &["max_connections", "--workers", "25", "17"]);
}

#[test]
fn a_port_that_is_taken() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let launch = Launch::bare(&turn).env("DATABASE_URL", &database.url());
    check(launch.args(["--bind", &address]), REFUSED, &[&address, "in use", "--bind"]);
}

#[test]
fn a_second_copy_on_the_same_port_leaves_the_first_alone() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let first = Launch::on(&turn, &database).workers(2).serve();
    let workers = first.workers();
    let address = first.address().to_string();
    let second = Launch::bare(&turn).env("DATABASE_URL", &database.url());
    check(second.args(["--bind", &address]), REFUSED, &[&address, "in use", "--bind"]);
    for _ in 0..20 {
        assert_eq!(first.ask(&crate::harness::get("/users")).status, 200);
    }
    assert_eq!(first.workers(), workers);
}

#[test]
fn an_address_that_is_not_ours() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    // Of the block for documentation (RFC 5737): no machine has it.
    let launch = Launch::bare(&turn).env("DATABASE_URL", &database.url());
    let launch = launch.env("PEACE_ENV", "production").env("JWT_SECRET_KEY", GOOD_KEY);
    check(launch.args(["--bind", "192.0.2.1:8000"]), REFUSED, &["192.0.2.1:8000"]);
}
