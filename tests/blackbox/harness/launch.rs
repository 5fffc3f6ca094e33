//! How the program is started: in a folder of its own, with an environment that holds only what the
//! test puts there.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nix::unistd::{User, chown, geteuid};
use peace::embedded::Place;

use super::database::Database;
use super::folder::Folder;
use super::log::Log;
use super::peace::{Ended, Peace};
use super::proc::{self, Process};
use super::turn::Turn;

/// The program under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_peace-supervisor");

/// How to start a program.
pub(crate) struct Launch {
    program: PathBuf,
    /// Who runs it, if not we.
    user: Option<User>,
    folder: Folder,
    /// Where its own database is, outside of the folder or inside.
    embedded: Option<Place>,
    args: Vec<String>,
    env: Vec<(String, String)>,
}

impl Launch {
    /// Without any setting.
    pub(crate) fn bare(_turn: &Turn) -> Self {
        Self {
            program: PathBuf::from(PROGRAM),
            user: None,
            folder: Folder::new(),
            embedded: None,
            args: Vec::new(),
            env: Vec::new(),
        }
    }

    /// On `database`, at a port of the system's choice.
    pub(crate) fn on(turn: &Turn, database: &Database<'_>) -> Self {
        Self::bare(turn).env("DATABASE_URL", &database.url()).usual()
    }

    /// On a database that the program runs itself.
    pub(crate) fn embedded(turn: &Turn) -> Self {
        Self::bare(turn).with_embedded().usual()
    }

    /// The same for somebody who is not root: for us, unless we are.
    pub(crate) fn embedded_of_an_ordinary_user(turn: &Turn) -> Self {
        let mut launch = Self::bare(turn).usual();
        if geteuid().is_root() {
            let nobody = User::from_name("nobody").expect("the users can be read");
            let nobody = nobody.expect("every system has a nobody");
            let folder = launch.folder.path().to_owned();
            // Where cargo has put it, perhaps only root may enter.
            launch.program = folder.join("peace-supervisor");
            fs::copy(PROGRAM, &launch.program).expect("the program can be copied");
            chown(&folder, Some(nobody.uid), Some(nobody.gid)).expect("we are root");
            launch.user = Some(nobody);
        }
        launch
    }

    /// Another program than the server.
    pub(crate) fn program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = program.into();
        self
    }

    /// Sees to it that the embedded database is watched, and removed at the end.
    pub(crate) fn with_embedded(mut self) -> Self {
        // As an ordinary user only the socket is elsewhere, and that we do not use.
        let place = match geteuid().is_root() {
            true => Place::of_project(self.folder.path()),
            false => Place::inside(&self.folder.path().join(".peace")),
        };
        self.embedded = Some(place.expect("a place for the data"));
        self
    }

    fn usual(self) -> Self {
        self.args(["--bind", "127.0.0.1:0", "--pool-size", "2", "--log-format", "json"])
    }

    pub(crate) fn args<'a>(mut self, args: impl IntoIterator<Item = &'a str>) -> Self {
        self.args.extend(args.into_iter().map(str::to_owned));
        self
    }

    /// As a background job of a script is started.
    pub(crate) fn ignoring_quit_and_int(self) -> Self {
        self.under("/bin/sh", ["-c", r#"trap "" QUIT INT; exec "$0" "$@""#])
    }

    /// By another program, which is told to with these arguments and the command behind them.
    pub(crate) fn under<'a>(
        mut self,
        program: &str,
        args: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let command = std::mem::replace(&mut self.program, PathBuf::from(program));
        let words = args.into_iter().map(str::to_owned).chain([command.display().to_string()]);
        self.args.splice(0..0, words);
        self
    }

    pub(crate) fn workers(self, count: usize) -> Self {
        self.args(["--workers", &count.to_string()])
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The folder it works in.
    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Starts it and waits until it serves.
    pub(crate) fn serve(self) -> Peace {
        let peace = self.start();
        peace.await_serving();
        peace
    }

    /// Starts it.
    pub(crate) fn start(self) -> Peace {
        Peace::start(self)
    }

    /// Runs it to its end, which has to come within `limit`.
    pub(crate) fn run(self, limit: Duration) -> Ended {
        self.start().end(limit)
    }

    /// Runs it for what it prints.
    pub(crate) fn output(&self) -> Output {
        self.command().output().expect("the program runs")
    }

    pub(super) fn spawn(&self) -> (Child, Log) {
        let mut child = self.command().stdout(Stdio::null()).spawn().expect("the program runs");
        let log = Log::read(child.stderr.take().expect("standard error is a pipe"));
        (child, log)
    }

    fn command(&self) -> Command {
        let mut command = self.command_of(&self.program);
        command.args(&self.args);
        command
    }

    /// Another program, as this one is started.
    pub(super) fn beside(&self, program: &str) -> Command {
        if self.user.is_none() {
            return self.command_of(Path::new(program));
        }
        let name = Path::new(program).file_name().expect("a program is a file");
        let copy = self.folder.path().join(name);
        fs::copy(program, &copy).expect("the program can be copied");
        self.command_of(&copy)
    }

    fn command_of(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Some(user) = &self.user {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command.env_clear().current_dir(self.folder.path());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("XDG_RUNTIME_DIR", self.folder.path());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// Where its own database is.
    pub(super) fn embedded_place(&self) -> Option<&Place> {
        self.embedded.as_ref()
    }

    /// What runs of anything started here.
    pub(super) fn processes(&self) -> impl Iterator<Item = Process> {
        let folders = [Some(self.folder.path()), self.embedded.as_ref().map(Place::base)];
        folders.into_iter().flatten().flat_map(proc::working_in)
    }
}

impl Drop for Launch {
    fn drop(&mut self) {
        if let Some(place) = &self.embedded {
            // Inside our own folder unless we are root; then it is gone with that.
            let _ = fs::remove_dir_all(place.base());
        }
    }
}
