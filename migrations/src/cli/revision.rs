//! `revision`: new files, blank or generated.
//!
//! `cli` calls it; it calls `generate`, and `folder` for the writing.

use std::io::{self, BufRead, IsTerminal};
use std::path::Path;

use clap::Args;

use super::develop::lock_path;
use super::{Call, Failure, print};
use crate::error::Error;
use crate::files::chain::{Chain, ChainError};
use crate::files::folder::{self, FolderError, Pair};
use crate::schema::generate::{self, Proof, Rename, Unwritten, Wishes};
use crate::schema::lockfile::LockFile;

#[derive(Debug, Args)]
pub(super) struct Revision {
    /// What it does, for people and for the files' names
    #[arg(short, long)]
    message: String,
    /// Write what leads from the revisions to the declared schema, proved in a scratch database
    #[arg(long)]
    autogenerate: bool,
    /// Write a pair to be filled in (so does leaving out --autogenerate)
    #[arg(long, conflicts_with = "autogenerate")]
    empty: bool,
    #[command(flatten)]
    words: Words,
    /// Print the files instead of writing them
    #[arg(long)]
    dry_run: bool,
}

/// What the declared schema does not say.
#[derive(Debug, Args)]
struct Words {
    /// item.name:item.title, or item:thing: the same under another name; may be given again
    #[arg(long, value_name = "OLD:NEW", value_parser = rename, requires = "autogenerate")]
    rename: Vec<Rename>,
    /// Nothing is renamed: what is not declared is dropped
    #[arg(long, requires = "autogenerate")]
    no_rename: bool,
    /// item.slug=EXPRESSION: the value of rows that have none; may be given again
    #[arg(long, value_name = "COLUMN=SQL", value_parser = pair, requires = "autogenerate")]
    backfill: Vec<(String, String)>,
    /// item.price=EXPRESSION: the new value out of the old one; may be given again
    #[arg(long, value_name = "COLUMN=SQL", value_parser = pair, requires = "autogenerate")]
    using: Vec<(String, String)>,
    /// One file in one transaction: shorter, and whoever wants the tables waits
    #[arg(long, requires = "autogenerate")]
    simple: bool,
    /// Why data may go
    #[arg(long, value_name = "REASON", value_parser = reason, requires = "autogenerate")]
    allow_destructive: Option<String>,
}

fn rename(text: &str) -> Result<Rename, String> {
    let (old, new) = text.split_once(':').ok_or("write OLD:NEW")?;
    Ok(Rename { old: old.to_owned(), new: new.to_owned() })
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (column, expression) = text.split_once('=').ok_or("write TABLE.COLUMN=EXPRESSION")?;
    Ok((column.trim().to_owned(), expression.trim().to_owned()))
}

fn reason(text: &str) -> Result<String, &'static str> {
    if text.trim().is_empty() { Err("say why") } else { Ok(text.to_owned()) }
}

impl Revision {
    pub(super) fn run(&self, call: &Call) -> Result<(), Failure> {
        let folder = call.folder()?;
        let chain = match Chain::read(&folder) {
            Err(ChainError::Empty) => None,
            chain => Some(chain.map_err(Error::from)?),
        };
        if !self.autogenerate {
            let pair = generate::blank(chain.as_ref(), &self.message);
            return self.write(&folder, &[pair], None);
        }
        match self.generate(call, chain.as_ref())? {
            None => print::lines(&["no changes detected"]),
            Some(proved) => {
                let warn = |finding| print::say(&format_args!("warning: {finding}"));
                proved.fields.iter().for_each(warn);
                self.write(&folder, &proved.pairs, Some(&proved.proof))
            }
        }
    }

    /// Asks about renames when somebody is there to answer, and begins anew with the answers.
    fn generate(
        &self,
        call: &Call,
        chain: Option<&Chain>,
    ) -> Result<Option<generate::Proved>, Failure> {
        let (declared, server) = (call.declared()?, call.server()?);
        let mut wishes = self.words.wishes();
        loop {
            let work = generate::revise(&server, chain, (&declared, &wishes), &self.message);
            match super::block_on(async { Ok(work.await) })? {
                Err(Unwritten::Renames(suspects)) if is_terminal() => ask(&suspects, &mut wishes)?,
                Err(error @ Unwritten::Fails { .. }) => {
                    error.lines().iter().for_each(|line| print::say(line));
                    return Err(error.into());
                }
                Err(error) => {
                    print::lines(&error.lines())?;
                    return Err(error.into());
                }
                Ok(proved) => return Ok(proved),
            }
        }
    }

    fn write(&self, folder: &Path, pairs: &[Pair], proof: Option<&Proof>) -> Result<(), Failure> {
        let files =
            || pairs.iter().flat_map(|pair| pair.files().collect::<Vec<_>>().into_iter().rev());
        if self.dry_run {
            let text = |(name, text): (String, &str)| format!("-- {name}\n{text}");
            return print::lines(&files().map(text).collect::<Vec<_>>());
        }
        folder::write_pairs(folder, pairs)?;
        if let (Some(proof), Some(last)) = (proof, pairs.last()) {
            write_lock(folder, last, proof).inspect_err(|_| {
                // What cannot be removed either is better than an error about that.
                drop(folder::remove_pairs(folder, pairs));
            })?;
        }
        let path = |(name, _): (String, &str)| folder.join(name).display().to_string();
        print::lines(&files().map(path).collect::<Vec<_>>())?;
        print::say(&match proof {
            Some(_) => "read them, then run `peace-migrate upgrade`",
            None => "fill them in, then run `peace-migrate upgrade`",
        });
        Ok(())
    }
}

impl Words {
    fn wishes(&self) -> Wishes {
        Wishes {
            renames: self.rename.clone(),
            no_rename: self.no_rename,
            not_renamed: Vec::new(),
            backfill: self.backfill.clone(),
            using: self.using.clone(),
            simple: self.simple,
            allow_destructive: self.allow_destructive.clone(),
        }
    }
}

/// `schema.lock`, where there is one, follows.
fn write_lock(folder: &Path, last: &Pair, proof: &Proof) -> Result<(), FolderError> {
    let path = lock_path(folder);
    if path.exists() {
        let head = last.name.split('_').next().unwrap_or_default();
        folder::replace(&path, &LockFile::new(head, proof.major, &proof.catalog).text())?;
    }
    Ok(())
}

fn is_terminal() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks about the first pair; the answer may settle others.
fn ask(suspects: &[Rename], wishes: &mut Wishes) -> Result<(), Failure> {
    let Some(suspect) = suspects.first() else { return Ok(()) };
    print::say(&format_args!("was {} renamed to {}? [y/n]", suspect.old, suspect.new));
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => wishes.renames.push(suspect.clone()),
        "n" | "N" | "no" => wishes.not_renamed.push(suspect.clone()),
        _ => return Err(Unwritten::Renames(suspects.to_vec()).into()),
    }
    Ok(())
}
