//! The images that ours are built on, made here: where no registry is reached they stand in for the official ones.
//!
//! The build's base is the Debian tree with this machine's Rust and the packages that cargo has fetched for these
//! tests. The programs' base has the C library, libgcc and the certificates of that tree, and a user, as
//! gcr.io/distroless/cc-debian12:nonroot has: no shell. PostgreSQL's base is the server of this machine, with a
//! start that heeds the variables of the official image that compose.yaml gives. Each is made once for what it is made
//! of, so that the engine finds again what was built on it.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use peace::embedded::Binaries;

use super::engine::Engine;
use crate::copied::run;
use crate::debian;
use crate::harness::folder::Folder;

/// Written into each image's name: another recipe makes another image.
const RECIPE: u32 = 1;
const LOCK: &str = include_str!("../../../Cargo.lock");
/// Who runs our images.
const USER: &str = "nonroot:x:65532:65532:nonroot:/:/sbin/nologin\n";
/// Of the Debian tree, what the programs' base is.
const RUNTIME: [&str; 2] = ["libc6:amd64", "libgcc-s1:amd64"];
/// Where PostgreSQL has its socket.
const SOCKETS: &str = "var/run/postgresql";
/// PostgreSQL's start: what the official image does for the variables that are given to it here.
const START: &str = r#"#!/bin/sh
set -e
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    initdb --pgdata="$PGDATA" --username="$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" --auth=scram-sha-256 \
        --encoding=UTF8 --locale=C
    echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
    echo "create database \"$POSTGRES_DB\"" | postgres --single -D "$PGDATA" postgres
fi
exec postgres -D "$PGDATA" -c 'listen_addresses=*'
"#;

/// Names of images.
pub(crate) struct Bases {
    pub(crate) rust: String,
    pub(crate) programs: String,
    pub(crate) postgres: String,
}

impl Bases {
    pub(crate) fn on(engine: &Engine) -> Self {
        let tree = debian::tree();
        let status = fs::read_to_string(tree.join("var/lib/dpkg/status")).unwrap();
        let rust = run(Command::new("rustc").arg("-vV"));
        let rust =
            made(engine, "rust", &(&rust, &status, LOCK), |folder| stage_rust(folder, &tree));
        let programs =
            made(engine, "programs", &(&status, USER), |folder| stage_programs(folder, &tree));
        let server = Binaries::find(None).expect("PostgreSQL is installed");
        let version = run(Command::new(&server.postgres).arg("--version"));
        let postgres = made(engine, "postgres", &(&version, START, SOCKETS), |folder| {
            stage_postgres(folder, server.postgres.parent().expect("it is in a folder"))
        });
        Self { rust, programs, postgres }
    }
}

/// How an image is imported.
struct Staged {
    /// Of tar(1): which files.
    files: Vec<String>,
    /// Of `docker import`.
    changes: Vec<String>,
}

/// The image of this name and key, made unless it is there; others of its name go.
fn made(
    engine: &Engine,
    name: &str,
    key: &impl Hash,
    stage: impl FnOnce(&Path) -> Staged,
) -> String {
    let mut hasher = DefaultHasher::new();
    (RECIPE, key).hash(&mut hasher);
    let repository = format!("base-{name}");
    let wanted = format!("{repository}:{:016x}", hasher.finish());
    let present = engine.run(&["images", "--format", "{{.Repository}}:{{.Tag}}", &repository]);
    if present.lines().any(|image| image == wanted) {
        return wanted;
    }
    for old in present.lines() {
        // What was built on it stays until it is pruned.
        engine.run(&["rmi", "--force", old]);
    }
    let folder = Folder::new();
    let Staged { files, changes } = stage(folder.path());
    let mut tar = Command::new("tar");
    tar.args(["--create", "--numeric-owner", "--file=-"]).args(files);
    let mut tar = tar.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("tar runs");
    let changes: Vec<String> = changes.iter().map(|change| format!("--change={change}")).collect();
    let mut args = vec!["import"];
    args.extend(changes.iter().map(String::as_str));
    args.extend(["-", &wanted]);
    let mut import = engine.docker(&args);
    run(import.stdin(tar.stdout.take().expect("it is a pipe")));
    assert!(tar.wait().unwrap().success(), "tar of {name}");
    wanted
}

