//! Two heads made one line: a branch is moved on top of the other one.
//!
//! The command `rebase` calls it; it calls `chain` to read the files and `folder` to write them.
//! It promises that the result was a valid chain before anything is written, and that whoever is
//! killed in the middle runs it again: the new files are written first, copies of the old ones
//! under later dates, and a copy that is found is not made twice.
//! It does not know a database; what is applied in one is told to it.

use std::path::Path;

use jiff::Timestamp;

use crate::files::chain::{self, Chain, ChainError, Down, Revision};
use crate::files::folder::{self, Dates, FolderError, Pair};
use crate::files::target::{self, TargetError};

/// Nothing was moved; each text says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RebaseError {
    /// More is wrong than a second head.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The branch's name names none.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// More than two heads.
    #[error("{} heads: {}; name the branch to move, as in `peace-migrate rebase {}`",
        .0.len(), .0.join(", "), .0[0])]
    Many(Vec<String>),
    /// The revision is before a fork.
    #[error("revision {revision} is common to the heads {}: name one that only the branch to move \
        has", .heads.join(", "))]
    Common { revision: String, heads: Vec<String> },
    /// A database would not know the revision any more.
    #[error(
        "revision {revision} of this branch is applied to the database: move the other branch \
        (`peace-migrate rebase {other}`), or take this one back first (`peace-migrate downgrade \
        {fork}`, on this branch alone)"
    )]
    Applied { revision: String, other: String, fork: String },
    /// The file system refused.
    #[error("{0}; run `peace-migrate rebase` again, it goes on from here")]
    Folder(#[from] FolderError),
}

impl RebaseError {
    /// 1 error, 2 usage, 5 history.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Chain(_) | Self::Folder(_) => 1,
            Self::Target(_) | Self::Many(_) | Self::Common { .. } => 2,
            Self::Applied { .. } => 5,
        }
    }
}

type Files = Vec<(String, String)>;

/// What has to be done, in an order in which it may be interrupted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// `(old name, new name)`; equal in number to the revisions of the branch.
    moved: Vec<(String, String)>,
    /// The heads when it is done.
    heads: Vec<String>,
    changes: Vec<Change>,
}

#[derive(Debug, PartialEq, Eq)]
enum Change {
    Write { file: String, text: String },
    Remove { file: String },
}

/// The two sides of a fork, each from the fork to its head.
struct Branches<'a> {
    moves: Vec<&'a Revision>,
    stays: Vec<&'a Revision>,
}

/// Moves a branch of the files in `folder`: that of `revision` (an id or the beginning of one), by
/// default the one that began later. `applied`: the ids that a database has. Blocks on the file
/// system.
pub(crate) fn rebase(
    folder: &Path,
    revision: Option<&str>,
    applied: &[String],
) -> Result<Plan, RebaseError> {
    let plan = plan(&chain::sql_files(folder)?, revision, applied, Timestamp::now())?;
    for change in &plan.changes {
        change.carry_out(folder)?;
    }
    Ok(plan)
}

impl Plan {
    /// What was done and what is left to do, for people.
    pub(crate) fn lines(&self) -> Vec<String> {
        let head = self.heads.join(", ");
        if self.changes.is_empty() {
            return vec![format!("one head, {head}: nothing to do")];
        }
        let mut lines: Vec<String> =
            self.moved.iter().map(|(old, new)| format!("{old} -> {new}")).collect();
        lines.push(match self.heads.len() {
            1 => format!("one head, {head}: read the moved files once more, then commit them"),
            many => format!("{many} heads left, {head}: run `peace-migrate rebase` again"),
        });
        lines
    }
}

impl Change {
    fn carry_out(&self, folder: &Path) -> Result<(), FolderError> {
        match self {
            Self::Write { file, text } => folder::create(folder, file, text),
            Self::Remove { file } => folder::remove(folder, file),
        }
    }
}

/// Decides everything. Pure.
fn plan(
    files: &Files,
    revision: Option<&str>,
    applied: &[String],
    now: Timestamp,
) -> Result<Plan, RebaseError> {
    let (halves, files): (Files, Files) =
        files.iter().cloned().partition(|(file, text)| is_half(files, file, text));
    let revisions = chain::parse(texts(&files))?;
    let mut changes: Vec<Change> =
        halves.into_iter().map(|(file, _)| Change::Remove { file }).collect();
    let mut moved = Vec::new();
    if let Some(branches) = Branches::choose(&revisions, revision)? {
        branches.refuse_applied(applied)?;
        let taken = files.iter().map(|(file, _)| file.as_str());
        let mut dates = Dates::new(taken.chain(revisions.iter().map(|one| one.id.as_str())), now);
        let pairs = branches.moved(&mut dates);
        changes.extend(pairs.iter().flat_map(writes));
        changes.extend(branches.moves.iter().rev().flat_map(|old| removals(old)));
        moved = branches.names(&pairs);
    }
    let heads = heads_after(&files, &changes)?;
    Ok(Plan { moved, heads, changes })
}

