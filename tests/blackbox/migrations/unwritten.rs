//! What is said, and what is left behind, when a revision is not written.

use std::fs;

use super::autogenerate::Walk;
use crate::harness::Turn;

const ITEM: &str = "create table item (id int primary key, size int not null);";

#[test]
fn the_generated_sql_that_fails_is_shown() {
    let turn = Turn::shared();
    let walk = Walk::begin(&turn, ITEM);
    let text = ITEM.replace("size int", "size text");
    let ran = walk.revise(&text, &["--using", "item.size=no_such_function(size)"]);
    let (shown, told) = ran.err.split_once("peace-migrate: ").unwrap();
    assert!(shown.starts_with("-- revision: ") && shown.contains("no_such_function("), "{shown}");
    assert!(told.starts_with("the generated SQL, which stands above, fails: "), "{told}");
    assert_eq!((ran.code, &*ran.out), (Some(3), ""));
    assert_eq!(walk.bench.files().len(), 1);
}

#[test]
fn a_column_that_goes_while_another_one_comes_may_have_been_renamed() {
    let turn = Turn::shared();
    let walk = Walk::begin(&turn, ITEM);
    let both = ITEM.replace("size int not null", "\"Weight\" text");
    let hint = "if item.size only has another name now: --rename item.size:item.\"Weight\"\n";
    let ran = walk.revise(&both, &[]);
    assert!(ran.out.ends_with(hint), "{ran:?}");
    ran.failed(7, "data would be lost");
    let ran = walk.revise(&both, &["--no-rename"]);
    assert!(!ran.out.contains("--rename"), "{ran:?}");
    let ran = walk.revise(&ITEM.replace(", size int not null", ""), &[]);
    assert!(!ran.out.contains("--rename"), "{ran:?}");
}

#[test]
fn what_replaces_values_wants_a_reason() {
    let turn = Turn::shared();
    let walk = Walk::begin(&turn, "create table item (id int primary key, a int, b int);");
    let text = "create table item (id int primary key, a text, b int);";
    walk.revise(text, &["--using", "item.a=b::text"]).failed(7, "data would be lost");
    let reason = ["--using", "item.a=b::text", "--allow-destructive", "b is better"];
    walk.revise(text, &reason).done();
    walk.run(&["upgrade"]).done();
}

#[test]
fn a_value_that_another_one_is_made_of_is_there_first() {
    let turn = Turn::shared();
    let walk = Walk::begin(&turn, ITEM);
    let both =
        ITEM.replace("size int not null", "size int not null, a text not null, b text not null");
    let ran = walk.revise(&both, &["--backfill", "item.a='x'", "--backfill", "item.b=a || 'y'"]);
    assert!(ran.out.contains("item.b reads a, which is filled in the same run"), "{ran:?}");
    ran.failed(3, "nothing was written");
}

#[test]
fn where_the_lock_file_cannot_follow_nothing_stays() {
    let turn = Turn::shared();
    let walk = Walk::begin(&turn, ITEM);
    let lock_file = walk.bench.lock_file();
    fs::create_dir_all(lock_file.join("full")).unwrap();
    let more = ITEM.replace("not null)", "not null check (size > 0))");
    let told = format!("cannot write {}: ", lock_file.display());
    walk.revise(&more, &[]).failed(1, &told);
    assert_eq!(walk.bench.files().len(), 1, "of two pairs none");
}

#[test]
fn a_pair_that_was_never_filled_in_is_not_applied() {
    let turn = Turn::shared();
    let walk = Walk::begin(&turn, ITEM);
    walk.run(&["revision", "-m", "later"]).done();
    let words = "_later.up.sql:6: there is no statement: write the statements, or remove the pair";
    walk.run(&["upgrade"]).failed(1, words);
    assert_eq!(walk.run(&["current"]).done(), "root\n");
    // One that says why it is empty was not forgotten.
    for file in walk.bench.files() {
        let path = walk.bench.versions().join(file);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, text.replace("-- Write the statements here.", "-- Done by hand.")).unwrap();
    }
    walk.run(&["upgrade"]).done();
}
