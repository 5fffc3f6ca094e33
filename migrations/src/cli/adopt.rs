//! The command that takes a database over from Alembic.
//!
//! `cli` calls it; it calls `adopt`.

use clap::Args;

use super::migrate::Lock;
use super::{Call, Failure, block_on, print};
use crate::files::chain::Chain;
use crate::schema::adopt::{self, Adoption, RETIRED, Wishes};
use crate::show;

#[derive(Debug, Args)]
pub(super) struct AdoptAlembic {
    /// Record the revision although the schema is not what it gives; the differences are listed
    #[arg(long)]
    accept_drift: bool,
    /// Rename the table alembic_version, so that `alembic upgrade` fails instead of finding nothing
    /// to do on a schema that moved on
    #[arg(long)]
    retire_alembic: bool,
    #[command(flatten)]
    lock: Lock,
}

impl AdoptAlembic {
    pub(super) fn run(&self, call: &Call) -> Result<(), Failure> {
        let (chain, access, server) = (call.chain()?, call.database()?, call.server()?);
        let wishes = Wishes { accept_drift: self.accept_drift, retire: self.retire_alembic };
        let options = self.lock.options(&chain, false);
        let adoption =
            block_on(adopt::adopt(&access, &server, wishes, &options, &mut print::event))?;
        let named = show::named(&chain, adoption.revision.as_deref());
        let different: Vec<String> = adoption.differences.iter().map(ToString::to_string).collect();
        print::lines(&different)?;
        if !different.is_empty() && !self.accept_drift {
            return Err(Failure::Drifted(format!(
                "the schema is not what the files up to {named} give: change it back, or record it \
                 as it is with --accept-drift; nothing was changed"
            )));
        }
        print::lines(&done(&adoption, &named))?;
        advise(&chain, &adoption);
        Ok(())
    }
}

fn done(adoption: &Adoption, named: &str) -> Vec<String> {
    let what = if adoption.recorded.is_empty() { "already at" } else { "adopted at" };
    let mut lines = vec![format!("{what} {named}")];
    if adoption.retired {
        lines.push(format!("alembic_version is {RETIRED} now"));
    }
    lines
}

/// What is left to do.
fn advise(chain: &Chain, adoption: &Adoption) {
    if !adoption.differences.is_empty() {
        print::say(
            &"recorded as it is; `peace-migrate drift` lists the differences until they are gone. \
              Either change the schema back; or declare them, write them as a revision (`peace-migrate \
              revision --autogenerate -m …`) and, on this database that has them already, `stamp` it",
        );
    }
    if adoption.revision.as_ref() != Some(&chain.head().id) {
        print::say(&"newer revisions are pending: `peace-migrate upgrade` applies them");
    }
}
