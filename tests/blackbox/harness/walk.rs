//! The way of a developer who changes the schema: edited, checked, generated, applied, taken back.
//!
//! Walked with an SQL file in the place of the code, and with the code itself.

use std::process::Output;

use super::database::Database;

/// Two rows that have to survive.
const ROWS: &str = r#"
    insert into "user" (id, name) values ('00000000-0000-0000-0000-000000000001', 'ann');
    insert into item (id, user_id, name, added) values ('00000000-0000-0000-0000-000000000002',
        '00000000-0000-0000-0000-000000000001', 'pen', '2026-11-22')"#;

/// How to take the steps of the way.
pub(crate) struct Walk<'a> {
    /// Without a table.
    pub(crate) database: &'a Database<'a>,
    /// Runs `peace-migrate` as it was built last.
    pub(crate) migrate: &'a dyn Fn(&[&str]) -> Output,
    /// Declares a column `item.colour` and an index `item_added_idx`.
    pub(crate) edit: &'a dyn Fn(),
    /// Compiles the revisions in, where that is needed.
    pub(crate) build: &'a dyn Fn(),
}

impl Walk<'_> {
    /// Takes every step; each has to end as it should.
    pub(crate) fn walk(&self) {
        self.done(&["upgrade", "head"]);
        assert!(self.done(&["current"]).ends_with(" (head)\n"));
        self.done(&["check"]);
        self.database.sql().run(ROWS);
        let (before, revisions) = (self.database.dump(), self.revisions());

        (self.edit)();
        let differing = (self.migrate)(&["check"]);
        let told = String::from_utf8_lossy(&differing.stdout).into_owned();
        assert_eq!(differing.status.code(), Some(3), "{differing:?}");
        assert!(told.contains("missing column item.colour"), "{told}");
        assert!(told.contains("missing index item_added_idx on item"), "{told}");

        self.done(&["revision", "--autogenerate", "-m", "items have a colour"]);
        (self.build)();
        self.done(&["check"]);
        self.done(&["upgrade", "head"]);
        let after = self.database.dump();
        assert!(after.contains("colour") && after.contains("item_added_idx"), "{after}");
        self.done(&["drift"]);

        let back = format!("-{}", self.revisions() - revisions);
        self.done(&["downgrade", &back]);
        assert_eq!(self.database.dump(), before, "the catalogue is as before");
        let names: Vec<String> = self
            .database
            .sql()
            .rows("select name from item", &[])
            .iter()
            .map(|row| row.get(0))
            .collect();
        assert_eq!(names, ["pen"], "and so are the rows");
    }

    fn revisions(&self) -> usize {
        self.done(&["history"]).lines().count()
    }

    #[track_caller]
    fn done(&self, args: &[&str]) -> String {
        let output = (self.migrate)(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).expect("it prints UTF-8")
    }
}
