//! The channel between the supervisor and one child: orders down, messages up.
//!
//! One `SOCK_SEQPACKET` pair per child: packets keep their borders, arrive in order, and the end of
//! file means that the other side is dead. Both ends are non-blocking; a packet is at most
//! [`PACKET_BYTES_MAX`] long, and may bring a copy of a descriptor. A new order or message is a new variant here, not a new mechanism.
//!
//! Called by the loop (its [`SupervisorChannel`]) and by code in the children (their
//! [`ChildChannel`]). It knows nothing of what an order leads to. Source: unix(7).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, recv, send, sendmsg, socketpair,
};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

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
    /// Serve on, but say that you are not ready: a stop is near.
    NotReady,
    /// Log into the file that comes along: somebody has moved the old one away.
    Reopen,
    /// Accept from this slot's socket, too: a copy of it comes along.
    Foster {
        /// The slot.
        slot: usize,
    },
    /// Close the copy of this slot's socket, and say so.
    Unfoster {
        /// The slot.
        slot: usize,
    },
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
    /// The child is a pre-flight, and could take over.
    Passed {
        /// Its version.
        version: String,
    },
    /// The child takes nothing new any more, whoever told it to leave.
    Leaving,
    /// The copy of this slot's socket is closed.
    Unfostered {
        /// The slot.
        slot: usize,
    },
}

/// What a child's look at its channel gave.
#[derive(Debug)]
pub enum Received {
    /// An order; all but those that bring a descriptor.
    Order(Order),
    /// [`Order::Foster`], with the copy of the socket.
    Foster {
        /// The slot it belongs to.
        slot: usize,
        /// The copy.
        listener: TcpListener,
    },
    /// [`Order::Reopen`].
    Reopen {
        /// The file, unless there is none, or no descriptor was left for it.
        file: Option<OwnedFd>,
    },
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

