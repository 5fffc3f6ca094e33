//! Accounts: what users do with their own: change it, delete it.
//!
//! Checked in this order: the token (401), the id in the path (422), whose it is (403), the
//! condition (400), the body (422), then the database (404, or 412 where a version was named).

use uuid::Uuid;
use worker::{Change, Context, Database, IfMatch, Json, Path, Reply, Routes, payload};

use super::Resource;
use super::users::{Answer, FULLNAME, NO_USER, User, UserPath, select};
use crate::app::App;
use crate::callers;
use crate::errors::{CHANGE, ONE, OWN, Result};
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
    path: Path<UserPath>,
    condition: IfMatch,
    body: Json<ReplaceUser>,
) -> Answer {
    let pubid = callers::caller(&cx)?.must_be(path.read()?.pubid)?; // 401, 422, 403
    let expected = Expected::of(&condition)?; // 400
    let ReplaceUser { fullname } = body.read().await?;
    Ok(update(&cx.app().database, pubid, &expected, fullname).await?.reply())
}

async fn patch(
    cx: Context<App>,
    path: Path<UserPath>,
    condition: IfMatch,
    body: Json<PatchUser>,
) -> Answer {
    let pubid = callers::caller(&cx)?.must_be(path.read()?.pubid)?; // 401, 422, 403
    let expected = Expected::of(&condition)?; // 400
    let PatchUser { fullname } = body.read().await?;
    let database = &cx.app().database;
    let user = match fullname {
        Change::Keep => expected.allow(select(database, pubid).await)?,
        Change::Clear => update(database, pubid, &expected, None).await?,
        Change::Set(fullname) => update(database, pubid, &expected, Some(fullname)).await?,
    };
    Ok(user.reply())
}

async fn delete(cx: Context<App>, path: Path<UserPath>, condition: IfMatch) -> Result<Reply<()>> {
    let pubid = callers::caller(&cx)?.must_be(path.read()?.pubid)?; // 401, 422, 403
    let expected = Expected::of(&condition)?; // 400
    match cx.app().database.write(DELETE, (pubid, expected.versions())).await? {
        0 => Err(expected.refusal(NO_USER)),
        _ => Ok(Reply(())),
    }
}

// Queries

const UPDATE: &str = r#"
    update "user" set fullname = $2, version = version + 1
    where id = $1 and ($3::bigint[] is null or version = any($3))
    returning id, name, fullname, version"#;

async fn update(
    database: &Database,
    id: Uuid,
    expected: &Expected,
    fullname: Option<String>,
) -> Result<Versioned<User>> {
    let row = database.write_row(UPDATE, (id, fullname, expected.versions())).await?;
    let row = row.ok_or_else(|| expected.refusal(NO_USER))?;
    Ok(Versioned::from_row(&row, User::from_row))
}

const DELETE: &str = r#"
    delete from "user" where id = $1 and ($2::bigint[] is null or version = any($2))"#;
