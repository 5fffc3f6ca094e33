//! A schema made real in a scratch database, and read back.
//!
//! `check`, `drift`, `generate` and the proofs call it; it calls `scratch`, `runner` and `catalog`.
//! It promises that the declared schema and the revisions are read by the same server with the same
//! eyes, the revisions after having been run by the runner that runs them everywhere.

use tokio_postgres::error::SqlState;

use crate::database::access::Access;
use crate::database::runner::{self, Options};
use crate::database::session::{ANSWER_TIMEOUT, Session};
use crate::error::Error;
use crate::files::chain::Chain;
use crate::files::target::Target;
use crate::schema::catalog::Catalog;
use crate::schema::declared::Declared;
use crate::schema::scratch::Scratch;

/// Makes what is declared; whatever needs something that is not there yet gets another turn after
/// it.
pub(crate) async fn declare(session: &Session, declared: &Declared) -> Result<(), Error> {
    let mut due: Vec<&String> = declared.statements.iter().collect();
    loop {
        let mut waiting: Vec<(&String, tokio_postgres::Error)> = Vec::new();
        let before = due.len();
        for statement in due {
            match session.send(ANSWER_TIMEOUT, "making the declared schema", statement).await? {
                Ok(()) => {}
                Err(error) if lacks_something(&error) => waiting.push((statement, error)),
                Err(error) => return Err(Error::declared(statement, &error)),
            }
        }
        match waiting.first() {
            None => return Ok(()),
            Some((statement, error)) if waiting.len() == before => {
                return Err(Error::declared(statement, error));
            }
            Some(_) => due = waiting.into_iter().map(|(statement, _)| statement).collect(),
        }
    }
}

/// A table, type, function, column or schema that a later statement may make.
fn lacks_something(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| {
        [
            SqlState::UNDEFINED_TABLE,
            SqlState::UNDEFINED_OBJECT,
            SqlState::UNDEFINED_FUNCTION,
            SqlState::UNDEFINED_COLUMN,
            SqlState::INVALID_SCHEMA_NAME,
        ]
        .contains(code)
    })
}

/// Runs the revisions up to `target` in a new database; returns how to connect to it.
pub(crate) async fn migrated(
    scratch: &Scratch,
    chain: &Chain,
    target: &Target,
) -> Result<Access, Error> {
    let access = scratch.database().await?;
    // There is no data in it to be destroyed.
    let options = Options { allow_loss: true, ..Options::new(chain) };
    runner::upgrade(&access, target, &options, &mut |_| ()).await?;
    Ok(access)
}

/// Reads the schema of a database.
pub(crate) async fn read(access: &Access) -> Result<Catalog, Error> {
    read_versioned(access).await.map(|(catalog, _)| catalog)
}

/// The same, and the server's major version.
pub(crate) async fn read_versioned(access: &Access) -> Result<(Catalog, u32), Error> {
    let session = Session::open(access).await?;
    let catalog = Catalog::read(&session).await;
    let major = session.major();
    session.close().await;
    Ok((catalog?, major))
}
