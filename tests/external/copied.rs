//! A copy of this project, to be edited and built as a developer does.
//!
//! It stays below cargo's folder from run to run, and so does what was built of it: a file is
//! written only where it differs, so that cargo builds anew what has changed and nothing else. What
//! others have published is shared with the project itself, through cargo's build folder; the copy
//! has a version of its own, so that the packages of both are told apart there.
//! Source: the Cargo book, "Build cache" (`build.build-dir`).

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::folder::Folder;
use crate::openapi::told;

const PROJECT: &str = env!("CARGO_MANIFEST_DIR");
/// In the folder that Cargo builds into, two folders down.
const SERVER: &str = env!("CARGO_BIN_EXE_peace-supervisor");
/// What a fresh login has in its environment, and what cargo is told by it.
const KEPT: [&str; 6] =
    ["HOME", "TMPDIR", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "RUSTFLAGS"];
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Nobody debugs a copy, and its programs are much smaller then.
const SMALL: &str = concat!(
    "\n[profile.dev.package.",
    env!("CARGO_PKG_NAME"),
    "]\ndebug = false\nstrip = \"debuginfo\"\n"
);

/// The project's files, and a folder for what is built of them.
pub(crate) struct Copied {
    files: PathBuf,
    built: PathBuf,
}

impl Copied {
    /// The project as it is now, for the user of this name. Whoever asks again finds it unedited.
    pub(crate) fn new(user: &str) -> Self {
        Self::changed(user, |_| ())
    }

    /// The same, after a script or another program has worked on it.
    pub(crate) fn changed(user: &str, change: impl FnOnce(&Draft)) -> Self {
        let draft = Draft::new(user);
        change(&draft);
        let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(user);
        let copied = Self { files: home.join("files"), built: home.join("built") };
        mirror(draft.path(), &present(draft.path()), &copied.files);
        copied
    }

    pub(crate) fn path(&self) -> &Path {
        &self.files
    }

    /// Replaces a text that stands once in a file.
    #[track_caller]
    pub(crate) fn replace(&self, file: &str, old: &str, new: &str) {
        replace(&self.files.join(file), old, new);
    }

    /// A program that was built of it.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.built.join("debug").join(name)
    }

    /// A line of a console.
    pub(crate) fn shell(&self, line: &str) -> Command {
        let shared = Path::new(SERVER).ancestors().nth(2).expect("cargo builds into target/debug");
        let mut shell = shell(line, &self.files);
        shell.env("CARGO_TARGET_DIR", &self.built).env("CARGO_BUILD_BUILD_DIR", shared);
        // It takes more space than time, for what is built so seldom.
        shell.env("CARGO_INCREMENTAL", "0");
        shell
    }
}

/// A copy that lasts as long as its test.
pub(crate) struct Draft(Folder);

impl Draft {
    /// The project as it is, to the byte.
    pub(crate) fn exact() -> Self {
        let draft = Self(Folder::new());
        mirror(Path::new(PROJECT), &listed(), draft.path());
        draft
    }

    fn new(user: &str) -> Self {
        let draft = Self::exact();
        let version = |text: &str| format!("[workspace.package]\nversion = \"{text}\"");
        let own = version(&format!("{VERSION}-{user}"));
        let manifest = draft.path().join("Cargo.toml");
        replace(&manifest, &version(VERSION), &own);
        let text = fs::read_to_string(&manifest).unwrap();
        fs::write(manifest, text + SMALL).unwrap();
        // The lock file has the version, too.
        run(&mut draft.shell("cargo update --quiet --workspace"));
        draft
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// A line of a console.
    pub(crate) fn shell(&self, line: &str) -> Command {
        shell(line, self.path())
    }
}

/// Runs a command to its good end; gives what it has printed.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", told(&output));
    told(&output)
}

/// `cargo` is the one that builds these tests, and what it needs is there.
fn shell(line: &str, folder: &Path) -> Command {
    let cargo = Path::new(env!("CARGO")).parent().expect("a program is in a folder").to_owned();
    let path = env::var_os("PATH").unwrap_or_default();
    let path = [cargo].into_iter().chain(env::split_paths(&path));
    let mut shell = Command::new("bash");
    shell.args(["-c", line]).current_dir(folder).env_clear();
    shell.envs(KEPT.iter().filter_map(|name| Some((name, env::var_os(name)?))));
    shell.env("PATH", env::join_paths(path).expect("they came out of one"));
    shell.env("CARGO_NET_OFFLINE", "true");
    shell
}

#[track_caller]
fn replace(path: &Path, old: &str, new: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert_eq!(text.matches(old).count(), 1, "{old} in {}", path.display());
    fs::write(path, text.replace(old, new)).unwrap();
}

/// The files that belong to the project, as they are now.
fn listed() -> BTreeSet<PathBuf> {
    let output = Command::new("git").args(["ls-files", "-z"]).current_dir(PROJECT).output();
    let output = output.expect("git is installed, and this is a repository");
    assert!(output.status.success(), "{output:?}");
    let names = String::from_utf8(output.stdout).unwrap();
    // One that was removed and not yet committed is listed still.
    let is_there = |name: &&str| Path::new(PROJECT).join(name).is_file();
    names.split_terminator('\0').filter(is_there).map(PathBuf::from).collect()
}

/// The files in a folder, what git keeps there apart.
fn present(folder: &Path) -> BTreeSet<PathBuf> {
    let (mut found, mut open) = (BTreeSet::new(), vec![folder.to_owned()]);
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).into_iter().flatten().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true if entry.file_name() == ".git" => {}
                true => open.push(entry.path()),
                false => {
                    found.insert(entry.path().strip_prefix(folder).unwrap().to_owned());
                }
            }
        }
    }
    found
}

/// Makes `to` hold these files and no other; writes only what differs.
fn mirror(from: &Path, files: &BTreeSet<PathBuf>, to: &Path) {
    for old in present(to).difference(files) {
        fs::remove_file(to.join(old)).unwrap();
    }
    for file in files {
        let (from, to) = (from.join(file), to.join(file));
        if fs::read(&to).ok() != Some(fs::read(&from).unwrap()) {
            fs::create_dir_all(to.parent().expect("a file is in a folder")).unwrap();
            fs::copy(from, to).unwrap();
        }
    }
}
