//! An answer as JSON text, in one pass over it.
//!
//! `response.rs` calls [`to_vec`] with a whole body.
//! Promises: byte for byte what serde_json writes, with about a third of its instructions: most of an
//! answer is text that needs no escape, and is looked at in blocks. Numbers are left to
//! serde_json.
//! Does not know: what it writes.
//! Source: RFC 8259 section 7.

use std::ptr;

use serde::ser::{self, Error as _, Serialize, Serializer};
use serde_json::Error;

/// Most answers fit without growing.
const CAPACITY: usize = 512;
/// Room made for the rest of a list when its first element is written.
const AHEAD_MAX_BYTES: usize = 64 * 1024;
/// So many names of members are remembered.
const NAMES_MAX: usize = 8;

/// `body` as JSON.
///
/// # Errors
/// When `body` says so itself, or has a map whose keys are neither texts, numbers nor booleans.
pub(crate) fn to_vec<T: Serialize + ?Sized>(body: &T) -> Result<Vec<u8>, Error> {
    let mut writer = Writer { out: Vec::with_capacity(CAPACITY), names: Names::default() };
    body.serialize(&mut writer)?;
    Ok(writer.out)
}

struct Writer {
    out: Vec<u8>,
    names: Names,
}

/// Names of members, and where they stand in the text: the objects of a list repeat them.
#[derive(Default)]
struct Names {
    known: [(&'static str, usize); NAMES_MAX],
    /// Where the name that follows the one looked up last may be.
    next: usize,
    count: usize,
}

impl Names {
    /// Where this name was written before.
    fn place(&mut self, name: &'static str) -> Option<usize> {
        let is = |known: &(&'static str, usize)| ptr::eq(known.0, name);
        let index = match self.known.get(self.next).is_some_and(is) {
            true => self.next,
            false => self.known[..self.count].iter().position(is)?,
        };
        self.next = index + 1;
        Some(self.known[index].1)
    }

    fn written(&mut self, name: &'static str, place: usize) {
        if let Some(free) = self.known.get_mut(self.count) {
            *free = (name, place);
            self.count += 1;
            self.next = self.count;
        }
    }
}

impl Writer {
    fn raw(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn text(&mut self, text: &str) {
        self.text_before(text, b"\"");
    }

    /// With what follows its last character.
    #[inline]
    fn text_before<const N: usize>(&mut self, text: &str, close: &[u8; N]) {
        self.out.push(b'"');
        match is_plain(text.as_bytes()) {
            true => self.raw(text),
            false => self.escaped(text.as_bytes()),
        }
        self.out.extend_from_slice(close);
    }

    /// The name of a member, and the colon.
    fn name(&mut self, name: &'static str) {
        let begin = self.out.len();
        match self.names.place(name) {
            Some(place) => self.out.extend_from_within(place..place + name.len() + 3),
            None => {
                self.text_before(name, b"\":");
                // One that was escaped is longer, and written anew each time.
                if self.out.len() == begin + name.len() + 3 {
                    self.names.written(name, begin);
                }
            }
        }
    }

    #[cold]
    fn escaped(&mut self, mut text: &[u8]) {
        while let Some(place) = text.iter().position(|byte| is_special(*byte)) {
            self.out.extend_from_slice(&text[..place]);
            self.escape(text[place]);
            text = &text[place + 1..];
        }
        self.out.extend_from_slice(text);
    }

    fn escape(&mut self, byte: u8) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        match byte {
            b'"' => self.raw("\\\""),
            b'\\' => self.raw("\\\\"),
            0x08 => self.raw("\\b"),
            0x0c => self.raw("\\f"),
            b'\n' => self.raw("\\n"),
            b'\r' => self.raw("\\r"),
            b'\t' => self.raw("\\t"),
            control => {
                self.raw("\\u00");
                self.out.push(DIGITS[usize::from(control >> 4)]);
                self.out.push(DIGITS[usize::from(control & 15)]);
            }
        }
    }

    fn number(&mut self, number: impl Serialize) -> Result<(), Error> {
        serde_json::to_writer(&mut self.out, &number)
    }

    /// Begins what consists of parts, and of which a name may be told first.
    fn open(&mut self, name: Option<&str>, open: u8, close: &'static str) -> Parts<'_> {
        if let Some(name) = name {
            self.out.push(b'{');
            self.text_before(name, b"\":");
        }
        self.out.push(open);
        Parts { writer: self, first: true, alike: 0, close }
    }
}

/// Whether all of `text` stands for itself in a JSON text. Blocks of it are looked at as a whole; the
/// last one may reach back into the one before.
#[inline]
fn is_plain(text: &[u8]) -> bool {
    if let Some(last) = text.last_chunk::<16>() {
        return text.as_chunks().0.iter().all(is_plain_block::<16>) && is_plain_block(last);
    }
    if let (Some(first), Some(last)) = (text.first_chunk::<8>(), text.last_chunk::<8>()) {
        return is_plain_block(first) && is_plain_block(last);
    }
    if let (Some(first), Some(last)) = (text.first_chunk::<4>(), text.last_chunk::<4>()) {
        return is_plain_block(first) && is_plain_block(last);
    }
    !text.iter().any(|byte| is_special(*byte))
}

/// Without a branch, so that the compiler makes a few vector instructions of it.
#[inline]
fn is_plain_block<const N: usize>(block: &[u8; N]) -> bool {
    block.iter().fold(0, |special, byte| special | u8::from(is_special(*byte))) == 0
}

/// Whether it is a control character, a quote or a backslash.
#[inline]
fn is_special(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

/// An array or an object that is being written.
struct Parts<'a> {
    writer: &'a mut Writer,
    first: bool,
    /// How many elements there are besides the first, as far as is known.
    alike: usize,
    close: &'static str,
}

impl Parts<'_> {
    fn next(&mut self) {
        if !std::mem::take(&mut self.first) {
            self.writer.out.push(b',');
        }
    }

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.next();
        let begin = self.writer.out.len();
        value.serialize(&mut *self.writer)?;
        // The others will be about as long as the first.
        let alike = std::mem::take(&mut self.alike);
        let expected = alike.saturating_mul(self.writer.out.len() - begin + 1);
        self.writer.out.reserve(expected.min(AHEAD_MAX_BYTES));
        Ok(())
    }

    fn member<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.next();
        self.writer.name(name);
        value.serialize(&mut *self.writer)
    }

    /// The name of a member that is known only now.
    fn key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.next();
        let text = serde_json::to_string(key)?;
        match text.as_bytes().first() {
            Some(b'"') => self.writer.raw(&text),
            Some(b'{' | b'[' | b'n') => return Err(Error::custom("key must be a string")),
            _ => self.writer.text(&text),
        }
        Ok(())
    }

