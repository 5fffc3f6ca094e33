//! Things that are done once, however often they are asked for: `Idempotency-Key`.
//!
//! A handler that creates a row makes an [`Attempt`] and inserts with it; one that has much to do
//! before asks whether the request was answered already. Key, row and answer are saved by one
//! transaction, so there is never one without the others, whichever worker is asked and whichever
//! dies. Of two requests at once the second waits for the first, and gives its answer.
//! Promises: a request without the header costs one statement, as before. What is kept holds no
//! password and no token, and nothing that one could be guessed from: the request is kept as an
//! HMAC under a key of the server. A refusal is not kept: the request may be mended and sent again.
//! What is kept goes with the user whose data it holds.
//! Answers count for 24 hours; `housekeeping` deletes what is older.
//! Source: draft-ietf-httpapi-idempotency-key-header-07.

use serde::Serialize;
use sha2::{Digest, Sha256};
use uuid::Uuid;
use worker::{
    Context, Created, Database, DbError, Describe, IdempotencyKey, Kept, Repeatable, Row, Success,
    Tagged, Transaction, Values,
};

use crate::app::App;
use crate::errors::{ApiError, Result};
use crate::resources::Statement;
use crate::security::fingerprints::Fingerprint;
use crate::versions::Versioned;

migrations::table! {
    /// What was answered to a request, and which one that was.
    pub(crate) struct Answer: "idempotency" from Row<'_> {
        fingerprint: Vec<u8> = "bytea not null",
        status: Option<i16> = "smallint",
        location: Option<String> = "text",
        etag: Option<String> = "text",
        body: Option<Vec<u8>> = "bytea",
    }
    unread key: Vec<u8> = "bytea primary key";
    unread user_id: Option<Uuid> = r#"uuid references "user" on delete cascade"#;
    unread created: std::time::SystemTime = "timestamptz not null default now()";
    also "create index idempotency_created_idx on idempotency (created)";
    also "create index idempotency_user_id_idx on idempotency (user_id)";
}

/// A request that creates something; where it has a key, it may be one that was answered before.
pub struct Attempt {
    /// Its path: what it creates is below.
    path: String,
    request: Option<Request>,
}

/// The answer to such a request.
type Answered<R> = Repeatable<Tagged<Created<R>>>;

/// A request with a key.
struct Request {
    /// A hash of the key and of who sent it: nobody meets the key of another user.
    key: Vec<u8>,
    fingerprint: Fingerprint,
}

impl Attempt {
    /// Reads the header of a request that `user` (or nobody in particular) has sent with this body.
    ///
    /// **Errors**: a header that is no key.
    pub fn of(
        cx: &Context<App>,
        key: &IdempotencyKey,
        user: Option<Uuid>,
        body: &[u8],
    ) -> Result<Self> {
        // The router takes `/items` and `/items/` for one, and so does a request that comes again.
        let path = cx.path().trim_end_matches('/').to_owned();
        let request = |key: &str| Request {
            key: hash(key, user),
            fingerprint: cx.app().fingerprints.of(cx.method().as_str(), &path, body),
        };
        let request = key.read()?.map(request);
        Ok(Self { path, request })
    }

    /// The answer, if there was one: for handlers that have work to do before they insert.
    pub async fn answered<R>(&self, database: &Database) -> Result<Option<Answered<R>>> {
        let Some(request) = &self.request else { return Ok(None) };
        let row = database.row(SELECT, &[&request.key]).await?;
        row.map(|row| request.again(Answer::from_row(&row))).transpose()
    }

    /// Inserts a row that has `id`, `version` and `user_id` (whose data it is: with the user goes what
    /// is kept of the answer) and answers with it, unless that was done before. `refusal` says what it
    /// means that the database refuses the row; where it asks for the caller's session and that is
    /// over, there is no row.
    pub async fn insert<T, R>(
        self,
        database: &Database,
        sql: &'static str,
        values: impl Values,
        read: fn(&Row<'_>) -> T,
        refusal: impl Fn(DbError) -> ApiError + 'static,
    ) -> Result<Answered<R>>
    where
        T: 'static,
        R: From<T> + Describe + Serialize + 'static,
    {
        let Self { path, request } = self;
        let answer = move |row: &Row<'_>| {
            let location = format!("{path}/{}", row.get::<Uuid>("id"));
            Versioned::from_row(row, read).created(location)
        };
        let Some(request) = request else {
            let row = database.write_row(sql, values).await.map_err(refusal)?;
            return Ok(Repeatable::Fresh(answer(&row.ok_or(ApiError::LoggedOut)?)));
        };
        let once = async move |tx: &Transaction<'_>| {
            if let Some(answered) = request.claim(tx).await? {
                return Ok(answered);
            }
            let inserted = tx.row(sql, &values.params()).await.map_err(&refusal)?;
            let row = inserted.ok_or(ApiError::LoggedOut)?;
            request.keep(tx, row.get("user_id"), answer(&row)).await
        };
        database.transaction(once).await
    }
}

