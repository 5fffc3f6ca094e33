//! Accounts: what users do with their own: change it, delete it.
//!
//! Checked in this order: the token (401), the id in the path (422), whose it is (403), the
//! conditions (400), the body (422), then the database (404, or 412 where versions were named).

use uuid::Uuid;
use worker::{
    Change, Conditions, Context, Database, Json, MergePatch, Path, Reply, Routes, payload,
};

use super::users::{Answer, FULLNAME, User, select};
use super::{Resource, RowPath};
use crate::app::App;
use crate::callers;
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
    let pubid = callers::caller(&cx)?.must_be(path.read()?.pubid)?; // 401, 422, 403
    let expected = Expected::of(&conditions)?; // 400
    let ReplaceUser { fullname } = body.read().await?;
    Ok(update(&cx.app().database, pubid, &expected, fullname).await?.reply())
}

async fn patch(
    cx: Context<App>,
    path: Path<RowPath>,
    conditions: Conditions,
    body: MergePatch<PatchUser>,
) -> Answer {
    let pubid = callers::caller(&cx)?.must_be(path.read()?.pubid)?; // 401, 422, 403
    let expected = Expected::of(&conditions)?; // 400
    let PatchUser { fullname } = body.read().await?;
    let database = &cx.app().database;
    let user = match fullname {
        Change::Keep => expected.allow(select(database, pubid).await)?,
        Change::Clear => update(database, pubid, &expected, None).await?,
        Change::Set(fullname) => update(database, pubid, &expected, Some(fullname)).await?,
    };
    Ok(user.reply())
}

async fn delete(
    cx: Context<App>,
    path: Path<RowPath>,
    conditions: Conditions,
) -> Result<Reply<()>> {
    let pubid = callers::caller(&cx)?.must_be(path.read()?.pubid)?; // 401, 422, 403
    let expected = Expected::of(&conditions)?; // 400
    let (database, (versions, is_one)) = (&cx.app().database, expected.versions());
    match database.write(DELETE, (pubid, versions, is_one)).await? {
        0 => Err(why_not(database, pubid, &expected).await),
        _ => Ok(Reply(())),
    }
}

// Queries

const UPDATE: &str = r#"
    update "user" set fullname = $2, version = version + 1
    where id = $1 and (version = any($3)) = $4
    returning id, name, fullname, version"#;

async fn update(
    database: &Database,
    id: Uuid,
    expected: &Expected,
    fullname: Option<String>,
) -> Result<Versioned<User>> {
    let (versions, is_one) = expected.versions();
    match database.write_row(UPDATE, (id, fullname, versions, is_one)).await? {
        Some(row) => Ok(Versioned::from_row(&row, User::from_row)),
        None => Err(why_not(database, id, expected).await),
    }
}

const DELETE: &str = r#"delete from "user" where id = $1 and (version = any($2)) = $3"#;

async fn why_not(database: &Database, id: Uuid, expected: &Expected) -> ApiError {
    expected.why_not(select(database, id).await, |_| true)
}
