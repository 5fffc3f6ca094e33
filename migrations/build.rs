//! Compiles `versions/*.sql` and `schema.lock` into the library: a new file there needs no edit
//! anywhere else.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

fn main() -> io::Result<()> {
    let home = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    fs::write(out.join("versions.rs"), versions(&home.join("versions"))?)?;
    fs::write(out.join("lock.rs"), lock(&home.join("schema.lock")))
}

/// `&[(name, text), …]`.
fn versions(folder: &Path) -> io::Result<String> {
    println!("cargo::rerun-if-changed={}", folder.display());

    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".sql") {
            names.push(name);
        }
    }
    names.sort();

    let mut table = String::from("&[\n");
    for name in names {
        let path = folder.join(&name);
        table.push_str(&format!("    ({name:?}, include_str!({path:?})),\n"));
    }
    table.push_str("]\n");
    Ok(table)
}

/// `Some(text)`, or `None` until there is one.
fn lock(path: &Path) -> String {
    println!("cargo::rerun-if-changed={}", path.display());
    if path.exists() { format!("Some(include_str!({path:?}))\n") } else { "None\n".to_owned() }
}
