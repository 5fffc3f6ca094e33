//! Our images, really built and run: by a Docker Engine of the tests' own, and docker-compose.
//!
//! README's "In Docker" is walked line by line; the image is looked into, locked down, asked a thousand times,
//! and stopped under load. Bases that a registry would give are made here (`docker::bases`). The images are built once,
//! by whichever test comes first.

/// What images are built on.
mod bases;
/// The engine.
mod engine;
/// deploy/compose.yaml, in use.
mod stack;

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::process::Output;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use self::stack::{BUILDS, Stack, readme};
use crate::copied::run;
use crate::harness::load::{Call, Load, LoadShape};
use crate::harness::peace::signal_to;
use crate::harness::wait::{until, until_true};
use crate::harness::{Connection, Launch, Turn, get, post, proc};
use crate::openapi::told;

const SOON: Duration = Duration::from_secs(20);
const COMPRESSED_MAX_MIB: f64 = 30.0;
/// Sent one after the other.
const REQUESTS: usize = 1_000;

#[test]
fn the_lines_of_the_readme_work() {
    let _turn = Turn::alone();
    let stack = Stack::cloned();
    stack.engine.enter();
    let lines = readme();
    let begun = Instant::now();
    let told = stack.lines(&lines);
    eprintln!("{} lines: {:.1?}", lines.len(), begun.elapsed());
    for expected in [r#""status":"ready""#, "concurrency at ", "deadlocks at "] {
        assert!(told.contains(expected), "{expected}: {told}");
    }
    assert_eq!(stack.engine.run(&["ps", "--all", "--quiet"]), "", "nothing is left running");
}

#[test]
fn up_goes_from_nothing_to_a_migrated_server_that_is_healthy() {
    let _turn = Turn::alone();
    let stack = Stack::built();
    stack.engine.enter();
    let begun = Instant::now();
    stack.compose(&["up", "-d"]);
    let app = stack.container("app");
    let address = stack.address(&app);
    until_true("200 on /health/ready", SOON, || {
        get("/health/ready").fresh(address).is_ok_and(|reply| reply.status == 200)
    });
    eprintln!("from nothing to ready: {:.1?}", begun.elapsed());
    stack.await_health("app", SOON);
    eprintln!("and to healthy: {:.1?}", begun.elapsed());
    let current = stack.compose(&["run", "--rm", "-T", "migrations", "peace-migrate", "current"]);
    assert!(current.contains("(head)"), "{current}");
    for scenario in ["concurrency", "deadlocks"] {
        let begun = Instant::now();
        stack.compose(&["run", "--rm", "-T", "tests", "peace-e2e", "test", scenario]);
        eprintln!("peace-e2e test {scenario}: {:.1?}", begun.elapsed());
    }
    // Without its database it does not pretend.
    stack.compose(&["stop", "postgres"]);
    until_true("it says that it is not ready", SOON, || {
        get("/health/ready").fresh(address).is_ok_and(|reply| reply.status == 503)
    });
}

/// An engine shows a secret to one container, and with mode 0444: who may read it is no question then, who may write it
/// is one still. In a mount namespace, where the real path is ours.
#[test]
fn what_an_engine_puts_in_run_secrets_may_be_read_by_all_and_written_by_none() {
    const PUTS: &str = r#"mount -t tmpfs none /run && mkdir /run/secrets && umask 077 &&
        printf %s 0123456789abcdef0123456789abcdef-ok >/run/secrets/key &&
        chmod "$MODE" /run/secrets/key && exec "$0" "$@""#;
    let turn = Turn::shared();
    let told_with = |mode: &str| {
        Launch::bare(&turn)
            .args(["config", "check"])
            .under("unshare", ["--mount", "sh", "-c", PUTS])
            .env("MODE", mode)
            .env("PEACE_ENV", "production")
            .env("DATABASE_URL", "postgres://app@localhost/peace")
            .env("JWT_SECRET_KEY_FILE", "/run/secrets/key")
            .output()
    };
    for mode in ["0400", "0440", "0444"] {
        let output = told_with(mode);
        assert!(output.status.success(), "{mode}: {}", told(&output));
    }
    for mode in ["0446", "0442"] {
        let output = told_with(mode);
        assert_eq!(output.status.code(), Some(64), "{mode}: {}", told(&output));
        assert!(told(&output).contains("is open to every user"), "{mode}: {}", told(&output));
    }
}

