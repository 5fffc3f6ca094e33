//! Clients that share numbered jobs, beside a poller that asks all the while.
//!
//! The test scenarios bring the job and the question. The poller asks again as soon as it has its
//! answer, and at least once; its failures count like everybody's. Both stop early when the run is
//! stopped. Blocks until all have ended.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use crate::client::Client;
use crate::failure::Failure;
use crate::run::Run;

/// Does jobs 0 to `jobs` - 1 with so many clients, while a poller polls.
pub(crate) fn work(
    run: &Run,
    clients: u32,
    jobs: u32,
    poll: impl Fn(&Client<'_>) -> Result<(), Failure> + Sync,
    job: impl Fn(&Client<'_>, u32) + Sync,
) {
    let is_over = AtomicBool::new(false);
    thread::scope(|all| {
        all.spawn(|| poll_until(run, &is_over, &poll));
        let _over = Over(&is_over);
        share(run, clients, jobs, &job);
    });
}

/// Tells the poller that it is over, also when a client panicked: nobody else would end it.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn poll_until(run: &Run, is_over: &AtomicBool, poll: &impl Fn(&Client<'_>) -> Result<(), Failure>) {
    let client = Client::new(run, "poller");
    loop {
        run.note("polls", poll(&client));
        if is_over.load(Ordering::Relaxed) || run.is_stopped() {
            return;
        }
    }
}

fn share(run: &Run, clients: u32, jobs: u32, job: &(impl Fn(&Client<'_>, u32) + Sync)) {
    let next = AtomicU32::new(0);
    let take = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|number| *number < jobs);
    thread::scope(|crowd| {
        for number in 1..=clients {
            crowd.spawn(move || {
                let client = Client::new(run, format!("client {number}"));
                while let Some(number) = take().filter(|_| !run.is_stopped()) {
                    job(&client, number);
                }
            });
        }
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::app_url::AppUrl;
    use crate::run::FAILURES_MAX;

    fn new_run() -> Run {
        Run::new(AppUrl::parse("http://127.0.0.1:1").unwrap(), &["polls"])
    }

    fn failure() -> Failure {
        Failure {
            client: "poller".to_owned(),
            method: "GET",
            path: "/users".to_owned(),
            expected: "200".to_owned(),
            status: Some(500),
            came: "500".to_owned(),
        }
    }

    #[test]
    fn every_job_is_done_once() {
        let (run, done) = (new_run(), Mutex::new(Vec::new()));
        work(&run, 3, 100, |_| Ok(()), |_, number| done.lock().unwrap().push(number));
        let mut done = done.into_inner().unwrap();
        done.sort_unstable();
        assert_eq!(done, (0..100).collect::<Vec<_>>());
        let (_, tally, _) = run.end();
        assert!(tally.done[0].1 > 0, "the poller asks at least once");
    }

    #[test]
    fn a_failing_poller_alone_is_seen_and_ends_the_run() {
        let run = new_run();
        let deadline = Instant::now() + Duration::from_secs(10);
        let wait = |_: &Client<'_>, _| {
            while !run.is_stopped() && Instant::now() < deadline {
                thread::yield_now();
            }
        };
        work(&run, 1, 1, |_| Err(failure()), wait);
        let (_, tally, _) = run.end();
        assert_eq!((tally.failures.len(), tally.done[0].1), (FAILURES_MAX, 0));
    }

    #[test]
    fn failing_jobs_end_the_run() {
        let run = new_run();
        work(&run, 4, 1000, |_| Ok(()), |_, _| run.fail(failure()));
        let (_, tally, _) = run.end();
        assert!((FAILURES_MAX..FAILURES_MAX + 4).contains(&tally.failures.len()));
    }
}
