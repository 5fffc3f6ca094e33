//! A Docker engine of the tests' own: its network, its processes, its mounts, and a folder that stays.
//!
//! The tests of `docker` share one. It runs in namespaces of its own, so whatever containers, bridges and
//! mounts it makes are gone with its first process; a shell ends that one at end of file on a pipe whose other
//! end only we hold, so also when we are killed. What it has built stays in `${XDG_CACHE_HOME:-~/.cache}/peace/docker`,
//! which one engine at a time may use. Promises: no engine of the machine is asked or changed. It needs root, Debian's
//! docker.io and docker-compose. Does not know: any image.

use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::unistd::geteuid;

use crate::harness::proc;
use crate::harness::wait::until;
use crate::openapi::told;

/// Runs the engine in `$1`, a folder of this run, on the data in `$2`; `$3` names its part of the control groups,
/// `$4` is what it does inside.
const KEEPER: &str = r#"
exec 9>"$2.lock"
flock --wait 900 9 || exit 1
setpriv --pdeathsig KILL unshare --mount --pid --mount-proc --net --fork --kill-child \
    sh -c "$4" inside "$1" "$2" "$3" >"$1/log" 2>&1 &
engine=$!
echo "$engine"
read -r _
read -r first <"/proc/$engine/task/$engine/children"
kill -s KILL $first
wait "$engine"
find /sys/fs/cgroup -depth -type d -path "*/$3*" -exec rmdir {} + 2>/dev/null
rm -rf "$1"
"#;

/// The first process of its namespace, which sees to the orphans of the others. On a file system that
/// overlays cannot lie upon, layers are copies.
const INSIDE: &str = r#"
folder=$1 data=$2 group=$3
mount -t tmpfs tmpfs /run && ip link set lo up || exit 1
try=$data/try driver=vfs
mkdir -p "$try/lower" "$try/upper" "$try/work" "$try/whole"
if mount -t overlay -o "lowerdir=$try/lower,upperdir=$try/upper,workdir=$try/work" overlay "$try/whole"; then
    driver=overlay2
    umount "$try/whole"
fi
echo '{}' >"$folder/daemon.json"
dockerd --config-file "$folder/daemon.json" --data-root "$data" --exec-root /run/docker --pidfile /run/docker.pid \
    --host "unix://$folder/docker.sock" --cgroup-parent "/$group" --storage-driver "$driver" --log-level warn &
wait
"#;

/// How long a command may take that builds nothing.
pub(crate) const SOON_S: u32 = 120;
/// And one that does.
pub(crate) const BUILD_S: u32 = 2_400;

/// A running engine.
pub(crate) struct Engine {
    /// Of this run.
    folder: PathBuf,
    /// Its first process.
    first: i32,
    /// It ends when this one does, which nobody waits for: we end then.
    _keeper: Child,
}

impl Engine {
    /// The one that all tests share.
    pub(crate) fn shared() -> &'static Self {
        static ENGINE: OnceLock<Engine> = OnceLock::new();
        ENGINE.get_or_init(Self::start)
    }

    fn start() -> Self {
        assert!(
            geteuid().is_root(),
            "only root can run an engine: run `tests/run --machines` as root"
        );
        let folder = env::temp_dir().join(format!("peace-docker-{}", process::id()));
        fs::create_dir(&folder).unwrap();
        let data = cache().join("docker");
        fs::create_dir_all(&data).unwrap();
        let group = format!("peace-docker-{}", process::id());
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "keeper"]).args([&folder, &data]).args([&group, INSIDE]);
        keeper.env_clear().env("PATH", path()).current_dir(&folder).process_group(0);
        let errors = File::create(folder.join("errors")).unwrap();
        keeper.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
        let mut keeper = keeper.spawn().expect("sh runs");
        let mut line = String::new();
        let output = keeper.stdout.take().expect("it is a pipe");
        BufReader::new(output).read_line(&mut line).expect("a line of text");
        let outside: i32 = line.trim().parse().expect("nobody else uses the data for 15 minutes");
        let log = || fs::read_to_string(folder.join("log")).unwrap_or_default();
        let first = until("the engine's first process", Duration::from_secs(10), || {
            proc::children(outside).first().copied()
        });
        let engine = Self { folder: folder.clone(), first, _keeper: keeper };
        until("the engine answers", Duration::from_secs(60), || {
            let is_over = proc::children(outside).is_empty();
            assert!(
                !is_over,
                "it has ended (`tests/run --machines` installs docker.io): {}",
                log()
            );
            engine.docker(&["version"]).output().ok().filter(|output| output.status.success())
        });
        engine.forget_what_was_cut_off();
        engine
    }

    /// What a run that was killed has left running there.
    fn forget_what_was_cut_off(&self) {
        let all = self.run(&["ps", "--all", "--quiet"]);
        for container in all.lines() {
            self.run(&["rm", "--force", "--volumes", container]);
        }
        self.run(&["network", "prune", "--force"]);
        self.run(&["volume", "prune", "--force"]);
    }

    /// Moves the calling thread into its network, where its containers can be reached.
    pub(crate) fn enter(&self) {
        let network = File::open(format!("/proc/{}/ns/net", self.first)).unwrap();
        setns(network, CloneFlags::CLONE_NEWNET).unwrap();
    }

    /// `docker` with these arguments.
    pub(crate) fn docker(&self, args: &[&str]) -> Command {
        self.bounded(SOON_S, "docker", args)
    }

    /// A program that asks this engine, and is killed after so many seconds.
    pub(crate) fn bounded(&self, limit_s: u32, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", &limit_s.to_string(), program]).args(args);
        command.env_clear().env("PATH", path()).current_dir(&self.folder);
        let host = format!("unix://{}/docker.sock", self.folder.display());
        command.env("DOCKER_HOST", host).env("HOME", &self.folder);
        // The builder that every engine has.
        command.env("DOCKER_BUILDKIT", "0").env("COMPOSE_DOCKER_CLI_BUILD", "0");
        command.env("TMPDIR", &self.folder).stdin(Stdio::null());
        command
    }

    /// What `docker` prints, which has to succeed.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str]) -> String {
        let output = self.docker(args).output().unwrap();
        assert!(output.status.success(), "docker {args:?}: {}", told(&output));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// How `docker` ends.
    pub(crate) fn output(&self, args: &[&str]) -> Output {
        self.docker(args).output().unwrap()
    }

    /// Its processes, as the machine numbers them: those of all containers are among them.
    pub(crate) fn processes(&self) -> Vec<i32> {
        proc::descendants(self.first).into_iter().map(|process| process.pid).collect()
    }
}

/// Where things stay from run to run.
pub(crate) fn cache() -> PathBuf {
    let given = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let given = given.filter(|path| path.is_absolute());
    let home = || Path::new(&env::var_os("HOME").expect("a home")).join(".cache");
    given.unwrap_or_else(home).join("peace")
}

/// An ordinary user's lacks the place of dockerd, and so may root's after su(1).
fn path() -> String {
    format!("{}:/usr/sbin:/sbin", env::var("PATH").unwrap_or_default())
}
