//! How often a password may be guessed: 10 failures for a name from one address, 100 from one
//! address whatever the name, in 15 minutes; then every try is a 429 until those are over.
//!
//! `auth` and `password` begin a [`Try`] before they look at a password, and say how it ended; all of
//! that in a task that runs to its end, whether the client waits or not. The counts are rows, so
//! that all workers and hosts have the same, and they outlive each of them.
//! Promises: a try counts from its beginning, so that of however many at once no more are evaluated
//! than the limit; it counts no longer when it was right or could not be evaluated, and a right
//! password forgets the failures of its name from this address, not those of other addresses. Who
//! is turned away since too many others wait is not counted, and nothing is asked for them.
//! Whether there is such a user makes no difference. A row tells neither a name nor an address: it
//! is found by an HMAC of them, since people type passwords into the field for names.
//! Only a worker that is killed, or a database that is away, leaves a try counted that has not
//! failed.
//! Does not know: users, or what a password is.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use tracing::warn;
use worker::{Context, Database, DbError, Row};

use crate::addresses;
use crate::app::App;
use crate::errors::{ApiError, Result};
use crate::resources::Statement;
use crate::security::passwords::PasswordPlace;

migrations::table! {
    /// When tries begin to count anew.
    pub(crate) struct Tries: "login_tries" from Row<'_> {
        until: SystemTime = "timestamptz not null",
    }
    unread key: Vec<u8> = "bytea primary key";
    unread count: i16 = "smallint not null";
    unread count_max: i16 =
        "smallint not null constraint login_tries_over check (count <= count_max)";
    also "create index login_tries_until_idx on login_tries (until)";
}

/// When tries to log in are limited: what this worker looks at now. For the clients' sake only: what
/// is refused the rows decide.
#[derive(Default)]
pub struct LoginLimits {
    /// Those that only this list holds have ended.
    looked_at: RefCell<Vec<Rc<Keys>>>,
}

impl LoginLimits {
    /// In how many seconds more are evaluated, where the limit is reached: soon, if that is because of
    /// tries that have not ended; we know of those of this worker.
    async fn over(&self, database: &Database, keys: &Keys) -> Result<Option<u64>> {
        let rows = database.rows(SELECT_OVER, &[&keys.name, &keys.address]).await?;
        let wait_s = |row: &Row<'_>| match self.is_looked_at(&row.get::<Vec<u8>>("key")) {
            true => SOON_S,
            false => left_s(Tries::from_row(row).until, row.get("now")),
        };
        Ok(rows.read(wait_s).into_iter().max())
    }

    /// The tries of this name and address are looked at until what is given back is dropped.
    fn look(&self, keys: Keys) -> Rc<Keys> {
        let keys = Rc::new(keys);
        let mut looked_at = self.looked_at.borrow_mut();
        looked_at.retain(|keys| Rc::strong_count(keys) > 1);
        looked_at.push(Rc::clone(&keys));
        keys
    }

    /// Whether one that counts under this key may end well.
    fn is_looked_at(&self, key: &[u8]) -> bool {
        let looked_at = self.looked_at.borrow();
        let mut open = looked_at.iter().filter(|keys| Rc::strong_count(keys) > 1);
        open.any(|keys| keys.name == key || keys.address == key)
    }
}

/// A password that is being looked at.
pub struct Try {
    /// Where it waits to be compared.
    pub place: PasswordPlace,
    /// None where nothing is limited.
    keys: Option<Rc<Keys>>,
}

/// Where it is counted.
struct Keys {
    /// For this name, from this address.
    name: Vec<u8>,
    /// From this address.
    address: Vec<u8>,
}

/// A client whose tries are over the limit only until others have ended may come again soon.
const SOON_S: u64 = 1;

impl Try {
    /// Takes a place in the queue for a try to log in under this name, and counts it.
    ///
    /// **Errors**: `Busy`, where too many others wait; `TooManyTries`, where no more are evaluated.
    pub async fn begin(cx: &Context<App>, name: &str) -> Result<Self> {
        let App { login_limits, passwords, database, .. } = cx.app();
        let Some(limits) = login_limits else {
            return Ok(Self { place: passwords.place()?, keys: None });
        };
        passwords.must_have_a_place()?;
        let keys = Keys::of(cx, name);
        // Who is over the limit already has nothing written, and takes nobody's place.
        if let Some(retry_after_s) = limits.over(database, &keys).await? {
            return Err(ApiError::TooManyTries { retry_after_s });
        }
        let place = passwords.place()?;
        let keys = limits.look(keys);
        match database.write(COUNT, (keys.name.clone(), keys.address.clone())).await {
            Ok(_) => Ok(Self { place, keys: Some(keys) }),
            // It was not a moment ago: others are looked at.
            Err(DbError::Constraint { name, .. }) if name == "login_tries_over" => {
                Err(ApiError::TooManyTries { retry_after_s: SOON_S })
            }
            Err(other) => Err(other.into()),
        }
    }

    /// Says how it ended. A wrong password stays counted.
    pub async fn ended<T>(self, cx: &Context<App>, how: &Result<T>) {
        let Self { place, keys } = self;
        drop(place);
        let Some(keys) = keys else { return };
        let is_right = match how {
            Ok(_) => true,
            Err(ApiError::WrongCredentials | ApiError::WrongPassword) => return,
            Err(_) => false,
        };
        let forgotten = (keys.name.clone(), keys.address.clone(), is_right);
        if let Err(error) = cx.app().database.write(FORGET, forgotten).await {
            let request_id = cx.request_id();
            warn!(%error, request_id, "a login that was no failure counts as one");
        }
    }
}

impl Keys {
    fn of(cx: &Context<App>, name: &str) -> Self {
        let App { trusted_proxies, fingerprints, .. } = cx.app();
        let client = addresses::client(cx, trusted_proxies);
        let network =
            client.map_or("unix:".to_owned(), |client| addresses::site(client).to_string());
        Self {
            name: fingerprints.of_try(&network, Some(name)),
            address: fingerprints.of_try(&network, None),
        }
    }
}

/// From one clock, the database's.
fn left_s(until: SystemTime, now: SystemTime) -> u64 {
    until.duration_since(now).unwrap_or(Duration::ZERO).as_secs() + 1
}

// Queries

const SELECT_OVER: &str = "
    select key, until, now() as now from login_tries
    where key in ($1, $2) and count >= count_max and until > now()";

/// Both or neither: the one that is over breaks the table's own rule. The order keeps two from
/// waiting for each other.
const COUNT: &str = "
    insert into login_tries as kept (key, count, count_max, until)
    select key, 1, count_max, now() + interval '15 minutes'
    from (values ($1::bytea, 10), ($2::bytea, 100)) as new (key, count_max) order by key
    on conflict (key) do update set
        count = case when kept.until > now() then kept.count + 1 else 1 end,
        count_max =
            case when kept.until > now() then kept.count_max else excluded.count_max end,
        until = case when kept.until > now() then kept.until else excluded.until end";

/// This one try; where it was right, also all others of its name from its address.
const FORGET: &str = "
    update login_tries set count = case when login_tries.key = $1 and $3 then 0 else count - 1 end
    from (select key from login_tries where key in ($1, $2) order by key for update) as held
    where login_tries.key = held.key and count > 0";

/// What is worth preparing.
pub(crate) const STATEMENTS: &[Statement] = &[
    Statement { name: "peace::login_limits::SELECT_OVER", sql: SELECT_OVER },
    Statement { name: "peace::login_limits::COUNT", sql: COUNT },
    Statement { name: "peace::login_limits::FORGET", sql: FORGET },
];
