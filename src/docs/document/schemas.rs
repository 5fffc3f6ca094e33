//! Schemas of the API document, and examples that fit them.
//!
//! `document` asks for what a payload reads and a response is; objects get a name, and are referred to
//! by it. The schemas themselves are the rules' and the types' own.
//! Promises: an example is what the schema says, and a payload's is what the server takes.
//! Source: JSON Schema 2020-12.

use std::borrow::Cow;

use serde_json::{Map, Value as Json, json};
use worker::{FieldSpec, InputSpec, MemberSpec, ObjectSpec, PayloadSpec, Schema};

use super::super::node::{Members, Node, object};

/// An id for examples.
const ID: &str = "0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";

/// The objects that have a name, by it.
#[derive(Default)]
pub(super) struct Schemas(Members);

impl Schemas {
    pub(super) fn into_members(self) -> Members {
        self.0
    }

    /// What is answered: the schema, or a reference to it.
    pub(super) fn reference(&mut self, schema: &Schema) -> Node {
        match schema {
            Schema::Value(value) => value.clone().into(),
            Schema::List(of) => object! { "type" => "array", "items" => self.reference(of) },
            Schema::Object(spec) => {
                let object = self.object(spec);
                self.named(spec.name, object)
            }
        }
    }

    fn object(&mut self, ObjectSpec { about, members, .. }: &ObjectSpec) -> Node {
        let properties: Members =
            members.iter().map(|member| (member.name.into(), self.member(member))).collect();
        let required = members.iter().filter(|member| member.required);
        let required: Vec<Node> = required.map(|member| member.name.into()).collect();
        object! {
            "type" => "object",
            "description" => *about,
            "properties" => properties,
            "required" => required,
        }
    }

    fn member(&mut self, member: &MemberSpec) -> Node {
        let about = (!member.about.is_empty()).then_some(member.about);
        match self.reference(&member.schema) {
            Node::Value(Json::Object(mut schema)) => {
                if let Some(about) = about {
                    schema.insert("description".to_owned(), about.into());
                }
                if let Some(example) = &member.example {
                    schema.insert("examples".to_owned(), json!([example]));
                }
                Json::Object(schema).into()
            }
            other => other.with_some("description", about),
        }
    }

    /// What is read from a body.
    pub(super) fn payload(&mut self, input: &InputSpec) -> Node {
        let name = input.payload.rsplit("::").next().unwrap_or_default();
        let is_json = input.media_types.iter().any(|name| name.ends_with("json"));
        let fields = &input.spec.fields;
        let property = |field: &FieldSpec| (field.name.into(), of_field(field, is_json));
        let required = fields.iter().filter(|field| field.required);
        let required: Vec<Node> = required.map(|field| field.name.into()).collect();
        let object = object! {
            "type" => "object",
            "properties" => fields.iter().map(property).collect::<Members>(),
            "required" => required,
        };
        let closed = input.spec.closed.then_some(false);
        self.named(name, object.with_some("additionalProperties", closed))
    }

    /// A reference to `schema`, under this name unless that is another one's.
    fn named(&mut self, name: &'static str, schema: Node) -> Node {
        let mut free = Cow::Borrowed(name);
        for number in 2.. {
            match self.0.iter().find(|(known, _)| *known == free) {
                Some((_, known)) if *known == schema => break,
                Some(_) => free = format!("{name}{number}").into(),
                None => {
                    self.0.push((free.clone(), schema));
                    break;
                }
            }
        }
        object! { "$ref" => format!("#/components/schemas/{free}") }
    }
}

/// What the field is, for people.
pub(super) fn description(field: &FieldSpec) -> Option<String> {
    let own = (!field.about.is_empty()).then(|| field.about.to_owned());
    own.or_else(|| field.schema["description"].as_str().map(str::to_owned))
}

/// A parameter's schema; what describes it stands beside.
pub(super) fn of_text(field: &FieldSpec) -> Json {
    let mut schema = field.schema.clone();
    if let Some(members) = schema.as_object_mut() {
        members.remove("description");
    }
    schema
}

