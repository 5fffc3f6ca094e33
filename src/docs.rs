//! What the API tells about itself: its document, the pages that show it, and a page for each problem.
//!
//! | route | what it is |
//! |---|---|
//! | `GET /openapi.json` | the API as OpenAPI 3.1, made from the table that the router is made of |
//! | `GET /docs` | Swagger UI, from inside the program |
//! | `GET /problems`, `/problems/{code}` | what a problem's `type` points to: what happened, how to mend it |
//! | `GET /` | in development: where all of that is |
//!
//! `app` adds these routes when the settings want them, `main` prints the document. They are no part of
//! the document themselves, ask for no token, and touch no database.
//! Promises: what is served is made once per process, when it is first asked for; a client that has it
//! already is told so (304); the pages load nothing from any other host.

mod document;
mod html;
mod node;
mod problems;
mod served;
mod swagger_ui;

use std::sync::LazyLock;

use worker::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use worker::{
    Context, Path, Preconditions, Representation, Routes, Success, Text, WithHeaders, payload,
};

use self::served::{HTML, Served};
use crate::app::App;
use crate::errors::{ApiError, ONE, Result};
use crate::settings::ItemWrites;
use crate::{resources, versions};

/// Adds the routes; with `root`, also the page of links.
pub fn routes(routes: &mut Routes<App>, root: bool) {
    routes.get("/openapi.json", "openapi", openapi);
    routes.get("/docs", "docs-page", docs);
    routes.get("/docs/{file}", "docs-file", file).fails(ONE);
    routes.get("/problems", "problems-list", problem_list);
    routes.get("/problems/{code}", "problems-read", problem).fails(ONE);
    if root {
        routes.get("/", "root", links);
    }
}

/// The API document, as JSON for people and programs.
#[must_use]
pub fn openapi_json(item_writes: ItemWrites) -> String {
    let routes = resources::told(item_writes);
    let document = document::of(routes.operations(), &resources::chapters());
    format!("{document}\n")
}

// What is served

static OPENAPI: LazyLock<Served> = LazyLock::new(|| openapi_of(ItemWrites::Owner));

static OPENAPI_FOR_ANYONE: LazyLock<Served> = LazyLock::new(|| openapi_of(ItemWrites::Anyone));

fn openapi_of(item_writes: ItemWrites) -> Served {
    Served::new("application/json", openapi_json(item_writes))
}

static DOCS: LazyLock<Served> = LazyLock::new(|| Served::new(HTML, html::DOCS));

static LINKS: LazyLock<Served> = LazyLock::new(|| Served::new(HTML, html::links()));

static PROBLEMS: LazyLock<Served> =
    LazyLock::new(|| Served::new(HTML, html::problems(&problems::all())));

static PROBLEM: LazyLock<Vec<(&str, Served)>> = LazyLock::new(|| {
    let page = |problem: &problems::Told| Served::new(HTML, html::problem(problem));
    problems::all().iter().map(|problem| (problem.kind.code, page(problem))).collect()
});

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// What the pages load, by name.
static FILES: LazyLock<[(&str, Served); 7]> = LazyLock::new(|| {
    [
        ("swagger-ui.js", swagger_ui::file("dist/swagger-ui-bundle.js", SCRIPT)),
        ("swagger-ui.css", swagger_ui::file("dist/swagger-ui.css", STYLE)),
        ("swagger-ui-notice.txt", swagger_ui::file("NOTICE", TEXT)),
        ("swagger-ui-license.txt", swagger_ui::file("LICENSE", TEXT)),
        ("favicon.png", swagger_ui::file("dist/favicon-32x32.png", "image/png")),
        ("start.js", Served::new(SCRIPT, include_str!("docs/start.js"))),
        ("page.css", Served::new(STYLE, include_str!("docs/page.css"))),
    ]
});

// Payloads

payload! {
    struct File {
        file: String = required(Text::unbounded()),
    }

    struct Problem {
        code: String = required(Text::unbounded()),
    }
}

// Handlers

type Answer = Result<WithHeaders<Representation>>;

async fn openapi(cx: Context<App>) -> Answer {
    match cx.app().item_writes {
        ItemWrites::Owner => serve(&cx, &OPENAPI),
        ItemWrites::Anyone => serve(&cx, &OPENAPI_FOR_ANYONE),
    }
}

async fn docs(cx: Context<App>) -> Answer {
    serve(&cx, &DOCS)
}

async fn links(cx: Context<App>) -> Answer {
    serve(&cx, &LINKS)
}

async fn problem_list(cx: Context<App>) -> Answer {
    serve(&cx, &PROBLEMS)
}

async fn problem(cx: Context<App>, path: Path<Problem>) -> Answer {
    let Problem { code } = path.read()?;
    find(&cx, &PROBLEM, &code)
}

async fn file(cx: Context<App>, path: Path<File>) -> Answer {
    let File { file } = path.read()?;
    find(&cx, &*FILES, &file)
}

fn find(cx: &Context<App>, all: &[(&str, Served)], name: &str) -> Answer {
    let found = all.iter().find(|(known, _)| *known == name);
    let (_, served) = found.ok_or(ApiError::NotFound("page"))?;
    serve(cx, served)
}

/// Nothing but our own scripts and styles, and calls of this API: Swagger UI has its pictures inside.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// As the client can read it, unless it has it. Its name may mean something else after an upgrade, so
/// the client is to ask each time.
fn serve(cx: &Context<App>, served: &Served) -> Answer {
    let is_known = versions::is_known(&Preconditions::of(cx.headers())?, served.etag())?;
    let packed = cx.header(ACCEPT_ENCODING).is_some_and(served::takes_gzip);
    let answer = served
        .representation(packed, is_known)
        .with_header(CACHE_CONTROL, "no-cache")
        .with_header(VARY, "accept-encoding")
        .with_header(X_CONTENT_TYPE_OPTIONS, "nosniff")
        .with_header(CONTENT_SECURITY_POLICY, POLICY);
    Ok(match packed && !is_known {
        true => answer.with_header(CONTENT_ENCODING, "gzip"),
        false => answer,
    })
}
