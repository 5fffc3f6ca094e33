//! The rows of a database that the Python template has filled are served as they are.

use serde_json::{Value, json};

use crate::harness::api::{check_problem, log_in};
use crate::harness::{Database, Launch, Peace, Turn, get, put};

/// As the template's own `sample_data` command left them, with Python's bcrypt 4.2, and one user who
/// never had a password: version 4 ids, `$2b$12$` hashes, no full name.
const ROWS: &str = r#"
    insert into "user" (id, name, fullname, password_hash) values
    ('cb941e1c-1682-4641-b37c-946470f1b825', 'sample-data_user-0', null,
     '$2b$12$aKkR4TpEZzu0YFP5vGYASO3yU77bQY/8a96X3d5tlyupVEdAEArzW'),
    ('567468ff-4bd8-4ff2-8d4f-761dced1de7e', 'sample-data_user-1', null,
     '$2b$12$yXNToxGAcqVb1FwFRbDf6u3rkwDu/zlTQ4CyQlQI/eD4kbuG/zwje'),
    ('0ff7a6d2-6a0e-4b7e-8a43-0f63e1d9a001', 'without-password', 'No Password', null);
    insert into item (id, user_id, name, added) values
    ('d2562e00-c598-4768-bfa3-4b81ffe056f2', '567468ff-4bd8-4ff2-8d4f-761dced1de7e',
     'sample-data_user-1_item-0', '2026-11-22 21:56:32.308474'),
    ('00000001-c598-4768-bfa3-4b81ffe056f2', '567468ff-4bd8-4ff2-8d4f-761dced1de7e',
     'sample-data_user-1_item-1', '2024-12-12 13:25:00')"#;
const USER_1: &str = "/users/567468ff-4bd8-4ff2-8d4f-761dced1de7e";

fn serve(turn: &Turn, database: &Database<'_>) -> Peace {
    database.sql().run(ROWS);
    Launch::on(turn, database).workers(1).serve()
}

#[test]
fn rows_of_the_python_template_are_shown_as_it_showed_them() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = serve(&turn, &database);
    let users = peace.ask(&get("/users")).json();
    let names: Vec<&Value> =
        users["users"].as_array().unwrap().iter().map(|user| &user["name"]).collect();
    assert_eq!(names, ["without-password", "sample-data_user-1", "sample-data_user-0"], "by id");
    let user = peace.ask(&get(USER_1)).json();
    let pubid = "567468ff-4bd8-4ff2-8d4f-761dced1de7e";
    assert_eq!(user, json!({"pubid": pubid, "name": "sample-data_user-1"}));
    let items = peace.ask(&get(format!("/items?user_pubid={pubid}"))).json();
    assert_eq!(
        items["items"],
        json!([
            {"pubid": "00000001-c598-4768-bfa3-4b81ffe056f2", "name": "sample-data_user-1_item-1",
             "added": "2024-12-12T13:25:00", "user_pubid": pubid},
            {"pubid": "d2562e00-c598-4768-bfa3-4b81ffe056f2", "name": "sample-data_user-1_item-0",
             "added": "2026-11-22T21:56:32.308474", "user_pubid": pubid},
        ])
    );
    let with_items = peace.ask(&get(format!("{USER_1}?incl_items=true"))).json();
    assert_eq!(with_items["items"], items["items"]);
}

