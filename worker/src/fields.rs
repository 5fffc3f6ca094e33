//! Payloads: one function per payload is both its parser and its description.
//!
//! `request.rs` calls it with what the client sent (`given.rs` finds the values in it), `route.rs` calls
//! the same function in describing mode; `rules.rs` judges single values.
//! Promises: all failures of a payload are collected, not just the first; texts and types are those
//! of FastAPI (pydantic 2), so that clients written against it understand them.
//! Does not know: HTTP, status codes, how a body arrives.
//! Source: RFC 6901 (pointers), RFC 7396 (changes).

use std::borrow::Cow;

use serde::Serialize;
use serde_json::Value as Json;

use crate::given::Given;
use crate::rules::{Fault, Rule, Value};
use crate::schema::{Describe, MemberSpec, ObjectSpec, Schema};

/// A typed input of a handler, read from a body, a query string or the path. [`payload!`](crate::payload!)
/// writes one from a list of fields.
pub trait Payload: Sized + 'static {
    /// Read it: ask for every field, then combine them with [`Fields::all`], so that all failures are
    /// noted. `None` means that at least one was, or that the payload is only being described.
    fn read(fields: &mut Fields<'_>) -> Option<Self>;

    /// Say what its fields are: a name, and a text for a person.
    #[must_use]
    fn notes() -> Vec<(&'static str, &'static str)> {
        Vec::new()
    }
}

/// Which part of the request a payload is read from; the first element of every `loc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Parameters in the path.
    Path,
    /// The query string.
    Query,
    /// A header.
    Header,
    /// The body, JSON or form.
    Body,
}

/// What is wrong with one value of the input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Invalid {
    /// Where: the source, then names and positions inwards.
    pub loc: Vec<Place>,
    /// What, for a person.
    pub msg: Cow<'static, str>,
    /// What, for a program: pydantic's error type.
    #[serde(rename = "type")]
    pub kind: Cow<'static, str>,
    /// Where, as a JSON pointer in a URI fragment; only for bodies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
}

/// One step of a `loc`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Place {
    /// A source.
    Source(Source),
    /// A member, parameter or form field.
    Name(Cow<'static, str>),
    /// A position: of an element, or of the byte where a body stops being JSON.
    Position(usize),
}

impl Invalid {
    /// A fault of the value called `name`.
    #[must_use]
    pub fn at(source: Source, name: impl Into<Cow<'static, str>>, fault: Fault) -> Self {
        let name = name.into();
        let pointer = (source == Source::Body).then(|| pointer(&name));
        Self {
            loc: vec![Place::Source(source), Place::Name(name)],
            msg: fault.msg,
            kind: fault.kind,
            pointer,
        }
    }

    /// A fault of the input as a whole.
    #[must_use]
    pub fn whole(source: Source, fault: Fault) -> Self {
        let pointer = (source == Source::Body).then(|| "#".to_owned());
        Self { loc: vec![Place::Source(source)], msg: fault.msg, kind: fault.kind, pointer }
    }

    /// A body that stops being JSON at this byte.
    pub(crate) fn json(position: usize, msg: impl Into<Cow<'static, str>>) -> Self {
        Self {
            loc: vec![Place::Source(Source::Body), Place::Position(position)],
            msg: msg.into(),
            kind: "json_invalid".into(),
            pointer: None,
        }
    }
}

impl Describe for Invalid {
    fn describe() -> Schema {
        Schema::Object(ObjectSpec {
            name: "Invalid",
            about: "What is wrong with one value of the input.",
            members: vec![
                MemberSpec::of::<Vec<Place>>(
                    "loc",
                    "Where: path, query, header or body, then inwards.",
                ),
                MemberSpec::of::<String>("msg", "What, for a person."),
                MemberSpec::of::<String>("type", "What, for a program."),
                MemberSpec::of::<Option<String>>("pointer", "Where in the body (RFC 6901)."),
            ],
        })
    }
}