    /// Sends an order and a copy of a descriptor.
    pub(crate) fn send_with(&self, order: Order, descriptor: &impl AsFd) {
        let (bytes, descriptors) = (encode_order(order), [descriptor.as_fd().as_raw_fd()]);
        let rights = [ControlMessage::ScmRights(&descriptors)];
        let _ =
            sendmsg::<()>(self.0.as_raw_fd(), &[IoSlice::new(&bytes)], &rights, SEND_FLAGS, None);
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

impl From<OwnedFd> for SupervisorChannel {
    fn from(descriptor: OwnedFd) -> Self {
        Self(descriptor)
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

impl From<OwnedFd> for ChildChannel {
    fn from(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }
}

impl AsFd for ChildChannel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl ChildChannel {
    /// Tells the supervisor something. Never blocks; a dead supervisor is no error here, since
    /// [`ChildChannel::receive`] reports it.
    pub fn send(&self, message: &Message) {
        let _ = send(self.0.as_raw_fd(), &encode_message(message), SEND_FLAGS);
    }

    /// The next order. Never blocks.
    pub fn receive(&self) -> Received {
        loop {
            match receive_with(self.0.as_fd()) {
                (Packet::Bytes(bytes), copy) => match (decode_order(&bytes), copy) {
                    (Some(Order::Foster { slot }), Some(copy)) => {
                        return Received::Foster { slot, listener: copy.into() };
                    }
                    // Its copy was lost: there was no descriptor left for it.
                    (Some(Order::Foster { slot }), None) => {
                        self.send(&Message::Unfostered { slot });
                    }
                    (Some(Order::Reopen), file) => return Received::Reopen { file },
                    (Some(order), _) => return Received::Order(order),
                    (None, _) => {}
                },
                (Packet::None, _) => return Received::Nothing,
                (Packet::End, _) => return Received::Orphaned,
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
            // The other side ended with something unread: told once, and what it had said comes after.
            Err(Errno::EINTR | Errno::ECONNRESET) => continue,
            Err(Errno::EAGAIN) => Packet::None,
            Err(_) => Packet::End,
        };
    }
}

/// As [`receive`], with the descriptor that came along.
fn receive_with(fd: BorrowedFd<'_>) -> (Packet, Option<OwnedFd>) {
    let mut buffer = [0_u8; PACKET_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let length = loop {
        match recvmsg(fd, &mut parts, &mut rights, RecvFlags::CMSG_CLOEXEC) {
            Ok(received) => break received.bytes,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNRESET) => {}
            Err(rustix::io::Errno::AGAIN) => return (Packet::None, None),
            Err(_) => return (Packet::End, None),
        }
    };
    let descriptors = rights.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let copy = descriptors.flatten().next();
    match length {
        0 => (Packet::End, None),
        length => (Packet::Bytes(buffer[..length].to_vec()), copy),
    }
}

fn encode_order(order: Order) -> Vec<u8> {
    match order {
        Order::Drain => b"d".to_vec(),
        Order::Quit => b"q".to_vec(),
        Order::NotReady => b"n".to_vec(),
        Order::Reopen => b"o".to_vec(),
        Order::Foster { slot } => with_slot(b'+', slot),
        Order::Unfoster { slot } => with_slot(b'-', slot),
    }
}

fn decode_order(bytes: &[u8]) -> Option<Order> {
    match bytes {
        b"d" => Some(Order::Drain),
        b"q" => Some(Order::Quit),
        b"n" => Some(Order::NotReady),
        b"o" => Some(Order::Reopen),
        [b'+', slot @ ..] => Some(Order::Foster { slot: slot_of(slot)? }),
        [b'-', slot @ ..] => Some(Order::Unfoster { slot: slot_of(slot)? }),
        _ => None,
    }
}

fn with_slot(kind: u8, slot: usize) -> Vec<u8> {
    [&[kind][..], &slot.to_le_bytes()].concat()
}

fn slot_of(bytes: &[u8]) -> Option<usize> {
    bytes.try_into().ok().map(usize::from_le_bytes)
}

fn encode_message(message: &Message) -> Vec<u8> {
    match message {
        Message::Ready => b"r".to_vec(),
        Message::BootFailed { code, text } => {
            let mut bytes = vec![b'f', *code];
            bytes.extend_from_slice(cut(text).as_bytes());
            bytes
        }
        Message::Passed { version } => [b"v", cut(version).as_bytes()].concat(),
        Message::Leaving => b"l".to_vec(),
        Message::Unfostered { slot } => with_slot(b'-', *slot),
    }
}

fn decode_message(bytes: &[u8]) -> Option<Message> {
    match bytes {
        b"r" => Some(Message::Ready),
        b"l" => Some(Message::Leaving),
        [b'-', slot @ ..] => Some(Message::Unfostered { slot: slot_of(slot)? }),
        [b'f', code, text @ ..] => Some(Message::BootFailed {
            code: *code,
            text: String::from_utf8_lossy(text).into_owned(),
        }),
        [b'v', version @ ..] => {
            Some(Message::Passed { version: String::from_utf8_lossy(version).into_owned() })
        }
        _ => None,
    }
}

/// The longest prefix of `text` that fits, without splitting a character.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn what_a_child_said_is_heard_although_it_left_an_order_unread() {
        let (up, down) = pair().unwrap();
        up.send(Order::Reopen);
        down.send(&Message::Ready);
        drop(down);
        assert_eq!((up.receive(), up.receive()), (Heard::Message(Message::Ready), Heard::End));
        let (up, down) = pair().unwrap();
        down.send(&Message::Ready);
        up.send(Order::Drain);
        drop(up);
        assert!(matches!(down.receive(), Received::Order(Order::Drain)));
        assert!(matches!(down.receive(), Received::Orphaned));
    }

    #[test]
    fn orders_and_messages_arrive_whole_and_in_order() {
        let (up, down) = pair().unwrap();
        assert!(matches!(down.receive(), Received::Nothing));
        let unfoster = Order::Unfoster { slot: 255 };
        let orders = [Order::Drain, Order::Quit, Order::NotReady, unfoster];
        for order in orders {
            up.send(order);
        }
        for order in orders {
            assert!(matches!(down.receive(), Received::Order(heard) if heard == order));
        }

        let failed = Message::BootFailed { code: 69, text: "no database".into() };
        down.send(&Message::Ready);
        down.send(&Message::Leaving);
        down.send(&Message::Unfostered { slot: 7 });
        down.send(&Message::Passed { version: "1.2.3".into() });
        down.send(&failed);
        assert_eq!(up.receive(), Heard::Message(Message::Ready));
        assert_eq!(up.receive(), Heard::Message(Message::Leaving));
        assert_eq!(up.receive(), Heard::Message(Message::Unfostered { slot: 7 }));
        assert_eq!(up.receive(), Heard::Message(Message::Passed { version: "1.2.3".into() }));
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
        assert!(matches!(down.receive(), Received::Order(Order::Drain)));
        assert!(matches!(down.receive(), Received::Orphaned));
        down.send(&Message::Ready); // must not raise SIGPIPE
    }

    #[test]
    fn a_socket_comes_along_as_a_copy_of_its_own() {
        let (up, down) = pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        up.send_with(Order::Foster { slot: 3 }, &listener);
        drop(listener);
        let Received::Foster { slot: 3, listener: copy } = down.receive() else {
            panic!("no socket")
        };
        assert_eq!(copy.local_addr().unwrap(), address);
        let client = std::net::TcpStream::connect(address).unwrap();
        assert_eq!(copy.accept().unwrap().1, client.local_addr().unwrap());
        let flags = rustix::io::fcntl_getfd(&copy).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC), "no program inherits it");
    }

    #[test]
    fn a_file_comes_along_and_an_order_without_one_is_still_an_order() {
        let (up, down) = pair().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        up.send_with(Order::Reopen, &writer);
        up.send(Order::Reopen);
        drop(writer);
        let Received::Reopen { file: Some(file) } = down.receive() else { panic!("no file") };
        let flags = rustix::io::fcntl_getfd(&file).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC), "no program inherits it");
        File::from(file).write_all(b"a line").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "a line");
        assert!(matches!(down.receive(), Received::Reopen { file: None }));
    }

    #[test]
    fn a_copy_that_was_lost_is_given_back() {
        let (up, down) = pair().unwrap();
        up.send(Order::Foster { slot: 3 });
        up.send(Order::Drain);
        assert!(matches!(down.receive(), Received::Order(Order::Drain)));
        assert_eq!(up.receive(), Heard::Message(Message::Unfostered { slot: 3 }));
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
