//! Preparing the statements of a wire, and taking the server's messages apart.
//!
//! `Wire::open` prepares here before there is a driver; the driver reads through the same [`Inbox`].
//! Promises: all statements cost one round trip together; one that the server refuses, or whose types
//! need more than their numbers to be known, is left out, and stays the pool's.
//!
//! Source: PostgreSQL, "Message Formats", "Error and Notice Message Fields".

use std::{
    collections::HashMap,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio_postgres::{error::SqlState, types::Type};

use super::{Failed, Statement, driver::unexpected};
use crate::database::{dial::Socket, error::from_server, rows::Column};

/// What is read at once, at most, before it is dealt with.
const INBOX_BYTES: usize = 32 * 1024;
/// The longest message; PostgreSQL's own limit of a value.
const MESSAGE_MAX_BYTES: usize = 1 << 30;

/// Prepares `sqls`, each under the number of its place.
pub(super) async fn all(
    socket: &mut Socket,
    sqls: &[&'static str],
) -> io::Result<HashMap<&'static str, Statement>> {
    let mut out = BytesMut::new();
    for (number, sql) in sqls.iter().enumerate() {
        let name = name(number);
        frontend::parse(&name, sql, [], &mut out)?;
        frontend::describe(b'S', &name, &mut out)?;
        frontend::sync(&mut out);
    }
    socket.write_all(&out).await?;
    socket.flush().await?;

    let mut inbox = Inbox::new();
    let mut statements = HashMap::with_capacity(sqls.len());
    for (number, sql) in sqls.iter().enumerate() {
        if let Some(statement) = described(socket, &mut inbox, name(number)).await? {
            statements.insert(*sql, statement);
        }
    }
    Ok(statements)
}

fn name(number: usize) -> String {
    format!("lane{number}")
}

/// What the server says of one statement.
async fn described(
    socket: &mut Socket,
    inbox: &mut Inbox,
    name: String,
) -> io::Result<Option<Statement>> {
    let (mut params, mut columns) = (None, Some(Vec::new()));
    loop {
        let Some((tag, body)) = inbox.take()? else {
            std::future::poll_fn(|cx| inbox.poll_fill(socket, cx)).await?;
            continue;
        };
        match tag {
            b't' => params = parameter_types(body),
            b'T' => columns = columns_of(body),
            b'E' if failure(body).ends_session => {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            b'E' => params = None,
            b'Z' => break,
            // ParseComplete, NoData; notices, parameters, notifications.
            b'1' | b'n' | b'N' | b'S' | b'A' => {}
            _ => return Err(unexpected()),
        }
    }
    let known = params.zip(columns);
    Ok(known.map(|(params, columns)| Statement { name, params, columns: columns.into() }))
}

/// ParameterDescription; `None` when one of the types is not built in.
fn parameter_types(body: &[u8]) -> Option<Vec<Type>> {
    let (_count, oids) = body.split_at_checked(2)?;
    oids.as_chunks::<4>().0.iter().map(|oid| Type::from_oid(u32::from_be_bytes(*oid))).collect()
}

/// RowDescription; `None` when one of the types is not built in.
fn columns_of(body: &[u8]) -> Option<Vec<Column>> {
    let mut columns = Vec::new();
    let mut rest = body.get(2..)?;
    while !rest.is_empty() {
        let (name, behind) = text(rest)?;
        // Table (4), column (2), type (4), its size (2), modifier (4), format (2).
        let (facts, behind) = behind.split_first_chunk::<18>()?;
        let oid = u32::from_be_bytes(*facts[6..].first_chunk()?);
        columns.push(Column::new(name, Type::from_oid(oid)?));
        rest = behind;
    }
    Some(columns)
}

/// The text up to the next zero byte, and what is behind that.
fn text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    Some((str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 1..]))
}

/// An ErrorResponse.
pub(super) struct Failure {
    pub(super) why: Failed,
    pub(super) ends_session: bool,
}

/// What an ErrorResponse means to the asker and to the session.
pub(super) fn failure(mut body: &[u8]) -> Failure {
    let mut fields: HashMap<u8, &str> = HashMap::new();
    while let Some((kind @ 1.., rest)) = body.split_first() {
        let Some((value, behind)) = text(rest) else { break };
        fields.insert(*kind, value);
        body = behind;
    }
    let field = |kind: u8| fields.get(&kind).copied().unwrap_or_default();
    let sqlstate = SqlState::from_code(field(b'C'));
    let place = [b'n', b'c'].map(field).into_iter().find(|name| !name.is_empty());
    let stale = sqlstate == SqlState::INVALID_SQL_STATEMENT_NAME
        || (sqlstate == SqlState::FEATURE_NOT_SUPPORTED && field(b'R') == "RevalidateCachedQuery");
    Failure {
        why: match stale {
            true => Failed::Stale,
            false => Failed::Error(from_server(&sqlstate, field(b'M'), place.unwrap_or_default())),
        },
        ends_session: field(b'V') != "ERROR",
    }
}

/// What has come from the server and is not dealt with yet.
pub(super) struct Inbox {
    /// Initialised once; `begin..end` of it is what has come.
    buffer: Vec<u8>,
    begin: usize,
    end: usize,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self { buffer: vec![0; INBOX_BYTES], begin: 0, end: 0 }
    }

    /// Reads once. **Errors** when the server has closed, too.
    pub(super) fn poll_fill(
        &mut self,
        socket: &mut Socket,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        self.make_room();
        let mut free = ReadBuf::new(&mut self.buffer[self.end..]);
        ready!(Pin::new(socket).poll_read(cx, &mut free))?;
        let count = free.filled().len();
        self.end += count;
        Poll::Ready(if count > 0 { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) })
    }

    /// There is room for the rest of the message that is coming in; more when it is a long one.
    fn make_room(&mut self) {
        if self.begin > 0 {
            self.buffer.copy_within(self.begin..self.end, 0);
            self.end -= self.begin;
            self.begin = 0;
        }
        if self.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
    }

    /// Takes the messages at the start that are rows, and whole; gives them and their number.
    pub(super) fn take_rows(&mut self) -> (&[u8], usize) {
        let (begin, mut count) = (self.begin, 0);
        while let Some((b'D', length)) = self.head()
            && self.end - self.begin >= length
        {
            self.begin += length;
            count += 1;
        }
        (&self.buffer[begin..self.begin], count)
    }

    /// Takes the next message, if it is whole: its tag and its body.
    pub(super) fn take(&mut self) -> io::Result<Option<(u8, &[u8])>> {
        let Some((tag, length)) = self.head() else { return Ok(None) };
        if !(5..=MESSAGE_MAX_BYTES).contains(&length) {
            return Err(unexpected());
        }
        if self.end - self.begin < length {
            return Ok(None);
        }
        let begin = self.begin;
        self.begin += length;
        Ok(Some((tag, &self.buffer[begin + 5..self.begin])))
    }

    /// Tag and length, itself included, of the next message.
    fn head(&self) -> Option<(u8, usize)> {
        let (tag, rest) = self.buffer[self.begin..self.end].split_first()?;
        let length = u32::from_be_bytes(*rest.first_chunk()?);
        Some((*tag, length as usize + 1))
    }
}