fn of_field(field: &FieldSpec, is_json: bool) -> Node {
    let mut schema =
        if field.nullable && is_json { or_null(&field.schema) } else { field.schema.clone() };
    if let Some(description) = description(field) {
        schema["description"] = description.into();
    }
    schema.into()
}

/// The same schema, and null besides.
fn or_null(schema: &Json) -> Json {
    let mut nullable = schema.clone();
    match &schema["type"] {
        Json::String(kind) if schema.get("enum").is_none() => {
            nullable["type"] = json!([kind, "null"])
        }
        _ => nullable = json!({"anyOf": [schema, {"type": "null"}]}),
    }
    nullable
}

// Examples

/// What the server takes.
pub(super) fn sample_of_payload(spec: &PayloadSpec) -> Node {
    let member = |field: &FieldSpec| (field.name.into(), sample_of_field(field).into());
    Node::Object(spec.fields.iter().map(member).collect())
}

pub(super) fn sample_of_field(field: &FieldSpec) -> Json {
    of_value(&field.schema)
}

/// What may be answered. What may be left out is there only where it has an example.
pub(super) fn sample(schema: &Schema) -> Node {
    match schema {
        Schema::Value(value) => of_value(value).into(),
        Schema::List(of) => Node::List(vec![sample(of)]),
        Schema::Object(ObjectSpec { members, .. }) => {
            let shown = members.iter().filter(|one| one.required || one.example.is_some());
            let member = |one: &MemberSpec| match &one.example {
                Some(example) => example.clone().into(),
                None => sample(&one.schema),
            };
            Node::Object(shown.map(|one| (one.name.into(), member(one))).collect())
        }
    }
}

/// What the schema names as an example, else one that fits its type.
fn of_value(schema: &Json) -> Json {
    if let Some(example) = schema["examples"].get(0) {
        return example.clone();
    }
    match (schema["type"].as_str(), schema["format"].as_str()) {
        (_, Some("uuid")) => ID.into(),
        (Some("integer"), _) => schema["minimum"].as_i64().unwrap_or(1).into(),
        (Some("boolean"), _) => true.into(),
        (Some("string"), _) => "text".into(),
        (Some("object"), _) => Json::Object(Map::new()),
        (Some("array"), _) => json!([]),
        _ => Json::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &'static str, members: Vec<MemberSpec>) -> Schema {
        Schema::Object(ObjectSpec { name, about: "", members })
    }

    #[test]
    fn two_objects_of_one_name_stay_two() {
        let mut schemas = Schemas::default();
        let one = object("Thing", vec![MemberSpec::of::<bool>("a", "")]);
        let other = object("Thing", vec![MemberSpec::of::<Option<i64>>("b", "")]);
        let names = [&one, &other, &one, &other].map(|schema| schemas.reference(schema));
        assert_eq!((&names[0], &names[1]), (&names[2], &names[3]));
        assert_ne!(names[0], names[1]);
        assert_eq!(schemas.into_members().len(), 2);
    }

    #[test]
    fn null_is_added_to_any_schema() {
        assert_eq!(or_null(&json!({"type": "string"})), json!({"type": ["string", "null"]}));
        let word = json!({"type": "string", "enum": ["a"]});
        assert_eq!(or_null(&word), json!({"anyOf": [word, {"type": "null"}]}));
    }

    #[test]
    fn a_sample_leaves_out_what_may_be_left_out_and_has_no_example() {
        let members = vec![
            MemberSpec::of::<uuid::Uuid>("id", ""),
            MemberSpec::of::<Option<String>>("note", ""),
            MemberSpec::of::<Option<String>>("name", "").like("ann"),
        ];
        let sample = serde_json::to_value(sample(&object("Thing", members))).unwrap();
        assert_eq!(sample, json!({"id": ID, "name": "ann"}));
    }
}
