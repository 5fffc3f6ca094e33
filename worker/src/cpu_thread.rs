//! One thread of low priority for work that would hold up the event loop, such as password hashes.
//!
//! The application starts it inside the worker's process, takes a [`CpuPlace`] in its queue, and hands
//! it jobs. Who needs other things besides takes the place first, so that nothing was done in vain
//! for who is turned away.
//! Promises: jobs run one after the other, in order; places are bounded, and with them the queue; a
//! job that panics, or whose caller has left before it began, disturbs no other; the thread ends
//! when the handle and all places are dropped, after the job it is at.
//! Does not know: what a job does. A job cannot be stopped, so it must be bounded by itself.
//!
//! Source: setpriority(2), "C library/kernel differences": on Linux the nice value is the thread's.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tracing::warn;

/// The lowest priority: the event loop and the database come first.
const NICE: i32 = 19;

/// Why a job gave no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum JobError {
    /// All places are taken. Worth asking again later.
    #[error("too many jobs wait for the thread")]
    Busy,
    /// The job panicked; the thread goes on.
    #[error("the job panicked")]
    Panicked,
}

/// The thread's queue. Dropped, the thread ends.
pub struct CpuThread {
    jobs: Sender<Job>,
    places: Arc<Semaphore>,
}

type Job = Box<dyn FnOnce() + Send>;

impl CpuThread {
    /// Starts the thread, under a `name` of at most 15 bytes. `queue_max` jobs may wait, besides
    /// the one that runs.
    ///
    /// **Errors**: when the system has no thread to give.
    pub fn start(name: &str, queue_max: usize) -> io::Result<Self> {
        let (jobs, queue) = channel();
        thread::Builder::new().name(name.to_owned()).spawn(move || work_off(&queue))?;
        Ok(Self { jobs, places: Arc::new(Semaphore::new(queue_max + 1)) })
    }

    /// Whether all places are taken at this moment.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.places.available_permits() == 0
    }

    /// Takes a place, for jobs one after the other; it is given back when it is dropped.
    ///
    /// **Errors**: `Busy` at once when there is none.
    pub fn place(&self) -> Result<CpuPlace, JobError> {
        let taken = Arc::clone(&self.places).try_acquire_owned().map_err(|_| JobError::Busy)?;
        Ok(CpuPlace { jobs: self.jobs.clone(), taken: Arc::new(taken) })
    }
}

/// A place in the queue of a [`CpuThread`].
pub struct CpuPlace {
    jobs: Sender<Job>,
    taken: Arc<OwnedSemaphorePermit>,
}

impl CpuPlace {
    /// Runs `job` on the thread. Dropped before the job began, it is not run; the place is free when
    /// the thread has passed it.
    ///
    /// **Errors**: `Panicked` when the job did.
    pub async fn run<T: Send + 'static>(
        &mut self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JobError> {
        let (sender, result) = oneshot::channel();
        let taken = Arc::clone(&self.taken);
        let queued = self.jobs.send(Box::new(move || {
            // A caller that has left meanwhile wants no result.
            let done = (!sender.is_closed()).then(job);
            drop(taken);
            let _ = done.map(|done| sender.send(done));
        }));
        // The thread lives as long as there is a place.
        queued.map_err(|_| JobError::Panicked)?;
        result.await.map_err(|_| JobError::Panicked)
    }
}

