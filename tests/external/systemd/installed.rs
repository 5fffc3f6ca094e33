//! Units and installer, as they are: what the units may do, where secrets are, and README's way from a clone to a
//! served request.

use std::fs;
use std::path::Path;

use super::machine::Machine;
use super::{JWT_SECRET, PASSWORD, installed, is_ready, load, more, programs};
use crate::harness::cluster::Cluster;
use crate::harness::database::Sql;
use crate::harness::{Database, Network, Turn, proc};

const UNITS: [&str; 3] = ["peace.service", "peace.socket", "peace-migrate.service"];

#[test]
fn the_units_are_right_and_may_do_little() {
    let turn = Turn::alone();
    let machine = installed(&Database::new(&turn));
    let verified = machine.output(&format!("systemd-analyze verify {}", UNITS.join(" ")));
    assert!(verified.status.success(), "{verified:?}");
    assert!(verified.stdout.is_empty() && verified.stderr.is_empty(), "{verified:?}");
    for unit in ["peace.service", "peace-migrate.service"] {
        let path = format!("/usr/local/lib/systemd/system/{unit}");
        let told = machine.run(&format!(
            "systemd-analyze security --no-pager --offline=true --threshold=15 {path}"
        ));
        let verdict = told.lines().rfind(|line| line.contains("exposure")).expect("a verdict");
        eprintln!("{}", verdict.trim());
    }
}

#[test]
fn no_secret_is_in_an_environment_a_command_line_or_the_journal() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let machine = installed(&database);
    machine.run("systemctl start peace-migrate && systemctl start peace");
    let load = load();
    machine.run("systemctl reload peace");
    more(&load);
    load.stop().check_nothing_lost("a reload");
    let all = proc::descendants(machine.leader());
    assert!(machine.processes("peace.service").len() >= 5, "supervisor, admin, workers");
    let mut told = vec![
        machine.run("journalctl --no-pager --output=verbose"),
        machine.run("systemctl show peace peace-migrate; systemctl status --no-pager peace"),
        machine.run("peace-supervisor ctl --control /run/peace/control.sock status --json"),
    ];
    for process in &all {
        for file in ["environ", "cmdline"] {
            // One that has just ended has none any more.
            let bytes = fs::read(format!("/proc/{}/{file}", process.pid)).unwrap_or_default();
            told.push(String::from_utf8_lossy(&bytes).into_owned());
        }
    }
    let environs = told.iter().filter(|text| text.contains("CREDENTIALS_DIRECTORY=")).count();
    assert!(environs >= 5, "those that have secrets were looked at: {environs}");
    for text in &told {
        assert!(!text.contains(JWT_SECRET) && !text.contains(PASSWORD), "{text}");
    }
    eprintln!("{} processes, and the journal: no secret", all.len());
    for file in ["database-url", "migrate-database-url", "jwt-secret-key"] {
        let other = format!("setpriv --reuid=nobody --clear-groups cat /etc/peace/{file}");
        assert!(!machine.output(&other).status.success(), "{file}");
    }
    let other = "setpriv --reuid=nobody --clear-groups ls /run/credentials/peace.service";
    assert!(!machine.output(other).status.success());
}

/// What there is below the places that the installer writes to, with what is in it.
fn files(machine: &Machine) -> String {
    let places = "/etc /usr/local /usr/lib/systemd /var/lib/systemd";
    machine.run(&format!(
        "find {places} -xdev -not -name '*.db' -type f -print0 | sort -z | xargs -0 sha256sum"
    ))
}

