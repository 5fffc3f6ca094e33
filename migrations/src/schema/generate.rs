//! The SQL between the schema at the head revision and the declared one, proved before it is
//! written.
//!
//! The command line calls it. The rooms, in the order of a run: `rename` (what has another name) and
//! `retype` (what follows a type) -> `plan` (the changes, with `hands`, `make`, `column`, `keys`,
//! `index`, `labels`) -> `op` (changes into files) -> `pairs` (files with names) -> `prove` (both
//! ways, in a scratch database). It calls `materialise` and `compare`.
//! It promises that what is written leads to the declared schema and back, each file for itself;
//! that nothing is left out in silence; and that no database but scratch ones is touched.
//! It does not know where the files go.

mod column;
mod hands;
mod index;
mod keys;
mod labels;
mod make;
mod names;
mod op;
mod pairs;
mod plan;
mod prove;
mod rename;
mod retype;
mod text;
mod types;

use std::collections::BTreeSet;

use crate::database::access::Access;
use crate::database::session::Session;
use crate::error::Error;
use crate::files::chain::Chain;
use crate::files::folder::Pair;
use crate::files::target::Target;
use crate::schema::catalog::{Catalog, Key, Kind};
use crate::schema::check::{self, Finding};
use crate::schema::compare::Difference;
use crate::schema::declared::Declared;
use crate::schema::materialise;
use crate::schema::scratch::{Scratch, Server};

pub use op::Draft;
pub(crate) use pairs::{blank, pairs, title};
pub(crate) use prove::Proof;
pub use rename::Rename;
use rename::Renamed;

/// What people said about a change, beside the declared schema itself.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// What has another name now.
    pub renames: Vec<Rename>,
    /// Nothing has: what is gone is dropped.
    pub no_rename: bool,
    /// The same for single pairs.
    pub not_renamed: Vec<Rename>,
    /// `(item.slug, expression)`: the value of rows that have none.
    pub backfill: Vec<(String, String)>,
    /// `(item.price, expression)`: the new value out of the old one.
    pub using: Vec<(String, String)>,
    /// One transaction, and whoever wants the tables waits.
    pub simple: bool,
    /// The reason why data may go.
    pub allow_destructive: Option<String>,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum Unwritten {
    /// The server, the files.
    #[error(transparent)]
    Run(#[from] Error),
    /// A flag about nothing.
    #[error(
        "--rename {}:{} names nothing that is only in the revisions and only declared: check both \
         names", .0.old, .0.new
    )]
    UselessRename(Rename),
    /// A flag about a column that needs none.
    #[error("{0}: no change of this column takes --backfill or --using: check the name")]
    Useless(String),
    /// Dropped and added, or renamed?
    #[error("may be renamed, or dropped and made anew: give --rename for it, or --no-rename")]
    Renames(Vec<Rename>),
    /// What only people can write or decide.
    #[error(
        "nothing was written: do what is said above; what has to be written by hand goes into a \
         revision of its own (`peace-migrate revision --empty -m …`), then run this again"
    )]
    NeedsPeople(Vec<String>),
    /// Data would be lost.
    #[error("data would be lost: give --allow-destructive REASON if that is meant")]
    Destructive(Vec<String>),
    /// The replay ended elsewhere.
    #[error(
        "the generated SQL does not {0}: nothing was written; write it by hand \
        (`peace-migrate revision --empty -m …`), and please report this"
    )]
    Unproven(&'static str, Vec<Difference>),
    /// The server refused it.
    #[error(
        "the generated SQL, which stands above, fails: {reason}: nothing was written; write it by \
        hand (`peace-migrate revision --empty -m …`)"
    )]
    Fails {
        /// What, where.
        reason: String,
        /// The file that fails, whole.
        text: String,
    },
}

impl Wishes {
    fn backfill_of(&self, column: &Key) -> Option<&(String, String)> {
        self.backfill.iter().find(|(name, _)| rename::is_called(name, column))
    }

    fn using_of(&self, column: &Key) -> Option<&(String, String)> {
        self.using.iter().find(|(name, _)| rename::is_called(name, column))
    }
}

impl Unwritten {
    /// What the error is about, a line each.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::Renames(renames) => {
                let line = |Rename { old, new }: &Rename| format!("--rename {old}:{new}");
                renames.iter().map(line).collect()
            }
            Self::NeedsPeople(lines) | Self::Destructive(lines) => lines.clone(),
            Self::Unproven(_, differences) => differences.iter().map(ToString::to_string).collect(),
            Self::Fails { text, .. } => vec![text.clone()],
            _ => Vec::new(),
        }
    }

    /// The exit code of the command line: 2 usage, 3 hand-write needed, 7 destructive.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Run(error) => error.exit_code(),
            Self::UselessRename(_) | Self::Useless(_) => 2,
            Self::Destructive(_) => 7,
            _ => 3,
        }
    }
}

/// Both sides, and the database that is at the head revision.
struct Sides {
    want: Catalog,
    head: Access,
    /// What the row structs cannot read.
    fields: Vec<Finding>,
}

/// The files between the head of `chain` (`None`: there is no revision yet) and the declared
/// schema; none when there is no difference. Unproven.
///
/// **Blocks** for some seconds: it works in scratch databases on `server`.
pub async fn draft(
    server: &Access,
    chain: Option<&Chain>,
    declared: &Declared,
    wishes: &Wishes,
) -> Result<Vec<Draft>, Unwritten> {
    on(server, async |scratch: &Scratch| {
        let sides = sides(scratch, chain, declared).await?;
        drafts(&sides, declared, wishes).await
    })
    .await
}

