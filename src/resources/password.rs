//! A user's password: changing it, and what a login is checked against.
//!
//! | route | success | its own problems |
//! |---|---|---|
//! | `PUT /users/{pubid}/password` `{current, new}` | 204 | 401, 403 (wrong `current`), 412, 429 |
//!
//! Checked in this order: the token (401), the id in the path (422), whose it is (403), the
//! conditions (400), the body (422), whether passwords were guessed too often (429), whether the
//! session is over (401), the current password (403), the user's version (412). With the password
//! all other sessions of the user end.
//! Who can read a stored hash, and how long that takes, is in `security::passwords`.

use secrecy::SecretString;
use tracing::warn;
use uuid::Uuid;
use worker::{Conditions, Context, Database, Empty, Json, Path, Routes, Transaction, payload};

use super::{Resource, RowPath};
use crate::app::App;
use crate::callers::{self, Caller};
use crate::errors::{ApiError, CHANGE, OWN, Result, TOO_MANY_TRIES, WRONG_PASSWORD};
use crate::login_limits::Try;
use crate::security::passwords::{self, PasswordPlace, Secret};
use crate::security::tokens::Holder;
use crate::sessions;
use crate::versions::Expected;

pub(super) const RESOURCE: Resource = Resource {
    chapter: ("users", ""),
    routes,
    tables: &[],
    statements: statements![
        SELECT_HASH,
        SELECT_CREDENTIALS,
        SELECT_HASH_FOR_UPDATE,
        UPDATE_HASH,
        UPGRADE_HASH,
    ],
};

fn routes(routes: &mut Routes<App>) {
    routes
        .put("/users/{pubid}/password", "users-password", change)
        .about("Change a user's password")
        .fails(&[OWN, CHANGE].concat())
        .fails(&[&WRONG_PASSWORD, &TOO_MANY_TRIES]);
}

// Payload

payload! {
    struct ChangePassword {
        current: SecretString = required(Secret::to_compare()),
        new: SecretString = required(Secret::new_password()),
    }
}

// Handler

async fn change(
    cx: Context<App>,
    path: Path<RowPath>,
    conditions: Conditions,
    body: Json<ChangePassword>,
) -> Result<Empty> {
    let caller = callers::caller(&cx)?.must_be(path.read()?.pubid)?; // 401, 422, 403
    let expected = Expected::of(&conditions)?; // 400
    let payload = body.read().await?;
    let database = cx.app().database.clone();
    // Goes on when the client has left: a try that has begun is told how it ended.
    let to_its_end = async move {
        let mut guess = Try::begin(&cx, &caller.user.to_string()).await?;
        let done =
            change_as(&cx.app().database, &mut guess.place, caller, &expected, &payload).await;
        guess.ended(&cx, &done).await;
        done
    };
    database.to_its_end(to_its_end).await
}

async fn change_as(
    database: &Database,
    place: &mut PasswordPlace,
    caller: Caller,
    expected: &Expected,
    payload: &ChangePassword,
) -> Result<Empty> {
    // A login may store the same password, hashed anew, after the hash was read here: so once more.
    let done = try_change(database, place, caller, expected, payload).await?
        || try_change(database, place, caller, expected, payload).await?;
    if done { Ok(Empty) } else { Err(ApiError::WrongPassword) }
}

/// Whether the hash was still the one that `current` was compared with, and is replaced.
async fn try_change(
    database: &Database,
    place: &mut PasswordPlace,
    caller: Caller,
    expected: &Expected,
    payload: &ChangePassword,
) -> Result<bool> {
    let ChangePassword { current, new } = payload;
    let stored = select_hash(database, caller).await?.ok_or(ApiError::LoggedOut)?;
    let new_hash = place.replace(current.clone(), stored.clone(), new.clone()).await?;
    let new_hash = new_hash.ok_or(ApiError::WrongPassword)?;
    replace_hash(database, caller, expected.clone(), stored, new_hash).await
}

// Queries

const SELECT_HASH: &str = r#"
    select password_hash from "user" where id = (select user_id from session where id = $1)"#;

/// The caller's hash, if their session is not over, and if there is a hash.
async fn select_hash(database: &Database, caller: Caller) -> Result<Option<Option<String>>> {
    let Caller { user, session } = caller;
    let Some(row) = database.row(SELECT_HASH, &[&session]).await? else { return Ok(None) };
    let hash = row.get::<Option<String>>("password_hash");
    Ok(Some(hash.filter(|hash| is_readable(user, hash))))
}

const SELECT_CREDENTIALS: &str = r#"select id, password_hash from "user" where name = $1"#;

/// The user of this name, and the hash that a login is checked against. For `auth`.
pub(super) async fn select_credentials(
    database: &Database,
    name: &str,
) -> Result<Option<(Uuid, Option<String>)>> {
    let Some(row) = database.row(SELECT_CREDENTIALS, &[&name]).await? else { return Ok(None) };
    let (id, hash) = (row.get("id"), row.get::<Option<String>>("password_hash"));
    Ok(Some((id, hash.filter(|hash| is_readable(id, hash)))))
}

/// A hash that cannot be read lets nobody in, as if there were none; the log says whose it is.
fn is_readable(user: Uuid, hash: &str) -> bool {
    let readable = passwords::is_readable(hash);
    if !readable {
        warn!(%user, "the stored password hash is of a kind that cannot be read: no login");
    }
    readable
}

/// The lock keeps logins out until the password is another one, see `sessions`.
const SELECT_HASH_FOR_UPDATE: &str = r#"
    select password_hash, version from "user"
    where id = $1 and exists (select from session where id = $2) for update"#;

const UPDATE_HASH: &str =
    r#"update "user" set password_hash = $2, version = version + 1 where id = $1"#;

/// Only while the hash is still `old`; gives back whether it was. Of two changes at once the later
/// one was compared with a password that is no longer the current one. The passwords were hashed
/// before: no row is locked meanwhile.
async fn replace_hash(
    database: &Database,
    caller: Caller,
    expected: Expected,
    old: Option<String>,
    new: String,
) -> Result<bool> {
    let Caller { user, session } = caller;
    database
        .transaction(async move |tx: &Transaction<'_>| {
            let row = tx.row(SELECT_HASH_FOR_UPDATE, &[&user, &session]).await?;
            let row = row.ok_or(ApiError::LoggedOut)?;
            if !expected.includes(row.get("version")) {
                return Err(ApiError::PreconditionFailed);
            }
            if row.get::<Option<String>>("password_hash") != old {
                return Ok(false);
            }
            tx.execute(UPDATE_HASH, &[&user, &new]).await?;
            sessions::end_others(tx, Holder { user, session }).await?;
            Ok(true)
        })
        .await
}

/// A row that somebody else holds is left as it is: a login waits for nobody. It is no change that
/// anybody sees, so the version stays.
const UPGRADE_HASH: &str = r#"
    update "user" set password_hash = $3 where id = (
        select id from "user" where id = $1 and password_hash = $2 for no key update skip locked)"#;

/// Stores the same password hashed anew, unless another one was stored meanwhile or somebody else
/// is writing this user; gives back whether it is stored. For `auth`.
pub(super) async fn upgrade_hash(
    database: &Database,
    id: Uuid,
    old: String,
    new: String,
) -> Result<bool> {
    Ok(database.write(UPGRADE_HASH, (id, old, new)).await? > 0)
}