/// The thread: jobs until no handle is left.
fn work_off(queue: &Receiver<Job>) {
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        warn!(%error, "the thread for heavy work runs at normal priority");
    }
    while let Ok(job) = queue.recv() {
        // A panic drops the caller's sender, which tells it; the panic hook logs it.
        let _ = catch_unwind(AssertUnwindSafe(job));
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        sync::mpsc::{Sender, channel},
    };

    use tokio::runtime::{Builder, LocalOptions, LocalRuntime};

    use super::*;

    fn runtime() -> LocalRuntime {
        Builder::new_current_thread().build_local(LocalOptions::default()).unwrap()
    }

    /// Runs `job` in a place of its own.
    async fn run<T: Send + 'static>(
        cpu: &CpuThread,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JobError> {
        cpu.place()?.run(job).await
    }

    /// A job that waits for a word, so that the test decides how long it takes.
    fn held_up() -> (Sender<()>, impl FnOnce() + Send + 'static) {
        let (release, word) = channel();
        (release, move || _ = word.recv())
    }

    #[test]
    fn a_job_gives_its_result() {
        runtime().block_on(async {
            let cpu = CpuThread::start("peace-test", 1).unwrap();
            assert_eq!(run(&cpu, || 6 * 7).await, Ok(42));
        });
    }

    #[test]
    fn only_the_thread_is_nice() {
        /// Field 19 of proc(5) `stat`; the name, field 2, may hold blanks.
        fn nice() -> i32 {
            let stat = fs::read_to_string("/proc/thread-self/stat").unwrap();
            let (_, fields) = stat.rsplit_once(')').unwrap();
            fields.split_whitespace().nth(16).unwrap().parse().unwrap()
        }
        runtime().block_on(async {
            let before = nice();
            let cpu = CpuThread::start("peace-test", 1).unwrap();
            let of_thread = run(&cpu, || (nice(), thread::current().name().map(str::to_owned)));
            assert_eq!(of_thread.await, Ok((NICE, Some("peace-test".to_owned()))));
            assert_eq!(nice(), before);
        });
    }

    #[test]
    fn a_full_queue_refuses_at_once_and_recovers() {
        runtime().block_on(async {
            let cpu = CpuThread::start("peace-test", 1).unwrap();
            let (began, begun) = oneshot::channel();
            let (release, held) = held_up();
            let running = run(&cpu, move || {
                let _ = began.send(());
                held();
            });
            let waiting = async {
                begun.await.unwrap();
                let queued = run(&cpu, || 1);
                let refused = async {
                    let answer = run(&cpu, || 2).await;
                    release.send(()).unwrap();
                    answer
                };
                tokio::join!(queued, refused)
            };
            let (ran, (queued, refused)) = tokio::join!(running, waiting);
            assert_eq!((ran, queued, refused), (Ok(()), Ok(1), Err(JobError::Busy)));
            assert_eq!(run(&cpu, || 3).await, Ok(3));
        });
    }

    #[test]
    fn a_place_is_taken_until_the_thread_has_passed_its_last_job() {
        runtime().block_on(async {
            let cpu = CpuThread::start("peace-test", 0).unwrap();
            let mut place = cpu.place().unwrap();
            assert!(cpu.is_full() && matches!(cpu.place(), Err(JobError::Busy)));
            assert_eq!((place.run(|| 1).await, place.run(|| 2).await), (Ok(1), Ok(2)));
            let (began, begun) = oneshot::channel();
            let (release, held) = held_up();
            let mut abandoned = Box::pin(place.run(move || {
                let _ = began.send(());
                held();
            }));
            assert!(futures_util::poll!(&mut abandoned).is_pending());
            begun.await.unwrap();
            drop(abandoned);
            drop(place);
            assert!(cpu.is_full(), "the thread is at its job still");
            release.send(()).unwrap();
            let _free = cpu.places.acquire().await.unwrap();
        });
    }

    #[test]
    fn a_panic_is_an_error_for_that_call_alone() {
        runtime().block_on(async {
            let cpu = CpuThread::start("peace-test", 4).unwrap();
            let (panicked, other) =
                tokio::join!(run(&cpu, || panic!("on purpose")), run(&cpu, || "fine"));
            assert_eq!(panicked, Err::<(), _>(JobError::Panicked));
            assert_eq!(other, Ok("fine"));
        });
    }

    #[test]
    fn a_job_whose_caller_has_left_is_not_run() {
        runtime().block_on(async {
            let cpu = CpuThread::start("peace-test", 4).unwrap();
            let (release, held) = held_up();
            let (ran, runs) = channel();
            let first = run(&cpu, held);
            let left = async {
                let mut abandoned = Box::pin(run(&cpu, move || ran.send(()).unwrap()));
                assert!(futures_util::poll!(&mut abandoned).is_pending());
                drop(abandoned);
                release.send(()).unwrap();
            };
            let _ = tokio::join!(first, left);
            run(&cpu, || ()).await.unwrap();
            assert!(runs.try_recv().is_err());
        });
    }

    #[test]
    fn the_thread_ends_with_its_handle() {
        runtime().block_on(async {
            let cpu = CpuThread::start("peace-test", 1).unwrap();
            let (alive, ended) = channel::<()>();
            // Lives as long as the thread: the thread-local is dropped at its end.
            run(&cpu, move || KEPT.set(Some(alive))).await.unwrap();
            drop(cpu);
            assert!(ended.recv().is_err());
        });
    }

    thread_local! {
        static KEPT: std::cell::Cell<Option<Sender<()>>> = const { std::cell::Cell::new(None) };
    }
}
