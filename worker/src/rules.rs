//! Rules: what one value of a payload may be.
//!
//! `fields.rs` applies them; an application adds its own by implementing [`Rule`].
//! Promises: a rule judges JSON and text (query, form, path) alike, with pydantic's lenient reading of
//! numbers and booleans and its wording of failures; no value makes a rule panic.
//! Does not know: where the value came from or what it is for.

use std::borrow::Cow;

use serde_json::{Value as Json, json};
use uuid::Uuid as Id;

/// One value as it came.
#[derive(Debug, Clone)]
pub enum Value<'a> {
    /// From a JSON body.
    Json(&'a Json),
    /// From the path, a query string or a form, decoded.
    Text(Cow<'a, str>),
}

impl Value<'_> {
    /// The text, if the value is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Json(Json::String(text)) => Some(text),
            Self::Json(_) => None,
            Self::Text(text) => Some(text),
        }
    }
}

/// What is wrong with a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// For a program: pydantic's error type.
    pub kind: Cow<'static, str>,
    /// For a person.
    pub msg: Cow<'static, str>,
}

impl Fault {
    /// A fault of any type.
    #[must_use]
    pub fn new(kind: &'static str, msg: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: Cow::Borrowed(kind), msg: msg.into() }
    }

    /// A fault that no other type describes: pydantic's `value_error`.
    #[must_use]
    pub fn value(text: &str) -> Self {
        Self::new("value_error", format!("Value error, {text}"))
    }

    pub(crate) fn missing() -> Self {
        Self::new("missing", "Field required")
    }

    pub(crate) fn extra() -> Self {
        Self::new("extra_forbidden", "Extra inputs are not permitted")
    }

    pub(crate) fn unicode() -> Self {
        Self::new(
            "string_unicode",
            "Input should be a valid string, unable to parse raw data as a unicode string",
        )
    }
}

/// A rule for one value: it turns what came into what the application works with.
pub trait Rule {
    /// What a value becomes.
    type Output;

    /// Judge a value.
    ///
    /// # Errors
    /// The fault, in words for the client.
    fn check(&self, value: &Value<'_>) -> Result<Self::Output, Fault>;

    /// The rule as a JSON schema, for the API document.
    fn describe(&self) -> Json;
}

/// Text without NUL, which PostgreSQL cannot store; lengths are in characters.
#[derive(Debug, Clone, Copy)]
pub struct Text {
    min: usize,
    max: Option<usize>,
    example: Option<&'static str>,
}

impl Text {
    /// Text of any length: only the body's or the path's limit holds.
    #[must_use]
    pub const fn unbounded() -> Self {
        Self { min: 0, max: None, example: None }
    }

    /// Text of at most `max` characters.
    #[must_use]
    pub const fn max(max: usize) -> Self {
        Self { min: 0, max: Some(max), example: None }
    }

    /// Text of `min` to `max` characters.
    #[must_use]
    pub const fn between(min: usize, max: usize) -> Self {
        Self { min, max: Some(max), example: None }
    }

    /// Such a text, for the API document.
    #[must_use]
    pub const fn like(self, example: &'static str) -> Self {
        Self { example: Some(example), ..self }
    }
}

impl Rule for Text {
    type Output = String;

    fn check(&self, value: &Value<'_>) -> Result<String, Fault> {
        let text = value
            .text()
            .ok_or_else(|| Fault::new("string_type", "Input should be a valid string"))?;
        let length = text.chars().count();
        if let Some(max) = self.max.filter(|max| length > *max) {
            let msg = format!("String should have at most {}", characters(max));
            return Err(Fault::new("string_too_long", msg));
        }
        if length < self.min {
            let msg = format!("String should have at least {}", characters(self.min));
            return Err(Fault::new("string_too_short", msg));
        }
        if text.contains('\0') {
            return Err(Fault::value("text must not contain NUL"));
        }
        Ok(text.to_owned())
    }

    fn describe(&self) -> Json {
        let mut schema = json!({"type": "string", "pattern": r"^[^\u0000]*$"});
        if self.min > 0 {
            schema["minLength"] = self.min.into();
        }
        if let Some(max) = self.max {
            schema["maxLength"] = max.into();
        }
        if let Some(example) = self.example {
            schema["examples"] = json!([example]);
        }
        schema
    }
}

fn characters(count: usize) -> String {
    format!("{count} character{}", if count == 1 { "" } else { "s" })
}

/// A UUID in any case, with or without dashes.
#[derive(Debug, Clone, Copy)]
pub struct Uuid;

impl Rule for Uuid {
    type Output = Id;

    fn check(&self, value: &Value<'_>) -> Result<Id, Fault> {
        let text = value.text().ok_or_else(|| {
            Fault::new("uuid_type", "UUID input should be a string, bytes or UUID object")
        })?;
        Id::try_parse(text).map_err(|_| uuid_fault(text))
    }

