//! The way of a developer, with the declared schema in an SQL file: nothing has to be built.

use std::cell::RefCell;

use peace::resources;

use super::bench::Bench;
use super::template::VERSIONS;
use crate::harness::walk::Walk;
use crate::harness::{Database, Turn};

const EDITED: [&str; 2] = [
    "alter table item add column colour varchar(20)",
    "create index item_added_idx on item (added)",
];

#[test]
fn a_column_and_an_index_are_declared_generated_applied_and_taken_back() {
    let turn = Turn::shared();
    let database = Database::blank(&turn);
    let bench = Bench::copy_of(&turn, VERSIONS);
    let tables = resources::tables();
    let declared: Vec<String> = tables.iter().flat_map(|table| table.statements()).collect();
    let declared = RefCell::new(declared);
    let declare = || bench.declare(&declared.borrow().join(";\n"));
    declare();
    bench.run_on(&database, &["dump"]).done();
    Walk {
        database: &database,
        migrate: &|args| bench.launch(args).env("DATABASE_URL", &database.url()).output(),
        edit: &|| {
            declared.borrow_mut().extend(EDITED.map(str::to_owned));
            declare();
        },
        build: &|| (),
    }
    .walk();
}
