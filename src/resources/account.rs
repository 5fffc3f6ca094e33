//! Accounts: what users do with their own: change it, delete it.
//!
//! Checked in this order: the token (401), the id in the path (422), whose it is (403), the
//! conditions (400), the body (422), then in the database whether the session is over (401), and
//! whether the version is the one that is meant (412).

use worker::{
    Change, Conditions, Context, Database, Json, MergePatch, Path, Reply, Routes, payload,
};

use super::users::{Answer, FULLNAME, User, select};
use super::{Resource, RowPath};
use crate::app::App;
use crate::callers::{self, Caller};
use crate::errors::{ApiError, CHANGE, ONE, OWN, Result};
use crate::versions::{Expected, Versioned};

pub(super) const RESOURCE: Resource = Resource {
    chapter: ("users", ""),
    routes,
    tables: &[],
    statements: statements![UPDATE, DELETE],
};

fn routes(routes: &mut Routes<App>) {
    let changing = [OWN, ONE, CHANGE].concat();
    routes.put("/users/{pubid}", "users-replace", replace).about("Replace a user").fails(&changing);
    routes.patch("/users/{pubid}", "users-patch", patch).about("Change a user").fails(&changing);
    routes.delete("/users/{pubid}", "users-delete", delete).about("Delete a user").fails(&changing);
}

// Payloads

payload! {
    struct ReplaceUser {
        /// Left out, it is cleared.
        fullname: Option<String> = optional(FULLNAME),
    }

    struct PatchUser: closed {
        /// Left out, it stays; null clears it.
        fullname: Change<String> = change(FULLNAME),
    }
}

// Handlers

async fn replace(
    cx: Context<App>,
    path: Path<RowPath>,
    conditions: Conditions,
    body: Json<ReplaceUser>,
) -> Answer {
    let caller = callers::caller(&cx)?.must_be(path.read()?.pubid)?; // 401, 422, 403
    let expected = Expected::of(&conditions)?; // 400
    let ReplaceUser { fullname } = body.read().await?;
    Ok(update(&cx.app().database, caller, &expected, fullname).await?.reply())
}

async fn patch(
    cx: Context<App>,
    path: Path<RowPath>,
    conditions: Conditions,
    body: MergePatch<PatchUser>,
) -> Answer {
    let caller = callers::caller(&cx)?.must_be(path.read()?.pubid)?; // 401, 422, 403
    let expected = Expected::of(&conditions)?; // 400
    let PatchUser { fullname } = body.read().await?;
    let database = &cx.app().database;
    let user = match fullname {
        Change::Keep => {
            caller.must_be_logged_in(database).await?;
            expected.allow(select(database, caller.user).await)?
        }
        Change::Clear => update(database, caller, &expected, None).await?,
        Change::Set(fullname) => update(database, caller, &expected, Some(fullname)).await?,
    };
    Ok(user.reply())
}

async fn delete(
    cx: Context<App>,
    path: Path<RowPath>,
    conditions: Conditions,
) -> Result<Reply<()>> {
    let caller = callers::caller(&cx)?.must_be(path.read()?.pubid)?; // 401, 422, 403
    let expected = Expected::of(&conditions)?; // 400
    let (database, Caller { user, session }) = (&cx.app().database, caller);
    let (versions, is_one) = expected.versions();
    match database.write(DELETE, (user, versions, is_one, session)).await? {
        0 => Err(why_not(database, caller, &expected).await),
        _ => Ok(Reply(())),
    }
}

// Queries

const UPDATE: &str = r#"
    update "user" set fullname = $2, version = version + 1
    where id = $1 and (version = any($3)) = $4 and exists (select from session where id = $5)
    returning id, name, fullname, version"#;

async fn update(
    database: &Database,
    caller: Caller,
    expected: &Expected,
    fullname: Option<String>,
) -> Result<Versioned<User>> {
    let (Caller { user, session }, (versions, is_one)) = (caller, expected.versions());
    let values = (user, fullname, versions, is_one, session);
    match database.write_row(UPDATE, values).await? {
        Some(row) => Ok(Versioned::from_row(&row, User::from_row)),
        None => Err(why_not(database, caller, expected).await),
    }
}

const DELETE: &str = r#"
    delete from "user" where id = $1 and (version = any($2)) = $3
        and exists (select from session where id = $4)"#;

async fn why_not(database: &Database, caller: Caller, expected: &Expected) -> ApiError {
    match caller.must_be_logged_in(database).await {
        Ok(()) => expected.why_not(select(database, caller.user).await, |_| true),
        Err(logged_out) => logged_out,
    }
}
