//! What is left when we are gone: nothing.
//!
//! A shell that waits on a pipe whose other end only we hold. It knows the process groups we started
//! and our scratch folder; at end of file (we left, crashed, or were killed) it ends the former and
//! removes the latter. So nothing here needs a signal handler, an exit hook or a way to run code after
//! `kill -9`. Called by whoever starts a program. Source: setpgid(2), kill(2), dash(1).

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// `$1` is the folder. A line is `hold GROUP SIGNAL` or `drop GROUP`. What does not leave at its signal
/// within 5 s is killed.
const SCRIPT: &str = r#"
held=
while read -r word group signal; do
    rest=
    for one in $held; do [ "${one%%:*}" = "$group" ] || rest="$rest $one"; done
    held=$rest
    [ "$word" = drop ] || held="$held $group:$signal"
done
for one in $held; do kill -s "${one#*:}" -- "-${one%%:*}"; done
tries=0
while [ "$tries" -lt 100 ]; do
    alive=
    for one in $held; do ! kill -s 0 -- "-${one%%:*}" || alive=1; done
    [ -n "$alive" ] || break
    tries=$((tries + 1))
    sleep 0.05
done
for one in $held; do kill -s KILL -- "-${one%%:*}"; done
rm -rf "$1"
"#;

/// The shell, and the folder.
pub(crate) struct Guard {
    shell: Child,
    orders: Option<ChildStdin>,
    folder: PathBuf,
}

/// A program in a process group of its own, that ends when we do.
pub(crate) struct Held {
    child: Child,
}

impl Guard {
    /// Makes the scratch folder and starts the shell.
    ///
    /// # Errors
    /// When there is no room for the folder, or no shell.
    pub(crate) fn start() -> io::Result<Self> {
        let name = format!("peace-loadtest-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder)?;
        // The database's files are another user's when we are root; that user has to get there.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o711))?;
        let mut shell = Command::new("sh");
        shell.args(["-c", SCRIPT, "guard"]).arg(&folder).process_group(0).current_dir("/");
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        match shell.spawn() {
            Ok(mut shell) => {
                let orders = shell.stdin.take();
                Ok(Self { shell, orders, folder })
            }
            Err(error) => {
                let _ = fs::remove_dir(&folder);
                Err(io::Error::other(format!("sh cannot be started: {error}")))
            }
        }
    }

    /// Removed at the end, with all that is in it.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts a program that will get `signal` if we end before it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn spawn(&mut self, command: &mut Command, signal: Signal) -> io::Result<Held> {
        let child = command.process_group(0).spawn()?;
        let mut held = Held { child };
        let told = self.tell(&format!("hold {} {}", held.pid(), &signal.as_str()["SIG".len()..]));
        if told.is_err() {
            // Nobody would end it.
            let _ = killpg(Pid::from_raw(held.pid()), Signal::SIGKILL);
            let _ = held.child().wait();
        }
        told.map(|()| held)
    }

    /// Forgets a program that has ended.
    pub(crate) fn forget(&mut self, held: &Held) {
        // When the shell is gone there is nobody to forget.
        let _ = self.tell(&format!("drop {}", held.pid()));
    }

    fn tell(&mut self, line: &str) -> io::Result<()> {
        let Some(orders) = &mut self.orders else { return Ok(()) };
        writeln!(orders, "{line}")
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.shell.wait();
        // Gone already, unless somebody has killed the shell.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Held {
    pub(crate) fn pid(&self) -> i32 {
        // The kernel's process ids are below 2^22.
        i32::try_from(self.child.id()).unwrap_or(i32::MAX)
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }
}
