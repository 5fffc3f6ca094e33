//! Empty databases on a real server, which tells there what SQL means.
//!
//! `check`, `drift`, `generate`, `adopt` and the dry run work in them; it calls `session`, and
//! `stop` for what is left to do.
//! It promises that nothing runs in a database that is not its own: one it has made, whose name
//! says so, or one that it was given and found empty. Every one it made is dropped at the end, and a
//! given one is empty again, also after an error or a signal. What a killed run left of its own is
//! dropped by the next one; in a given database nothing tells it from what somebody has put there
//! since. The schema that unqualified names go to is the one of the server's URL, and is there.
//! It does not know what is made in them.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use crate::database::access::Access;
use crate::database::session::{Param, Session, between};
use crate::error::Error;
use crate::files::sql;
use crate::stop::afterwards;

/// What the name of a database of ours begins with.
const PREFIX: &str = "peace_scratch_";
/// First half of the advisory lock's key; the second is in the names.
const LOCK_CLASS: i32 = i32::from_be_bytes(*b"PSCR");
/// `create database` copies files, `drop database` waits for a checkpoint.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(70);
const PATIENCE_SQL: &str = "set statement_timeout = '60s'";
/// For another run to be done with the one database that both were given.
const TURN_TIMEOUT: Duration = Duration::from_secs(60);
const POLL: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(300));

/// The role's own settings are meant for the application; in an empty database everything is quick;
/// and the session that holds the lock is idle while others work.
const SETTINGS: &str = "-c statement_timeout=20s -c lock_timeout=0 -c idle_session_timeout=0 \
    -c default_transaction_read_only=off";
const PATH_SQL: &str = "select current_setting('search_path')";
const MAY_CREATE_SQL: &str =
    "select rolcreatedb or rolsuper from pg_roles where rolname = current_user";
const TRY_LOCK_SQL: &str = "select pg_try_advisory_lock($1, $2)";
/// Locks are seen over all databases of a server: whoever made one of these lives no more.
const LEFT_SQL: &str = "select datname from pg_database where datname ~ $1 and not exists (\
    select from pg_locks where locktype = 'advisory' and objsubid = 2 and classid = $2::oid \
    and objid = (('x' || substr(datname, $3, 8))::bit(32)::bigint)::oid) \
    and datdba = current_user::regrole";
const FOREIGN_SQL: &str = include_str!("scratch/foreign.sql");
const WIPE_SQL: &str = include_str!("scratch/wipe.sql");

/// Where scratch databases are made.
#[derive(Clone)]
pub(crate) struct Server {
    /// Any database of the server, there or not.
    pub(crate) server: Access,
    /// A database to work in instead, for roles that may not create one.
    pub(crate) given: Option<Access>,
}

/// The right to make scratch databases, until the session ends.
pub(crate) struct Scratch {
    server: Access,
    /// On the server; in the given database.
    session: Session,
    /// The schema that unqualified names go to, quoted.
    home: String,
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
        let scratch = Arc::new(Scratch::open(self).await?);
        let mut watch = Watch(Some(Arc::clone(&scratch)));
        let result = work(&scratch).await;
        let dropped = scratch.drop_all().await;
        watch.0 = None;
        if let Some(scratch) = Arc::into_inner(scratch) {
            scratch.session.close().await;
        }
        result.and_then(|value| dropped.map(|()| value))
    }
}

/// Drops what was made when the work is stopped. By the session that makes it: so a database that
/// is just being made is there by then.
struct Watch(Option<Arc<Scratch>>);

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(scratch) = self.0.take() {
            // What cannot be dropped is left for the next run.
            afterwards(async move { drop(scratch.drop_all().await) });
        }
    }
}

