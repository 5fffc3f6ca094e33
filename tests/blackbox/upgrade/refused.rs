//! Programs that cannot take over: the old one serves on, and says why.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Instant;

use super::{PROGRAM, children, install, launch, status, upgrade};
use crate::harness::{Database, Launch, Network, Peace, Turn, get};
use crate::zero_loss::start_usual;

/// A script in the place of a program.
fn script(peace: &Peace, name: &str, text: &str) -> PathBuf {
    let path = peace.folder().join(name);
    fs::write(&path, format!("#!/bin/bash\n{text}\n")).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    path
}

/// Tries to upgrade to `program`, which has to fail for `reason` and change nothing.
fn upgrade_in_vain(peace: &Peace, program: &std::path::Path, reason: &str) {
    let (before, start) = (children(peace), Instant::now());
    install(peace, program);
    let output = peace.ctl(["upgrade", "--wait"]);
    let told = String::from_utf8_lossy(&output.stderr);
    eprintln!("{:.2?}: {}", start.elapsed(), told.trim_end());
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains(reason), "{told}");
    assert_eq!(children(peace), before, "{told}");
    assert_eq!(status(peace)["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn a_program_that_cannot_take_over_changes_nothing() {
    let network = Network::own();
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let peace = launch(&turn, &database, 2).serve();
    let load = start_usual(&peace);
    let plain = peace.folder().join("plain");
    fs::write(&plain, "no program").unwrap();
    let garbage = script(&peace, "garbage", "");
    fs::write(&garbage, [0x7f, b'E', b'L', b'F', 0, 0]).unwrap();
    // Raises the version in the first line of the state, which it finds as the real program does.
    let newer = format!(
        "read -r verb state channel <<< \"$PEACE_UPGRADE\"\n\
         sed '1s/[0-9]*$/999/' \"/proc/self/fd/$state\" > newer\n\
         eval \"exec $state< newer\"\n\
         exec {PROGRAM} \"$@\""
    );
    for (program, reason) in [
        (peace.folder().join("absent"), "No such file or directory"),
        (plain, "Permission denied"),
        (garbage, "Exec format error"),
        (script(&peace, "fails", "exit 1"), "ended with exit code 1"),
        (script(&peace, "other", "exit 0"), "ended with exit code 0, and did not say"),
        (script(&peace, "crashes", "kill -SEGV $$"), "ended with signal 11"),
        (script(&peace, "hangs", "exec sleep 60"), "did not report within 5 s"),
        (script(&peace, "newer-state", &newer), "version 999 of its state"),
    ] {
        upgrade_in_vain(&peace, &program, reason);
    }
    load.stop().check_nothing_lost("upgrades that are refused");
    network.check_nothing_lost("a_program_that_cannot_take_over_changes_nothing");
}

#[test]
fn a_program_that_refuses_after_all_gives_the_place_back() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let mut peace = launch(&turn, &database, 2).serve();
    let other = "s/peace-supervisor heritage /peace-supervisor heretic! /g";
    let stranger = super::altered(&peace, "stranger", other);
    let (pid, good) = (peace.pid(), super::copy_of_version(&peace, "9.9.1"));
    for (name, exec, reason) in [
        // Does not understand what it is left.
        ("strange", format!("exec {} \"$@\"", stranger.display()), "no state of a supervisor"),
        // Is given another command line than the program before, which comes back with its own.
        ("misled", format!("exec {PROGRAM} \"$@\" --no-such-flag"), "--no-such-flag"),
        ("misled-by-env", format!("PEACE_TIMEOUT=soon exec {PROGRAM} \"$@\""), "PEACE_TIMEOUT"),
    ] {
        // Only at the last step: the pre-flight is a good one.
        let text =
            format!("case \"$PEACE_UPGRADE\" in take*) {exec} ;; esac\nexec {PROGRAM} \"$@\"");
        upgrade_in_vain(&peace, &script(&peace, name, &text), reason);
        assert_eq!(peace.pid(), pid);
    }
    install(&peace, &good);
    upgrade(&peace);
    assert_eq!(status(&peace)["version"], "9.9.1", "it still knows its name");
    assert_eq!(peace.stop(super::SOON).code, Some(0));
}