/// asyncpg stores `datetime.min` and `datetime.max` as infinite; other programs go beyond both.
#[test]
fn moments_that_python_cannot_write_are_its_first_and_its_last() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = serve(&turn, &database);
    let pubid = "cb941e1c-1682-4641-b37c-946470f1b825";
    let rows = [
        ("-infinity", "0001-01-01T00:00:00"),
        ("infinity", "9999-12-31T23:59:59.999999"),
        ("4713-01-01 00:00:00 BC", "0001-01-01T00:00:00"),
        ("0001-12-31 23:59:59.999999 BC", "0001-01-01T00:00:00"),
        ("0001-01-01 00:00:00", "0001-01-01T00:00:00"),
        ("9999-12-31 23:59:59.999999", "9999-12-31T23:59:59.999999"),
        ("10000-01-01 00:00:00", "9999-12-31T23:59:59.999999"),
        ("294276-12-31 23:59:59.999999", "9999-12-31T23:59:59.999999"),
    ];
    for (number, (stored, _)) in (1..).zip(&rows) {
        database.sql().run(&format!(
            "insert into item (id, user_id, name, added)
             values (lpad('{number}', 32, '0')::uuid, '{pubid}', '{stored}', '{stored}')"
        ));
    }
    let shown = |target: &str| -> Vec<(String, String)> {
        let reply = peace.ask(&get(target));
        assert_eq!(reply.status, 200, "{target}");
        let text = |item: &Value, member: &str| item[member].as_str().unwrap().to_owned();
        let items = reply.json()["items"].as_array().unwrap().clone();
        items.iter().map(|item| (text(item, "name"), text(item, "added"))).collect()
    };
    let expected = rows.map(|(stored, shown)| (stored.to_owned(), shown.to_owned()));
    assert_eq!(shown(&format!("/items?user_pubid={pubid}")), expected);
    assert_eq!(shown(&format!("/users/{pubid}?incl_items=true")), expected);
    let first = peace.ask(&get("/items/00000000-0000-0000-0000-000000000001"));
    assert_eq!((first.status, &first.json()["added"]), (200, &json!("0001-01-01T00:00:00")));
}

#[test]
fn a_login_verifies_a_bcrypt_hash_and_stores_the_password_anew() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = serve(&turn, &database);
    let stored = || -> String {
        let hash = r#"select password_hash from "user" where name = 'sample-data_user-1'"#;
        database.sql().value(hash, &[])
    };
    let login = |password: &str| {
        log_in(&peace, &[("username", "sample-data_user-1"), ("password", password)])
    };
    check_problem(&login("MyPass123!U0"), 401, "the password of another");
    assert!(stored().starts_with("$2b$12$"), "a refused login changes nothing");
    let first = login("MyPass123!U1");
    assert_eq!(first.status, 200);
    let upgraded = stored();
    assert!(upgraded.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{upgraded}");
    assert_eq!(login("MyPass123!U1").status, 200, "the same password");
    assert_eq!(stored(), upgraded, "stored anew once");
    check_problem(&login("MyPass123!U2"), 401, "still no other");
    let token = first.json()["access_token"].as_str().unwrap().to_owned();
    let change = put(USER_1).bearer(&token).json(&json!({"fullname": "User One"}));
    assert_eq!(peace.ask(&change).json()["fullname"], "User One");

    let none = log_in(&peace, &[("username", "without-password"), ("password", "MyPass123!U0")]);
    check_problem(&none, 401, "who has no password");
}

#[test]
fn a_password_hashed_by_python_is_changed_without_a_login() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    database.sql().run(ROWS);
    let launch = Launch::on(&turn, &database).workers(1);
    let peace = launch.env("JWT_SECRET_KEY", crate::harness::jwt::SECRET).serve();
    database.add_session("cb941e1c-1682-4641-b37c-946470f1b825");
    let token = crate::harness::jwt::signed("cb941e1c-1682-4641-b37c-946470f1b825", json!({}));
    let place = "/users/cb941e1c-1682-4641-b37c-946470f1b825/password";
    let change = |current: &str| {
        let body = json!({"current": current, "new": "another-word-1"});
        peace.ask(&put(place).bearer(&token).json(&body))
    };
    check_problem(&change("MyPass123!U1"), 403, "a wrong current password");
    assert_eq!(change("MyPass123!U0").status, 204);
    let login = [("username", "sample-data_user-0"), ("password", "another-word-1")];
    assert_eq!(log_in(&peace, &login).status, 200);
}
