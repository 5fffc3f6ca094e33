//! Where to go: `head`, `base`, `+2`, `-1`, an id or the beginning of one.
//!
//! The command line parses it, `runner` resolves it against the chain. Pure.

use std::str::FromStr;

use crate::files::chain::{Chain, ID_LEN_MIN, Revision};

/// What `upgrade` and `downgrade` were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The newest revision.
    Head,
    /// Before the first one.
    Base,
    /// So many steps up (positive) or down from where the database is; 0 is `current`.
    Steps(i32),
    /// An id, or at least 4 letters that begin exactly one.
    Revision(String),
}

/// `FROM:TO`, or a target alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Range {
    /// What stands before the `:`; nothing may stand there.
    pub(crate) from: Option<Target>,
    /// What stands after it, or alone.
    pub(crate) to: Option<Target>,
    /// Whether there is a `:`.
    pub(crate) has_colon: bool,
}

/// The target does not exist here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not a target at all.
    #[error(
        "`{0}` is no target: write head, base, current, +1, -1, or 4 or more letters of a \
        revision's id"
    )]
    Malformed(
        /// What was written.
        String,
    ),
    /// No such revision.
    #[error("no revision begins with `{0}`: `peace-migrate history` lists them")]
    Unknown(
        /// What was written.
        String,
    ),
    /// More than one.
    #[error("`{prefix}` begins {}: write more of it", .candidates.join(" and "))]
    Ambiguous {
        /// What was written.
        prefix: String,
        /// The ids it begins.
        candidates: Vec<String>,
    },
    /// `+N` or `-N` leads out of the chain.
    #[error(
        "{steps:+} leads beyond the chain: {before} revisions are applied, {after} are pending"
    )]
    Beyond {
        /// The steps asked for.
        steps: i32,
        /// Revisions applied.
        before: usize,
        /// Revisions pending.
        after: usize,
    },
    /// A command about one revision was given `base`.
    #[error("base is no revision: write head, or 4 or more letters of a revision's id")]
    NoRevision,
    /// `upgrade` to something that is behind the database.
    #[error("the database is past that revision: use `peace-migrate downgrade`")]
    Behind,
    /// `downgrade` to something that the database has not reached.
    #[error("the database has not reached that revision: use `peace-migrate upgrade`")]
    Ahead,
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let malformed = || TargetError::Malformed(text.to_owned());
        match text {
            "head" => Ok(Self::Head),
            "current" => Ok(Self::Steps(0)),
            "base" => Ok(Self::Base),
            _ if text.starts_with(['+', '-']) => {
                text.parse().map(Self::Steps).map_err(|_| malformed())
            }
            _ if text.len() >= ID_LEN_MIN => Ok(Self::Revision(text.to_ascii_lowercase())),
            _ => Err(malformed()),
        }
    }
}

impl FromStr for Range {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let end = |text: &str| match text {
            "" => Ok(None),
            _ => text.parse().map(Some),
        };
        match text.split_once(':') {
            Some((from, to)) => Ok(Self { from: end(from)?, to: end(to)?, has_colon: true }),
            None => Ok(Self { from: None, to: Some(text.parse()?), has_colon: false }),
        }
    }
}

impl Target {
    /// The id of the revision it names, without a database; `None` = base.
    pub(crate) fn revision<'a>(&self, chain: &'a Chain) -> Result<Option<&'a str>, TargetError> {
        let applied = self.resolve(chain, 0)?;
        Ok(applied.checked_sub(1).map(|index| chain.all()[index].id.as_str()))
    }

    /// Whether it depends on where a database stands.
    pub(crate) fn is_relative(&self) -> bool {
        matches!(self, Self::Steps(_))
    }

    /// The one revision it names; `base` names none.
    pub(crate) fn named<'a>(
        &self,
        chain: &'a Chain,
        applied: usize,
    ) -> Result<&'a Revision, TargetError> {
        let count = self.resolve(chain, applied)?;
        count.checked_sub(1).map(|index| &chain.all()[index]).ok_or(TargetError::NoRevision)
    }

    /// How many revisions will be applied when this is reached from `applied` of them.
    pub(crate) fn resolve(&self, chain: &Chain, applied: usize) -> Result<usize, TargetError> {
        let len = chain.all().len();
        match self {
            Self::Head => Ok(len),
            Self::Base => Ok(0),
            Self::Steps(steps) => isize::try_from(*steps)
                .ok()
                .and_then(|steps| applied.checked_add_signed(steps))
                .filter(|wanted| *wanted <= len)
                .ok_or(TargetError::Beyond {
                    steps: *steps,
                    before: applied,
                    after: len - applied,
                }),
            Self::Revision(prefix) => find(chain.all(), prefix).map(|index| index + 1),
        }
    }
}

