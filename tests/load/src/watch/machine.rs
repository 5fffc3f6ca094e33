//! The computer that is measured on, and the tree that is measured.
//!
//! The conductor asks once, for the run card. What PostgreSQL is, the database tells.
//! Source: proc_cpuinfo(5), proc_meminfo(5), proc_sys_kernel(5), git-describe(1).

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, fs, thread};

use crate::report::model::Machine;

/// Everything but the database.
pub(crate) fn machine() -> Machine {
    Machine {
        cpu: cpu(&read("/proc/cpuinfo")),
        cpus: thread::available_parallelism().map_or(1, usize::from),
        memory_bytes: memory_bytes(&read("/proc/meminfo")),
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        postgres: None,
        postgres_settings: BTreeMap::new(),
    }
}

/// The commit of the tree that this program was built from, `-dirty` when files differ from it.
/// `None` when that tree is not here, is no repository, or git is not installed.
pub(crate) fn commit() -> Option<String> {
    commit_in(Path::new(env!("CARGO_MANIFEST_DIR")))
}

fn commit_in(folder: &Path) -> Option<String> {
    let git = Command::new("git")
        .current_dir(folder)
        .args(["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"])
        // It is the folder that says which repository, whatever we were started from.
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .env("GIT_OPTIONAL_LOCKS", "0")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let name = String::from_utf8(git.stdout).ok()?.trim().to_owned();
    (git.status.success() && !name.is_empty()).then_some(name)
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Arm machines do not name their processors: the architecture has to do.
fn cpu(text: &str) -> String {
    field(text, "model name").unwrap_or(env::consts::ARCH).to_owned()
}

fn memory_bytes(text: &str) -> u64 {
    let kib = field(text, "MemTotal").and_then(|value| value.strip_suffix(" kB")?.parse().ok());
    kib.map_or(0, |kib: u64| kib * 1024)
}

/// The value of the first line `name: value`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_names_itself() {
        let machine = machine();
        assert!(!machine.cpu.is_empty() && !machine.kernel.is_empty(), "{machine:?}");
        assert!(machine.cpus > 0 && machine.memory_bytes > 1 << 26, "{machine:?}");
    }

    #[test]
    fn a_processor_without_a_name_is_called_by_its_architecture() {
        assert_eq!(cpu("processor\t: 0\nmodel name\t: Fast 3 GHz\n"), "Fast 3 GHz");
        assert_eq!(cpu("processor\t: 0\nCPU part\t: 0xd0c\n"), env::consts::ARCH);
        assert_eq!(memory_bytes("MemTotal:        2048 kB\nMemFree: 1 kB\n"), 2 << 20);
    }

    #[test]
    fn a_tree_is_named_by_its_commit_and_whether_it_differs() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(commit_in(folder.path()), None, "no repository");
        assert_eq!(commit_in(&folder.path().join("gone")), None);

        let git = |line: &str| {
            let git = Command::new("git")
                .args(["-c", "user.name=a", "-c", "user.email=a@example.org"])
                .args(line.split(' '))
                .current_dir(folder.path())
                .output()
                .unwrap();
            assert!(git.status.success(), "{}", String::from_utf8_lossy(&git.stderr));
            String::from_utf8(git.stdout).unwrap()
        };
        fs::write(folder.path().join("file"), "one").unwrap();
        git("init --quiet");
        git("add file");
        git("commit --quiet --message one");
        git("tag v1");
        let commit = commit_in(folder.path()).unwrap();
        assert!(commit.len() >= 12 && git("rev-parse HEAD").starts_with(&commit), "{commit}");

        fs::write(folder.path().join("file"), "two").unwrap();
        assert_eq!(commit_in(folder.path()), Some(format!("{commit}-dirty")));
    }
}
