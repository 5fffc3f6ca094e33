//! The users that a test scenario has created, to be deleted at its end.
//!
//! The scenarios enter them as soon as their creation was answered, and let them leave whatever
//! happened in between.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::client::Client;
use crate::names::Account;
use crate::run::Run;

/// Users and their ids.
#[derive(Default)]
pub(crate) struct Guests(Mutex<Vec<(Account, String)>>);

impl Guests {
    /// Remembers a user.
    pub(crate) fn enter(&self, account: &Account, pubid: &str) {
        self.list().push((account.clone(), pubid.to_owned()));
    }

    /// Whether a user was created.
    pub(crate) fn is_anybody_here(&self) -> bool {
        !self.list().is_empty()
    }

    /// Deletes them all, each with a new token, for the first one may be over by now. Gives up when
    /// the server does not answer any more.
    pub(crate) fn leave(&self, run: &Run) {
        let client = Client::new(run, "cleanup");
        for (account, pubid) in self.list().drain(..) {
            let token = client.log_in(&account);
            let Err(failure) = token.and_then(|token| client.delete_user(&pubid, &token)) else {
                continue;
            };
            let is_answered = failure.status.is_some();
            run.fail(failure);
            if !is_answered {
                return;
            }
        }
    }

    fn list(&self) -> MutexGuard<'_, Vec<(Account, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
