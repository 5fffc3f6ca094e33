//! The `unsafe` operations of `sys`, tried in a process with one thread.
//!
//! Runs without the test harness, whose threads fork(2) would leave behind. Each check is a function
//! that panics when it fails; a panic ends this program with a code that is not 0.
#![allow(clippy::print_stdout, reason = "a test program without harness prints its own result")]

use std::sync::atomic::Ordering;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use supervisor::scoreboard::Scoreboard;
use supervisor::{Beat, CellLayout, Start, test_hooks};

/// Asks this program for the second half of one test only.
const REAP: &str = "--reap";
const START: &str = "--start";
/// What a service manager says to the process that it starts.
const MANAGERS: [&str; 6] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
];

fn main() {
    if std::env::args().any(|arg| arg == REAP) {
        return a_child_is_reaped_by_us_although_sigchld_was_ignored();
    }
    if std::env::args().any(|arg| arg == START) {
        return what_the_manager_says_is_for_us_and_not_for_our_children();
    }
    a_child_leaves_with_the_code_of_its_work();
    what_the_manager_says_is_for_us_and_not_for_our_children();
    shared_memory_is_shared_with_children();
    a_hanging_process_ends_one_second_after_the_signal();
    a_child_is_reaped_by_us_although_sigchld_was_ignored();
    a_process_with_two_threads_is_not_forked();
    println!("6 passed, 0 failed");
}

fn a_child_leaves_with_the_code_of_its_work() {
    let pid = fork(|| 42);
    assert_eq!(waitpid(pid, None), Ok(WaitStatus::Exited(pid, 42)));
}

fn shared_memory_is_shared_with_children() {
    let layout = CellLayout { id: 1, counters: 1, gauges: 0, ..CellLayout::default() };
    let mut board = Scoreboard::new(layout).expect("a scoreboard");
    let (index, cell) = board.claim(None, 1).expect("a free cell");
    let reader = board.board();
    let pid = fork(|| {
        cell.ready();
        cell.counters()[0].store(7, Ordering::Relaxed);
        cell.beat(&Beat { loop_lag_us: 5 });
        0
    });
    assert_eq!(waitpid(pid, None), Ok(WaitStatus::Exited(pid, 0)));
    assert_eq!(board.read(index).loop_lag_us, 5);
    board.release(index);
    let pid = fork(move || u8::from(reader.snapshot().is_none_or(|seen| seen.counters != [7])));
    assert_eq!(waitpid(pid, None), Ok(WaitStatus::Exited(pid, 0)));
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

fn what_the_manager_says_is_for_us_and_not_for_our_children() {
    let program = std::env::current_exe().expect("this program");
    if std::env::args().any(|arg| arg == START) {
        assert!(MANAGERS.iter().all(|name| std::env::var_os(name).is_some()), "it was said");
        let _start = Start::of_process().expect("one thread");
        let heard = || MANAGERS.iter().any(|name| std::env::var_os(name).is_some());
        let pid = fork(|| u8::from(heard()));
        assert_eq!(waitpid(pid, None), Ok(WaitStatus::Exited(pid, 0)), "a child hears it");
        return;
    }
    let mut command = std::process::Command::new(program);
    // For another process: none of the sockets is ours.
    command.arg(START).envs(MANAGERS.map(|name| (name, "1")));
    let status = command.status().expect("it runs");
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
