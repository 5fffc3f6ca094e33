//! What became of a step whose commit was never answered.
//!
//! `runner` asks when a connection is lost at that moment; it calls `session` and `records`.
//! It promises to look only, under the lock, so that no run is in the middle of the same step; what
//! it cannot find out stays unknown, and nothing is tried a second time.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::database::access::Access;
use crate::database::records;
use crate::database::runner::Options;
use crate::database::session::Session;
use crate::error::{Error, Outcome};
use crate::files::chain::{Down, Revision};

/// To a server that took a connection away in the middle.
const RECONNECT_MAX: Duration = Duration::from_secs(15);
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);

/// What became of a step whose commit was not answered: asked of the rows, under the lock, which
/// the lost session may still hold for a while.
pub(crate) async fn outcome(
    access: &Access,
    options: &Options<'_>,
    file: &str,
) -> Result<Outcome, Error> {
    let session = reconnect(access).await?;
    let records = match session.lock(options.lock_wait, |_| ()).await {
        Ok(()) => records::read(&session).await,
        Err(error) => Err(error),
    };
    session.close().await;
    let records = records?;
    let is_applied = |revision: &Revision| {
        records.iter().any(|record| record.revision == revision.id && record.state != "running")
    };
    let committed = options.chain.all().iter().any(|revision| match &revision.down {
        _ if revision.up.file == file => is_applied(revision),
        Down::Script(down) if down.file == file => !is_applied(revision),
        _ => false,
    });
    Ok(if committed { Outcome::Committed } else { Outcome::RolledBack })
}

/// A server that lost all its connections is back within seconds.
async fn reconnect(access: &Access) -> Result<Session, Error> {
    let begin = Instant::now();
    loop {
        match Session::open(access).await {
            Err(_) if begin.elapsed() < RECONNECT_MAX => sleep(RECONNECT_PAUSE).await,
            result => return result,
        }
    }
}