impl Describe for Place {
    fn describe() -> Schema {
        Schema::Value(serde_json::json!({"type": ["string", "integer"]}))
    }
}

/// A member's pointer as a URI fragment (RFC 6901 section 6): `~` and `/` escaped, then percent-encoded.
fn pointer(name: &str) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'-').remove(b'.').remove(b'~');
    let escaped = name.replace('~', "~0").replace('/', "~1");
    format!("#/{}", utf8_percent_encode(&escaped, KEPT))
}

/// A change to one member, as a JSON merge patch (RFC 7396) means it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change<T> {
    /// The member is absent: leave the value as it is.
    Keep,
    /// The member is null: clear the value.
    Clear,
    /// The member has this new value.
    Set(T),
}

/// Failures told at most; an input with more of them is wrong enough.
const FAILURES_MAX: usize = 100;

/// The values of one input while a [`Payload`] reads them.
pub struct Fields<'a> {
    source: Source,
    given: Given<'a>,
    asked: Vec<&'static str>,
    failures: Vec<Invalid>,
    described: Vec<FieldSpec>,
    closed: bool,
    combined: bool,
}

/// One field that was asked for. Its value comes out through [`Fields::all`] only, so that no failure
/// of one field keeps another from being looked at.
#[must_use = "a field that is not combined with the others is not read"]
pub struct Field<T>(Option<T>);

impl<T> Field<T> {
    /// Make something of the value, if there is one in the end.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Field<U> {
        Field(self.0.map(make))
    }
}

/// A tuple of one to twelve [`Field`]s.
pub trait FieldTuple {
    /// The tuple of their values.
    type Values;

    /// The values, if none is missing.
    fn values(self) -> Option<Self::Values>;
}

macro_rules! field_tuple {
    ($($field:ident)+) => {
        impl<$($field),+> FieldTuple for ($(Field<$field>,)+) {
            type Values = ($($field,)+);

            #[allow(non_snake_case, reason = "variables of a macro, named as their types")]
            fn values(self) -> Option<Self::Values> {
                let ($($field,)+) = self;
                Some(($($field.0?,)+))
            }
        }
    };
}

field_tuple!(A);
field_tuple!(A B);
field_tuple!(A B C);
field_tuple!(A B C D);
field_tuple!(A B C D E);
field_tuple!(A B C D E F);
field_tuple!(A B C D E F G);
field_tuple!(A B C D E F G H);
field_tuple!(A B C D E F G H I);
field_tuple!(A B C D E F G H I J);
field_tuple!(A B C D E F G H I J K);
field_tuple!(A B C D E F G H I J K L);

#[allow(
    clippy::needless_pass_by_value,
    reason = "a rule is written where it is used, as in `required(\"name\", Text::max(30))`"
)]
impl<'a> Fields<'a> {
    /// Ask for a value that must be there.
    pub fn required<R: Rule>(&mut self, name: &'static str, rule: R) -> Field<R::Output> {
        self.ask(name, &rule, Absence::Refused, |value| match value {
            Some(value) => rule.check(&value),
            None => Err(Fault::missing()),
        })
    }

    /// Ask for a value that may be absent; JSON null counts as absent.
    pub fn optional<R: Rule>(&mut self, name: &'static str, rule: R) -> Field<Option<R::Output>> {
        self.ask(name, &rule, Absence::OrNull, |value| match value {
            None | Some(Value::Json(Json::Null)) => Ok(None),
            Some(value) => rule.check(&value).map(Some),
        })
    }

    /// Ask for a new value that cannot be cleared: absent keeps the old one, null is a wrong value.
    pub fn set<R: Rule>(&mut self, name: &'static str, rule: R) -> Field<Option<R::Output>> {
        let judge = |value: Option<Value<'a>>| value.map(|value| rule.check(&value)).transpose();
        self.ask(name, &rule, Absence::Taken, judge)
    }

