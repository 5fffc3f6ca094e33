//! A text with placeholders, taken apart once.
//!
//! A placeholder is `{table.column}` or `{unique}`, of small letters, digits and underscores. Every
//! other brace is a brace: bodies are JSON. Knows names and no rows; `check` asks for the names, and
//! the generator puts values in.

/// A text, part by part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    pub(crate) parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// As it is.
    Literal(String),
    /// A text that no other request gets.
    Unique,
    /// Of the row that was drawn for this request.
    Column { table: String, column: String },
}

impl Template {
    /// # Errors
    /// When a name without a dot is not `unique`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (mut parts, mut literal, mut rest) = (Vec::new(), String::new(), text);
        while let Some(brace) = rest.find('{') {
            literal.push_str(&rest[..brace]);
            rest = &rest[brace..];
            match placeholder(rest) {
                Some(name) => {
                    if !literal.is_empty() {
                        parts.push(Part::Literal(std::mem::take(&mut literal)));
                    }
                    parts.push(part(name)?);
                    rest = &rest[name.len() + 2..];
                }
                None => {
                    literal.push('{');
                    rest = &rest[1..];
                }
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self { parts })
    }

    /// The columns that it names, as `(table, column)`.
    pub(crate) fn columns(&self) -> impl Iterator<Item = (&str, &str)> {
        self.parts.iter().filter_map(|part| match part {
            Part::Column { table, column } => Some((table.as_str(), column.as_str())),
            Part::Literal(_) | Part::Unique => None,
        })
    }

    /// With `value` for each placeholder.
    pub(crate) fn filled_with(&self, value: &str) -> String {
        let texts = self.parts.iter().map(|part| match part {
            Part::Literal(text) => text,
            Part::Unique | Part::Column { .. } => value,
        });
        texts.collect()
    }
}

/// What stands between the brace at the beginning and the next one, if that makes a placeholder.
fn placeholder(text: &str) -> Option<&str> {
    let (inner, _) = text[1..].split_once('}')?;
    let is_word = |word: &str| {
        let is_good = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
        !word.is_empty() && word.bytes().all(is_good)
    };
    let is_one = match inner.split_once('.') {
        Some((table, column)) => is_word(table) && is_word(column),
        None => is_word(inner),
    };
    is_one.then_some(inner)
}

fn part(name: &str) -> Result<Part, String> {
    match name.split_once('.') {
        Some((table, column)) => {
            Ok(Part::Column { table: table.to_owned(), column: column.to_owned() })
        }
        None if name == "unique" => Ok(Part::Unique),
        None => Err(format!(
            "there is no `{{{name}}}`: without a dot there is only `{{unique}}`, a column is \
             `{{{name}.column}}`"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(text: &str) -> Part {
        Part::Literal(text.to_owned())
    }

    fn column(table: &str, column: &str) -> Part {
        Part::Column { table: table.to_owned(), column: column.to_owned() }
    }

    #[test]
    fn placeholders_and_texts_are_told_apart() {
        let template = Template::parse("/items/{item.pubid}?x={unique}").unwrap();
        let parts = [literal("/items/"), column("item", "pubid"), literal("?x="), Part::Unique];
        assert_eq!(template.parts, parts);
        assert_eq!(template.columns().collect::<Vec<_>>(), [("item", "pubid")]);
        assert_eq!(template.filled_with("7"), "/items/7?x=7");
    }

    #[test]
    fn braces_around_anything_else_are_braces() {
        for text in ["", "{", "}", "{}", "{ unique }", "{\"a\": {}}", "{a.b", "{a.b.c}", "{A.b}"] {
            let template = Template::parse(text).unwrap();
            assert_eq!(template.filled_with("!"), text);
        }
    }

    #[test]
    fn a_placeholder_may_stand_in_json() {
        let template = Template::parse(r#"{"name": "{unique}", "of": {{user.pubid}}}"#).unwrap();
        let parts = [
            literal(r#"{"name": ""#),
            Part::Unique,
            literal(r#"", "of": {"#),
            column("user", "pubid"),
            literal("}}"),
        ];
        assert_eq!(template.parts, parts);
    }

    #[test]
    fn an_unknown_name_is_an_error_that_says_what_there_is() {
        let error = Template::parse("/items/{item}").unwrap_err();
        assert!(error.contains("`{item}`") && error.contains("`{unique}`"), "{error}");
    }
}
