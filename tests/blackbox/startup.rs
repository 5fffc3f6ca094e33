//! Starts and stops in bad company: nobody reads the log, the last start was killed, the settings
//! are wrong. What the program needs of its surroundings is told in one line, or done without.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::folder::Folder;
use crate::harness::peace::signal_to;
use crate::harness::wait::until;
use crate::harness::{Connection, Database, Launch, Turn, get};

const PROGRAM: &str = env!("CARGO_BIN_EXE_peace-supervisor");
const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy");
const SOON: Duration = Duration::from_secs(10);

/// The program, with its log in our own hands.
struct Served {
    child: Child,
    /// Until the test drops it.
    log: Option<BufReader<ChildStderr>>,
    address: SocketAddr,
    _folder: Folder,
}

impl Served {
    /// Starts it and reads the log until it serves, and no further.
    #[allow(clippy::zombie_processes, reason = "`Drop` waits for it")]
    fn start(database: &Database<'_>) -> Self {
        let folder = Folder::new();
        let mut command = Command::new(PROGRAM);
        command.args(["--bind", "127.0.0.1:0", "--workers", "2", "--pool-size", "2"]);
        command.args(["--log-format", "json"]).current_dir(folder.path());
        command.env_clear().env("DATABASE_URL", database.url());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program runs");
        let mut log = BufReader::new(child.stderr.take().expect("standard error is a pipe"));
        let mut address = None;
        loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "it ended before it served");
            let event: Value = serde_json::from_str(&line).expect(&line);
            if event["message"] == "listening" {
                address = event["address"].as_str().and_then(|address| address.parse().ok());
            }
            if event["message"] == "serving" {
                let address = address.expect("it said where it listens");
                return Self { child, log: Some(log), address, _folder: folder };
            }
        }
    }

    /// Each request leaves a line of more than a thousand bytes in the log.
    fn ask(&self, times: usize) {
        let mut connection = Connection::open(self.address).unwrap();
        let nothing = get(format!("/{}", "x".repeat(1000)));
        for _ in 0..times {
            assert_eq!(connection.send(&nothing).unwrap().status, 404);
        }
    }

    /// Signals it and waits for its end. Answers the exit code.
    fn stop(&mut self) -> Option<i32> {
        signal_to(i32::try_from(self.child.id()).unwrap(), Signal::SIGTERM);
        until("it stops", SOON, || self.child.try_wait().unwrap()).code()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // Its children follow by themselves.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[test]
fn a_log_that_nobody_holds_any_more_ends_nothing() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let mut served = Served::start(&database);
    drop(served.log.take());
    served.ask(100);
    assert_eq!(served.child.try_wait().unwrap(), None, "it serves on");
    assert_eq!(served.stop(), Some(0));
}

#[test]
fn a_log_that_nobody_reads_holds_up_nothing() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let mut served = Served::start(&database);
    // The pipe and the worker together have room for half of the lines.
    served.ask(2500);
    assert_eq!(served.stop(), Some(0));
    let mut rest = String::new();
    served.log.take().unwrap().read_to_string(&mut rest).unwrap();
    for line in rest.lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "a whole line: {line}");
    }
}

#[test]
fn a_log_that_is_read_again_tells_how_much_is_missing() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let mut served = Served::start(&database);
    served.ask(2500);
    let lost = |line: &str| {
        let event: Value = serde_json::from_str(line).expect(line);
        event["lost"].as_u64().is_some_and(|lines| lines > 0)
    };
    let started = Instant::now();
    loop {
        assert!(started.elapsed() < SOON, "nobody told of lost lines");
        // Something to log, whichever worker it reaches.
        Connection::open(served.address).unwrap().send(&get("/health/live")).unwrap();
        let mut line = String::new();
        served.log.as_mut().unwrap().read_line(&mut line).unwrap();
        if lost(&line) {
            break;
        }
    }
    assert_eq!(served.stop(), Some(0));
}

