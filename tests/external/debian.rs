//! A Debian system as a folder, for who needs a whole one: what boots in a container, and what images are
//! made of.
//!
//! [`tree`] makes it with debootstrap, which takes about two minutes and 120 MB from Debian's mirror, and keeps
//! it in `${XDG_CACHE_HOME:-~/.cache}/peace`. Promises: it is whole or not there, whoever was killed while
//! it was made, and made once, however many programs ask. Nobody writes into it: copy it, or mount an overlay
//! over it. It needs root, as debootstrap does. Does not know: what it is used for.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use nix::unistd::geteuid;

/// Beside what every Debian has. Another list makes another tree.
const PACKAGES: &str =
    "systemd,systemd-sysv,dbus,logrotate,gcc,libc6-dev,ca-certificates,util-linux,procps,curl";
/// What we build here has to run there, so it is as new as this system, if this is a Debian.
const ELSEWHERE: &str = "trixie";

/// The folder. The first call of a machine takes minutes.
pub(crate) fn tree() -> PathBuf {
    static TREE: OnceLock<PathBuf> = OnceLock::new();
    TREE.get_or_init(cached).clone()
}

/// What it is: `bookworm`, say.
pub(crate) fn release() -> String {
    let system = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let told =
        |name: &str| system.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
    match told("ID=").as_deref() {
        Some("debian") => told("VERSION_CODENAME=").unwrap_or_else(|| ELSEWHERE.to_owned()),
        _ => ELSEWHERE.to_owned(),
    }
}

fn cached() -> PathBuf {
    assert!(
        geteuid().is_root(),
        "only root can make a Debian tree: run `tests/run --machines` as root"
    );
    let given = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let given = given.filter(|path| path.is_absolute());
    let home = || Path::new(&env::var_os("HOME").expect("a home")).join(".cache");
    let folder = given.unwrap_or_else(home).join("peace");
    fs::create_dir_all(&folder).unwrap();
    let release = release();
    let [whole, unfinished, list, lock] = ["", ".unfinished", ".packages", ".lock"]
        .map(|end| folder.join(format!("debian-{release}{end}")));
    // The kernel gives it back when we end, however we end.
    let lock = File::create(lock).unwrap();
    lock.lock().unwrap();
    if whole.is_dir() && fs::read_to_string(&list).is_ok_and(|made_of| made_of == PACKAGES) {
        return whole;
    }
    for old in [&whole, &unfinished] {
        remove(old);
    }
    make(&release, &unfinished);
    // Packages that were fetched and unpacked are of no use any more.
    let cleaned = Command::new("chroot").arg(&unfinished).args(["apt-get", "clean"]).status();
    assert!(cleaned.is_ok_and(|status| status.success()));
    fs::write(list, PACKAGES).unwrap();
    fs::rename(&unfinished, &whole).unwrap();
    whole
}

/// In namespaces of its own, so that neither a process nor a mount is left of one that is cut off, and it is
/// killed when we are.
fn make(release: &str, folder: &Path) {
    let include = format!("--include={PACKAGES}");
    let mut command = Command::new("setpriv");
    command.args([
        "--pdeathsig",
        "KILL",
        "unshare",
        "--mount",
        "--pid",
        "--mount-proc",
        "--kill-child",
    ]);
    command.args(["debootstrap", "--variant=minbase", &include, release]);
    command.arg(folder).stdin(Stdio::null());
    // An ordinary user's PATH lacks the place, and so may root's after su(1).
    let path = env::var("PATH").unwrap_or_default();
    let made = command.env("PATH", format!("{path}:/usr/sbin:/sbin")).output();
    let made = made.expect("util-linux is everywhere");
    let told = String::from_utf8_lossy(&made.stdout);
    let told: Vec<&str> = told.lines().rev().take(20).collect();
    let complaint = String::from_utf8_lossy(&made.stderr);
    assert!(
        made.status.success(),
        "debootstrap (`tests/run --machines` installs it): {told:?} {complaint}"
    );
}

/// A folder of any size, or none. Its device files are nodes like others.
fn remove(folder: &Path) {
    if folder.exists() {
        fs::remove_dir_all(folder).unwrap();
    }
}
