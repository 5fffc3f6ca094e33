//! Tasks that run to their end whoever waits for them, counted, so that a closing pool can wait.
//!
//! The pool starts them: transactions, and sessions that wait for an answer nobody wants any more.
//! Promises: the count falls when a task ends in any way: done, panicked, cancelled.
//! Does not know: what runs; its bounds are the tasks' own deadlines.

use std::rc::Rc;

use tokio::{
    sync::watch,
    task::{JoinHandle, spawn_local},
};

#[derive(Default)]
pub(super) struct Tasks {
    running: Rc<watch::Sender<usize>>,
}

impl Tasks {
    /// Starts `work` on this thread's event loop.
    pub(super) fn spawn<T: 'static>(
        &self,
        work: impl Future<Output = T> + 'static,
    ) -> JoinHandle<T> {
        let running = Running::begin(&self.running);
        spawn_local(async move {
            let _running = running;
            work.await
        })
    }

    pub(super) fn count(&self) -> usize {
        *self.running.borrow()
    }

    /// Waits until none runs.
    pub(super) async fn none(&self) {
        // Cannot fail: `self` holds the sender.
        let _ = self.running.subscribe().wait_for(|count| *count == 0).await;
    }
}

struct Running(Rc<watch::Sender<usize>>);

impl Running {
    fn begin(running: &Rc<watch::Sender<usize>>) -> Self {
        running.send_modify(|count| *count += 1);
        Self(Rc::clone(running))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}
