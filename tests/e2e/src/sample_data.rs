//! `sample-data`: users with items to look at, and how to log in as them.
//!
//! One after the other, the first failure ends it. A second run finds what is there and adds what is
//! missing, so that it may be repeated, also after one that failed half-way.

use std::collections::BTreeMap;

use crate::client::Client;
use crate::failure::Failure;
use crate::names::Account;
use crate::run::Run;

/// How many users there may be: the last item of user 1001 would have a name of 31 characters.
pub(crate) const USERS_MAX: u32 = 1001;
/// What is counted.
pub(crate) const GOALS: &[&str] = &["users_added", "users_found", "items_added", "items_found"];

/// Sees to it that the data is there; answers the users that are.
pub(crate) fn play(run: &Run, n_users: u32) -> Vec<Account> {
    let client = Client::new(run, "client");
    let (mut users_there, mut accounts) = (None, Vec::new());
    for number in 0..n_users {
        let account = account(number);
        match one_user(run, &client, &mut users_there, number, &account) {
            Ok(()) => accounts.push(account),
            Err(failure) => {
                run.fail(failure);
                break;
            }
        }
    }
    accounts
}

/// Sees to one user and the items.
fn one_user(
    run: &Run,
    client: &Client<'_>,
    users_there: &mut Option<BTreeMap<String, String>>,
    number: u32,
    account: &Account,
) -> Result<(), Failure> {
    let (pubid, items_there) = match client.add_user(account, "Sample Data")? {
        Some(pubid) => {
            run.done("users_added");
            (pubid, BTreeMap::new())
        }
        None => {
            let pubid = find(client, users_there, &account.name)?;
            run.done("users_found");
            let items = client.all_items(&pubid)?;
            (pubid, items)
        }
    };
    let token = client.log_in(account)?;
    for name in (0..number).map(|item| item_name(number, item)) {
        match items_there.contains_key(&name) {
            true => run.done("items_found"),
            false => {
                client.create_item(&name, &pubid, &token)?;
                run.done("items_added");
            }
        }
    }
    Ok(())
}

/// The id of a user whose name is taken. The whole list is read once, when it is needed.
fn find(
    client: &Client<'_>,
    users_there: &mut Option<BTreeMap<String, String>>,
    name: &str,
) -> Result<String, Failure> {
    let users = match users_there {
        Some(users) => users,
        None => users_there.insert(client.all_users()?),
    };
    match users.get(name) {
        Some(pubid) => Ok(pubid.clone()),
        None => Err(client.misses_user(name)),
    }
}

fn account(number: u32) -> Account {
    Account { name: format!("sample-data_user-{number}"), password: format!("MyPass123!U{number}") }
}

fn item_name(user: u32, item: u32) -> String {
    format!("sample-data_user-{user}_item-{item}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::NAME_CHARS_MAX;

    #[test]
    fn the_longest_name_is_as_long_as_a_name_may_be() {
        assert_eq!(item_name(USERS_MAX - 1, USERS_MAX - 2).len(), NAME_CHARS_MAX);
        assert!(item_name(USERS_MAX, USERS_MAX - 1).len() > NAME_CHARS_MAX);
    }
}
