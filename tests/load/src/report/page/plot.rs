//! Lines and marks over two axes, as SVG.
//!
//! Charts say what is to be seen, in values; this draws it at a width, in pixels. Why not a library:
//! kuva 0.6, which was tried, draws with literal colours, chooses the ticks itself, and gives marks no
//! titles; once all three are mended outside of it, what is left of it is less than this.
//!
//! Promises that labels do not cover one another: those that would are moved, or left out, in the
//! order in which they were given. Knows nothing of what is measured.

use super::axis::Axis;
use super::contestants::Look;
use super::labels::{Area, End, LINE, spread};
use super::markup::Tag;
use super::shapes::{line, text_width, titled_mark, titled_point, words};

/// Words of events stand in so many rows.
const EVENT_ROWS: u8 = 3;
/// Labels at the ends of lines get no more than this.
const ENDS_MAX: f64 = 150.0;

/// Everything in one picture.
pub(crate) struct Plot {
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    /// Drawn in this order.
    pub(crate) layers: Vec<Layer>,
    /// Height where there is room.
    pub(crate) height: f64,
}

/// What is drawn. Values belong to the axes, colours to what looks.
pub(crate) enum Layer {
    /// A line; a point that is no number interrupts it.
    Curve {
        look: Look,
        is_faint: bool,
        points: Vec<(f64, f64)>,
    },
    /// An area between low and high.
    Band {
        look: Look,
        points: Vec<(f64, f64, f64)>,
    },
    /// From low to high, shifted by some pixels so that others are seen beside it.
    Whisker {
        look: Look,
        x: f64,
        low: f64,
        high: f64,
        shift: f64,
    },
    /// A small point without a name: one round.
    Dot {
        look: Look,
        x: f64,
        y: f64,
        shift: f64,
    },
    Mark {
        look: Look,
        x: f64,
        y: f64,
        shift: f64,
        title: String,
    },
    /// Seen only by those who point at it, where marks would hide the line.
    Point {
        look: Look,
        x: f64,
        y: f64,
        title: String,
    },
    /// Words, so many pixels to the right of a place and below it.
    Words {
        x: f64,
        y: f64,
        aside: (f64, f64),
        text: String,
    },
    /// A vertical line with a word at its top: an event.
    Upright {
        class: &'static str,
        x: f64,
        text: String,
        title: String,
    },
    /// A vertical line with words at its foot: a limit.
    Limit {
        x: f64,
        text: String,
        title: String,
    },
    /// A horizontal line with words above its end.
    Level {
        look: Look,
        y: f64,
        text: String,
        title: String,
    },
    /// Errors in a piece of time, from one instant to another.
    Stain {
        from: f64,
        to: f64,
        title: String,
    },
    /// The name of a line, where it ends.
    End {
        look: Look,
        x: f64,
        y: f64,
        text: String,
    },
}

/// What it is drawn on: the plot in the middle, margins around it.
struct Canvas<'a> {
    plot: &'a Plot,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    /// Where words are already.
    taken: Vec<Area>,
    /// Words, to be drawn over everything else.
    words: Vec<Tag>,
}

impl Plot {
    /// At a width, with a margin for the labels of its y axis; with the names of lines at their ends,
    /// where they fit.
    pub(crate) fn draw(&self, width: f64, left: f64, has_ends: bool) -> (f64, Vec<Tag>) {
        let height = if has_ends { self.height } else { self.height * 0.86 };
        let last = self.x.ticks.last().map_or(0.0, |(_, label)| text_width(label) / 2.0);
        let end = if has_ends && self.has_short_ends() { self.ends_width() } else { 0.0 };
        let mut canvas = Canvas {
            plot: self,
            left,
            right: width - end.max(last).max(14.0),
            top: 30.0,
            bottom: height - 40.0,
            taken: Vec::new(),
            words: Vec::new(),
        };
        let mut tags = canvas.frame();
        tags.extend(self.layers.iter().filter_map(|layer| canvas.layer(layer)));
        tags.append(&mut canvas.words);
        if end > 0.0 {
            tags.extend(canvas.ends());
        }
        (height, tags)
    }

    /// The margin that the labels of its y axis need.
    pub(crate) fn left(&self) -> f64 {
        self.y.ticks.iter().map(|(_, label)| text_width(label)).fold(0.0, f64::max) + 10.0
    }