    fn describe(&self) -> Json {
        json!({"type": "string", "format": "uuid"})
    }
}

#[cold]
fn uuid_fault(text: &str) -> Fault {
    let why = Id::parse_str(text).err().map(|error| error.to_string()).unwrap_or_default();
    Fault::new("uuid_parsing", format!("Input should be a valid UUID, {why}"))
}

/// A whole number within bounds, both included.
#[derive(Debug, Clone, Copy)]
pub struct Integer {
    min: i64,
    max: i64,
}

impl Integer {
    /// A number from `min` to `max`.
    #[must_use]
    pub const fn range(min: i64, max: i64) -> Self {
        Self { min, max }
    }
}

impl Rule for Integer {
    type Output = i64;

    fn check(&self, value: &Value<'_>) -> Result<i64, Fault> {
        let number = match value {
            Value::Json(Json::Number(number)) => whole(number)?,
            _ => value.text().ok_or_else(integer_type).and_then(integer)?,
        };
        if number < self.min {
            let msg = format!("Input should be greater than or equal to {}", self.min);
            return Err(Fault::new("greater_than_equal", msg));
        }
        if number > self.max {
            let msg = format!("Input should be less than or equal to {}", self.max);
            return Err(Fault::new("less_than_equal", msg));
        }
        Ok(number)
    }

    fn describe(&self) -> Json {
        json!({"type": "integer", "minimum": self.min, "maximum": self.max})
    }
}

fn integer_type() -> Fault {
    Fault::new("int_type", "Input should be a valid integer")
}

/// A JSON number as a whole one; one beyond 64 bits is out of every range, so the nearest bound will do.
fn whole(number: &serde_json::Number) -> Result<i64, Fault> {
    if let Some(number) = number.as_i64() {
        return Ok(number);
    }
    let float = number.as_f64().ok_or_else(integer_type)?;
    if float.fract() != 0.0 {
        return Err(Fault::new(
            "int_from_float",
            "Input should be a valid integer, got a number with a fractional part",
        ));
    }
    // A cast from float saturates: exactly what is wanted here.
    Ok(float as i64)
}

fn integer(text: &str) -> Result<i64, Fault> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    match text.trim().parse::<i64>() {
        Ok(number) => Ok(number),
        Err(error) if *error.kind() == PosOverflow => Ok(i64::MAX),
        Err(error) if *error.kind() == NegOverflow => Ok(i64::MIN),
        Err(_) => Err(Fault::new(
            "int_parsing",
            "Input should be a valid integer, unable to parse string as an integer",
        )),
    }
}

/// A boolean: in JSON, or as one of the words that pydantic takes in a query.
#[derive(Debug, Clone, Copy)]
pub struct Boolean;

impl Rule for Boolean {
    type Output = bool;

    fn check(&self, value: &Value<'_>) -> Result<bool, Fault> {
        match value {
            Value::Json(Json::Bool(flag)) => Ok(*flag),
            Value::Json(Json::Number(number)) => match number.as_f64() {
                Some(0.0) => Ok(false),
                Some(1.0) => Ok(true),
                _ => Err(boolean_parsing()),
            },
            _ => match value.text() {
                Some(text) => boolean(text),
                None => Err(Fault::new("bool_type", "Input should be a valid boolean")),
            },
        }
    }

    fn describe(&self) -> Json {
        json!({"type": "boolean"})
    }
}

fn boolean(text: &str) -> Result<bool, Fault> {
    let is_one_of = |words: [&str; 6]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is_one_of(["1", "true", "t", "yes", "y", "on"]) {
        return Ok(true);
    }
    if is_one_of(["0", "false", "f", "no", "n", "off"]) {
        return Ok(false);
    }
    Err(boolean_parsing())
}

