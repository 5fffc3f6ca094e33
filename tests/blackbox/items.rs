//! `/items`: what everyone may read, what their owner may write, and datetimes.

use serde_json::{Value, json};

use crate::harness::api::{PASSWORD, User, add_item, check_problem, failures, sign_up};
use crate::harness::client::Reply;
use crate::harness::{Database, Launch, Peace, Turn, get, post, put, request};

fn one_worker(turn: &Turn, database: &Database<'_>) -> Peace {
    Launch::on(turn, database).workers(1).serve()
}

fn change(peace: &Peace, user: &User, place: &str, added: &Value) -> Reply {
    peace.ask(&put(place).bearer(&user.token).json(&json!({ "added": added })))
}

#[test]
fn an_item_is_created_read_changed_and_deleted() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = one_worker(&turn, &database);
    let ann = sign_up(&peace, "ann");
    let body = json!({"name": "i".repeat(30), "user_pubid": ann.pubid.to_uppercase()});
    let created = peace.ask(&post("/items").bearer(&ann.token).json(&body));
    assert_eq!(created.status, 201);
    let item = created.json();
    let place = created.header("location").expect("201 says where");
    assert_eq!(place, format!("/items/{}", item["pubid"].as_str().unwrap()));
    assert_eq!(item.as_object().unwrap().len(), 4);
    assert_eq!((&item["name"], &item["user_pubid"]), (&json!("i".repeat(30)), &json!(ann.pubid)));
    let stored: String = database.sql().value(
        r#"select to_char(added, 'YYYY-MM-DD"T"HH24:MI:SS.US') from item
           where (now() at time zone 'utc') - added between interval '0' and interval '1 minute'"#,
        &[],
    );
    assert_eq!(item["added"], json!(stored.trim_end_matches(".000000")), "UTC, no zone");
    assert_eq!(peace.ask(&get(place)).json(), item);

    let changed = change(&peace, &ann, place, &json!("2024-12-12 13:25"));
    assert_eq!((changed.status, &changed.json()["added"]), (200, &json!("2024-12-12T13:25:00")));
    let same = peace.ask(&put(place).bearer(&ann.token).json(&json!({})));
    assert_eq!((same.status, same.json()), (200, changed.json()), "nothing given, nothing changed");
    let same = change(&peace, &ann, place, &Value::Null);
    assert_eq!((same.status, same.json()), (200, changed.json()));

    let patch = |body: Value| peace.ask(&request("PATCH", place).bearer(&ann.token).json(&body));
    assert_eq!(patch(json!({})).json(), changed.json());
    assert_eq!(patch(json!({"added": "2025-01-01"})).json()["added"], "2025-01-01T00:00:00");
    let null = patch(json!({"added": null}));
    check_problem(&null, 422, "there is nothing to clear");
    assert_eq!(failures(&null), [("body.added".to_owned(), "datetime_type".to_owned())]);

    let deleted = peace.ask(&request("DELETE", place).bearer(&ann.token));
    assert_eq!((deleted.status, deleted.json()), (200, Value::Null));
    check_problem(&peace.ask(&get(place)), 404, "a deleted item");
    let again = peace.ask(&request("DELETE", place).bearer(&ann.token));
    check_problem(&again, 404, "deleted twice");
}

#[test]
fn names_have_thirty_characters_at_most() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = one_worker(&turn, &database);
    let ann = sign_up(&peace, "ann");
    let create = |name: String| {
        let body = json!({"name": name, "user_pubid": ann.pubid});
        peace.ask(&post("/items").bearer(&ann.token).json(&body))
    };
    assert_eq!(create("ä".repeat(30)).status, 201, "characters, not bytes");
    let long = create("n".repeat(31));
    check_problem(&long, 422, "31 characters");
    assert_eq!(failures(&long), [("body.name".to_owned(), "string_too_long".to_owned())]);
    assert_eq!(create(String::new()).status, 201, "as in the Python template");
}

