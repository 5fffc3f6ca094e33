//! A chart on the page: heading, one sentence that tells how to read it, the picture, its numbers.
//!
//! The charts make [`Figure`]s; [`super::render`] puts them in order. Each picture is drawn twice, for
//! a wide and for a narrow place (phones, two columns on paper), so that its words are as large as the
//! page's own; the style sheet shows one of them.

use super::bars::Bars;
use super::contestants::Look;
use super::markup::Tag;
use super::plot::Plot;

/// Pixels of a column on a wide screen, and on a phone.
const WIDTHS: [(&str, f64); 2] = [("wide", 528.0), ("narrow", 340.0)];

/// A chart, or why there is none.
pub(crate) enum Figure {
    Drawn(Box<Drawn>),
    /// Its heading, and a sentence.
    LeftOut(&'static str, String),
}

pub(crate) struct Drawn {
    pub(crate) title: String,
    /// How it is read.
    pub(crate) note: String,
    /// What colours and shapes stand for.
    pub(crate) legend: Vec<Key>,
    pub(crate) pictures: Vec<Picture>,
    pub(crate) table: Table,
    /// Whether the numbers are shown at once, beside the picture.
    pub(crate) is_open: bool,
}

/// An entry of a legend.
pub(crate) enum Key {
    /// A server, and those that stand for its numbers of workers.
    Lines(String, Vec<(Look, String)>),
    /// Of this class of the style sheet.
    Piece(String, String),
}

pub(crate) enum Picture {
    Plot(Plot),
    Bars(Bars),
}

/// Numbers in rows; the first cell of each is its name.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) caption: String,
    pub(crate) head: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Figure {
    /// As HTML: what is drawn, with an id of the page for each, and after it in one place what is not.
    pub(crate) fn tags(figures: &[Self], mut id: impl FnMut() -> String) -> Vec<Tag> {
        let mut tags = Vec::new();
        let mut left_out: Option<Tag> = None;
        for figure in figures {
            match figure {
                Self::Drawn(drawn) => tags.push(drawn.tag(&id())),
                Self::LeftOut(title, why) => {
                    let words = left_out.take().unwrap_or_else(|| Tag::new("div"));
                    let words = words.put(Tag::new("h3").text(title));
                    left_out = Some(words.put(Tag::new("p").text(why)));
                }
            }
        }
        tags.extend(left_out.map(|words| Tag::of("div", "left-out").put(words)));
        tags
    }
}

impl Drawn {
    fn tag(&self, id: &str) -> Tag {
        let caption = Tag::new("figcaption")
            .put(Tag::new("h3").text(&self.title))
            .put(Tag::new("p").text(&self.note));
        let class = if self.is_open { "beside" } else { "below" };
        let figure = Tag::of("figure", class).set("id", id).put(caption);
        let figure = match self.legend.is_empty() {
            true => figure,
            false => figure.put(self.legend()),
        };
        let figure = figure.put_all(WIDTHS.map(|(class, width)| self.pictures(id, class, width)));
        let numbers = Tag::new("details").put(Tag::new("summary").text("Numbers"));
        let numbers = if self.is_open { numbers.set("open", "") } else { numbers };
        figure.put(numbers.put(self.table.tag("")))
    }

    /// Names at the ends of lines make it needless where the place is wide.
    fn legend(&self) -> Tag {
        let has_ends = self.pictures.iter().any(|picture| match picture {
            Picture::Plot(plot) => plot.has_short_ends(),
            Picture::Bars(_) => false,
        });
        let class = if has_ends { "legend narrow" } else { "legend" };
        Tag::of("ul", class).put_all(self.legend.iter().map(Key::tag))
    }

    fn pictures(&self, id: &str, class: &str, width: f64) -> Tag {
        let left = |picture: &Picture| match picture {
            Picture::Plot(plot) => plot.left(),
            Picture::Bars(_) => 0.0,
        };
        // The same for all, so that what happened at the same instant stands below one another.
        let left = self.pictures.iter().map(left).fold(0.0, f64::max);
        let draw = |(index, picture): (usize, &Picture)| {
            let (height, tags) = match picture {
                Picture::Plot(plot) => plot.draw(width, left, class == "wide"),
                Picture::Bars(bars) => bars.draw(width),
            };
            let (title, about) =
                (format!("{id}-{index}-{class}"), format!("{id}-{index}-{class}-d"));
            Tag::new("svg")
                .set("role", "img")
                .set("aria-labelledby", format_args!("{title} {about}"))
                .set("viewBox", format_args!("0 0 {width:.0} {height:.0}"))
                .put(Tag::new("title").set("id", &title).text(&self.title))
                .put(Tag::new("desc").set("id", about).text(&self.note))
                .put_all(tags)
        };
        Tag::of("div", class).put_all(self.pictures.iter().enumerate().map(draw))
    }
}

impl Key {
    fn tag(&self) -> Tag {
        match self {
            Self::Piece(class, name) => {
                let piece = Tag::of("rect", &format!("piece {class}"));
                let piece = piece.set("x", 1).set("y", 1).set("width", 12).set("height", 12);
                Tag::new("li").put(sample(piece)).text(name)
            }
            Self::Lines(name, lines) => {
                let line = |(look, name): &(Look, String)| {
                    let mark = look.paint(Tag::of("g", "look").put(look.mark(7.0, 7.0, 4.6)));
                    Tag::new("span").put(sample(mark)).text(name)
                };
                Tag::new("li").text(name).put_all(lines.iter().map(line))
            }
        }
    }
}

fn sample(of: Tag) -> Tag {
    Tag::new("svg").set("viewBox", "0 0 14 14").set("aria-hidden", "true").put(of)
}

impl Table {
    pub(crate) fn new<const N: usize>(caption: &str, head: [&str; N]) -> Self {
        let head = head.map(str::to_owned).to_vec();
        Self { caption: caption.to_owned(), head, rows: Vec::new() }
    }

    /// In a frame of its own that scrolls, since it may be wider than a phone.
    pub(crate) fn tag(&self, class: &str) -> Tag {
        let head = self.head.iter().map(|name| Tag::new("th").set("scope", "col").text(name));
        let head = Tag::new("thead").put(Tag::new("tr").put_all(head));
        let body = Tag::new("tbody").put_all(self.rows.iter().map(|row| table_row(row)));
        let caption = Tag::new("caption").text(&self.caption);
        let table = Tag::new("table").put(caption).put(head).put(body);
        let frame = Tag::of("div", format!("scroll {class}").trim());
        frame.set("tabindex", 0).set("role", "region").set("aria-label", &self.caption).put(table)
    }
}

fn table_row(cells: &[String]) -> Tag {
    let cells = cells.iter().enumerate().map(|(place, cell)| match place {
        0 => Tag::new("th").set("scope", "row").text(cell),
        _ => Tag::new("td").text(cell),
    });
    Tag::new("tr").put_all(cells)
}
