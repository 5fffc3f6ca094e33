//! What the API tells about itself is true: every operation is in its document, every example is taken,
//! every answer fits its schema, every problem has its page.
//!
//! Schemas are judged by a small validator of the keywords that the document uses; it refuses those it
//! does not know. `tests/external` has others judge the document.

mod schema;

use std::collections::BTreeMap;

use peace::resources;
use peace::settings::ItemWrites;
use serde_json::{Value, json};

use self::schema::{Document, check};
use crate::harness::client::{Reply, Request, get};
use crate::harness::{Database, Launch, Peace, Turn, jwt, request};

/// What each operation of the document is made of.
struct Told<'a> {
    method: &'static str,
    path: &'a str,
    body: &'a Value,
}

/// The operations of the document, in its order.
fn told(document: &Value) -> Vec<Told<'_>> {
    let paths = document["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap().iter();
        methods.map(move |(name, body)| Told { method: method(name), path, body })
    });
    operations.collect()
}

fn method(name: &str) -> &'static str {
    let known = ["GET", "POST", "PUT", "PATCH", "DELETE"];
    let found = known.into_iter().find(|one| one.eq_ignore_ascii_case(name));
    found.unwrap_or_else(|| panic!("{name} is no method"))
}

fn served(peace: &Peace) -> Value {
    peace.ask(&get("/openapi.json")).json()
}

#[test]
fn every_operation_of_the_table_is_in_the_document_with_all_its_problems() {
    let document: Value =
        serde_json::from_str(&peace::docs::openapi_json(ItemWrites::Owner)).unwrap();
    let routes = resources::routes(false);
    let told = told(&document);
    assert_eq!(told.len(), routes.operations().count());
    for operation in routes.operations() {
        let name = operation.name;
        let path = &document["paths"][operation.pattern];
        let object = &path[operation.method.as_str().to_lowercase()];
        assert_eq!(object["operationId"], name);
        assert!(!object["summary"].as_str().unwrap().is_empty(), "{name}: say what it does");
        let responses = object["responses"].as_object().unwrap();
        assert!(responses.contains_key(operation.success.status.as_str()), "{name}");
        for kind in &operation.problems {
            let content = &responses[&kind.status.to_string()]["content"];
            let examples = &content["application/problem+json"]["examples"];
            assert!(examples[kind.code].is_object(), "{name}: {}", kind.code);
        }
        let protected = operation.problems.iter().any(|kind| kind.code == "unauthenticated");
        assert_eq!(!object["security"].as_array().unwrap().is_empty(), protected, "{name}");
    }
}

#[test]
fn every_operation_stands_in_a_chapter_and_every_reference_leads_somewhere() {
    let document: Value =
        serde_json::from_str(&peace::docs::openapi_json(ItemWrites::Owner)).unwrap();
    let chapters: Vec<&Value> =
        document["tags"].as_array().unwrap().iter().map(|tag| &tag["name"]).collect();
    for Told { body, .. } in told(&document) {
        assert!(chapters.contains(&&body["tags"][0]), "{}: no such chapter", body["operationId"]);
    }
    for chapter in document["tags"].as_array().unwrap() {
        assert_ne!(chapter["description"], "", "{}", chapter["name"]);
    }
    let mut references = Vec::new();
    collect_references(&document, &mut references);
    assert!(references.len() > 100, "{}", references.len());
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

fn collect_references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str));
            members.values().for_each(|one| collect_references(one, found));
        }
        Value::Array(values) => values.iter().for_each(|one| collect_references(one, found)),
        _ => {}
    }
}

#[test]
fn every_example_fits_its_schema() {
    let document: Value =
        serde_json::from_str(&peace::docs::openapi_json(ItemWrites::Owner)).unwrap();
    let judge = Document::new(&document);
    for Told { body, .. } in told(&document) {
        let name = &body["operationId"];
        for parameter in body["parameters"].as_array().into_iter().flatten() {
            if parameter["required"] == true {
                check(&judge, &parameter["schema"], &parameter["example"], &name.to_string());
            }
        }
        let requests = body["requestBody"]["content"].as_object().into_iter().flatten();
        let responses = body["responses"].as_object().unwrap().values();
        let answers = responses.filter_map(|one| one["content"].as_object()).flatten();
        for (_, content) in requests.chain(answers) {
            if let Some(example) = content.get("example") {
                check(&judge, &content["schema"], example, &name.to_string());
            }
            for (code, example) in content["examples"].as_object().into_iter().flatten() {
                let example = judge.follow(example);
                check(&judge, &content["schema"], &example["value"], &format!("{name}: {code}"));
            }
        }
    }
}

