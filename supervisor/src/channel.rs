//! The channel between the supervisor and one child: orders down, messages up.
//!
//! One `SOCK_SEQPACKET` pair per child: packets keep their borders, arrive in order, and the end of
//! file means that the other side is dead. Both ends are non-blocking; a packet is at most
//! [`PACKET_BYTES_MAX`] long. A new order or message is a new variant here, not a new mechanism.
//!
//! Called by the loop (its [`SupervisorChannel`]) and by code in the children (their
//! [`ChildChannel`]). It knows nothing of what an order leads to. Source: unix(7).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};

/// The longest packet, in bytes.
pub const PACKET_BYTES_MAX: usize = 256;
/// The longest text inside a packet, in bytes.
pub const TEXT_BYTES_MAX: usize = 200;

/// What the supervisor tells a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Take nothing new, answer what is in flight, leave.
    Drain,
    /// The same, but within the quick timeout.
    Quit,
}

/// What a child tells the supervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// The child does its work from now on.
    Ready,
    /// The child could not start, and is about to leave.
    BootFailed {
        /// The exit code it suggests for the whole program (sysexits).
        code: u8,
        /// Why, in one line; cut to [`TEXT_BYTES_MAX`] bytes.
        text: String,
    },
}

/// What a child's look at its channel gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// An order.
    Order(Order),
    /// Nothing waits.
    Nothing,
    /// The supervisor is dead.
    Orphaned,
}

/// What the supervisor's look at a channel gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// A message.
    Message(Message),
    /// Nothing waits.
    Nothing,
    /// The child has ended, or has become another program.
    End,
}

/// Opens a pair: the supervisor's end and the child's.
pub(crate) fn pair() -> io::Result<(SupervisorChannel, ChildChannel)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let (up, down) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
    Ok((SupervisorChannel(up), ChildChannel(down)))
}

/// The supervisor's end.
#[derive(Debug)]
pub(crate) struct SupervisorChannel(OwnedFd);

impl SupervisorChannel {
    /// Sends an order. A dead or full channel is no error: the child's death is observed elsewhere.
    pub(crate) fn send(&self, order: Order) {
        let _ = send(self.0.as_raw_fd(), &encode_order(order), SEND_FLAGS);
    }

    /// The next message.
    pub(crate) fn receive(&self) -> Heard {
        loop {
            match receive(self.0.as_fd()) {
                Packet::Bytes(bytes) => match decode_message(&bytes) {
                    Some(message) => return Heard::Message(message),
                    // A packet of another version says nothing; the next one may.
                    None => continue,
                },
                Packet::None => return Heard::Nothing,
                Packet::End => return Heard::End,
            }
        }
    }
}

impl AsFd for SupervisorChannel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The child's end.
#[derive(Debug)]
pub struct ChildChannel(OwnedFd);

impl ChildChannel {
    /// Tells the supervisor something. Never blocks; a dead supervisor is no error here, since
    /// [`ChildChannel::receive`] reports it.
    pub fn send(&self, message: &Message) {
        let _ = send(self.0.as_raw_fd(), &encode_message(message), SEND_FLAGS);
    }

    /// The next order. Never blocks.
    pub fn receive(&self) -> Received {
        loop {
            match receive(self.0.as_fd()) {
                Packet::Bytes(bytes) => match decode_order(&bytes) {
                    Some(order) => return Received::Order(order),
                    None => continue,
                },
                Packet::None => return Received::Nothing,
                Packet::End => return Received::Orphaned,
            }
        }
    }

    /// A descriptor that is readable whenever [`ChildChannel::receive`] has something to say.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn wake(&self) -> io::Result<OwnedFd> {
        self.0.try_clone()
    }
}

/// A peer that is gone must give an error, not a signal.
const SEND_FLAGS: MsgFlags = MsgFlags::MSG_NOSIGNAL;

enum Packet {
    Bytes(Vec<u8>),
    None,
    End,
}

fn receive(fd: BorrowedFd<'_>) -> Packet {
    let mut buffer = [0_u8; PACKET_BYTES_MAX];
    loop {
        return match recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(0) => Packet::End,
            Ok(length) => Packet::Bytes(buffer[..length].to_vec()),
            Err(Errno::EINTR) => continue,
            Err(Errno::EAGAIN) => Packet::None,
            Err(_) => Packet::End,
        };
    }
}

fn encode_order(order: Order) -> [u8; 1] {
    match order {
        Order::Drain => *b"d",
        Order::Quit => *b"q",
    }
}

fn decode_order(bytes: &[u8]) -> Option<Order> {
    match bytes {
        b"d" => Some(Order::Drain),
        b"q" => Some(Order::Quit),
        _ => None,
    }
}

fn encode_message(message: &Message) -> Vec<u8> {
    match message {
        Message::Ready => b"r".to_vec(),
        Message::BootFailed { code, text } => {
            let mut bytes = vec![b'f', *code];
            bytes.extend_from_slice(cut(text).as_bytes());
            bytes
        }
    }
}

fn decode_message(bytes: &[u8]) -> Option<Message> {
    match bytes {
        b"r" => Some(Message::Ready),
        [b'f', code, text @ ..] => Some(Message::BootFailed {
            code: *code,
            text: String::from_utf8_lossy(text).into_owned(),
        }),
        _ => None,
    }
}

/// The longest prefix of `text` that fits, without splitting a character.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_and_messages_arrive_whole_and_in_order() {
        let (up, down) = pair().unwrap();
        assert_eq!(down.receive(), Received::Nothing);
        up.send(Order::Drain);
        up.send(Order::Quit);
        assert_eq!(down.receive(), Received::Order(Order::Drain));
        assert_eq!(down.receive(), Received::Order(Order::Quit));

        let failed = Message::BootFailed { code: 69, text: "no database".into() };
        down.send(&Message::Ready);
        down.send(&failed);
        assert_eq!(up.receive(), Heard::Message(Message::Ready));
        assert_eq!(up.receive(), Heard::Message(failed));
        assert_eq!(up.receive(), Heard::Nothing);
        drop(down);
        assert_eq!(up.receive(), Heard::End);
    }

    #[test]
    fn a_dead_supervisor_is_seen_after_its_last_order() {
        let (up, down) = pair().unwrap();
        up.send(Order::Drain);
        drop(up);
        assert_eq!(down.receive(), Received::Order(Order::Drain));
        assert_eq!(down.receive(), Received::Orphaned);
        down.send(&Message::Ready); // must not raise SIGPIPE
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let (up, down) = pair().unwrap();
        down.send(&Message::BootFailed { code: 64, text: "é".repeat(300) });
        let Heard::Message(Message::BootFailed { text, .. }) = up.receive() else {
            panic!("no message")
        };
        assert_eq!(text, "é".repeat(TEXT_BYTES_MAX / 2));
    }

    #[test]
    fn an_unknown_packet_is_passed_over() {
        let (up, down) = pair().unwrap();
        send(down.0.as_raw_fd(), b"?from another version", SEND_FLAGS).unwrap();
        down.send(&Message::Ready);
        assert_eq!(up.receive(), Heard::Message(Message::Ready));
    }
}