    /// Ask for a change: absent keeps, null clears, a value sets.
    pub fn change<R: Rule>(&mut self, name: &'static str, rule: R) -> Field<Change<R::Output>> {
        self.ask(name, &rule, Absence::OrNull, |value| match value {
            None => Ok(Change::Keep),
            Some(Value::Json(Json::Null)) => Ok(Change::Clear),
            Some(value) => rule.check(&value).map(Change::Set),
        })
    }

    /// The values of all fields, when every one is as it must be; once, at the end. One field is
    /// `fields.all((name,))`.
    pub fn all<F: FieldTuple>(&mut self, fields: F) -> Option<F::Values> {
        self.combined = true;
        fields.values()
    }

    /// Make of a part's values what may still be wrong with them together; `name` is told to be wrong then.
    pub fn judge<T, U>(
        &mut self,
        name: &'static str,
        part: Field<T>,
        judge: impl FnOnce(T) -> Result<U, Fault>,
    ) -> Field<U> {
        let judged = part.0.map(judge).transpose();
        Field(judged.map_err(|fault| self.fail(name, fault)).ok().flatten())
    }

    /// Several fields as one, for a function that reads a part of a payload: it returns a [`Field`],
    /// and the payload combines that with its own.
    pub fn join<F: FieldTuple>(&self, fields: F) -> Field<F::Values> {
        Field(fields.values())
    }

    /// Refuse members that the payload does not read (they are ignored otherwise).
    pub fn closed(&mut self) {
        self.closed = true;
    }

    /// Note a failure that the payload found itself, for example between two values.
    pub fn fail(&mut self, name: &'static str, fault: Fault) {
        self.note(Invalid::at(self.source, name, fault));
    }

    /// Run the payload's function without input and list what it asks for.
    #[must_use]
    pub fn describe<T: Payload>() -> PayloadSpec {
        let mut fields = Fields::new(Source::Body, Given::Nothing);
        // A description has no values, so the answer is always `None`.
        let _ = T::read(&mut fields);
        for (name, about) in T::notes() {
            let mut described = fields.described.iter_mut();
            if let Some(field) = described.find(|field| field.name == name) {
                field.about = about;
            }
        }
        PayloadSpec { fields: fields.described, closed: fields.closed }
    }

    fn new(source: Source, given: Given<'a>) -> Self {
        Self {
            source,
            given,
            asked: Vec::new(),
            failures: Vec::new(),
            described: Vec::new(),
            closed: false,
            combined: false,
        }
    }

    /// Describe a field, or find its value and judge it.
    fn ask<R: Rule, T>(
        &mut self,
        name: &'static str,
        rule: &R,
        absence: Absence,
        judge: impl FnOnce(Option<Value<'a>>) -> Result<T, Fault>,
    ) -> Field<T> {
        debug_assert!(!self.combined, "the field {name} is asked for after `all`");
        if matches!(self.given, Given::Nothing) {
            let schema = rule.describe();
            let (required, nullable) = (absence == Absence::Refused, absence == Absence::OrNull);
            self.described.push(FieldSpec { name, about: "", schema, required, nullable });
            return Field(None);
        }
        self.asked.push(name);
        let judged = self.given.find(name).and_then(judge);
        Field(judged.map_err(|fault| self.fail(name, fault)).ok())
    }

    fn note(&mut self, failure: Invalid) {
        if self.failures.len() < FAILURES_MAX {
            self.failures.push(failure);
        }
    }

    /// Note every member that the payload did not ask for.
    fn refuse_others(&mut self) {
        let is_unknown = |name: &String| !self.asked.contains(&name.as_str());
        let others = self.given.names().filter(is_unknown).take(FAILURES_MAX);
        for name in others.collect::<Vec<_>>() {
            self.note(Invalid::at(self.source, name, Fault::extra()));
        }
    }
}

/// Read a payload from what was given.
///
/// # Errors
/// What is wrong with it, the first hundred failures; never empty.
pub(crate) fn read<T: Payload>(source: Source, given: Given<'_>) -> Result<T, Vec<Invalid>> {
    let mut fields = Fields::new(source, given);
    let payload = T::read(&mut fields);
    if fields.closed {
        fields.refuse_others();
    }
    match payload {
        Some(payload) if fields.failures.is_empty() => Ok(payload),
        None if fields.failures.is_empty() => {
            // The payload gave up without a reason: its own mistake, but never a 200 or a panic.
            Err(vec![Invalid::whole(source, Fault::value("this input cannot be read"))])
        }
        _ => Err(fields.failures),
    }
}

/// What a payload asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct PayloadSpec {
    /// Its fields, in the order they are read.
    pub fields: Vec<FieldSpec>,
    /// Whether it refuses members it does not read.
    pub closed: bool,
}

