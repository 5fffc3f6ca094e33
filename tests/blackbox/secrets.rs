//! No secret is told: not by a log line at its most talkative, not by an answer to what is wrong,
//! not by the list of processes, and not by the database's own log of errors.

use std::fs;

use serde_json::json;

use crate::harness::api::{PASSWORD, log_in, sign_up};
use crate::harness::cluster::Cluster;
use crate::harness::jwt::{self, SECRET};
use crate::harness::{Database, Launch, Peace, Request, Turn, post, proc, put, request};

/// The database's password, which its cluster does not ask for.
const DATABASE_PASSWORD: &str = "Hw7-the-databases-word";
const WRONG: &str = "a-wrong-password-42";
const NEW: &str = "a-new-password-42";

/// All that nobody else may read, in every form that it takes.
struct Secrets(Vec<(&'static str, String)>);

impl Secrets {
    fn add(&mut self, what: &'static str, text: &str) {
        assert!(text.len() >= 8, "{what} is no secret: {text}");
        self.0.push((what, text.to_owned()));
    }

    /// A token's secret part, also where the rest is left out.
    fn add_tokens(&mut self, access: &str, refresh: &str) {
        self.add("the signature of an access token", access.rsplit('.').next().unwrap());
        let (family, own) = refresh.split_at(64);
        self.add("the half of a refresh token", family);
        self.add("the other half of a refresh token", own);
    }

    fn check(&self, text: &str, place: &str) {
        for (what, secret) in &self.0 {
            assert!(!text.contains(secret), "{place} tells {what}: {text}");
        }
    }
}

/// Everything that fails, beside everything that does not.
fn requests(token: &str, refresh: &str, place: &str) -> Vec<Request> {
    let login = |name: &str, password: &str| {
        post("/auth/token").form(&[("username", name), ("password", password)])
    };
    let change = |current: &str, new: &str| {
        let body = json!({"current": current, "new": new});
        put(format!("{place}/password")).bearer(token).json(&body)
    };
    let forged = format!("{token}x");
    vec![
        login("ann", WRONG),
        login(PASSWORD, WRONG),
        login("ann", &format!("{PASSWORD}%00")),
        post("/auth/token").json(&json!({"username": "ann", "password": PASSWORD})),
        post("/auth/token").form(&[("password", PASSWORD)]),
        post(format!("/auth/token?password={PASSWORD}")).form(&[("username", "ann")]),
        post("/auth/refresh").form(&[("refresh_token", refresh), ("grant_type", "password")]),
        post("/auth/refresh").form(&[("refresh_token", &format!("{refresh}0"))]),
        post("/auth/refresh").form(&[("refresh_token", token)]),
        post("/users").json(&json!({"name": "ann", "password": PASSWORD})),
        post("/users").json(&json!({"name": "n".repeat(31), "password": PASSWORD})),
        post("/users").json(&json!({"name": 7, "password": [PASSWORD]})),
        post("/users").body("application/json", format!("{{\"password\": \"{PASSWORD}\"")),
        change(WRONG, NEW),
        change(PASSWORD, "short"),
        put(place).bearer(&forged).json(&json!({})),
        put(place).bearer(refresh).json(&json!({})),
        request("PATCH", place).bearer(token).json(&json!({"password": PASSWORD})),
        request("PATCH", place).bearer(token).json(&json!({"password_hash": WRONG})),
        change(PASSWORD, NEW),
        post("/auth/logout").bearer(token),
        put(place).bearer(token).json(&json!({})),
        post("/auth/refresh").form(&[("refresh_token", refresh)]),
    ]
}

fn check_processes(peace: &Peace, secrets: &Secrets) {
    let family = proc::descendants(peace.pid()).into_iter().map(|one| one.pid);
    for pid in family.chain([peace.pid()]) {
        secrets.check(&proc::command_line(pid), "a command line");
        let names = proc::threads(pid).join(" ");
        secrets.check(&names, "a thread's name");
        let title = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        secrets.check(&title, "a process's name");
    }
}

#[test]
fn no_log_no_answer_and_no_list_of_processes_tells_a_secret() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let url = format!("{} password={DATABASE_PASSWORD}", database.url());
    let launch = Launch::on(&turn, &database).workers(2).env("DATABASE_URL", &url);
    let launch = launch.env("JWT_SECRET_KEY", SECRET).env("RUST_LOG", "trace");
    let mut peace = launch.args(["--refresh-grace", "0"]).serve();
    let mark = Cluster::shared().log().len();
    let mut secrets = Secrets(Vec::new());
    for (what, text) in [
        ("the database's password", DATABASE_PASSWORD),
        ("the key of tokens", SECRET),
        ("a password", PASSWORD),
        ("a wrong password", WRONG),
        ("a new password", NEW),
    ] {
        secrets.add(what, text);
    }
    let ann = sign_up(&peace, "ann");
    secrets.add_tokens(&ann.token, &ann.refresh_token);
    let login = log_in(&peace, &[("username", "ann"), ("password", PASSWORD)]).json();
    let other = login["refresh_token"].as_str().unwrap();
    secrets.add_tokens(login["access_token"].as_str().unwrap(), other);
    let signed = jwt::signed(&ann.pubid, json!({}));
    secrets.add("the signature of a forged token", signed.rsplit('.').next().unwrap());

    let refresh = || post("/auth/refresh").form(&[("refresh_token", other)]);
    let next = peace.ask(&refresh()).json();
    let text = |name: &str| next[name].as_str().unwrap();
    secrets.add_tokens(text("access_token"), text("refresh_token"));
    let mut refused = 0;
    for request in
        requests(&ann.token, &ann.refresh_token, &ann.place).into_iter().chain([refresh()])
    {
        let reply = peace.ask(&request);
        if reply.status >= 400 {
            refused += 1;
            secrets.check(&String::from_utf8_lossy(&reply.body), "an answer");
            let headers: Vec<String> =
                reply.headers().map(|(name, value)| format!("{name}: {value}")).collect();
            secrets.check(&headers.join("\n"), "a header");
        }
    }
    assert!(refused >= 20, "{refused}");
    let stored = database.sql().rows(r#"select password_hash from "user""#, &[]);
    for row in &stored {
        let hash: String = row.get(0);
        secrets.add("a hash", hash.rsplit('$').next().unwrap());
    }
    check_processes(&peace, &secrets);
    let told = peace.ctl(["status", "--json"]);
    secrets.check(&String::from_utf8_lossy(&told.stdout), "the status");
    peace.stop(std::time::Duration::from_secs(10));
    let lines = peace.log().events();
    assert!(lines.len() > 40, "it was talkative: {} lines", lines.len());
    for line in &lines {
        secrets.check(&line.text, "a log line");
    }
    let cluster = Cluster::shared().log().split_off(mark);
    let ours = cluster.lines().filter(|line| line.contains(database.name()));
    let ours: Vec<&str> =
        ours.filter(|line| line.contains("ERROR") || line.contains("DETAIL")).collect();
    for line in &ours {
        secrets.check(line, "the database's log");
    }
    eprintln!("{} log lines and {} of the database, {refused} refusals", lines.len(), ours.len());
}
