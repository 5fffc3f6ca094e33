//! Who is there: the users and items that requests are about, and the tokens to write with.
//!
//! In our own database they were put there by a statement; on a server that runs already they are
//! made over its API, and deleted at the end. Called by the conductor; what it answers goes to the
//! generators as [`Rows`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use peace::security::passwords::Passwords;
use secrecy::SecretString;

use crate::api::Api;
use crate::conductor::Halt;
use crate::database::{Database, event_loop};
use crate::scenario::{Rows, Source, Table};
use crate::target::Target;

/// How many users are logged in to write.
pub(crate) const WRITERS_MAX: usize = 32;
/// A login hashes a password, which takes a while when everybody does.
const LIMIT: Duration = Duration::from_secs(30);
/// Clients that log in at the same time.
const CLIENTS: usize = 4;

/// A user and what they log in with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) pubid: String,
    pub(crate) name: String,
    pub(crate) password: String,
}

/// An item and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) pubid: String,
    pub(crate) user: String,
}

/// Some of all users and items.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Population {
    pub(crate) users: Vec<User>,
    pub(crate) items: Vec<Item>,
    /// Those of the users who write.
    pub(crate) writer_items: Vec<Item>,
}

/// What is stored of a password.
///
/// # Errors
/// When it cannot be hashed.
pub(crate) fn hash(password: &str) -> Result<String, String> {
    let passwords = Passwords::start().map_err(|error| error.to_string())?;
    let runtime = event_loop()?;
    let hash = passwords.hash(SecretString::from(password.to_owned()));
    runtime.block_on(hash).map_err(|error| error.to_string())
}

impl Population {
    /// Makes users with items over the API of a server. What was made before a failure or an
    /// interruption is deleted. **Blocks**: every user is a password to hash.
    ///
    /// # Errors
    /// When the server refuses, in one line; when `stop` is set.
    pub(crate) fn create(
        target: &Target,
        users: u32,
        items: u32,
        stop: &AtomicBool,
    ) -> Result<Self, Halt> {
        let api = Api::of(target, LIMIT);
        let mut made = Self::default();
        let ended = made.add(&api, users, items, stop).map_err(|why| {
            Halt::Failed(format!("the load needs users and items, and cannot create them: {why}"))
        });
        let is_interrupted = stop.load(Ordering::Relaxed);
        let ended = if is_interrupted { Err(Halt::Interrupted) } else { ended };
        if ended.is_err() {
            made.delete(target);
        }
        ended.map(|()| made)
    }

    /// Ends early, with what there is, when `stop` is set.
    fn add(&mut self, api: &Api, users: u32, items: u32, stop: &AtomicBool) -> Result<(), String> {
        for number in 0..users {
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let name = format!("load-{:010x}", fastrand::u64(..1 << 40));
            let password = format!("{:016x}", fastrand::u64(..));
            let pubid = api.create_user(&name, &password)?;
            self.users.push(User { pubid: pubid.clone(), name, password });
            let User { name, password, .. } = &self.users[number as usize];
            let token = api.log_in(name, password)?;
            let theirs = items / users + u32::from(number < items % users);
            for item in 0..theirs {
                if stop.load(Ordering::Relaxed) {
                    return Ok(());
                }
                let item = api.create_item(&format!("load-item-{item}"), &pubid, &token)?;
                self.items.push(Item { pubid: item, user: pubid.clone() });
            }
        }
        let writers: BTreeSet<&str> =
            self.users.iter().take(WRITERS_MAX).map(|user| user.pubid.as_str()).collect();
        let of_writers = self.items.iter().filter(|item| writers.contains(item.user.as_str()));
        self.writer_items = of_writers.cloned().collect();
        Ok(())
    }

    /// Deletes what was made over the API. How many users stay, because the server did not answer.
    pub(crate) fn delete(&self, target: &Target) -> usize {
        let api = Api::of(target, LIMIT);
        let gone = |user: &&User| {
            let token = api.log_in(&user.name, &user.password);
            token.and_then(|token| api.delete_user(&user.pubid, &token)).is_ok()
        };
        self.users.iter().filter(|user| !gone(user)).count()
    }

    /// What the placeholders of a scenario stand for, as far as it needs them: logs in only then.
    ///
    /// # Errors
    /// When nobody can log in, or a statement of the scenario fails.
    pub(crate) fn rows(
        &self,
        needed: &BTreeSet<String>,
        own: &BTreeMap<String, Source>,
        target: &Target,
        database: Option<&Database>,
    ) -> Result<Rows, String> {
        let mut rows = Rows::new();
        for (name, source) in own {
            rows.insert(name.clone(), given(name, source, database)?);
        }
        let is_needed = |name: &str| needed.contains(name);
        if is_needed("user") {
            let users = self.users.iter().map(|one| vec![&one.pubid, &one.name, &one.password]);
            rows.insert("user".to_owned(), table(&["pubid", "name", "password"], users));
        }
        if is_needed("item") {
            let items = self.items.iter().map(|one| vec![&one.pubid, &one.user]);
            rows.insert("item".to_owned(), table(&["pubid", "user"], items));
        }
        if is_needed("writer") || is_needed("writer_item") {
            let tokens = self.log_in(target)?;
            let writers = tokens.iter().map(|(pubid, token)| vec![pubid, token]);
            rows.insert("writer".to_owned(), table(&["pubid", "token"], writers));
            let items = self
                .writer_items
                .iter()
                .filter_map(|one| Some(vec![&one.pubid, &one.user, tokens.get(&one.user)?]));
            rows.insert("writer_item".to_owned(), table(&["pubid", "user", "token"], items));
        }
        Ok(rows)
    }

    /// The tokens of those who write.
    fn log_in(&self, target: &Target) -> Result<BTreeMap<String, String>, String> {
        let api = Api::of(target, LIMIT);
        let writers = &self.users[..self.users.len().min(WRITERS_MAX)];
        let log_in = |users: &[User]| -> Result<Vec<(String, String)>, String> {
            let token =
                |user: &User| Ok((user.pubid.clone(), api.log_in(&user.name, &user.password)?));
            users.iter().map(token).collect()
        };
        let shares = writers.chunks(writers.len().div_ceil(CLIENTS).max(1));
        let tokens = thread::scope(|scope| {
            let clients: Vec<_> = shares.map(|users| scope.spawn(|| log_in(users))).collect();
            let ended = clients.into_iter().map(|client| {
                client.join().unwrap_or_else(|_| Err("a client panicked".to_owned()))
            });
            ended.collect::<Result<Vec<_>, String>>()
        });
        let tokens = tokens.map_err(|why| format!("nobody can log in to write: {why}"))?;
        Ok(tokens.into_iter().flatten().collect())
    }
}

fn given(name: &str, source: &Source, database: Option<&Database>) -> Result<Table, String> {
    match (source, database) {
        (Source::Given { columns, rows }, _) => {
            Ok(Table { columns: columns.clone(), rows: rows.clone() })
        }
        (Source::Sql { sql }, Some(database)) => {
            database.table(sql).map_err(|why| format!("the scenario's rows.{name}: {why}"))
        }
        (Source::Sql { .. }, None) => Err(format!(
            "the scenario's rows.{name} come from a database, and --url has none: write the rows down"
        )),
    }
}

fn table<'a>(columns: &[&str], rows: impl Iterator<Item = Vec<&'a String>>) -> Table {
    Table {
        columns: columns.iter().map(|&name| name.to_owned()).collect(),
        rows: rows.map(|row| row.into_iter().cloned().collect()).collect(),
    }
}
