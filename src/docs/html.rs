//! Pages, written by hand: no script but Swagger UI's, no style but ours, nothing from elsewhere.
//!
//! `docs` serves them; `problems` says what is on them. Everything is known when the program is built,
//! and escaped all the same. Texts between backticks are shown as code.

use super::problems::Told;

/// Swagger UI, started by `start.js`.
pub(super) const DOCS: &str = concat!(
    "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n",
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n",
    "<title>",
    env!("CARGO_PKG_NAME"),
    "</title>\n<link rel=\"icon\" href=\"/docs/favicon.png\">\n",
    "<link rel=\"stylesheet\" href=\"/docs/swagger-ui.css\">\n<div id=\"swagger-ui\"></div>\n",
    "<noscript>This page needs scripts; <a href=\"/openapi.json\">the document</a> does not.</noscript>\n",
    "<script src=\"/docs/swagger-ui.js\"></script>\n<script src=\"/docs/start.js\"></script>\n</html>\n",
);

/// Where everything is.
pub(super) fn links() -> String {
    let links = [
        ("/docs", "the API, to read and to try"),
        ("/openapi.json", "the same for programs"),
        ("/problems", "what can go wrong, and how to mend it"),
        ("/health/live", "is a worker alive?"),
        ("/health/ready", "may it be sent requests?"),
        ("/version", "which version is it?"),
    ];
    let row = |(path, about)| format!("<dt><a href=\"{path}\">{path}</a><dd>{about}\n");
    let rows: String = links.into_iter().map(row).collect();
    let name = env!("CARGO_PKG_NAME");
    page(name, &format!("<h1>{}</h1>\n<dl>\n{rows}</dl>\n", text(name)))
}

/// All kinds of problems.
pub(super) fn problems(all: &[Told]) -> String {
    let row = |Told { kind, .. }: &Told| {
        let code = text(kind.code);
        let about = text(kind.about);
        format!(
            "<dt><a href=\"/problems/{code}\">{code}</a> <small>{}</small><dd>{about}\n",
            kind.status
        )
    };
    let rows: String = all.iter().map(row).collect();
    page("Problems", &format!("<h1>Problems</h1>\n<dl>\n{rows}</dl>\n"))
}

/// One of them.
pub(super) fn problem(Told { kind, example, places }: &Told) -> String {
    let place = |place: &String| format!("<li><code>{}</code>\n", text(place));
    let places: String = match places.is_empty() {
        true => "<p>Any request can meet it.\n".to_owned(),
        false => format!("<ul>\n{}</ul>\n", places.iter().map(place).collect::<String>()),
    };
    let body = format!(
        "<p><a href=\"/problems\">Problems</a>\n<h1>{code}</h1>\n<p>{status} {title}\n\
         <h2>What happened</h2>\n<p>{about}\n<h2>How to mend it</h2>\n<p>{mend}\n\
         <h2>Who answers so</h2>\n{places}<h2>An example</h2>\n<pre>{example}</pre>\n",
        code = text(kind.code),
        status = kind.status,
        title = text(kind.title),
        about = text(kind.about),
        mend = text(kind.mend),
        example = text(&format!("{example:#}")),
    );
    page(kind.code, &body)
}

fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{}</title>\n<link rel=\"icon\" href=\"/docs/favicon.png\">\n\
         <link rel=\"stylesheet\" href=\"/docs/page.css\">\n<main>\n{body}</main>\n</html>\n",
        text(title)
    )
}

/// Text as HTML.
fn text(text: &str) -> String {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
    let mut parts = escaped.split('`');
    let mut html = parts.next().unwrap_or_default().to_owned();
    for (number, part) in parts.enumerate() {
        html.push_str(if number % 2 == 0 { "<code>" } else { "</code>" });
        html.push_str(part);
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_backticks_are_code() {
        assert_eq!(text("a <b> & \"c\" `d` e"), "a &lt;b> &amp; &quot;c&quot; <code>d</code> e");
    }
}
