//! The replay that every generated file has to pass.
//!
//! `generate` calls it; it calls `runner`, `materialise` and `compare`.
//! It promises that the files, run by the runner that runs them everywhere, lead exactly to the
//! declared schema; that each one's way back leads to what was before it; and that they can be run
//! again after that.
//! It does not know rows: what refuses them is seen where they are.

use super::Unwritten;
use super::pairs::extended;
use crate::database::access::Access;
use crate::database::apply::Direction;
use crate::database::runner::{self, Options};
use crate::error::Error;
use crate::files::chain::{Chain, Down};
use crate::files::folder::Pair;
use crate::files::target::Target;
use crate::schema::catalog::{Catalog, Object};
use crate::schema::compare;
use crate::schema::materialise;

/// The schema that the files lead to, as read at the end.
pub(crate) struct Proof {
    pub(crate) catalog: Catalog,
    /// The server's major version.
    pub(crate) major: u32,
}

/// Runs the pairs on the database of `head`, up, down and up again.
pub(super) async fn prove(
    head: &Access,
    chain: Option<&Chain>,
    pairs: &[Pair],
    want: &Catalog,
) -> Result<Proof, Unwritten> {
    let longer = extended(chain, pairs).map_err(Error::from)?;
    let mut states = vec![materialise::read(head).await?];
    for revision in new(&longer, pairs) {
        states.push(step(head, &longer, (Some(revision), Direction::Up)).await?);
    }
    compared("reach the declared schema", &states[pairs.len()], want)?;
    for (index, before) in states[..pairs.len()].iter().enumerate().rev() {
        let parent = longer.all().len() - pairs.len() + index;
        let parent = parent.checked_sub(1).map(|place| longer.all()[place].id.as_str());
        let back = step(head, &longer, (parent, Direction::Down)).await?;
        match index {
            0 => compared("lead back", &back, before)?,
            // What was validated may stay so until its constraint goes.
            _ => compared("lead back", &unvalidated(&back), &unvalidated(before))?,
        }
    }
    step(head, &longer, (None, Direction::Up)).await?;
    let (catalog, major) = materialise::read_versioned(head).await?;
    compared("reach the declared schema a second time", &catalog, want)?;
    Ok(Proof { catalog, major })
}

/// The ids of the new revisions, in order.
fn new<'a>(longer: &'a Chain, pairs: &[Pair]) -> impl Iterator<Item = &'a str> {
    let all = longer.all();
    all[all.len() - pairs.len()..].iter().map(|revision| revision.id.as_str())
}

/// Goes to a revision and reads the schema. `None` is the head on the way up, the base on the way
/// down.
async fn step(
    access: &Access,
    chain: &Chain,
    (id, direction): (Option<&str>, Direction),
) -> Result<Catalog, Unwritten> {
    let target = match (id, direction) {
        (Some(id), _) => Target::Revision(id.to_owned()),
        (None, Direction::Up) => Target::Head,
        (None, Direction::Down) => Target::Base,
    };
    let goal = (&target, direction);
    // There is no data in a scratch database to be destroyed.
    let options = Options { allow_loss: true, ..Options::new(chain) };
    match runner::migrate(access, goal, &options, &mut |_| ()).await {
        Ok(_) => Ok(materialise::read(access).await?),
        Err(error @ (Error::Statement { .. } | Error::IndexInvalid { .. })) => {
            let reason = error.to_string();
            Err(Unwritten::Fails { text: text_of(chain, &reason), reason })
        }
        Err(error) => Err(error.into()),
    }
}

/// The file that an error is about: its name begins the error.
fn text_of(chain: &Chain, reason: &str) -> String {
    let scripts = chain.all().iter().flat_map(|revision| match &revision.down {
        Down::Script(down) => vec![&revision.up, down],
        Down::Irreversible(_) => vec![&revision.up],
    });
    let mut found = scripts.filter(|script| reason.starts_with(&script.file));
    found.next().map_or_else(String::new, |script| script.sql.clone())
}

fn compared(what: &'static str, have: &Catalog, want: &Catalog) -> Result<(), Unwritten> {
    let differences = compare::differences(have, want);
    match differences.is_empty() {
        true => Ok(()),
        false => Err(Unwritten::Unproven(what, differences)),
    }
}

fn unvalidated(catalog: &Catalog) -> Catalog {
    let mut catalog = catalog.clone();
    for object in catalog.objects.values_mut() {
        if let Object::Constraint(constraint) = object {
            constraint.valid = false;
        }
    }
    catalog
}
