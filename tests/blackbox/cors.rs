//! CORS: whose pages may read answers, as a browser would find out.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::json;

use crate::harness::api::{add_item, sign_up};
use crate::harness::client::{PATIENCE, Reply, Request};
use crate::harness::{Database, Launch, Peace, Turn, get, post, request};

const ORIGIN: &str = "https://app.example.org";
const OTHER: &str = "http://localhost:3000";

fn serve(turn: &Turn, database: &Database<'_>, origins: &str) -> Peace {
    Launch::on(turn, database).workers(1).args(["--cors-origins", origins]).serve()
}

/// The headers of CORS that an answer has.
fn told(reply: &Reply) -> Vec<(&str, &str)> {
    let is_told = |name: &str| name.starts_with("access-control-") || name == "vary";
    reply.headers().filter(|(name, _)| is_told(name)).collect()
}

fn allowed(reply: &Reply) -> Option<&str> {
    reply.header("access-control-allow-origin")
}

fn preflight(target: &str, method: &str, headers: &str) -> Request {
    let asked = request("OPTIONS", target).header("origin", ORIGIN);
    let asked = asked.header("access-control-request-method", method);
    if headers.is_empty() { asked } else { asked.header("access-control-request-headers", headers) }
}

#[test]
fn nothing_is_told_unless_the_settings_name_origins() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    for origins in [None, Some("off")] {
        let launch = Launch::on(&turn, &database).workers(1);
        let peace = match origins {
            None => launch.serve(),
            Some(origins) => launch.env("PEACE_CORS_ORIGINS", origins).serve(),
        };
        let simple = peace.ask(&get("/users").header("origin", ORIGIN));
        let preflight = peace.ask(&preflight("/users", "POST", "content-type"));
        assert_eq!((simple.status, preflight.status), (200, 204));
        assert_eq!((told(&simple), told(&preflight)), (vec![], vec![]));
        assert_eq!(preflight.header("allow"), Some("GET, HEAD, POST, OPTIONS"));
    }
}

#[test]
fn an_origin_is_one_of_the_list_or_it_is_not() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = serve(&turn, &database, &format!("{ORIGIN}, {OTHER}"));
    for origin in [ORIGIN, OTHER] {
        let reply = peace.ask(&get("/users").header("origin", origin));
        assert_eq!(allowed(&reply), Some(origin));
        assert_eq!(reply.header("vary"), Some("origin"));
    }
    for origin in [
        "null",
        "https://APP.example.org",
        "HTTPS://app.example.org",
        "http://app.example.org",
        "https://app.example.org:443",
        "https://app.example.org:8443",
        "https://app.example.org/",
        "https://app.example.org.evil.example",
        "https://evil-app.example.org",
        "https://evil.app.example.org",
        "https://example.org",
        "https://app.example.or",
        "app.example.org",
        "https://app.example.org, http://localhost:3000",
        "http://localhost",
        "http://localhost:30000",
        "*",
        "",
    ] {
        let reply = peace.ask(&get("/users").header("origin", origin));
        assert_eq!(told(&reply), [("vary", "origin")], "{origin:?}");
        let asked = request("OPTIONS", "/users").header("origin", origin);
        let reply = peace.ask(&asked.header("access-control-request-method", "POST"));
        assert_eq!((reply.status, told(&reply)), (204, vec![("vary", "origin")]), "{origin:?}");
    }
    let twice = peace.ask(&get("/users").header("origin", OTHER).header("origin", "null"));
    assert_eq!(allowed(&twice), None, "a browser sends one");
    let nobody = peace.ask(&get("/users"));
    assert_eq!(told(&nobody), [("vary", "origin")], "a cache must not mix them up");
}

