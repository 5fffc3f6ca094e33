//! TLS to PostgreSQL: who is believed, who is not, and that nothing goes in clear.

use std::process::Output;
use std::sync::LazyLock;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::harness::certificates::{Authority, Shown};
use crate::harness::cluster::Cluster;
use crate::harness::peace::Ended;
use crate::harness::wait::until_true;
use crate::harness::{Database, Launch, Turn, get, post};

const MIGRATE: &str = env!("CARGO_BIN_EXE_peace-migrate");
const LIMIT: Duration = Duration::from_secs(10);
const USAGE: Option<i32> = Some(64);
const UNAVAILABLE: Option<i32> = Some(69);

static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| Authority::new("Ours"));
/// Its certificate is for `pg.test`, and nobody comes in in clear.
static SERVER: LazyLock<Cluster> =
    LazyLock::new(|| Cluster::start_on_tcp(Some(&AUTHORITY.sign("pg.test", &["pg.test"]))));

/// Options that lead to a database of the server by the name in its certificate, as `peace`.
fn by_name(database: &Database<'_>) -> String {
    let port = SERVER.port();
    format!("hostaddr=127.0.0.1 port={port} dbname={} host=pg.test user=peace", database.name())
}

fn launch(turn: &Turn, url: &str) -> Launch {
    let launch = Launch::bare(turn).env("DATABASE_URL", url);
    launch.args(["--bind", "127.0.0.1:0", "--log-format", "json", "--workers", "2"])
}

/// The file of the authority, in the folder of `launch`.
fn believing(launch: Launch, authority: &Authority) -> Launch {
    launch.folder().write("authority.pem", &authority.certificate);
    launch
}

/// Ends at the start with one line that holds `words`.
fn check_refused(ended: &Ended, code: Option<i32>, words: &[&str]) {
    assert_eq!((ended.code, ended.lines.len()), (code, 1), "{:?}", ended.lines);
    for word in words {
        assert!(ended.lines[0].contains(word), "{word}: {}", ended.lines[0]);
    }
}

#[test]
fn every_connection_of_the_workers_is_encrypted() {
    let turn = Turn::shared();
    let database = Database::migrated_in(&SERVER);
    let url = format!("{} sslmode=verify-full sslrootcert=authority.pem", by_name(&database));
    let peace = believing(launch(&turn, &url), &AUTHORITY).serve();
    let user = json!({"name": "ann", "password": "correct-horse"});
    assert_eq!(peace.ask(&post("/users").json(&user)).status, 201);
    assert_eq!(peace.ask(&get("/users")).status, 200);
    let sql = "select count(*) filter (where ssl), count(*) filter (where not ssl) \
        from pg_stat_ssl join pg_stat_activity using (pid) \
        where datname = $1 and application_name like 'peace/%'";
    let rows = database.sql_beside().rows(sql, &[&database.name()]);
    let (encrypted, clear): (i64, i64) = (rows[0].get(0), rows[0].get(1));
    assert!(encrypted >= 2, "{encrypted}");
    assert_eq!(clear, 0);
}

#[test]
fn a_password_is_bound_to_the_channel() {
    let turn = Turn::shared();
    let database = Database::migrated_in(&SERVER);
    let sql = database.sql();
    sql.run("create role locked login superuser password 'the-right-word'");
    let url = by_name(&database).replace("user=peace", "user=locked password=the-right-word");
    let url = format!("{url} sslrootcert=authority.pem channel_binding=require");
    let peace = believing(launch(&turn, &url), &AUTHORITY).serve();
    assert_eq!(peace.ask(&get("/users")).status, 200);
}

#[test]
fn a_client_certificate_opens_the_door() {
    let turn = Turn::shared();
    let database = Database::migrated_in(&SERVER);
    database.sql().run("create role shown login superuser");
    let url = by_name(&database).replace("user=peace", "user=shown");
    let url = format!("{url} sslrootcert=authority.pem");
    let ended = believing(launch(&turn, &url), &AUTHORITY).run(LIMIT);
    check_refused(&ended, UNAVAILABLE, &["certificate", "DATABASE_URL"]);

    let Shown { certificate, key, .. } = AUTHORITY.sign("shown", &[]);
    let url = format!("{url} sslcert=client.pem sslkey=client.key");
    let launch = believing(launch(&turn, &url), &AUTHORITY);
    launch.folder().write("client.pem", &certificate);
    launch.folder().write_private("client.key", &key);
    assert_eq!(launch.serve().ask(&get("/users")).status, 200);
}

#[test]
fn the_systems_authorities_count_unless_told_otherwise() {
    let turn = Turn::shared();
    let database = Database::migrated_in(&SERVER);
    let url = format!("{} sslmode=verify-full", by_name(&database));
    let trusting = believing(launch(&turn, &url), &AUTHORITY);
    let trusting = trusting.env("SSL_CERT_FILE", "authority.pem");
    assert_eq!(trusting.serve().ask(&get("/users")).status, 200);
    let told = believing(launch(&turn, &url), &Authority::new("Another"));
    let ended = told.env("SSL_CERT_FILE", "authority.pem").run(LIMIT);
    check_refused(&ended, UNAVAILABLE, &["has no known issuer", "sslrootcert"]);
}

