//! HTML and SVG elements, escaped by construction.
//!
//! Everything on the page is made of these. Text and attribute values are escaped when they are put
//! in, so that nobody else has to think of it; names of elements and attributes come from the code.
//! Knows no element in particular. Source: HTML Living Standard, 13.3 (serialising fragments).

use std::fmt;

/// An element with what is in it so far.
#[derive(Debug, Clone)]
pub(crate) struct Tag {
    name: &'static str,
    attributes: String,
    content: String,
}

impl Tag {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, attributes: String::new(), content: String::new() }
    }

    /// With a class, as most have.
    pub(crate) fn of(name: &'static str, class: &str) -> Self {
        Self::new(name).set("class", class)
    }

    pub(crate) fn set(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.attributes += &format!(" {name}=\"{}\"", escaped(&value.to_string()));
        self
    }

    /// A length or place; a tenth of a pixel is enough.
    pub(crate) fn px(self, name: &str, value: f64) -> Self {
        self.set(name, format_args!("{:.1}", value))
    }

    pub(crate) fn text(mut self, text: &str) -> Self {
        self.content += &escaped(text);
        self
    }

    pub(crate) fn put(mut self, child: Self) -> Self {
        self.content += &String::from(child);
        self
    }

    pub(crate) fn put_all(self, children: impl IntoIterator<Item = Self>) -> Self {
        children.into_iter().fold(self, Self::put)
    }

    /// Our own style sheet: text that must not be escaped there.
    pub(crate) fn verbatim(mut self, text: &'static str) -> Self {
        self.content += text;
        self
    }
}

impl From<Tag> for String {
    fn from(tag: Tag) -> Self {
        let Tag { name, attributes, content } = tag;
        match name {
            "meta" | "link" => format!("<{name}{attributes}>"),
            _ => format!("<{name}{attributes}>{content}</{name}>"),
        }
    }
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe += "&amp;",
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '"' => safe += "&quot;",
            '\'' => safe += "&#39;",
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_attributes_cannot_leave_their_place() {
        let bad = "<img src=x onerror=\"alert('1')\">&";
        let tag = Tag::of("p", bad).text(bad).put(Tag::new("b").text("&"));
        let safe = "&lt;img src=x onerror=&quot;alert(&#39;1&#39;)&quot;&gt;&amp;";
        assert_eq!(String::from(tag), format!("<p class=\"{safe}\">{safe}<b>&amp;</b></p>"));
    }

    #[test]
    fn an_element_that_holds_nothing_has_no_end_in_html_and_one_in_svg() {
        assert_eq!(
            String::from(Tag::new("meta").set("charset", "utf-8")),
            "<meta charset=\"utf-8\">"
        );
        assert_eq!(String::from(Tag::new("path").px("x", 1.25)), "<path x=\"1.2\"></path>");
    }
}
