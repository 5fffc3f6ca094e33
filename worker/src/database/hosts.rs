//! One try to connect, at all the servers that a URL names, in its order.
//!
//! The connector opens its sessions here, the application its check before the start; it calls
//! tokio-postgres, which finds the addresses of a name and speaks the start-up.
//! Promises: the first server that fits is taken (`target_session_attrs`); one that keeps silent
//! takes no more than its share of the time, which is what is left, divided by the servers that
//! were not asked yet; a failure says what each of them said.
//! Does not know: when to try again, or whose certificate is to be believed.
//!
//! Source: libpq, "Specifying Multiple Hosts".

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rustls::ClientConfig;
use tokio::time::{Instant, timeout};
use tokio_postgres::{
    Client, Config, NoTls,
    config::{Host, LoadBalanceHosts},
    tls::MakeTlsConnect,
};
use tokio_postgres_rustls::MakeRustlsConnect;
use tracing::info;

use super::{
    dial::{Socket, dial},
    error::chain,
};

/// Opens one session, without trying twice. Its `Client` ends it.
///
/// `tls` is asked for by the `sslmode` of `server`, and not looked at otherwise.
///
/// **Errors** are one line, without user or password. **Blocks** up to `within`.
pub async fn connect(
    server: &Config,
    tls: Option<&Arc<ClientConfig>>,
    within: Duration,
) -> Result<Client, String> {
    Hosts::new(server, tls).connect(within).await
}

/// The servers of one URL.
pub(super) struct Hosts {
    /// Each with one server.
    configs: Vec<Config>,
    tls: Option<MakeRustlsConnect>,
    /// The one that the newest session is at.
    current: AtomicUsize,
}

impl Hosts {
    pub(super) fn new(server: &Config, tls: Option<&Arc<ClientConfig>>) -> Self {
        let count = server.get_hosts().len().max(server.get_hostaddrs().len());
        Self {
            configs: (0..count).map(|index| alone(server, index)).collect(),
            tls: tls.map(|tls| MakeRustlsConnect::new(ClientConfig::clone(tls))),
            current: AtomicUsize::new(usize::MAX),
        }
    }

    /// Opens a session at the first server that fits.
    pub(super) async fn connect(&self, within: Duration) -> Result<Client, String> {
        let open = |index| async move { self.open(index).await.map_err(|error| chain(&error)) };
        self.first(within, open).await
    }

    /// As [`Hosts::connect`], and gives the socket of the session alone.
    pub(super) async fn dial(&self, within: Duration) -> Result<Socket, String> {
        self.first(within, |index| dial(&self.configs[index], self.tls.as_ref())).await
    }

    /// What `open` gives for the first server for which it succeeds.
    async fn first<T, F>(&self, within: Duration, open: impl Fn(usize) -> F) -> Result<T, String>
    where
        F: Future<Output = Result<T, String>>,
    {
        let (end, count) = (Instant::now() + within, self.configs.len());
        let mut said = Vec::new();
        for (asked, index) in self.order().enumerate() {
            let left = end.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(count - asked).unwrap_or(u32::MAX);
            match timeout(share, open(index)).await {
                Ok(Ok(opened)) => {
                    self.arrive(index);
                    return Ok(opened);
                }
                Ok(Err(error)) => said.push((index, error)),
                Err(_) => said.push((index, format!("it does not answer for {share:.1?}"))),
            }
        }
        Err(self.summary(said))
    }

    /// Connects to the server that the newest session is at, whatever it is good for by now.
    pub(super) async fn reach(&self) -> Result<Client, tokio_postgres::Error> {
        let current = self.current.load(Ordering::Relaxed);
        self.open(if current < self.configs.len() { current } else { 0 }).await
    }

    async fn open(&self, index: usize) -> Result<Client, tokio_postgres::Error> {
        let config = &self.configs[index];
        match &self.tls {
            Some(tls) => open(config, tls.clone()).await,
            None => open(config, NoTls).await,
        }
    }

    /// In which order they are asked; one that the lot decides where the URL wants that.
    fn order(&self) -> impl Iterator<Item = usize> + use<> {
        let count = self.configs.len();
        let balance = self.configs.first().map(Config::get_load_balance_hosts);
        let first = match balance {
            // From the system: a generator in memory would be the same in every worker.
            Some(LoadBalanceHosts::Random) => uuid::Uuid::new_v4().as_u64_pair().0 as usize % count,
            _ => 0,
        };
        (first..count).chain(0..first)
    }

    /// With several servers it is worth a line which one it is now.
    fn arrive(&self, index: usize) {
        let before = self.current.swap(index, Ordering::Relaxed);
        if self.configs.len() > 1 && before != index {
            info!(server = address(&self.configs[index]), "connected to the database");
        }
    }

    /// What was said; by whom, where there are several.
    fn summary(&self, said: Vec<(usize, String)>) -> String {
        let by = |(index, said)| match self.configs.len() {
            1 => said,
            _ => format!("{}: {said}", address(&self.configs[index])),
        };
        let said: Vec<String> = said.into_iter().map(by).collect();
        if said.is_empty() { "the URL names no server".to_owned() } else { said.join(", ") }
    }
}

async fn open<T>(config: &Config, tls: T) -> Result<Client, tokio_postgres::Error>
where
    T: MakeTlsConnect<tokio_postgres::Socket>,
    T::Stream: Send + 'static,
{
    let (client, connection) = config.connect(tls).await?;
    // Ends with the client; its errors reach the client too.
    tokio::spawn(async move { drop(connection.await) });
    Ok(client)
}