impl Scratch {
    async fn open(server: &Server) -> Result<Self, Error> {
        let access = server.given.as_ref().unwrap_or(&server.server).with_options(SETTINGS);
        let session = match &server.given {
            Some(_) => Session::connect(&access).await.map_err(of_given)?,
            None => connect_somewhere(&access).await?,
        };
        session.execute("setting the timeout", PATIENCE_SQL).await?;
        let path: String = session.query_one("reading search_path", PATH_SQL, &[]).await?.get(0);
        let home = home(&session.schema, &path).ok_or(Error::NoSchema)?;
        let name = match &server.given {
            Some(_) => in_given(&session).await.map(|()| None)?,
            None => on_server(&session).await.map(Some)?,
        };
        // A database may have a path of its own; these are all to have the same.
        let server = access.with_options(&format!("-c search_path={}", escaped(&path)));
        Ok(Self { server, session, home, name, made: AtomicU32::new(0) })
    }

    /// An empty database. In a given one this is the one before, emptied: only the newest is there.
    pub(crate) async fn database(&self) -> Result<Access, Error> {
        let make_home = format!("create schema if not exists {}", self.home);
        let Some(name) = &self.name else {
            self.run("emptying the scratch database", WIPE_SQL).await?;
            self.run("making the home schema", &make_home).await?;
            return Ok(self.server.clone());
        };
        let name = format!("{name}{}", self.made.fetch_add(1, Ordering::Relaxed));
        let sql = format!("create database {name} template template0");
        self.run("creating a scratch database", &sql).await?;
        let access = self.server.within(&name);
        let session = Session::connect(&access).await?;
        let made = prepare(&session, &name, &make_home).await;
        session.close().await;
        made.map(|()| access)
    }

    /// Drops what was made.
    async fn drop_all(&self) -> Result<(), Error> {
        let Some(name) = &self.name else {
            return self.run("emptying the scratch database", WIPE_SQL).await;
        };
        let made = 0..self.made.load(Ordering::Relaxed);
        let names: Vec<String> = made.map(|number| format!("{name}{number}")).collect();
        let (these, those) = names.split_at(names.len().div_ceil(2));
        if those.is_empty() {
            return drop_databases(&self.session, these).await;
        }
        // Each waits for a checkpoint, and drops that begin together share one.
        let Ok(beside) = self.beside().await else {
            return drop_databases(&self.session, &names).await;
        };
        let (these, those) =
            tokio::join!(drop_databases(&self.session, these), drop_databases(&beside, those));
        beside.close().await;
        these.and(those)
    }

    /// A second session like that of the server, if there is room for one.
    async fn beside(&self) -> Result<Session, Error> {
        let session = connect_somewhere(&self.server).await?;
        session.execute("setting the timeout", PATIENCE_SQL).await?;
        Ok(session)
    }

    async fn run(&self, doing: &str, sql: &str) -> Result<(), Error> {
        run(&self.session, doing, sql).await
    }
}

/// The right to databases on a server; returns their name. The lock shows others that their maker
/// lives.
async fn on_server(session: &Session) -> Result<String, Error> {
    let may = session.query_one("looking for the right", MAY_CREATE_SQL, &[]).await?;
    if !may.get::<_, bool>(0) {
        return Err(Error::NoCreateDb);
    }
    let id = loop {
        let random = RandomState::new().hash_one(std::process::id()) >> 32;
        let id = u32::try_from(random).unwrap_or_default();
        if try_lock(session, id.cast_signed()).await? {
            break id;
        }
    };
    drop_what_was_left(session).await?;
    Ok(format!("{PREFIX}{id:08x}_"))
}

