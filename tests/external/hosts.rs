//! Two hosts that run Peace behind HAProxy, and PostgreSQL with a standby, each on a machine of its own.
//!
//! A machine is a network namespace, so that one can be lost or cut off; what runs on it is the real thing, with
//! `deploy/haproxy/haproxy.cfg` as it is. Clients count every request that was not answered as it should, and
//! every row that they were promised. Needs root, ip(8), setpriv(1) and haproxy(8).

/// HAProxy.
mod balancer;
/// The database: its standby takes over, a host loses it.
mod databases;
/// The machines and the wires between them.
mod lab;
/// A host is lost.
mod lost;
/// Hosts are upgraded one after the other.
mod rolling;
/// Clients that write, and keep what they were promised.
mod writers;

use std::time::{Duration, Instant};

use self::balancer::Balancer;
use self::lab::{Lab, Machine};
use crate::harness::api::{PASSWORD, User};
use crate::harness::cluster::Cluster;
use crate::harness::database::Sql;
use crate::harness::folder::Folder;
use crate::harness::load::{Call, LoadShape, Tally};
use crate::harness::wait::until_true;
use crate::harness::{Database, Launch, Peace, Request, Turn, api, get, post};

/// What both hosts sign with.
const SECRET: &str = "the secret that both hosts of these tests know";
/// As haproxy.cfg has it: two checks a second apart, the first one late by as much, and their patience.
const CHECKED: Duration = Duration::from_millis(2_500);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_secs(1);
/// For what is to come without a doubt.
const SOON: Duration = Duration::from_secs(20);

/// Who may come to a database.
const ACCESS: &str = "local all all trust\nlocal replication all trust\n\
    host all all samenet trust\nhost replication all samenet trust\n";

/// A server that other machines reach, on `machine`.
fn database_server(machine: &Machine, access: &Folder) -> Cluster {
    let hba = access.write("pg_hba.conf", ACCESS).display().to_string().leak();
    machine.within(|| Cluster::start(&[("listen_addresses", "*"), ("hba_file", hba)]))
}

/// One that follows it from another machine, by the network.
fn standby_of(primary: &Cluster, at: &Machine, machine: &Machine) -> Cluster {
    let standby = machine.within(|| Cluster::standby_of(primary));
    let sql = Sql::connect(&standby.url("postgres")).unwrap();
    let place = format!("host={} user=peace application_name=standby", at.back());
    sql.run(&format!("alter system set primary_conninfo = '{place}'"));
    sql.run("select pg_reload_conf()");
    let primary = Sql::connect(&primary.url("postgres")).unwrap();
    until_true("the standby follows", SOON, || {
        let following = "select count(*) from pg_stat_replication \
            where state = 'streaming' and client_addr is not null";
        primary.value::<i64>(following, &[]) == 1
    });
    standby
}

/// How a host finds a database on these machines.
fn database_url(machines: &[&Machine], database: &Database<'_>) -> String {
    let hosts: Vec<String> = machines.iter().map(|machine| machine.back().to_string()).collect();
    format!("host={} user=peace dbname={} sslmode=disable", hosts.join(","), database.name())
}

/// Peace on a host. It ends with this process, however that comes about.
fn serve(turn: &Turn, machine: &Machine, balancer: &Lab, database_url: &str) -> Peace {
    let bind = format!("{}:{}", machine.front(), lab::PORT);
    let launch = Launch::bare(turn)
        .env("DATABASE_URL", database_url)
        .env("JWT_SECRET_KEY", SECRET)
        .args(["--bind", &bind, "--workers", "2", "--pool-size", "2", "--log-format", "json"])
        .args(["--access-log", "off", "--keepalive-grace", "1s", "--shutdown-delay", "3s"])
        .args(["--trusted-proxies", &balancer.street().to_string()])
        .under("setpriv", ["--pdeathsig", "KILL", "--"]);
    machine.within(|| launch.serve())
}

/// Both hosts, and the balancer in front of them.
struct Service {
    // Dropped first: it would log that the others are gone.
    balancer: Balancer,
    hosts: [Peace; 2],
}

impl Service {
    fn start(turn: &Turn, lab: &Lab, database_url: &str) -> Self {
        let hosts = lab.hosts.each_ref().map(|host| serve(turn, host, lab, database_url));
        let balancer = Balancer::start(lab);
        for name in ["host1", "host2"] {
            balancer.await_state(name, "UP", SOON);
        }
        Self { balancer, hosts }
    }

    /// One request by way of the balancer.
    fn ask(&self, request: &Request) -> u16 {
        request.fresh(self.balancer.address).map_or(0, |reply| reply.status)
    }

    /// Somebody who has logged in.
    fn sign_up(&self, name: &str) -> User {
        api::sign_up(&self.hosts[0], name)
    }

    fn workers(&self) -> Vec<Vec<i32>> {
        self.hosts.iter().map(|host| host.workers().into_values().collect()).collect()
    }

    /// Readers and refused logins, on fresh and kept connections.
    fn readers(&self, user: &User) -> LoadShape {
        LoadShape {
            fresh: vec![Call::get(&user.place, 200), Call::get("/users", 200)],
            fresh_per_s: 150,
            kept: Call::get(&user.place, 200),
            kept_clients: 16,
            kept_per_s: 10,
            patience: Duration::from_secs(8),
            limit: Duration::from_secs(120),
        }
    }
}

/// When the last request was begun that was lost, after `since`.
fn last_loss(tally: &Tally, since: Instant) -> Duration {
    let begun = tally.losses().map(|loss| loss.begun.saturating_duration_since(since));
    begun.max().unwrap_or_default()
}

#[test]
fn the_two_hosts_share_users_sessions_and_tokens() {
    let turn = Turn::shared();
    let (lab, access) = (Lab::new(), Folder::open_to_all());
    let cluster = database_server(&lab.databases[0], &access);
    let database = Database::migrated_in(&cluster);
    let url = database_url(&[&lab.databases[0]], &database);
    let service = Service::start(&turn, &lab, &url);
    let ann = service.sign_up("ann");
    // In turns: each host takes what the other has given out.
    for number in 0..8 {
        let name = format!("thing {number}");
        let body = serde_json::json!({"name": name, "user_pubid": ann.pubid});
        assert_eq!(service.ask(&post("/items").bearer(&ann.token).json(&body)), 201);
        assert_eq!(service.ask(&get(&ann.place)), 200);
        let login = post("/auth/token").form(&[("username", "ann"), ("password", PASSWORD)]);
        assert_eq!(service.ask(&login), 200);
    }
    let [one, other] = &service.hosts;
    assert_eq!(one.ask(&post("/auth/logout").bearer(&ann.token)).status, 204);
    let body = serde_json::json!({"name": "late", "user_pubid": ann.pubid});
    assert_eq!(other.ask(&post("/items").bearer(&ann.token).json(&body)).status, 401);
}
