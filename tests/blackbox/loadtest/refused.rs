//! Bad input gets one line that says what and how to mend it, an exit code, and leaves no process.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use super::{Bench, SHORT, empty};
use crate::harness::{Database, Turn};

/// Runs it in vain; answers the exit code and the line.
fn refusal(bench: &Bench, args: &[&str]) -> (Option<i32>, String) {
    let output = bench.run(args.iter().copied());
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    let told = String::from_utf8(output.stderr).unwrap();
    let line = told.lines().find(|line| line.starts_with("peace-loadtest: "));
    (output.status.code(), line.unwrap_or_else(|| panic!("{args:?}: {told}")).to_owned())
}

#[test]
fn a_wrong_command_line_is_refused_with_64() {
    let bench = Bench::new();
    bench.folder.write("broken.toml", "about = 'x'\n[[request]]\nname = 'a'\npath = 'no-slash'\n");
    for (args, why) in [
        (&[][..], "run --quick"),
        (&["run", "--workers", "0"], "0"),
        (&["run", "--workers", "1,x"], "x"),
        (&["run", "--rate", "0"], "0"),
        (&["run", "--duration", "4"], "4s"),
        (&["run", "--scale", "4"], "4@1s"),
        (&["run", "--url", "http://127.0.0.1:1", "--workers", "2"], "--workers"),
        (&["run", "--port", "80"], "--command"),
        (&["run", "--scenario", "raeds"], "raeds"),
        (&["run", "--scenario", "broken.toml"], "path"),
        (&["run", "--url", "https://127.0.0.1"], "TLS"),
        (&["run", "--url", "http://ann:secret@127.0.0.1"], "no name and password"),
        (&["run", "--command", "uvicorn"], "{port}"),
        (&["run", "--rate", "1"], "--duration"),
        (&["run", "--", "--workers", "2"], "--workers"),
        (&["measure"], "measure"),
    ] {
        let (code, line) = refusal(&bench, args);
        assert_eq!(code, Some(64), "{args:?}: {line}");
        assert!(line.contains(why), "{args:?}: {line}");
    }
}

#[test]
fn what_cannot_be_measured_is_said_before_anything_is_started() {
    let bench = Bench::new();
    bench.folder.write("file", "");
    for (args, why) in [
        (&["run", "--out", "file/report"][..], "file/report"),
        (&["run", "--server", "nowhere"], "--server"),
        (&["compare", "none.json", "file"], "none.json"),
        (&["recommend", "file"], "file"),
        (&["page", "file"], "file"),
    ] {
        let (code, line) = refusal(&bench, args);
        assert_eq!(code, Some(1), "{args:?}: {line}");
        assert!(line.contains(why), "{args:?}: {line}");
    }
}

#[test]
fn nobody_is_measured_where_nobody_answers() {
    let bench = Bench::new();
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let url = format!("http://127.0.0.1:{port}");
    let (code, line) = refusal(&bench, &["run", "--url", &url, "--scenario", "health"]);
    assert_eq!(code, Some(1), "{line}");
    assert!(line.contains("does not answer") && line.contains("running?"), "{line}");
}

#[test]
fn a_server_that_answers_500_has_no_numbers() {
    let bench = Bench::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    // Ends with the tests' process.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut bytes = [0; 4096];
                while stream.read(&mut bytes).is_ok_and(|count| count > 0) {
                    let answer = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n";
                    if stream.write_all(answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
    let args =
        ["run", "--url", &url, "--scenario", "health", "--duration", "200ms", "--rounds", "1"];
    let (code, line) = refusal(&bench, &args);
    assert_eq!(code, Some(1), "{line}");
    assert!(line.contains("status 500"), "{line}");
    assert!(!bench.folder.path().join("loadtest/report.json").exists());
}

#[test]
fn a_port_that_is_taken_is_not_measured_as_the_commands() {
    let turn = Turn::shared();
    let database = empty(&turn);
    let bench = Bench::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let url = database.url();
    let words = ["run", "--without-peace", "--command", "sleep 60", "--port", &port];
    let args: Vec<&str> = words.into_iter().chain(["--database-url", &url]).collect();
    let (code, line) = refusal(&bench, &args);
    assert_eq!(code, Some(1), "{line}");
    assert!(line.contains(&port) && line.contains("taken"), "{line}");
}

#[test]
fn a_command_that_ends_says_its_last_words() {
    let turn = Turn::shared();
    let database = empty(&turn);
    let bench = Bench::new();
    let url = database.url();
    let command = "echo no such module at $DATABASE_URL >&2; exit 3; # {port}";
    let words = ["run", "--without-peace", "--command", command, "--database-url", &url];
    let output = bench.run(words);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("exit status: 3") && told.contains("no such module at ***"), "{told}");
}

/// Everything in a given database is replaced, so it has to be one that nobody needs.
#[test]
fn a_database_with_users_is_left_alone() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let sql = database.sql();
    sql.run(r#"insert into "user" (id, name) values (gen_random_uuid(), 'ann')"#);
    let (code, line) = refusal(&Bench::new(), &["run", "--database-url", &database.url()]);
    assert_eq!(code, Some(1), "{line}");
    assert!(line.contains("1 user") && line.contains("empty"), "{line}");
    let names: String = sql.value(r#"select string_agg(name, ',') from "user""#, &[]);
    assert_eq!(names, "ann");
}

/// Not even a table is made there.
#[test]
fn a_database_of_another_application_stays_as_it_was() {
    let turn = Turn::shared();
    for (made, why) in [
        (r#"create table "user" (email text); insert into "user" values ('ann')"#, "1 user:"),
        ("create table shop (name text); insert into shop values ('a')", "rows in public.shop"),
        (r#"create table "a b" (c int); insert into "a b" values (1)"#, r#"public."a b""#),
    ] {
        let database = empty(&turn);
        database.sql().run(made);
        let before = database.dump();
        let (code, line) = refusal(&Bench::new(), &["run", "--database-url", &database.url()]);
        assert_eq!(code, Some(1), "{line}");
        assert!(line.contains(why) && line.contains("empty"), "{line}");
        assert_eq!(database.dump(), before);
    }
}

#[test]
fn sql_of_a_scenario_that_fails_is_told_by_its_key_and_in_postgresqls_words() {
    let turn = Turn::shared();
    let database = empty(&turn);
    let bench = Bench::new();
    let request = "[[request]]\nname = 'a'\npath = '/health/live'\n";
    for key in ["setup", "cleanup"] {
        let sql = "insert into nowhere values (1)";
        bench.folder.write("own.toml", &format!("about = 'x'\n{key} = '{sql}'\n{request}"));
        let url = database.url();
        let given = ["run", "--scenario", "own.toml", "--workers", "1", "--database-url", &url];
        let args: Vec<&str> =
            given.into_iter().chain(SHORT).chain(["--duration", "200ms"]).collect();
        let (code, line) = refusal(&bench, &args);
        assert_eq!(code, Some(1), "{line}");
        assert!(line.contains(&format!("`{key}`")) && line.contains(r#""nowhere""#), "{line}");
        let args = ["run", "--scenario", "own.toml", "--url", "http://127.0.0.1:1"];
        let (code, line) = refusal(&bench, &args);
        assert_eq!(code, Some(1), "{line}");
        assert!(line.contains(&format!("`{key}`")) && line.contains("--url has none"), "{line}");
    }
}
