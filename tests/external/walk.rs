//! The way of a developer, on a copy of this project: its code is edited, and built.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::harness::folder::Folder;
use crate::harness::walk::Walk;
use crate::harness::{Database, Turn};

const PROJECT: &str = env!("CARGO_MANIFEST_DIR");
/// In the folder that Cargo builds into, two folders down.
const MIGRATE: &str = env!("CARGO_BIN_EXE_peace-migrate");
/// The copy's own name for it: both are built into the same folder, so that what they have in common
/// is built once.
const COPY: &str = "peace-migrate-of-the-walk";

/// A field that reads null, and one that does not.
const READING_NULL: &str = "unread password_hash: Option<String>";
const NOT_READING_NULL: &str = "unread password_hash: String";

/// What a developer adds to the table of `src/resources/items.rs`.
const TABLE_END: &str = "    also \"create index item_user_id_id_idx";
const EDITED: &str = "    unread colour: Option<String> = \"varchar(20)\";
    also \"create index item_added_idx on item (added)\";
";

/// Both in one test: a second copy would be built anew.
#[test]
fn a_table_is_edited_and_its_revision_generated_applied_and_taken_back() {
    let turn = Turn::alone();
    let database = Database::blank(&turn);
    let project = copy_of_the_project();
    replace(&project, "Cargo.toml", "name = \"peace-migrate\"", &format!("name = \"{COPY}\""));

    // Case 41.
    replace(&project, "src/resources/users.rs", READING_NULL, NOT_READING_NULL);
    build(project.path());
    let check = migrate(project.path(), &database, &["check"]);
    let told = String::from_utf8_lossy(&check.stdout).into_owned();
    assert_eq!(check.status.code(), Some(3), "{check:?}");
    assert!(told.starts_with("User.password_hash (column user.password_hash): "), "{told}");
    assert_eq!(told.lines().count(), 1, "no column has changed: {told}");

    replace(&project, "src/resources/users.rs", NOT_READING_NULL, READING_NULL);
    build(project.path());
    Walk {
        database: &database,
        migrate: &|args| migrate(project.path(), &database, args),
        edit: &|| {
            let edited = format!("{EDITED}{TABLE_END}");
            replace(&project, "src/resources/items.rs", TABLE_END, &edited);
            build(project.path());
        },
        build: &|| build(project.path()),
    }
    .walk();
}

/// The files that belong to the project, as they are now.
fn copy_of_the_project() -> Folder {
    let folder = Folder::new();
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(PROJECT).output();
    let listed = listed.expect("git is installed, and this is a repository");
    assert!(listed.status.success(), "{listed:?}");
    let names = String::from_utf8(listed.stdout).unwrap();
    for name in names.split_terminator('\0') {
        let (from, to) = (Path::new(PROJECT).join(name), folder.path().join(name));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        // One that was removed and not yet committed is listed still.
        if from.is_file() {
            fs::copy(from, to).unwrap();
        }
    }
    folder
}

fn replace(project: &Folder, file: &str, old: &str, new: &str) {
    let path = project.path().join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.matches(old).count(), 1, "{old} in {file}");
    fs::write(&path, text.replace(old, new)).unwrap();
}

fn target() -> &'static Path {
    Path::new(MIGRATE).ancestors().nth(2).expect("cargo builds into target/debug")
}

fn build(project: &Path) {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--offline", "--locked", "--bin", COPY]);
    let built = cargo.current_dir(project).env("CARGO_TARGET_DIR", target()).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
}

fn migrate(project: &Path, database: &Database<'_>, args: &[&str]) -> Output {
    let mut command = Command::new(target().join("debug").join(COPY));
    command.args(args).current_dir(project).env_clear().env("DATABASE_URL", database.url());
    command.output().expect("it is built")
}