    fn close(self) {
        self.writer.raw(self.close);
    }
}

/// What serde_json writes by itself.
macro_rules! numbers {
    ($($method:ident($type:ty)),+) => {
        $(fn $method(self, value: $type) -> Result<(), Error> {
            self.number(value)
        })+
    };
}

impl<'a> Serializer for &'a mut Writer {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Parts<'a>;
    type SerializeTuple = Parts<'a>;
    type SerializeTupleStruct = Parts<'a>;
    type SerializeTupleVariant = Parts<'a>;
    type SerializeMap = Parts<'a>;
    type SerializeStruct = Parts<'a>;
    type SerializeStructVariant = Parts<'a>;

    numbers! {
        serialize_i8(i8), serialize_i16(i16), serialize_i32(i32), serialize_i64(i64),
        serialize_i128(i128), serialize_u8(u8), serialize_u16(u16), serialize_u32(u32),
        serialize_u64(u64), serialize_u128(u128), serialize_f32(f32), serialize_f64(f64)
    }

    fn serialize_bool(self, value: bool) -> Result<(), Error> {
        self.raw(if value { "true" } else { "false" });
        Ok(())
    }

    fn serialize_char(self, value: char) -> Result<(), Error> {
        self.text(value.encode_utf8(&mut [0; 4]));
        Ok(())
    }

    fn serialize_str(self, value: &str) -> Result<(), Error> {
        self.text(value);
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), Error> {
        self.collect_seq(value)
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        self.raw("null");
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), Error> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        let mut parts = self.open(None, b'{', "}");
        parts.member(variant, value)?;
        parts.close();
        Ok(())
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Parts<'a>, Error> {
        let parts = self.open(None, b'[', "]");
        Ok(Parts { alike: length.unwrap_or_default().saturating_sub(1), ..parts })
    }

    fn serialize_tuple(self, _: usize) -> Result<Parts<'a>, Error> {
        Ok(self.open(None, b'[', "]"))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Parts<'a>, Error> {
        Ok(self.open(None, b'[', "]"))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Parts<'a>, Error> {
        Ok(self.open(Some(variant), b'[', "]}"))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Parts<'a>, Error> {
        Ok(self.open(None, b'{', "}"))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Parts<'a>, Error> {
        Ok(self.open(None, b'{', "}"))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Parts<'a>, Error> {
        Ok(self.open(Some(variant), b'{', "}}"))
    }
}