/// The configuration with one of its servers only. tokio-postgres lets nobody take one away.
fn alone(all: &Config, index: usize) -> Config {
    let mut one = without_servers(all);
    match all.get_hosts().get(index) {
        Some(Host::Tcp(name)) => _ = one.host(name),
        Some(Host::Unix(folder)) => _ = one.host_path(folder),
        None => {}
    }
    if let Some(addr) = all.get_hostaddrs().get(index) {
        one.hostaddr(*addr);
    }
    if let Some(port) = all.get_ports().get(index).or(all.get_ports().first()) {
        one.port(*port);
    }
    one
}

fn without_servers(all: &Config) -> Config {
    let mut bare = Config::new();
    bare.keepalives(all.get_keepalives())
        .keepalives_idle(all.get_keepalives_idle())
        .ssl_mode(all.get_ssl_mode())
        .ssl_negotiation(all.get_ssl_negotiation())
        .channel_binding(all.get_channel_binding())
        .target_session_attrs(all.get_target_session_attrs())
        .load_balance_hosts(all.get_load_balance_hosts());
    // What is not given stays so.
    _ = [
        all.get_user().map(|user| _ = bare.user(user)),
        all.get_password().map(|password| _ = bare.password(password)),
        all.get_dbname().map(|name| _ = bare.dbname(name)),
        all.get_options().map(|options| _ = bare.options(options)),
        all.get_application_name().map(|name| _ = bare.application_name(name)),
        all.get_connect_timeout().map(|limit| _ = bare.connect_timeout(*limit)),
        all.get_tcp_user_timeout().map(|limit| _ = bare.tcp_user_timeout(*limit)),
        all.get_keepalives_interval().map(|pause| _ = bare.keepalives_interval(pause)),
        all.get_keepalives_retries().map(|count| _ = bare.keepalives_retries(count)),
    ];
    bare
}

/// Where the servers are, for the log: hosts and ports, nothing else of the URL.
pub(super) fn address(server: &Config) -> String {
    let ports = server.get_ports();
    let port = |index: usize| ports.get(index).or(ports.first()).copied().unwrap_or(5432);
    let hosts = server.get_hosts();
    let addresses = server.get_hostaddrs().iter().skip(hosts.len());
    let names = hosts.iter().enumerate().map(|(index, host)| match host {
        Host::Tcp(name) => format!("{name}:{}", port(index)),
        Host::Unix(folder) => format!("{}/.s.PGSQL.{}", folder.display(), port(index)),
    });
    let unnamed = addresses.enumerate().map(|(index, ip)| format!("{ip}:{}", port(index)));
    names.chain(unnamed).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_alone_keeps_every_option() {
        let given: Config = "user=ann password=x dbname=shop options='-c jit=off' \
            application_name=a sslmode=require sslnegotiation=direct host=db hostaddr=10.0.0.1 \
            port=5433 connect_timeout=7 tcp_user_timeout=8 keepalives=0 keepalives_idle=9 \
            keepalives_interval=10 keepalives_retries=11 target_session_attrs=read-write \
            channel_binding=require load_balance_hosts=random"
            .parse()
            .unwrap();
        assert_eq!(alone(&given, 0), given);
        let bare: Config = "host=/run/pg".parse().unwrap();
        assert_eq!(alone(&bare, 0), bare);
    }

    #[test]
    fn each_server_has_its_own_port() {
        let config = |text: &str| text.parse::<Config>().unwrap();
        let all = config("host=a,/run/b port=1,2 user=u");
        assert_eq!(alone(&all, 1), config("host=/run/b port=2 user=u"));
        let all = config("hostaddr=10.0.0.1,10.0.0.2 port=7");
        assert_eq!(alone(&all, 1), config("hostaddr=10.0.0.2 port=7"));
    }

    #[test]
    fn the_lot_decides_who_is_first_and_nobody_is_left_out() {
        let hosts = |text: &str| Hosts::new(&text.parse().unwrap(), None);
        let plain = hosts("host=a,b,c");
        assert_eq!(plain.order().collect::<Vec<_>>(), [0, 1, 2]);
        let random = hosts("host=a,b,c load_balance_hosts=random");
        let mut firsts = [false; 3];
        for _ in 0..200 {
            let mut order: Vec<usize> = random.order().collect();
            firsts[order[0]] = true;
            order.sort_unstable();
            assert_eq!(order, [0, 1, 2]);
        }
        assert_eq!(firsts, [true; 3]);
    }

    #[test]
    fn an_address_holds_no_secret() {
        let address = |text: &str| address(&text.parse().unwrap());
        assert_eq!(address("postgres://ann:secret@db.example:6432/shop"), "db.example:6432");
        assert_eq!(address("host=a,/run/b port=1,2"), "a:1, /run/b/.s.PGSQL.2");
        assert_eq!(address("hostaddr=10.0.0.1"), "10.0.0.1:5432");
    }

    #[tokio::test]
    async fn a_silent_server_takes_only_its_share_and_each_says_its_part() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = silent.local_addr().unwrap().port();
        let server = format!("host=127.0.0.1,/nonexistent port={port},1 user=ann").parse().unwrap();
        let started = Instant::now();
        let said = connect(&server, None, Duration::from_millis(400)).await.unwrap_err();
        let took = started.elapsed();
        assert!(took < Duration::from_millis(350), "{took:?}");
        assert!(said.contains(&format!("127.0.0.1:{port}: it does not answer for 200")), "{said}");
        assert!(said.contains(", /nonexistent/.s.PGSQL.1: error connecting"), "{said}");
    }
}
