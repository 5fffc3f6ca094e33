//! Bodies: how long they are, and who says so.

use super::{Closed, FORM, Open, Row, posting, posting_body, row};

pub(super) fn rows() -> Vec<Row> {
    [lengths(), chunks(), bad_chunks(), codings(), expectations()].into_iter().flatten().collect()
}

/// RFC 9112 section 6.2, RFC 9110 section 8.6.
fn lengths() -> Vec<Row> {
    let with = |lines: &str| posting_body(lines, FORM);
    let mut rows = vec![
        row("9112 6.2", "a body of its length", with("content-length: 15\r\n"), [401], Open),
        row(
            "9112 6.2",
            "a length may have zeros in front",
            with("content-length: 015\r\n"),
            [401],
            Open,
        ),
        row("9112 5.1", "and white space around", with("content-length: \t15 \r\n"), [401], Open),
        row("9112 6.3", "without a length there is no body", posting(""), [422], Open),
        row(
            "9112 3.2",
            "a body behind a head that is refused is skipped",
            String::from_utf8_lossy(&with("content-length: 15\r\n")).replace("host: x", "host: /"),
            [400],
            Open,
        ),
        row("9110 8.6", "an empty body", posting("content-length: 0\r\n"), [422], Open),
        row(
            "9110 8.6",
            "twice the same length is once",
            with("content-length: 15\r\ncontent-length: 15\r\n"),
            [401],
            Open,
        ),
        row(
            "9110 9.3.1",
            "a body of GET is skipped",
            "GET /health/live HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc",
            [200],
            Open,
        ),
        row(
            "9110 9.3.1",
            "a body that looks like a request is none",
            "GET /health/live HTTP/1.1\r\nhost: x\r\ncontent-length: 38\r\n\r\n\
             GET /nope HTTP/1.1\r\nhost: evil.test\r\n\r\n",
            [200],
            Open,
        ),
        row(
            "9112 8",
            "a body that breaks off is not answered as if it were whole",
            posting_body("content-length: 16\r\n", FORM),
            [400],
            Closed,
        )
        .half_closed(),
    ];
    for (what, lines) in [
        ("two lengths", "content-length: 15\r\ncontent-length: 16\r\n"),
        ("a list of lengths", "content-length: 15, 16\r\n"),
        // Might be taken as one (RFC 9110 section 8.6); refused is safer.
        ("a list of one length twice", "content-length: 15, 15\r\n"),
        ("a plus", "content-length: +15\r\n"),
        ("a minus", "content-length: -15\r\n"),
        ("hex digits", "content-length: 0xf\r\n"),
        ("an exponent", "content-length: 15e0\r\n"),
        ("a fraction", "content-length: 15.0\r\n"),
        ("a space within", "content-length: 1 5\r\n"),
        ("no digits", "content-length:\r\n"),
        ("letters", "content-length: fifteen\r\n"),
        ("digits of another script", "content-length: １５\r\n"),
        ("2^64", "content-length: 18446744073709551616\r\n"),
    ] {
        rows.push(row("9112 6.3", format!("{what} for a length"), with(lines), [400], Closed));
    }
    rows
}

/// RFC 9112 section 7.1.
fn chunks() -> Vec<Row> {
    let chunked = |body: &str| posting_body("transfer-encoding: chunked\r\n", body);
    [
        ("one chunk", "f\r\nrefresh_token=x\r\n0\r\n\r\n"),
        ("several chunks", "8\r\nrefresh_\r\n6\r\ntoken=\r\n1\r\nx\r\n0\r\n\r\n"),
        ("a size in capitals", "F\r\nrefresh_token=x\r\n0\r\n\r\n"),
        ("a size with zeros in front", "0000000f\r\nrefresh_token=x\r\n000\r\n\r\n"),
        ("an extension", "f;a=b;c=\"d\"\r\nrefresh_token=x\r\n0;e\r\n\r\n"),
        ("an extension after white space", "f ;a=b\r\nrefresh_token=x\r\n0\r\n\r\n"),
        ("trailers", "f\r\nrefresh_token=x\r\n0\r\na: b\r\nc: d\r\n\r\n"),
        ("a trailer that frames bodies", "f\r\nrefresh_token=x\r\n0\r\ncontent-length: 9\r\n\r\n"),
    ]
    .into_iter()
    .map(|(what, body)| {
        row("9112 7.1", format!("a body of chunks: {what}"), chunked(body), [401], Open)
    })
    .collect()
}

