//! Paths and methods: what there is, what there is not, and what it says then.

use crate::harness::api::check_problem;
use crate::harness::{Database, Launch, Turn, get, request};

#[test]
fn paths_and_methods_that_do_not_exist() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(1).serve();
    for target in ["/user", "/users/a/b", "/Users", "/health", "//users"] {
        check_problem(&peace.ask(&get(target)), 404, target);
    }
    for (method, target, allow) in [
        ("DELETE", "/users", "GET, HEAD, POST, OPTIONS"),
        ("POST", "/health/live", "GET, HEAD, OPTIONS"),
        ("GET", "/auth/token", "POST, OPTIONS"),
    ] {
        let reply = peace.ask(&request(method, target));
        check_problem(&reply, 405, target);
        assert_eq!(sorted(reply.header("allow")), sorted(Some(allow)), "{method} {target}");
    }
}

fn sorted(list: Option<&str>) -> Vec<String> {
    let mut words: Vec<String> =
        list.unwrap_or_default().split(',').map(|word| word.trim().to_owned()).collect();
    words.sort();
    words
}