fn texts(files: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    files.iter().map(|(file, text)| (file.as_str(), text.as_str()))
}

/// Whether an interrupted run wrote only this down file of a pair, or removed only its up file: the
/// same text stands under another date.
fn is_half(files: &Files, file: &str, text: &str) -> bool {
    let Some(name) = file.strip_suffix(".down.sql") else { return false };
    let lone = !files.iter().any(|(other, _)| other.strip_suffix(".up.sql") == Some(name));
    let is_copy = |(other, copy): &(String, String)| {
        let other = other.strip_suffix(".down.sql");
        other.is_some_and(|other| other != name && slug_of(other) == slug_of(name))
            && with_ids(copy, "", "") == with_ids(text, "", "")
    };
    lone && files.iter().any(is_copy)
}

fn writes(pair: &Pair) -> Vec<Change> {
    let write = |(file, text): (String, &str)| Change::Write { file, text: text.to_owned() };
    pair.files().map(write).collect()
}

/// The up file first: a down file alone is recognised as a leftover.
fn removals(revision: &Revision) -> Vec<Change> {
    let down = match &revision.down {
        Down::Script(script) => Some(script.file.clone()),
        Down::Irreversible(_) => None,
    };
    let files = [revision.up.file.clone()].into_iter().chain(down);
    files.map(|file| Change::Remove { file }).collect()
}

/// The heads that the changes lead to, which proves that they lead to a chain.
fn heads_after(files: &Files, changes: &[Change]) -> Result<Vec<String>, ChainError> {
    let removed = |name: &str| {
        changes.iter().any(|change| matches!(change, Change::Remove { file } if file == name))
    };
    let written = changes.iter().filter_map(|change| match change {
        Change::Write { file, text } => Some((file.as_str(), text.as_str())),
        Change::Remove { .. } => None,
    });
    let after: Vec<(&str, &str)> =
        texts(files).filter(|(file, _)| !removed(file)).chain(written).collect();
    let revisions = chain::parse(after.iter().copied())?;
    let heads: Vec<String> = chain::heads(&revisions)?.iter().map(|head| head.id.clone()).collect();
    if heads.len() == 1 {
        Chain::new(after)?;
    }
    Ok(heads)
}

impl<'a> Branches<'a> {
    /// Which branch moves onto which; `None` when there is one head.
    fn choose(
        revisions: &'a [Revision],
        wanted: Option<&str>,
    ) -> Result<Option<Self>, RebaseError> {
        let heads = chain::heads(revisions)?;
        let lines: Vec<_> =
            heads.iter().map(|head| line_to(revisions, head)).collect::<Result<_, _>>()?;
        let branches = match (&lines[..], wanted) {
            ([] | [_], _) => return Ok(None),
            ([one, other], None) => Self::fork(one, other).later_moves(),
            (_, None) => return Err(RebaseError::Many(ids(&heads))),
            (_, Some(prefix)) => Self::of(&lines, &revisions[target::find(revisions, prefix)?])?,
        };
        // An interrupted run is ended before the other branch moves.
        let began_otherwise = branches.copied() == 0 && branches.swapped().copied() > 0;
        Ok(Some(if began_otherwise { branches.swapped() } else { branches }))
    }

