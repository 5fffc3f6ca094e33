//! `report.html`: the report as one page that opens from disk.
//!
//! The conductor calls [`render`] with what was measured and the verdict's sentences. The page asks
//! for nothing: no network, no script; its policy forbids both. Dark and light by the reader's
//! settings, and made for paper, too. Everything that comes from outside is escaped (`markup`).
//! It draws no conclusion: the verdict is given.

mod axis;
mod balance;
mod bars;
mod card;
mod contestants;
mod errors;
mod figure;
mod labels;
mod latency;
mod markup;
mod memory;
mod number;
mod plot;
mod processors;
mod shapes;
mod tables;
mod throughput;
mod timeline;

use contestants::Contestants;
use figure::Figure;
use markup::Tag;

use super::model::Report;

const STYLE: &str = include_str!("page/page.css");
/// Style comes from the page alone; nothing else comes from anywhere.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; \
                      form-action 'none'";

/// The whole file.
pub(crate) fn render(report: &Report, verdict: &[String]) -> String {
    let html = Tag::new("html").set("lang", "en").put(head(report)).put(body(report, verdict));
    format!("<!doctype html>\n{}\n", String::from(html))
}

fn head(report: &Report) -> Tag {
    let title = format!("How many workers? {}, {}", report.card.scenario.name, report.card.started);
    let meta =
        |name: &str, content: &str| Tag::new("meta").set("name", name).set("content", content);
    let policy = Tag::new("meta").set("http-equiv", "Content-Security-Policy");
    Tag::new("head")
        .put(Tag::new("meta").set("charset", "utf-8"))
        .put(policy.set("content", POLICY))
        .put(meta("viewport", "width=device-width, initial-scale=1"))
        .put(meta("color-scheme", "light dark"))
        .put(Tag::new("title").text(&title))
        .put(Tag::new("link").set("rel", "icon").set("href", "data:,"))
        .put(Tag::new("style").verbatim(STYLE))
}

fn body(report: &Report, verdict: &[String]) -> Tag {
    let contestants = Contestants::of(report);
    let main = Tag::new("main").put(card::header(report, verdict)).put(card::card(report));
    let main = main.put_all(charts(&contestants));
    let all = Tag::of("section", "numbers").put(Tag::new("h2").text("All numbers"));
    let main =
        main.put(all.put(tables::points(&contestants)).put(tables::lives(report).tag("lives")));
    Tag::new("body").put(main.put(card::repeat(&report.card)).put(card::reading()))
}

/// The charts under their headings.
fn charts(contestants: &Contestants<'_>) -> Vec<Tag> {
    let mut speed = vec![throughput::figure(contestants), latency::percentiles(contestants)];
    speed.extend(latency::knee(contestants));
    let cost = vec![
        balance::figure(contestants),
        processors::cost(contestants),
        processors::busy(contestants),
        memory::figure(contestants),
    ];
    let parts = [
        ("Speed", speed),
        ("Errors", vec![errors::figure(contestants)]),
        ("Over time", timeline::figures(contestants)),
        ("Cost", cost),
    ];
    let mut count = 0;
    let mut section = |(heading, figures): (&str, Vec<Figure>)| {
        let figures = Figure::tags(&figures, || {
            count += 1;
            format!("chart-{count}")
        });
        let charts = Tag::of("div", "charts").put_all(figures);
        Tag::new("section").put(Tag::new("h2").text(heading)).put(charts)
    };
    parts.map(&mut section).into()
}

#[cfg(test)]
mod tests;
