//! Empty databases on a real server, which tells there what SQL means.
//!
//! `check`, `drift`, `generate`, `adopt` and the dry run work in them; it calls `session`.
//! It promises that nothing runs in a database that is not its own: one it has made, whose name says so,
//! or one that it was given and found empty. Every one it made is dropped at the end, also after an
//! error or a signal; what a killed run left is dropped by the next one.
//! It does not know what is made in them.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_postgres::Config;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use crate::error::Error;
use crate::session::{Param, Session, between};

/// What the name of a database of ours begins with.
const PREFIX: &str = "peace_scratch_";
/// First half of the advisory lock's key; the second is in the names.
const LOCK_CLASS: i32 = i32::from_be_bytes(*b"PSCR");
/// `create database` copies files, `drop database` waits for a checkpoint.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(60);
/// For another run to be done with the one database that both were given.
const TURN_TIMEOUT: Duration = Duration::from_secs(60);
const POLL: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(300));

const MAY_CREATE_SQL: &str =
    "select rolcreatedb or rolsuper from pg_roles where rolname = current_user";
const TRY_LOCK_SQL: &str = "select pg_try_advisory_lock($1, $2)";
/// Locks are seen over all databases of a server: whoever made one of these lives no more.
const LEFT_SQL: &str = "select datname from pg_database where datname ~ $1 and not exists (\
    select from pg_locks where locktype = 'advisory' and objsubid = 2 and classid = $2::oid \
    and objid = (('x' || substr(datname, $3, 8))::bit(32)::bigint)::oid) \
    and datdba = current_user::regrole";
const FOREIGN_SQL: &str = "select format('%s.%s', nspname, relname) from pg_class \
    join pg_namespace n on n.oid = relnamespace \
    where nspname !~ '^pg_' and nspname <> 'information_schema' and not exists (\
    select from pg_depend where classid = 'pg_class'::regclass and objid = pg_class.oid and deptype = 'e') \
    order by 1 limit 1";
const WIPE_SQL: &str = "do $$ declare one record; begin \
    for one in select extname from pg_extension where extname <> 'plpgsql' loop \
    execute format('drop extension if exists %I cascade', one.extname); end loop; \
    for one in select nspname from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema' loop \
    execute format('drop schema %I cascade', one.nspname); end loop; end $$; create schema public";

/// Where scratch databases are made.
#[derive(Clone)]
pub(crate) struct Server {
    /// Any database of the server.
    pub(crate) server: Config,
    /// A database to work in instead, for roles that may not create one.
    pub(crate) given: Option<Config>,
}

/// The right to make scratch databases, until [`Scratch::close`].
pub(crate) struct Scratch {
    server: Config,
    /// On the server; in the given database.
    session: Session,
    /// The name of the databases without their number; `None` in a given database.
    name: Option<String>,
    made: AtomicU32,
}

impl Server {
    /// Runs `work` with scratch databases, and drops them whatever becomes of it.
    pub(crate) async fn with_scratch<T>(
        &self,
        work: impl AsyncFnOnce(&Scratch) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let scratch = Scratch::open(self).await?;
        let result = work(&scratch).await;
        let closed = scratch.close().await;
        result.and_then(|value| closed.map(|()| value))
    }
}

impl Scratch {
    async fn open(server: &Server) -> Result<Self, Error> {
        match &server.given {
            Some(given) => Self::in_given(given).await,
            None => Self::on_server(&server.server).await,
        }
    }

    /// Works in databases that it makes. The lock shows others that their maker lives.
    async fn on_server(server: &Config) -> Result<Self, Error> {
        let session = open_somewhere(server).await?;
        if !session.query_one("looking for the right", MAY_CREATE_SQL, &[]).await?.get::<_, bool>(0)
        {
            return Err(Error::NoCreateDb);
        }
        let id = loop {
            let id = u32::try_from(RandomState::new().hash_one(std::process::id()) >> 32);
            let id = id.unwrap_or_default();
            if try_lock(&session, id.cast_signed()).await? {
                break id;
            }
        };
        let name = Some(format!("{PREFIX}{id:08x}_"));
        let scratch = Self { server: server.clone(), session, name, made: AtomicU32::new(0) };
        scratch.drop_what_was_left().await?;
        Ok(scratch)
    }

