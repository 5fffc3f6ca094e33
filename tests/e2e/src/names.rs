//! What a run calls its users and items: names that no other run uses, of 30 characters at most.

use std::fmt;
use std::hash::{BuildHasher, RandomState};

/// How long a name may be, in characters.
#[cfg(test)]
pub(crate) const NAME_CHARS_MAX: usize = 30;

/// A user's name and password.
#[derive(Clone)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) password: String,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The names of one run; its password is as random as they are, and is never shown.
pub(crate) struct Names {
    id: String,
    password: String,
}

impl Names {
    pub(crate) fn new() -> Self {
        let id = format!("{:08x}", random() & 0xffff_ffff);
        Self { id, password: format!("e2e-Pass-{:016x}", random()) }
    }

    pub(crate) fn account(&self, number: u32) -> Account {
        Account { name: self.user(number), password: self.password.clone() }
    }

    pub(crate) fn item(&self, user: u32, number: u32) -> String {
        format!("{}-{number}", self.user(user))
    }

    fn user(&self, number: u32) -> String {
        format!("e2e-{}-{number}", self.id)
    }
}

/// The standard library's hash keys are random; that is enough to be alone.
fn random() -> u64 {
    RandomState::new().hash_one(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_differ_between_runs() {
        let (one, other) = (Names::new(), Names::new());
        assert_ne!(one.account(0).name, other.account(0).name);
        assert_ne!(one.account(0).password, other.account(0).password);
        assert!(one.item(999, 999).len() <= NAME_CHARS_MAX, "{}", one.item(999, 999));
        assert_ne!(one.item(1, 11), one.item(11, 1));
    }

    #[test]
    fn a_password_is_not_in_the_debug_output() {
        let account = Names::new().account(1);
        assert!(!format!("{account:?}").contains(&account.password));
    }
}
