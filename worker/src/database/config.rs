//! Settings of one worker's pool, and the session settings made from them.
//!
//! Built by the application in the worker's process (only there are slot and generation known),
//! read by every room of `database`. Promises: every wait has a limit, and the server enforces its
//! own from the start-up message, without a round trip; but behind a transaction pooler only ours
//! hold, unless the role has them. Does not know: where a URL comes from.
//!
//! Source: PostgreSQL, "Client Connection Defaults"; tcp(7) for `TCP_USER_TIMEOUT`; PgBouncer,
//! "Feature matrix for pooling modes".

use std::{sync::Arc, time::Duration};

use rustls::ClientConfig;
use tokio_postgres::Config;

/// A peer that is gone is noticed on an idle connection after this long.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
/// And then after this long without an answer to a probe, or to anything sent.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);

/// What `pg_stat_activity` shows behind a transaction pooler.
const POOLED_NAME: &str = "peace";

/// How one worker talks to the database.
#[derive(Clone, Debug)]
pub struct DatabaseConfig {
    /// Where and as whom to connect. Session settings below are laid over it.
    pub server: Config,
    /// Whose certificate is believed; looked at when the `sslmode` of `server` asks for TLS.
    pub tls: Option<Arc<ClientConfig>>,
    /// Shown by `pg_stat_activity`; at most 63 bytes.
    pub application_name: String,
    /// Whether two transactions of one connection may meet two sessions of the server: then no
    /// statement is prepared, nothing is set, and there is no lane.
    pub transaction_pooler: bool,
    /// Connections kept open for one caller at a time, at least 1; one more is the lane.
    pub pool_size: u32,
    /// Statements in flight on the lane; further reads go to the pool.
    pub lane_max: usize,
    /// Callers that may wait for a connection; one more is told to come back.
    pub waiters_max: usize,
    /// Longest wait for a connection.
    pub pool_wait: Duration,
    /// Longest time for one try to connect: TCP, start-up, authentication, preparing `warm`.
    pub connect_timeout: Duration,
    /// Longest time for one statement, enforced by the server; half a second later by us, and behind a
    /// transaction pooler by us alone, unless the role has its own.
    pub statement_timeout: Duration,
    /// Longest time for one run of a transaction, whatever it does between its statements.
    pub transaction_timeout: Duration,
    /// A connection is replaced when it is this old.
    pub connection_lifetime: Duration,
    /// Statements prepared while connecting, all in one round trip.
    pub warm: Vec<&'static str>,
}

impl DatabaseConfig {
    /// The published limits, for the worker of `slot` and `generation`.
    pub fn new(server: Config, slot: u32, generation: u64) -> Self {
        Self {
            server,
            tls: None,
            application_name: format!("peace/{slot}.{generation}"),
            transaction_pooler: false,
            pool_size: 4,
            lane_max: 4096,
            waiters_max: 1024,
            pool_wait: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(3),
            statement_timeout: Duration::from_secs(5),
            transaction_timeout: Duration::from_secs(30),
            // Workers forked in one second must not all reconnect in one second.
            connection_lifetime: Duration::from_secs(30 * 60 + 10 * u64::from(slot)),
            warm: Vec::new(),
        }
    }

    /// When we stop waiting for the answer to one statement: the server's own limit comes first,
    /// and a dead network never answers.
    pub(super) fn answer_timeout(&self) -> Duration {
        self.statement_timeout + Duration::from_millis(500)
    }

    /// What to connect with.
    pub(super) fn session(&self) -> Config {
        let mut session = self.server.clone();
        match self.transaction_pooler {
            // One for all workers: when a session of the server goes to a client of another name, a
            // pooler sets that first, which is a round trip. And it refuses options.
            true => session.application_name(POOLED_NAME),
            false => session.application_name(&self.application_name).options(self.options()),
        };
        session
            .connect_timeout(self.connect_timeout)
            .keepalives(true)
            .keepalives_idle(KEEPALIVE_IDLE)
            .tcp_user_timeout(TCP_USER_TIMEOUT);
        session
    }

    /// The server's own limits, behind the options of the URL. Before them, so that they may say
    /// otherwise: a statement is planned once. Left to itself, the server plans those with `limit $1`
    /// for each page anew, since it takes the limit for a tenth of the table when it does not know it.
    fn options(&self) -> String {
        let limit_ms = self.statement_timeout.as_millis();
        ["-c plan_cache_mode=force_generic_plan"]
            .into_iter()
            .chain(self.server.get_options())
            .map(str::to_owned)
            .chain(
                ["statement_timeout", "idle_in_transaction_session_timeout"]
                    .map(|name| format!("-c {name}={limit_ms}")),
            )
            .collect::<Vec<_>>()
            .join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> DatabaseConfig {
        DatabaseConfig::new(url.parse().unwrap(), 3, 7)
    }

    #[test]
    fn the_session_is_named_and_limited_at_start_up() {
        let session = config("postgres://peace@localhost/peace?options=-c%20jit%3Doff").session();
        assert_eq!(session.get_application_name(), Some("peace/3.7"));
        assert_eq!(
            session.get_options(),
            Some(
                "-c plan_cache_mode=force_generic_plan -c jit=off -c statement_timeout=5000 \
                 -c idle_in_transaction_session_timeout=5000"
            )
        );
    }

    #[test]
    fn nothing_is_set_behind_a_transaction_pooler() {
        let direct = config("postgres://peace@localhost/peace");
        let pooled = DatabaseConfig { transaction_pooler: true, ..direct }.session();
        assert_eq!(pooled.get_application_name(), Some("peace"));
        assert_eq!(pooled.get_options(), None);
    }

    #[test]
    fn lifetimes_differ_between_slots() {
        let server: Config = "host=localhost".parse().unwrap();
        let lifetime = |slot| DatabaseConfig::new(server.clone(), slot, 1).connection_lifetime;
        assert!(lifetime(0) < lifetime(1));
    }

    #[test]
    fn what_is_shown_for_debugging_holds_no_secret() {
        let config = config("postgres://peace:secret@db.example:6432/peace");
        assert!(!format!("{config:?}").contains("secret"));
    }
}
