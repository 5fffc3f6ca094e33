//! The supervisor: processes, sockets and signals, and nothing else.
//!
//! **What it does.** It opens one `SO_REUSEPORT` socket per *slot*, forks one *worker* per slot and
//! keeps it that way: a worker that dies is replaced on the same socket, so the connections queued
//! on it wait instead of being reset. Before the workers it runs the *programs* it was given: steps
//! (run to their end, then the next) and services (kept running beside the workers).
//!
//! **The loop.** `observe -> plan -> act`. Signals, deaths, messages of children and the clock are
//! observed ([`supervisor`]); [`plan::plan`] is a pure function over one plain, serialisable
//! [`state::State`] and decides everything; the loop then acts: forks, signals, sends. No step
//! blocks, and every wait has a deadline.
//!
//! **A child's life.** fork -> *booting* -> `ready` -> *serving* -> told to drain -> *draining* ->
//! exit. A child that misses its deadline is killed. Child and supervisor share a channel
//! ([`channel`]), whose end of file tells each that the other is gone, and the child owns one cell
//! of the scoreboard ([`scoreboard`]).
//!
//! **Who knows whom.** The application calls [`Supervisor::new`] and [`Supervisor::run`] with
//! closures that run in the children. This crate knows no HTTP, no PostgreSQL and no async runtime,
//! and it starts no thread: fork(2) copies only the calling one, so anything a thread held (a lock,
//! a half-written buffer) would stay broken in the child for ever.
//!
//! Sources: fork(2), socket(7) on `SO_REUSEPORT`, signalfd(2), prctl(2), memfd_create(2).

mod activation;
mod bind;
mod boards;
mod census;
pub mod channel;
mod child;
mod clock;
mod config;
pub mod control;
mod door;
mod error;
mod handover;
mod heritage;
mod journal;
mod listener;
mod notify;
pub mod plan;
mod process;
pub mod scoreboard;
mod shared;
mod signals;
mod start;
pub mod state;
pub mod status;
mod steering;
mod supervisor;
mod sys;
mod takeover;

pub use bind::Bind;
pub use channel::{ChildChannel, Message, Order, Received};
pub use child::Post;
pub use config::{CellLayout, Config, ProgramKind, Recycling, SLOTS_MAX, Told};
pub use control::{Answer, Request};
pub use error::Error;
pub use journal::{Event, Journal};
pub use plan::Reload;
pub use scoreboard::{Beat, Board, Cell, Snapshot};
pub use start::Start;
pub use state::{Exit, Outcome, Role};
pub use status::Status;
pub use supervisor::{Program, Supervisor, Task, Work};

#[doc(hidden)]
pub use sys::test_hooks;
