//! Does a value fit a schema of the API document?
//!
//! As many of JSON Schema's keywords as the document uses: one that is not known here fails the test. It
//! is stricter in one thing: a member that the schema does not name is a failure, also where the schema
//! would let it pass, so that nothing is answered that is not told.

use serde_json::{Map, Value, json};

/// The document that references lead into.
pub(super) struct Document<'a>(&'a Value);

/// What says nothing about a value.
const NOTES: [&str; 3] = ["description", "examples", "default"];

impl<'a> Document<'a> {
    pub(super) fn new(document: &'a Value) -> Self {
        Self(document)
    }

    /// The value itself, or the one that it refers to.
    pub(super) fn follow(&self, value: &'a Value) -> &'a Value {
        let Some(reference) = value["$ref"].as_str() else { return value };
        let found = self.0.pointer(reference.trim_start_matches('#'));
        found.unwrap_or_else(|| panic!("{reference} leads nowhere"))
    }

    fn faults(&self, schema: &'a Value, value: &Value, place: &str) -> Vec<String> {
        let members = self.follow(schema).as_object().expect("a schema is an object");
        let keywords = members.iter().filter(|(name, _)| !NOTES.contains(&name.as_str()));
        keywords.flat_map(|(name, rule)| self.fault(name, rule, members, value, place)).collect()
    }

    fn fault(
        &self,
        keyword: &str,
        rule: &'a Value,
        schema: &'a Map<String, Value>,
        value: &Value,
        place: &str,
    ) -> Vec<String> {
        let length = value.as_str().map(|text| text.chars().count() as u64);
        let fits = match keyword {
            "type" => match rule {
                Value::Array(kinds) => kinds.iter().any(|kind| is_of(value, kind)),
                kind => is_of(value, kind),
            },
            "minLength" => length.is_none_or(|length| length >= rule.as_u64().unwrap()),
            "maxLength" => length.is_none_or(|length| length <= rule.as_u64().unwrap()),
            "minimum" => value.as_i64().is_none_or(|number| number >= rule.as_i64().unwrap()),
            "maximum" => value.as_i64().is_none_or(|number| number <= rule.as_i64().unwrap()),
            "pattern" => value.as_str().is_none_or(|text| matches(rule.as_str().unwrap(), text)),
            "format" => value.as_str().is_none_or(|text| is_formed(rule.as_str().unwrap(), text)),
            "required" => {
                let names = rule.as_array().unwrap().iter().map(|name| name.as_str().unwrap());
                names.into_iter().all(|name| value.get(name).is_some())
            }
            "additionalProperties" => *rule == json!(false),
            "properties" => return self.members(rule, value, place),
            "items" => {
                let elements = value.as_array().into_iter().flatten().enumerate();
                let faults = |(at, one)| self.faults(rule, one, &format!("{place}/{at}"));
                return elements.flat_map(faults).collect();
            }
            _ => panic!("{place}: the keyword {keyword} is not known here: {schema:?}"),
        };
        if fits { Vec::new() } else { vec![format!("{place}: {value} is not {keyword} {rule}")] }
    }

    fn members(&self, properties: &'a Value, value: &Value, place: &str) -> Vec<String> {
        let members = value.as_object().into_iter().flatten();
        let faults = |(name, one): (&String, &Value)| match properties.get(name) {
            Some(schema) => self.faults(schema, one, &format!("{place}/{name}")),
            None => vec![format!("{place}/{name} is not in the schema")],
        };
        members.flat_map(faults).collect()
    }
}

/// Fails unless `value` fits.
pub(super) fn check<'a>(document: &Document<'a>, schema: &'a Value, value: &Value, what: &str) {
    let faults = document.faults(schema, value, "");
    assert!(faults.is_empty(), "{what}: {faults:#?}\n{value:#}");
}

fn is_of(value: &Value, kind: &Value) -> bool {
    match kind.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("boolean") => value.is_boolean(),
        Some("null") => value.is_null(),
        _ => panic!("{kind} is no type"),
    }
}

/// The patterns of the document, each by what it means.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern {
        r"^[^\u0000]*$" => !text.contains('\0'),
        "^password$" | "^refresh_token$" => pattern.trim_matches(['^', '$']) == text,
        r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{6})?$" => is_formed("date-time-local", text),
        _ => panic!("the pattern {pattern} is not known here"),
    }
}

fn is_formed(format: &str, text: &str) -> bool {
    match format {
        "uuid" => text.len() == 36 && uuid::Uuid::try_parse(text).is_ok(),
        "password" => true,
        "date-time" => text.parse::<jiff::Timestamp>().is_ok(),
        "date-time-local" => {
            text.parse::<jiff::civil::DateTime>().is_ok() && [19, 26].contains(&text.len())
        }
        _ => panic!("the format {format} is not known here"),
    }
}

#[test]
fn what_does_not_fit_is_found() {
    let document = json!({"components": {"schemas": {"Thing": {
        "type": "object", "description": "A thing.", "required": ["id", "tags"],
        "properties": {
            "id": {"type": "string", "format": "uuid"},
            "count": {"type": ["integer", "null"], "minimum": 1, "maximum": 3},
            "tags": {"type": "array", "items": {"type": "string", "minLength": 2, "maxLength": 3}},
            "at": {"type": "string", "format": "date-time-local"},
        },
    }}}});
    let schema = json!({"$ref": "#/components/schemas/Thing"});
    let good = json!({"id": "0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b", "count": null, "tags": ["ab"],
        "at": "2024-12-12T13:25:00"});
    check(&Document::new(&document), &schema, &good, "good");
    let bad = [
        json!([]),
        json!({"id": good["id"]}),
        json!({"id": "0193a1b2c3d47e5f8a9b0c1d2e3f4a5b", "tags": []}),
        json!({"id": good["id"], "tags": [], "more": 1}),
        json!({"id": good["id"], "tags": {}}),
        json!({"id": good["id"], "tags": ["a"]}),
        json!({"id": good["id"], "tags": ["äbcd"]}),
        json!({"id": good["id"], "tags": [], "count": 4}),
        json!({"id": good["id"], "tags": [], "count": 1.5}),
        json!({"id": good["id"], "tags": [], "at": "2024-12-12 13:25"}),
    ];
    for value in bad {
        assert_ne!(Document::new(&document).faults(&schema, &value, ""), [""; 0], "{value}");
    }
}