#[test]
fn the_images_are_small_and_hold_programs_and_nothing_else() {
    let _turn = Turn::alone();
    let stack = Stack::built();
    // Once more, beside secrets that lie there by now: nothing that is sent to the engine has changed.
    stack.lines(&[BUILDS]);
    let secrets = ["postgres-password", "jwt-secret-key"].map(|name| {
        let path = stack.path().join("deploy/secrets").join(name);
        fs::read_to_string(path).unwrap().trim().to_owned()
    });
    let base = paths(&stack, stack.base());
    for (image, programs) in [
        ("peace-app", &["peace-supervisor"][..]),
        ("peace-migrations", &["peace-migrate"]),
        ("peace-tests", &["peace-e2e", "peace-loadtest"]),
    ] {
        let all = stack.inspect(image);
        let save = format!("set -o pipefail; docker save {image} | gzip | wc -c");
        let compressed = run(&mut stack.engine.bounded(engine::SOON_S, "bash", &["-c", &save]));
        let mib = compressed.trim().parse::<f64>().unwrap() / f64::from(1 << 20);
        let whole_mib = all["Size"].as_f64().unwrap() / f64::from(1 << 20);
        eprintln!("{image}: {mib:.1} MiB compressed, {whole_mib:.1} MiB");
        assert!(mib <= COMPRESSED_MAX_MIB, "{image}: {mib:.1} MiB");

        let added: BTreeSet<String> = paths(&stack, image).difference(&base).cloned().collect();
        let expected = programs.iter().map(|name| format!("usr/local/bin/{name}"));
        let folders = ["usr/local/", "usr/local/bin/"].map(str::to_owned);
        assert_eq!(added, expected.chain(folders).collect(), "{image}");

        let config = &all["Config"];
        assert_eq!(config["User"], "65532:65532", "{image}");
        assert!(config["Labels"]["org.opencontainers.image.title"].is_string(), "{image}");
        let history = stack.engine.run(&["history", "--no-trunc", image]);
        let layers = format!("docker save {image} | tar --extract --to-stdout");
        let layers = stack.engine.bounded(engine::SOON_S, "bash", &["-c", &layers]).output();
        let layers = layers.unwrap().stdout;
        for secret in &secrets {
            let is_told = format!("{all}{history}").contains(secret);
            let is_held = layers.windows(secret.len()).any(|bytes| bytes == secret.as_bytes());
            assert!(!is_told && !is_held, "a secret in {image}");
        }
        let variables = config["Env"].as_array().unwrap();
        for variable in variables.iter().filter_map(|one| one.as_str()) {
            let is_secret = ["KEY", "PASSWORD", "DATABASE"].iter().any(|it| variable.contains(it));
            assert!(!is_secret, "{image}: {variable}");
        }
    }
    let app = &stack.inspect("peace-app")["Config"];
    assert_eq!(app["Entrypoint"], json!(["peace-supervisor"]));
    assert_eq!(app["Healthcheck"]["Test"], json!(["CMD", "peace-supervisor", "healthcheck"]));
    assert_eq!(app["StopSignal"], "SIGTERM");
}

/// The paths of an image's files, as the engine packs them: with what it puts into any container.
fn paths(stack: &Stack, image: &str) -> BTreeSet<String> {
    let container = stack.engine.run(&["create", image, "nothing"]);
    let list = format!("docker export {container} | tar --list");
    let listed = run(&mut stack.engine.bounded(engine::SOON_S, "bash", &["-c", &list]));
    stack.engine.run(&["rm", &container]);
    listed.lines().map(|path| path.trim_start_matches("./").to_owned()).collect()
}

