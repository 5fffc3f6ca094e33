//! What deploy/OPERATIONS.md says, done: its commands as they stand there, on a database that is written to meanwhile.
//!
//! What differs from an operator's terminal: where the programs are, and what the three variables hold.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use peace::embedded::Binaries;
use serde_json::json;

use crate::harness::api::{self, PASSWORD, User, add_item, sign_up};
use crate::harness::cluster::Cluster;
use crate::harness::folder::Folder;
use crate::harness::{Connection, Database, Launch, Peace, Turn, get, post};

const OPERATIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/OPERATIONS.md");
const ALERTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/prometheus/alerts.yml");
const MIGRATE: &str = env!("CARGO_BIN_EXE_peace-migrate");
const SECRET: &str = "the secret that is kept beside the dump";

/// The commands of each console block.
fn blocks(text: &str) -> Vec<Vec<&str>> {
    let (mut blocks, mut is_inside) = (Vec::new(), false);
    for line in text.lines() {
        if let Some(language) = line.strip_prefix("```") {
            is_inside = language == "console";
            if is_inside {
                blocks.push(Vec::new());
            }
        } else if let (true, Some(command), Some(block)) =
            (is_inside, line.strip_prefix("$ "), blocks.last_mut())
        {
            block.push(command);
        }
    }
    blocks
}

/// Somebody at a terminal, in a folder of their own.
struct Operator {
    folder: Folder,
    path: OsString,
    variables: [(&'static str, String); 3],
}

impl Operator {
    fn run(&self, command: &str) {
        let mut shell = Command::new("sh");
        shell.args(["-euc", command]).current_dir(self.folder.path()).env_clear();
        shell.env("PATH", &self.path);
        shell.envs(self.variables.iter().map(|(name, value)| (name, value)));
        let (start, output) = (Instant::now(), shell.output().unwrap());
        let told = String::from_utf8_lossy(&output.stdout);
        eprintln!("$ {command}\n{told}({:.2?})", start.elapsed());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Creates items until it is told to stop; gives the names of those that were acknowledged.
fn write_until(over: &AtomicBool, peace: &Peace, user: &User, names: &Mutex<Vec<String>>) {
    let mut connection = Connection::open(peace.address()).unwrap();
    for number in 0.. {
        let name = format!("during {number}");
        let body = json!({"name": name, "user_pubid": user.pubid});
        let reply = connection.send(&post("/items").bearer(&user.token).json(&body)).unwrap();
        assert_eq!(reply.status, 201);
        names.lock().unwrap().push(name);
        if over.load(Ordering::Relaxed) {
            break;
        }
    }
}

#[test]
fn a_dump_under_load_is_restored_and_served() {
    let turn = Turn::shared();
    let cluster = Cluster::start(&[]);
    let database = Database::migrated_in(&cluster);
    let launch = |url: &str| {
        let launch = Launch::on(&turn, &database).workers(2).env("DATABASE_URL", url);
        launch.env("JWT_SECRET_KEY", SECRET)
    };
    let peace = launch(&database.url()).serve();
    let ann = sign_up(&peace, "ann");
    let before = add_item(&peace, &ann, "before");
    let server = Binaries::find(None).unwrap().postgres;
    let programs =
        [Path::new(MIGRATE), &server].map(|program| program.parent().unwrap().to_owned());
    let usual = std::env::var_os("PATH").unwrap_or_default();
    let operator = Operator {
        folder: Folder::new(),
        path: std::env::join_paths(programs.into_iter().chain(std::env::split_paths(&usual)))
            .unwrap(),
        variables: [
            ("DATABASE_URL", database.url()),
            ("MAINTENANCE_URL", cluster.url("postgres")),
            ("RESTORED_URL", cluster.url("peace_restored")),
        ],
    };
    let text = fs::read_to_string(OPERATIONS).unwrap();
    let [dump, restore, log_out] = &blocks(&text)[..] else { panic!("three blocks of commands") };

    let (over, names) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let acknowledged = thread::scope(|scope| {
        scope.spawn(|| write_until(&over, &peace, &ann, &names));
        crate::harness::wait::until_true("writes", std::time::Duration::from_secs(10), || {
            names.lock().unwrap().len() > 20
        });
        let acknowledged = names.lock().unwrap().clone();
        dump.iter().for_each(|command| operator.run(command));
        over.store(true, Ordering::Relaxed);
        acknowledged
    });
    restore.iter().for_each(|command| operator.run(command));

    let restored = crate::harness::database::Sql::connect(&cluster.url("peace_restored")).unwrap();
    let rows = restored.rows("select name from item where name like 'during %'", &[]);
    let found: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
    eprintln!(
        "{} items acknowledged before the dump, {} in it, {} in the end",
        acknowledged.len(),
        found.len(),
        names.lock().unwrap().len()
    );
    assert!(acknowledged.iter().all(|name| found.contains(name)), "the dump has what was there");

    // Everything is as it was: rows, passwords, sessions, tokens.
    let served = launch(&cluster.url("peace_restored")).serve();
    assert_eq!(served.ask(&get("/health/ready")).status, 200);
    assert_eq!(served.ask(&get(&ann.place)).json()["name"], "ann");
    assert_eq!(served.ask(&get(&before)).json()["name"], "before");
    let login = [("username", "ann"), ("password", PASSWORD)];
    assert_eq!(api::log_in(&served, &login).status, 200);
    add_item(&served, &ann, "after");
    let refresh = post("/auth/refresh").form(&[("refresh_token", &ann.refresh_token)]);

    log_out.iter().for_each(|command| operator.run(command));
    assert_eq!(served.ask(&refresh).status, 401);
    let body = json!({"name": "late", "user_pubid": ann.pubid});
    assert_eq!(served.ask(&post("/items").bearer(&ann.token).json(&body)).status, 401);
    assert_eq!(peace.ask(&post("/items").bearer(&ann.token).json(&body)).status, 201);
}

#[test]
fn every_alert_has_its_row_among_the_incidents() {
    let (text, alerts) =
        (fs::read_to_string(OPERATIONS).unwrap(), fs::read_to_string(ALERTS).unwrap());
    let alerts: Vec<&str> =
        alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let rows: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("| `Peace")?.split('`').next()).collect();
    let named: Vec<&str> = alerts.iter().filter_map(|name| name.strip_prefix("Peace")).collect();
    assert_eq!((rows, alerts.len()), (named.clone(), named.len()));
}
