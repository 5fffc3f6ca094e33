//! The `unsafe` operations of `sys`, tried in a process with one thread.
//!
//! Runs without the test harness, whose threads fork(2) would leave behind. Each check is a function
//! that panics when it fails; a panic ends this program with a code that is not 0.
#![allow(clippy::print_stdout, reason = "a test program without harness prints its own result")]

use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use supervisor::scoreboard::Scoreboard;
use supervisor::{Load, test_hooks};

/// Asks this program for the second half of one test only.
const REAP: &str = "--reap";

fn main() {
    if std::env::args().any(|arg| arg == REAP) {
        return a_child_is_reaped_by_us_although_sigchld_was_ignored();
    }
    a_child_leaves_with_the_code_of_its_work();
    shared_memory_is_shared_with_children();
    a_hanging_process_ends_one_second_after_the_signal();
    a_child_is_reaped_by_us_although_sigchld_was_ignored();
    a_process_with_two_threads_is_not_forked();
    println!("5 passed, 0 failed");
}

fn a_child_leaves_with_the_code_of_its_work() {
    let pid = fork(|| 42);
    assert_eq!(waitpid(pid, None), Ok(WaitStatus::Exited(pid, 42)));
}

fn shared_memory_is_shared_with_children() {
    let mut board = Scoreboard::new((1, 0)).expect("a scoreboard");
    let (index, cell) = board.claim(2, 1).expect("a free cell");
    let load = Load { requests: 7, in_flight: 1, connections: 3, loop_lag_us: 5 };
    let pid = fork(|| {
        cell.ready();
        cell.beat(&load);
        0
    });
    assert_eq!(waitpid(pid, None), Ok(WaitStatus::Exited(pid, 0)));
    assert_eq!(board.read(index).load, load);
    board.release(index);
    assert_eq!(board.base_requests(2), 7);
}

fn a_hanging_process_ends_one_second_after_the_signal() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let pid = fork(move || {
        test_hooks::die_one_second_after(Signal::SIGUSR2).expect("a handler");
        drop(writer);
        loop {
            std::hint::spin_loop();
        }
    });
    // The child's copy of the writing end was the last one: its end of file says "armed".
    std::io::copy(&mut &reader, &mut std::io::sink()).expect("end of file");
    let sent = Instant::now();
    kill(pid, Signal::SIGUSR2).expect("a living child");
    assert_eq!(waitpid(pid, None), Ok(WaitStatus::Signaled(pid, Signal::SIGALRM, false)));
    let took = sent.elapsed().as_millis();
    assert!((900..5_000).contains(&took), "ended after {took} ms");
}

fn a_child_is_reaped_by_us_although_sigchld_was_ignored() {
    let program = std::env::current_exe().expect("this program");
    if std::env::args().any(|arg| arg == REAP) {
        test_hooks::default_action(Signal::SIGCHLD).expect("a default action");
        let pid = fork(|| 7);
        assert_eq!(waitpid(pid, None), Ok(WaitStatus::Exited(pid, 7)));
        return;
    }
    let mut shell = std::process::Command::new("sh");
    let script = "trap '' CHLD; exec \"$0\" \"$1\"";
    let status = shell.args(["-c", script]).arg(program).arg(REAP).status().expect("sh runs");
    assert!(status.success(), "{status}");
}

fn a_process_with_two_threads_is_not_forked() {
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || wait.recv());
    let refused = test_hooks::fork_and_run(|| 0).expect_err("two threads");
    assert!(refused.to_string().contains("has 2"), "{refused}");
    drop(release);
    let _ = thread.join();
}

fn fork(work: impl FnOnce() -> u8) -> Pid {
    Pid::from_raw(test_hooks::fork_and_run(work).expect("one thread, so a fork"))
}
