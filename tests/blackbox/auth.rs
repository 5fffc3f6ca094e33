//! Logins, and the tokens they give: which are good, and which are not.

use serde_json::{Value, json};

use crate::harness::api::{PASSWORD, check_problem, log_in, sign_up};
use crate::harness::jwt::{self, SECRET};
use crate::harness::{Database, Launch, Peace, Turn, get, post, put, request};

fn one_worker(turn: &Turn, database: &Database<'_>) -> Peace {
    Launch::on(turn, database).workers(1).env("JWT_SECRET_KEY", SECRET).serve()
}

#[test]
fn a_login_gives_a_token_that_opens_ones_own_routes() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = one_worker(&turn, &database);
    let place = sign_up(&peace, "ann").place;
    let reply =
        log_in(&peace, &[("username", "ann"), ("password", PASSWORD), ("grant_type", "password")]);
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let body = reply.json();
    assert_eq!((&body["token_type"], &body["expires_in"]), (&json!("bearer"), &json!(900)));
    let token = body["access_token"].as_str().unwrap();
    let change = put(&place).bearer(token).json(&json!({"fullname": "Ann"}));
    assert_eq!(peace.ask(&change).status, 200);
}

#[test]
fn a_token_outlives_the_worker_that_gave_it() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    // No secret is given: development makes one, and all workers and starts share it.
    let mut peace = Launch::on(&turn, &database).workers(4).serve();
    let ann = sign_up(&peace, "ann");
    let change = put(&ann.place).bearer(&ann.token).json(&json!({"fullname": "Ann"}));
    for _ in 0..20 {
        assert_eq!(peace.ask(&change).status, 200, "whichever worker answers");
    }
    peace.kill();
    peace.await_nothing_left(std::time::Duration::from_secs(2));
    peace.start_again();
    peace.await_serving();
    assert_eq!(peace.ask(&change).status, 200, "after a restart");
}

#[test]
fn wrong_credentials_have_one_answer_whatever_is_wrong() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = one_worker(&turn, &database);
    sign_up(&peace, "ann");
    database.sql().run(
        r#"insert into "user" (id, name, password_hash)
           values (gen_random_uuid(), 'without', null), (gen_random_uuid(), 'broken', 'x')"#,
    );
    let mut bodies: Vec<Value> = Vec::new();
    for (name, password) in [
        ("ann", "another-word"),
        ("ann", ""),
        ("nobody", PASSWORD),
        ("without", PASSWORD),
        ("broken", PASSWORD),
        ("broken", "x"),
        ("Ann", PASSWORD),
    ] {
        let reply = log_in(&peace, &[("username", name), ("password", password)]);
        assert_eq!(reply.status, 401, "{name} {password}");
        assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        let mut body = reply.json();
        assert_eq!(body["error"], "invalid_grant");
        body.as_object_mut().unwrap().remove("request_id");
        bodies.push(body);
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
}

#[test]
fn a_refresh_token_gives_new_tokens_for_as_long_as_its_user_is_there() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = one_worker(&turn, &database);
    let ann = sign_up(&peace, "ann");
    let refresh = |token: &str| peace.ask(&post("/auth/refresh").form(&[("refresh_token", token)]));
    let mut tokens = (ann.token.clone(), ann.refresh_token.clone());
    for round in ["first", "second"] {
        let reply = refresh(&tokens.1);
        assert_eq!(reply.status, 200, "{round}");
        assert_eq!(reply.header("cache-control"), Some("no-store"), "{round}");
        assert_eq!(reply.header("pragma"), Some("no-cache"), "{round}");
        let body = reply.json();
        assert_eq!(body.as_object().unwrap().len(), 4, "{round}: no other member");
        assert_eq!((&body["token_type"], &body["expires_in"]), (&json!("bearer"), &json!(900)));
        let text = |name: &str| body[name].as_str().unwrap().to_owned();
        let new = (text("access_token"), text("refresh_token"));
        assert!(new.0 != tokens.0 && new.1 != tokens.1, "{round}: they are new");
        let change = put(&ann.place).bearer(&new.0).json(&json!({ "fullname": round }));
        assert_eq!(peace.ask(&change).json()["fullname"], round, "it is ann's access token");
        check_problem(&peace.ask(&change.bearer(&new.1)), 401, "one token at a time");
        check_problem(&refresh(&new.0), 401, "an access token refreshes nothing");
        tokens = new;
    }
    let named = [("refresh_token", &*tokens.1), ("grant_type", "refresh_token")];
    assert_eq!(peace.ask(&post("/auth/refresh").form(&named)).status, 200, "its grant, named");

    let delete = request("DELETE", &ann.place).bearer(&tokens.0);
    assert_eq!(peace.ask(&delete).status, 200);
    let gone = refresh(&tokens.1);
    check_problem(&gone, 401, "a user who is gone");
    assert_eq!(gone.json()["error"], "invalid_grant");
    assert_eq!(gone.header("cache-control"), Some("no-store"));
}

