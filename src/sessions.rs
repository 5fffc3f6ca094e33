//! Sessions: from a login until the user logs out, for 30 days at most.
//!
//! `auth` begins, continues and ends them, `password` ends others', and every statement that writes
//! what is a user's own asks in its WHERE whether the session of the token is there; `callers` asks
//! afterwards why nothing was written.
//! Promises: a session that is over is gone, for all workers at the same moment, and so is one
//! whose user is gone; of those who refresh with one token, on whichever workers, one is given the
//! next; a token that is used again ends its session, so that a thief and a victim cannot both go
//! on. Within the grace after its use it does not: a client that sends twice is no thief. Nothing
//! that is stored opens anything.
//! Does not know: how long an access token is good, or what a password is.
//! Source: RFC 9700 section 4.14 (rotation of refresh tokens).

use std::time::SystemTime;

use tracing::warn;
use uuid::Uuid;
use worker::{Context, Database, Row, Transaction};

use crate::app::App;
use crate::errors::Result;
use crate::resources::Statement;
use crate::security::refresh_tokens::RefreshToken;
use crate::security::tokens::Holder;

migrations::table! {
    /// Whose a session is.
    pub(crate) struct Session: "session" from Row<'_> {
        id: Uuid = "uuid primary key",
        user_id: Uuid = r#"uuid not null references "user" on delete cascade"#,
    }
    // Of the half that all its tokens share, and of the other half of the one that is good.
    unread family_hash: Vec<u8> = "bytea not null unique";
    unread token_hash: Vec<u8> = "bytea not null";
    // The last of those that were used, within the grace before the last one was, and when.
    unread spent: Vec<Vec<u8>> = "bytea[] not null default '{}'";
    unread spent_at: Vec<SystemTime> = "timestamptz[] not null default '{}'";
    unread created: SystemTime = "timestamptz not null default now()";
    unread expires: SystemTime = "timestamptz not null";
    also "create index session_user_id_idx on session (user_id)";
    also "create index session_expires_idx on session (expires)";
}

/// For whoever watches the log: a thief, or a client that is to be mended.
const REUSED: &str = "a refresh token was used again: its session is over";

/// What a login or a refresh gives.
pub struct Granted {
    /// Who may call the API from now on.
    pub holder: Holder,
    /// For the next ones.
    pub refresh_token: RefreshToken,
}

impl Granted {
    fn new(row: &Row<'_>, refresh_token: RefreshToken) -> Self {
        let Session { id, user_id } = Session::from_row(row);
        Self { holder: Holder { user: user_id, session: id }, refresh_token }
    }
}

/// Begins a session of the user whose password fitted `stored`; not if that is another one by now,
/// or the user is gone.
pub async fn begin(database: &Database, user: Uuid, stored: String) -> Result<Option<Granted>> {
    let token = RefreshToken::first();
    let new = (Uuid::now_v7(), user, stored, token.family_hash(), token.hash());
    let row = database.write_row(INSERT, new).await?;
    Ok(row.map(|row| Granted::new(&row, token)))
}

/// Goes on with a session: the token is used, and another one is given for it.
pub async fn refresh(cx: &Context<App>, token: &RefreshToken) -> Result<Option<Granted>> {
    let App { database, refresh_grace, .. } = cx.app();
    let (family, used, grace_s) = (token.family_hash(), token.hash(), refresh_grace.as_secs_f64());
    let next = token.successor();
    let rotation = (family.clone(), used.clone(), next.hash(), grace_s);
    if let Some(row) = database.write_row(ROTATE, rotation).await? {
        return Ok(Some(Granted::new(&row, next)));
    }
    if let Some(row) = database.write_row(DELETE_REUSED, (family, used, grace_s)).await? {
        let Session { id, user_id } = Session::from_row(&row);
        warn!(session = %id, user = %user_id, request_id = cx.request_id(), "{REUSED}");
    }
    Ok(None)
}

/// Whether the session has begun and is not over.
pub async fn is_there(database: &Database, session: Uuid) -> Result<bool> {
    Ok(database.row(SELECT, &[&session]).await?.is_some())
}

/// Ends a session; gives whether it was not over before.
pub async fn end(database: &Database, session: Uuid) -> Result<bool> {
    Ok(database.write(DELETE, (session,)).await? > 0)
}

/// Ends this session and all others of its user; gives whether it was not over before.
pub async fn end_all(database: &Database, session: Uuid) -> Result<bool> {
    Ok(database.write(DELETE_ALL, (session,)).await? > 0)
}

/// Ends all other sessions of the holder.
pub async fn end_others(tx: &Transaction<'_>, holder: Holder) -> Result<u64> {
    Ok(tx.execute(DELETE_OTHERS, &[&holder.user, &holder.session]).await?)
}

// Queries

/// The lock keeps who changes the password out until this is saved, so that they find the session
/// and end it; or it waits for them, and finds another password. A user's oldest sessions give way:
/// a hundred are left, but for some more where several begin at once, who wait for nobody.
const INSERT: &str = r#"
    with begun as (
        insert into session (id, user_id, family_hash, token_hash, expires)
        select $1, id, $4, $5, now() + interval '30 days' from "user"
        where id = $2 and password_hash = $3 for key share
        returning id, user_id),
    given_way as (
        delete from session where id in (
            select id from session where id in (
                select session.id from begun join session using (user_id)
                order by created desc, session.id desc offset 99)
            for update skip locked))
    select id, user_id from begun"#;

/// Of several at once one finds the token that is good, and the others what it has made of it.
const ROTATE: &str = "
    update session set
        token_hash = $3,
        spent = array_prepend(token_hash, array(
            select hash from unnest(spent, spent_at) as old (hash, at)
            where at > now() - make_interval(secs => $4) order by at desc limit 15)),
        spent_at = array_prepend(now(), array(
            select at from unnest(spent_at) as old (at)
            where at > now() - make_interval(secs => $4) order by at desc limit 15))
    where family_hash = $1 and token_hash = $2 and expires > now()
    returning id, user_id";

const DELETE_REUSED: &str = "
    delete from session where family_hash = $1 and token_hash <> $2 and not exists (
        select from unnest(spent, spent_at) as old (hash, at)
        where hash = $2 and at > now() - make_interval(secs => $3))
    returning id, user_id";

const SELECT: &str = "select id from session where id = $1";

const DELETE: &str = "delete from session where id = $1";

const DELETE_ALL: &str = "
    delete from session where user_id = (select user_id from session where id = $1)";

const DELETE_OTHERS: &str = "delete from session where user_id = $1 and id <> $2";

/// What is worth preparing.
pub(crate) const STATEMENTS: &[Statement] = &[
    Statement { name: "peace::sessions::INSERT", sql: INSERT },
    Statement { name: "peace::sessions::ROTATE", sql: ROTATE },
    Statement { name: "peace::sessions::DELETE_REUSED", sql: DELETE_REUSED },
    Statement { name: "peace::sessions::SELECT", sql: SELECT },
    Statement { name: "peace::sessions::DELETE", sql: DELETE },
    Statement { name: "peace::sessions::DELETE_ALL", sql: DELETE_ALL },
    Statement { name: "peace::sessions::DELETE_OTHERS", sql: DELETE_OTHERS },
];
