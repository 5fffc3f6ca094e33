//! Whether a transaction pooler stands in between.
//!
//! `runner` asks when there is something to run; it calls `session`.
//! Behind such a pooler a lock stays with a server process that the next transaction may not get.
//! A client that is alone keeps the same one, so that its own look at the lock tells nothing: a
//! second client in a transaction takes that process away, and then it shows.
//! It promises to end within seconds, and that a lock it finds astray is given back.
//! It does not know any pooler by name.

use std::time::Duration;

use tokio::time::timeout;

use crate::database::access::Access;
use crate::database::session::Session;
use crate::error::Error;

/// For the second connection; a pool without room for it lets it wait.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// Whether `session`, which holds the lock, keeps its server process while another one works.
///
/// **Errors**: [`Error::Pooled`] if not, [`Error::MaybePooled`] if nobody can tell; nothing was
/// changed.
pub(crate) async fn refuse(access: &Access, session: &Session) -> Result<(), Error> {
    match timeout(PROBE_TIMEOUT, Session::open(access)).await {
        Err(_) => Err(Error::MaybePooled(PROBE_TIMEOUT)),
        // The role's or the server's last connection is ours: no pooler answers like that.
        Ok(Err(_)) => session.check_lock().await,
        Ok(Ok(other)) => {
            let result = timeout(PROBE_TIMEOUT, compare(session, &other)).await;
            drop(other.execute("ending the look for a pooler", "rollback").await);
            other.close().await;
            result.unwrap_or(Err(Error::MaybePooled(PROBE_TIMEOUT)))
        }
    }
}

async fn compare(session: &Session, other: &Session) -> Result<(), Error> {
    other.execute("looking for a pooler", "begin").await?;
    if other.check_lock().await.is_ok() {
        // It was taken by the other's process: only that one can give it back.
        other.unlock().await?;
        return Err(Error::Pooled);
    }
    session.check_lock().await
}
