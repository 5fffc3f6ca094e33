//! How to get at a database: where it is, as whom, and over which TLS.
//!
//! The application makes one; every room hands it on to `session`, which connects and cancels with
//! it. It calls tokio-postgres.
//! It promises a deadline over each of several servers, so that the next one gets its turn.
//! It does not know a URL or a file.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::task::JoinHandle;
use tokio_postgres::config::Host;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{CancelToken, Client, Config, Error, NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Seen in `pg_stat_activity`.
const APPLICATION_NAME: &str = "peace-migrate";
/// The longest wait for one server's address.
const HOST_TIMEOUT: Duration = Duration::from_secs(5);
/// A dead network is found after about this long, also under a statement that takes an hour.
const NETWORK_TIMEOUT: Duration = Duration::from_secs(30);
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);

/// How to get at a database.
#[derive(Debug, Clone)]
pub struct Access {
    /// Where, and as whom.
    pub config: Config,
    /// Whose certificate is believed; looked at when the `sslmode` of `config` asks for TLS.
    pub tls: Option<Arc<ClientConfig>>,
}

impl From<Config> for Access {
    /// Without TLS.
    fn from(config: Config) -> Self {
        Self { config, tls: None }
    }
}

impl Access {
    /// The same, in the database `name`.
    pub(crate) fn within(&self, name: &str) -> Self {
        let mut other = self.clone();
        other.config.dbname(name);
        other
    }

    /// The same with further settings for every session; they win over those of the role and of the
    /// database.
    pub(crate) fn with_options(&self, more: &str) -> Self {
        let options = format!("{} {more}", self.config.get_options().unwrap_or_default());
        let mut other = self.clone();
        other.config.options(options.trim_start());
        other
    }

    /// Where the server is: hosts and ports, without user and password.
    pub(crate) fn place(&self) -> String {
        let ports = self.config.get_ports();
        let port = |index: usize| ports.get(index).or(ports.first()).copied().unwrap_or(5432);
        let hosts = self.config.get_hosts().iter().enumerate().map(|(index, host)| match host {
            Host::Tcp(name) => format!("{name}:{}", port(index)),
            Host::Unix(folder) => folder.display().to_string(),
        });
        let hosts: Vec<String> = hosts.collect();
        hosts.join(", ")
    }

    /// Opens a connection, and the task that drives it until the client is dropped. The caller
    /// waits up to `within`.
    pub(crate) async fn connect(
        &self,
        within: Duration,
    ) -> Result<(Client, JoinHandle<()>), Error> {
        let config = self.hardened(within);
        match self.rustls() {
            Some(tls) => connect(&config, tls).await,
            None => connect(&config, NoTls).await,
        }
    }

    /// Asks the server to stop what it does for the session of `token`.
    pub(crate) async fn cancel(&self, token: &CancelToken) -> Result<(), Error> {
        match self.rustls() {
            Some(tls) => token.cancel_query(tls).await,
            None => token.cancel_query(NoTls).await,
        }
    }

    fn rustls(&self) -> Option<MakeRustlsConnect> {
        self.tls.as_ref().map(|tls| MakeRustlsConnect::new(ClientConfig::clone(tls)))
    }

    /// Adds what a migration wants of a connection; what the URL says about timeouts stands.
    fn hardened(&self, within: Duration) -> Config {
        let mut config = self.config.clone();
        let hosts = config.get_hosts().len().max(config.get_hostaddrs().len()).max(1);
        let share = within / u32::try_from(hosts).unwrap_or(u32::MAX);
        let host_timeout = config.get_connect_timeout().copied().unwrap_or(HOST_TIMEOUT.min(share));
        let timeout = config.get_tcp_user_timeout().copied().unwrap_or(NETWORK_TIMEOUT);
        config
            .application_name(APPLICATION_NAME)
            .keepalives_idle(KEEPALIVE_IDLE)
            .connect_timeout(host_timeout)
            .tcp_user_timeout(timeout);
        config
    }
}

async fn connect<T>(config: &Config, tls: T) -> Result<(Client, JoinHandle<()>), Error>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let (client, connection) = config.connect(tls).await?;
    // What ends the connection is also the error of the statement then waiting for an answer.
    Ok((client, tokio::spawn(async { drop(connection.await) })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(text: &str) -> Access {
        text.parse::<Config>().unwrap().into()
    }

    #[test]
    fn options_are_added_to_those_of_the_url() {
        let given = access("host=x options='-c jit=off'").with_options("-c a=b");
        assert_eq!(given.config.get_options(), Some("-c jit=off -c a=b"));
        assert_eq!(access("host=x").with_options("-c a=b").config.get_options(), Some("-c a=b"));
    }

    #[test]
    fn every_server_gets_its_turn() {
        let timeout = |text: &str| {
            let config = access(text).hardened(Duration::from_secs(15));
            config.get_connect_timeout().map(Duration::as_secs)
        };
        assert_eq!(timeout("host=a"), Some(5));
        assert_eq!(timeout("host=a,b,c,d,e"), Some(3));
        assert_eq!(timeout("host=a connect_timeout=9"), Some(9));
    }
}
