//! The page of a load report in a real browser: it says what it has to, asks for nothing, fits.
//!
//! The reports are made up, and become pages by the real program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::chromium::{Chromium, Page};
use crate::fixture::{Fixture, HOSTILE, USUAL};
use crate::harness::built::program;
use crate::harness::folder::Folder;

/// Of a screen, and of a phone.
const WIDTHS: [u32; 2] = [1200, 400];

/// Every picture that is shown: its name, and how many marks with an extent it has.
const PICTURES: &str = "[...document.querySelectorAll('figure svg[role=img]')]
    .filter(svg => svg.getBoundingClientRect().width > 0)
    .map(svg => [svg.querySelector('title').textContent,
        [...svg.querySelectorAll('.mark, .curve, .piece, .track')].filter(mark => {
            const box = mark.getBoundingClientRect();
            return box.width > 0 && box.height + box.width > 1;
        }).length])";
/// How far the page is wider than its window.
const OVERFLOW: &str =
    "document.documentElement.scrollWidth - document.documentElement.clientWidth";
/// Words of pictures that stick out of the window.
const OUTSIDE: &str = "[...document.querySelectorAll('figure svg[role=img] text')]
    .filter(text => {
        const box = text.getBoundingClientRect();
        return box.width > 0 && (box.left < 0 || box.right > innerWidth);
    })
    .map(text => text.textContent)";
const GROUND: &str = "getComputedStyle(document.body).backgroundColor";

fn reports() -> [(&'static str, Fixture); 6] {
    let two: &[&str] = &["peace", "FastAPI + SQLAlchemy + asyncpg"];
    [
        ("usual", USUAL),
        ("single", Fixture { counts: &[Some(2)], rounds: 1, is_quick: true, ..USUAL }),
        ("two", Fixture { series: two, has_events: true, failing: 0.002, ..USUAL }),
        ("hostile", Fixture { series: &["peace", HOSTILE], rounds: 20, ..USUAL }),
        ("given", Fixture { counts: &[None], sees_inside: false, ..USUAL }),
        ("failed", Fixture { failing: 2.0, windows: 10, ..USUAL }),
    ]
}

/// Written by the real program.
fn page(folder: &Folder, name: &str, report: &Value) -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let report = folder.write(&format!("{name}.json"), &report.to_string());
    let page = folder.path().join(format!("{name}.html"));
    let mut command = Command::new(PROGRAM.get_or_init(|| program("peace-loadtest")));
    let made = command.arg("page").arg(report).arg("--out").arg(&page).output();
    let made = made.expect("the program is built");
    assert!(made.status.success(), "{name}: {made:?}");
    page
}

fn report(fixture: &Fixture) -> Value {
    fixture.report(&|_| String::new())
}

/// Fails unless every picture has something to see.
fn check_pictures(page: &mut Page<'_>, name: &str) {
    let pictures = page.evaluate(PICTURES);
    let pictures = pictures.as_array().unwrap();
    assert!(pictures.len() >= 3, "{name}: {pictures:?}");
    for picture in pictures {
        assert!(picture[1].as_u64() > Some(0), "{name}: nothing to see in {}", picture[0]);
    }
}

/// Fails unless a page is as every page has to be.
pub(crate) fn check(chromium: &mut Chromium, file: &Path, width: u32, name: &str) {
    let mut page = chromium.open(file, width, "light");
    check_pictures(&mut page, name);
    assert_eq!(page.evaluate(OVERFLOW), json!(0), "{name}");
    assert_eq!(page.evaluate(OUTSIDE), json!([]), "{name}");
    assert_eq!(page.complaints(), [""; 0], "{name}");
    assert_eq!(page.requests(), [format!("file://{}", file.display())], "{name}");
}

#[test]
fn every_page_shows_its_charts_fits_its_window_and_asks_for_nothing() {
    let (folder, mut chromium) = (Folder::new(), Chromium::start());
    for (name, fixture) in reports() {
        let file = page(&folder, name, &report(&fixture));
        for width in WIDTHS {
            check(&mut chromium, &file, width, &format!("{name} at {width}"));
        }
    }
}

#[test]
fn a_page_is_dark_for_those_who_want_it_and_light_on_paper() {
    let (folder, mut chromium) = (Folder::new(), Chromium::start());
    let file = page(&folder, "usual", &report(&USUAL));
    let mut looks = ["light", "dark"].map(|scheme| {
        let mut page = chromium.open(&file, 1200, scheme);
        (page.evaluate(GROUND), page.screenshot())
    });
    looks.sort_by_key(|(ground, _)| ground.to_string());
    let [dark, light] = looks;
    assert_eq!((dark.0, light.0), (json!("rgb(16, 19, 23)"), json!("rgb(255, 255, 255)")));
    assert_ne!(dark.1, light.1);
    let printed = ["light", "dark"].map(|scheme| {
        let mut page = chromium.open(&file, 1200, scheme);
        let paper = page.print();
        // `%PDF-`, in base64.
        assert!(paper.starts_with("JVBERi"), "{:?}", paper.get(..20));
        paper.len()
    });
    // Their colours are the same, the times in them are not.
    assert!(printed[0].abs_diff(printed[1]) < 200, "{printed:?}");
    assert!(printed[0] > 20_000, "{printed:?}");
}

#[test]
fn a_broken_page_is_seen() {
    let (folder, mut chromium) = (Folder::new(), Chromium::start());
    let good = fs::read_to_string(page(&folder, "usual", &report(&USUAL))).unwrap();
    // A port that browsers refuse to ask, so that nothing leaves this machine.
    let image = "<main><img src=\"http://127.0.0.1:9/x.png\"><p style=\"width:2000px\">wide</p>";
    let bad = good.replace("<main>", image);
    let mut page = chromium.open(&folder.write("policy.html", &bad), 400, "light");
    let complaints = page.complaints();
    assert!(
        complaints.iter().any(|text| text.contains("Content Security Policy")),
        "{complaints:?}"
    );
    assert!(page.evaluate(OVERFLOW).as_i64() > Some(1000));
    drop(page);

    let bad = bad.replace("Content-Security-Policy", "x-nothing");
    let bad =
        bad.replace("</body>", "<script>console.error('a'); throw new Error('b')</script></body>");
    let bad = bad.replace("class=\"piece", "display=\"none\" class=\"piece");
    let mut page = chromium.open(&folder.write("free.html", &bad), 1200, "light");
    assert!(page.requests().iter().any(|url| url == "http://127.0.0.1:9/x.png"));
    let complaints = page.complaints().join("\n");
    assert!(
        complaints.contains("Error: b") && complaints.contains("ERR_UNSAFE_PORT"),
        "{complaints}"
    );
    let empty = page.evaluate(&format!("{PICTURES}.filter(([_, marks]) => marks < 7).length"));
    assert!(empty.as_u64() > Some(0), "bars were taken away: {empty}");
}
