//! The small shapes that pictures are made of.

use super::contestants::Look;
use super::markup::Tag;

/// Width of a letter of labels, at most on average.
const LETTER: f64 = 6.7;

/// A mark with words for those who point at it, and a ground that is easier to hit than the mark.
pub(crate) fn titled_mark(look: Look, (x, y): (f64, f64), title: &str) -> Tag {
    let ground = Tag::of("circle", "ground").px("cx", x).px("cy", y).px("r", 11.0);
    let group = Tag::of("g", "look hit").put(Tag::new("title").text(title)).put(ground);
    look.paint(group.put(look.mark(x, y, 4.6)))
}

/// The same with a small circle that shows when it is pointed at.
pub(crate) fn titled_point(look: Look, (x, y): (f64, f64), title: &str) -> Tag {
    let circle = |class, radius| Tag::of("circle", class).px("cx", x).px("cy", y).px("r", radius);
    let group = Tag::of("g", "look hit").put(Tag::new("title").text(title));
    look.paint(group.put(circle("ground", 8.0)).put(circle("point", 3.5)))
}

pub(crate) fn line(class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) -> Tag {
    Tag::of("line", class).px("x1", x1).px("y1", y1).px("x2", x2).px("y2", y2)
}

pub(crate) fn words(class: &str, x: f64, y: f64, anchor: &str, text: &str) -> Tag {
    Tag::of("text", class).px("x", x).px("y", y).set("text-anchor", anchor).text(text)
}

pub(crate) fn text_width(text: &str) -> f64 {
    text.chars().count() as f64 * LETTER
}