/// Everything stands in the document itself: the user of its examples is there, and whatever it shows is
/// sent as it is shown; but for what nobody can foretell, the refresh token and the ids of other rows.
#[test]
fn every_example_is_taken_and_every_answer_fits_its_schema() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(1).env("JWT_SECRET_KEY", jwt::SECRET).serve();
    let document = served(&peace);
    let judge = Document::new(&document);
    let mut told = told(&document);
    told.sort_by_key(rank);
    let mut refresh_token = String::new();
    // Of what was created, by the path that it was created at.
    let mut ids: BTreeMap<&str, String> = BTreeMap::new();
    for Told { method, path, body } in told {
        let name = body["operationId"].as_str().unwrap();
        let list = path.split("/{").next().unwrap();
        let id = ids.get(list).map_or(ID, String::as_str);
        let reply = peace.ask(&as_shown(method, path, body, id, &refresh_token));
        assert!(reply.status < 300, "{name}: {}", String::from_utf8_lossy(&reply.body));
        check_answer(&judge, body, &reply, name);
        match (name, reply.header("location")) {
            ("users-create", _) => {
                let rename = format!(r#"update "user" set id = '{ID}' where name = 'ann'"#);
                database.sql().run(&rename);
                database.add_session(ID);
            }
            ("auth-logout" | "auth-logout-all", _) => database.add_session(ID),
            ("auth-token", _) => {
                refresh_token = reply.json()["refresh_token"].as_str().unwrap().to_owned();
            }
            (_, Some(location)) => {
                ids.insert(path, location.rsplit('/').next().unwrap().to_owned());
            }
            _ => {}
        }
    }
}

/// Who signs up comes first, then who logs in, then what is created; what deletes comes last, and the
/// user, with whom all that is theirs goes, after everything.
fn rank(told: &Told<'_>) -> usize {
    match told.body["operationId"].as_str().unwrap() {
        "users-create" => 0,
        "auth-token" => 1,
        "auth-refresh" => 2,
        "users-delete" => 5,
        name if name.ends_with("-create") => 2,
        _ if told.method == "DELETE" => 4,
        _ => 3,
    }
}

/// The id that all examples name.
const ID: &str = "0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";

/// A request as the document shows it, but for the id of a row.
fn as_shown(
    method: &'static str,
    path: &str,
    body: &Value,
    id: &str,
    refresh_token: &str,
) -> Request {
    let mut target = path.to_owned();
    let mut query = Vec::new();
    for parameter in body["parameters"].as_array().into_iter().flatten() {
        let Some(example) = parameter["example"].as_str() else { continue };
        let name = parameter["name"].as_str().unwrap();
        match parameter["in"].as_str() {
            Some("path") if name == "pubid" => target = target.replace("{pubid}", id),
            Some("path") => target = target.replace(&format!("{{{name}}}"), example),
            _ => query.push(format!("{name}={example}")),
        }
    }
    if !query.is_empty() {
        target = format!("{target}?{}", query.join("&"));
    }
    let mut asked = request(method, target);
    if body["security"] != json!([]) {
        asked = asked.bearer(&jwt::signed(ID, json!({})));
    }
    let bodies = body["requestBody"]["content"].as_object();
    if let Some((media_type, content)) = bodies.and_then(|bodies| bodies.iter().next()) {
        let example = &content["example"];
        asked = match media_type.ends_with("json") {
            true => asked.body(media_type, example.to_string()),
            false => asked.body(media_type, form(example, refresh_token)),
        };
    }
    asked
}

fn form(example: &Value, refresh_token: &str) -> String {
    let pair = |(name, value): (&String, &Value)| match name.as_str() {
        "refresh_token" => format!("{name}={refresh_token}"),
        _ => format!("{name}={}", value.as_str().unwrap().replace(' ', "+")),
    };
    example.as_object().unwrap().iter().map(pair).collect::<Vec<_>>().join("&")
}

