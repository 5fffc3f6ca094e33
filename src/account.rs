//! Who the children are: the account of `--user` and `--group`.
//!
//! `main` resolves it before anything is opened, and its children become it as the first thing they do. The
//! supervisor keeps its own account: all sockets of a port have to be one user's. The embedded PostgreSQL
//! has an account of its own. Source: setgroups(2), capabilities(7), passwd(5).

use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid};
use supervisor::Post;

use crate::programs::REFUSED;
use crate::settings::{Config, Database};

/// A user and a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    uid: Uid,
    gid: Gid,
}

/// Why there is no such account to become.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AccountError {
    /// It is nobody's.
    #[error("{setting}: there is no {name:?}: give a name or a number of this machine")]
    Unknown {
        /// `user` or `group`.
        setting: &'static str,
        /// What was given.
        name: String,
    },
    /// A group alone would leave root its rights.
    #[error("group: without --user the children stay who they are: give --user, too")]
    GroupAlone,
    /// Only root may become somebody else.
    #[error(
        "user: only root can run its children as somebody else: start it as root, or leave it out"
    )]
    NotRoot,
    /// Only the embedded database's own user may enter its folder.
    #[error(
        "user: the embedded database is for its own user: set DATABASE_URL, or leave --user out"
    )]
    Embedded,
}

impl Account {
    /// Of the settings; `None` where the children are to stay who they are.
    ///
    /// # Errors
    /// When there is none, or it cannot be had.
    pub fn of(config: &Config) -> Result<Option<Self>, AccountError> {
        let Some(name) = &config.user else {
            return config.group.as_ref().map_or(Ok(None), |_| Err(AccountError::GroupAlone));
        };
        let (uid, own_group) = user(name)?;
        let gid = match (&config.group, own_group) {
            (Some(name), _) => group(name)?,
            (None, Some(gid)) => gid,
            (None, None) => return Err(unknown("user", name)),
        };
        let account = Self { uid, gid };
        match () {
            () if config.database == Database::Embedded => Err(AccountError::Embedded),
            () if geteuid().is_root() => Ok(Some(account)),
            () if account == (Self { uid: geteuid(), gid: getegid() }) => Ok(None),
            () => Err(AccountError::NotRoot),
        }
    }

    /// Becomes it, in a child, for good. An error is the exit code of the child, which has said why.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn assume(self, post: &Post) -> Result<(), u8> {
        post.become_user(self.uid.as_raw(), self.gid.as_raw()).map_err(|refused| {
            post.fail(REFUSED, format!("cannot become user {}: {refused}", self.uid))
        })
    }
}

/// A user by name or number, and its group where the machine knows the user.
fn user(name: &str) -> Result<(Uid, Option<Gid>), AccountError> {
    if let Ok(Some(user)) = User::from_name(name) {
        return Ok((user.uid, Some(user.gid)));
    }
    let uid = name.parse().map(Uid::from_raw).map_err(|_| unknown("user", name))?;
    let known = User::from_uid(uid).ok().flatten();
    Ok((uid, known.map(|user| user.gid)))
}

fn group(name: &str) -> Result<Gid, AccountError> {
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid),
        _ => name.parse().map(Gid::from_raw).map_err(|_| unknown("group", name)),
    }
}

fn unknown(setting: &'static str, name: &str) -> AccountError {
    AccountError::Unknown { setting, name: name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_name_and_by_number() {
        let root = (Uid::from_raw(0), Some(Gid::from_raw(0)));
        assert_eq!((user("root"), user("0")), (Ok(root), Ok(root)));
        assert_eq!(user("54321"), Ok((Uid::from_raw(54_321), None)), "of no name");
        assert_eq!((group("root"), group("12")), (Ok(Gid::from_raw(0)), Ok(Gid::from_raw(12))));
        let text = user("no-such-user").unwrap_err().to_string();
        assert!(text.starts_with("user: there is no \"no-such-user\": give a name"), "{text}");
    }
}