/// The place of the one revision whose id is `prefix` or begins with it; 4 letters are needed.
pub(crate) fn find(revisions: &[Revision], prefix: &str) -> Result<usize, TargetError> {
    if prefix.len() < ID_LEN_MIN {
        return Err(TargetError::Malformed(prefix.to_owned()));
    }
    if let Some(index) = revisions.iter().position(|revision| revision.id == prefix) {
        return Ok(index);
    }
    let matches: Vec<usize> =
        (0..revisions.len()).filter(|index| revisions[*index].id.starts_with(prefix)).collect();
    match matches[..] {
        [index] => Ok(index),
        [] => Err(TargetError::Unknown(prefix.to_owned())),
        _ => Err(TargetError::Ambiguous {
            prefix: prefix.to_owned(),
            candidates: matches.iter().map(|index| revisions[*index].id.clone()).collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Revisions aaaa1, aaaa2, aaaa (an id that begins others) and bbbb.
    fn chain() -> Chain {
        let links = [("aaaa1", "none"), ("aaaa2", "aaaa1"), ("aaaa", "aaaa2"), ("bbbb", "aaaa")];
        let files: Vec<(String, String)> = links
            .iter()
            .enumerate()
            .map(|(index, (id, revises))| {
                let header = format!("-- revision: {id}\n-- revises: {revises}\n-- message: m\n");
                let text = format!("{header}-- transaction: yes\n-- irreversible: test\n");
                (format!("{index:014}_m.up.sql"), text)
            })
            .collect();
        Chain::new(files.iter().map(|(name, text)| (name.as_str(), text.as_str()))).unwrap()
    }

    #[track_caller]
    fn resolves(text: &str, applied: usize, expected: Result<usize, &str>) {
        let found = text.parse::<Target>().and_then(|target| target.resolve(&chain(), applied));
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{text}"),
            (Err(error), Err(expected)) => {
                let error = error.to_string();
                assert!(error.contains(expected), "{text}: {error}");
            }
            (found, expected) => panic!("{text}: {found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn every_way_to_name_a_revision() {
        resolves("head", 1, Ok(4));
        resolves("base", 1, Ok(0));
        resolves("+1", 1, Ok(2));
        resolves("-1", 1, Ok(0));
        resolves("+3", 1, Ok(4));
        resolves("current", 1, Ok(1));
        resolves("aaaa", 0, Ok(3));
        resolves("AAAA1", 0, Ok(1));
        resolves("bbbb", 0, Ok(4));
    }

    #[test]
    fn what_names_none_is_refused() {
        resolves("+99", 1, Err("+99 leads beyond the chain: 1 revisions are applied, 3 are"));
        resolves("-2", 1, Err("-2 leads beyond"));
        resolves("+x", 1, Err("`+x` is no target"));
        resolves("abc", 1, Err("`abc` is no target"));
        resolves("", 1, Err("`` is no target"));
        resolves("cccc", 1, Err("no revision begins with `cccc`"));
    }

    #[test]
    fn a_range_may_be_open() {
        let check = |text: &str, from: Option<Target>, to: Option<Target>| {
            let range: Range = text.parse().unwrap();
            assert_eq!((range.from, range.to), (from, to), "{text}");
            assert_eq!(range.has_colon, text.contains(':'), "{text}");
        };
        check("base:head", Some(Target::Base), Some(Target::Head));
        check("-2:current", Some(Target::Steps(-2)), Some(Target::Steps(0)));
        check(":head", None, Some(Target::Head));
        check("base:", Some(Target::Base), None);
        check("head", None, Some(Target::Head));
        assert_eq!("a:head".parse::<Range>(), Err(TargetError::Malformed("a".to_owned())));
        assert!("".parse::<Range>().is_err());
    }

    #[test]
    fn only_a_revision_names_one() {
        let chain = chain();
        assert_eq!(Target::Head.named(&chain, 0).unwrap().id, "bbbb");
        assert_eq!(Target::Steps(0).named(&chain, 1).unwrap().id, "aaaa1");
        assert!(matches!(Target::Base.named(&chain, 0), Err(TargetError::NoRevision)));
    }

    #[test]
    fn an_ambiguous_prefix_lists_the_candidates() {
        let files = [("1", "aaaa1", "none"), ("2", "aaaa2", "aaaa1")].map(|(n, id, revises)| {
            let header = format!("-- revision: {id}\n-- revises: {revises}\n-- message: m\n");
            (
                format!("{n:0>14}_m.up.sql"),
                format!("{header}-- transaction: yes\n-- irreversible: test\n"),
            )
        });
        let chain =
            Chain::new(files.iter().map(|(name, text)| (name.as_str(), text.as_str()))).unwrap();
        let error = Target::Revision("aaaa".into()).resolve(&chain, 0).unwrap_err();
        assert_eq!(error.to_string(), "`aaaa` begins aaaa1 and aaaa2: write more of it");
    }
}
