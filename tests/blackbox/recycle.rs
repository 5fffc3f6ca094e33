//! `--max-requests`, `--max-rss`, `--max-lifetime`: worn workers are replaced, one at a time, and nobody
//! notices.

use std::time::Duration;

use crate::harness::log::Event;
use crate::harness::wait::until_true;
use crate::harness::{Database, Network, Turn, get, proc};
use crate::zero_loss::{Census, fewest_ready, launch, short_or_long, start_usual};

const SOON: Duration = Duration::from_secs(20);

/// How many workers were recycled; each time nobody else was.
fn recycled(events: &[Event]) -> usize {
    let (mut count, mut under_way) = (0, None);
    for event in events {
        if event.is_worker("recycling") {
            assert_eq!(under_way, None, "two at once: {}", event.text);
            under_way = event.number_of("pid");
            count += 1;
        } else if event.is_worker("exited") && event.number_of("pid") == under_way {
            under_way = None;
        }
    }
    count
}

#[test]
fn workers_that_have_done_enough_are_replaced_one_at_a_time() {
    let network = Network::own();
    let turn = Turn::alone();
    let database = Database::new(&turn);
    let limits = ["--max-requests", "500", "--max-requests-jitter", "100"];
    let peace = launch(&turn, &database, 3).args(limits).serve();
    let load = start_usual(&peace);
    let census = Census::of(&peace);
    let wanted = short_or_long(7_000, 101_000);
    until_true("enough requests", Duration::from_secs(280), || load.begun() >= wanted);
    let (least, most) = census.end();
    let tally = load.stop();
    let events = peace.log().events();
    let (count, fewest) = (recycled(&events), fewest_ready(&events));
    eprintln!("{count} recycled, {least} to {most} processes, at least {fewest} ready");
    tally.check_nothing_lost("recycling");
    assert!(count >= wanted / 2_000, "only {count} were recycled");
    assert!(fewest >= 3 && least >= 3 && most <= 4, "{fewest} ready, {least} to {most} processes");
    network.check_nothing_lost("workers_that_have_done_enough_are_replaced_one_at_a_time");
}

#[test]
fn memory_and_age_are_limits_and_a_reload_is_not_held_up() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let reason = |reason: &'static str| {
        move |event: &Event| event.is_worker("recycling") && event.text_of("reason") == Some(reason)
    };
    // Less than any worker holds.
    let peace = launch(&turn, &database, 2).args(["--max-rss", "16MiB"]).serve();
    let first = peace.await_event("one is too large", 0, SOON, reason("max-rss"));
    let next = first.index + 1;
    let second = peace.await_event("and its successor is", next, SOON, reason("max-rss"));
    peace.await_event("and so on", second.index + 1, SOON, reason("max-rss"));
    assert!(peace.ctl(["reload", "--wait"]).status.success());
    let is_told = |event: &Event| event.is("the limit is too low: every new worker is over it");
    let told = peace.log().events().into_iter().filter(is_told).count();
    assert_eq!(told, 1, "once");
    drop(peace);

    let peace = launch(&turn, &database, 2).args(["--max-lifetime", "1s"]).serve();
    let first = peace.await_event("one is too old", 0, SOON, reason("max-lifetime"));
    peace.await_event("so is the other", first.index + 1, SOON, reason("max-lifetime"));
    assert_eq!(peace.ask(&get("/health/live")).status, 200);
    assert!((2..=3).contains(&proc::child_count(peace.pid())));
    recycled(&peace.log().events());
}