#[test]
fn whose_an_item_is_decides_who_writes_it() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = one_worker(&turn, &database);
    let (ann, bob) = (sign_up(&peace, "ann"), sign_up(&peace, "bob"));
    let place = add_item(&peace, &ann, "thing");
    let before = peace.ask(&get(&place)).json();
    for request in [
        put(&place).json(&json!({"added": "2024-12-12"})),
        request("PATCH", &place).json(&json!({"added": "2024-12-12"})),
        request("DELETE", &place),
        post("/items").json(&json!({"name": "bob was here", "user_pubid": ann.pubid})),
    ] {
        check_problem(&peace.ask(&request), 401, "nobody");
        check_problem(&peace.ask(&request.bearer(&bob.token)), 403, "somebody else");
    }
    assert_eq!(peace.ask(&get(&place)).json(), before);

    // Who is gone has no rights, and what was theirs went with them.
    assert_eq!(peace.ask(&request("DELETE", &ann.place).bearer(&ann.token)).status, 200);
    let body = json!({"name": "from the grave", "user_pubid": ann.pubid});
    check_problem(&peace.ask(&post("/items").bearer(&ann.token).json(&body)), 401, "a ghost");
    check_problem(&peace.ask(&get(&place)), 404, "an item of nobody");
    let items = peace.ask(&get(format!("/items?user_pubid={}", ann.pubid)));
    assert_eq!((items.status, &items.json()["items"]), (200, &json!([])));
}

#[test]
fn anyone_may_write_items_where_the_settings_say_so() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let launch = Launch::on(&turn, &database).workers(1).env("PEACE_ITEM_WRITES", "anyone");
    let peace = launch.serve();
    let user = peace.ask(&post("/users").json(&json!({"name": "u1", "password": PASSWORD}))).json();
    // The steps of the Python template's own test, which sends no token.
    let body = json!({"name": "u1i3", "user_pubid": user["pubid"]});
    let created = peace.ask(&post("/items").json(&body));
    assert_eq!(created.status, 201);
    let place = created.header("location").expect("201 says where");
    let changed = peace.ask(&put(place).json(&json!({"added": "2024-12-12 13:25"})));
    assert_eq!((changed.status, &changed.json()["added"]), (200, &json!("2024-12-12T13:25:00")));
    assert_eq!(peace.ask(&request("DELETE", place)).status, 200);
    assert_eq!(peace.ask(&get(place)).status, 404);
    let unknown = json!({"name": "i", "user_pubid": "00000000-0000-7000-8000-000000000000"});
    let refused = peace.ask(&post("/items").json(&unknown));
    check_problem(&refused, 422, "an item of nobody");
    assert_eq!(failures(&refused), [("body.user_pubid".to_owned(), "value_error".to_owned())]);
}

#[test]
fn the_items_of_a_user_are_pages_in_order_of_creation() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = one_worker(&turn, &database);
    let (ann, bob) = (sign_up(&peace, "ann"), sign_up(&peace, "bob"));
    add_item(&peace, &bob, "not hers");
    check_problem(&peace.ask(&get("/items")), 422, "whose?");
    database.sql().run(&format!(
        "insert into item (id, user_id, name, added)
         select lpad(to_hex(n), 32, '0')::uuid, '{}', 'item-' || n, now()
         from generate_series(1, 203) n",
        ann.pubid
    ));
    let first = format!("/items?user_pubid={}&limit=90", ann.pubid);
    assert_eq!(names_from(&peace, &first, &first), item_names(1..=203));
    let page = peace.ask(&get(format!("/items?user_pubid={}", ann.pubid))).json();
    assert_eq!((&page["page"]["limit"], page["items"].as_array().unwrap().len()), (&json!(50), 50));

    // With their user: the first two hundred, and where to go on.
    let user = peace.ask(&get(format!("{}?incl_items=true", ann.place))).json();
    let shown: Vec<String> = names(&user);
    assert_eq!(shown, item_names(1..=200));
    let next = user["items_next"].as_str().expect("there are more");
    let list = format!("/items?user_pubid={}", ann.pubid);
    let rest = names_from(&peace, &format!("{list}&cursor={next}"), &list);
    assert_eq!(rest, item_names(201..=203));
    // A cursor of one list is none of another.
    check_problem(&peace.ask(&get(format!("/users?cursor={next}"))), 422, "a foreign cursor");
}

/// The names of all pages of a list, from `first` on.
fn names_from(peace: &Peace, first: &str, list: &str) -> Vec<String> {
    let (mut seen, mut target) = (Vec::new(), first.to_owned());
    loop {
        let reply = peace.ask(&get(&target));
        assert_eq!(reply.status, 200, "{target}");
        let page = reply.json();
        seen.extend(names(&page));
        match page["page"]["next_cursor"].as_str() {
            Some(cursor) => target = format!("{list}&cursor={cursor}"),
            None => return seen,
        }
    }
}

fn names(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().expect("a list of items");
    items.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
}

fn item_names(numbers: impl Iterator<Item = u32>) -> Vec<String> {
    numbers.map(|number| format!("item-{number}")).collect()
}

