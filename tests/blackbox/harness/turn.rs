//! Who may run beside whom: most tests share the machine, a test that measures time has it alone.
//!
//! Every test begins with a [`Turn`], since nothing else of the harness can be had without one.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

static MACHINE: RwLock<()> = RwLock::new(());

/// The right to use the machine, until it is dropped.
#[allow(dead_code, reason = "the guards are held, not read")]
pub(crate) enum Turn {
    Shared(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

impl Turn {
    /// Other tests may run meanwhile.
    pub(crate) fn shared() -> Self {
        Self::Shared(MACHINE.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// No other test runs meanwhile.
    pub(crate) fn alone() -> Self {
        Self::Alone(MACHINE.write().unwrap_or_else(PoisonError::into_inner))
    }
}
