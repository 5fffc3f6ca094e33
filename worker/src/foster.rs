//! Standing in for siblings: accepting what is queued for a slot whose own worker cannot.
//!
//! `runtime.rs` hands the supervisor's orders on to it; a task of `accept.rs` accepts from each copy.
//! Promises: only a worker that serves fosters; whatever happens to a copy, and whatever is wrong with it,
//! this worker serves on; a slot is reported exactly when its copy has been closed, for whichever reason,
//! and when there was none to close.
//! Does not know: why a slot is fostered, how a report travels.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::TcpListener as StdTcpListener;
use std::rc::Rc;

use tokio::task::{AbortHandle, JoinSet};

use crate::accept::accept;
use crate::listen::watched;
use crate::shared::Shared;

type OnUnfostered = Rc<RefCell<Box<dyn FnMut(usize)>>>;

/// The slots this worker fosters.
pub(crate) struct Fosters {
    /// There while the worker serves.
    shared: Option<Rc<Shared>>,
    accepting: JoinSet<()>,
    copies: HashMap<usize, AbortHandle>,
    on_unfostered: OnUnfostered,
}

impl Fosters {
    /// None yet, and none will be taken before [`Self::serve`].
    pub(crate) fn new(on_unfostered: Box<dyn FnMut(usize)>) -> Self {
        Self {
            shared: None,
            accepting: JoinSet::new(),
            copies: HashMap::new(),
            on_unfostered: Rc::new(RefCell::new(on_unfostered)),
        }
    }

    /// From now on the worker fosters what it is told to.
    pub(crate) fn serve(&mut self, shared: &Rc<Shared>) {
        self.shared = Some(Rc::clone(shared));
    }

    /// From now on it takes no more. Gives the tasks, which end at the drain; a slot can still be
    /// unfostered before its task has.
    pub(crate) fn leave(&mut self) -> JoinSet<()> {
        self.shared = None;
        std::mem::take(&mut self.accepting)
    }

    /// Accept from `listener`, too. A second copy of a slot that is fostered is as good as the first: it
    /// is closed without a report. A worker that does not serve closes it and says so.
    pub(crate) fn foster(&mut self, slot: usize, listener: StdTcpListener) {
        self.forget_ended();
        if self.copies.contains_key(&slot) {
            return;
        }
        let report = self.report(slot);
        let Some(shared) = &self.shared else {
            drop(listener);
            return drop(report);
        };
        match watched(listener) {
            Ok(listener) => {
                let accepting = accept(listener, Rc::clone(shared));
                let task = self.accepting.spawn_local(stand_in(accepting, report));
                self.copies.insert(slot, task);
                tracing::debug!(slot, "fostering");
            }
            Err(error) => tracing::warn!(slot, %error, "a listener of a sibling cannot be used"),
        }
    }

    /// Close the copy, and leave who is queued to the slot's own worker.
    pub(crate) fn unfoster(&mut self, slot: usize) {
        self.forget_ended();
        match self.copies.remove(&slot) {
            // The task ends where it waits, which is never with a connection in its hands.
            Some(task) => task.abort(),
            None => drop(self.report(slot)),
        }
    }

    fn forget_ended(&mut self) {
        self.copies.retain(|_, task| !task.is_finished());
        while self.accepting.try_join_next().is_some() {}
    }

    fn report(&self, slot: usize) -> Report {
        Report { slot, on_unfostered: Rc::clone(&self.on_unfostered) }
    }
}

/// Accept until there is no more to accept, or until aborted. Either way `accepting` is dropped first, and
/// the listener with it.
async fn stand_in(accepting: impl Future<Output = ()>, report: Report) {
    accepting.await;
    drop(report);
}

/// Reports its slot when it is dropped.
struct Report {
    slot: usize,
    on_unfostered: OnUnfostered,
}

impl Drop for Report {
    fn drop(&mut self) {
        tracing::debug!(slot = self.slot, "not fostering");
        (self.on_unfostered.borrow_mut())(self.slot);
    }
}
