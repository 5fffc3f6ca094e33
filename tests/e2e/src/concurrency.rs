//! `test concurrency`: clients create users with items and read each back at once, while a poller
//! lists the users. Behind several workers, a row has to be there for all of them as soon as its
//! creation was answered.

use crate::client::Client;
use crate::command::ConcurrencyPlan;
use crate::crowd;
use crate::failure::Failure;
use crate::guests::Guests;
use crate::names::Names;
use crate::run::Run;

/// Plays it; leaves no user behind whom it could delete.
pub(crate) fn play(run: &Run, plan: &ConcurrencyPlan) {
    let names = Names::new();
    let guests = Guests::default();
    // No user at all is wrong as soon as one was created.
    let poll = |client: &Client<'_>| match guests.is_anybody_here() {
        true => client.list_some_users(),
        false => client.list_users().map(drop),
    };
    crowd::work(run, plan.clients, plan.users, poll, |client, number| {
        if let Err(failure) = one_user(run, plan, &names, &guests, client, number) {
            run.fail(failure);
        }
    });
    guests.leave(run);
}

/// One user with all items. An item that fails does not keep the others from being tried.
fn one_user(
    run: &Run,
    plan: &ConcurrencyPlan,
    names: &Names,
    guests: &Guests,
    client: &Client<'_>,
    number: u32,
) -> Result<(), Failure> {
    let account = names.account(number);
    let user = client.create_user(&account, "End to End")?;
    guests.enter(&account, &user.pubid);
    client.read_user_back(&user)?;
    let token = client.log_in(&account)?;
    run.done("users");
    for item in (0..plan.items).take_while(|_| !run.is_stopped()) {
        let name = names.item(number, item);
        let created = client.create_item(&name, &user.pubid, &token);
        run.note("items", created.and_then(|item| client.read_item_back(&item)));
    }
    Ok(())
}
