//! The servers that ours is measured against: they answer what ours does, and README's comparison in
//! short, measured in turns on one database, with the page that comes of it.

use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};

use crate::chromium::Chromium;
use crate::harness::built::program;
use crate::harness::client::Reply;
use crate::harness::folder::Folder;
use crate::harness::wait::until;
use crate::harness::{Database, Launch, Peace, Request, Turn, api, get, post, put};
use crate::page;

const PEERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/load/peers");
const AGAINST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/load/against");
const PRINT: &str = "#!/bin/sh\nprintf '%s\\n' \"$@\"\n";
const SECRET: &str = "the secret that only these tests know";
/// For numbers that nobody reads.
const SHORT: &str =
    "--workers 1,2 --rounds 1 --duration 500ms --warm-up 200ms --users 40 --items 160";
/// How long a peer may take until it answers.
const START: Duration = Duration::from_secs(30);
/// Names and moments that are not written as they are, or not everywhere alike.
const ROWS: &str = r#"
    insert into "user" (id, name, fullname) values
        ('01900000-0000-7000-8000-000000000001', 'ann', E'"Ann" \\ Ä \n\t\b\u0001\u007f\u2028 🌍 </a>'),
        ('01900000-0000-7000-8000-000000000002', 'bob', null);
    insert into "user" (id, name) select gen_random_uuid(), 'user ' || n from generate_series(1, 60) n;
    insert into item (id, user_id, name, added)
    select gen_random_uuid(), '01900000-0000-7000-8000-000000000001', name, added::timestamp
    from (values (E'"\\/\u0001', '2024-12-12 13:25:00'), ('é🌍', '2024-12-12 13:25:00.5'),
        (E'\n', '1969-12-31 23:59:59.000001'), ('', '0001-01-01 00:00:00.25'),
        ('123456789012345678901234567890', '9999-12-30 23:59:59.999999')) as odd (name, added);
    insert into item (id, user_id, name, added)
    select gen_random_uuid(), '01900000-0000-7000-8000-000000000001', 'item ' || n,
        timestamp '2024-12-12' + n * interval '1.003 s'
    from generate_series(1, 240) n"#;
const ANN: &str = "01900000-0000-7000-8000-000000000001";
const BOB: &str = "01900000-0000-7000-8000-000000000002";

/// A peer that serves, until it is dropped.
struct Served {
    child: Child,
    address: SocketAddr,
    _folder: Folder,
}

impl Served {
    /// Of the workspace of peers, on this database.
    fn start(name: &str, database: &Database<'_>) -> Self {
        let folder = Folder::new();
        let port = free_port();
        let child = Command::new(rust_peer(name))
            .args(["--port", &port.to_string(), "--workers", "2"])
            .envs([("DATABASE_URL", database.url().as_str()), ("JWT_SECRET_KEY", SECRET)])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let served = Self { child, address, _folder: folder };
        until("the peer answers", START, || get("/health/live").fresh(address).ok());
        served
    }

