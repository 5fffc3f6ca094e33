//! Preparing the statements of a wire, and taking the server's messages apart.
//!
//! `Wire::open` prepares here before there is a driver; the driver reads through the same [`Inbox`].
//! Promises: all statements cost one round trip together; one that the server refuses, whose types need
//! more than their numbers to be known, or whose columns share a name, stays the pool's.
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

use super::{
    Failed,
    driver::{ANSWER_MAX_BYTES, too_long, unexpected},
    statement::Statement,
};
use crate::database::{dial::Socket, error::from_server, rows::Column};

/// What is read at once, at most, before it is dealt with.
const INBOX_BYTES: usize = 32 * 1024;
/// What is kept for the next message when a longer one is dealt with.
const INBOX_KEPT_BYTES: usize = 1 << 20;
/// Bytes of a DataRow message before its first column: tag, length, number of columns.
const ROW_HEAD_BYTES: usize = 1 + 4 + 2;

/// What the server said of each statement.
pub(super) type Prepared = HashMap<&'static str, Described>;

pub(super) enum Described {
    Ready(Statement),
    /// The server does not take it, such as before its tables are there.
    Refused,
    /// It is the pool's to understand its types or columns.
    Foreign,
}

/// Prepares `sqls`, each under the number of its place.
pub(super) async fn all(socket: &mut Socket, sqls: &[&'static str]) -> io::Result<Prepared> {
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
        statements.insert(*sql, described(socket, &mut inbox, name(number)).await?);
    }
    Ok(statements)
}

fn name(number: usize) -> String {
    format!("lane{number}")
}

/// What the server says of one statement.
async fn described(socket: &mut Socket, inbox: &mut Inbox, name: String) -> io::Result<Described> {
    let (mut params, mut columns, mut is_refused) = (None, Some(Vec::new()), false);
    loop {
        let Some((tag, body)) = inbox.take()? else {
            std::future::poll_fn(|cx| inbox.poll_fill(socket, cx)).await?;
            continue;
        };
        match tag {
            b't' => params = parameter_types(body),
            b'T' => columns = columns_of(body),
            b'E' => {
                let failed = failure(body);
                if failed.ends_session {
                    return Err(failed.into_end());
                }
                is_refused = true;
            }
            b'Z' => {
                check_idle(body)?;
                break;
            }
            // ParseComplete, NoData; notices, parameters, notifications.
            b'1' | b'n' | b'N' | b'S' | b'A' => {}
            _ => return Err(unexpected()),
        }
    }
    Ok(match (params, columns) {
        _ if is_refused => Described::Refused,
        (Some(params), Some(columns)) => {
            Described::Ready(Statement { name, params, columns: columns.into() })
        }
        _ => Described::Foreign,
    })
}

/// ReadyForQuery: nobody has begun a transaction here.
pub(super) fn check_idle(body: &[u8]) -> io::Result<()> {
    if body == b"I" { Ok(()) } else { Err(unexpected()) }
}

/// ParameterDescription; `None` when one of the types is not built in.
fn parameter_types(body: &[u8]) -> Option<Vec<Type>> {
    let (_count, oids) = body.split_at_checked(2)?;
    oids.as_chunks::<4>().0.iter().map(|oid| Type::from_oid(u32::from_be_bytes(*oid))).collect()
}

/// RowDescription; `None` when one of the types is not built in, or two columns share a name: which one
/// is meant is for one driver to say.
fn columns_of(body: &[u8]) -> Option<Vec<Column>> {
    let mut columns: Vec<Column> = Vec::new();
    let mut rest = body.get(2..)?;
    while !rest.is_empty() {
        let (name, behind) = text(rest)?;
        // Table (4), column (2), type (4), its size (2), modifier (4), format (2).
        let (facts, behind) = behind.split_first_chunk::<18>()?;
        let oid = u32::from_be_bytes(*facts[6..].first_chunk()?);
        if columns.iter().any(|column| column.name() == name) {
            return None;
        }
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
    /// What the server calls it.
    pub(super) sqlstate: SqlState,
    pub(super) ends_session: bool,
}

impl Failure {
    /// Why the session ends.
    pub(super) fn into_end(self) -> io::Error {
        match self.why {
            Failed::Error(error) => io::Error::other(error.to_string()),
            _ => io::ErrorKind::ConnectionAborted.into(),
        }
    }
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
        sqlstate,
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
        if self.end == 0 && self.buffer.len() > INBOX_KEPT_BYTES {
            self.buffer = vec![0; INBOX_BYTES];
        }
        if self.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
    }

    pub(super) fn begins_with_row(&self) -> bool {
        self.begin < self.end && self.buffer[self.begin] == b'D'
    }

    /// Takes the messages at the start that are rows, and whole; gives them and their number. **Errors**
    /// when one has not so many columns.
    pub(super) fn take_rows(&mut self, columns: usize) -> io::Result<(&[u8], usize)> {
        let (begin, mut count) = (self.begin, 0);
        while let Some((b'D', length)) = self.head()
            && self.end - self.begin >= length
        {
            let row = &self.buffer[self.begin..self.begin + length];
            let found = row.get(5..ROW_HEAD_BYTES).and_then(|bytes| bytes.try_into().ok());
            if found.map(u16::from_be_bytes).map(usize::from) != Some(columns) {
                return Err(unexpected());
            }
            self.begin += length;
            count += 1;
        }
        Ok((&self.buffer[begin..self.begin], count))
    }

    /// Takes the next message, if it is whole: its tag and its body.
    pub(super) fn take(&mut self) -> io::Result<Option<(u8, &[u8])>> {
        let Some((tag, length)) = self.head() else { return Ok(None) };
        if length < 5 {
            return Err(unexpected());
        }
        if length > ANSWER_MAX_BYTES {
            return Err(too_long());
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::duplex;

    use super::*;

    #[tokio::test]
    async fn a_long_message_leaves_no_long_buffer_behind() {
        let (ours, mut theirs) = duplex(16 << 20);
        let mut socket: Socket = Box::new(ours);
        let body = vec![0; 3 << 20];
        let length = u32::try_from(body.len() + 4).unwrap();
        let long = [&b"N"[..], &length.to_be_bytes(), &body].concat();
        theirs.write_all(&[&long[..], b"Z\0\0\0\x05I"].concat()).await.unwrap();
        let mut inbox = Inbox::new();
        let mut tags = Vec::new();
        while tags.len() < 2 {
            poll_fn(|cx| inbox.poll_fill(&mut socket, cx)).await.unwrap();
            while let Some((tag, _)) = inbox.take().unwrap() {
                tags.push(tag);
            }
        }
        assert_eq!(tags, [b'N', b'Z']);
        theirs.write_all(b"Z\0\0\0\x05I").await.unwrap();
        poll_fn(|cx| inbox.poll_fill(&mut socket, cx)).await.unwrap();
        assert_eq!((inbox.buffer.len(), inbox.take().unwrap().is_some()), (INBOX_BYTES, true));
    }
}