#[test]
fn the_installer_may_be_run_again_and_takes_back_what_it_did() {
    let turn = Turn::alone();
    let machine = Machine::boot(programs(), &Cluster::shared().socket_folder());
    let run = |options: &str| machine.run(&format!("deploy/systemd/install {options}"));
    let before = files(&machine);
    let plan = run("--dry-run");
    assert_eq!(files(&machine), before, "--dry-run changes nothing");
    let done = run("");
    let installs = |told: &str| told.lines().filter(|line| line.starts_with("installs")).count();
    assert!(installs(&plan) == installs(&done) && installs(&done) == 12, "{plan}\n{done}");
    assert!(done.contains("write the secrets: /etc/peace/database-url "), "{done}");
    let modes = machine.run("stat -c '%a %U' /etc/peace/*-* /usr/local/bin/peace-*");
    assert_eq!(modes.lines().filter(|line| *line == "600 root").count(), 3, "{modes}");
    assert_eq!(modes.lines().filter(|line| *line == "755 root").count(), 2, "{modes}");

    machine.append("/etc/peace/peace.toml", "workers = 7");
    machine.append("/etc/logrotate.d/peace", "# ours");
    machine.run("ln -sf /srv/secret /etc/peace/jwt-secret-key");
    let edited = files(&machine);
    let again = run("");
    assert_eq!(installs(&again), 0, "{again}");
    assert_eq!(files(&machine), edited, "what is there is left alone");

    machine.run("mkdir /srv/tree");
    run("--root /srv/tree");
    let there = machine.run("cd /srv/tree && find . -type f -o -type d -name peace");
    for file in ["./usr/local/bin/peace-supervisor", "./etc/peace/peace.toml"] {
        assert!(there.lines().any(|line| line == file), "{there}");
    }
    let made =
        machine.run("stat -c %a /srv/tree/etc/peace/jwt-secret-key; cat /srv/tree/etc/passwd");
    assert!(made.starts_with("600\n") && made.contains("peace:x:"), "{made}");
    let links = || machine.run("cd /srv/tree && find . -type l -name 'peace*'");
    machine.run("systemctl --quiet --root=/srv/tree enable peace.service peace.socket");
    assert_eq!(links().lines().count(), 2, "{}", links());
    run("--uninstall --dry-run --root /srv/tree");
    assert_eq!(links().lines().count(), 2, "--dry-run takes nothing away");
    run("--uninstall --root /srv/tree");
    assert_eq!(links(), "", "what started it there is gone");

    let usage = machine.output("deploy/systemd/install --all");
    assert_eq!(usage.status.code(), Some(1), "{usage:?}");
    let told = run("--uninstall");
    assert!(told.contains("left: /etc/logrotate.d/peace, /etc/peace"), "{told}");
    let left =
        machine.run("find /etc /usr /var /run -xdev -name '*peace*' -not -path '/etc/peace/*'");
    let mut left: Vec<&str> = left.lines().filter(|path| !path.contains("nspawn")).collect();
    left.sort_unstable();
    assert_eq!(left, ["/etc/logrotate.d/peace", "/etc/peace"]);
    assert!(machine.run("cat /etc/peace/peace.toml").contains("workers = 7"));
    run("--uninstall");
    drop(turn);
}

/// README's lines, in their order, each as it stands.
#[test]
fn readme_leads_from_a_clone_to_a_served_request() {
    let turn = Turn::alone();
    let cluster = Cluster::start(&[("unix_socket_permissions", "0777")]);
    Sql::connect(&cluster.url("postgres")).unwrap().run("create database peace");
    let machine = Machine::boot(programs(), &cluster.socket_folder());
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"));
    let readme = readme.unwrap();
    let (_, section) = readme.split_once("\n### Under systemd\n").expect("README has it");
    let section = section.split("\n##").next().unwrap();
    let lines: Vec<&str> = section.lines().filter(|line| is_command(line)).collect();
    assert!(lines.len() > 10, "{lines:?}");
    for line in lines {
        eprintln!("{line}");
        match line.strip_prefix("# ") {
            Some(command) => eprint!("{}", machine.run(command)),
            // Built already, as cargo builds it for tests.
            None => assert_eq!(line, "$ cargo build --release --locked"),
        }
        let serves = machine.output("systemctl is-active --quiet peace").status.success();
        assert!(!serves || is_ready(), "after {line}");
        assert!(serves || !line.contains("curl"), "{line}: nobody serves");
    }
    assert!(!is_ready(), "uninstalled at the end");
    drop((machine, turn));
}

fn is_command(line: &str) -> bool {
    line.starts_with("# ") || line.starts_with("$ ")
}

#[test]
fn the_kernel_knows_every_setting_of_sysctl_conf() {
    let network = Network::own();
    assert!(network.is_own());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/sysctl.conf");
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    for line in lines {
        let (name, value) = line.split_once(" = ").expect("a name and a value");
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        fs::write(&path, value).unwrap_or_else(|error| panic!("{name}: {error}"));
        let now = fs::read_to_string(&path).unwrap();
        assert_eq!(now.split_whitespace().collect::<Vec<_>>().join(" "), value, "{name}");
    }
}
