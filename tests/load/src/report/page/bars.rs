//! Rows of bars or dots over one axis, as SVG: a row's name and its number stand above its bar, so
//! that long names need no room beside it.
//!
//! As [`super::plot`], this draws what charts say, and knows nothing of what is measured.

use super::axis::Axis;
use super::contestants::Look;
use super::markup::Tag;
use super::shapes::{line, text_width, titled_mark, words};

const BAR: f64 = 13.0;
/// From a row's bar to the next row.
const GAP: f64 = 10.0;
/// Height of a line of words.
const LINE: f64 = 15.0;

/// All rows, and the axis below them.
pub(crate) struct Bars {
    pub(crate) axis: Axis,
    pub(crate) rows: Vec<Row>,
    /// A line over all rows, with its name: what would be even.
    pub(crate) rule: Option<(f64, String)>,
}

/// One of whom something is told.
pub(crate) struct Row {
    pub(crate) look: Look,
    pub(crate) name: String,
    /// What it comes to, in words.
    pub(crate) sum: String,
    /// One after the other, from 0.
    pub(crate) pieces: Vec<Piece>,
    /// Beside one another: value, and how far from the row's middle, -1 to 1.
    pub(crate) dots: Vec<Dot>,
}

pub(crate) struct Piece {
    /// Of the style sheet: it decides the colour.
    pub(crate) class: String,
    pub(crate) value: f64,
    pub(crate) title: String,
}

pub(crate) struct Dot {
    pub(crate) value: f64,
    pub(crate) aside: f64,
    pub(crate) title: String,
}

impl Bars {
    pub(crate) fn draw(&self, width: f64) -> (f64, Vec<Tag>) {
        let top = if self.rule.is_some() { 20.0 } else { 2.0 };
        // Where a name and its number do not fit beside each other, the number stands below.
        let is_long = |row: &Row| text_width(&row.name) + text_width(&row.sum) + 30.0 > width;
        let lines = if self.rows.iter().any(is_long) { 2.0 } else { 1.0 };
        let head = 4.0 + LINE * lines;
        let height = head + BAR + GAP;
        let bottom = top + height * self.rows.len() as f64 + 2.0;
        let x = |value: f64| 6.0 + self.axis.place(value) * (width - 30.0);
        let mut tags = self.frame(x, top, bottom);
        for (index, row) in self.rows.iter().enumerate() {
            let bar = top + height * index as f64 + head;
            let name = bar - head + 13.0;
            tags.extend(row.words(name, bar - 6.0, width));
            tags.extend(row.bar(x, bar, x(self.axis.end())));
        }
        if let Some((value, name)) = &self.rule {
            tags.push(line("rule", (x(*value), top - 2.0), (x(*value), bottom)));
            tags.push(words("title", x(*value), top - 7.0, "middle", name));
        }
        tags.push(words(
            "title",
            f64::midpoint(x(0.0), width - 24.0),
            bottom + 34.0,
            "middle",
            &self.axis.title,
        ));
        (bottom + 40.0, tags)
    }

    fn frame(&self, x: impl Fn(f64) -> f64, top: f64, bottom: f64) -> Vec<Tag> {
        let mut tags = Vec::new();
        let mut free = f64::NEG_INFINITY;
        for (value, label) in &self.axis.ticks {
            let (x, half) = (x(*value), text_width(label) / 2.0);
            tags.push(line("grid", (x, top), (x, bottom)));
            if x - half > free {
                // The first label begins where the bars do.
                let start = (x - half).max(0.0);
                tags.push(words("tick", start + half, bottom + 16.0, "middle", label));
                free = start + 2.0 * half + 4.0;
            }
        }
        tags
    }
}

impl Row {
    /// Its name, and what it comes to, on these lines.
    fn words(&self, name: f64, sum: f64, width: f64) -> [Tag; 2] {
        let group = Tag::of("g", "look").put(self.look.mark(6.0, name - 4.0, 4.0));
        let group = group.put(words("row", 16.0, name, "start", &self.name));
        [self.look.paint(group), words("sum", width - 2.0, sum, "end", &self.sum)]
    }

    fn bar(&self, x: impl Fn(f64) -> f64, bar: f64, end: f64) -> Vec<Tag> {
        let mut tags = Vec::new();
        if self.dots.is_empty() {
            tags.push(rect("track", (x(0.0), end), bar));
        }
        let mut from = 0.0;
        for piece in self.pieces.iter().filter(|piece| piece.value > 0.0) {
            let to = from + piece.value;
            let piece_tag = rect(&format!("piece {}", piece.class), (x(from), x(to)), bar);
            tags.push(piece_tag.put(Tag::new("title").text(&piece.title)));
            from = to;
        }
        let middle = bar + BAR / 2.0;
        let dot = |dot: &Dot| {
            titled_mark(self.look, (x(dot.value), middle + dot.aside * BAR * 0.4), &dot.title)
        };
        tags.extend(self.dots.iter().map(dot));
        tags
    }
}

/// Never so thin that it cannot be seen.
fn rect(class: &str, (from, to): (f64, f64), y: f64) -> Tag {
    let tag = Tag::of("rect", class).px("x", from).px("y", y);
    tag.px("width", (to - from).max(1.5)).px("height", BAR)
}