impl Request {
    /// Makes the key this transaction's own, or gives the answer of the one that was first. Waits
    /// for that one to end, as long as a statement may take.
    async fn claim<S>(&self, tx: &Transaction<'_>) -> Result<Option<Repeatable<S>>> {
        let Self { key, fingerprint } = self;
        let claimed = tx.execute(CLAIM, &[key, &fingerprint.bytes()]).await;
        if claimed.map_err(in_use)? > 0 {
            return Ok(None);
        }
        let row = tx.row(SELECT, &[key]).await?.ok_or(ApiError::KeyInUse)?;
        self.again(Answer::from_row(&row)).map(Some)
    }

    /// Saves the answer, which holds data of this user, with what it is about.
    async fn keep<S: Success>(
        &self,
        tx: &Transaction<'_>,
        user: Uuid,
        answer: S,
    ) -> Result<Repeatable<S>> {
        let kept = Kept::of(answer).map_err(|_| UNWRITTEN)?;
        let Kept { status, location, etag, body } = &kept;
        let status = i16::try_from(*status).map_err(|_| UNWRITTEN)?;
        tx.execute(UPDATE, &[&self.key, &user, &status, location, etag, &&**body]).await?;
        Ok(Repeatable::Kept(kept))
    }

    /// The answer of before, if this is the request of before.
    fn again<S>(&self, answer: Answer) -> Result<Repeatable<S>> {
        let Answer { fingerprint, status, location, etag, body } = answer;
        if !self.fingerprint.is(&fingerprint) {
            return Err(ApiError::KeyReused);
        }
        let (status, body) = status.zip(body).ok_or(UNWRITTEN)?;
        let status = u16::try_from(status).map_err(|_| UNWRITTEN)?;
        Ok(Repeatable::Replayed(Kept { status, location, etag, body: body.into() }))
    }
}

const UNWRITTEN: ApiError = ApiError::Unanswerable("what is kept of an answer is not whole");

fn hash(key: &str, user: Option<Uuid>) -> Vec<u8> {
    let mut hash = Sha256::new_with_prefix([u8::from(user.is_some())]);
    hash.update(user.unwrap_or_default());
    hash.chain_update(key).finalize().to_vec()
}

/// The first request holds its key for as long as its transaction takes, which is longer than we wait:
/// the server says so. One that says nothing is not there.
fn in_use(error: DbError) -> ApiError {
    match error {
        DbError::Timeout { by_server: true, .. } => ApiError::KeyInUse,
        other => other.into(),
    }
}

// Queries

const SELECT: &str = "
    select fingerprint, status, location, etag, body from idempotency
    where key = $1 and created > now() - interval '24 hours'";

/// A key is free again when its answer does not count any more.
const CLAIM: &str = "
    insert into idempotency as kept (key, fingerprint) values ($1, $2)
    on conflict (key) do update
    set fingerprint = excluded.fingerprint, created = excluded.created
    where kept.created <= now() - interval '24 hours'";

const UPDATE: &str = "
    update idempotency set user_id = $2, status = $3, location = $4, etag = $5, body = $6
    where key = $1";

/// What is worth preparing.
pub(crate) const STATEMENTS: &[Statement] = &[
    Statement { name: "peace::idempotency::SELECT", sql: SELECT },
    Statement { name: "peace::idempotency::CLAIM", sql: CLAIM },
    Statement { name: "peace::idempotency::UPDATE", sql: UPDATE },
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The one waits for somebody, who may be done soon; the other one for a database that is not there.
    #[test]
    fn a_held_key_is_in_use_and_a_silent_database_is_not_available() {
        let told = |by_server| in_use(DbError::Timeout { cause: "too long".into(), by_server });
        assert!(matches!(told(true), ApiError::KeyInUse));
        assert!(matches!(told(false), ApiError::Database(DbError::Timeout { .. })));
    }
}