    /// Works in a database that it was given, one run at a time.
    async fn in_given(given: &Config) -> Result<Self, Error> {
        let session = Session::open(given).await?;
        let begin = Instant::now();
        while !try_lock(&session, 0).await? {
            if begin.elapsed() > TURN_TIMEOUT {
                return Err(Error::ScratchBusy { waited: TURN_TIMEOUT });
            }
            sleep(between(POLL.0, POLL.1)).await;
        }
        let foreign = session.query("looking at the scratch database", FOREIGN_SQL, &[]).await?;
        if let Some(row) = foreign.first() {
            return Err(Error::ScratchNotEmpty { object: row.get(0) });
        }
        Ok(Self { server: given.clone(), session, name: None, made: AtomicU32::new(0) })
    }

    /// An empty database. In a given one this is the one before, emptied: only the newest is there.
    pub(crate) async fn database(&self) -> Result<Config, Error> {
        let Some(name) = &self.name else {
            self.run("emptying the scratch database", WIPE_SQL).await?;
            return Ok(self.server.clone());
        };
        let name = format!("{name}{}", self.made.fetch_add(1, Ordering::Relaxed));
        let sql = format!("create database {name} template template0");
        self.run("creating a scratch database", &sql).await?;
        let mut config = self.server.clone();
        config.dbname(&name);
        Ok(config)
    }

    /// Drops what was made and gives the lock back.
    async fn close(self) -> Result<(), Error> {
        let result = self.drop_all().await;
        self.session.close().await;
        result
    }

    async fn drop_all(&self) -> Result<(), Error> {
        let Some(name) = &self.name else {
            return self.run("emptying the scratch database", WIPE_SQL).await;
        };
        for number in 0..self.made.load(Ordering::Relaxed) {
            self.drop_database(&format!("{name}{number}")).await?;
        }
        Ok(())
    }

    async fn drop_what_was_left(&self) -> Result<(), Error> {
        let pattern = format!("^{PREFIX}[0-9a-f]{{8}}_[0-9]+$");
        let digits = i32::try_from(PREFIX.len() + 1).unwrap_or_default();
        let params: [Param<'_>; 3] =
            [(&pattern, Type::TEXT), (&LOCK_CLASS, Type::INT4), (&digits, Type::INT4)];
        let left = self.session.query("looking for left databases", LEFT_SQL, &params).await?;
        for row in left {
            self.drop_database(row.get(0)).await?;
        }
        Ok(())
    }

    async fn drop_database(&self, name: &str) -> Result<(), Error> {
        // Whoever still works in it was killed, or is told so.
        let sql = format!("drop database if exists {name} with (force)");
        self.run("dropping a scratch database", &sql).await
    }

    async fn run(&self, doing: &str, sql: &str) -> Result<(), Error> {
        let sent = self.session.send(DATABASE_TIMEOUT, doing, sql).await?;
        sent.map_err(|error| Error::database(doing, &error))
    }
}

async fn try_lock(session: &Session, id: i32) -> Result<bool, Error> {
    let params: [Param<'_>; 2] = [(&LOCK_CLASS, Type::INT4), (&id, Type::INT4)];
    Ok(session.query_one("taking the scratch lock", TRY_LOCK_SQL, &params).await?.get(0))
}

/// The server counts, not the database of the URL, which may not be there yet.
async fn open_somewhere(server: &Config) -> Result<Session, Error> {
    match Session::open(server).await {
        Err(Error::Connect { code: Some(SqlState::INVALID_CATALOG_NAME), .. }) => {
            Session::open(server.clone().dbname("postgres")).await
        }
        other => other,
    }
}