fn boolean_parsing() -> Fault {
    Fault::new("bool_parsing", "Input should be a valid boolean, unable to interpret input")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault<R: Rule>(rule: &R, value: &Value<'_>) -> (String, String) {
        match rule.check(value) {
            Ok(_) => panic!("{value:?} was taken"),
            Err(fault) => (fault.kind.into_owned(), fault.msg.into_owned()),
        }
    }

    fn text(text: &str) -> Value<'_> {
        Value::Text(Cow::Borrowed(text))
    }

    fn is(kind: &str, msg: &str) -> (String, String) {
        (kind.to_owned(), msg.to_owned())
    }

    #[test]
    fn text_is_counted_in_characters() {
        assert_eq!(Text::max(3).check(&text("äöü")).unwrap(), "äöü");
        let long = is("string_too_long", "String should have at most 3 characters");
        assert_eq!(fault(&Text::max(3), &text("äöüß")), long);
        let short = is("string_too_short", "String should have at least 8 characters");
        assert_eq!(fault(&Text::between(8, 64), &text("1234567")), short);
        assert!(Text::between(8, 64).check(&text(&"x".repeat(64))).is_ok());
        let one = is("string_too_long", "String should have at most 1 character");
        assert_eq!(fault(&Text::max(1), &text("ab")), one);
    }

    #[test]
    fn text_is_text_and_has_no_nul() {
        let kind = is("string_type", "Input should be a valid string");
        for json in [json!(1), json!(null), json!(["a"]), json!({})] {
            assert_eq!(fault(&Text::unbounded(), &Value::Json(&json)), kind);
        }
        assert_eq!(fault(&Text::unbounded(), &text("a\0b")).0, "value_error");
        assert_eq!(Text::unbounded().check(&text("")).unwrap(), "");
    }

    #[test]
    fn a_uuid_is_read_in_upper_case_and_without_dashes() {
        let want = Id::parse_str("0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b").unwrap();
        let spellings =
            ["0193A1B2-C3D4-7E5F-8A9B-0C1D2E3F4A5B", "0193a1b2c3d47e5f8a9b0c1d2e3f4a5b"];
        for spelling in spellings {
            assert_eq!(Uuid.check(&text(spelling)).unwrap(), want);
        }
        let (kind, msg) = fault(&Uuid, &text("nope"));
        assert_eq!(kind, "uuid_parsing");
        assert!(msg.starts_with("Input should be a valid UUID, "), "{msg}");
        assert_eq!(fault(&Uuid, &Value::Json(&json!(5))).0, "uuid_type");
    }

    #[test]
    fn an_integer_is_within_its_bounds() {
        let rule = Integer::range(1, 200);
        for (given, want) in [("1", 1), ("200", 200), (" 7 ", 7), ("+5", 5)] {
            assert_eq!(rule.check(&text(given)).unwrap(), want);
        }
        assert_eq!(rule.check(&Value::Json(&json!(3.0))).unwrap(), 3);
        assert_eq!(rule.check(&Value::Json(&json!("12"))).unwrap(), 12);
        let above = is("less_than_equal", "Input should be less than or equal to 200");
        assert_eq!(fault(&rule, &text("201")), above);
        assert_eq!(fault(&rule, &text("99999999999999999999999")), above);
        assert_eq!(fault(&rule, &Value::Json(&json!(1e300))), above);
        let below = is("greater_than_equal", "Input should be greater than or equal to 1");
        assert_eq!(fault(&rule, &text("0")), below);
        assert_eq!(fault(&rule, &text("-99999999999999999999999")), below);
    }

    #[test]
    fn what_is_no_integer_is_named_as_pydantic_names_it() {
        let rule = Integer::range(1, 200);
        for given in ["", "x", "1.5", "0x10", "1e3"] {
            let msg = "Input should be a valid integer, unable to parse string as an integer";
            assert_eq!(fault(&rule, &text(given)), is("int_parsing", msg));
        }
        assert_eq!(fault(&rule, &Value::Json(&json!(1.5))).0, "int_from_float");
        assert_eq!(fault(&rule, &Value::Json(&json!(null))).0, "int_type");
    }

    #[test]
    fn booleans_are_read_as_in_pydantic() {
        for yes in ["true", "1", "yes", "on", "t", "y", "True", "YES"] {
            assert_eq!(Boolean.check(&text(yes)), Ok(true), "{yes}");
        }
        for no in ["false", "0", "no", "off", "f", "n", "OFF"] {
            assert_eq!(Boolean.check(&text(no)), Ok(false), "{no}");
        }
        assert_eq!(Boolean.check(&Value::Json(&json!(true))), Ok(true));
        assert_eq!(Boolean.check(&Value::Json(&json!(0))), Ok(false));
        let msg = "Input should be a valid boolean, unable to interpret input";
        assert_eq!(fault(&Boolean, &text("maybe")), is("bool_parsing", msg));
        assert_eq!(fault(&Boolean, &Value::Json(&json!(2))).0, "bool_parsing");
        assert_eq!(fault(&Boolean, &Value::Json(&json!(null))).0, "bool_type");
    }

    #[test]
    fn rules_describe_themselves() {
        let mut text = json!({"type": "string", "pattern": r"^[^\u0000]*$"});
        assert_eq!(Text::unbounded().describe(), text);
        text["maxLength"] = json!(64);
        text["examples"] = json!(["ann"]);
        assert_eq!(Text::max(64).like("ann").describe(), text);
        text["minLength"] = json!(8);
        assert_eq!(Text::between(8, 64).like("ann").describe(), text);
        assert_eq!(Uuid.describe(), json!({"type": "string", "format": "uuid"}));
        assert_eq!(
            Integer::range(1, 2).describe(),
            json!({"type": "integer", "minimum": 1, "maximum": 2})
        );
    }
}