#[test]
fn the_image_alone_says_what_it_needs() {
    let _turn = Turn::alone();
    let stack = Stack::built();
    let refused = |options: &[&str], code: i32, what: &[&str]| {
        let begun = Instant::now();
        let output: Output = stack.run_app(options, &[]);
        let told = told(&output);
        eprintln!("{:?} after {:.1?}: {}", output.status.code(), begun.elapsed(), told.trim_end());
        assert_eq!(output.status.code(), Some(code), "{told}");
        assert_eq!(told.lines().count(), what.len(), "{told}");
        for (line, what) in told.lines().zip(what) {
            assert!(line.starts_with("peace-supervisor: ") && line.contains(what), "{line}");
        }
    };
    let database = "DATABASE_URL (not set): production has no embedded database; give postgres://";
    let key = "JWT_SECRET_KEY (not set): production generates no key; give 32 random bytes";
    refused(&["--read-only", "--cap-drop=ALL"], 64, &[database, key]);
    let secret = "JWT_SECRET_KEY=0123456789abcdef0123456789abcdef-ok";
    refused(&["--env", secret], 64, &[database]);
    let url = "DATABASE_URL=postgres://peace@127.0.0.1/peace";
    refused(
        &["--env", secret, "--env", url],
        69,
        &["no connection to the database at 127.0.0.1:5432"],
    );
    let version = stack.run_app(&[], &["--version"]);
    assert!(version.status.success(), "{version:?}");
    let shell = stack.run_app(&["--entrypoint", "sh"], &[]);
    assert_eq!(shell.status.code(), Some(127), "there is a shell: {shell:?}");
}

#[test]
fn locked_down_it_serves_and_writes_nothing() {
    let _turn = Turn::alone();
    let stack = Stack::serving();
    stack.engine.enter();
    let app = stack.container("app");
    let host = &stack.inspect(&app)["HostConfig"];
    assert_eq!(host["ReadonlyRootfs"], true);
    assert_eq!(host["CapDrop"], json!(["ALL"]));
    ask_often(stack.address(&app));
    let ours = || of_ours(&stack);
    assert!(ours().len() >= 2, "a supervisor and its workers");
    for pid in ours() {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.expect("the kernel tells").split_whitespace().map(str::to_owned).collect()
        };
        let uids: Vec<String> = field("Uid:");
        assert_eq!(uids, ["65532"; 4], "{status}");
        for name in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            let bits: Vec<String> = field(name);
            assert_eq!(bits, ["0000000000000000"], "{name}: {status}");
        }
        let no_more: Vec<String> = field("NoNewPrivs:");
        assert_eq!(no_more, ["1"], "{status}");
    }

    // One that could write: nothing is there that it did not find.
    let secrets = ["database-url", "jwt-secret-key"].map(|name| {
        let folder = stack.path().join("deploy/secrets");
        format!("--volume={}/{name}:/run/secrets/{name}:ro", folder.display())
    });
    let mut options = vec!["run", "--detach", "--network=stack_default"];
    options.extend(secrets.iter().map(String::as_str));
    options.extend([
        "--env=DATABASE_URL_FILE=/run/secrets/database-url",
        "--env=JWT_SECRET_KEY_FILE=/run/secrets/jwt-secret-key",
    ]);
    let open = stack.engine.run(&[&options[..], &["peace-app", "--workers=2"]].concat());
    let address = stack.address(&open);
    until_true("it serves", SOON, || get("/health/ready").fresh(address).is_ok());
    ask_often(address);
    for container in [&app, &open] {
        let written = stack.engine.run(&["diff", container]);
        // Where the engine puts the secrets.
        let is_engines = |line: &&str| line.starts_with("C /run") || line.starts_with("A /run");
        let written: Vec<&str> = written.lines().filter(|line| !is_engines(line)).collect();
        assert_eq!(written, Vec::<&str>::new(), "in {container}");
    }
    stack.engine.run(&["rm", "--force", &open]);
    until_true("the other one is gone", SOON, || ours().len() < 6);

    check_no_zombie(&stack, stack.address(&app));
}