/// The whole tree, and beside it /rust.
fn stage_rust(folder: &Path, tree: &Path) -> Staged {
    let home = folder.join("rust");
    let sysroot = PathBuf::from(run(Command::new("rustc").args(["--print", "sysroot"])).trim());
    // The shims of rustup are elsewhere; what these tests were built with is what cargo names.
    let cargo = Path::new(env!("CARGO"));
    for name in ["bin", "lib/rustlib", "cargo/registry"] {
        fs::create_dir_all(home.join(name)).unwrap();
    }
    fs::copy(sysroot.join("bin/rustc"), home.join("bin/rustc")).unwrap();
    fs::copy(cargo, home.join("bin/cargo")).unwrap();
    for entry in fs::read_dir(sysroot.join("lib")).unwrap().map(Result::unwrap) {
        if entry.file_name().to_string_lossy().contains(".so") {
            copy_tree(&entry.path(), &home.join("lib"));
        }
    }
    let host = run(Command::new("rustc").arg("-vV"));
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc tells");
    copy_tree(&sysroot.join("lib/rustlib").join(host), &home.join("lib/rustlib"));
    let registry = cargo_home().join("registry");
    for name in ["cache", "index"] {
        copy_tree(&registry.join(name), &home.join("cargo/registry"));
    }
    let left_out =
        ["./proc/*", "./sys/*", "./dev/*", "./run/*", "./var/*", "./boot/*", "./usr/share/*"];
    let mut files: Vec<String> = left_out.iter().map(|name| format!("--exclude={name}")).collect();
    files.extend([format!("--directory={}", tree.display()), ".".to_owned()]);
    files.extend([format!("--directory={}", folder.display()), "rust".to_owned()]);
    let changes = vec![
        "ENV PATH=/rust/bin:/usr/bin:/bin CARGO_HOME=/rust/cargo CARGO_NET_OFFLINE=true".to_owned(),
    ];
    Staged { files, changes }
}

fn cargo_home() -> PathBuf {
    let given = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    given.unwrap_or_else(|| Path::new(&std::env::var_os("HOME").expect("a home")).join(".cargo"))
}

fn stage_programs(folder: &Path, tree: &Path) -> Staged {
    merge_usr(folder);
    for package in RUNTIME {
        let list = tree.join(format!("var/lib/dpkg/info/{package}.list"));
        let list = fs::read_to_string(list).unwrap();
        let is_library = |name: &&str| name.contains("/lib") && !name.contains("/share/");
        for name in list.lines().filter(is_library) {
            let from = tree.join(name.trim_start_matches('/'));
            if from.is_file() || from.is_symlink() {
                let to = folder.join(name.trim_start_matches('/'));
                let to = to.parent().expect("a file is in a folder");
                fs::create_dir_all(to).unwrap();
                copy_tree(&from, to);
            }
        }
    }
    let certificates = "etc/ssl/certs/ca-certificates.crt";
    fs::create_dir_all(folder.join("etc/ssl/certs")).unwrap();
    fs::copy(tree.join(certificates), folder.join(certificates)).unwrap();
    fs::write(folder.join("etc/passwd"), USER).unwrap();
    fs::write(folder.join("etc/group"), "nonroot:x:65532:\n").unwrap();
    make_tmp(folder);
    whole(folder, &[])
}

