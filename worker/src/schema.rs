//! Schemas of answers: what a type is as JSON, for whoever reads the API.
//!
//! `response.rs` asks the body of each success for its [`Schema`]; [`response!`](crate::response!) writes
//! that, and how the type is serialized, from one struct.
//! Promises: a member is in the schema as it is in the JSON, in the same order; one that is left out when
//! it has no value is not required, and is never null.
//! Does not know: OpenAPI, or a type that contains itself.

use serde_json::{Value as Json, json};
use uuid::Uuid;

/// What a value is as JSON.
#[derive(Debug, Clone, PartialEq)]
pub enum Schema {
    /// What a JSON schema says.
    Value(Json),
    /// A list of such values.
    List(Box<Self>),
    /// An object with these members.
    Object(ObjectSpec),
}

/// An object that has a name of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectSpec {
    /// Name of the Rust type.
    pub name: &'static str,
    /// What it is, for a person.
    pub about: &'static str,
    /// Its members, in order.
    pub members: Vec<MemberSpec>,
}

/// One member of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct MemberSpec {
    /// Its name.
    pub name: &'static str,
    /// What it is, for a person; may be empty.
    pub about: &'static str,
    /// What its value is.
    pub schema: Schema,
    /// Whether it is always there.
    pub required: bool,
    /// Such a value.
    pub example: Option<Json>,
}

impl MemberSpec {
    /// A member of type `T`.
    #[must_use]
    pub fn of<T: Describe>(name: &'static str, about: &'static str) -> Self {
        Self { name, about, schema: T::describe(), required: !T::OPTIONAL, example: None }
    }

    /// Give an example of its value.
    #[must_use]
    pub fn like(self, example: impl Into<Json>) -> Self {
        Self { example: Some(example.into()), ..self }
    }
}

/// A type that can be answered, or be a part of what is answered.
pub trait Describe {
    /// Whether a member of this type is left out when it has no value.
    const OPTIONAL: bool = false;

    /// What it is as JSON.
    fn describe() -> Schema;

    /// Whether this value is left out where it is a member.
    fn is_left_out(&self) -> bool {
        false
    }
}

impl<T: Describe> Describe for Option<T> {
    const OPTIONAL: bool = true;

    fn describe() -> Schema {
        T::describe()
    }

    fn is_left_out(&self) -> bool {
        self.is_none()
    }
}

impl<T: Describe> Describe for Vec<T> {
    fn describe() -> Schema {
        Schema::List(Box::new(T::describe()))
    }
}

impl<T: Describe + ?Sized> Describe for &'static T {
    fn describe() -> Schema {
        T::describe()
    }
}

macro_rules! describe {
    ($($type:ty => $schema:tt),+ $(,)?) => {$(
        impl Describe for $type {
            fn describe() -> Schema {
                Schema::Value(json!($schema))
            }
        }
    )+};
}

describe! {
    () => {"type": "null"},
    bool => {"type": "boolean"},
    i64 => {"type": "integer"},
    u16 => {"type": "integer", "minimum": 0},
    usize => {"type": "integer", "minimum": 0},
    u64 => {"type": "integer", "minimum": 0},
    str => {"type": "string"},
    String => {"type": "string"},
    Uuid => {"type": "string", "format": "uuid"},
    Json => {},
}

/// Declares what is answered: structs that become JSON objects, and say so in the API document.
///
/// ```
/// use worker::response;
///
/// response! {
///     /// An order, as its owner sees it.
///     struct OrderResponse {
///         name: String = "umbrella",
///         /// What the shop should know.
///         note: Option<String>,
///     }
/// }
/// ```
///
/// The members are written in this order; an `Option` without a value is left out. The comments are
/// what /docs shows, and after `=` may stand an example for it.
#[macro_export]
macro_rules! response {
    ($(
        $(#[doc = $about:literal])*
        $(#[derive($($derived:path),+)])?
        $visibility:vis struct $response:ident {
            $(
                $(#[doc = $note:literal])*
                $access:vis $member:ident: $type:ty $(= $example:expr)?
            ),+ $(,)?
        }
    )+) => {$(
        $(#[doc = $about])*
        #[derive(::serde::Serialize $(, $($derived),+)?)]
        $visibility struct $response {
            $(
                $(#[doc = $note])*
                #[serde(skip_serializing_if = "worker::Describe::is_left_out")]
                $access $member: $type
            ),+
        }

        impl $crate::Describe for $response {
            fn describe() -> $crate::Schema {
                $crate::Schema::Object($crate::ObjectSpec {
                    name: ::core::stringify!($response),
                    about: ::core::concat!($($about),*).trim_ascii_start(),
                    members: ::std::vec![$(
                        $crate::MemberSpec::of::<$type>(
                            ::core::stringify!($member).trim_start_matches("r#"),
                            ::core::concat!($($note),*).trim_ascii_start(),
                        )$(.like($example))?
                    ),+],
                })
            }
        }
    )+};
}