#[test]
fn a_server_that_is_not_the_one_meant_is_refused_in_one_line() {
    let turn = Turn::shared();
    let database = Database::blank_in(&SERVER);
    let right = by_name(&database);
    let wrong = right.replace("host=pg.test", "host=db.test");
    let refused = |url: &str, authority: &Authority, words: &[&str]| {
        let url = format!("{url} sslrootcert=authority.pem");
        let ended = believing(launch(&turn, &url), authority).run(LIMIT);
        check_refused(&ended, UNAVAILABLE, words);
    };
    refused(&wrong, &AUTHORITY, &["db.test:", "is for pg.test, not db.test", "DATABASE_URL"]);
    let another = Authority::new("Another");
    for mode in ["verify-full", "verify-ca", "require"] {
        refused(&format!("{right} sslmode={mode}"), &another, &["has no known issuer: give"]);
    }
}

#[test]
fn less_is_verified_where_the_url_says_so() {
    let turn = Turn::shared();
    let database = Database::migrated_in(&SERVER);
    let wrong = by_name(&database).replace("host=pg.test", "host=db.test");
    for options in ["sslmode=require", "sslmode=verify-ca sslrootcert=authority.pem"] {
        let launch = believing(launch(&turn, &format!("{wrong} {options}")), &AUTHORITY);
        assert_eq!(launch.serve().ask(&get("/users")).status, 200, "{options}");
    }
}

#[test]
fn a_server_without_tls_gets_no_password() {
    let turn = Turn::shared();
    let clear = Cluster::start_on_tcp(None);
    let url = format!("host=127.0.0.1 port={} user=peace dbname=postgres", clear.port());
    for mode in ["require", "verify-full"] {
        let ended = launch(&turn, &format!("{url} sslmode={mode}")).run(LIMIT);
        check_refused(&ended, UNAVAILABLE, &["server does not support TLS", "DATABASE_URL"]);
    }
}

#[test]
fn a_bad_file_ends_the_start_as_a_wrong_setting() {
    let turn = Turn::shared();
    let database = Database::blank_in(&SERVER);
    let url = format!("{} sslrootcert=authority.pem", by_name(&database));
    let missing = launch(&turn, &url).run(LIMIT);
    check_refused(&missing, USAGE, &["DATABASE_URL", "sslrootcert names no file", "PEM"]);
    let bad = launch(&turn, &url);
    bad.folder().write("authority.pem", "no certificate");
    let bad = bad.run(LIMIT);
    check_refused(
        &bad,
        USAGE,
        &["DATABASE_URL: sslrootcert authority.pem: no certificate is in it"],
    );
}

#[test]
fn migrations_go_over_tls() {
    let turn = Turn::shared();
    let database = Database::blank_in(&SERVER);
    let url = format!("{} sslrootcert=authority.pem", by_name(&database));
    let migrate = |args: &[&str]| -> Output {
        let launch = Launch::bare(&turn).program(MIGRATE).env("DATABASE_URL", &url);
        believing(launch.args(args.iter().copied()), &AUTHORITY).output()
    };
    for args in [&["upgrade", "head"][..], &["check"], &["drift"], &["current"]] {
        let ran = migrate(args);
        assert!(ran.status.success(), "{args:?}: {}", String::from_utf8_lossy(&ran.stderr));
    }
    let scratch = Database::blank_in(&SERVER);
    let launch = Launch::bare(&turn).program(MIGRATE).args(["check"]);
    let scratch_url = format!("{} sslrootcert=authority.pem", by_name(&scratch));
    let ran = believing(launch.env("PEACE_SCRATCH_URL", &scratch_url), &AUTHORITY).output();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));

    let wrong = url.replace("host=pg.test", "host=db.test");
    let launch = Launch::bare(&turn).program(MIGRATE).args(["current"]).env("DATABASE_URL", &wrong);
    let ran = believing(launch, &AUTHORITY).output();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(1), "{said}");
    assert!(said.contains("is for pg.test, not db.test: connect by a name of it"), "{said}");
}

#[test]
fn an_interrupted_migration_is_cancelled_over_tls() {
    let turn = Turn::shared();
    let database = Database::blank_in(&SERVER);
    let url = format!("{} sslrootcert=authority.pem", by_name(&database));
    let launch = Launch::bare(&turn).program(MIGRATE).args(["upgrade", "--versions", "."]);
    let header = "-- revision: aaaa\n-- revises: none\n-- message: m\n-- transaction: yes";
    let text = format!("{header}\n-- irreversible: test\n\nselect pg_sleep(30)\n");
    launch.folder().write("00000000000001_aaaa.up.sql", &text);
    let mut run = believing(launch.env("DATABASE_URL", &url), &AUTHORITY).start();
    let (sql, name) = (database.sql_beside(), database.name());
    let sleeping = "select count(*) = 1 from pg_stat_activity \
        where datname = $1 and wait_event = 'PgSleep'";
    until_true("it runs", LIMIT, || sql.value(sleeping, &[&name]));
    run.signal(Signal::SIGINT);
    assert_eq!(run.end(LIMIT).code, Some(130));
    let cancelled = format!("{name}|peace-migrate|ERROR:  canceling statement due to user request");
    until_true("the server was asked to stop", LIMIT, || SERVER.log().contains(&cancelled));
}
