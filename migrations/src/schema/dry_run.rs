//! An upgrade tried where nothing can be lost: on an empty copy of the database's schema.
//!
//! The command line calls it for `--dry-run`; it calls `records` for where the database stands,
//! `materialise` for a copy, and `runner` for the upgrade itself.
//! It promises that the database is only read, and that its files fare as they would there, as far
//! as that depends on no row and on nothing that was changed by hand.
//! It does not know how long they would take: the copy is empty. `rehearse` tries on the database.

use crate::database::access::Access;
use crate::database::records;
use crate::database::runner::{self, Event, Options, Report};
use crate::database::session::Session;
use crate::error::Error;
use crate::files::target::Target;
use crate::schema::materialise;
use crate::schema::scratch::{Scratch, Server};

/// Tries what an upgrade of the database to `target` would do.
///
/// Takes no lock there. **Blocks** as long as all revisions take on an empty database. **Errors**:
/// those that the upgrade would end with.
pub(crate) async fn dry_run(
    access: &Access,
    server: &Server,
    target: &Target,
    options: &Options<'_>,
    progress: &mut dyn FnMut(Event<'_>),
) -> Result<Report, Error> {
    let session = Session::open(access).await?;
    let standing = records::stand(&session, options.chain).await;
    session.close().await;
    let here = options.chain.at(standing?.applied);
    let work = async |scratch: &Scratch| {
        let copy = materialise::migrated(scratch, options.chain, &here).await?;
        runner::upgrade(&copy, target, options, progress).await
    };
    server.with_scratch(work).await
}
