//! `deploy/rename` on a copy of this project: what it refuses, what it changes, and that what comes
//! out builds and passes tests.

use std::process::Command;

use crate::copied::{Copied, Draft, run};
use crate::harness::Turn;
use crate::openapi::told;

/// With a dash, which is none everywhere.
const NAME: &str = "order-service";
/// As an author of commits has to have.
const COMMIT: &str = "git init -q && git add -A && \
    git -c user.name=ann -c user.email=ann@example.org commit -q -m 'the template'";
/// Names that are none.
const NO_NAMES: &str =
    "'' Billing my_shop b 9lives -shop shop- my--shop twenty-one-characters pg-tools";
/// Words of the code, of Rust, of packages, of other programs; and the one that is looked for.
const TAKEN: &str = "supervisor match abstract tokio serde-json docker rust jwt mypeace";

#[test]
fn a_renamed_project_builds_and_passes_its_tests() {
    let _turn = Turn::alone();
    let project = Copied::changed("renamed", |draft| {
        run(&mut draft.shell(COMMIT));
        check_refusals(draft);
        check_what_is_changed(draft);
    });
    let test = |args: &str| run(&mut project.shell(&format!("cargo test --quiet --locked {args}")));
    test("--test tidy");
    test("--lib");
    let served = test("--test blackbox -- serve:: settings::");
    assert!(served.contains("test result: ok"), "{served}");
    let version = run(Command::new(project.program("order-service-supervisor")).arg("--version"));
    let expected = concat!("order-service-supervisor ", env!("CARGO_PKG_VERSION"), "-renamed\n");
    assert_eq!(version, expected);
}

/// One line each, and nothing is changed.
fn check_refusals(draft: &Draft) {
    for (names, reason) in [(NO_NAMES, "is no name: "), (TAKEN, ": choose another")] {
        for name in names.split(' ') {
            refuse(draft, name, reason);
        }
    }
    refuse(draft, "", "usage: ");
    run(&mut draft.shell("echo '# mine' >> Cargo.toml"));
    refuse(draft, NAME, "not committed");
    run(&mut draft.shell("git checkout -q . && mkdir .peace && touch .peace/jwt-secret"));
    refuse(draft, NAME, "rm -r .peace");
    run(&mut draft.shell("rm -r .peace"));
    let plan = run(&mut draft.shell(&format!("deploy/rename --dry-run {NAME}")));
    let moved = "src/bin/peace-migrate.rs -> src/bin/order-service-migrate.rs";
    assert!(plan.contains(moved), "{plan}");
    assert_eq!(run(&mut draft.shell("git status --porcelain")), "");
}

fn refuse(draft: &Draft, args: &str, reason: &str) {
    let output = draft.shell(&format!("deploy/rename {args}")).output().unwrap();
    let told = told(&output);
    assert_eq!((output.status.code(), told.lines().count()), (Some(1), 1), "{args}: {told}");
    assert!(told.contains(reason), "{args}: {told}");
}

fn check_what_is_changed(draft: &Draft) {
    let rename = format!("deploy/rename {NAME}");
    let left = run(&mut draft.shell(&rename));
    assert!(left.contains("LICENSE:"), "it tells what it leaves: {left}");
    let is_left = |line: &str| line.starts_with("LICENSE:") || line == ".gitignore:/.peace";
    let found = run(&mut draft.shell("git grep -iI peace; git ls-files '*peace*'"));
    assert!(found.lines().all(is_left), "{found}");
    let ignored = "mkdir .peace .order-service && touch .peace/jwt-secret .order-service/jwt-secret
        git status --porcelain --untracked-files=all | grep jwt-secret; rm -r .peace .order-service";
    assert_eq!(run(&mut draft.shell(ignored)), "", "secrets of either name are no files of git's");
    let dashed = "git grep -nE 'order-service(::|_)|(role|user=|use) ?order-service'";
    assert_eq!(draft.shell(dashed).output().unwrap().stdout, b"", "where there may be no dash");
    let changed = run(&mut draft.shell("git diff HEAD --stat -- Cargo.lock"));
    assert!(changed.contains("Cargo.lock"), "{changed}");

    let before = run(&mut draft.shell("git diff HEAD | git hash-object --stdin"));
    run(&mut draft.shell(&rename));
    let after = run(&mut draft.shell("git diff HEAD | git hash-object --stdin"));
    assert_eq!(before, after, "a second time there is nothing to do");
    refuse(draft, "inventory", "is called order-service by now");
}
