//! Programs of other packages of this workspace, built as the tests' own ones were.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The program of this package; its name is the package's. Cargo builds no other package's for a test;
/// built anew only when it has to be.
pub(crate) fn program(package: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_peace-supervisor")).parent().expect("in a folder");
    let profile = match folder.file_name().and_then(|name| name.to_str()).expect("a profile") {
        "debug" => "dev",
        profile => profile,
    };
    let built = Command::new(env!("CARGO"))
        .args(["build", "--locked", "-p", package, "--profile", profile, "--target-dir"])
        .arg(folder.parent().expect("the target folder"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    folder.join(package)
}