/// One field of a payload.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldSpec {
    /// Name of the member or parameter.
    pub name: &'static str,
    /// What it is, for a person; may be empty.
    pub about: &'static str,
    /// The rule as a JSON schema.
    pub schema: Json,
    /// Whether it must be there.
    pub required: bool,
    /// Whether it may be null, in JSON.
    pub nullable: bool,
}

/// What may stand for a field's value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Absence {
    /// Nothing.
    Refused,
    /// That the field is not there.
    Taken,
    /// That, or null.
    OrNull,
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid as Id;

    use super::*;
    use crate::given::Given;
    use crate::rules::{Boolean, Integer, Text, Uuid};

    #[derive(Debug, PartialEq)]
    struct CreateUser {
        name: String,
        password: String,
        fullname: Option<String>,
    }

    impl Payload for CreateUser {
        fn read(fields: &mut Fields<'_>) -> Option<Self> {
            let name = fields.required("name", Text::max(30));
            let password = fields.required("password", Text::between(8, 64));
            let fullname = fields.optional("fullname", Text::unbounded());
            let (name, password, fullname) = fields.all((name, password, fullname))?;
            Some(Self { name, password, fullname })
        }
    }

    #[derive(Debug, PartialEq)]
    struct PatchUser(Change<String>);

    impl Payload for PatchUser {
        fn read(fields: &mut Fields<'_>) -> Option<Self> {
            fields.closed();
            let fullname = fields.change("fullname", Text::max(5));
            fields.all((fullname,)).map(|(fullname,)| Self(fullname))
        }
    }

    #[derive(Debug, PartialEq)]
    struct Page(Option<i64>, Option<bool>);

    impl Payload for Page {
        fn read(fields: &mut Fields<'_>) -> Option<Self> {
            let limit = fields.optional("limit", Integer::range(1, 200));
            let items = fields.optional("incl_items", Boolean);
            fields.all((limit, items)).map(|(limit, items)| Self(limit, items))
        }
    }

    #[derive(Debug, PartialEq)]
    struct Listing(Page, bool);

    impl Listing {
        fn page(fields: &mut Fields<'_>) -> Field<Page> {
            let limit = fields.optional("limit", Integer::range(1, 200));
            let items = fields.optional("incl_items", Boolean);
            fields.join((limit, items)).map(|(limit, items)| Page(limit, items))
        }
    }

    impl Payload for Listing {
        fn read(fields: &mut Fields<'_>) -> Option<Self> {
            let page = Self::page(fields);
            let all = fields.required("all", Boolean);
            fields.all((page, all)).map(|(page, all)| Self(page, all))
        }
    }

    #[derive(Debug, PartialEq)]
    struct UserPath(Id, String);

    impl Payload for UserPath {
        fn read(fields: &mut Fields<'_>) -> Option<Self> {
            let pubid = fields.required("pubid", Uuid);
            let file = fields.required("file", Text::unbounded());
            fields.all((pubid, file)).map(|(pubid, file)| Self(pubid, file))
        }
    }

    fn body<T: Payload>(json: &Json) -> Result<T, Vec<Invalid>> {
        read(Source::Body, Given::Object(json.as_object().unwrap()))
    }

    fn query<T: Payload>(text: &str) -> Result<T, Vec<Invalid>> {
        read(Source::Query, Given::query(text).unwrap())
    }

    fn failures<T: Payload>(result: Result<T, Vec<Invalid>>) -> Json {
        serde_json::to_value(result.err().expect("failures")).unwrap()
    }

    #[test]
    fn a_whole_payload_is_read() {
        let json = json!({"name": "ada", "password": "12345678", "fullname": null, "other": 1});
        let want = CreateUser { name: "ada".into(), password: "12345678".into(), fullname: None };
        assert_eq!(body(&json), Ok(want));
    }

    #[test]
    fn all_failures_are_told_not_just_the_first() {
        let json = json!({"name": "x".repeat(31), "fullname": 5});
        let want = json!([
            {"loc": ["body", "name"], "msg": "String should have at most 30 characters",
             "type": "string_too_long", "pointer": "#/name"},
            {"loc": ["body", "password"], "msg": "Field required",
             "type": "missing", "pointer": "#/password"},
            {"loc": ["body", "fullname"], "msg": "Input should be a valid string",
             "type": "string_type", "pointer": "#/fullname"},
        ]);
        assert_eq!(failures(body::<CreateUser>(&json)), want);
    }

    #[test]
    fn null_is_a_wrong_value_where_one_is_required() {
        let json = json!({"name": null, "password": "12345678"});
        assert_eq!(failures(body::<CreateUser>(&json))[0]["type"], "string_type");
    }

    #[test]
    fn a_change_tells_absent_from_null() {
        assert_eq!(body(&json!({})), Ok(PatchUser(Change::Keep)));
        assert_eq!(body(&json!({"fullname": null})), Ok(PatchUser(Change::Clear)));
        assert_eq!(body(&json!({"fullname": ""})), Ok(PatchUser(Change::Set(String::new()))));
    }

    #[test]
    fn a_closed_payload_refuses_other_members() {
        let failed = failures(body::<PatchUser>(&json!({"fullname": "too long", "a~b": 1})));
        assert_eq!(failed[0]["type"], "string_too_long");
        let extra = json!({"loc": ["body", "a~b"], "msg": "Extra inputs are not permitted",
            "type": "extra_forbidden", "pointer": "#/a~0b"});
        assert_eq!(failed[1], extra);
    }

    #[test]
    fn a_query_is_decoded_and_its_last_value_counts() {
        assert_eq!(query("limit=1&x&limit=%35&incl_items=y%65s"), Ok(Page(Some(5), Some(true))));
        assert_eq!(query(""), Ok(Page(None, None)));
        assert_eq!(query("l%69mit=3"), Ok(Page(Some(3), None)));
        let want = json!([
            {"loc": ["query", "limit"], "msg": "Input should be less than or equal to 200",
             "type": "less_than_equal"},
            {"loc": ["query", "incl_items"], "type": "bool_parsing",
             "msg": "Input should be a valid boolean, unable to interpret input"},
        ]);
        assert_eq!(failures(query::<Page>("incl_items=&limit=201")), want);
        assert_eq!(failures(query::<Page>("limit=%ff"))[0]["type"], "string_unicode");
    }

    fn form(text: &str) -> Result<CreateUser, Vec<Invalid>> {
        read(Source::Body, Given::form(text).unwrap())
    }

    #[test]
    fn a_form_is_decoded_and_a_field_is_given_once() {
        let read = form("name=a+b%2B&password=12345678&fullname=").unwrap();
        assert_eq!((read.name.as_str(), read.fullname.as_deref()), ("a b+", Some("")));
        let twice = failures(form("name=a&name=b&password=12345678"));
        let want = json!([{"loc": ["body", "name"], "type": "value_error", "pointer": "#/name",
            "msg": "Value error, field given more than once"}]);
        assert_eq!(twice, want);
        assert_eq!(failures(form("password=%C3%28aaaaaaaa&name=a"))[0]["type"], "string_unicode");
    }

    fn path(path: &str) -> Result<UserPath, Vec<Invalid>> {
        read(Source::Path, Given::Path { pattern: "/users/{pubid}/files/{*file}", path })
    }

    #[test]
    fn path_parameters_are_decoded_after_routing() {
        let id = "0193a1b2c3d47e5f8a9b0c1d2e3f4a5b";
        let read = path(&format!("/users/{id}/files/a%2Fb/%C3%A4+c")).unwrap();
        assert_eq!(read, UserPath(Id::parse_str(id).unwrap(), "a/b/ä+c".into()));
        let failed = failures(path("/users/x/files/%ff"));
        assert_eq!(failed[0]["loc"], json!(["path", "pubid"]));
        assert_eq!(failed[1]["type"], "string_unicode");
        assert_eq!(failed[1].get("pointer"), None);
    }

    #[test]
    fn a_description_lists_what_is_read() {
        let spec = Fields::describe::<CreateUser>();
        let names: Vec<_> = spec.fields.iter().map(|f| (f.name, f.required)).collect();
        assert_eq!(names, [("name", true), ("password", true), ("fullname", false)]);
        assert_eq!(spec.fields[0].schema, Text::max(30).describe());
        assert!(!spec.closed);
        assert!(Fields::describe::<PatchUser>().closed);
    }

    #[test]
    fn a_part_is_read_by_a_function_and_every_failure_is_told() {
        assert_eq!(query("limit=2&all=1"), Ok(Listing(Page(Some(2), None), true)));
        let failed = failures(query::<Listing>("limit=0&incl_items=x"));
        let names: Vec<_> = failed.as_array().unwrap().iter().map(|one| &one["loc"][1]).collect();
        assert_eq!(names, ["limit", "incl_items", "all"]);
        let spec = Fields::describe::<Listing>();
        let names: Vec<_> = spec.fields.iter().map(|field| field.name).collect();
        assert_eq!(names, ["limit", "incl_items", "all"]);
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "the field late is asked for after `all`")]
    fn a_field_that_a_failure_could_hide_is_a_mistake_of_the_payload() {
        struct Late;
        impl Payload for Late {
            fn read(fields: &mut Fields<'_>) -> Option<Self> {
                let early = fields.optional("early", Boolean);
                let _ = fields.all((early,))?;
                let late = fields.optional("late", Boolean);
                fields.all((late,)).map(|_| Self)
            }
        }
        let _ = query::<Late>("");
    }

    #[test]
    fn a_hundred_failures_are_told_and_no_more() {
        let members = (0..500).map(|n| (format!("m{n}"), Json::Null)).collect();
        let failed = failures(body::<PatchUser>(&Json::Object(members)));
        assert_eq!(failed.as_array().unwrap().len(), 100);
    }

    #[test]
    fn a_query_or_form_has_a_hundred_pairs_and_no_more() {
        let hundred = "limit=1&".repeat(100);
        assert_eq!(query(&hundred), Ok(Page(Some(1), None)));
        let more = format!("{hundred}limit=1");
        for refused in [Given::query(&more), Given::form(&more)] {
            assert_eq!(refused.err().unwrap().kind, "value_error");
        }
    }

    #[test]
    fn a_payload_that_gives_up_without_a_reason_is_still_a_failure() {
        struct Mute;
        impl Payload for Mute {
            fn read(_: &mut Fields<'_>) -> Option<Self> {
                None
            }
        }
        assert_eq!(failures(query::<Mute>(""))[0]["loc"], json!(["query"]));
    }
}
