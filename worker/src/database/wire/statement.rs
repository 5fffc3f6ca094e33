//! A statement of a wire, as the server knows it, and how its values are written down.
//!
//! `prepare` makes it, [`Wire::ask`](super::Wire::ask) encodes it. Promises: what is written is whole, or
//! nothing, also when a value fails or panics while it is written. Does not know: who asks.
//!
//! Source: PostgreSQL, "Message Formats, Bind, Execute".

use std::rc::Rc;

use bytes::BytesMut;
use postgres_protocol::{
    IsNull,
    message::frontend::{self, BindError},
};
use tokio_postgres::types::{self, Type};

use crate::database::{error::DbError, rows::Column, session::Params};

pub(super) struct Statement {
    pub(super) name: String,
    pub(super) params: Vec<Type>,
    pub(super) columns: Rc<[Column]>,
}

impl Statement {
    /// Appends Bind and Execute; nothing when a value does not fit its parameter.
    pub(super) fn encode(&self, params: Params<'_>, out: &mut BytesMut) -> Result<(), DbError> {
        if params.len() != self.params.len() {
            return Err(DbError::wrong_count(self.params.len(), params.len()));
        }
        let mut begun = Begun { begin: out.len(), out, is_whole: false };
        let values = params.iter().zip(&self.params);
        let bound = frontend::bind(
            "",
            &self.name,
            [1],
            values,
            |(value, kind), out| match value.to_sql_checked(kind, out)? {
                types::IsNull::Yes => Ok(IsNull::Yes),
                types::IsNull::No => Ok(IsNull::No),
            },
            [1],
            begun.out,
        );
        let encoded = bound.and_then(|()| Ok(frontend::execute("", 0, begun.out)?));
        begun.is_whole = encoded.is_ok();
        encoded.map_err(|error| {
            DbError::other(&match error {
                BindError::Conversion(error) => format!("a parameter does not fit: {error}"),
                BindError::Serialization(error) => format!("a parameter is too long: {error}"),
            })
        })
    }
}

/// Messages that are being written; cut off where they do not become whole.
struct Begun<'a> {
    out: &'a mut BytesMut,
    begin: usize,
    is_whole: bool,
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if !self.is_whole {
            self.out.truncate(self.begin);
        }
    }
}
