//! The only `unsafe` code of the project: what the kernel offers and the type system cannot check.
//!
//! Eight operations, each a safe function whose premises are numbered and ensured here: fork, map shared
//! memory, forget inherited actions, arm a delayed death, ask for the length of a queue, forget variables,
//! own inherited descriptors, leave. Called by `process`, `scoreboard`, `signals`, `child`, `listener` and
//! `start`; knows no policy. Each has a test in `tests/fork.rs`, which runs without the multi-threaded harness.
#![allow(unsafe_code)] // The fence: tests/tidy.rs fails on `unsafe` in any other file.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::AtomicU64;

use nix::libc;
use nix::sys::mman::{MapFlags, ProtFlags, mmap};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::{ForkResult, Pid, alarm, fork};

/// Which side of a fork the caller is on.
pub(crate) enum Side {
    /// The caller, with the child's process id.
    Parent(Pid),
    /// The new process.
    Child,
}

/// Forks a process that has one thread. Source: fork(2).
///
/// # Errors
/// When the system is out of processes or memory, or the caller has more than one thread.
pub(crate) fn fork_single_threaded() -> io::Result<Side> {
    check_single_threaded("fork")?;
    // SAFETY:
    // 1. After fork in a multi-threaded process only async-signal-safe calls are allowed in the
    //    child. This process has one thread: counted just above, and nothing between there and here
    //    starts one.
    // 2. So no lock of the allocator, of std or of a library is held by a thread that does not exist
    //    in the child: the child may go on as an ordinary process.
    // 3. The child must not unwind into frames that think they are the parent: `Supervisor::run`
    //    drops the supervisor, catches a panic of the child's task and ends with `leave`.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(Side::Parent(child)),
        ForkResult::Child => Ok(Side::Child),
    }
}

fn check_single_threaded(what: &str) -> io::Result<()> {
    match fs::read_dir("/proc/self/task")?.count() {
        1 => Ok(()),
        threads => {
            Err(io::Error::other(format!("{what} needs one thread, this process has {threads}")))
        }
    }
}

/// Takes variables out of the environment: later children of this process do not see them. Source:
/// environ(7), unsetenv(3).
///
/// # Errors
/// When the caller has more than one thread.
#[expect(clippy::disallowed_methods, reason = "the one place where no other thread can read them")]
pub(crate) fn forget_variables(names: &[&str]) -> io::Result<()> {
    check_single_threaded("a change of the environment")?;
    for name in names {
        // SAFETY:
        // 1. No other thread reads or writes the environment meanwhile: this process has one, counted
        //    just above, and nothing between there and here starts one.
        unsafe { env::remove_var(name) };
    }
    Ok(())
}

/// Owns the descriptors that this process was exec'd with under these numbers, by number. Source:
/// execve(2), fcntl(2).
///
/// # Errors
/// When one is not open, or was not inherited; then those before it are closed.
pub(crate) fn inherited(numbers: &BTreeSet<i32>) -> io::Result<BTreeMap<i32, OwnedFd>> {
    let own = |number: &i32| {
        // SAFETY:
        // 1. It only reads a flag, of whatever the number is.
        let flags = unsafe { libc::fcntl(*number, libc::F_GETFD) };
        if *number <= libc::STDERR_FILENO || flags == -1 || flags & libc::FD_CLOEXEC != 0 {
            return Err(io::Error::other(format!("descriptor {number} was not inherited")));
        }
        // SAFETY:
        // 1. The descriptor is open: its flags were read just above.
        // 2. Nobody else in this process owns it: std owns only the standard streams, and whatever else
        //    this process opens is closed by an exec, which this one is not, so it is the predecessor's.
        // 3. A set names each number once, and the one caller (`start`) asks once.
        Ok((*number, unsafe { OwnedFd::from_raw_fd(*number) }))
    };
    numbers.iter().map(own).collect()
}

