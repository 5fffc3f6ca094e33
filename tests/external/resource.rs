//! RESOURCE.md does what it says: somebody who follows it has a resource, and its tests pass.
//!
//! A block of Rust is a whole file, a diff changes one, and the commands of a console are run; the
//! line before a block names the file.

use std::fs;

use crate::copied::{Copied, run};
use crate::harness::{Database, Launch, Turn, get};

const GUIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/RESOURCE.md");
/// Lines of a resource with all it needs, its tests apart.
const LINES_MAX: usize = 120;
/// What passes, among others.
const TESTS: [&str; 3] = [
    "notes::a_note_is_created_listed_read_changed_and_deleted",
    "notes::a_note_is_written_once_and_changed_by_who_has_seen_it",
    "contract::",
];
const OPERATIONS: [&str; 5] =
    ["notes-list", "notes-create", "notes-read", "notes-patch", "notes-delete"];

#[test]
fn a_resource_is_added_by_one_file_two_lines_and_a_generated_revision() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let project = Copied::new("walk");
    let guide = fs::read_to_string(GUIDE).unwrap();
    let mut printed = String::new();
    for Block { language, file, text } in blocks(&guide) {
        match language {
            "rust" => {
                let lines = text.lines().count();
                eprintln!("{file}: {lines} lines");
                assert!(lines <= LINES_MAX, "{file} has {lines} lines");
                fs::write(project.path().join(file), text).unwrap();
            }
            "diff" => apply(&project, file, &text),
            "console" => printed += &follow(&project, &database, &text),
            other => panic!("{file}: what is to be done with {other}?"),
        }
    }
    for test in TESTS {
        assert!(printed.contains(&format!("test {test}")), "{printed}");
    }
    for operation in OPERATIONS {
        assert!(printed.contains(&format!(" {operation}\n")), "routes: {printed}");
    }
    run(&mut project.shell("cargo fmt --all --check"));
    // What knows all resources.
    for all in ["--test tidy", "--lib", "--test blackbox -- docs:: settings::"] {
        run(&mut project.shell(&format!("cargo test --quiet --locked {all}")));
    }
    check_documents(&turn, &database, &project);
}

/// What somebody types, line by line; gives what was printed.
fn follow(project: &Copied, database: &Database<'_>, console: &str) -> String {
    let lines = console.lines().map(|line| line.strip_prefix("$ ").expect("only what is typed"));
    let run = |line| run(project.shell(line).env("DATABASE_URL", database.url()));
    lines.map(run).collect()
}

/// The new resource is told of where all are.
fn check_documents(turn: &Turn, database: &Database<'_>, project: &Copied) {
    let server = project.program("peace-supervisor");
    let peace = Launch::on(turn, database).program(server).workers(1).serve();
    let page = String::from_utf8(peace.ask(&get("/docs")).body).unwrap();
    assert!(page.contains("/docs/"), "{page}");
    let document = peace.ask(&get("/openapi.json")).json();
    let paths = ["/notes", "/notes/{pubid}"].map(|path| &document["paths"][path]);
    let methods = paths.into_iter().filter_map(|path| path.as_object()).flatten();
    let mut names: Vec<&str> =
        methods.map(|(_, operation)| operation["operationId"].as_str().unwrap()).collect();
    names.sort_by_key(|name| OPERATIONS.iter().position(|known| known == name));
    assert_eq!(names, OPERATIONS);
    assert_eq!(peace.ask(&get("/notes")).status, 200);
}

/// A block of the guide.
struct Block<'a> {
    language: &'a str,
    /// Which file it is about; empty for a console.
    file: &'a str,
    text: String,
}

fn blocks(guide: &str) -> impl Iterator<Item = Block<'_>> {
    let mut parts = guide.split("\n```");
    std::iter::from_fn(move || {
        let before = parts.next()?;
        let (language, text) = parts.next()?.split_once('\n').expect("a block has a text");
        let named = before.trim_end().strip_suffix("`:").and_then(|text| text.rsplit('`').next());
        Some(Block { language, file: named.unwrap_or_default(), text: format!("{text}\n") })
    })
}

/// Replaces the lines of each hunk of a diff that were by those that are to be.
fn apply(project: &Copied, file: &str, diff: &str) {
    for hunk in diff.split("@@\n") {
        let side = |without: char| -> String {
            let lines = hunk.lines().filter(|line| !line.starts_with(without));
            lines.map(|line| format!("{}\n", line.get(1..).unwrap_or_default())).collect()
        };
        project.replace(file, &side('+'), &side('-'));
    }
}