    fn ask(&self, request: &Request) -> Reply {
        request.fresh(self.address).unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_peers_do_what_ours_does_under_load_and_the_page_shows_all() {
    let turn = Turn::alone();
    let database = Database::blank(&turn);
    let folder = Folder::open_to_all();
    let python = std::env::var("PEACE_TEST_PYTHON").expect("`tests/run --all` sets this");
    let fastapi = format!(
        "{python}/bin/python -m uvicorn --app-dir {PEERS}/fastapi app:app --port {{port}} \
         --workers {{workers}} --no-access-log"
    );
    let axum = format!("{} --port {{port}} --workers {{workers}}", rust_peer("axum").display());
    let measured = Command::new(program("peace-loadtest"))
        .args(["run", "--scenario", "mixed", "--out", "report"])
        .args(["--name", "FastAPI", "--command", &fastapi, "--name", "axum", "--command", &axum])
        .args(["--database-url", &database.url()])
        .args(SHORT.split(' '))
        .current_dir(folder.path())
        .env("TMPDIR", folder.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&measured.stderr);
    assert!(measured.status.success(), "{told}");
    eprintln!("{}", String::from_utf8_lossy(&measured.stdout));
    let report = folder.path().join("report");
    check_all_is_right(&report.join("report.json"));
    page::check(&mut Chromium::start(), &report.join("report.html"), 1200, "a real report");
}

#[test]
fn axum_reads_byte_for_byte_what_ours_reads() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    database.sql().run(ROWS);
    let peace = Launch::on(&turn, &database).workers(1).serve();
    let axum = Served::start("axum", &database);
    let mut targets = ["/health/live", "/users", "/users?limit=200"].map(str::to_owned).to_vec();
    targets.extend([ANN, BOB].map(|user| format!("/users/{user}")));
    targets.extend([ANN, BOB].map(|user| format!("/items?user_pubid={user}")));
    for target in &targets {
        same(&peace, &axum, target);
    }
    for list in ["/users?limit=40".to_owned(), format!("/items?user_pubid={ANN}&limit=100")] {
        let pages = pages(&peace, &axum, &list);
        assert!(pages.len() > 1, "{list}: {} pages", pages.len());
        for item in pages.iter().flat_map(|page| page["items"].as_array()).flatten() {
            same(&peace, &axum, &format!("/items/{}", item["pubid"].as_str().unwrap()));
        }
    }
    for (target, status) in [
        (format!("/items/{ANN}"), 404),
        (format!("/users/{}", ANN.replace('0', "f")), 404),
        ("/users?cursor=0".to_owned(), 422),
        ("/users?limit=201".to_owned(), 422),
    ] {
        let statuses = [peace.ask(&get(&target)).status, axum.ask(&get(&target)).status];
        assert_eq!(statuses, [status; 2], "{target}");
    }
}

#[test]
fn axum_writes_what_ours_reads_for_the_owner_only() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(1).serve();
    let users = ["ann", "bob"].map(|name| api::sign_up(&peace, name).pubid);
    let axum = Served::start("axum", &database);
    let [ann, bob] = ["ann", "bob"].map(|name| {
        let fields = [("username", name), ("password", api::PASSWORD)];
        let reply = axum.ask(&post("/auth/token").form(&fields));
        reply.json()["access_token"].as_str().expect("a token").to_owned()
    });
    let create = post("/items").json(&json!({"name": "lamp", "user_pubid": users[0]}));
    let created = axum.ask(&create.clone().bearer(&ann));
    assert_eq!(created.status, 201);
    let place = created.header("location").unwrap().to_owned();
    assert_eq!(created.body, peace.ask(&get(&place)).body);
    let replace = put(&place).json(&json!({"added": "2024-12-12T13:25:00.5"}));
    let replaced = axum.ask(&replace.clone().bearer(&ann));
    assert_eq!(replaced.json()["added"], "2024-12-12T13:25:00.500000");
    assert_eq!(replaced.body, peace.ask(&get(&place)).body);

    let absent = put(format!("/items/{}", users[0])).json(&json!({}));
    let wrong = [("username", "ann"), ("password", "wrong-horse")];
    for (request, status) in [
        (create.clone(), 401),
        (create.clone().bearer(&format!("{ann}x")), 401),
        (create.bearer(&bob), 403),
        (replace.clone(), 401),
        (replace.bearer(&bob), 403),
        (absent.bearer(&ann), 404),
        (post("/auth/token").form(&wrong), 401),
    ] {
        assert_eq!(axum.ask(&request).status, status, "{request:?}");
    }
}

#[test]
fn hyper_answers_as_the_liveness_probe_does() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(1).serve();
    let hyper = Served::start("hyper", &database);
    same(&peace, &hyper, "/health/live");
    assert_eq!(hyper.ask(&get("/")).body, hyper.ask(&get("/health/live")).body);
}