#[test]
fn a_panic_is_a_line_of_the_log() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let mut peace = Launch::on(&turn, &database).workers(1).env("PEACE_FAULTS", "1").serve();
    assert_eq!(peace.ask(&get("/debug/panic")).status, 500);
    let event = peace.await_event("a panic", 0, SOON, |event| event.is("panicked"));
    assert!(event.text_of("place").is_some_and(|place| place.contains(".rs:")), "{}", event.text);
    let ended = peace.stop(SOON);
    // The program warns of faults before it logs.
    let strange = ended.lines.iter().filter(|line| !line.starts_with('{'));
    let strange: Vec<&String> = strange.filter(|line| !line.contains("PEACE_FAULTS")).collect();
    assert!(strange.is_empty(), "{strange:?}");
}

#[test]
fn a_start_that_was_killed_while_it_made_its_database_is_repeated() {
    let turn = Turn::shared();
    let mut peace = Launch::embedded(&turn).workers(1).start();
    let base = peace.embedded().place().base().to_owned();
    until("initdb has begun", SOON, || {
        let attempts = fs::read_dir(&base).ok()?.flatten();
        let mut attempts = attempts
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("postgres.new."));
        attempts.find(|attempt| attempt.path().join("base").exists())
    });
    peace.kill();
    peace.start_again();
    peace.await_serving();
    assert_eq!(peace.ask(&get("/users")).status, 200);
    assert_eq!(peace.stop(SOON).code, Some(0));
    let left = fs::read_dir(&base).unwrap().flatten().map(|entry| entry.file_name());
    let left: Vec<String> = left.map(|name| name.to_string_lossy().into_owned()).collect();
    assert!(!left.iter().any(|name| name.contains("new")), "{left:?}");
}

#[test]
fn a_killed_program_can_be_started_again_at_once() {
    let turn = Turn::shared();
    let mut peace = Launch::embedded(&turn).workers(1).serve();
    for _ in 0..3 {
        peace.kill();
        peace.start_again();
        peace.await_serving();
    }
    assert_eq!(peace.stop(SOON).code, Some(0));
}

#[test]
fn a_secret_that_cannot_be_made_says_how_to_do_without() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let launch = Launch::on(&turn, &database);
    launch.folder().write(".peace", "not a folder");
    let ended = launch.run(SOON);
    assert_eq!((ended.code, ended.lines.len()), (Some(71), 1), "{:?}", ended.lines);
    for part in ["cannot make .peace/jwt-secret", "JWT_SECRET_KEY"] {
        assert!(ended.lines[0].contains(part), "{part:?} is not in: {}", ended.lines[0]);
    }
}

/// `deploy/up` with the server that is built already.
fn deploy_up(args: &[&str]) -> Output {
    let folder = Folder::new();
    let release = folder.path().join("target/release");
    fs::create_dir_all(&release).unwrap();
    symlink(PROGRAM, release.join("peace-supervisor")).unwrap();
    let cargo = folder.write("cargo", "#!/bin/sh\n");
    fs::set_permissions(cargo, Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    let mut up = Command::new("bash");
    up.arg(format!("{DEPLOY}/up")).args(args).current_dir(folder.path()).env_clear();
    up.env("PATH", format!("{}:{path}", folder.path().display()));
    up.env("CARGO_TARGET_DIR", folder.path().join("target"));
    // Nobody serves there, so that every start ends by itself.
    up.env("DATABASE_URL", "postgres://ann@127.0.0.1:1/peace").output().unwrap()
}

#[test]
fn deploy_up_says_where_it_will_serve_or_what_is_wrong() {
    let _turn = Turn::shared();
    let said = |output: &Output| {
        String::from_utf8([output.stdout.clone(), output.stderr.clone()].concat()).unwrap()
    };
    let wrong = deploy_up(&["serve", "--bind", "x"]);
    let text = said(&wrong);
    assert_eq!(wrong.status.code(), Some(64), "{text}");
    assert!(text.contains("--bind") && !text.contains("/users"), "{text}");

    let right = deploy_up(&["serve", "--bind", "127.0.0.1:18431"]);
    let text = said(&right);
    assert_eq!(right.status.code(), Some(69), "{text}");
    assert!(text.contains("http://127.0.0.1:18431/users") && text.contains("Ctrl-C"), "{text}");

    let folder = Folder::new();
    let path = folder.path().join("api.sock").display().to_string();
    let text = said(&deploy_up(&["--bind", &format!("unix:{path}")]));
    let told = format!("curl --unix-socket {path} http://localhost/users");
    assert!(text.contains(&told), "{text}");
}