    /// The branch that has `wanted`, onto that of its neighbours which began first.
    fn of(lines: &[Vec<&'a Revision>], wanted: &Revision) -> Result<Self, RebaseError> {
        let has = |line: &&Vec<&Revision>| line.iter().any(|one| one.id == wanted.id);
        let (with, without): (Vec<_>, Vec<_>) = lines.iter().partition(has);
        // The neighbour whose line leaves this one last: moving more would leave a gap.
        let nearest = |moves: &[&'a Revision]| {
            let forks = without.iter().map(|stays| Self::fork(moves, stays));
            forks.min_by_key(|fork| (fork.moves.len(), fork.stays[0].name.clone()))
        };
        if let [moves] = with[..]
            && let Some(fork) = nearest(moves)
        {
            return Ok(fork);
        }
        let heads: Vec<&Revision> = with.iter().filter_map(|line| line.last().copied()).collect();
        Err(RebaseError::Common { revision: wanted.id.clone(), heads: ids(&heads) })
    }

    /// What two lines do not have in common. Neither is empty, both being lines to heads.
    fn fork(moves: &[&'a Revision], stays: &[&'a Revision]) -> Self {
        let common = moves.iter().zip(stays).take_while(|(one, other)| one.id == other.id).count();
        Self { moves: moves[common..].to_vec(), stays: stays[common..].to_vec() }
    }

    fn later_moves(self) -> Self {
        if self.moves[0].name > self.stays[0].name { self } else { self.swapped() }
    }

    fn swapped(&self) -> Self {
        Self { moves: self.stays.clone(), stays: self.moves.clone() }
    }

    /// How many of the moving revisions an interrupted run has copied already.
    fn copied(&self) -> usize {
        let mut ends = (0..self.stays.len()).map(|at| &self.stays[at..]);
        let copies = |end: &&[&Revision]| self.moves.iter().zip(*end).all(|(a, b)| is_copy(a, b));
        ends.find(copies).map_or(0, |end| end.len().min(self.moves.len()))
    }

    fn refuse_applied(&self, applied: &[String]) -> Result<(), RebaseError> {
        match self.moves.iter().find(|one| applied.contains(&one.id)) {
            None => Ok(()),
            Some(revision) => Err(RebaseError::Applied {
                revision: revision.id.clone(),
                other: self.stays[0].id.clone(),
                fork: self.moves[0].revises.clone().unwrap_or_else(|| "base".to_owned()),
            }),
        }
    }

    /// The new files of those that were not copied yet.
    fn moved(&self, dates: &mut Dates) -> Vec<Pair> {
        let mut parent = self.stays[self.stays.len() - 1].id.clone();
        let rest = self.moves[self.copied()..].iter();
        rest.map(|old| {
            let id = dates.take();
            let pair = Pair {
                name: format!("{id}_{}", slug_of(&old.name)),
                up: with_ids(&old.up.sql, &id, &parent),
                down: match &old.down {
                    Down::Script(script) => Some(with_ids(&script.sql, &id, "")),
                    Down::Irreversible(_) => None,
                },
            };
            parent = id;
            pair
        })
        .collect()
    }

    /// Old and new name of each moving revision.
    fn names(&self, pairs: &[Pair]) -> Vec<(String, String)> {
        let copy_of = |old: &Revision| {
            self.stays.iter().find(|copy| is_copy(old, copy)).map(|copy| copy.name.clone())
        };
        let (copied, rest) = self.moves.split_at(self.copied());
        let copied = copied.iter().filter_map(|old| Some((old.name.clone(), copy_of(old)?)));
        let rest = rest.iter().zip(pairs).map(|(old, pair)| (old.name.clone(), pair.name.clone()));
        copied.chain(rest).collect()
    }
}

fn ids(revisions: &[&Revision]) -> Vec<String> {
    revisions.iter().map(|one| one.id.clone()).collect()
}

/// From the root to `head`.
fn line_to<'a>(
    revisions: &'a [Revision],
    head: &'a Revision,
) -> Result<Vec<&'a Revision>, ChainError> {
    let parent = |one: &&'a Revision| {
        revisions.iter().find(|parent| one.revises.as_ref() == Some(&parent.id))
    };
    let mut line: Vec<&Revision> =
        std::iter::successors(Some(head), parent).take(revisions.len() + 1).collect();
    if line.len() > revisions.len() {
        return Err(ChainError::Loop(vec![head.id.clone()]));
    }
    line.reverse();
    Ok(line)
}

/// Whether the two differ in nothing but their place in the history.
fn is_copy(one: &Revision, other: &Revision) -> bool {
    let down = |revision: &Revision| match &revision.down {
        Down::Script(script) => with_ids(&script.sql, "", ""),
        Down::Irreversible(_) => String::new(),
    };
    slug_of(&one.name) == slug_of(&other.name)
        && with_ids(&one.up.sql, "", "") == with_ids(&other.up.sql, "", "")
        && down(one) == down(other)
}

fn slug_of(name: &str) -> &str {
    name.split_once('_').map_or(name, |(_, slug)| slug)
}

