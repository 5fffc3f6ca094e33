//! Log files, and the real logrotate.

use super::{SOON, installed, load, more};
use crate::harness::wait::until_true;
use crate::harness::{Database, Turn};

/// One line for each request, in whichever file.
const LINES: &str = r#"zcat -f /var/log/peace/* | grep -c '"target":"access"'"#;

#[test]
fn logrotate_loses_no_line() {
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let machine = installed(&database);
    machine.run("sed -i /access-log/d /etc/peace/peace.toml");
    machine.append("/etc/peace/peace.toml", "log-file = \"/var/log/peace/peace.log\"");
    machine.run("systemctl start peace");
    let load = load();
    for rotation in 1..=3 {
        machine.run("logrotate --force /etc/logrotate.d/peace");
        until_true("the new file", SOON, || machine.path("/var/log/peace/peace.log").exists());
        more(&load);
        eprintln!("{rotation}: {}", machine.run("ls /var/log/peace").replace('\n', " "));
    }
    let tally = load.stop();
    tally.check_nothing_lost("three rotations");
    machine.run("systemctl stop peace");
    let lines: usize = machine.run(LINES).trim_end().parse().unwrap();
    eprintln!("{} requests, {lines} lines", tally.total());
    assert_eq!(lines, tally.total());
    let files = machine.run("ls /var/log/peace");
    assert_eq!(files, "peace.log\npeace.log.1\npeace.log.2.gz\npeace.log.3.gz\n");
    let owner = machine.run("stat -c '%U %a' /var/log/peace/peace.log");
    assert_eq!(owner, "peace 600\n");
}