#[test]
fn the_script_says_whom_it_knows_before_it_builds_anything() {
    let against = |args: &[&str]| {
        let output = Command::new(AGAINST).args(args).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.success(), text(output.stdout), text(output.stderr))
    };
    let (helps, help, _) = against(&["--help"]);
    assert!(helps && help.lines().count() < 20, "{help}");
    for peer in ["axum", "hyper", "fastapi", "peace"] {
        assert!(help.contains(&format!("\n    {peer} ")), "{help}");
    }
    for (args, why) in [
        (&[][..], "--help"),
        (&["--workers", "2"], "--help"),
        (&["axum,actix"], "no peer 'actix'"),
        (&["peace", "--scenario", "item", "--", "--workers", "2"], "as --workers 2"),
    ] {
        let (worked, _, told) = against(args);
        assert!(!worked && told.contains(why) && told.lines().count() == 1, "{args:?}: {told}");
    }
}

/// What it builds is stood in for: one word of `peace-loadtest`'s command line is a line.
#[test]
fn the_script_hands_on_what_it_was_told_and_measures_peace_twice() {
    let folder = Folder::new();
    fs::create_dir(folder.path().join("dist")).unwrap();
    for (name, script) in [("cargo", "#!/bin/sh\n"), ("dist/peace-loadtest", PRINT)] {
        let path = folder.write(name, script);
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }
    let path = std::env::var("PATH").unwrap();
    let line = "axum,peace,hyper --rounds 2 --workers 1,2 --scenario item -- --workers 9";
    let output = Command::new(AGAINST)
        .args(line.split(' '))
        .env("PATH", format!("{}:{path}", folder.path().display()))
        .env("CARGO_TARGET_DIR", folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let serve = |peer: &str| {
        let program = folder.path().join("peers/release").join(peer);
        format!("{} --port {{port}} --workers {{workers}}", program.display())
    };
    let [axum, hyper] = ["peer-axum", "peer-hyper"].map(serve);
    let mut words = vec!["run", "--name", "axum", "--command", &axum];
    words.extend(["--name", "bare hyper", "--command", &hyper, "--rounds", "2"]);
    words.extend(["--workers", "1,2,1,2", "--scenario", "item", "--", "--workers", "9"]);
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().collect::<Vec<_>>(), words);
}

/// Every answer of all, at every load.
fn check_all_is_right(report: &Path) {
    let report: Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    let names: Vec<&str> = report["series"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["Peace", "FastAPI", "axum"]);
    let runs = report["runs"].as_array().unwrap();
    // Three servers with two numbers of workers, at a peak, three parts of it, and the common rate.
    assert_eq!(runs.len(), 30);
    for run in runs {
        assert_eq!(run["traffic"]["errors"], json!({}), "{run}");
        assert!(run["traffic"]["ok"].as_u64() > Some(10), "{run}");
    }
}

/// Asks both the same, who have to answer the same; gives that.
fn same(peace: &Peace, peer: &Served, target: &str) -> Reply {
    let [ours, theirs] = [peace.ask(&get(target)), peer.ask(&get(target))];
    let seen = |reply: &Reply| {
        let media_type = reply.header("content-type").map(str::to_owned);
        (reply.status, media_type, String::from_utf8(reply.body.clone()).unwrap())
    };
    assert_eq!(seen(&ours), seen(&theirs), "{target}");
    assert_eq!(ours.status, 200, "{target}");
    ours
}

/// All pages of a list, the same of both.
fn pages(peace: &Peace, peer: &Served, list: &str) -> Vec<Value> {
    let mut pages = vec![same(peace, peer, list).json()];
    while let Some(cursor) = pages[pages.len() - 1]["page"]["next_cursor"].as_str() {
        let next = same(peace, peer, &format!("{list}&cursor={cursor}"));
        pages.push(next.json());
    }
    pages
}

/// The program of a member of the workspace of peers, as cargo's usual profile builds it.
fn rust_peer(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let beside = Path::new(env!("CARGO_BIN_EXE_peace-supervisor"));
        let target = beside.parent().and_then(Path::parent).expect("below the target folder");
        let target = target.join("peers");
        let built = Command::new(env!("CARGO"))
            .args(["build", "--locked", "--manifest-path", &format!("{PEERS}/Cargo.toml")])
            .arg("--target-dir")
            .arg(&target)
            .output()
            .expect("cargo runs");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        target.join("debug")
    });
    folder.join(format!("peer-{name}"))
}

/// One that nobody listens at, as the system chooses it.
fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}