/// Maps the first `words` words of `file` into this process and all its later children, zeroed as the
/// file is. Source: mmap(2), `MAP_SHARED`.
///
/// # Errors
/// When the system refuses the mapping.
///
/// # Panics
/// When `words` is zero.
pub(crate) fn map_shared(file: impl AsFd, words: usize) -> io::Result<&'static [AtomicU64]> {
    let length =
        NonZeroUsize::new(words * size_of::<AtomicU64>()).expect("there is something to map");
    // SAFETY:
    // 1. The address is the kernel's choice: no existing mapping is replaced.
    // 2. `file` is at least `length` bytes long and sealed against shrinking (the one caller,
    //    `scoreboard`, makes and seals it), so that no access can raise SIGBUS.
    let address = unsafe {
        mmap(
            None,
            length,
            ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
            MapFlags::MAP_SHARED,
            file,
            0,
        )?
    };
    // SAFETY:
    // 1. The mapping is `words * 8` bytes long, and page-aligned, which satisfies `AtomicU64`.
    // 2. Every bit pattern is a valid `AtomicU64`.
    // 3. It is never unmapped in this process, so `'static` holds.
    // 4. Other processes change it at any time; all access, theirs included, goes through atomics.
    Ok(unsafe { std::slice::from_raw_parts(address.as_ptr().cast::<AtomicU64>(), words) })
}

/// Gives `signal` its default action, whatever this process inherited: an ignored SIGCHLD would let
/// the kernel reap children unseen, an ignored SIGALRM would let a hung worker live. Source:
/// sigaction(2), wait(2).
///
/// # Errors
/// When the system refuses; it never does for these.
pub(crate) fn default_action(signal: Signal) -> io::Result<()> {
    let action = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY:
    // 1. The default action runs no code of this process.
    // 2. What was installed before is forgotten; it was inherited over an exec, which keeps only
    //    "ignored" and "default", so no handler of ours is lost.
    unsafe { sigaction(signal, &action) }?;
    Ok(())
}

/// Lets `signal` end this process one second after it arrives, even when the process hangs.
///
/// A worker that is stuck in a loop cannot read that its supervisor has died; the kernel can tell it
/// (prctl(2), `PR_SET_PDEATHSIG`), and this leaves a healthy one the time to answer what is in
/// flight. `SIGALRM` itself keeps its default action: to end the process.
///
/// # Errors
/// When `signal` cannot be caught.
pub(crate) fn die_one_second_after(signal: Signal) -> io::Result<()> {
    extern "C" fn arm(_: i32) {
        alarm::set(1);
    }
    let action = SigAction::new(SigHandler::Handler(arm), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY:
    // 1. A handler may only make async-signal-safe calls: alarm(2) is one (signal-safety(7)).
    // 2. It touches no memory of the process.
    // 3. No other code of this project installs an action for this signal.
    unsafe { sigaction(signal, &action) }?;
    Ok(())
}

/// How many connections wait on a listening socket to be accepted. Source: tcp(7), `TCP_INFO`; for a
/// socket that listens the kernel puts the length of the accept queue into `tcpi_unacked`.
///
/// # Errors
/// When it is no TCP socket.
pub(crate) fn queue_length(listener: impl AsFd) -> io::Result<u32> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY:
    // 1. The descriptor is open: it is borrowed for the whole call.
    // 2. The kernel writes at most `length` bytes, which is the size of what `info` has room for.
    let refused = unsafe {
        libc::getsockopt(
            listener.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if refused != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY:
    // 1. It was zeroed, and every field is an integer, for which zero and all else is a value: what an
    //    older kernel did not write is zero.
    Ok(unsafe { info.assume_init() }.tcpi_unacked)
}

/// Ends this process at once with `code`: no destructor runs, no inherited buffer is flushed a
/// second time. Source: _exit(2).
pub(crate) fn leave(code: u8) -> ! {
    // SAFETY:
    // 1. `_exit` is always allowed; it does not return.
    // 2. What destructors would have done does not matter outside this process: descriptors are
    //    closed by the kernel, and shared memory is only a scoreboard.
    unsafe { libc::_exit(i32::from(code)) }
}

/// The operations above, for `tests/fork.rs`.
#[doc(hidden)]
pub mod test_hooks {
    use super::*;

    /// Forks; the child runs `work` and leaves with its result. Answers the child's process id.
    ///
    /// # Errors
    /// As [`fork_single_threaded`].
    pub fn fork_and_run(work: impl FnOnce() -> u8) -> io::Result<i32> {
        match fork_single_threaded()? {
            Side::Parent(pid) => Ok(pid.as_raw()),
            Side::Child => leave(work()),
        }
    }

    /// See [`super::default_action`].
    ///
    /// # Errors
    /// As there.
    pub fn default_action(signal: Signal) -> io::Result<()> {
        super::default_action(signal)
    }

    /// See [`super::die_one_second_after`].
    ///
    /// # Errors
    /// As there.
    pub fn die_one_second_after(signal: Signal) -> io::Result<()> {
        super::die_one_second_after(signal)
    }
}
