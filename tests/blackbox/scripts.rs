//! `deploy/packages.sh`, as far as it can be tried without installing anything.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use nix::unistd::{User, geteuid};
use peace::embedded::Binaries;

use crate::harness::folder::Folder;

const PACKAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/packages.sh");

/// Runs a line of bash behind the functions, not as root, on a machine that has nothing in PATH but
/// `present`, whose programs can be found but fail when they are run.
fn run(line: &str, present: &[&str]) -> (Output, String) {
    let folder = Folder::open_to_all();
    for tool in ["sed", "grep", "head"] {
        symlink(Path::new("/usr/bin").join(tool), folder.path().join(tool)).unwrap();
    }
    for program in present {
        let path = folder.write(program, "#!/bin/bash\nexit 1\n");
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }
    // The script itself may be where only root may look.
    let script = folder.write("packages.sh", &fs::read_to_string(PACKAGES).unwrap());
    let mut bash = Command::new("/bin/bash");
    bash.args(["-c", &format!("set -euo pipefail; source {}; {line}", script.display())]);
    bash.env_clear().env("PATH", folder.path()).current_dir(folder.path());
    if geteuid().is_root() {
        let nobody = User::from_name("nobody").unwrap().expect("every system has a nobody");
        bash.uid(nobody.uid.as_raw()).gid(nobody.gid.as_raw());
    }
    let output = bash.output().expect("bash runs");
    let said = [output.stdout.clone(), output.stderr.clone()].concat();
    let said = String::from_utf8(said).unwrap();
    (output, said)
}

#[test]
fn the_scripts_find_the_same_server_as_the_program() {
    let (output, said) = run("postgres_major", &[]);
    assert!(output.status.success(), "{said}");
    assert_eq!(said.trim(), Binaries::find(None).unwrap().major.to_string());
}

#[test]
fn nothing_is_installed_where_nothing_is_missing() {
    let (output, said) = run("provide", &["cargo", "cc"]);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn a_missing_linker_is_one_command_away_for_who_may_not_install() {
    for (manager, command) in [
        ("apt-get", "apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev"),
        ("dnf", "dnf install -y gcc"),
    ] {
        let (output, said) = run("provide", &["cargo", manager]);
        assert!(!output.status.success(), "{said}");
        assert!(said.contains("This will install a C linker"), "{said}");
        assert!(said.contains(&format!("    {command}\n")), "{said}");
        assert!(said.contains("neither root nor sudo"), "{said}");
    }
}

#[test]
fn a_debian_server_package_starts_no_cluster_of_its_own() {
    let (_, said) = run("install_command '' server", &["apt-get"]);
    let common = said.find("install -y --no-install-recommends postgresql-common").expect(&said);
    let setting = said.find("create_main_cluster = false").expect(&said);
    let server = said.find("'postgresql-[0-9]+'").expect(&said);
    assert!(common < setting && setting < server, "{said}");
}

#[test]
fn what_only_some_tests_need_is_asked_for_by_name() {
    // Where the system keeps its pgbouncer is looked at whatever PATH says.
    let without = "has_pgbouncer() { false; }; has_iproute() { false; }; has_haproxy() { false; }; provide_more python pgbouncer prometheus wrk valgrind strace slowhttptest tmux iproute haproxy chromium";
    let all = "Python 3 with venv, pgbouncer, Prometheus with promtool, wrk, valgrind, strace, slowhttptest, tmux, ip of iproute2, HAProxy, Chromium";
    let apt = "wrk valgrind strace slowhttptest tmux && apt-get install -y --no-install-recommends chromium";
    for (manager, packages) in [
        ("apt-get", format!("python3-venv pgbouncer prometheus haproxy iproute2 {apt}")),
        (
            "dnf",
            "python3 pgbouncer golang-github-prometheus chromium wrk valgrind strace slowhttptest tmux iproute haproxy"
                .to_owned(),
        ),
    ] {
        let (output, said) = run(without, &[manager]);
        assert!(!output.status.success(), "{said}");
        assert!(said.contains(&format!("This will install {all}")), "{said}");
        assert!(said.contains(&format!("{packages}\n")), "{said}");
        assert!(said.contains("neither root nor sudo"), "{said}");
    }
    let with = "has_pgbouncer() { true; }; has_iproute() { true; }; has_haproxy() { true; }; has_python() { true; }; provide_more python pgbouncer prometheus wrk valgrind strace slowhttptest tmux iproute haproxy chromium";
    for browser in ["chromium", "chromium-browser", "google-chrome"] {
        let (output, said) = run(
            with,
            &[
                "prometheus",
                "promtool",
                "wrk",
                "valgrind",
                "strace",
                "slowhttptest",
                "tmux",
                browser,
            ],
        );
        assert!(output.status.success() && said.is_empty(), "{said}");
    }
}

#[test]
fn what_the_packages_do_not_have_is_said_in_one_line() {
    // The manager cannot get it; what else it was asked for is there by then.
    let line = "has_pgbouncer() { true; }; has_iproute() { true; }; has_haproxy() { true; }; has_python() { true; }; install() { false; }; provide_more python pgbouncer prometheus wrk valgrind strace slowhttptest tmux iproute haproxy chromium";
    let (output, said) = run(
        line,
        &[
            "dnf",
            "prometheus",
            "promtool",
            "valgrind",
            "strace",
            "slowhttptest",
            "tmux",
            "chromium",
        ],
    );
    assert!(!output.status.success(), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("still missing: wrk. "), "{said}");
}

#[test]
fn debian_packages_bring_no_service() {
    let (_, said) = run(
        "has_pgbouncer() { false; }; has_iproute() { false; }; has_haproxy() { false; }; provide_more python pgbouncer prometheus wrk valgrind strace slowhttptest tmux iproute haproxy docker debootstrap chromium",
        &["apt-get"],
    );
    for file in [
        "'*/docker.service'",
        "'*/docker.socket'",
        "'*/containerd.service'",
        "'/etc/init.d/docker'",
        "'*/pgbouncer.service'",
        "'/etc/init.d/pgbouncer'",
        "'*/prometheus.service'",
        "'/etc/init.d/prometheus'",
        "'*/haproxy.service'",
        "'/etc/init.d/haproxy'",
    ] {
        assert!(said.contains(&format!("--path-exclude={file}")), "{said}");
    }
}

#[test]
fn without_a_toolchain_it_says_where_to_get_one() {
    let (output, said) = run("provide", &["cc"]);
    assert!(!output.status.success() && said.contains("https://rustup.rs"), "{said}");
}
