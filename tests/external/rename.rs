//! `deploy/rename` on a copy of this project: what it refuses, what it changes, and that what comes
//! out builds and passes tests.

use std::process::Command;

use crate::copied::{Copied, Draft, run};
use crate::harness::Turn;
use crate::openapi::told;

const NAME: &str = "billing";
/// As an author of commits has to have.
const COMMIT: &str = "git init -q && git add -A && \
    git -c user.name=ann -c user.email=ann@example.org commit -q -m 'the template'";
/// Names that are none, and words that the code or Rust has already.
const BAD_NAMES: &str =
    "'' Billing my-shop my_shop b 9lives elevenchars supervisor tokio match abstract";

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
    let version = run(Command::new(project.program("billing-supervisor")).arg("--version"));
    assert_eq!(version, concat!("billing-supervisor ", env!("CARGO_PKG_VERSION"), "-renamed\n"));
}

/// One line each, and nothing is changed.
fn check_refusals(draft: &Draft) {
    for name in BAD_NAMES.split(' ') {
        refuse(draft, name, "choose another", "is no name");
    }
    refuse(draft, "", "usage: ", "usage: ");
    run(&mut draft.shell("echo '# mine' >> Cargo.toml"));
    refuse(draft, NAME, "not committed", "not committed");
    run(&mut draft.shell("git checkout -q ."));
    let plan = run(&mut draft.shell("deploy/rename --dry-run billing"));
    assert!(plan.contains("src/bin/peace-migrate.rs -> src/bin/billing-migrate.rs"), "{plan}");
    assert_eq!(run(&mut draft.shell("git status --porcelain")), "");
}

fn refuse(draft: &Draft, args: &str, reason: &str, other_reason: &str) {
    let output = draft.shell(&format!("deploy/rename {args}")).output().unwrap();
    let told = told(&output);
    assert_eq!((output.status.code(), told.lines().count()), (Some(1), 1), "{args}: {told}");
    assert!(told.contains(reason) || told.contains(other_reason), "{args}: {told}");
}

fn check_what_is_changed(draft: &Draft) {
    let left = run(&mut draft.shell("deploy/rename billing"));
    assert!(left.contains("LICENSE:"), "it tells what it leaves: {left}");
    let found = run(&mut draft.shell("git grep -iI peace; git ls-files '*peace*'"));
    assert!(found.lines().all(|line| line.starts_with("LICENSE:")), "{found}");
    let changed = run(&mut draft.shell("git diff HEAD --stat -- Cargo.lock"));
    assert!(changed.contains("Cargo.lock"), "{changed}");

    let before = run(&mut draft.shell("git diff HEAD | git hash-object --stdin"));
    run(&mut draft.shell("deploy/rename billing"));
    let after = run(&mut draft.shell("git diff HEAD | git hash-object --stdin"));
    assert_eq!(before, after, "a second time there is nothing to do");
    refuse(draft, "inventory", "is called billing by now", "is called billing by now");
}
