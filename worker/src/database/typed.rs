//! The values of a statement that nobody has prepared: which types the server is told.
//!
//! A session behind a transaction pooler asks here before each statement. The server says what types a
//! statement takes only when it is prepared, and there that would cost a round trip each time.
//! Promises: a statement means what it means when it is prepared. Where a Rust type fits one type of
//! PostgreSQL, that is what the server is told, and a value of the wrong type is refused; where it
//! fits several, the server infers which one, as it does for a prepared statement.
//! Does not know: the statement.
//!
//! Source: PostgreSQL, "PREPARE" (parameters declared as unknown), "Message Formats, Bind".

use std::error::Error;

use bytes::BytesMut;
use tokio_postgres::types::{Format, IsNull, ToSql, Type, WrongType, to_sql_checked};

use super::{error::DbError, session::Params};

/// The types that a value is tried against. The first one that its Rust type takes is its own, so that
/// null has one, too.
static KINDS: [Type; 29] = [
    // Text of any sort, an untyped literal as it were.
    Type::UNKNOWN,
    Type::UUID,
    Type::INT8,
    Type::INT4,
    Type::INT2,
    Type::BOOL,
    // Before the one without a zone: the server is told neither, see `declared`.
    Type::TIMESTAMPTZ,
    Type::TIMESTAMP,
    Type::DATE,
    Type::TIME,
    Type::FLOAT8,
    Type::FLOAT4,
    Type::NUMERIC,
    Type::BYTEA,
    Type::JSONB,
    Type::INET,
    Type::CIDR,
    Type::OID,
    Type::CHAR,
    // A list holds the type of its members, so that nothing is left to infer.
    Type::TEXT_ARRAY,
    Type::UUID_ARRAY,
    Type::INT8_ARRAY,
    Type::INT4_ARRAY,
    Type::INT2_ARRAY,
    Type::BOOL_ARRAY,
    Type::TIMESTAMPTZ_ARRAY,
    Type::TIMESTAMP_ARRAY,
    Type::FLOAT8_ARRAY,
    Type::BYTEA_ARRAY,
];

/// A value and the type that it is written as.
#[derive(Debug)]
pub(super) struct Typed<'a> {
    value: &'a (dyn ToSql + Sync),
    kind: &'static Type,
}

/// Each value, and the type that the server is told.
///
/// **Errors**: `Other` for a value whose Rust type fits none that is known here.
pub(super) fn typed<'a>(params: Params<'a>) -> Result<Vec<(Typed<'a>, Type)>, DbError> {
    let mut scratch = BytesMut::new();
    let mut all = Vec::with_capacity(params.len());
    for (index, value) in params.iter().copied().enumerate() {
        let kind = kind_of(value, &mut scratch).ok_or_else(|| unknown(index + 1))?;
        all.push((Typed { value, kind }, declared(kind)));
    }
    Ok(all)
}

/// A value tells whether a type fits by being written as it.
fn kind_of(value: &(dyn ToSql + Sync), scratch: &mut BytesMut) -> Option<&'static Type> {
    KINDS.iter().find(|kind| {
        scratch.clear();
        let written = value.to_sql_checked(kind, scratch);
        !written.is_err_and(|error| error.is::<WrongType>())
    })
}

fn declared(kind: &Type) -> Type {
    match *kind {
        // The same bytes with a zone and without; told the wrong one, the server would shift the moment
        // by its own zone.
        Type::TIMESTAMPTZ => Type::UNKNOWN,
        ref kind => kind.clone(),
    }
}

fn unknown(place: usize) -> DbError {
    DbError::other(&format!(
        "behind a transaction pooler no type is known for parameter ${place}: pass it as text, and \
         cast it in the statement, as ${place}::text::colour"
    ))
}

