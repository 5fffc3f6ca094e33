//! The real Alembic, on the models and revisions of the Python template in `alembic/`.
//!
//! The takeover tests call it. It runs the Python of the folder that `PEACE_TEST_PYTHON` names, a
//! virtual environment with what `requirements.txt` lists, on a test's database.

use std::path::Path;
use std::process::Output;

use crate::harness::{Database, Launch, Turn};

/// The environment: `alembic.ini`, models, revisions, rows.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/external/alembic");

/// The first revision.
pub(crate) const FIRST: &str = "586f9c3cd40c";
/// The last one that Alembic knows.
pub(crate) const LAST: &str = "1246b5faa711";

/// Python's side of a database.
pub(crate) struct Alembic<'a> {
    turn: &'a Turn,
    database: &'a Database<'a>,
}

impl<'a> Alembic<'a> {
    pub(crate) fn on(turn: &'a Turn, database: &'a Database<'a>) -> Self {
        Self { turn, database }
    }

    /// Runs `alembic` for what it prints.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        let ini = format!("{FOLDER}/alembic.ini");
        self.python([&["-m", "alembic", "-c", ini.as_str()], args].concat())
    }

    /// Brings the database to `revision`.
    pub(crate) fn upgrade(&self, revision: &str) {
        succeeded(&self.run(&["upgrade", revision]));
    }

    /// Writes rows through the ORM; at the first revision nobody has a password.
    pub(crate) fn write_rows(&self, revision: &str) {
        let script = format!("{FOLDER}/rows.py");
        let without = (revision == FIRST).then_some("--without-passwords");
        succeeded(&self.python([script.as_str()].into_iter().chain(without)));
    }

    fn python<'b>(&self, args: impl IntoIterator<Item = &'b str>) -> Output {
        let folder = std::env::var_os("PEACE_TEST_PYTHON").expect("`tests/run --all` sets this");
        let launch = Launch::bare(self.turn).program(Path::new(&folder).join("bin/python"));
        // What Python compiles does not belong beside its source.
        let launch = launch.env("PYTHONDONTWRITEBYTECODE", "1");
        launch.env("DATABASE_URL", &self.database.url()).args(args).output()
    }
}

fn succeeded(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

/// The fixture itself: were it not Alembic's database, the other tests would show nothing.
#[test]
fn the_models_are_what_alembic_makes_of_the_revisions() {
    let turn = Turn::shared();
    let database = Database::blank(&turn);
    let alembic = Alembic::on(&turn, &database);
    alembic.upgrade("head");
    let version: String = database.sql().value("select version_num from alembic_version", &[]);
    assert_eq!(version, LAST);
    succeeded(&alembic.run(&["check"]));
}
