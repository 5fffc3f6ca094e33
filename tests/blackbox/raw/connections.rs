//! Connections: which requests they carry, in which order, and when they end.

use super::{Closed, FORM, Open, Row, asking, asking_as, posting, posting_body, row};

pub(super) fn rows() -> Vec<Row> {
    [pipelines(), persistence(), early_ends()].into_iter().flatten().collect()
}

/// RFC 9112 section 9.3.2.
fn pipelines() -> Vec<Row> {
    let good = || asking("");
    let missing = || asking_as("GET /nope HTTP/1.1");
    let form = || posting_body("content-length: 15\r\n", FORM);
    let chunks =
        || posting_body("transfer-encoding: chunked\r\n", "f\r\nrefresh_token=x\r\n0\r\n\r\n");
    vec![
        row("9112 9.3.2", "a hundred requests at once", good().repeat(100), vec![200; 100], Open),
        row(
            "9112 9.3.2",
            "requests at once are answered in their order",
            [good(), form(), missing(), chunks(), good()].concat(),
            [200, 401, 404, 401, 200],
            Open,
        ),
        row(
            "9112 9.3.2",
            "an error in their midst is about one of them",
            [good(), b"GET /health/live HTTP/1.1\r\n\r\n".to_vec(), missing(), good()].concat(),
            [200, 400, 404, 200],
            Open,
        ),
        row(
            "9112 2.2",
            "behind what is no request nothing is one",
            [good(), b"no request\r\n\r\n".to_vec(), good()].concat(),
            [200, 400],
            Closed,
        ),
        row(
            "9112 6.3",
            "behind two lengths nothing is one",
            [good(), posting_body("content-length: 15\r\ncontent-length: 16\r\n", FORM), good()]
                .concat(),
            [200, 400],
            Closed,
        ),
        row(
            "9112 6.3",
            "behind a length with chunks nothing is one",
            [
                posting_body(
                    "content-length: 3\r\ntransfer-encoding: chunked\r\n",
                    "f\r\nrefresh_token=x\r\n0\r\n\r\n",
                ),
                good(),
            ]
            .concat(),
            [401],
            Closed,
        ),
        row(
            "9112 9.3.2",
            "a request that comes in two parts",
            [&good()[..], &good()[..20]].concat(),
            [200, 200],
            Open,
        )
        .then(&good()[20..]),
        row(
            "9112 9.6",
            "behind one that ends the connection nothing is answered",
            [asking("connection: close\r\n"), good()].concat(),
            [200],
            Closed,
        ),
    ]
}

/// RFC 9112 section 9.3.
fn persistence() -> Vec<Row> {
    let old = |lines: &str| format!("GET /health/live HTTP/1.0\r\n{lines}\r\n");
    let mut rows: Vec<Row> = ["close", "Close", "keep-alive, close", "close, x"]
        .into_iter()
        .map(|options| {
            let sent = asking(&format!("connection: {options}\r\n"));
            row("9112 9.6", format!("connection: {options}"), sent, [200], Closed)
                .with("connection", "close")
        })
        .collect();
    rows.extend([
        row(
            "9112 9.6",
            "close in a line of its own",
            asking("connection: keep-alive\r\nconnection: close\r\n"),
            [200],
            Closed,
        ),
        row("9112 9.3", "an option that nobody knows", asking("connection: x\r\n"), [200], Open),
        row("9112 9.3", "HTTP/1.0 closes", old(""), [200], Closed),
        row("9112 9.3", "unless it says otherwise", old("connection: Keep-Alive\r\n"), [200], Open)
            .with("connection", "keep-alive"),
        row("9112 9.3", "or says both", old("connection: keep-alive, close\r\n"), [200], Closed),
        row(
            "9110 7.8",
            "an upgrade that is not made is no error",
            asking("connection: upgrade\r\nupgrade: websocket\r\n"),
            [200],
            Open,
        ),
    ]);
    rows
}

/// What is cut short, and what is answered before it is whole. (Whether a whole request is answered whose
/// client has shut its side is chance: it counts as gone, `worker/src/shared.rs` says why.)
fn early_ends() -> Vec<Row> {
    let large = 5 * 1024 * 1024;
    let upload = |line: &str| {
        let head = format!("{line}\r\nhost: x\r\ncontent-length: {large}\r\n\r\n");
        [head.into_bytes(), vec![b'x'; large]].concat()
    };
    vec![
        row("9112 8", "nothing is sent", "", [], Closed).half_closed(),
        row("9112 8", "a head that breaks off", "GET /health/live HT", [], Closed).half_closed(),
        row(
            "9112 9.6",
            "an upload that nobody reads is answered, and not reset",
            upload("PUT /nope HTTP/1.1"),
            [404],
            Closed,
        )
        .with("connection", "close"),
        row(
            "9112 9.6",
            "a small one is read, and the connection is used again",
            [
                posting("content-length: 15\r\n").replace("/auth/refresh", "/nope").into_bytes(),
                FORM.as_bytes().to_vec(),
            ]
            .concat(),
            [404],
            Open,
        ),
    ]
}
