//! JSON whose members stay in the order they were written in.
//!
//! `document` is made of it: serde_json sorts members by name, and people read an API in the order in
//! which it was told. The [`object!`] macro writes one.

use std::borrow::Cow;
use std::fmt;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value as Json;

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    /// One whose order does not matter.
    Value(Json),
    /// A list.
    List(Vec<Self>),
    /// An object.
    Object(Members),
}

/// The members of an object.
pub(super) type Members = Vec<(Cow<'static, str>, Node)>;

/// An object: names and what becomes a [`Node`].
macro_rules! object {
    ($($name:expr => $value:expr),* $(,)?) => {
        $crate::docs::node::Node::Object(vec![$(($name.into(), $value.into())),*])
    };
}
pub(super) use object;

impl Node {
    /// The same with one more member.
    pub(super) fn with(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<Self>,
    ) -> Self {
        if let Self::Object(members) = &mut self {
            members.push((name.into(), value.into()));
        }
        self
    }

    /// The same with one more member, if there is one.
    pub(super) fn with_some<T: Into<Self>>(self, name: &'static str, value: Option<T>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }
}

macro_rules! value {
    ($($type:ty),+) => {$(
        impl From<$type> for Node {
            fn from(value: $type) -> Self {
                Self::Value(value.into())
            }
        }
    )+};
}

value!(Json, &str, String, bool);

impl From<Members> for Node {
    fn from(members: Members) -> Self {
        Self::Object(members)
    }
}

impl From<Vec<Node>> for Node {
    fn from(nodes: Vec<Node>) -> Self {
        Self::List(nodes)
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Value(value) => value.serialize(serializer),
            Self::List(nodes) => nodes.serialize(serializer),
            Self::Object(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for (name, node) in members {
                    map.serialize_entry(name, node)?;
                }
                map.end()
            }
        }
    }
}

/// As JSON in lines.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string_pretty(self).map_err(|_| fmt::Error)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_keep_their_order() {
        let node = object! { "b" => "1", "a" => vec![object! {}, Node::from("x")] };
        let text = serde_json::to_string(&node.with_some("0", Some(true))).unwrap();
        assert_eq!(text, r#"{"b":"1","a":[{},"x"],"0":true}"#);
    }
}