#[test]
fn a_page_may_read_every_answer_and_its_headers() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = serve(&turn, &database, ORIGIN);
    let ann = sign_up(&peace, "ann");
    let item = add_item(&peace, &ann, "thing");
    let body = json!({"name": "ann", "password": "pass word"});
    let table = [
        (get("/users"), 200),
        (get(&item).header("if-none-match", "*"), 304),
        (get("/nothing"), 404),
        (request("DELETE", &ann.place), 401),
        (request("DELETE", "/users"), 405),
        (post("/users").json(&body), 409),
        (post("/users").body("text/plain", "x"), 415),
        (get("/users?limit=0"), 422),
        (post("/users").header("expect", "wonders"), 417),
        (
            request("PUT", &item).bearer(&ann.token).json(&json!({})).header("if-match", "\"9\""),
            412,
        ),
        (request("HEAD", "/health/live"), 200),
        (request("OPTIONS", "/users"), 204),
    ];
    for (asked, status) in table {
        let reply = peace.ask(&asked.clone().header("origin", ORIGIN));
        assert_eq!((reply.status, allowed(&reply)), (status, Some(ORIGIN)), "{asked:?}");
        let exposed = "etag, location, link, x-request-id, retry-after, idempotency-replayed";
        assert_eq!(reply.header("access-control-expose-headers"), Some(exposed), "{asked:?}");
        assert_eq!(reply.header("vary"), Some("origin"), "{asked:?}");
        assert_eq!(reply.header("access-control-allow-credentials"), None, "{asked:?}");
    }
}

#[test]
fn a_preflight_tells_what_may_be_sent_there() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = serve(&turn, &database, ORIGIN);
    let place = "/users/00000000-0000-7000-8000-000000000000";
    let of_one = "GET, HEAD, PUT, PATCH, DELETE, OPTIONS";
    let ours =
        "authorization, content-type, idempotency-key, if-match, if-none-match, x-request-id";
    for (target, asked, methods, headers) in [
        ("/users", "", "GET, HEAD, POST, OPTIONS", ""),
        (place, "authorization,content-type", of_one, "authorization, content-type"),
        (place, "IF-Match , Authorization", of_one, "authorization, if-match"),
        (place, "x-secret, content-type, cookie", of_one, "content-type"),
        (place, ours, of_one, ours),
    ] {
        let reply = peace.ask(&preflight(target, "PATCH", asked));
        assert_eq!((reply.status, allowed(&reply)), (204, Some(ORIGIN)), "{target} {asked}");
        assert_eq!(reply.header("access-control-allow-methods"), Some(methods), "{target}");
        let told = reply.header("access-control-allow-headers");
        assert_eq!(told, Some(headers).filter(|headers| !headers.is_empty()), "{target}");
        assert_eq!(reply.header("access-control-max-age"), Some("600"));
        assert_eq!(reply.header("vary"), Some("origin"));
        assert_eq!(reply.header("access-control-allow-credentials"), None);
        assert_eq!(reply.header("access-control-expose-headers"), None);
    }
    let nowhere = peace.ask(&preflight("/nothing", "GET", ""));
    assert_eq!((nowhere.status, allowed(&nowhere)), (404, Some(ORIGIN)));
    assert_eq!(nowhere.header("access-control-allow-methods"), None);
}

/// There is no head to find an origin in, but where every origin may there is no need to.
#[test]
fn what_is_no_request_is_refused_to_every_origin_or_to_none() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    for (origins, told) in [("*", "access-control-allow-origin: *"), (ORIGIN, "vary: origin")] {
        let peace = serve(&turn, &database, origins);
        let mut stream = TcpStream::connect(peace.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"NONSENSE\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        let lines = || {
            answer.lines().filter(|line| {
                line.starts_with("access-control-allow-origin") || line.starts_with("vary")
            })
        };
        assert_eq!(lines().collect::<Vec<_>>(), [told]);
    }
}

#[test]
fn a_star_is_every_origin_and_never_with_credentials() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = serve(&turn, &database, "*");
    for origin in [ORIGIN, "null", "https://anybody.example"] {
        let reply = peace.ask(&get("/users").header("origin", origin).header("cookie", "a=b"));
        assert_eq!(allowed(&reply), Some("*"), "{origin}");
        assert_eq!(reply.header("vary"), None, "it is the same for all");
        assert_eq!(reply.header("access-control-allow-credentials"), None);
    }
    let reply = peace.ask(&preflight("/users", "POST", "authorization"));
    assert_eq!((reply.status, allowed(&reply)), (204, Some("*")));
    assert_eq!(reply.header("access-control-allow-headers"), Some("authorization"));
    // A cache may hand the answer to a page: it does not vary.
    let no_page = peace.ask(&get("/users"));
    assert_eq!((allowed(&no_page), no_page.header("vary")), (Some("*"), None));
}
