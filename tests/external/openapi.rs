//! What others say of the API document, and of the API by it.
//!
//! openapi-spec-validator and redocly judge the document, schemathesis asks a running server for all that
//! the document says, right and wrong, one request alone and several in a row. They come with the Python
//! of the folder that `PEACE_TEST_PYTHON` names; redocly comes from npm, which that folder has, too.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use peace::settings::ItemWrites;
use serde_json::Value;

use crate::harness::folder::Folder;
use crate::harness::{Database, Launch, Turn, jwt};

const HOOKS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/external/schemathesis/hooks.py");
const CONFIG: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/external/schemathesis/schemathesis.toml");
const REDOCLY: &str = "@redocly/cli@2.77.0";

/// A program of the tests' Python, with its neighbours to be found; it is to work in `folder`.
pub(crate) fn tool(name: &str, folder: &Folder) -> Command {
    let python = std::env::var_os("PEACE_TEST_PYTHON").expect("`tests/run --all` sets this");
    let programs = PathBuf::from(python).join("bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = [programs.clone()].into_iter().chain(std::env::split_paths(&path));
    let path = std::env::join_paths(places).expect("they came out of one");
    let mut command = Command::new(programs.join(name));
    command.env("PATH", path).env("PYTHONDONTWRITEBYTECODE", "1").current_dir(folder.path());
    command
}

fn document(folder: &Folder) -> PathBuf {
    folder.write("openapi.json", &peace::docs::openapi_json(ItemWrites::Owner))
}

/// All that it has printed.
pub(crate) fn told(output: &Output) -> String {
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_document_is_openapi() {
    let folder = Folder::new();
    let output = tool("openapi-spec-validator", &folder).arg(document(&folder)).output().unwrap();
    assert!(output.status.success(), "{}", told(&output));
}

#[test]
fn a_linter_has_nothing_to_say_about_the_document() {
    let folder = Folder::new();
    let mut npm = tool("npm", &folder);
    npm.args(["exec", "--yes", "--package", REDOCLY, "--", "redocly", "lint", "--format=json"]);
    npm.env("REDOCLY_TELEMETRY", "off").env("REDOCLY_SUPPRESS_UPDATE_NOTICE", "true");
    let output = npm.arg(document(&folder)).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", told(&output)));
    assert_eq!(report["totals"]["errors"], 0, "{report:#}");
    assert_eq!(report["totals"]["warnings"], 0, "{report:#}");
}

/// Gives each user a session that has the user's id, for the tokens that the hooks sign.
const SESSIONS: &str = r#"
    create function add_session() returns trigger language plpgsql as $$ begin
        insert into session (id, user_id, family_hash, token_hash, expires)
        values (new.id, new.id, uuid_send(new.id), '', now() + interval '1 day');
        return null;
    end $$;
    create trigger add_session after insert on "user" for each row execute function add_session()"#;

#[test]
fn schemathesis_finds_no_failure_and_no_status_that_is_not_in_the_document() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    database.sql().run(SESSIONS);
    let launch = Launch::on(&turn, &database).workers(2).env("JWT_SECRET_KEY", jwt::SECRET);
    let peace = launch.args(["--access-log", "off", "--login-limits", "off"]).serve();
    let folder = Folder::new();
    let mut schemathesis = tool("schemathesis", &folder);
    schemathesis.args(["--config-file", CONFIG, "run", "--checks", "all", "--max-examples", "100"]);
    schemathesis.arg(format!("http://{}/openapi.json", peace.address()));
    schemathesis.env("SCHEMATHESIS_HOOKS", Path::new(HOOKS)).env("PEACE_TEST_SECRET", jwt::SECRET);
    let output = schemathesis.output().unwrap();
    let told = told(&output);
    assert!(output.status.success(), "{told}");
    let all = peace::resources::routes(false).operations().count();
    assert!(told.contains(&format!("Selected: {all}/{all}")), "{told}");
    assert!(told.contains(&format!("Tested: {all}")), "{told}");
    for phase in ["Examples", "Coverage", "Fuzzing", "Stateful"] {
        assert!(told.contains(&format!("✅ {phase}")), "{phase}: {told}");
    }
    eprintln!("{}", told.rsplit("SUMMARY").next().unwrap_or_default());
}