/// Whether the drafts lead from the head of `chain` to the declared schema and back, each for
/// itself. **Blocks** as [`draft`] does.
pub async fn prove(
    server: &Access,
    chain: Option<&Chain>,
    declared: &Declared,
    drafts: &[Draft],
) -> Result<(), Unwritten> {
    let pairs = pairs(drafts, chain, "proof", Some("proof"));
    on(server, async |scratch: &Scratch| {
        let sides = sides(scratch, chain, declared).await?;
        prove::prove(&sides.head, chain, &pairs, &sides.want).await.map(drop)
    })
    .await
}

/// The statements that make a database what it should be, as a script for psql, with plain locks.
///
/// Unproven: there is no empty copy of what is there. What it drops, it says in a line above.
pub(crate) fn mending(have: Catalog, want: &Catalog) -> Result<String, Unwritten> {
    let wishes = Wishes {
        no_rename: true,
        simple: true,
        allow_destructive: Some("somebody reads it first".to_owned()),
        ..Wishes::default()
    };
    let renamed = Renamed { ops: Vec::new(), catalog: have, implied: BTreeSet::new() };
    let ops = plan::plan(&renamed, want, &wishes)?;
    let losses = ops.iter().filter_map(|op| op.loses.as_deref());
    let mut script: String = losses.map(|what| format!("-- data goes: {what}\n")).collect();
    for draft in op::drafts(ops) {
        let body = op::body(&draft.up);
        script += &if draft.transaction { format!("begin;\n\n{body}\ncommit;\n") } else { body };
    }
    Ok(script)
}

/// Files that are proved to do what they are for.
pub(crate) struct Proved {
    pub(crate) pairs: Vec<Pair>,
    pub(crate) proof: Proof,
    /// What the row structs will not be able to read.
    pub(crate) fields: Vec<Finding>,
}

/// The files between the head of `chain` and the declared schema, proved; `None` when there is no
/// difference.
pub(crate) async fn revise(
    server: &Server,
    chain: Option<&Chain>,
    (declared, wishes): (&Declared, &Wishes),
    message: &str,
) -> Result<Option<Proved>, Unwritten> {
    let work = async |scratch: &Scratch| {
        let sides = sides(scratch, chain, declared).await?;
        let drafts = drafts(&sides, declared, wishes).await?;
        if drafts.is_empty() {
            return Ok(None);
        }
        let mut pairs = pairs(&drafts, chain, message, wishes.allow_destructive.as_deref());
        pairs::excused(&mut pairs, chain).map_err(Error::from)?;
        let proof = prove::prove(&sides.head, chain, &pairs, &sides.want).await?;
        Ok(Some(Proved { pairs, proof, fields: sides.fields }))
    };
    server.with_scratch(async |scratch| Ok(work(scratch).await)).await?
}

async fn on<T>(
    server: &Access,
    work: impl AsyncFnOnce(&Scratch) -> Result<T, Unwritten>,
) -> Result<T, Unwritten> {
    let server = Server { server: server.clone(), given: None };
    server.with_scratch(async |scratch: &Scratch| Ok(work(scratch).await)).await?
}

/// Reads what is declared, then makes the database at head: a given scratch database holds one of
/// them at a time.
async fn sides(
    scratch: &Scratch,
    chain: Option<&Chain>,
    declared: &Declared,
) -> Result<Sides, Error> {
    let session = Session::open(&scratch.database().await?).await?;
    let made = check::read_declared(&session, declared).await;
    session.close().await;
    let (want, fields) = made?;
    let head = match chain {
        Some(chain) => materialise::migrated(scratch, chain, &Target::Head).await?,
        None => scratch.database().await?,
    };
    Ok(Sides { want, head, fields })
}

async fn drafts(
    Sides { want, head, .. }: &Sides,
    declared: &Declared,
    wishes: &Wishes,
) -> Result<Vec<Draft>, Unwritten> {
    let rename = |(old, new): &(String, String)| Rename { old: old.clone(), new: new.clone() };
    let hints: Vec<Rename> = declared.renames.iter().map(rename).collect();
    let session = Session::open(head).await?;
    let renamed = rename::rename(&session, want, wishes, &hints).await;
    session.close().await;
    let renamed = renamed?;
    let changes = plan::plan(&renamed, want, wishes).map_err(|error| match error {
        Unwritten::Destructive(mut lines) if !wishes.no_rename => {
            lines.extend(perhaps_renamed(&renamed.catalog, want));
            Unwritten::Destructive(lines)
        }
        other => other,
    })?;
    Ok(op::drafts([renamed.ops, changes].concat()))
}

/// A line for each column that goes from a table which gets another one: of another type they are
/// not asked about.
fn perhaps_renamed(have: &Catalog, want: &Catalog) -> Vec<String> {
    let only_in = |side: &Catalog, other: &Catalog| -> Vec<Key> {
        let columns = side.objects.keys().filter(|key| key.kind == Kind::Column);
        columns.filter(|key| !other.objects.contains_key(key)).cloned().collect()
    };
    let (gone, new) = (only_in(have, want), only_in(want, have));
    let line = |gone: &Key| {
        let new = new.iter().find(|new| new.of == gone.of)?;
        let [old, new] = [gone, new].map(|key| format!("{}.{}", key.of, key.name));
        Some(format!("if {old} only has another name now: --rename {old}:{new}"))
    };
    gone.iter().filter_map(line).collect()
}
