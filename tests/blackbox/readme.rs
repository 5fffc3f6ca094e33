//! README's commands, run as README has them.
//!
//! Every line of a console block that begins with `$ ` is run here, in its order, but those of sections that have a
//! test of their own ([`ELSEWHERE`]); one of a kind that this file does not know is a failure. What differs from a reader's terminal: the port is of the
//! system's choice, `cargo run` is the program that cargo has built for these tests, the database's
//! URL is that of a test's database, and the folder of revisions is a copy.

use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{Database, Launch, Peace, Request, Turn, request};
use crate::{e2e, loadtest};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const DEPLOY_UP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/up");
const MIGRATE: &str = env!("CARGO_BIN_EXE_peace-migrate");

/// README's ports.
const API: &str = "8000";
const ADMIN: &str = "8001";

/// They need a machine of their own: `systemd`, `docker` and `kubernetes` of tests/external.
const ELSEWHERE: [&str; 3] = ["### Under systemd", "### In Docker", "### In Kubernetes"];

/// A first build, on a slow machine.
const BUILD: Duration = Duration::from_secs(20 * 60);
const STOP: Duration = Duration::from_secs(15);

#[test]
fn every_command_of_readme_does_what_it_says() {
    let turn = Turn::shared();
    let database = Database::blank(&turn);
    let versions = tempfile::tempdir().unwrap();
    copy(&Path::new(ROOT).join("migrations/versions"), versions.path());
    let measured = tempfile::tempdir().unwrap();
    let mut reader = Reader {
        turn: &turn,
        database_url: database.url(),
        versions: versions.path(),
        measured: measured.path(),
        env: None,
        server: None,
    };
    let readme = fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    let commands: Vec<&str> = commands(&readme).collect();
    assert!(commands.len() > 5, "README has commands: {commands:?}");
    for command in commands {
        eprintln!("$ {command}");
        reader.run(command);
    }
}

/// `deploy/up` from a folder that only we may enter, with what a fresh login has in its environment.
#[test]
fn deploy_up_serves_from_a_private_folder() {
    let turn = Turn::alone();
    let mut launch = Launch::bare(&turn).program(DEPLOY_UP).with_embedded();
    for name in ["HOME", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "CARGO_TARGET_DIR"] {
        if let Ok(value) = std::env::var(name) {
            launch = launch.env(name, &value);
        }
    }
    fs::set_permissions(launch.folder().path(), fs::Permissions::from_mode(0o700)).unwrap();
    let launch = launch.args(["--bind", "127.0.0.1:0", "--log-format", "json", "--workers", "2"]);
    let start = Instant::now();
    let mut peace = launch.start();
    peace.await_event("it serves", 0, BUILD, |event| event.is("serving"));
    eprintln!("deploy/up served after {:.1} s, the build included", start.elapsed().as_secs_f64());
    assert_eq!(peace.ask(&request("GET", "/health/ready")).status, 200);
    assert_eq!(peace.ask(&request("GET", "/users")).status, 200);
    assert_eq!(peace.stop(STOP).code, Some(0));
}

/// The commands of the console blocks that are run here.
fn commands(readme: &str) -> impl Iterator<Item = &str> {
    assert!(ELSEWHERE.iter().all(|heading| readme.lines().any(|line| line == *heading)));
    let (mut in_console, mut is_elsewhere) = (false, false);
    readme.lines().filter_map(move |line| {
        // In a console block it is a prompt of root's.
        if line.starts_with("## ") || line.starts_with("### ") {
            is_elsewhere = ELSEWHERE.contains(&line);
        }
        if let Some(language) = line.strip_prefix("```") {
            in_console = language == "console";
        }
        line.strip_prefix("$ ").filter(|_| in_console && !is_elsewhere)
    })
}

/// Somebody who types what README says.
struct Reader<'a> {
    turn: &'a Turn,
    /// The revisions, where a command may write.
    versions: &'a Path,
    /// Where reports of measurements go.
    measured: &'a Path,
    /// What stands for the reader's own database.
    database_url: String,
    /// Whether `DATABASE_URL` is exported by now.
    env: Option<String>,
    server: Option<Peace>,
}

