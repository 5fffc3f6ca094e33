//! Another secret for tokens, as README has it for a unit: the manager reads credentials at a start.

use serde_json::json;

use super::machine::api;
use super::{installed, load, more};
use crate::harness::{Database, Turn, post, put};

const NAME: &str = "ann";
const PASSWORD: &str = "correct horse battery staple";

/// An access token of a new session.
fn log_in() -> String {
    let ask = post("/auth/token").form(&[("username", NAME), ("password", PASSWORD)]);
    let reply = ask.fresh(api()).expect("it serves");
    assert_eq!(reply.status, 200);
    reply.json()["access_token"].as_str().expect("a token").to_owned()
}

/// Names the key.
fn head(token: &str) -> &str {
    token.split('.').next().expect("it has three parts")
}

/// What a token is answered, for the user at this path.
fn writes(place: &str, token: &str) -> u16 {
    let ask = put(place).bearer(token).json(&json!({"fullname": "Ann"}));
    ask.fresh(api()).expect("it serves").status
}

#[test]
fn another_secret_for_tokens_comes_with_a_restart_that_nobody_notices() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let machine = installed(&database);
    machine.run("systemctl start peace");
    let ann = json!({"name": NAME, "password": PASSWORD});
    let created = post("/users").json(&ann).fresh(api()).unwrap();
    let place = created.header("location").expect("201 says where");
    let first = log_in();

    machine.run("cp -p /etc/peace/jwt-secret-key /etc/peace/jwt-secret-key-previous");
    machine.run("head -c 48 /dev/urandom | base64 -w 0 > /etc/peace/jwt-secret-key");
    machine.run("systemctl reload peace");
    assert_eq!(head(&log_in()), head(&first), "a reload has the credentials of the start");

    let drop_in = "/etc/systemd/system/peace.service.d/previous.conf";
    let credential = "jwt-secret-key-previous:/etc/peace/jwt-secret-key-previous";
    machine.write(drop_in, &format!("[Service]\nLoadCredential={credential}\n"));
    let load = load();
    machine.run("systemctl daemon-reload && systemctl restart peace");
    more(&load);
    load.stop().check_nothing_lost("a restart with another secret");
    let second = log_in();
    assert_ne!(head(&second), head(&first), "the new key signs");
    assert_eq!((writes(place, &first), writes(place, &second)), (200, 200), "both are good");

    machine.run(&format!("rm {drop_in} /etc/peace/jwt-secret-key-previous"));
    machine.run("systemctl daemon-reload && systemctl restart peace");
    assert_eq!((writes(place, &first), writes(place, &second)), (401, 200), "the old one is gone");
}