fn check_answer(judge: &Document<'_>, body: &Value, reply: &Reply, what: &str) {
    let response = &body["responses"][reply.status.to_string()];
    assert!(response.is_object(), "{what}: {} is not in the document", reply.status);
    let Some(content) = response["content"].as_object() else {
        assert!(reply.body.is_empty(), "{what}");
        return;
    };
    let (media_type, content) = content.iter().next().unwrap();
    assert_eq!(reply.header("content-type"), Some(media_type.as_str()), "{what}");
    check(judge, &content["schema"], &reply.json(), what);
    // A last page leads to no next one, and a first answer is not repeated.
    let may_be_absent = ["Link", "Idempotency-Replayed"];
    let names = response["headers"].as_object().unwrap().keys();
    for name in names.filter(|name| !may_be_absent.contains(&name.as_str())) {
        assert!(reply.header(&name.to_lowercase()).is_some(), "{what}: no {name}");
    }
}

#[test]
fn the_command_prints_what_is_served_and_a_client_that_has_it_is_told_so() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(1).serve();
    let printed = Launch::bare(&turn).args(["openapi"]).output();
    assert!(printed.status.success());
    let first = peace.ask(&get("/openapi.json"));
    assert_eq!((first.status, &first.body), (200, &printed.stdout));
    assert_eq!(first.header("content-type"), Some("application/json"));
    let etag = first.header("etag").unwrap().to_owned();
    let again = peace.ask(&get("/openapi.json").header("if-none-match", &etag));
    assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, Some(&*etag)));
    let packed = peace.ask(&get("/openapi.json").header("accept-encoding", "br, gzip"));
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    assert!(packed.body.len() < first.body.len() / 10, "{}", packed.body.len());
    let head = peace.ask(&request("HEAD", "/openapi.json"));
    assert_eq!(head.header("content-length").unwrap(), first.body.len().to_string());
}

#[test]
fn where_anyone_may_write_items_the_document_asks_nobody_for_a_token_there() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(1).env("PEACE_ITEM_WRITES", "anyone").serve();
    let told_openly = peace.ask(&get("/openapi.json"));
    let printed = Launch::bare(&turn).env("PEACE_ITEM_WRITES", "anyone").args(["openapi"]).output();
    assert_eq!(printed.stdout, told_openly.body);
    let (open, strict): (Value, Value) = (
        told_openly.json(),
        serde_json::from_str(&peace::docs::openapi_json(ItemWrites::Owner)).unwrap(),
    );
    assert_eq!(told(&open).len(), told(&strict).len());
    let mut opened = Vec::new();
    for (one, other) in told(&open).iter().zip(told(&strict)) {
        let name = one.body["operationId"].as_str().unwrap();
        if one.body == other.body {
            continue;
        }
        assert_eq!((&one.body["security"], one.body["responses"].get("401")), (&json!([]), None));
        assert_eq!(one.body["responses"].get("403"), None, "{name}");
        opened.push(name);
    }
    opened.sort_unstable();
    assert_eq!(opened, ["items-create", "items-delete", "items-patch", "items-replace"]);
}

/// The documents and the rows are judged by one reader of `If-None-Match`.
#[test]
fn conditions_of_a_page_are_read_as_those_of_a_row() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(1).serve();
    let etag = peace.ask(&get("/docs")).header("etag").unwrap().to_owned();
    assert!(etag.starts_with("W/\""), "{etag}");
    let strong = etag.trim_start_matches("W/").to_owned();
    let other = "\"zz\"".to_owned();
    for (name, lines, status) in [
        ("if-none-match", vec![&other, &etag], 304),
        ("if-none-match", vec![&strong], 304),
        ("if-none-match", vec![&other], 200),
        ("if-none-match", vec![&name_of(&etag)], 400),
        ("if-match", vec![&strong], 412),
        ("if-match", vec![&"*".to_owned()], 200),
    ] {
        let asked =
            lines.iter().fold(get("/docs"), |asked, line| asked.header(name, line.as_str()));
        assert_eq!(peace.ask(&asked).status, status, "{asked:?}");
    }
}