/// Kills every worker; what is left is taken away by the first process, ours.
fn check_no_zombie(stack: &Stack, address: SocketAddr) {
    let before = of_ours(stack);
    let first = |all: &[i32]| *all.iter().min().expect("it runs");
    let supervisor = first(&before);
    for worker in before.iter().filter(|pid| **pid != supervisor) {
        signal_to(*worker, Signal::SIGKILL);
    }
    let after = until("other workers", SOON, || {
        let now = of_ours(stack);
        let is_new =
            now.len() == before.len() && now.iter().filter(|one| before.contains(one)).count() == 1;
        is_new.then_some(now)
    });
    assert_eq!(first(&after), supervisor, "the first process lives on");
    assert_eq!(get("/health/ready").fresh(address).unwrap().status, 200);
    let is_zombie = |pid: &i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.contains("State:\tZ") && status.contains(&format!("PPid:\t{supervisor}\n"))
    };
    let zombies = proc::children(supervisor).into_iter().filter(is_zombie).count();
    assert_eq!(zombies, 0, "zombies");
    eprintln!("{} workers killed and replaced, no zombie", before.len() - 1);
}

/// The processes of the app's containers, health checks apart.
fn of_ours(stack: &Stack) -> Vec<i32> {
    let is_ours = |pid: &i32| {
        let line = proc::command_line(*pid);
        line.starts_with("peace") && !line.contains("healthcheck")
    };
    stack.engine.processes().into_iter().filter(is_ours).collect()
}

/// A thousand requests over a few connections: reads, and now and then a user who is made and logs in.
fn ask_often(address: SocketAddr) {
    let begun = Instant::now();
    let mut connections: Vec<Connection> =
        std::iter::repeat_with(|| Connection::open(address).unwrap()).take(8).collect();
    for number in 0..REQUESTS {
        let name = format!("{:x}-{number}", address.port() as usize + std::process::id() as usize);
        let host = address.ip().to_string().replace('.', "-");
        let name: String = format!("{host}-{name}").chars().rev().take(30).collect();
        let (request, status) = match number % 20 {
            0 => (post("/users").json(&json!({"name": name, "password": "correct-horse"})), 201),
            1 => (get("/docs/"), 200),
            2..=9 => (get("/users?limit=10"), 200),
            _ => (get("/health/ready"), 200),
        };
        let reply = connections[number % 8].send(&request).unwrap();
        let body = String::from_utf8_lossy(&reply.body);
        assert_eq!(reply.status, status, "{request:?}: {body}");
    }
    eprintln!("{REQUESTS} requests in {:.1?}", begun.elapsed());
}

#[test]
fn a_stop_under_load_is_in_time_and_answers_what_has_come() {
    let _turn = Turn::alone();
    let stack = Stack::serving();
    stack.engine.enter();
    let app = stack.container("app");
    let address = stack.address(&app);
    let live = Call::get("/health/live", 200);
    let load = Load::start(
        address,
        &LoadShape {
            fresh: vec![Call::get("/users", 200), live.clone(), live],
            fresh_per_s: 600,
            kept: Call::post("/auth/refresh", "refresh_token=bad", 401),
            kept_clients: 32,
            kept_per_s: 8,
            patience: Duration::from_secs(5),
            limit: Duration::from_secs(60),
        },
    );
    until_true("the load runs", SOON, || load.begun() > 1_000);
    let stop = Instant::now();
    stack.engine.run(&["stop", &app]);
    let took = stop.elapsed();
    let tally = load.stop();
    let state = &stack.inspect(&app)["State"];
    eprintln!("docker stop under load: {took:.1?}, exit code {}; {tally}", state["ExitCode"]);
    // Who came after it, and found nobody, has lost nothing.
    let is_late = |begun: Instant, text: &str| begun >= stop && text.contains("connecting");
    let lost: Vec<_> =
        tally.losses().filter(|loss| !is_late(loss.begun, &loss.text)).take(20).collect();
    assert!(lost.is_empty(), "{lost:#?}");
    assert_eq!(state["ExitCode"], 0, "{state}");
    assert!(took < Duration::from_secs(10), "{took:?}");
}
