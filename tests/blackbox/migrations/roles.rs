//! Who runs it, and where: roles that may not everything, servers that only read, wrong addresses.

use super::bench::Bench;
use super::stage::{is_there, log};
use crate::harness::{Database, Turn};

/// A role that may connect; everything else is granted by the test.
struct Role<'a> {
    name: String,
    database: &'a Database<'a>,
}

impl<'a> Role<'a> {
    fn new(database: &'a Database<'a>) -> Self {
        let name = format!("role_of_{}", database.name());
        database.sql().run(&format!("create role {name} login password 'secret-word'"));
        Self { name, database }
    }

    fn url(&self) -> String {
        format!("{} user={} password=secret-word", self.database.url(), self.name)
    }
}

impl Drop for Role<'_> {
    fn drop(&mut self) {
        self.database.sql().run(&format!("drop owned by {0}; drop role {0}", self.name));
    }
}

// Case 17.
#[test]
fn a_role_that_may_not_create_databases_migrates_and_looks() {
    let turn = Turn::shared();
    let (database, bench) = (Database::blank(&turn), Bench::new(&turn));
    bench.revision(1, "aaaa", "none", "create table t ()", "drop table t");
    let role = Role::new(&database);
    database.sql().run(&format!("grant create, usage on schema public to {}", role.name));
    let run = |args: &[&str]| bench.run(&[&["--database-url", &role.url()], args].concat()).done();
    assert_eq!(run(&["upgrade"]), "base -> aaaa (head)\n");
    assert_eq!(run(&["current"]), "aaaa (head)\n");
    assert_eq!(run(&["history", "-i"]), "<base> -> aaaa (head) (current), aaaa\n");
    assert!(run(&["downgrade", "aaaa:base", "--sql"]).contains("drop table t"));
    assert_eq!(run(&["verify"]), "aaaa  ok  00000000000001_aaaa\n");
    assert_eq!(run(&["downgrade", "base"]), "aaaa (head) -> base\n");
}

#[test]
fn a_missing_right_is_named() {
    let turn = Turn::shared();
    let (database, bench) = (Database::blank(&turn), Bench::new(&turn));
    bench.revision(1, "aaaa", "none", "create table t ()", "");
    let role = Role::new(&database);
    let run = |args: &[&str]| bench.run(&[&["--database-url", &role.url()], args].concat());
    run(&["upgrade"]).failed(1, "grant create and usage on this schema to the role of the URL");

    bench.run_on(&database, &["upgrade"]).done();
    run(&["current"]).failed(1, "permission denied for table peace_migration [42501]");
    database.sql().run(&format!(
        "grant all on all tables in schema public to {0}; grant create on schema public to {0}",
        role.name
    ));
    bench.revision(2, "bbbb", "aaaa", "alter table t add a int", "");
    let ran = run(&["upgrade"]);
    ran.failed(1, "must be owner of table t [42501]; only its owner may change it");
    assert_eq!(log(&database), ["upgrade aaaa"]);
}

#[test]
fn a_server_that_only_reads_is_named() {
    let turn = Turn::shared();
    let (database, bench) = (Database::blank(&turn), Bench::new(&turn));
    bench.revision(1, "aaaa", "none", "create table t ()", "");
    let name = database.name();
    database.sql().run(&format!("alter database {name} set default_transaction_read_only = on"));
    let ran = bench.run_on(&database, &["upgrade"]);
    ran.failed(
        1,
        "[25006]; this server is a standby or read-only: give the address of the primary",
    );
    assert!(!is_there(&database, "peace_migration"));
}

#[test]
fn a_wrong_address_says_what_to_correct_and_no_password() {
    let turn = Turn::shared();
    let (database, bench) = (Database::blank(&turn), Bench::new(&turn));
    bench.revision(1, "aaaa", "none", "select 1", "");
    let url = database.url();
    for (more, code, words) in [
        (
            "dbname=nowhere password=secret-word",
            1,
            "create it, or correct the name in DATABASE_URL",
        ),
        ("user=nobody_at_all password=secret-word", 1, "correct user and password in DATABASE_URL"),
        ("port=secret-word", 2, "a bad value of port; give postgres://USER"),
    ] {
        let ran = bench.run(&["upgrade", "--database-url", &format!("{url} {more}")]);
        assert!(!ran.err.contains("secret-word"), "{ran:?}");
        assert!(ran.err.matches("DATABASE_URL").count() <= 1, "one hint is enough: {ran:?}");
        ran.failed(code, words);
    }
}