    /// Whether the names of lines fit beside them; otherwise a legend has to tell them.
    pub(crate) fn has_short_ends(&self) -> bool {
        let width = self.ends_width();
        width > 0.0 && width <= ENDS_MAX
    }

    fn ends_width(&self) -> f64 {
        let of_end = |layer: &Layer| match layer {
            Layer::End { text, .. } => text_width(text) + 26.0,
            _ => 0.0,
        };
        self.layers.iter().map(of_end).fold(0.0, f64::max)
    }
}

impl Canvas<'_> {
    fn x(&self, value: f64) -> f64 {
        self.left + self.plot.x.place(value) * (self.right - self.left)
    }

    /// Pixels go down.
    fn y(&self, value: f64) -> f64 {
        self.bottom - self.plot.y.place(value) * (self.bottom - self.top)
    }

    /// Grid, ticks and titles of the axes.
    fn frame(&mut self) -> Vec<Tag> {
        let mut tags = Vec::new();
        for (value, label) in &self.plot.y.ticks {
            let y = self.y(*value);
            tags.push(line("grid", (self.left, y), (self.right, y)));
            tags.push(words("tick", self.left - 7.0, y + 4.0, "end", label));
        }
        let mut free = f64::NEG_INFINITY;
        for (value, label) in &self.plot.x.ticks {
            let (x, half) = (self.x(*value), text_width(label) / 2.0);
            tags.push(line("tick", (x, self.bottom), (x, self.bottom + 4.0)));
            if x - half > free {
                tags.push(words("tick", x, self.bottom + 17.0, "middle", label));
                free = x + half + 4.0;
            }
        }
        tags.push(line("axis", (self.left, self.bottom), (self.right, self.bottom)));
        tags.push(words("title", 0.0, 12.0, "start", &self.plot.y.title));
        let middle = f64::midpoint(self.left, self.right);
        tags.push(words("title", middle, self.bottom + 34.0, "middle", &self.plot.x.title));
        tags
    }

    fn layer(&mut self, layer: &Layer) -> Option<Tag> {
        match layer {
            Layer::Curve { look, is_faint, points } => {
                let class = if *is_faint { "look faint curve" } else { "look curve" };
                let path = Tag::of("path", class).set("d", self.path(points));
                Some(look.paint(path))
            }
            Layer::Band { look, points } => Some(self.band(*look, points)),
            Layer::Whisker { look, x, low, high, shift } => {
                Some(self.whisker(*look, self.x(*x) + shift, (self.y(*low), self.y(*high))))
            }
            Layer::Dot { look, x, y, shift } => {
                let (x, y) = (self.x(*x) + shift, self.y(*y));
                let dot = Tag::of("circle", "look dot").px("cx", x).px("cy", y).px("r", 2.0);
                Some(look.paint(dot))
            }
            Layer::Mark { look, x, y, shift, title } => {
                Some(titled_mark(*look, (self.x(*x) + shift, self.y(*y)), title))
            }
            Layer::Point { look, x, y, title } => {
                Some(titled_point(*look, (self.x(*x), self.y(*y)), title))
            }
            Layer::Words { x, y, aside, text } => {
                let (x, y) = (self.x(*x) + aside.0, self.y(*y) + aside.1);
                let x = x.min(self.right + 14.0 - text_width(text));
                self.say("value", (x, y), x, "start", text);
                None
            }
            Layer::Limit { x, text, title } => Some(self.limit(*x, text, title)),
            Layer::Upright { class, x, text, title } => Some(self.upright(class, *x, text, title)),
            Layer::Level { look, y, text, title } => Some(self.level(*look, *y, text, title)),
            Layer::Stain { from, to, title } => Some(self.stain(*from, *to, title)),
            Layer::End { .. } => None,
        }
    }

    /// A path along the points, a new piece after each gap.
    fn path(&self, points: &[(f64, f64)]) -> String {
        let mut path = String::new();
        let mut is_down = false;
        for (x, y) in points {
            if !y.is_finite() {
                is_down = false;
                continue;
            }
            let letter = if is_down { 'L' } else { 'M' };
            path += &format!("{letter}{:.1} {:.1}", self.x(*x), self.y(*y));
            is_down = true;
        }
        path
    }

    fn band(&self, look: Look, points: &[(f64, f64, f64)]) -> Tag {
        let there = points.iter().map(|(x, low, _)| (*x, *low));
        let back = points.iter().rev().map(|(x, _, high)| (*x, *high));
        let around: Vec<(f64, f64)> = there.chain(back).collect();
        look.paint(Tag::of("path", "look band").set("d", self.path(&around) + "Z"))
    }

    fn whisker(&self, look: Look, x: f64, (low, high): (f64, f64)) -> Tag {
        let caps = format!("M{:.1} {low:.1}h8M{:.1} {high:.1}h8", x - 4.0, x - 4.0);
        let d = format!("M{x:.1} {low:.1}V{high:.1}{caps}");
        look.paint(Tag::of("path", "look whisker").set("d", d))
    }

    /// Its word stands in one of some rows, or nowhere.
    fn upright(&mut self, class: &'static str, x: f64, text: &str, title: &str) -> Tag {
        let x = self.x(x);
        let (place, anchor, start) = self.beside(x, text);
        let top = self.top + 8.0;
        let mut rows = (0..EVENT_ROWS).map(|row| top + LINE * f64::from(row));
        let class_of_word = format!("event {class}");
        rows.any(|y| self.say(&class_of_word, (place, y), start, anchor, text));
        self.pole(class, x, title)
    }

    fn limit(&mut self, x: f64, text: &str, title: &str) -> Tag {
        let x = self.x(x);
        let (place, anchor, start) = self.beside(x, text);
        self.say("tick", (place, self.bottom - 7.0), start, anchor, text);
        self.pole("limit", x, title)
    }

    /// Where words beside a vertical line stand, and begin: right of it, or left where that is too far.
    fn beside(&self, x: f64, text: &str) -> (f64, &'static str, f64) {
        match x + 4.0 + text_width(text) > self.right + 14.0 {
            true => (x - 4.0, "end", x - 4.0 - text_width(text)),
            false => (x + 4.0, "start", x + 4.0),
        }
    }

    /// From top to bottom, and easy to hit.
    fn pole(&self, class: &str, x: f64, title: &str) -> Tag {
        let (top, bottom) = ((x, self.top - 2.0), (x, self.bottom));
        let group = Tag::of("g", class).put(Tag::new("title").text(title));
        group.put(line("catch", top, bottom)).put(line("upright", top, bottom))
    }

    fn level(&mut self, look: Look, y: f64, text: &str, title: &str) -> Tag {
        let y = self.y(y);
        self.say("value", (self.right, y - 6.0), self.right - text_width(text), "end", text);
        let row = Tag::of("g", "look hit").put(Tag::new("title").text(title));
        look.paint(row.put(line("mark level", (self.left, y), (self.right, y))))
    }

    fn stain(&self, from: f64, to: f64, title: &str) -> Tag {
        let (from, to) = (self.x(from), self.x(to));
        let stain = Tag::of("rect", "stain").px("x", from).px("y", self.bottom - 5.0);
        let stain = stain.px("width", (to - from - 1.0).max(2.0)).px("height", 5.0);
        stain.put(Tag::new("title").text(title))
    }

    /// The names of the lines, each as near to the end of its line as the others let it.
    fn ends(&self) -> Vec<Tag> {
        let width = self.plot.ends_width();
        let mut ends: Vec<End<'_>> = Vec::new();
        for layer in &self.plot.layers {
            if let Layer::End { look, x, y, text } = layer {
                // One that would reach the edge stands at the edge, beside all lines.
                let x = self.x(*x);
                let x = if x + width > self.right { self.right } else { x };
                ends.push(End { look: *look, x, y: self.y(*y), text });
            }
        }
        ends.sort_by(|a, b| a.x.total_cmp(&b.x));
        let meets = |a: &End<'_>, b: &End<'_>| b.x - a.x < width;
        for column in ends.chunk_by_mut(meets) {
            column.sort_by(|a, b| a.y.total_cmp(&b.y));
            let wanted: Vec<f64> = column.iter().map(|end| end.y).collect();
            let places = spread(&wanted, self.top, self.bottom);
            column.iter_mut().zip(places).for_each(|(end, y)| end.y = y);
        }
        ends.iter().map(End::tag).collect()
    }

    /// Puts words where they begin at `start`, unless others are there; answers whether it did.
    fn say(
        &mut self,
        class: &str,
        (x, y): (f64, f64),
        start: f64,
        anchor: &str,
        text: &str,
    ) -> bool {
        let area = Area { x: start, y, width: text_width(text) };
        let is_free = self.taken.iter().all(|other| !area.covers(other));
        if is_free {
            self.taken.push(area);
            self.words.push(words(class, x, y, anchor, text));
        }
        is_free
    }
}
