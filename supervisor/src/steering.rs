//! Steering: which slots get new connections.
//!
//! The kernel asks a small program which socket of a `SO_REUSEPORT` group a new connection is for. Ours
//! chooses at random among the slots that serve, so that one that is dead, hung, booting or closing does
//! not keep its share. Replacing the program is one call on any socket of the group, needs no privilege,
//! and touches no connection that exists.
//!
//! A socket's place in the group is the order of `listen()`, which is the slot's number as long as only
//! the highest one ever leaves (`plan` sees to that). Called by `listener`; knows no policy.
//! Source: socket(7), `SO_ATTACH_REUSEPORT_CBPF`; bpf(4); filter.txt of the kernel on `SKF_AD_RANDOM`.

use std::io;
use std::os::fd::AsFd;

use nix::libc::{self, sock_filter, sock_fprog};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::AttachReusePortCbpf;

/// Codes of instructions.
pub(crate) const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
pub(crate) const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const REMAINDER: u16 = (libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K) as u16;
pub(crate) const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
pub(crate) const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// "Loads" a random number.
const RANDOM: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_RANDOM) as u32;

/// Lets the group that `socket` belongs to give new connections to these slots only.
///
/// # Errors
/// When the kernel refuses the program; no slot at all is no program.
pub(crate) fn attach(socket: &impl AsFd, slots: &[usize]) -> io::Result<()> {
    let mut program = program(slots)?;
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    let program = sock_fprog { len: length, filter: program.as_mut_ptr() };
    setsockopt(socket, AttachReusePortCbpf, &program)?;
    Ok(())
}

/// A random number, its remainder by the number of slots, and for each remainder the slot.
fn program(slots: &[usize]) -> io::Result<Vec<sock_filter>> {
    let slots = slots.iter().map(|slot| u32::try_from(*slot)).collect::<Result<Vec<_>, _>>();
    let slots = slots.map_err(io::Error::other)?;
    let Some((last, others)) = slots.split_last() else {
        return Err(io::Error::other("there is no slot to steer to"));
    };
    let count = u32::try_from(slots.len()).map_err(io::Error::other)?;
    let mut program = vec![plain(LOAD_WORD, RANDOM), plain(REMAINDER, count)];
    for (remainder, slot) in (0_u32..).zip(others) {
        program.push(sock_filter { code: JUMP_IF_EQUAL, jt: 0, jf: 1, k: remainder });
        program.push(plain(RETURN, *slot));
    }
    program.push(plain(RETURN, *last));
    Ok(program)
}

fn plain(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}