fn bad_chunks() -> Vec<Row> {
    let long = "x".repeat(17 * 1024);
    let extension = format!("f;{long}\r\nrefresh_token=x\r\n0\r\n\r\n");
    let trailer = format!("f\r\nrefresh_token=x\r\n0\r\na: {long}{long}\r\n\r\n");
    let mut rows: Vec<Row> = [
        ("no size", "\r\nrefresh_token=x\r\n0\r\n\r\n"),
        ("an extension alone", ";a=b\r\nrefresh_token=x\r\n0\r\n\r\n"),
        ("a letter for a size", "g\r\nrefresh_token=x\r\n0\r\n\r\n"),
        ("a size with 0x", "0xf\r\nrefresh_token=x\r\n0\r\n\r\n"),
        ("a size with a minus", "-f\r\nrefresh_token=x\r\n0\r\n\r\n"),
        ("a size with a plus", "+f\r\nrefresh_token=x\r\n0\r\n\r\n"),
        ("a space before a size", " f\r\nrefresh_token=x\r\n0\r\n\r\n"),
        ("two sizes", "f f\r\nrefresh_token=x\r\n0\r\n\r\n"),
        ("a size beyond 2^64", "1000000000000000f\r\nrefresh_token=x\r\n0\r\n\r\n"),
        ("a size ended by LF alone", "f\nrefresh_token=x\r\n0\r\n\r\n"),
        ("a size ended by CR alone", "f\rrefresh_token=x\r\n0\r\n\r\n"),
        ("an extension with a bare CR", "f;a\rb\r\nrefresh_token=x\r\n0\r\n\r\n"),
        ("an extension ended by LF alone", "f;a\nrefresh_token=x\r\n0\r\n\r\n"),
        ("a long extension", &extension),
        ("more than its size", "e\r\nrefresh_token=x\r\n0\r\n\r\n"),
        ("no CRLF behind", "f\r\nrefresh_token=x0\r\n\r\n"),
        ("LF alone behind", "f\r\nrefresh_token=x\n0\r\n\r\n"),
        ("a trailer that is no field", "f\r\nrefresh_token=x\r\n0\r\nno field\r\n\r\n"),
        ("a long trailer", &trailer),
    ]
    .into_iter()
    .map(|(what, body)| {
        let sent = posting_body("transfer-encoding: chunked\r\n", body);
        row("9112 7.1", format!("a chunk with {what}"), sent, [400], Closed)
    })
    .collect();
    let broken = posting_body("transfer-encoding: chunked\r\n", "f\r\nrefresh_token=x\r\n0\r\n");
    rows.push(row("9112 8", "chunks without an end", broken, [400], Closed).half_closed());
    rows
}

/// RFC 9112 section 6.1.
fn codings() -> Vec<Row> {
    let coded = |lines: &str| posting_body(lines, "f\r\nrefresh_token=x\r\n0\r\n\r\n");
    let mut rows = vec![
        row("9112 7", "codings in any case", coded("transfer-encoding: Chunked\r\n"), [401], Open),
        // Both may be refused, too; the connection is closed either way.
        row(
            "9112 6.3",
            "chunks win over a length, and are the last of their connection",
            coded("content-length: 3\r\ntransfer-encoding: chunked\r\n"),
            [401],
            Closed,
        ),
        row(
            "9112 6.3",
            "whichever comes first",
            coded("transfer-encoding: chunked\r\ncontent-length: 3\r\n"),
            [401],
            Closed,
        ),
        row(
            "9112 6.1",
            "HTTP/1.0 has no codings",
            String::from_utf8_lossy(&coded("transfer-encoding: chunked\r\n"))
                .replace("/1.1", "/1.0"),
            [400],
            Closed,
        ),
    ];
    for (what, lines) in [
        ("an unknown coding", "transfer-encoding: gzip, chunked\r\n"),
        (
            "an unknown coding in a line of its own",
            "transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n",
        ),
        ("chunked twice", "transfer-encoding: chunked, chunked\r\n"),
        ("chunked in two lines", "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n"),
    ] {
        rows.push(row("9112 6.1", what, coded(lines), [501], Open));
    }
    for (what, lines) in [
        ("an unknown coding alone", "transfer-encoding: gzip\r\n"),
        ("identity", "transfer-encoding: identity\r\n"),
        ("a coding that ends in chunked", "transfer-encoding: xchunked\r\n"),
        ("chunked that is not the last", "transfer-encoding: chunked, gzip\r\n"),
        ("chunked with a parameter", "transfer-encoding: chunked;q=1\r\n"),
        ("chunked in quotes", "transfer-encoding: \"chunked\"\r\n"),
        ("no coding", "transfer-encoding:\r\n"),
        ("chunked behind a vertical tab", "transfer-encoding: \x0bchunked\r\n"),
    ] {
        rows.push(row("9112 6.3", what, coded(lines), [400], Closed));
    }
    rows
}

/// RFC 9110 section 10.1.1.
fn expectations() -> Vec<Row> {
    let head = |lines: &str| posting(&format!("expect: 100-continue\r\n{lines}"));
    let length = "content-length: 15\r\n";
    vec![
        row("9110 10.1.1", "a body that is wanted is asked for", head(length), [100, 401], Open)
            .then(FORM),
        row(
            "9110 10.1.1",
            "one in chunks, too",
            head("transfer-encoding: chunked\r\n"),
            [100, 401],
            Open,
        )
        .then("f\r\nrefresh_token=x\r\n0\r\n\r\n"),
        row(
            "9110 10.1.1",
            "an expectation in capitals",
            posting(&format!("Expect: 100-Continue\r\n{length}")),
            [100, 401],
            Open,
        )
        .then(FORM),
        row(
            "9110 10.1.1",
            "who does not wait",
            format!("{}{FORM}", head(length)),
            [100, 401],
            Open,
        ),
        row(
            "9110 10.1.1",
            "a body that is too long is not asked for",
            head("content-length: 99999999\r\n"),
            [413],
            Closed,
        ),
        row(
            "9110 10.1.1",
            "nor is one of another type",
            head(length).replace("x-www-form-urlencoded", "json"),
            [415],
            Closed,
        ),
        row(
            "9110 10.1.1",
            "nor is one that has no place to go",
            head(length).replace("/auth/refresh", "/nope"),
            [404],
            Closed,
        ),
        row(
            "9110 10.1.1",
            "without a body there is nothing to ask for",
            "GET /health/live HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n\r\n",
            [200],
            Open,
        ),
        row(
            "9110 10.1.1",
            "HTTP/1.0 cannot expect",
            format!("{}{FORM}", head(length).replace("/1.1", "/1.0")),
            [401],
            Closed,
        ),
        row(
            "9110 10.1.1",
            "an expectation that nobody knows",
            posting(&format!("expect: a=b\r\n{length}")),
            [417],
            Closed,
        ),
        row(
            "9110 10.1.1",
            "one that nobody knows beside one that is known",
            posting(&format!("expect: 100-continue, a=b\r\n{length}")),
            [417],
            Closed,
        ),
    ]
}
