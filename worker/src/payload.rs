//! `payload!`: a payload written as one struct.
//!
//! Applications use it for nearly all of their payloads; one that needs more than a list of fields
//! implements [`Payload`](crate::Payload) by hand.
//! Promises: what it writes is what a person would write with `Fields`, and nothing else.

/// Declares payloads: structs whose fields say how they are read.
///
/// ```
/// use worker::{Change, Text, payload};
///
/// payload! {
///     struct CreateOrder {
///         /// What the order is called.
///         name: String = required(Text::max(30).like("umbrella")),
///         note: Option<String> = optional(Text::max(200)),
///         r#type: String = required(Text::max(10)), // the member is called `type`
///     }
///
///     struct PatchOrder: closed {
///         note: Change<String> = change(Text::max(200)),
///     }
/// }
/// ```
///
/// After `=` stands how [`Fields`](crate::Fields) is asked: `required(rule)`, `optional(rule)`,
/// `set(rule)` or `change(rule)`, under the field's own name. A closure `|fields| …` reads a part
/// of several fields. The comment of a field is what /docs shows. `: closed` refuses members that no field asks for. A payload has at most
/// twelve fields; a part counts as one.
///
/// The field's type is what that gives, and nothing is converted: a field cannot be optional in the
/// struct and required of the client.
///
/// ```compile_fail
/// use worker::{Text, payload};
///
/// payload! {
///     struct CreateOrder {
///         name: Option<String> = required(Text::max(30)),
///     }
/// }
/// ```
#[macro_export]
macro_rules! payload {
    ($(
        $(#[$attribute:meta])*
        $visibility:vis struct $payload:ident $(: $mode:ident)? {
            $(
                $(#[doc = $note:literal])*
                $access:vis $field:ident: $type:ty =
                    $($verb:ident($rule:expr))? $(|$part:ident| $read:expr)?
            ),+ $(,)?
        }
    )+) => {$(
        $(#[$attribute])*
        $visibility struct $payload {
            $($(#[doc = $note])* $access $field: $type),+
        }

        impl $crate::Payload for $payload {
            fn read(fields: &mut $crate::Fields<'_>) -> ::core::option::Option<Self> {
                $(fields.$mode();)?
                $(let $field = {
                    $(fields.$verb(::core::stringify!($field).trim_start_matches("r#"), $rule))?
                    $(let $part = &mut *fields; $read)?
                };)+
                let ($($field,)+) = fields.all(($($field,)+))?;
                ::core::option::Option::Some(Self { $($field),+ })
            }

            fn notes() -> ::std::vec::Vec<(&'static str, &'static str)> {
                ::std::vec![$((
                    ::core::stringify!($field).trim_start_matches("r#"),
                    ::core::concat!($($note),*).trim_ascii_start(),
                )),+]
            }
        }
    )+};
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::given::Given;
    use crate::{Change, Field, Fields, Integer, Source, Text, fields};

    payload! {
        /// Two kinds of fields, and a part that reads one more.
        #[derive(Debug, PartialEq)]
        struct Order {
            /// What it is called.
            name: String = required(Text::max(5)),
            note: Option<String> = optional(Text::max(5)),
            pages: (i64, i64) = |fields| range(fields),
        }

        #[derive(Debug, PartialEq)]
        struct Patch: closed {
            note: Change<String> = change(Text::max(5)),
            name: Option<String> = set(Text::max(5)),
        }
    }

    payload! {
        struct Keywords {
            r#type: String = required(Text::max(5)),
            r#in: Option<String> = optional(Text::max(5)),
            /// Begins as a raw identifier does, and is none.
            r: Option<String> = optional(Text::max(5)),
        }
    }

    fn range(fields: &mut Fields<'_>) -> Field<(i64, i64)> {
        let first = fields.required("first", Integer::range(1, 9));
        let last = fields.required("last", Integer::range(1, 9));
        fields.join((first, last))
    }

    fn kinds(body: &serde_json::Value) -> Vec<String> {
        let given = Given::Object(body.as_object().unwrap());
        let failures = fields::read::<Order>(Source::Body, given).unwrap_err();
        failures.iter().map(|one| one.kind.clone().into_owned()).collect()
    }

    #[test]
    fn every_field_is_asked_for_under_its_name() {
        let body = json!({"name": "a", "first": 1, "last": 2, "more": 0});
        let order = fields::read::<Order>(Source::Body, Given::Object(body.as_object().unwrap()));
        assert_eq!(order.unwrap(), Order { name: "a".into(), note: None, pages: (1, 2) });
        let names: Vec<_> = Fields::describe::<Order>().fields.iter().map(|f| f.name).collect();
        assert_eq!(names, ["name", "note", "first", "last"]);
        let about: Vec<_> = Fields::describe::<Order>().fields.iter().map(|f| f.about).collect();
        assert_eq!(about, ["What it is called.", "", "", ""]);
    }

    #[test]
    fn all_failures_are_told() {
        let body = json!({"name": "too long", "note": 1, "first": 0});
        let want = ["string_too_long", "string_type", "greater_than_equal", "missing"];
        assert_eq!(kinds(&body), want);
    }

    #[test]
    fn a_closed_one_takes_its_own_members_only() {
        let patch = |body: serde_json::Value| {
            fields::read::<Patch>(Source::Body, Given::Object(body.as_object().unwrap()))
        };
        let want = Patch { note: Change::Clear, name: Some("a".into()) };
        assert_eq!(patch(json!({"note": null, "name": "a"})).unwrap(), want);
        assert_eq!(patch(json!({"nott": null})).unwrap_err()[0].kind, "extra_forbidden");
        assert_eq!(patch(json!({"name": null})).unwrap_err()[0].kind, "string_type");
    }

    #[test]
    fn a_member_may_be_called_as_a_keyword() {
        let names: Vec<_> = Fields::describe::<Keywords>().fields.iter().map(|f| f.name).collect();
        assert_eq!(names, ["type", "in", "r"]);
        let body = json!({"type": "a", "in": "b"});
        let read = fields::read::<Keywords>(Source::Body, Given::Object(body.as_object().unwrap()));
        let Keywords { r#type, r#in, r } = read.unwrap();
        assert_eq!((r#type.as_str(), r#in.as_deref(), r), ("a", Some("b"), None));
    }
}
