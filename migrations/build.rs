//! Compiles `versions/*.sql` into the library: a new file there needs no edit anywhere else.

use std::env;
use std::fs;
use std::io;
use std::path::Path;

fn main() -> io::Result<()> {
    let versions =
        Path::new(&env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("versions");
    println!("cargo::rerun-if-changed={}", versions.display());

    let mut names = Vec::new();
    for entry in fs::read_dir(&versions)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".sql") {
            names.push(name);
        }
    }
    names.sort();

    let mut table = String::from("&[\n");
    for name in names {
        let path = versions.join(&name);
        table.push_str(&format!("    ({name:?}, include_str!({path:?})),\n"));
    }
    table.push_str("]\n");
    let out = env::var_os("OUT_DIR").unwrap_or_default();
    fs::write(Path::new(&out).join("versions.rs"), table)
}
