//! What the conductor reads of processes and of the machine, from /proc and from clocks.
//!
//! Only Linux has these files, as only Linux has the server. Nothing here signals or starts a process
//! that it watches, and what cannot be seen is `None`, never 0.

pub(crate) mod cpu;
pub(crate) mod machine;
pub(crate) mod memory;
pub(crate) mod processes;
