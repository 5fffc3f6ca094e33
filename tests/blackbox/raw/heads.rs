//! Heads: request lines, targets, hosts, header fields and the ends of their lines.

use super::{Closed, Open, Row, asking, asking_as, row};

/// What OPTIONS and 405 say of the path that is asked.
const ALLOW: &str = "GET, HEAD, OPTIONS";

pub(super) fn rows() -> Vec<Row> {
    [request_lines(), methods(), targets(), hosts(), lines(), fields()]
        .into_iter()
        .flatten()
        .collect()
}

fn request_lines() -> Vec<Row> {
    let mut rows = vec![
        row(
            "9112 3",
            "a request line is taken",
            asking_as("GET /health/live HTTP/1.1"),
            [200],
            Open,
        ),
        row("9112 2.3", "HTTP/0.9 is not spoken", "GET /health/live\r\n\r\n", [400], Closed),
        row(
            "9112 9.3",
            "HTTP/1.0 is answered once",
            "GET /health/live HTTP/1.0\r\n\r\n",
            [200],
            Closed,
        ),
        // Who speaks HTTP/2 without having agreed on it (RFC 9113 section 3.4) would take no answer.
        row("9113 3.4", "the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [], Closed),
        row("9110 2.5", "TLS is no HTTP", b"\x16\x03\x01\x00\xf4\x01\x00\x00\xf0", [400], Closed),
    ];
    // Whether a minor version that nobody has defined is served or refused is left open (SHOULD).
    for (what, line) in [
        ("HTTP/1.2", "GET /health/live HTTP/1.2"),
        ("HTTP/2.0", "GET /health/live HTTP/2.0"),
        ("a version with more digits", "GET /health/live HTTP/1.10"),
        ("a version with a leading zero", "GET /health/live HTTP/01.1"),
        ("http in small letters", "GET /health/live http/1.1"),
        ("no version", "GET /health/live "),
        ("no target", "GET HTTP/1.1"),
        ("two spaces before the target", "GET  /health/live HTTP/1.1"),
        ("two spaces before the version", "GET /health/live  HTTP/1.1"),
        ("a tab for a space", "GET\t/health/live HTTP/1.1"),
        ("a space at the end", "GET /health/live HTTP/1.1 "),
        ("a space in the target", "GET /health/li ve HTTP/1.1"),
        ("a space in front", " GET /health/live HTTP/1.1"),
        ("a bare CR", "GET /health/live\r HTTP/1.1"),
        ("a NUL in the target", "GET /health/li\0ve HTTP/1.1"),
        ("a method that is no token", "GE(T /health/live HTTP/1.1"),
    ] {
        rows.push(row(
            "9112 3",
            format!("a request line with {what}"),
            asking_as(line),
            [400],
            Closed,
        ));
    }
    rows
}

fn methods() -> Vec<Row> {
    let mut rows: Vec<Row> = ["get", "BREW", "TRACE", "DELETE", "PATCH"]
        .into_iter()
        .map(|method| {
            let sent = asking_as(&format!("{method} /health/live HTTP/1.1"));
            row("9110 15.5.6", format!("the method {method}"), sent, [405], Open)
                .with("allow", ALLOW)
        })
        .collect();
    rows.extend([
        row(
            "9110 9.3.7",
            "OPTIONS lists the methods",
            asking_as("OPTIONS /health/live HTTP/1.1"),
            [204],
            Open,
        )
        .with("allow", ALLOW),
        row("9110 9.3.7", "OPTIONS of all", asking_as("OPTIONS * HTTP/1.1"), [204], Open),
        row("9110 9.3.7", "OPTIONS of nothing", asking_as("OPTIONS /nope HTTP/1.1"), [404], Open),
        row("9110 9.3.2", "HEAD has no body", asking_as("HEAD /health/live HTTP/1.1"), [200], Open),
        row("9110 9.3.2", "nor has its 404", asking_as("HEAD /nope HTTP/1.1"), [404], Open),
        row("9110 9.3.2", "nor its 405", asking_as("HEAD /auth/token HTTP/1.1"), [405], Open)
            .with("allow", "POST, OPTIONS"),
        row("9110 9.3.6", "CONNECT is refused", asking_as("CONNECT x:80 HTTP/1.1"), [404], Open),
    ]);
    rows
}

fn targets() -> Vec<Row> {
    let asked = |target: &str| asking_as(&format!("GET {target} HTTP/1.1"));
    vec![
        row("9112 3.2.1", "a query may be empty", asked("/health/live?"), [200], Open),
        row("9112 3.2.2", "a target with a host", asked("http://x/health/live"), [200], Open),
        row(
            "9112 3.2.2",
            "a target's host counts and not the header's",
            asked("http://y/health/live"),
            [200],
            Open,
        ),
        row(
            "9110 4.2.1",
            "a target with an empty host",
            asked("http:///health/live"),
            [400],
            Closed,
        ),
        row("9112 3.2.4", "an asterisk is for OPTIONS", asked("*"), [404], Open),
        row("9112 3.2.3", "a host is no target of GET", asked("x:80"), [404], Open),
        // hyper's parser of targets drops a fragment; what a sender MUST NOT send harms nobody here.
        row("9112 3.2", "a fragment is dropped", asked("/health/live#x"), [200], Open),
        row("9110 4.2.3", "a path is not decoded to find it", asked("/health%2flive"), [404], Open),
        row("3986 2.1", "a broken escape in a path", asked("/users/%zz"), [422], Open),
        row("3986 2", "a quote in a path", asked("/users/\"a\""), [422], Open),
        row("9112 3.2", "a path without its slash", asked("health/live"), [400], Closed),
    ]
}

fn hosts() -> Vec<Row> {
    let with = |hosts: &str| format!("GET /health/live HTTP/1.1\r\n{hosts}\r\n");
    let mut rows = vec![
        row("9112 3.2", "a request has a host", with(""), [400], Open),
        row("9112 3.2", "and one only", with("host: x\r\nhost: y\r\n"), [400], Open),
        row("9112 3.2", "not even twice the same", with("host: x\r\nHost: x\r\n"), [400], Open),
        row(
            "9112 3.2.2",
            "a target with a host needs the header, too",
            "GET http://x/health/live HTTP/1.1\r\n\r\n",
            [400],
            Open,
        ),
        row(
            "9112 3.2",
            "even HTTP/1.0 has not two",
            "GET /health/live HTTP/1.0\r\nhost: x\r\nhost: y\r\n\r\n",
            [400],
            Closed,
        ),
    ];
    for host in ["", "x", "X.Example.", "a-b.c:80", "x:", "127.0.0.1:65535", "[::1]", "[::1]:8000"]
    {
        let sent = with(&format!("host: {host}\r\n"));
        rows.push(row("9110 7.2", format!("the host {host:?}"), sent, [200], Open));
    }
    for host in ["a b", "u@x", "x/y", "x?y", "x#y", "[::1", "x:1:2", "x:a", "x\\y", "http://x", "é"]
    {
        let sent = with(&format!("host: {host}\r\n"));
        rows.push(row("9112 3.2", format!("the host {host:?}"), sent, [400], Open));
    }
    rows
}

/// Where lines end.
fn lines() -> Vec<Row> {
    vec![
        row(
            "9112 2.2",
            "LF alone may end a line",
            "GET /health/live HTTP/1.1\nhost: x\n\n",
            [200],
            Open,
        ),
        row(
            "9112 2.2",
            "CR alone ends none",
            "GET /health/live HTTP/1.1\rhost: x\r\r",
            [400],
            Closed,
        ),
        row(
            "9112 2.2",
            "an empty line before a request",
            [b"\r\n", &asking("")[..]].concat(),
            [200],
            Open,
        ),
        row(
            "9112 2.2",
            "an empty line behind a body is none of the next request",
            [asking(""), b"\r\n".to_vec(), asking("")].concat(),
            [200, 200],
            Open,
        ),
        row(
            "9112 2.2",
            "white space between the request line and the fields",
            "GET /health/live HTTP/1.1\r\n a: b\r\nhost: x\r\n\r\n",
            [400],
            Closed,
        ),
        row("9112 5.2", "a folded line", asking("a: b\r\n c\r\n"), [400], Closed),
        row("9112 5.2", "a line folded by a tab", asking("a: b\r\n\tc\r\n"), [400], Closed),
    ]
}

/// Names and values.
fn fields() -> Vec<Row> {
    let mut rows = vec![
        row(
            "9110 5.1",
            "names of fields in any case",
            "GET /health/live HTTP/1.1\r\nHOST: x\r\ncOnNeCtIoN: close\r\n\r\n",
            [200],
            Closed,
        ),
        row("9110 5.5", "an empty value", asking("a:\r\n"), [200], Open),
        row("9112 5.1", "white space around a value", asking("a: \t b \t \r\n"), [200], Open),
        row("9110 5.5", "a tab within a value", asking("a: b\tc\r\n"), [200], Open),
        row("9110 5.5", "bytes beyond ASCII in a value", asking("a: é\r\n"), [200], Open),
        row(
            "9110 5.6.2",
            "every sign that a name may have",
            asking("!#$%&'*+-.^_`|~9Az: b\r\n"),
            [200],
            Open,
        ),
    ];
    for (what, line) in [
        ("a space before the colon", "a : b"),
        ("a tab before the colon", "a\t: b"),
        ("no colon", "ab"),
        ("no name", ": b"),
        ("a space in a name", "a b: c"),
        ("a parenthesis in a name", "a(: c"),
        ("a byte beyond ASCII in a name", "é: c"),
        ("NUL in a name", "a\0: b"),
        ("NUL in a value", "a: b\0c"),
        ("a control byte in a value", "a: b\x01c"),
        ("DEL in a value", "a: b\x7fc"),
        ("a bare CR in a value", "a: b\rc"),
        ("a bare CR at the end of a value", "a: b\r\r"),
    ] {
        rows.push(row("9110 5.5", what, asking(&format!("{line}\r\n")), [400], Closed));
    }
    rows
}