impl ToSql for Typed<'_> {
    fn to_sql(
        &self,
        _declared: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        self.value.to_sql_checked(self.kind, out)
    }

    fn accepts(_declared: &Type) -> bool {
        true
    }

    /// Text goes as text: whatever the server takes it for, it reads it or refuses it.
    fn encode_format(&self, _declared: &Type) -> Format {
        match *self.kind {
            Type::UNKNOWN => Format::Text,
            ref kind => self.value.encode_format(kind),
        }
    }

    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, time::SystemTime};

    use uuid::Uuid;

    use super::*;

    /// What the server is told of this value, how it is written, and with which bytes.
    fn told(value: &(dyn ToSql + Sync)) -> (Type, bool, Option<Vec<u8>>) {
        let values = [value];
        let [(typed, declared)] = typed(&values).unwrap().try_into().unwrap();
        let mut out = BytesMut::new();
        let is_null = matches!(typed.to_sql_checked(&declared, &mut out).unwrap(), IsNull::Yes);
        let is_text = matches!(typed.encode_format(&declared), Format::Text);
        (declared, is_text, (!is_null).then(|| out.to_vec()))
    }

    #[test]
    fn what_fits_one_type_is_told_and_binary() {
        let id = Uuid::from_u128(7);
        let address: IpAddr = "10.0.0.1".parse().unwrap();
        for (value, kind) in [
            (&id as &(dyn ToSql + Sync), Type::UUID),
            (&7_i64, Type::INT8),
            (&7_i32, Type::INT4),
            (&7_i16, Type::INT2),
            (&7_i8, Type::CHAR),
            (&7_u32, Type::OID),
            (&true, Type::BOOL),
            (&0.5_f64, Type::FLOAT8),
            (&0.5_f32, Type::FLOAT4),
            (&b"a".as_slice(), Type::BYTEA),
            (&address, Type::INET),
            (&vec![id], Type::UUID_ARRAY),
            (&vec!["a"], Type::TEXT_ARRAY),
            (&vec![7_i64], Type::INT8_ARRAY),
        ] {
            let (declared, is_text, bytes) = told(value);
            assert_eq!((declared, is_text), (kind, false), "{value:?}");
            assert!(bytes.is_some());
        }
        assert_eq!(told(&id).2, Some(id.as_bytes().to_vec()));
        assert_eq!(told(&7_i64).2, Some(7_i64.to_be_bytes().to_vec()));
    }

    #[test]
    fn text_is_left_to_the_server() {
        let as_text = (Type::UNKNOWN, true, Some(b"ann".to_vec()));
        assert_eq!(told(&"ann"), as_text);
        assert_eq!(told(&"ann".to_owned()), as_text);
        assert_eq!(told(&Some("ann")), as_text);
    }

    #[test]
    fn a_moment_is_left_to_the_server() {
        let (declared, is_text, bytes) = told(&SystemTime::UNIX_EPOCH);
        assert_eq!((declared, is_text), (Type::UNKNOWN, false));
        assert_eq!(bytes.unwrap().len(), 8);
    }

    #[test]
    fn null_has_the_type_of_what_is_not_there() {
        assert_eq!(told(&None::<Uuid>), (Type::UUID, false, None));
        assert_eq!(told(&None::<i64>), (Type::INT8, false, None));
        assert_eq!(told(&None::<String>).0, Type::UNKNOWN);
        assert_eq!(told(&None::<String>).2, None);
    }

    #[test]
    fn a_type_of_the_programs_own_is_told_by_the_parameters_place() {
        #[derive(Debug)]
        struct Colour;

        impl ToSql for Colour {
            fn to_sql(
                &self,
                _: &Type,
                _: &mut BytesMut,
            ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
                Ok(IsNull::Yes)
            }

            fn accepts(kind: &Type) -> bool {
                kind.name() == "colour"
            }

            to_sql_checked!();
        }

        let said = typed(&[&1_i64, &Colour]).unwrap_err().to_string();
        assert!(said.contains("parameter $2") && said.contains("$2::text::"), "{said}");
    }

    #[test]
    fn no_type_is_tried_twice() {
        for (index, kind) in KINDS.iter().enumerate() {
            assert!(!KINDS[..index].contains(kind), "{kind}");
        }
    }
}