/// The text with another `revision` and `revises` in its header; everything else stays.
fn with_ids(text: &str, id: &str, revises: &str) -> String {
    let mut header = true;
    let line = |line: &str| {
        header &= !line.trim().is_empty();
        let key = line.strip_prefix("-- ").and_then(|pair| pair.split_once(':'));
        match key.map(|(key, _)| key.trim()).filter(|_| header) {
            Some("revision") => format!("-- revision: {id}\n"),
            Some("revises") => format!("-- revises: {revises}\n"),
            _ => line.to_owned(),
        }
    };
    text.split_inclusive('\n').map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const LATER: &str = "2027-01-01T00:00:00Z";

    /// Revisions of `(date, id, revises, slug)`; the statement is the slug. An `i` makes it
    /// irreversible.
    fn files(links: &[(u64, &str, &str, &str)]) -> Files {
        let mut files = Vec::new();
        for (date, id, revises, slug) in links {
            let irreversible = if *slug == "i" { "-- irreversible: for the test\n" } else { "" };
            let up = format!(
                "-- revision: {id}\n-- revises: {revises}\n-- message: m\n-- transaction: yes\n\
                 {irreversible}\n-- revision: not me\nselect '{slug}';\n"
            );
            let down = format!("-- transaction: yes\n-- revision: {id}\n\nselect 'no {slug}';\n");
            files.push((format!("{date:014}_{slug}.up.sql"), up));
            if irreversible.is_empty() {
                files.push((format!("{date:014}_{slug}.down.sql"), down));
            }
        }
        files
    }

    /// root <- a1 <- a2, and root <- b1 <- i <- b3, begun later.
    fn forked() -> Files {
        files(&[
            (1, "root", "none", "root"),
            (2, "aaa1", "root", "a1"),
            (9, "aaa2", "aaa1", "a2"),
            (3, "bbb1", "root", "b1"),
            (4, "bbb2", "bbb1", "i"),
            (5, "bbb3", "bbb2", "b3"),
        ])
    }

    fn slugs(chain: &Chain) -> Vec<&str> {
        chain.all().iter().map(|one| slug_of(&one.name)).collect()
    }

    fn later() -> Timestamp {
        LATER.parse().unwrap()
    }

    fn write(folder: &Path, files: &Files) {
        files.iter().for_each(|(file, text)| fs::write(folder.join(file), text).unwrap());
    }

    #[track_caller]
    fn rebased(files: &Files, revision: Option<&str>) -> Chain {
        let place = tempfile::tempdir().unwrap();
        write(place.path(), files);
        rebase(place.path(), revision, &[]).unwrap();
        Chain::read(place.path()).unwrap()
    }

    #[track_caller]
    fn refused(files: &Files, revision: Option<&str>, applied: &[&str], code: u8, text: &str) {
        let applied: Vec<String> = applied.iter().map(|id| (*id).to_owned()).collect();
        let error = plan(files, revision, &applied, later()).unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
        assert_eq!(error.exit_code(), code, "{error}");
    }

    #[test]
    fn the_branch_that_began_later_moves_on_top() {
        assert_eq!(slugs(&rebased(&forked(), None)), ["root", "a1", "a2", "b1", "i", "b3"]);
    }

    #[test]
    fn the_branch_that_is_named_moves_on_top() {
        for name in ["aaa1", "aaa2"] {
            let chain = rebased(&forked(), Some(name));
            assert_eq!(slugs(&chain), ["root", "b1", "i", "b3", "a1", "a2"]);
        }
        assert_eq!(slugs(&rebased(&forked(), Some("bbb3")))[1], "a1");
    }

    #[test]
    fn a_moved_revision_differs_in_its_place_only() {
        let plan = plan(&forked(), None, &[], later()).unwrap();
        let written = plan.changes.iter().find_map(|change| match change {
            Change::Write { file, text } if file.ends_with("01_i.up.sql") => Some(text.as_str()),
            _ => None,
        });
        let expected = "-- revision: 20270101000001\n-- revises: 20270101000000\n-- message: m\n\
                        -- transaction: yes\n-- irreversible: for the test\n\n\
                        -- revision: not me\nselect 'i';\n";
        assert_eq!(written, Some(expected));
        assert_eq!(plan.heads, ["20270101000002"]);
        assert_eq!(
            plan.lines(),
            [
                "00000000000003_b1 -> 20270101000000_b1",
                "00000000000004_i -> 20270101000001_i",
                "00000000000005_b3 -> 20270101000002_b3",
                "one head, 20270101000002: read the moved files once more, then commit them",
            ]
        );
    }

    #[test]
    fn a_run_killed_anywhere_is_ended_by_the_next_one_whichever_branch_that_names() {
        let changes = plan(&forked(), None, &[], later()).unwrap().changes;
        assert_eq!(changes.len(), 10, "five files written, five removed");
        for done in 0..changes.len() {
            for revision in [None, Some("bbb1"), Some("aaa2")] {
                let place = tempfile::tempdir().unwrap();
                write(place.path(), &forked());
                changes[..done].iter().for_each(|one| one.carry_out(place.path()).unwrap());
                let result = rebase(place.path(), revision, &[]);
                let gone = matches!(&result, Err(RebaseError::Target(_))) && done > 8;
                assert!(gone || result.is_ok(), "{done} {revision:?}: {result:?}");
                if gone {
                    rebase(place.path(), None, &[]).unwrap();
                }
                let chain = Chain::read(place.path()).unwrap();
                // Before anything was copied the other branch may still be named.
                let other = done <= 1 && revision == Some("aaa2");
                let first = if other { "b1" } else { "a1" };
                assert_eq!(slugs(&chain)[1], first, "{done} {revision:?}");
                assert_eq!(chain.all().len(), 6, "{done} {revision:?}: {:?}", slugs(&chain));
                assert_eq!(fs::read_dir(place.path()).unwrap().count(), 11);
            }
        }
    }

    #[test]
    fn one_head_is_left_alone() {
        let plan = plan(&files(&[(1, "root", "none", "a")]), None, &[], later()).unwrap();
        assert_eq!(plan.changes, []);
        assert_eq!(plan.lines(), ["one head, root: nothing to do"]);
    }

    /// root <- a, root <- x <- { b, c }.
    fn three_heads() -> Files {
        files(&[
            (1, "root", "none", "root"),
            (2, "aaaa", "root", "a"),
            (3, "xxxx", "root", "x"),
            (4, "bbbb", "xxxx", "b"),
            (5, "cccc", "xxxx", "c"),
        ])
    }

    #[test]
    fn of_three_heads_one_at_a_time_moves() {
        let place = tempfile::tempdir().unwrap();
        write(place.path(), &three_heads());
        refused(&three_heads(), None, &[], 2, "3 heads: aaaa, bbbb, cccc; name the branch");
        refused(&three_heads(), Some("xxxx"), &[], 2, "common to the heads bbbb, cccc");
        let plan = rebase(place.path(), Some("bbbb"), &[]).unwrap();
        assert_eq!(plan.heads.len(), 2);
        assert!(plan.lines()[1].starts_with("2 heads left, "), "{:?}", plan.lines());
        rebase(place.path(), None, &[]).unwrap();
        let chain = Chain::read(place.path()).unwrap();
        assert_eq!(slugs(&chain), ["root", "a", "x", "c", "b"]);
    }

    #[test]
    fn what_cannot_be_moved_is_refused() {
        refused(&forked(), None, &["root", "bbb1"], 5, "revision bbb1 of this branch is applied");
        refused(&forked(), None, &["bbb1"], 5, "`peace-migrate rebase aaa1`");
        refused(&forked(), None, &["bbb1"], 5, "`peace-migrate downgrade root`");
        plan(&forked(), None, &["root".into(), "aaa1".into(), "aaa2".into()], later()).unwrap();
        refused(&forked(), Some("zzzz"), &[], 2, "no revision begins with `zzzz`");
        refused(&forked(), Some("bbb"), &[], 2, "`bbb` is no target");
        refused(&forked(), Some("root"), &[], 2, "revision root is common to the heads");
        let gap = files(&[(1, "root", "none", "a"), (2, "aaaa", "xxxx", "b")]);
        refused(&gap, None, &[], 1, "revises xxxx, which no file declares");
        let circle = files(&[
            (1, "root", "none", "root"),
            (2, "aaaa", "root", "a"),
            (3, "bbbb", "cccc", "b"),
            (4, "cccc", "bbbb", "c"),
            (5, "dddd", "cccc", "d"),
        ]);
        refused(&circle, None, &[], 1, "revise one another in a circle");
        let mut lone = forked();
        lone.retain(|(file, _)| !file.ends_with("b1.up.sql"));
        refused(&lone, None, &[], 1, "its pair 00000000000003_b1.up.sql is missing");
    }
}
