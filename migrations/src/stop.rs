//! A run that is told to stop: INT or TERM while it works.
//!
//! The command line runs its work in [`stoppable`]; whoever holds something of the server hands what
//! has to be done to [`afterwards`] when it is dropped: `session` cancels its statement, and
//! whatever makes a database drops it.
//! It promises that the work is dropped at the first signal and what follows from that is waited
//! for; that a second signal ends the wait; that the wait has a limit; and that a signal between two
//! pieces of work (a question to the terminal) ends the process at once.
//! It does not know what is dropped.
//! Source: signal-hook's `low_level::pipe` and `flag`: a handler that was installed stays, so the
//! default would not come back by taking the pipe away.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signal_hook::SigId;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag::register_conditional_shutdown;
use signal_hook::low_level::{pipe, unregister};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::runtime::Handle;
use tokio::select;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// For everything that is left to do; a server that is gone must not hold the terminal.
const AFTERWARDS_MAX: Duration = Duration::from_secs(10);
const SIGNALS: [i32; 2] = [SIGINT, SIGTERM];
/// The exit code of a run that was interrupted.
pub(crate) const INTERRUPTED: u8 = 130;

/// Whether nothing is at work that has to be stopped with care: a signal ends the process then.
static IDLE: AtomicBool = AtomicBool::new(true);
/// Whether the handlers that look at it are there; they stay.
static HANDLED: OnceLock<()> = OnceLock::new();

tokio::task_local! {
    static LEFT: RefCell<Vec<JoinHandle<()>>>;
}

/// Runs `work` until it is done or a signal comes; `None`: it was stopped.
///
/// **Blocks** after that until what was handed to [`afterwards`] is done, up to 10 s. **Errors**:
/// the signals cannot be listened to.
pub(crate) async fn stoppable<T>(work: impl Future<Output = T>) -> io::Result<Option<T>> {
    let mut listening = Listening::begin()?;
    Ok(stoppable_by(&mut listening.signals, work).await)
}

async fn stoppable_by<T>(signals: &mut UnixStream, work: impl Future<Output = T>) -> Option<T> {
    let run = async {
        let done = select! {
            done = work => Some(done),
            () = heard(signals) => None,
        };
        select! {
            () = finish() => {}
            () = heard(signals) => {}
        }
        done
    };
    LEFT.scope(RefCell::default(), run).await
}

/// Does `work` even if the run that needs it has been stopped: to be called from `drop`.
pub(crate) fn afterwards(work: impl Future<Output = ()> + Send + 'static) {
    let Ok(runtime) = Handle::try_current() else { return };
    let task = runtime.spawn(work);
    // Nobody waits for it in a run that no signal stops.
    let _ = LEFT.try_with(|left| left.borrow_mut().push(task));
}

async fn finish() {
    let all = async {
        while let Some(task) = LEFT.with(|left| left.borrow_mut().pop()) {
            drop(task.await);
        }
    };
    drop(timeout(AFTERWARDS_MAX, all).await);
}

/// One byte for each signal, until it is dropped.
struct Listening {
    signals: UnixStream,
    pipes: Vec<SigId>,
}

impl Listening {
    fn begin() -> io::Result<Self> {
        let (read, write) = StdUnixStream::pair()?;
        read.set_nonblocking(true)?;
        let mut listening = Self { signals: UnixStream::from_std(read)?, pipes: Vec::new() };
        IDLE.store(false, Ordering::SeqCst);
        let is_first = HANDLED.set(()).is_ok();
        for signal in SIGNALS {
            if is_first {
                register_conditional_shutdown(signal, INTERRUPTED.into(), &IDLE)?;
            }
            listening.pipes.push(pipe::register(signal, write.try_clone()?)?);
        }
        Ok(listening)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        for pipe in self.pipes.drain(..) {
            unregister(pipe);
        }
        IDLE.store(true, Ordering::SeqCst);
    }
}

async fn heard(signals: &mut UnixStream) {
    // The other end is never closed, so there is no end of file to take for a signal.
    drop(signals.read_u8().await);
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::io::AsyncWriteExt;
    use tokio::time::Instant;

    use super::*;

    /// Does something when it is dropped, after a moment.
    struct Held(Arc<AtomicBool>);

    impl Drop for Held {
        fn drop(&mut self) {
            let done = Arc::clone(&self.0);
            afterwards(async move {
                tokio::task::yield_now().await;
                done.store(true, Ordering::Relaxed);
            });
        }
    }

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work)
    }

    #[test]
    fn a_signal_ends_the_work_and_what_is_left_is_done() {
        for ends_by_itself in [true, false] {
            let done = Arc::new(AtomicBool::new(false));
            let held = Held(Arc::clone(&done));
            let ended = block_on(async {
                let (mut signal, mut signals) = UnixStream::pair().unwrap();
                let work = async {
                    let _held = held;
                    if !ends_by_itself {
                        signal.write_u8(0).await.unwrap();
                        pending::<()>().await;
                    }
                };
                stoppable_by(&mut signals, work).await
            });
            assert_eq!(ended.is_some(), ends_by_itself);
            assert!(done.load(Ordering::Relaxed));
        }
    }

    #[test]
    fn a_second_signal_ends_the_wait() {
        let begin = Instant::now();
        let ended = block_on(async {
            let (mut signal, mut signals) = UnixStream::pair().unwrap();
            let work = async move {
                signal.write_u8(0).await.unwrap();
                afterwards(async move {
                    signal.write_u8(0).await.unwrap();
                    pending().await
                });
                pending::<()>().await;
            };
            stoppable_by(&mut signals, work).await
        });
        assert_eq!(ended, None);
        assert!(begin.elapsed() < AFTERWARDS_MAX);
    }

    /// What the child process below is told by.
    const CHILD: &str = "STOP_TEST_SIGNAL";

    // In a process of its own, since it ends: this test again, in another role.
    #[test]
    fn a_signal_between_two_pieces_of_work_ends_the_process() {
        if let Some(signal) = std::env::var_os(CHILD) {
            for work in ["question", "answer"] {
                assert_eq!(block_on(stoppable(async { work })).unwrap(), Some(work));
            }
            let signal = signal.into_string().unwrap().parse().unwrap();
            signal_hook::low_level::raise(signal).unwrap();
            return;
        }
        for signal in SIGNALS {
            let name = "stop::tests::a_signal_between_two_pieces_of_work_ends_the_process";
            let mut child = std::process::Command::new(std::env::current_exe().unwrap());
            let ended = child.args(["--exact", name]).env(CHILD, signal.to_string()).output();
            assert_eq!(ended.unwrap().status.code(), Some(130), "{signal}");
        }
    }
}