async fn drop_what_was_left(session: &Session) -> Result<(), Error> {
    let pattern = format!("^{PREFIX}[0-9a-f]{{8}}_[0-9]+$");
    let digits = i32::try_from(PREFIX.len() + 1).unwrap_or_default();
    let params: [Param<'_>; 3] =
        [(&pattern, Type::TEXT), (&LOCK_CLASS, Type::INT4), (&digits, Type::INT4)];
    for row in session.query("looking for left databases", LEFT_SQL, &params).await? {
        drop_database(session, row.get(0)).await?;
    }
    Ok(())
}

/// The right to a database that was given, one run at a time.
async fn in_given(session: &Session) -> Result<(), Error> {
    let begin = Instant::now();
    while !try_lock(session, 0).await? {
        if begin.elapsed() > TURN_TIMEOUT {
            return Err(Error::ScratchBusy { waited: TURN_TIMEOUT });
        }
        sleep(between(POLL.0, POLL.1)).await;
    }
    match session.query("looking at the scratch database", FOREIGN_SQL, &[]).await?.first() {
        Some(row) => Err(Error::ScratchNotEmpty { object: row.get(0) }),
        None => Ok(()),
    }
}

/// Looks whether this is really the database that was made: behind a proxy any name may lead to
/// somebody's data.
async fn prepare(session: &Session, name: &str, make_home: &str) -> Result<(), Error> {
    let sql = "select current_database()::text";
    let found: String =
        session.query_one("looking at the scratch database", sql, &[]).await?.get(0);
    if found != name {
        return Err(Error::ScratchElsewhere { found });
    }
    run(session, "making the home schema", make_home).await
}

async fn drop_databases(session: &Session, names: &[String]) -> Result<(), Error> {
    for name in names {
        drop_database(session, name).await?;
    }
    Ok(())
}

async fn drop_database(session: &Session, name: &str) -> Result<(), Error> {
    let doing = "dropping a scratch database";
    let plain = format!("drop database if exists {name}");
    // Whoever still works in it was killed, or is told so. An autovacuum worker is nobody's, and only a
    // superuser's force ends it: without force the server itself sends it away, and waits.
    let forced = session.send(DATABASE_TIMEOUT, doing, &format!("{plain} with (force)")).await?;
    match forced {
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            run(session, doing, &plain).await
        }
        forced => forced.map_err(|error| Error::database(doing, &error)),
    }
}

async fn run(session: &Session, doing: &str, sql: &str) -> Result<(), Error> {
    let sent = session.send(DATABASE_TIMEOUT, doing, sql).await?;
    sent.map_err(|error| Error::database(doing, &error))
}

async fn try_lock(session: &Session, id: i32) -> Result<bool, Error> {
    let params: [Param<'_>; 2] = [(&LOCK_CLASS, Type::INT4), (&id, Type::INT4)];
    Ok(session.query_one("taking the scratch lock", TRY_LOCK_SQL, &params).await?.get(0))
}

/// The server counts, not the database of the URL, which may not be there yet.
async fn connect_somewhere(server: &Access) -> Result<Session, Error> {
    match Session::connect(server).await {
        Err(Error::Connect { code: Some(SqlState::INVALID_CATALOG_NAME), .. }) => {
            Session::connect(&server.within("postgres")).await
        }
        other => other,
    }
}

/// It was another variable that named this place.
fn of_given(error: Error) -> Error {
    match error {
        Error::Connect { place, why: reason, code } => {
            let doing = format!("connecting to the database of PEACE_SCRATCH_URL at {place}");
            Error::Database { doing, reason, code }
        }
        other => other,
    }
}

/// The schema that unqualified names go to: the current one or, where none of `path` exists yet,
/// the first that could.
fn home(current: &str, path: &str) -> Option<String> {
    if !current.is_empty() {
        return Some(current.to_owned());
    }
    let names = sql::statements(path).ok()?.into_iter().flatten();
    let mut named = names.map(|name| name.text).filter(|name| !["\"$user\"", ","].contains(name));
    named.next().map(str::to_owned)
}

/// One word of the options.
fn escaped(word: &str) -> String {
    word.replace('\\', "\\\\").replace(' ', "\\ ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_is_where_unqualified_names_go() {
        assert_eq!(home("app", "\"$user\", public").as_deref(), Some("app"));
        assert_eq!(home("", "\"$user\", \"My app\", public").as_deref(), Some("\"My app\""));
        assert_eq!(home("", ""), None);
    }

    #[test]
    fn a_path_is_one_word_of_the_options() {
        assert_eq!(escaped("\"$user\", public"), "\"$user\",\\ public");
    }
}
