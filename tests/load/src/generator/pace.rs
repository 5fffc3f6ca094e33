//! The open loop: requests are due at fixed instants, whatever the server does.
//!
//! Request k is due at start + (k + phase) / rate. Clients come to [`Pace::turn`] when they are free;
//! whoever has been free for longest gets the next request that is due. So every connection gets the
//! same share, and so does every worker behind them: whoever was free last would always be the same
//! few connections. With no client free a request waits, as in a queue without a limit; it is no more
//! than a number, since what is due can be computed. Tokio's timer counts milliseconds, which is too
//! coarse, therefore a timerfd(2) tells when to look at the clock.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{sleep, sleep_until};

/// The timer is not set to less: a turn of the event loop costs some of it anyway, and at such rates
/// clients that come back look at the clock, too.
const ALARM_MIN: Duration = Duration::from_micros(20);
/// After the end, how often it is looked whether everything is sent.
const LOOK: Duration = Duration::from_millis(2);

/// When requests are due.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    pub(crate) start: Instant,
    pub(crate) duration: Duration,
    /// Requests per second.
    pub(crate) rate: f64,
    /// Of the first request, in distances between two; from 0 to 1. So that generators are not in step.
    pub(crate) phase: f64,
}

/// What a client is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) due: Instant,
    /// Whether that client was free when the request was due.
    pub(crate) was_free: bool,
}

/// The clients of an open loop, and who is next.
#[derive(Debug)]
pub(crate) struct Pace {
    schedule: Schedule,
    queue: RefCell<Queue>,
    alarm: AsyncFd<Alarm>,
}

#[derive(Debug)]
struct Queue {
    /// The number of the next request.
    next: u64,
    is_over: bool,
    /// Free clients, the one that has been free for longest first.
    free: VecDeque<usize>,
    seats: Vec<Seat>,
    /// The request that the alarm is set for.
    alarm_for: Option<u64>,
}

#[derive(Debug)]
struct Seat {
    free_since: Instant,
    turn: Option<Turn>,
    waker: Option<Waker>,
}

/// tokio wants the number of a descriptor.
#[derive(Debug)]
struct Alarm(TimerFd);

impl Schedule {
    /// How many requests are due before the end.
    pub(crate) fn count(&self) -> u64 {
        (self.duration.as_secs_f64() * self.rate - self.phase).ceil().max(0.0) as u64
    }

    pub(crate) fn due(&self, number: u64) -> Instant {
        self.start + Duration::from_secs_f64((number as f64 + self.phase) / self.rate)
    }
}

impl Pace {
    pub(crate) fn new(schedule: Schedule, clients: usize) -> io::Result<Self> {
        let seat = || Seat { free_since: schedule.start, turn: None, waker: None };
        let queue = Queue {
            next: 0,
            is_over: false,
            free: VecDeque::with_capacity(clients),
            seats: (0..clients).map(|_| seat()).collect(),
            alarm_for: None,
        };
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        #[expect(deprecated, reason = "what is not deprecated is unsafe; ours owns its descriptor")]
        let alarm = AsyncFd::with_interest(Alarm(timer), Interest::READABLE)?;
        Ok(Self { schedule, queue: RefCell::new(queue), alarm })
    }

    /// The next request for this client, which is free since then; `None` when the phase is over.
    pub(crate) async fn turn(&self, client: usize, since: Instant) -> io::Result<Option<Turn>> {
        self.queue.borrow_mut().sit_down(client, since);
        self.hand_out(since)?;
        Ok(poll_fn(|cx| self.queue.borrow_mut().poll_turn(client, cx)).await)
    }

    /// Hands out what is due, from the start to the end of the phase. What is due by then and waits for
    /// a free client is sent after it, too, as long as anybody would have `patience`; gives the requests
    /// that were never sent.
    pub(crate) async fn run(
        &self,
        patience: Duration,
    ) -> io::Result<impl Iterator<Item = Instant>> {
        let end = self.schedule.start + self.schedule.duration;
        tokio::select! {
            ended = self.ring() => ended?,
            () = sleep_until(end.into()) => {}
        }
        // Nothing becomes due any more: clients that come back look at the clock themselves.
        self.hand_out(end)?;
        while self.queue.borrow().next < self.schedule.count() && Instant::now() < end + patience {
            sleep(LOOK).await;
        }
        let unsent = self.queue.borrow_mut().end()..self.schedule.count();
        let schedule = self.schedule;
        Ok(unsent.map(move |number| schedule.due(number)))
    }

    async fn ring(&self) -> io::Result<()> {
        loop {
            self.hand_out(Instant::now())?;
            // Not read: setting it anew is what makes it ring again.
            self.alarm.readable().await?.clear_ready();
            self.queue.borrow_mut().alarm_for = None;
        }
    }

