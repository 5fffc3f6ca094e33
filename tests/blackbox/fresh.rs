//! What was created can be read, through whichever worker.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use serde_json::json;

use crate::harness::{Database, Launch, Turn, get, post};
use crate::zero_loss;

const CLIENTS: usize = 16;

/// 2,000 users; with `PEACE_TEST_LONG=1` it is 10,000, each of which costs a password hash.
#[test]
fn thousands_of_new_users_are_found_at_once_over_four_workers() {
    let users = zero_loss::short_or_long(2_000, 10_000);
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(4).args(["--access-log", "off"]).serve();
    let address = peace.address();
    let (next, missing) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= users {
                        return;
                    }
                    let user = json!({"name": format!("user-{number}"), "password": "pass word"});
                    let created = post("/users").json(&user).fresh(address).unwrap();
                    assert_eq!(created.status, 201, "user {number}");
                    let place = created.header("location").expect("201 says where");
                    let found = get(place).fresh(address).unwrap();
                    match found.status {
                        200 => {}
                        404 => drop(missing.fetch_add(1, Ordering::Relaxed)),
                        status => panic!("GET {place}: {status}"),
                    }
                }
            });
        }
    });
    let missing = missing.into_inner();
    eprintln!("{users} x POST, GET in {:.1} s: {missing} x 404", start.elapsed().as_secs_f64());
    assert_eq!(missing, 0);
    let rows: i64 = database.sql().value(r#"select count(*) from "user""#, &[]);
    assert_eq!(usize::try_from(rows), Ok(users));
}