#[test]
fn a_user_is_shown_with_their_items_where_asked_for() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = one_worker(&turn, &database);
    let ann = sign_up(&peace, "ann");
    let with = |flag: &str| peace.ask(&get(format!("{}?incl_items={flag}", ann.place)));
    let plain = json!({"pubid": ann.pubid, "name": "ann"});
    let empty = json!({"pubid": ann.pubid, "name": "ann", "items": []});
    assert_eq!(with("true").json(), empty);
    add_item(&peace, &ann, "first");
    add_item(&peace, &ann, "second");
    // The words of pydantic for a boolean.
    for flag in ["true", "True", "1", "on", "yes", "t", "y"] {
        let user = with(flag).json();
        assert_eq!(names(&user), ["first", "second"], "{flag}");
        assert_eq!(user["items"][0]["user_pubid"], json!(ann.pubid));
        assert_eq!(user.get("items_next"), None);
    }
    for flag in ["false", "0", "off", "no", "f", "n"] {
        assert_eq!(with(flag).json(), plain, "{flag}");
    }
    check_problem(&with("maybe"), 422, "neither");
    let both = peace.ask(&get("/users/nope?incl_items=maybe"));
    let places: Vec<String> = failures(&both).into_iter().map(|(place, _)| place).collect();
    assert_eq!(places, ["path.pubid", "query.incl_items"], "all that is wrong is told");
    let unknown = "/users/00000000-0000-7000-8000-000000000000?incl_items=1";
    check_problem(&peace.ask(&get(unknown)), 404, "items of nobody");
}

#[test]
fn datetimes_in_and_out() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = one_worker(&turn, &database);
    let ann = sign_up(&peace, "ann");
    let place = add_item(&peace, &ann, "thing");
    for (given, answered) in [
        ("2024-12-12 13:25", "2024-12-12T13:25:00"),
        ("2024-12-12T13:25:07", "2024-12-12T13:25:07"),
        ("2024-12-12T13:25:07.5", "2024-12-12T13:25:07.500000"),
        ("2024-12-12T13:25:07.000001", "2024-12-12T13:25:07.000001"),
        ("2024-12-12T13:25:07.000000", "2024-12-12T13:25:07"),
        ("2024-12-12", "2024-12-12T00:00:00"),
        ("2024-12-12T13:25:00Z", "2024-12-12T13:25:00"),
        ("2024-12-12T13:25:00+02:00", "2024-12-12T11:25:00"),
        ("2024-12-31T23:30:00-05:30", "2025-01-01T05:00:00"),
        ("0001-01-01T00:00:00", "0001-01-01T00:00:00"),
        ("9999-12-31T23:59:59.999999", "9999-12-31T23:59:59.999999"),
    ] {
        let reply = change(&peace, &ann, &place, &json!(given));
        assert_eq!((reply.status, &reply.json()["added"]), (200, &json!(answered)), "{given}");
        assert_eq!(peace.ask(&get(&place)).json()["added"], json!(answered), "{given}, stored");
    }
    let before = peace.ask(&get(&place)).json();
    let odd = [
        json!(""),
        json!(" "),
        json!("now"),
        json!("tomorrow"),
        json!("13:25"),
        json!("2024"),
        json!("2024-12"),
        json!("2024-13-01"),
        json!("2024-02-30"),
        json!("2023-02-29"),
        json!("24-12-12 13:25"),
        json!("2024-12-12T24:00:00"),
        json!("2024-12-12T13:60"),
        json!("2024-12-12T13:25:60"),
        json!("2024-12-12T13:25:00+24:00"),
        json!("20241212T132500"),
        json!("2024-12-12T13:25:00[Europe/Berlin]"),
        json!("12/12/2024"),
        json!("infinity"),
        json!("10000-01-01"),
        json!("0000-01-01"),
        json!("-0001-01-01"),
        json!("1734009900"),
        json!("２０２４-12-12"),
        json!("2024-12-12T13:25:00Z extra"),
        json!("\u{0}"),
        json!(1_734_009_900),
        json!(1.5),
        json!(true),
        json!([]),
        json!({}),
        json!("2024-12-12T13:25".repeat(1000)),
    ];
    for given in odd {
        let reply = change(&peace, &ann, &place, &given);
        check_problem(&reply, 422, &given.to_string());
        assert_eq!(failures(&reply)[0].0, "body.added", "{given}");
    }
    assert_eq!(peace.ask(&get(&place)).json(), before, "nothing was stored");
}
