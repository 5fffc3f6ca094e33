//! The server as a unit of a real systemd.

use crate::debian;

#[test]
fn there_is_a_tree() {
    let tree = debian::tree();
    eprintln!("{} {}", debian::release(), tree.display());
}