impl Reader<'_> {
    /// All in one folder, since later ones read what earlier ones have written. Shorter than a reader's.
    fn load(&self, command: &str, args: &[&str]) {
        let short = ["--rounds", "1", "--duration", "200ms", "--warm-up", "100ms", "--users", "50"];
        let mut loadtest = Command::new(loadtest::program());
        loadtest.args(args).current_dir(self.measured).env_remove("DATABASE_URL");
        if args[0] == "run" {
            loadtest.args(short).args(["--items", "100"]);
        }
        let output = loadtest.output().unwrap();
        eprintln!("{}", String::from_utf8_lossy(&output.stdout));
        // So short, and beside other tests, one may be slower than the other, and nothing be said.
        let is_judgement = args[0] != "run" && output.status.code() == Some(1);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() || is_judgement && told.is_empty(), "{command}: {told}");
    }

    fn run(&mut self, command: &str) {
        let words = words(command);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match &words[..] {
            // Their own tests, and the script that runs this one.
            ["./deploy/up"]
            | ["./deploy/rename", ..]
            | ["./tests/run", ..]
            | ["./tests/load/against", ..] => assert_runnable(words[0]),
            ["cargo", "run", "--release", "--bin", "peace-loadtest", "--", args @ ..] => {
                self.load(command, args);
            }
            ["cargo", "run", "--release", "--bin", "peace-migrate", "--", args @ ..] => {
                let launch = self.launch().program(MIGRATE).args(args.to_vec());
                let output = launch.args(["--versions", path(self.versions)]).output();
                assert!(output.status.success(), "{command}: {output:?}");
            }
            ["cargo", "run", "--release", "--bin", "peace-e2e", "--", args @ ..] => {
                let server = self.server.as_ref().expect("README starts a server before it");
                let url = format!("http://{}", server.address());
                let launch = Launch::bare(self.turn).program(e2e::program()).args(args.to_vec());
                let output = launch.args(["--app-url", &url]).output();
                eprintln!("{}", String::from_utf8_lossy(&output.stdout));
                assert!(output.status.success(), "{command}");
            }
            ["cargo", "run", "--release", "--", "ctl", args @ ..] => {
                let server = self.server.as_ref().expect("README starts a server before it");
                let control = server.folder().join(".peace/control.sock");
                let launch = Launch::bare(self.turn).args(["ctl"]).args(args.to_vec());
                let output = launch.args(["--control", &control.display().to_string()]).output();
                eprintln!("{}", String::from_utf8_lossy(&output.stdout));
                assert!(output.status.success(), "{command}");
            }
            ["cargo", "run", "--release", "--", "config", args @ ..] => {
                let launch = self.launch().args(["config"]).args(args.iter().copied());
                assert!(launch.output().status.success(), "{command}");
            }
            ["cargo", "run", "--release", "--", args @ ..] => self.serve(args),
            ["curl", args @ ..] => self.curl(args),
            ["export", assignment] if assignment.starts_with("DATABASE_URL=") => {
                self.env = Some(self.database_url.clone());
            }
            _ => panic!("README has a command that this test cannot run: {command}"),
        }
    }

    fn launch(&self) -> Launch {
        let launch = Launch::bare(self.turn);
        match &self.env {
            Some(url) => launch.env("DATABASE_URL", url),
            None => launch,
        }
    }

    fn serve(&mut self, args: &[&str]) {
        if let Some(mut server) = self.server.take() {
            assert_eq!(server.stop(STOP).code, Some(0));
        }
        let launch = self.launch().args(args.iter().copied());
        let launch = launch.args(["--bind", "127.0.0.1:0", "--admin-bind", "127.0.0.1:0"]);
        let launch = launch.args(["--log-format", "json"]);
        let launch = if self.env.is_none() { launch.with_embedded() } else { launch };
        self.server = Some(launch.serve());
    }

    fn curl(&self, args: &[&str]) {
        let server = self.server.as_ref().expect("README starts a server before it uses curl");
        let (request, port) = request_of(args);
        let reply = match port {
            ADMIN => request.fresh(server.admin_address()).unwrap(),
            _ => server.ask(&request),
        };
        let body = String::from_utf8_lossy(&reply.body);
        eprintln!("{} {body}", reply.status);
        assert!((200..300).contains(&reply.status), "curl {args:?}: {} {body}", reply.status);
    }
}

/// What curl would send, and to which of README's ports.
fn request_of<'a>(args: &[&'a str]) -> (Request, &'a str) {
    let mut args: VecDeque<&str> = args.iter().copied().collect();
    let (mut target, mut media_type) = (None, "application/x-www-form-urlencoded".to_owned());
    let mut data: Vec<&str> = Vec::new();
    while let Some(arg) = args.pop_front() {
        match arg {
            "-s" | "-i" => {}
            "-d" => data.extend(args.pop_front()),
            "-H" => {
                let header = args.pop_front().and_then(|header| header.split_once(": "));
                let (name, value) = header.expect("-H takes a header");
                assert!(name.eq_ignore_ascii_case("content-type"), "-H {name}");
                media_type = value.to_owned();
            }
            url => {
                target = url.strip_prefix("localhost:").and_then(|rest| rest.split_at_checked(4))
            }
        }
    }
    let (port, target) = target.expect("curl asks a port of localhost");
    assert!([API, ADMIN].contains(&port), "{port}");
    match &data[..] {
        [] => (request("GET", target), port),
        _ => (request("POST", target).body(&media_type, data.join("&")), port),
    }
}

fn copy(from: &Path, to: &Path) {
    for file in fs::read_dir(from).unwrap().map(Result::unwrap) {
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("our paths are text")
}

fn assert_runnable(script: &str) {
    let mode = fs::metadata(Path::new(ROOT).join(script)).expect(script).permissions().mode();
    assert_ne!(mode & 0o111, 0, "{script} can be executed");
}

/// Splits as a shell does, as far as single quotes go.
fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for (index, part) in command.split('\'').enumerate() {
        let last = words.last_mut().expect("there is always a last word");
        if index % 2 == 1 {
            last.push_str(part);
            continue;
        }
        let mut pieces = part.split(' ');
        last.push_str(pieces.next().unwrap_or_default());
        words.extend(pieces.map(str::to_owned));
    }
    words.retain(|word| !word.is_empty());
    words
}
