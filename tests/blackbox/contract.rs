//! The contract under abuse, on the database itself.

mod abuse;
mod parts;

use peace::resources;

use self::abuse::declares_token;
use crate::harness::{Database, Launch, Turn};

#[test]
fn every_route_under_every_wrong_input_for_owners() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    abuse::abuse(Launch::on(&turn, &database), "owner");
}

#[test]
fn every_route_under_every_wrong_input_for_anyone() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    abuse::abuse(Launch::on(&turn, &database), "anyone");
}

#[test]
fn what_is_unknown_is_ignored() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    abuse::add_unknown(Launch::on(&turn, &database));
}

/// The abuse believes the table about who needs a token; this list believes nobody.
#[test]
fn whatever_writes_needs_a_token_but_for_these() {
    let routes = resources::routes(false);
    let mut open: Vec<&str> = routes
        .operations()
        .filter(|operation| operation.method != "GET" && !declares_token(operation))
        .map(|operation| operation.name)
        .collect();
    open.sort_unstable();
    assert_eq!(open, ["auth-refresh", "auth-token", "users-create"]);
}
