//! HAProxy in the street, by the file that operators get.
//!
//! A shell holds it, as others hold PostgreSQL: at end of file on a pipe that only we hold, it is killed.

use std::fs;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::lab::{Lab, PORT};
use crate::harness::client::Connection;
use crate::harness::folder::Folder;
use crate::harness::wait::until_true;

const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/haproxy/haproxy.cfg");
/// `$@` runs it.
const KEEPER: &str = r#"
"$@" & balancer=$!
read -r _
kill -s KILL "$balancer"
wait "$balancer"
"#;

/// A running balancer.
pub(super) struct Balancer {
    pub(super) address: SocketAddr,
    keeper: Child,
    files: Folder,
}

impl Balancer {
    pub(super) fn start(lab: &Lab) -> Self {
        let files = Folder::new();
        let address = SocketAddr::from((lab.street(), PORT));
        let log = fs::File::create(files.path().join("log")).expect("a file in our own folder");
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "keeper", "haproxy", "-db", "-f", CONFIG]);
        keeper
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin");
        keeper.env("PEACE_BALANCER_BIND", address.to_string());
        keeper.env("PEACE_BALANCER_SOCKET", files.path().join("admin.sock"));
        for (name, host) in ["PEACE_HOST1", "PEACE_HOST2"].into_iter().zip(&lab.hosts) {
            keeper.env(name, format!("{}:{PORT}", host.front()));
        }
        keeper.current_dir(files.path()).process_group(0);
        keeper.stdin(Stdio::piped()).stderr(log.try_clone().expect("a file")).stdout(log);
        let keeper = keeper.spawn().expect("sh runs");
        let new = Self { address, keeper, files };
        until_true(
            "HAProxy listens (`tests/run --machines` installs it)",
            Duration::from_secs(10),
            || Connection::open(address).is_ok(),
        );
        new
    }

    /// Waits until a host is what it says, as UP or DOWN.
    pub(super) fn await_state(&self, host: &str, state: &str, limit: Duration) {
        until_true(&format!("{host} is {state}"), limit, || self.state(host).starts_with(state));
    }

    /// What it thinks of a host, as the checks see it.
    fn state(&self, host: &str) -> String {
        let line = format!("peace,{host},");
        let table = self.command("show stat").unwrap_or_default();
        let row = table.lines().find(|row| row.starts_with(&line)).unwrap_or_default();
        // The column that is called status.
        row.split(',').nth(17).unwrap_or_default().to_owned()
    }

    fn admin(&self) -> io::Result<UnixStream> {
        UnixStream::connect(self.files.path().join("admin.sock"))
    }

    /// What it answers at its socket, which is not there for a moment while it starts.
    fn command(&self, command: &str) -> io::Result<String> {
        let mut answer = String::new();
        let mut admin = self.admin()?;
        writeln!(admin, "{command}")?;
        admin.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        self.keeper.wait().expect("the keeper is our child");
        if std::thread::panicking() {
            let log = fs::read_to_string(self.files.path().join("log")).unwrap_or_default();
            eprintln!("-- HAProxy:\n{log}");
        }
    }
}