/// The traits by which serde hands over the parts, one after the other.
macro_rules! elements {
    ($($trait:ident::$method:ident),+) => {
        $(impl ser::$trait for Parts<'_> {
            type Ok = ();
            type Error = Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
                self.element(value)
            }

            fn end(self) -> Result<(), Error> {
                self.close();
                Ok(())
            }
        })+
    };
}

/// The same for parts with names.
macro_rules! members {
    ($($trait:ident),+) => {
        $(impl ser::$trait for Parts<'_> {
            type Ok = ();
            type Error = Error;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Error> {
                self.member(name, value)
            }

            fn end(self) -> Result<(), Error> {
                self.close();
                Ok(())
            }
        })+
    };
}

elements!(
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field
);
members!(SerializeStruct, SerializeStructVariant);

impl ser::SerializeMap for Parts<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.key(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.writer.out.push(b':');
        value.serialize(&mut *self.writer)
    }

    fn end(self) -> Result<(), Error> {
        self.close();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Serialize;
    use serde_json::json;

    use super::*;

    fn same<T: Serialize>(value: &T) {
        let ours = to_vec(value).map(|text| String::from_utf8(text).unwrap());
        let theirs = serde_json::to_string(value);
        assert_eq!(ours.map_err(|error| error.to_string()), theirs.map_err(|e| e.to_string()));
    }

    #[derive(Serialize)]
    struct All<'a> {
        text: &'a str,
        #[serde(rename = "a \"name\"\n")]
        odd: char,
        none: Option<u8>,
        some: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        absent: Option<u8>,
        unit: (),
        tuple: (u8, f64, bool),
        list: Vec<Kind>,
        marker: Marker,
        wrapped: Wrapped,
        pair: Pair,
    }

    #[derive(Serialize)]
    struct Marker;
    #[derive(Serialize)]
    struct Wrapped(u128);
    #[derive(Serialize)]
    struct Pair(i8, f32);

    #[derive(Serialize)]
    enum Kind {
        Plain,
        One(i128),
        Two(u16, String),
        Named { left: u32, right: [u8; 2] },
    }

    #[test]
    fn every_kind_of_value_is_written_as_serde_json_writes_it() {
        let list = vec![
            Kind::Plain,
            Kind::One(i128::MIN),
            Kind::Two(7, "ä\u{7f}".to_owned()),
            Kind::Named { left: u32::MAX, right: [0, 255] },
        ];
        same(&All {
            text: "a \"quoted\" \\ text\twith\r\nall\u{8}\u{c}\u{1}\u{1f} kinds: ü 🦀 \u{2028}",
            odd: '"',
            none: None,
            some: Some(i64::MIN),
            absent: None,
            unit: (),
            tuple: (0, -1.5e300, true),
            list,
            marker: Marker,
            wrapped: Wrapped(u128::MAX),
            pair: Pair(-1, 0.1),
        });
        same(&f64::NAN);
        same(&json!({"a": {"b": [], "c": {}, "d": [null, 1, "x", [2.5]]}}));
    }

    #[test]
    fn every_text_around_a_word_is_written_as_serde_json_writes_it() {
        for byte in 0..=0x7f_u8 {
            for before in 0..17 {
                for behind in [0, 1, 7, 8, 9] {
                    let text =
                        format!("{}{}{}", "ü".repeat(before), byte as char, "x".repeat(behind));
                    same(&text);
                    same(&format!("{}{}", byte as char, text));
                }
            }
        }
    }

    #[test]
    fn keys_of_maps_are_texts_or_are_made_texts() {
        same(&BTreeMap::from([("a\n", 1), ("", 2)]));
        same(&BTreeMap::from([(1_u8, "x"), (2, "y")]));
        same(&BTreeMap::from([(true, ())]));
        same(&BTreeMap::from([('c', ())]));
        assert!(to_vec(&BTreeMap::from([(vec![1], 1)])).is_err());
        assert!(to_vec(&BTreeMap::from([((), 1)])).is_err());
    }
}
