//! Opens sessions: how bb8 gets its connections, and the rule that nobody hammers a server.
//!
//! Called by bb8 (through [`ManageConnection`]) and by the pool (to ask whether a silent server
//! lives); calls `hosts`, which knows the servers.
//! Promises: one try at a time, each under a deadline; in the long run a server that refuses hears
//! about five a second, and one that does not, twenty; bb8 is told when a session exists or the pool is
//! closed, and not before, since it would give up; the lane takes no turn that the pool needs, and no
//! session of a server that was given up meanwhile is taken; the check at check-out is local, so it costs no
//! round trip.
//! Does not know: who asks, or what the statements it prepares mean.

use std::{rc::Rc, sync::Arc, time::Duration};

use bb8::{ErrorSink, ManageConnection};
use futures_util::future::join_all;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep_until, timeout},
};
use tokio_postgres::{Client, config::TargetSessionAttrs};

use super::{
    config::DatabaseConfig,
    error::{DbError, chain, leaves_session_usable},
    hosts::Hosts,
    is_select,
    link::Link,
    session::{Prepared, Session},
    wire::{Driver, Wire},
};

/// How long a server that was silent may take to prove that it lives.
const PROBE_TIMEOUT: Duration = Duration::from_millis(1500);

/// Between tries that succeed, in the long run: sessions that somebody keeps ending are replaced sooner
/// than they are missed.
const GAP: Duration = Duration::from_millis(50);

/// What is needed to open a session.
pub(super) struct Connector {
    hosts: Hosts,
    warm: Vec<&'static str>,
    transaction_pooler: bool,
    connect_timeout: Duration,
    must_write: bool,
    link: Arc<Link>,
    turn: Mutex<Pace>,
}

impl Connector {
    pub(super) fn new(config: &DatabaseConfig, link: Arc<Link>) -> Self {
        Self {
            hosts: Hosts::new(&config.session(), config.tls.as_ref()),
            warm: config.warm.clone(),
            transaction_pooler: config.transaction_pooler,
            connect_timeout: config.connect_timeout,
            must_write: config.server.get_target_session_attrs() == TargetSessionAttrs::ReadWrite,
            link,
            turn: Mutex::new(Pace::new(config.pool_size + 1)),
        }
    }

    /// Opens a session for one caller at a time, however many tries it takes.
    async fn open_session(&self) -> Session {
        let _opening = self.link.open_for_pool();
        let open = || async {
            let era = self.link.era();
            let client = self.hosts.connect(self.connect_timeout).await?;
            let prepared = match self.transaction_pooler {
                true => None,
                false => Some(self.prepare_warm(&client).await?),
            };
            Session::new(client, prepared, Arc::clone(&self.link), era, self.must_write)
        };
        loop {
            if let Some(session) = self.try_once(open).await {
                return session;
            }
        }
    }

    /// Opens a session for the lane, however many tries it takes. The pool, which can do all that the
    /// lane can, comes first: while it lacks a session nothing is tried here.
    pub(super) async fn open_wire(&self) -> (Rc<Wire>, Driver) {
        let reads: Vec<_> = self.warm.iter().copied().filter(|sql| is_select(sql)).collect();
        let open = || async {
            let era = self.link.era();
            let socket = self.hosts.dial(self.connect_timeout).await?;
            Wire::open(socket, &reads, &self.link, era).await
        };
        loop {
            self.link.pool_full().await;
            tokio::select! {
                biased;
                () = self.link.pool_short() => {}
                opened = self.try_once(open) => if let Some(opened) = opened { return opened },
            }
        }
    }

    /// Tries once, one caller after the other, and reports a failure.
    async fn try_once<T, F>(&self, open: impl Fn() -> F) -> Option<T>
    where
        F: Future<Output = Result<T, String>>,
    {
        let mut pace = self.turn.lock().await;
        let limit = self.connect_timeout;
        sleep_until(pace.next_try(Instant::now())).await;
        let opened = timeout(limit, open()).await;
        match opened.unwrap_or_else(|_| Err(format!("no connection within {limit:?}"))) {
            Ok(opened) => Some(opened),
            Err(cause) => {
                self.link.connect_failed(&cause);
                pace.failed(Instant::now());
                None
            }
        }
    }

