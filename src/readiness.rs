//! Whether the database is at the revision that this program needs.
//!
//! The public `/health/ready` asks here; what was heard stands in a gauge of the worker, which the admin
//! process reads when it is asked the same. [`watch`] asks at a worker's start, and again each second for
//! as long as the answer was not yes: so the gauge is right without anybody asking, and a database that
//! is at its revision hears nothing more of it.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use worker::{Database, DbError};

use crate::metrics::{AppMeters, SchemaState};

/// Time between two looks at a database that is behind, or away.
const AGAIN: Duration = Duration::from_secs(1);

/// How long a worker's start waits for the first answer.
const FIRST_WITHIN: Duration = Duration::from_millis(250);

/// What the database said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revision {
    /// It is at the needed revision, or further.
    Applied,
    /// It is not; its newest one, if it has any.
    Behind(Option<String>),
}

/// The revision that this program needs.
#[must_use]
pub fn needed() -> &'static str {
    migrations::head().id.as_str()
}

/// Asks the database once, and writes down what it said.
///
/// **Errors** when it cannot be asked, which leaves what it said before.
pub async fn ask(database: &Database, meters: &AppMeters) -> Result<Revision, DbError> {
    let row = match database.row(migrations::READINESS_SQL, &[&needed()]).await {
        // Not even the table of the revisions is there.
        Err(DbError::SchemaBehind(_)) => None,
        row => row?,
    };
    let (newest, applied) = row.map_or((None, false), |row| (row.get(0), row.get(1)));
    match applied {
        true => {
            meters.heard(SchemaState::Applied);
            Ok(Revision::Applied)
        }
        false => {
            meters.heard(SchemaState::Behind);
            Ok(Revision::Behind(newest))
        }
    }
}

/// Asks once, for a moment: a worker that is ready shall know. One whose database is away learns it later.
pub async fn ask_first(database: &Database, meters: &AppMeters) {
    // Nobody waits for this answer; `watch` asks again.
    let _ = timeout(FIRST_WITHIN, ask(database, meters)).await;
}

/// Asks until the answer was yes.
pub async fn watch(database: Database, meters: AppMeters) {
    while !meters.is_applied() && !matches!(ask(&database, &meters).await, Ok(Revision::Applied)) {
        sleep(AGAIN).await;
    }
}