fn stage_postgres(folder: &Path, programs: &Path) -> Staged {
    merge_usr(folder);
    let home = programs.parent().expect("it is in a folder");
    // Debian's, PostgreSQL's own, and Fedora's.
    let version = home.file_name().expect("it has a name");
    let shares = [
        Path::new("/usr/share/postgresql").join(version),
        home.join("share"),
        "/usr/share/pgsql".into(),
    ];
    let share = shares.iter().find(|path| path.join("postgres.bki").is_file());
    let share = share.expect("PostgreSQL's own files").as_path();
    let names = ["postgres", "initdb", "pg_isready"];
    let mut all: Vec<PathBuf> = names.iter().map(|name| programs.join(name)).collect();
    all.push("/bin/sh".into());
    // Beside the programs, or where Fedora has it.
    let libraries = [home.join("lib"), "/usr/lib64/pgsql".into()];
    let libraries = libraries.iter().find(|path| path.join("plpgsql.so").is_file());
    for entry in fs::read_dir(libraries.expect("PostgreSQL's own libraries")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
        // Compiled queries would take as much space again as all the rest.
        if name.ends_with(".so") && !name.starts_with("llvm") {
            all.push(path.canonicalize().unwrap());
        }
    }
    let mut needed: Vec<PathBuf> = all.iter().flat_map(|file| libraries_of(file)).collect();
    needed.sort();
    needed.dedup();
    for file in all.iter().chain(&needed) {
        copy_as(file, folder);
    }
    for folder_of in [share, Path::new("/usr/share/zoneinfo")] {
        let to = folder.join(folder_of.strip_prefix("/").unwrap());
        let to = to.parent().expect("it is in a folder");
        fs::create_dir_all(to).unwrap();
        copy_tree(folder_of, to);
    }
    fs::create_dir_all(folder.join("etc")).unwrap();
    fs::write(folder.join("etc/passwd"), "postgres:x:999:999::/var/lib/postgresql:/bin/sh\n")
        .unwrap();
    fs::write(folder.join("etc/group"), "postgres:x:999:\n").unwrap();
    let data = folder.join("var/lib/postgresql/data");
    fs::create_dir_all(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
    chown(&data, Some(999), Some(999)).unwrap();
    // Its mode is that of the memory that is put upon it.
    let sockets = folder.join(SOCKETS);
    fs::create_dir_all(&sockets).unwrap();
    fs::set_permissions(&sockets, fs::Permissions::from_mode(0o3777)).unwrap();
    make_tmp(folder);
    fs::write(folder.join("start"), START).unwrap();
    fs::set_permissions(folder.join("start"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("ENV PATH={}:/bin PGDATA=/var/lib/postgresql/data", programs.display());
    whole(folder, &[&path, "EXPOSE 5432", r#"ENTRYPOINT ["/start"]"#])
}

/// What a program or library needs, by the paths that the linker looks at.
fn libraries_of(file: &Path) -> Vec<PathBuf> {
    let told = run(Command::new("ldd").arg(file));
    let path = |line: &str| {
        let found = line.split_whitespace().find(|word| word.starts_with('/'))?;
        Some(PathBuf::from(found))
    };
    told.lines().filter_map(path).collect()
}

/// A file under the path that it has here, links to it followed.
fn copy_as(file: &Path, folder: &Path) {
    let to = folder.join(file.strip_prefix("/").unwrap());
    fs::create_dir_all(to.parent().expect("a file is in a folder")).unwrap();
    fs::copy(file, to).unwrap();
}

/// As on every Debian of today.
fn merge_usr(folder: &Path) {
    for name in ["bin", "lib", "lib64"] {
        fs::create_dir_all(folder.join("usr").join(name)).unwrap();
        symlink(Path::new("usr").join(name), folder.join(name)).unwrap();
    }
}

fn make_tmp(folder: &Path) {
    fs::create_dir(folder.join("tmp")).unwrap();
    fs::set_permissions(folder.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
}

fn copy_tree(from: &Path, into: &Path) {
    run(Command::new("cp").arg("--archive").args([from, into]));
}

fn whole(folder: &Path, changes: &[&str]) -> Staged {
    // As every system has it: users look into the root.
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    let files = vec![format!("--directory={}", folder.display()), ".".to_owned()];
    Staged { files, changes: changes.iter().map(ToString::to_string).collect() }
}
