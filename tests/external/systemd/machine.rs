//! A machine with a real systemd: Debian's tree under an overlay, booted with systemd-nspawn, in half a second.
//!
//! The tests of units boot one each. It shares the network of the thread that boots it, which is one of the
//! test's own: so its port 8000 is nobody else's, and the test reaches it. What is written in it is kept in
//! memory. Its life is tied to ours: a shell waits on a pipe whose other end only we hold; at end of file (we
//! are gone, however that came about) it kills the machine, and removes its folder and its control groups.
//! Everything else (processes, mounts) is in namespaces that end with it. Both kinds of control groups will do.
//! Knows nothing of the server.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::debian;
use crate::harness::Network;
use crate::harness::proc;
use crate::harness::wait::{until, until_true};

/// `$1` is the machine's folder, `$2` its name; the rest starts it. The namespaces' first process takes all
/// others along, and is our grandchild.
const KEEPER: &str = r#"
folder=$1 name=$2; shift 2
cd "$folder" || exit
"$@" & machine=$!
read -r _
for first in $(cat "/proc/$machine/task/$machine/children"); do kill -s KILL "$first"; done
wait "$machine"
for groups in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
    [ ! -d "$groups/$name" ] || find "$groups/$name" -depth -type d -exec rmdir {} \;
done
cd / && rm -rf "$folder"
"#;

/// `$1` is the machine's folder, `$2` its name, `$3` Debian's tree; the rest are options. Its writes go to memory,
/// since an overlay cannot be written to another one, as a container's disk often is.
const BOOT: &str = r#"
set -e
folder=$1 name=$2 tree=$3; shift 3
for groups in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
    [ -e "$groups/cgroup.procs" ] || continue
    mkdir "$groups/$name"
    echo 0 >"$groups/$name/cgroup.procs"
done
mount -t tmpfs -o size=3g machine "$folder"
mkdir "$folder/written" "$folder/work" "$folder/root"
mount -t overlay -o "lowerdir=$tree,upperdir=$folder/written,workdir=$folder/work" machine "$folder/root"
exec systemd-nspawn --quiet --boot --directory="$folder/root" --machine="$name" --register=no --keep-unit \
    --settings=no --link-journal=no --resolv-conf=off --timezone=off --console=pipe "$@"
"#;

/// On a busy machine.
const BOOTED: Duration = Duration::from_secs(60);
/// Where README has the project.
const PROJECT: &str = "/srv/peace";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A machine that runs.
pub(super) struct Machine {
    keeper: Child,
    /// Its first process, as we see it.
    leader: i32,
    /// What its console shows.
    console: PathBuf,
    pub(super) network: Network,
}

impl Machine {
    /// One that sees the project with these programs as its release build, and the database's socket, in
    /// this folder.
    pub(super) fn boot(programs: &Path, socket_folder: &str) -> Self {
        let tree = debian::tree();
        let network = Network::own();
        assert!(network.is_own(), "a network of its own: install iproute2");
        // The server is another user in there.
        for path in [socket_folder, &format!("{socket_folder}/.s.PGSQL.5432")] {
            let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o777));
        }
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("peace-test-{}-{number}", process::id());
        let folder = std::env::temp_dir().join(&name);
        fs::create_dir_all(&folder).unwrap();
        let console = folder.join("console");
        let project = env!("CARGO_MANIFEST_DIR");
        let mut binds = vec![
            format!("--bind-ro={project}/deploy:{PROJECT}/deploy"),
            format!("--bind={socket_folder}:/run/postgresql"),
        ];
        for program in ["peace-supervisor", "peace-migrate"] {
            let from = programs.join(program).canonicalize().unwrap();
            binds.push(format!("--bind-ro={}:{PROJECT}/target/release/{program}", from.display()));
        }
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "keeper"]).arg(&folder).arg(&name);
        keeper.args(["setpriv", "--pdeathsig", "KILL"]);
        keeper.args(["unshare", "--mount", "--pid", "--mount-proc", "--kill-child"]);
        keeper.args(["bash", "-c", BOOT, "boot"]).arg(&folder).arg(&name).arg(tree).args(binds);
        keeper.stdin(Stdio::piped()).stdout(Stdio::null()).process_group(0);
        keeper.stderr(fs::File::create(&console).unwrap());
        let keeper = keeper.spawn().expect("sh runs");
        let keeper_pid = i32::try_from(keeper.id()).unwrap();
        let mut machine = Self { keeper, leader: 0, console, network };
        machine.leader = until("the machine's first process", BOOTED, || {
            proc::descendants(keeper_pid).iter().map(|one| one.pid).find(|pid| is_leader(*pid))
        });
        until_true("it has booted", BOOTED, || {
            let state = machine.output("systemctl is-system-running");
            state.stdout.trim_ascii() == b"running"
        });
        machine
    }

    /// Its first process, as we see it.
    pub(super) fn leader(&self) -> i32 {
        self.leader
    }

    /// A file or folder of it.
    pub(super) fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.leader))
    }

    pub(super) fn write(&self, inside: &str, text: &str) {
        let path = self.path(inside);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Writes to the end of a file, which is made where there is none, with its mode as it is.
    pub(super) fn append(&self, inside: &str, text: &str) {
        let file = fs::OpenOptions::new().append(true).create(true).open(self.path(inside));
        writeln!(file.unwrap(), "{text}").unwrap();
    }

    /// A line of a shell of root, in README's folder.
    pub(super) fn command(&self, line: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args([
            "--target",
            &self.leader.to_string(),
            "--mount",
            "--pid",
            "--uts",
            "--ipc",
            "--root",
        ]);
        command.arg(format!("--wd=/proc/{}/root", self.leader)).args(["--", "bash", "-c"]);
        command.arg(format!("cd {PROJECT} && {line}"));
        command.env_clear().env("PATH", PATH).env("HOME", "/root").env("SYSTEMD_PAGER", "");
        command.stdin(Stdio::null());
        command
    }

    pub(super) fn output(&self, line: &str) -> Output {
        self.command(line).output().expect("nsenter is in util-linux")
    }

    /// Runs a line to its good end; gives what it has printed.
    #[track_caller]
    pub(super) fn run(&self, line: &str) -> String {
        let output = self.output(line);
        assert!(output.status.success(), "{line}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// A property of a unit, as systemd tells it.
    pub(super) fn property(&self, unit: &str, name: &str) -> String {
        self.run(&format!("systemctl show --value --property={name} {unit}")).trim_end().to_owned()
    }

    /// What a unit has logged.
    pub(super) fn journal(&self, unit: &str) -> String {
        self.run(&format!("journalctl --no-pager --output=cat --unit={unit}"))
    }

    /// The processes of a unit, as we see them.
    pub(super) fn processes(&self, unit: &str) -> Vec<i32> {
        let group = format!("/system.slice/{unit}");
        let all = proc::descendants(self.leader).into_iter().map(|process| process.pid);
        all.filter(|pid| {
            let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            groups.lines().any(|line| line.ends_with(&group))
        })
        .collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let told =
                self.output("journalctl --no-pager --lines=60; systemctl status --no-pager peace");
            eprintln!("{}", String::from_utf8_lossy(&told.stdout));
            eprintln!("{}", fs::read_to_string(&self.console).unwrap_or_default());
        }
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// Whether this is the first process of the inner one of two systems: systemd-nspawn is that of the outer.
fn is_leader(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    let ids: Vec<&str> = ids.split_whitespace().collect();
    ids.len() >= 3 && ids.last() == Some(&"1") && status.starts_with("Name:\tsystemd\n")
}

/// Where the API listens in a machine.
pub(super) fn api() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8000))
}