/// A tag without its quotes, which is none.
fn name_of(etag: &str) -> String {
    etag.trim_start_matches("W/").trim_matches('"').to_owned()
}

#[test]
fn the_pages_load_what_is_there_and_nothing_from_elsewhere() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(1).serve();
    let mut seen = BTreeMap::new();
    let mut open =
        vec!["/".to_owned(), "/docs".to_owned(), "/docs/swagger-ui-license.txt".to_owned()];
    while let Some(path) = open.pop() {
        let reply = peace.ask(&get(path.as_str()));
        assert_eq!(reply.status, 200, "{path}");
        let media_type = reply.header("content-type").unwrap().to_owned();
        if media_type.starts_with("text/html") {
            let policy = reply.header("content-security-policy").unwrap();
            assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
            let html = String::from_utf8(reply.body).unwrap();
            assert!(!html.contains("//"), "{path} names another host: {html}");
            let links = html.split(['"']).filter(|text| text.starts_with('/'));
            open.extend(links.filter(|link| !seen.contains_key(*link)).map(str::to_owned));
        }
        seen.insert(path, media_type);
    }
    for (path, media_type) in [
        ("/docs/swagger-ui.js", "text/javascript; charset=utf-8"),
        ("/docs/swagger-ui.css", "text/css; charset=utf-8"),
        ("/docs/start.js", "text/javascript; charset=utf-8"),
        ("/docs/page.css", "text/css; charset=utf-8"),
        ("/docs/favicon.png", "image/png"),
        ("/docs/swagger-ui-license.txt", "text/plain; charset=utf-8"),
        ("/problems/invalid-input", "text/html; charset=utf-8"),
    ] {
        assert_eq!(seen.get(path).map(String::as_str), Some(media_type), "{path}");
    }
}

#[test]
fn every_problem_has_a_page_that_says_how_to_mend_it() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(1).serve();
    let routes = resources::routes(false);
    let declared = routes.operations().flat_map(|operation| operation.problems.iter().copied());
    let common =
        [worker::kinds::ANY, worker::kinds::ANY_WITH_BODY, worker::kinds::WITHOUT_OPERATION];
    let list = String::from_utf8(peace.ask(&get("/problems")).body).unwrap();
    let mut pages = BTreeMap::new();
    for kind in declared.chain(common.concat()) {
        let place = format!("/problems/{}", kind.code);
        assert!(list.contains(&format!("<a href=\"{place}\">")), "{place} is not in the list");
        let page = String::from_utf8(peace.ask(&get(place)).body).unwrap();
        for text in [kind.code, "What happened", "How to mend it", &kind.status.to_string()] {
            assert!(page.contains(text), "{}: {text}: {page}", kind.code);
        }
        assert!(kind.about.len() > 20 && kind.mend.len() > 15, "{}", kind.code);
        pages.insert(kind.code, page);
    }
    assert!(pages.len() >= 19, "{:?}", pages.keys());
    // A problem leads to its page.
    let problem = peace.ask(&get("/nothing/here"));
    let page = peace.ask(&get(problem.json()["type"].as_str().unwrap()));
    assert_eq!((problem.status, page.status), (404, 200));
    let unknown = peace.ask(&get("/problems/nope"));
    assert_eq!((unknown.status, &unknown.json()["detail"]), (404, &json!("there is no such page")));
}

#[test]
fn the_documents_can_be_turned_off_and_links_are_for_development() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let pages =
        ["/docs", "/docs/start.js", "/openapi.json", "/problems", "/problems/internal", "/"];
    let statuses = |peace: &Peace| pages.map(|page| peace.ask(&get(page)).status);
    let off = Launch::on(&turn, &database).workers(1).env("PEACE_DOCS", "off").serve();
    assert_eq!(statuses(&off), [404; 6]);
    let production = Launch::on(&turn, &database).workers(1).env("PEACE_ENV", "production");
    let production = production.env("JWT_SECRET_KEY", jwt::SECRET).serve();
    assert_eq!(statuses(&production), [200, 200, 200, 200, 200, 404]);
    let development = Launch::on(&turn, &database).workers(1).serve();
    assert_eq!(statuses(&development), [200; 6]);
}