#[test]
fn a_form_that_is_not_right_is_a_422_that_lists_everything() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = one_worker(&turn, &database);
    let nothing = log_in(&peace, &[]);
    assert_eq!(nothing.status, 422);
    assert_eq!(nothing.json()["errors"].as_array().unwrap().len(), 2, "both fields are missing");
    assert_eq!(nothing.json()["error"], "invalid_request");
    let one = log_in(&peace, &[("username", "ann")]);
    assert_eq!(one.json()["errors"][0]["loc"], json!(["body", "password"]));
    let grant = [("username", "ann"), ("password", PASSWORD), ("grant_type", "magic")];
    let other = log_in(&peace, &grant);
    assert_eq!((other.status, &other.json()["error"]), (422, &json!("unsupported_grant_type")));
    let nul = log_in(&peace, &[("username", "a%00b"), ("password", PASSWORD)]);
    assert_eq!(nul.status, 422);
    let utf8 = log_in(&peace, &[("username", "a%ffb"), ("password", PASSWORD)]);
    assert_eq!(utf8.status, 422);
    let json = post("/auth/token").json(&json!({"username": "ann", "password": PASSWORD}));
    assert_eq!(peace.ask(&json).status, 415);
}

#[test]
fn tokens_that_prove_nothing() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = one_worker(&turn, &database);
    let place = sign_up(&peace, "ann").place;
    let ann = place.rsplit('/').next().unwrap();
    let hs256 = json!({"alg": "HS256", "typ": "JWT"});
    database.add_session(ann);
    let good = jwt::signed(ann, json!({}));
    let change = || put(&place).json(&json!({"fullname": "Ann"}));
    let ask = |authorization: &str| peace.ask(&change().header("authorization", authorization));
    assert_eq!(ask(&format!("Bearer {good}")).status, 200, "the test's own tokens are right");
    assert_eq!(ask(&format!("bearer {good}")).status, 200, "the scheme has no case");

    let signed = |change: Value| jwt::signed(ann, change);
    let unsigned = |algorithm: &str| jwt::unsigned(ann, algorithm);
    let whole = jwt::claims(ann, json!({}));
    let flipped = {
        let (body, signature) = good.rsplit_once('.').unwrap();
        let first = if signature.starts_with('A') { 'B' } else { 'A' };
        format!("{body}.{first}{}", &signature[1..])
    };
    for (what, bad) in [
        ("expired", signed(json!({"exp": jwt::now_s() - 60}))),
        ("without an end", signed(json!({"exp": null}))),
        ("of another issuer", signed(json!({"iss": "other"}))),
        ("for another audience", signed(json!({"aud": "other"}))),
        ("of another kind", signed(json!({"typ": "refresh"}))),
        ("of nobody", signed(json!({"sub": "nobody"}))),
        ("of no session", signed(json!({"sid": null}))),
        ("of another secret", jwt::token(&hs256, &whole, "another secret altogether")),
        ("of another algorithm", jwt::token(&json!({"alg": "HS512"}), &whole, SECRET)),
        ("alg none", unsigned("none")),
        ("alg None", unsigned("None")),
        ("without its signature", unsigned("HS256")),
        ("with another signature", flipped),
        ("with an unknown key", {
            let header = json!({"alg": "HS256", "kid": "../../etc/passwd"});
            jwt::token(&header, &whole, SECRET)
        }),
        ("that is none", "x".to_owned()),
        ("that is empty", String::new()),
    ] {
        let reply = ask(&format!("Bearer {bad}"));
        assert_eq!(reply.status, 401, "a token {what}");
        assert!(reply.header("www-authenticate").unwrap().starts_with("Bearer"), "{what}");
    }
    assert_eq!(ask(&format!("Basic {good}")).status, 401, "another scheme");
    for (what, first, second) in [
        ("a good and a bad one", &*good, "x"),
        ("a bad and a good one", "x", &*good),
        ("the same one twice", &*good, &*good),
    ] {
        let reply = peace.ask(&change().bearer(first).bearer(second));
        assert_eq!(reply.status, 401, "two headers, {what}: which one counts?");
    }
    let in_query = request("DELETE", format!("{place}?access_token={good}"));
    assert_eq!(peace.ask(&in_query).status, 401, "a token in the query");
    assert_eq!(peace.ask(&get(&place)).status, 200, "reading needs none");
}

#[test]
fn a_token_of_somebody_else_opens_nothing_of_mine() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = one_worker(&turn, &database);
    let place = sign_up(&peace, "ann").place;
    let token = sign_up(&peace, "bob").token;
    for request in [
        put(&place).json(&json!({"fullname": "Bob was here"})),
        request("PATCH", &place).json(&json!({"fullname": "Bob was here"})),
        put(format!("{place}/password")).json(&json!({"current": PASSWORD, "new": "bobs-own-1"})),
        request("DELETE", &place),
    ] {
        assert_eq!(peace.ask(&request.bearer(&token)).status, 403);
    }
    assert!(peace.ask(&get(&place)).json().get("fullname").is_none());
}