    /// Prepares the hot statements, all in one round trip. One that the server refuses stays cold:
    /// the requests that need it will learn why, the others must not suffer.
    async fn prepare_warm(&self, client: &Client) -> Result<Prepared, String> {
        let answers = join_all(self.warm.iter().map(|sql| client.prepare(sql))).await;
        let mut prepared = Prepared::with_capacity(answers.len());
        for (sql, answer) in self.warm.iter().zip(answers) {
            match answer {
                Ok(statement) => _ = prepared.insert(sql, statement),
                Err(error) if leaves_session_usable(&error) => {
                    self.link.report(&format!("a statement stays unprepared: {}", chain(&error)));
                }
                Err(error) => return Err(chain(&error)),
            }
        }
        Ok(prepared)
    }

    /// Asks a server that was silent whether it lives, over a connection of its own. Any answer
    /// counts, also a refusal; another server's does not.
    pub(super) async fn probe(&self) -> Result<(), String> {
        match timeout(PROBE_TIMEOUT, self.hosts.reach()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) if error.as_db_error().is_some() => Ok(()),
            Ok(Err(error)) => Err(chain(&error)),
            Err(_) => Err("the server fell silent".to_owned()),
        }
    }
}

/// The connector as bb8 wants to hold it.
pub(super) struct Manager(pub(super) Arc<Connector>);

impl ManageConnection for Manager {
    type Connection = Session;
    type Error = DbError;

    async fn connect(&self) -> Result<Session, DbError> {
        tokio::select! {
            biased;
            () = self.0.link.closed() => Err(DbError::unavailable("the pool is closed")),
            session = self.0.open_session() => Ok(session),
        }
    }

    async fn is_valid(&self, session: &mut Session) -> Result<(), DbError> {
        match session.is_reusable() {
            true => Ok(()),
            false => Err(DbError::unavailable("an idle connection had ended")),
        }
    }

    fn has_broken(&self, session: &mut Session) -> bool {
        !session.is_reusable()
    }
}

/// Where bb8 reports what concerns no caller: sessions that ended while they were idle.
#[derive(Clone, Debug)]
pub(super) struct Reporter(pub(super) Arc<Link>);

impl ErrorSink<DbError> for Reporter {
    fn sink(&self, error: DbError) {
        if !self.0.is_closed() {
            self.0.report(&error.to_string());
        }
    }

    fn boxed_clone(&self) -> Box<dyn ErrorSink<DbError>> {
        Box::new(self.clone())
    }
}

/// When the next try to connect may start: a pool may be filled at once, then one try per gap, and after
/// a failure a pause.
struct Pace {
    pause: Duration,
    /// How far `booked` may run ahead of the clock.
    burst: Duration,
    booked: Instant,
}

impl Pace {
    fn new(pool_size: u32) -> Self {
        // Workers that lost their server together must not come back in step. Drawn after the
        // fork, from the system and not from a generator in memory.
        let jitter_ms = uuid::Uuid::new_v4().as_u64_pair().0 % 60;
        let pause = Duration::from_millis(210 + jitter_ms);
        Self { pause, burst: GAP * pool_size, booked: Instant::now() }
    }

    /// Books a try; gives the instant at which it may start.
    fn next_try(&mut self, now: Instant) -> Instant {
        let start = self.booked.checked_sub(self.burst).map_or(now, |earliest| earliest.max(now));
        self.booked = self.booked.max(now) + GAP;
        start
    }

    fn failed(&mut self, now: Instant) {
        self.booked = now + self.burst + self.pause;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_filled_at_once() {
        let mut pace = Pace::new(4);
        let now = pace.booked;
        for _ in 0..4 {
            assert_eq!(pace.next_try(now), now);
        }
    }

    #[test]
    fn tries_are_spread_in_the_long_run() {
        let mut pace = Pace::new(4);
        let begin = pace.booked;
        let mut now = begin;
        for _ in 0..100 {
            now = pace.next_try(now);
        }
        assert!(now - begin >= GAP * 94, "{:?}", now - begin);
    }

    #[test]
    fn a_failure_is_followed_by_one_pause() {
        let mut pace = Pace::new(4);
        let now = pace.booked;
        pace.next_try(now);
        pace.failed(now);
        assert_eq!(pace.next_try(now), now + pace.pause);
        pace.failed(now + pace.pause);
        assert_eq!(pace.next_try(now + pace.pause), now + pace.pause * 2);
    }

    #[test]
    fn at_most_five_tries_a_second_fail() {
        assert!(Pace::new(1).pause >= Duration::from_millis(200));
    }
}
