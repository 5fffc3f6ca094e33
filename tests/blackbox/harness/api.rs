//! What several tests do with the API: sign up, log in, look at a problem.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Connection, Reply, get, post};
use super::peace::Peace;
use super::proc;
use super::wait::until_true;

/// The password of every user that is not about passwords.
pub(crate) const PASSWORD: &str = "correct-horse";

/// A user who was created and has logged in.
pub(crate) struct User {
    /// The path of their resource.
    pub(crate) place: String,
    /// Their id.
    pub(crate) pubid: String,
    pub(crate) token: String,
    pub(crate) refresh_token: String,
    /// The answer to their creation.
    pub(crate) created: Reply,
}

pub(crate) fn sign_up(peace: &Peace, name: &str) -> User {
    let created = peace.ask(&post("/users").json(&json!({"name": name, "password": PASSWORD})));
    assert_eq!(created.status, 201, "{}", String::from_utf8_lossy(&created.body));
    let place = created.header("location").expect("201 says where").to_owned();
    let login = log_in(peace, &[("username", name), ("password", PASSWORD)]);
    let text = |name: &str| login.json()[name].as_str().expect("a token").to_owned();
    let pubid = place.rsplit('/').next().expect("a path").to_owned();
    let (token, refresh_token) = (text("access_token"), text("refresh_token"));
    User { place, pubid, token, refresh_token, created }
}

/// An item of this user; gives its path.
pub(crate) fn add_item(peace: &Peace, user: &User, name: &str) -> String {
    let body = json!({"name": name, "user_pubid": user.pubid});
    let created = peace.ask(&post("/items").bearer(&user.token).json(&body));
    assert_eq!(created.status, 201, "{}", String::from_utf8_lossy(&created.body));
    created.header("location").expect("201 says where").to_owned()
}

pub(crate) fn log_in(peace: &Peace, fields: &[(&str, &str)]) -> Reply {
    peace.ask(&post("/auth/token").form(fields))
}

/// So many open connections to each worker.
pub(crate) fn connections_to_each(peace: &Peace, count: usize) -> Vec<Connection> {
    let pids: Vec<i32> = peace.workers().into_values().collect();
    let mut held: BTreeMap<i32, Vec<Connection>> = BTreeMap::new();
    until_true("connections to all workers", Duration::from_secs(20), || {
        let mut connection = Connection::open(peace.address()).unwrap();
        assert_eq!(connection.send(&get("/health/live")).unwrap().status, 200);
        let holder = proc::holder(peace.address(), connection.local(), &pids);
        let of_one = held.entry(holder.expect("a worker holds it")).or_default();
        if of_one.len() < count {
            of_one.push(connection);
        }
        held.values().map(Vec::len).sum::<usize>() == count * pids.len()
    });
    held.into_values().flatten().collect()
}

/// Checks a refusal: its status and that it is a whole problem document.
pub(crate) fn check_problem(reply: &Reply, status: u16, what: &str) {
    assert_eq!(reply.status, status, "{what}: {}", String::from_utf8_lossy(&reply.body));
    assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{what}");
    let body = reply.json();
    for member in ["type", "title", "status", "detail", "instance", "request_id"] {
        assert!(!body[member].is_null(), "{what}: {member} is missing in {body}");
    }
    assert_eq!(body["status"], status, "{what}");
    if status == 401 {
        let challenge = reply.header("www-authenticate").unwrap_or_default();
        assert!(challenge.starts_with("Bearer"), "{what}");
    }
}

/// The `(loc, type)` of every failure that a 422 lists.
pub(crate) fn failures(reply: &Reply) -> Vec<(String, String)> {
    let body = reply.json();
    let list = body["errors"].as_array().unwrap_or_else(|| panic!("no errors: {body}"));
    let failure = |error: &Value| {
        let steps = error["loc"].as_array().expect("loc is a list").iter();
        let steps: Vec<String> = steps
            .map(|step| step.as_str().map_or_else(|| step.to_string(), str::to_owned))
            .collect();
        (steps.join("."), error["type"].as_str().expect("a type").to_owned())
    };
    list.iter().map(failure).collect()
}
