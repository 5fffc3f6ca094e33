//! /docs in a real browser: Authorize works, requests can be tried, nobody else is asked. And where the
//! files of Swagger UI are from.
//!
//! What is clicked is what Swagger UI shows; each step waits in the page for what it leads to. With
//! `PEACE_TEST_SCREENSHOT=FILE` the picture of README is taken anew.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flate2::read::GzDecoder;
use serde_json::json;

use crate::chromium::{Chromium, Page};
use crate::harness::folder::Folder;
use crate::harness::{Database, Launch, Turn};
use crate::openapi::tool;

/// What the steps are written with: wait for something, click it, type into it.
const HANDS: &str = r"
window.seen = async (what, find) => {
    const end = performance.now() + 30000;
    for (;;) {
        const found = find();
        if (found) return found;
        if (performance.now() > end) throw new Error('not seen: ' + what);
        await new Promise(requestAnimationFrame);
    }
};
window.one = selector => seen(selector, () => document.querySelector(selector));
window.typed = async (selector, text) => {
    const field = await one(selector);
    const kind = Object.getPrototypeOf(field);
    Object.getOwnPropertyDescriptor(kind, 'value').set.call(field, text);
    field.dispatchEvent(new Event(field.tagName === 'TEXTAREA' ? 'change' : 'input', { bubbles: true }));
    field.dispatchEvent(new Event('change', { bubbles: true }));
};
window.run = async (operation, body) => {
    const place = '#operations-' + operation + ' ';
    (await one(place + '.opblock-summary-control')).click();
    // The example comes a moment after the form.
    const field = await one(place + '.body-param__text');
    await seen('the example', () => field.value.includes('{'));
    await typed(place + '.body-param__text', body ?? field.value + ' ');
    await seen('what was typed', () => field.value.trim() === (body ?? field.value).trim());
    (await one(place + '.execute')).click();
    const cell = place + '.live-responses-table .response-col_status';
    const rows = () => [...document.querySelectorAll(cell)].find(one => /^\d/.test(one.textContent));
    const status = parseInt((await seen('an answer', rows)).textContent);
    const text = (await one(place + '.live-responses-table .microlight, ' + place
        + '.live-responses-table pre')).textContent;
    return { status, text };
};
0";

const LOG_IN: &str = r"(async () => {
    (await one('.auth-wrapper .btn.authorize')).click();
    await typed('#oauth_username', 'ann');
    await typed('#oauth_password', 'correct horse');
    const form = (await one('#oauth_username')).closest('.auth-container');
    form.querySelector('.auth.authorize').click();
    await seen('the way out', () => [...document.querySelectorAll('.auth-container .auth')]
        .find(button => button.textContent === 'Logout'));
    (await one('.btn-done')).click();
})()";

fn run(page: &mut Page<'_>, operation: &str, body: Option<&str>) -> (u64, String) {
    let body = json!(body);
    let ran = page.evaluate(&format!("run('{operation}', {body})"));
    (ran["status"].as_u64().unwrap(), ran["text"].as_str().unwrap().to_owned())
}

#[test]
fn a_person_signs_up_logs_in_and_creates_an_item_and_nobody_else_is_asked() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(2).serve();
    let home = format!("http://{}", peace.address());
    let mut chromium = Chromium::start();
    let mut page = chromium.open_url(&format!("{home}/docs"), 1200, "light");
    page.evaluate(HANDS);

    let (status, user) = run(&mut page, "users-users-create", None);
    assert_eq!(status, 201, "{user}");
    let pubid: String = database.sql().value(r#"select id::text from "user""#, &[]);
    let item = json!({ "name": "umbrella", "user_pubid": pubid }).to_string();
    let (status, refused) = run(&mut page, "items-items-create", Some(&item));
    assert_eq!(status, 401, "{refused}");
    page.evaluate(LOG_IN);
    assert_eq!(run_again(&mut page, "items-items-create"), 201);

    take_picture(&mut page);
    let asked = page.requests();
    let foreign = asked.iter().filter(|url| !url.starts_with(&home) && !url.starts_with("data:"));
    assert_eq!(foreign.collect::<Vec<_>>(), [""; 0], "{asked:?}");
    assert!(asked.iter().any(|url| url.ends_with("/auth/token")), "{asked:?}");
    let refusals = page.complaints();
    let expected = |one: &&String| !one.contains("401 (Unauthorized)");
    assert_eq!(refusals.iter().filter(expected).collect::<Vec<_>>(), [""; 0]);
}

/// Executes what is open already once more, until it succeeds.
fn run_again(page: &mut Page<'_>, operation: &str) -> u64 {
    let place = format!("#operations-{operation} ");
    let script = format!(
        "(async () => {{
            (await one('{place}.execute')).click();
            const cell = '{place}.live-responses-table .response-col_status';
            const cells = () => [...document.querySelectorAll(cell)];
            const success = () => cells().find(one => one.textContent.startsWith('2'));
            return parseInt((await seen('a success', success)).textContent);
        }})()"
    );
    page.evaluate(&script).as_u64().unwrap()
}

fn take_picture(page: &mut Page<'_>) {
    let Some(file) = std::env::var_os("PEACE_TEST_SCREENSHOT") else { return };
    page.evaluate(
        "document.querySelectorAll('.opblock.is-open > .opblock-summary .opblock-summary-control')
            .forEach(one => one.click());
        seen('closed', () => !document.querySelector('.opblock-body'))
            .then(() => scrollTo(0, document.querySelector('.scheme-container').offsetTop))",
    );
    fs::write(file, BASE64_STANDARD.decode(page.screenshot()).unwrap()).unwrap();
}

#[test]
fn the_files_of_swagger_ui_are_those_of_its_package() {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/docs/swagger-ui");
    let readme = fs::read_to_string(ours.join("README.md")).unwrap();
    let version = readme.lines().next().unwrap().strip_prefix("# Swagger UI ").unwrap();
    let folder = Folder::new();
    let packed =
        tool("npm", &folder).args(["pack", &format!("swagger-ui-dist@{version}")]).output();
    let packed = packed.unwrap();
    assert!(packed.status.success(), "{packed:?}");
    let archive = format!("swagger-ui-dist-{version}.tgz");
    let tar = Command::new("tar").args(["xzf", &archive]).current_dir(folder.path()).status();
    assert!(tar.unwrap().success());
    for entry in fs::read_dir(&ours).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if name == "README.md" {
            continue;
        }
        let mut bytes = fs::read(entry.path()).unwrap();
        let original = match name.strip_suffix(".gz") {
            Some(original) => {
                let mut plain = Vec::new();
                GzDecoder::new(&bytes[..]).read_to_end(&mut plain).unwrap();
                bytes = plain;
                original
            }
            None => &name,
        };
        let theirs = fs::read(folder.path().join("package").join(original)).unwrap();
        assert!(bytes == theirs, "{name} is not what {archive} has");
    }
}
