//! `test deadlocks`: clients update one user, while a poller reads it. One transaction after the
//! other locks the row; every update has to be answered with what it wrote, and one of them has to
//! stay.

use crate::client::Client;
use crate::command::DeadlocksPlan;
use crate::crowd;
use crate::failure::Failure;
use crate::guests::Guests;
use crate::names::Names;
use crate::run::Run;

/// The full name that the user begins with.
const FIRST: &str = "not updated yet";
/// What an update's number is written behind.
const UPDATE: &str = "update ";

/// Plays it; leaves no user behind whom it could delete.
pub(crate) fn play(run: &Run, plan: &DeadlocksPlan) {
    let guests = Guests::default();
    if let Err(failure) = one_user(run, plan, &guests) {
        run.fail(failure);
    }
    guests.leave(run);
}

fn one_user(run: &Run, plan: &DeadlocksPlan, guests: &Guests) -> Result<(), Failure> {
    let client = Client::new(run, "client");
    let account = Names::new().account(0);
    let pubid = client.create_user(&account, FIRST)?.pubid;
    guests.enter(&account, &pubid);
    let token = client.log_in(&account)?;

    let is_sent = |fullname: &str| {
        let number = fullname.strip_prefix(UPDATE).and_then(|number| number.parse().ok());
        number.is_some_and(|number: u32| number < plan.updates)
    };
    let poll = |client: &Client<'_>| {
        client.check_fullname(&pubid, |fullname| fullname == FIRST || is_sent(fullname))
    };
    crowd::work(run, plan.clients, plan.updates, poll, |client, number| {
        run.note("updates", client.update_fullname(&pubid, &token, &format!("{UPDATE}{number}")));
    });
    client.check_fullname(&pubid, is_sent)
}
