//! `peace-supervisor top` on a real terminal: tmux's.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::folder::Folder;
use crate::harness::peace::signal_to;
use crate::harness::wait::until_true;
use crate::harness::{Database, Launch, Peace, Turn};

const SOON: Duration = Duration::from_secs(20);

/// A shell in a terminal of 80 by 24.
struct Terminal {
    folder: Folder,
}

impl Terminal {
    fn beside(peace: &Peace) -> Self {
        let terminal = Self { folder: Folder::new() };
        let folder = peace.folder().display().to_string();
        let started = terminal.tmux(&[
            "new-session",
            "-d",
            "-x",
            "80",
            "-y",
            "24",
            "-c",
            &folder,
            "env -i sh",
        ]);
        assert!(started.status.success(), "{started:?}");
        terminal
    }

    fn tmux(&self, args: &[&str]) -> Output {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(self.folder.path().join("tmux")).args(["-f", "/dev/null"]);
        command.args(args).env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C.UTF-8");
        command.stdin(Stdio::null()).output().expect("`tests/run --all` installs tmux")
    }

    fn press(&self, keys: &str) {
        assert!(self.tmux(&["send-keys", "-l", keys]).status.success());
    }

    fn run(&self, line: &str) {
        self.press(line);
        assert!(self.tmux(&["send-keys", "Enter"]).status.success());
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.tmux(&["capture-pane", "-p"]).stdout).into_owned()
    }

    fn await_shown(&self, text: &str) {
        let mut shown = String::new();
        let is_shown = |shown: &mut String| {
            *shown = self.shown();
            shown.contains(text)
        };
        let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until_true(text, SOON, || is_shown(&mut shown));
        }));
        assert!(looked.is_ok(), "not {text:?} but:\n{shown}");
    }

    /// Whether a program holds the whole screen.
    fn is_taken(&self) -> bool {
        let asked = self.tmux(&["display-message", "-p", "#{alternate_on}#{cursor_flag}"]);
        asked.stdout != b"01\n"
    }

    /// The settings of the terminal, as the shell has them.
    fn settings(&self, name: &str) -> String {
        let path: PathBuf = self.folder.path().join(name);
        self.run(&format!("stty -a > {0}.new; mv {0}.new {0}", path.display()));
        until_true("the shell answers", SOON, || path.exists());
        fs::read_to_string(path).unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

fn top() -> String {
    format!("{} top --interval 200ms", env!("CARGO_BIN_EXE_peace-supervisor"))
}

#[test]
fn top_shows_the_workers_rolls_them_and_gives_the_terminal_back() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(2).serve();
    let before = peace.workers();
    let terminal = Terminal::beside(&peace);
    let settings = terminal.settings("before");
    terminal.run(&top());
    terminal.await_shown("2 of 2 ready");
    for pid in before.values() {
        terminal.await_shown(&pid.to_string());
    }
    terminal.press("r");
    terminal.await_shown("replace all 2 workers? y/n");
    terminal.press("y");
    terminal.await_shown("generation 2  2 of 2 ready");
    until_true("both are others", SOON, || {
        let now = peace.workers();
        now.len() == 2 && now.values().all(|pid| !before.values().any(|old| old == pid))
    });
    assert!(terminal.is_taken());
    terminal.press("q");
    until_true("the screen is the shell's", SOON, || !terminal.is_taken());
    assert_eq!(terminal.settings("after"), settings);
}

#[test]
fn a_signal_ends_top_and_gives_the_terminal_back() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(1).serve();
    let terminal = Terminal::beside(&peace);
    let settings = terminal.settings("before");
    for (place, signal) in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().enumerate()
    {
        let pid = terminal.folder.path().join(format!("pid{place}"));
        // The shell becomes the program, so its number is known.
        terminal.run(&format!("sh -c 'echo $$ > {}; exec {}'", pid.display(), top()));
        terminal.await_shown("1 of 1 ready");
        let pid: i32 = fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
        signal_to(pid, signal);
        until_true("the screen is the shell's", SOON, || !terminal.is_taken());
        assert_eq!(terminal.settings(&format!("after{place}")), settings, "{signal}");
    }
}