#[test]
fn another_address_is_refused_by_name() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let launch = Launch::bare(&turn).env("DATABASE_URL", &database.url()).workers(1);
    let launch = launch.args(["--log-format", "json", "--admin-bind", "127.0.0.1:0"]);
    let file = launch.folder().path().join(".env");
    fs::write(&file, "PEACE_BIND=127.0.0.1:0").unwrap();
    let peace = launch.serve();
    fs::write(&file, "PEACE_BIND=127.0.0.2:0").unwrap();
    let output = peace.ctl(["upgrade", "--wait"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("bind has changed: that needs a restart"), "{told}");
}

#[test]
fn a_service_that_is_new_is_started_and_one_that_is_gone_is_refused() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let launch = launch(&turn, &database, 1);
    let file = launch.folder().path().join(".env");
    fs::write(&file, "").unwrap();
    let mut peace = launch.serve();
    assert_eq!(status(&peace)["children"], serde_json::json!([]));
    fs::write(&file, "PEACE_ADMIN_BIND=127.0.0.1:0").unwrap();
    upgrade(&peace);
    let ready = get("/health/ready").fresh(peace.admin_address());
    assert_eq!(ready.expect("somebody answers").status, 200);
    assert_eq!(status(&peace)["children"][0]["name"], "admin");
    fs::write(&file, "").unwrap();
    let output = peace.ctl(["upgrade", "--wait"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("there is no admin any more: that needs a restart"), "{told}");
    assert_eq!(peace.stop(super::SOON).code, Some(0));
}

#[test]
fn settings_that_only_a_restart_can_change_are_refused_by_name() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let launch = launch(&turn, &database, 1);
    let file = launch.folder().path().join(".env");
    fs::write(&file, "").unwrap();
    let peace = launch.serve();
    for (text, reason) in [
        ("PEACE_TIMEOUT=soon", "PEACE_TIMEOUT"),
        ("PEACE_CONTROL=elsewhere", "control has changed: that needs a restart"),
        ("PEACE_PID_FILE=pid", "pid-file has changed: that needs a restart"),
    ] {
        fs::write(&file, text).unwrap();
        // Asked where it is, whatever the file says now.
        let output = peace.ctl(["--control", ".peace/control.sock", "upgrade", "--wait"]);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains(reason), "{told}");
    }
    assert!(!peace.folder().join("pid").exists() && !peace.folder().join("elsewhere").exists());
    fs::write(&file, "").unwrap();
    upgrade(&peace);
}

#[test]
fn new_workers_that_cannot_boot_bring_the_old_program_back() {
    let network = Network::own();
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let launch = launch(&turn, &database, 3);
    let file = launch.folder().path().join(".env");
    fs::write(&file, "").unwrap();
    let peace = launch.serve();
    let (next, before) = (super::copy_of_version(&peace, "9.9.1"), peace.workers());
    let load = start_usual(&peace);
    install(&peace, &next);
    fs::write(&file, "PEACE_FAULTS=boot-exit:1").unwrap();
    let output = peace.ctl(["upgrade", "--wait"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("PEACE_FAULTS lets the worker of slot 1 exit at boot"), "{told}");
    assert_eq!(status(&peace)["version"], env!("CARGO_PKG_VERSION"));
    let after = peace.workers();
    assert!(before[&0] != after[&0], "{before:?} {after:?}");
    assert!(before[&1] == after[&1] && before[&2] == after[&2], "{before:?} {after:?}");
    fs::write(&file, "").unwrap();
    upgrade(&peace);
    assert_eq!(status(&peace)["version"], "9.9.1", "and it can be tried again");
    load.stop().check_nothing_lost("an upgrade that is undone");
    network.check_nothing_lost("new_workers_that_cannot_boot_bring_the_old_program_back");
}
