//! The way of a developer, on a copy of this project: its code is edited, and built.

use std::process::{Command, Output};

use crate::copied::{Copied, run};
use crate::harness::walk::Walk;
use crate::harness::{Database, Turn};

/// A field that reads null, and one that does not.
const READING_NULL: &str = "unread password_hash: Option<String>";
const NOT_READING_NULL: &str = "unread password_hash: String";

/// What a developer adds to the table of `src/resources/items.rs`.
const TABLE_END: &str = "    also \"create index item_user_id_id_idx";
const EDITED: &str = "    unread colour: Option<String> = \"varchar(20)\";
    also \"create index item_added_idx on item (added)\";
";

#[test]
fn a_table_is_edited_and_its_revision_generated_applied_and_taken_back() {
    let turn = Turn::alone();
    let database = Database::blank(&turn);
    let project = Copied::new("walk");

    // Case 41.
    project.replace("src/resources/users.rs", READING_NULL, NOT_READING_NULL);
    build(&project);
    let check = migrate(&project, &database, &["check"]);
    let told = String::from_utf8_lossy(&check.stdout).into_owned();
    assert_eq!(check.status.code(), Some(3), "{check:?}");
    assert!(told.starts_with("User.password_hash (column user.password_hash): "), "{told}");
    assert_eq!(told.lines().count(), 1, "no column has changed: {told}");

    project.replace("src/resources/users.rs", NOT_READING_NULL, READING_NULL);
    build(&project);
    Walk {
        database: &database,
        migrate: &|args| migrate(&project, &database, args),
        edit: &|| {
            let edited = format!("{EDITED}{TABLE_END}");
            project.replace("src/resources/items.rs", TABLE_END, &edited);
            build(&project);
        },
        build: &|| build(&project),
    }
    .walk();
}

fn build(project: &Copied) {
    run(&mut project.shell("cargo build --quiet --locked --bin peace-migrate"));
}

fn migrate(project: &Copied, database: &Database<'_>, args: &[&str]) -> Output {
    let mut command = Command::new(project.program("peace-migrate"));
    command.args(args).current_dir(project.path()).env_clear().env("DATABASE_URL", database.url());
    command.output().expect("it is built")
}
