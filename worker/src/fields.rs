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

/// A typed input of a handler, read from a body, a query string or the path.
pub trait Payload: Sized + 'static {
    /// Read it. Call every accessor before the first `?`, so that all failures are noted; `None` means
    /// that at least one was (or that the payload is only being described).
    fn read(fields: &mut Fields<'_>) -> Option<Self>;
}

/// Which part of the request a payload is read from; the first element of every `loc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Parameters in the path.
    Path,
    /// The query string.
    Query,
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

/// The values of one input while a [`Payload`] reads them.
pub struct Fields<'a> {
    source: Source,
    given: Given<'a>,
    failures: Vec<Invalid>,
    described: Vec<FieldSpec>,
    closed: bool,
}

#[allow(
    clippy::needless_pass_by_value,
    reason = "a rule is written where it is used, as in `required(\"name\", Text::max(30))`"
)]
impl<'a> Fields<'a> {
    /// Read a value that must be there.
    pub fn required<R: Rule>(&mut self, name: &'static str, rule: R) -> Option<R::Output> {
        self.describes(name, &rule, true);
        match self.find(name)? {
            Some(value) => self.check(name, &rule, &value),
            None => self.note(name, Fault::missing()),
        }
    }

    /// Read a value that may be absent; JSON null counts as absent. The outer `None` means that a
    /// failure was noted.
    pub fn optional<R: Rule>(&mut self, name: &'static str, rule: R) -> Option<Option<R::Output>> {
        self.describes(name, &rule, false);
        match self.find(name)? {
            None | Some(Value::Json(Json::Null)) => Some(None),
            Some(value) => self.check(name, &rule, &value).map(Some),
        }
    }

    /// Read a change: absent keeps, null clears, a value sets.
    pub fn change<R: Rule>(&mut self, name: &'static str, rule: R) -> Option<Change<R::Output>> {
        self.describes(name, &rule, false);
        match self.find(name)? {
            None => Some(Change::Keep),
            Some(Value::Json(Json::Null)) => Some(Change::Clear),
            Some(value) => self.check(name, &rule, &value).map(Change::Set),
        }
    }

    /// Refuse members that the payload does not read (they are ignored otherwise).
    pub fn closed(&mut self) {
        self.closed = true;
    }

    /// Note a failure that the payload found itself, for example between two values.
    pub fn fail(&mut self, name: &'static str, fault: Fault) {
        self.failures.push(Invalid::at(self.source, name, fault));
    }

    /// Run the payload's function without input and list what it asks for.
    #[must_use]
    pub fn describe<T: Payload>() -> PayloadSpec {
        let mut fields = Fields::new(Source::Body, Given::Nothing);
        // A description has no values, so the answer is always `None`.
        let _ = T::read(&mut fields);
        PayloadSpec { fields: fields.described, closed: fields.closed }
    }

    fn new(source: Source, given: Given<'a>) -> Self {
        Self { source, given, failures: Vec::new(), described: Vec::new(), closed: false }
    }

    fn describes<R: Rule>(&mut self, name: &'static str, rule: &R, required: bool) {
        if matches!(self.given, Given::Nothing) {
            self.described.push(FieldSpec { name, schema: rule.describe(), required });
        }
    }

    /// The value called `name`. The outer `None`: a failure was noted, or there is no input at all.
    fn find(&mut self, name: &'static str) -> Option<Option<Value<'a>>> {
        if matches!(self.given, Given::Nothing) {
            return None;
        }
        self.given.find(name).map_err(|fault| self.fail(name, fault)).ok()
    }

    fn check<R: Rule>(
        &mut self,
        name: &'static str,
        rule: &R,
        value: &Value<'_>,
    ) -> Option<R::Output> {
        rule.check(value).map_err(|fault| self.fail(name, fault)).ok()
    }

    fn note<T>(&mut self, name: &'static str, fault: Fault) -> Option<T> {
        self.fail(name, fault);
        None
    }

    /// Note every member that the payload does not read.
    fn refuse_others<T: Payload>(&mut self) {
        let known = Fields::describe::<T>().fields;
        let is_unknown = |name: &String| known.iter().all(|field| field.name != name);
        let others: Vec<String> = self.given.names().into_iter().filter(is_unknown).collect();
        for name in others {
            self.failures.push(Invalid::at(self.source, name, Fault::extra()));
        }
    }
}

/// Read a payload from what was given.
///
/// # Errors
/// Everything that is wrong with it; never empty.
pub(crate) fn read<T: Payload>(source: Source, given: Given<'_>) -> Result<T, Vec<Invalid>> {
    let mut fields = Fields::new(source, given);
    let payload = T::read(&mut fields);
    if fields.closed {
        fields.refuse_others::<T>();
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
    /// The rule as a JSON schema.
    pub schema: Json,
    /// Whether it must be there.
    pub required: bool,
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
            let fullname = fields.optional("fullname", Text::any());
            Some(Self { name: name?, password: password?, fullname: fullname? })
        }
    }

    #[derive(Debug, PartialEq)]
    struct PatchUser(Change<String>);

    impl Payload for PatchUser {
        fn read(fields: &mut Fields<'_>) -> Option<Self> {
            fields.closed();
            let fullname = fields.change("fullname", Text::max(5));
            Some(Self(fullname?))
        }
    }

    #[derive(Debug, PartialEq)]
    struct Page(Option<i64>, Option<bool>);

    impl Payload for Page {
        fn read(fields: &mut Fields<'_>) -> Option<Self> {
            let limit = fields.optional("limit", Integer::range(1, 200));
            let items = fields.optional("incl_items", Boolean);
            Some(Self(limit?, items?))
        }
    }

    #[derive(Debug, PartialEq)]
    struct UserPath(Id, String);

    impl Payload for UserPath {
        fn read(fields: &mut Fields<'_>) -> Option<Self> {
            let pubid = fields.required("pubid", Uuid);
            let file = fields.required("file", Text::any());
            Some(Self(pubid?, file?))
        }
    }

    fn body<T: Payload>(json: &Json) -> Result<T, Vec<Invalid>> {
        read(Source::Body, Given::Object(json.as_object().unwrap()))
    }

    fn query<T: Payload>(text: &str) -> Result<T, Vec<Invalid>> {
        read(Source::Query, Given::Query(text))
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
        read(Source::Body, Given::Form(text))
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
        assert_eq!(spec.fields[0].schema, json!({"type": "string", "maxLength": 30}));
        assert!(!spec.closed);
        assert!(Fields::describe::<PatchUser>().closed);
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