    /// Gives what is due to those who are free, and sets the alarm if somebody waits for the next.
    fn hand_out(&self, now: Instant) -> io::Result<()> {
        let mut queue = self.queue.borrow_mut();
        queue.hand_out(&self.schedule, now);
        let next = queue.next;
        let is_wanted = !queue.free.is_empty() && next < self.schedule.count();
        if !is_wanted || queue.alarm_for == Some(next) {
            return Ok(());
        }
        queue.alarm_for = Some(next);
        let rest = self.schedule.due(next).saturating_duration_since(now).max(ALARM_MIN);
        let expiration = Expiration::OneShot(TimeSpec::from_duration(rest));
        Ok(self.alarm.get_ref().0.set(expiration, TimerSetTimeFlags::empty())?)
    }
}

impl Queue {
    fn sit_down(&mut self, client: usize, since: Instant) {
        self.seats[client].free_since = since;
        self.free.push_back(client);
    }

    fn hand_out(&mut self, schedule: &Schedule, now: Instant) {
        if self.is_over {
            return;
        }
        while let Some(&client) = self.free.front()
            && self.next < schedule.count()
        {
            let due = schedule.due(self.next);
            if due > now {
                return;
            }
            self.free.pop_front();
            self.next += 1;
            let seat = &mut self.seats[client];
            seat.turn = Some(Turn { due, was_free: seat.free_since <= due });
            if let Some(waker) = seat.waker.take() {
                waker.wake();
            }
        }
    }

    fn poll_turn(&mut self, client: usize, cx: &Context<'_>) -> Poll<Option<Turn>> {
        let seat = &mut self.seats[client];
        match seat.turn.take() {
            Some(turn) => Poll::Ready(Some(turn)),
            None if self.is_over => Poll::Ready(None),
            None => {
                seat.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Sends everybody home; gives the number of the first request that was not handed out.
    fn end(&mut self) -> u64 {
        self.is_over = true;
        self.seats.iter_mut().filter_map(|seat| seat.waker.take()).for_each(Waker::wake);
        self.next
    }
}

impl AsRawFd for Alarm {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule() -> Schedule {
        let start = Instant::now();
        Schedule { start, duration: Duration::from_secs(1), rate: 100.0, phase: 0.5 }
    }

    fn queue(clients: usize, schedule: &Schedule) -> Queue {
        let seat = |_| Seat { free_since: schedule.start, turn: None, waker: None };
        let seats = (0..clients).map(seat).collect();
        Queue { next: 0, is_over: false, free: VecDeque::new(), seats, alarm_for: None }
    }

    #[test]
    fn as_many_requests_are_due_as_the_rate_says() {
        let mut schedule = schedule();
        for (rate, phase, count) in
            [(100.0, 0.0, 100), (100.0, 0.99, 100), (0.5, 0.0, 1), (0.5, 0.9, 0), (1.5, 0.0, 2)]
        {
            (schedule.rate, schedule.phase) = (rate, phase);
            assert_eq!(schedule.count(), count, "{rate} {phase}");
            let end = schedule.start + schedule.duration;
            assert!((0..count).all(|number| schedule.due(number) < end));
            assert!(schedule.due(count) >= end);
        }
    }

    #[test]
    fn whoever_has_been_free_for_longest_is_next() {
        let schedule = schedule();
        let mut queue = queue(3, &schedule);
        [2, 0, 1].into_iter().for_each(|client| queue.sit_down(client, schedule.start));
        queue.hand_out(&schedule, schedule.start + Duration::from_millis(5));
        assert_eq!(queue.free, [0, 1]);
        assert_eq!(queue.seats[2].turn, Some(Turn { due: schedule.due(0), was_free: true }));
    }

    #[test]
    fn requests_wait_for_a_client_and_know_that_none_was_free() {
        let schedule = schedule();
        let mut queue = queue(1, &schedule);
        let late = schedule.start + Duration::from_millis(100);
        queue.sit_down(0, late);
        queue.hand_out(&schedule, late);
        assert_eq!(queue.seats[0].turn, Some(Turn { due: schedule.due(0), was_free: false }));
        assert_eq!((queue.next, queue.free.len()), (1, 0));
    }

    #[test]
    fn what_was_due_is_handed_out_after_the_end_too_and_nothing_when_it_is_over() {
        let schedule = schedule();
        let later = schedule.start + 2 * schedule.duration;
        let mut queue = queue(1, &schedule);
        for number in 0..schedule.count() {
            queue.sit_down(0, later);
            queue.hand_out(&schedule, later);
            let turn = Some(Turn { due: schedule.due(number), was_free: false });
            assert_eq!(queue.seats[0].turn.take(), turn);
        }
        queue.sit_down(0, later);
        queue.hand_out(&schedule, later);
        assert_eq!((queue.seats[0].turn, queue.end()), (None, schedule.count()));
        let over = queue.poll_turn(0, &Context::from_waker(Waker::noop()));
        assert_eq!(over, Poll::Ready(None));
    }
}
