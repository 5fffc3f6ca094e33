//! What only the users themselves may do: change, delete, give a new password.

use serde_json::{Value, json};

use crate::harness::api::{PASSWORD, check_problem, log_in, sign_up};
use crate::harness::{Database, Launch, Peace, Request, Turn, get, put, request};

fn one_worker(turn: &Turn, database: &Database<'_>) -> Peace {
    Launch::on(turn, database).workers(1).serve()
}

#[test]
fn put_replaces_and_patch_keeps() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = one_worker(&turn, &database);
    let ann = sign_up(&peace, "ann");
    let send = |method: &'static str, body: Value| {
        let reply = peace.ask(&request(method, &ann.place).bearer(&ann.token).json(&body));
        assert_eq!(reply.status, 200, "{method} {body}");
        let answered = reply.json();
        assert_eq!(peace.ask(&get(&ann.place)).json(), answered, "what was answered is stored");
        answered.get("fullname").cloned()
    };
    assert_eq!(send("PUT", json!({"fullname": "Ann A."})), Some(json!("Ann A.")));
    assert_eq!(send("PATCH", json!({})), Some(json!("Ann A.")), "absent: kept");
    assert_eq!(send("PATCH", json!({"fullname": ""})), Some(json!("")), "empty is kept as such");
    assert_eq!(send("PATCH", json!({"fullname": null})), None, "null: cleared");
    assert_eq!(send("PUT", json!({"fullname": "Ann B."})), Some(json!("Ann B.")));
    assert_eq!(send("PUT", json!({})), None, "absent: cleared");
}

#[test]
fn a_password_is_changed_by_who_knows_it() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = one_worker(&turn, &database);
    let ann = sign_up(&peace, "ann");
    let change = |current: &str, new: &str| {
        let body = json!({"current": current, "new": new});
        peace.ask(&put(format!("{}/password", ann.place)).bearer(&ann.token).json(&body))
    };
    let login =
        |password: &str| log_in(&peace, &[("username", "ann"), ("password", password)]).status;
    check_problem(&change("another-word", "a-new-password"), 403, "a wrong current password");
    check_problem(&change(PASSWORD, "short"), 422, "a new password that is too short");
    let changed = change(PASSWORD, "a-new-password");
    assert_eq!((changed.status, changed.body.len()), (204, 0));
    assert_eq!((login(PASSWORD), login("a-new-password")), (401, 200));
}

#[test]
fn a_deleted_user_is_gone_with_their_items() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = one_worker(&turn, &database);
    let ann = sign_up(&peace, "ann");
    database.sql().run(
        r#"insert into item (id, user_id, name, added)
           select gen_random_uuid(), id, 'thing', now() from "user""#,
    );
    let delete = request("DELETE", &ann.place).bearer(&ann.token);
    let deleted = peace.ask(&delete);
    assert_eq!((deleted.status, deleted.json()), (200, Value::Null));
    assert_eq!(database.sql().value::<i64>("select count(*) from item", &[]), 0);
    check_problem(&peace.ask(&get(&ann.place)), 404, "reading it");
    check_problem(&peace.ask(&delete), 401, "deleting it again: the session is gone, too");
}

#[test]
fn the_token_comes_first_then_the_owner_then_the_body_then_the_row() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = one_worker(&turn, &database);
    let (ann, bob) = (sign_up(&peace, "ann"), sign_up(&peace, "bob"));
    let nobody = "/users/00000000-0000-7000-8000-000000000000";
    let bad = r#"{"fullname": 7}"#;
    let send = |request: Request| peace.ask(&request.body("application/json", bad));
    for method in ["PUT", "PATCH"] {
        check_problem(&send(request(method, "/users/nonsense")), 401, "no token, bad id");
        check_problem(&send(request(method, &ann.place)), 401, "no token");
        check_problem(&send(request(method, &ann.place).bearer("x.y.z")), 401, "a bad token");
        let with_bobs = |place: &str| request(method, place).bearer(&bob.token);
        check_problem(&send(with_bobs("/users/nonsense")), 422, "bad id");
        check_problem(&send(with_bobs(&ann.place)), 403, "somebody else's, bad body");
        check_problem(&send(with_bobs(nobody)), 403, "nobody's, bad body");
        check_problem(&send(with_bobs(&bob.place)), 422, "one's own, bad body");
    }
    check_problem(&peace.ask(&request("DELETE", &ann.place)), 401, "DELETE without a token");
    let foreign = request("DELETE", &ann.place).bearer(&bob.token);
    check_problem(&peace.ask(&foreign), 403, "DELETE of somebody else");
    assert_eq!(peace.ask(&get(&ann.place)).status, 200, "ann is still there");
}
