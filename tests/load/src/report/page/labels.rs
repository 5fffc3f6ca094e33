//! Where words go, so that none covers another.

use super::contestants::Look;
use super::markup::Tag;
use super::shapes::words;

/// Distance of labels from line to line.
pub(crate) const LINE: f64 = 15.0;

/// Where words are: their start, their ground line, their width.
#[derive(Clone, Copy)]
pub(crate) struct Area {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) width: f64,
}

/// The name of a line, and where it goes.
pub(crate) struct End<'a> {
    pub(crate) look: Look,
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) text: &'a str,
}

impl Area {
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let is_beside =
            self.x >= other.x + other.width + 4.0 || other.x >= self.x + self.width + 4.0;
        !is_beside && (self.y - other.y).abs() < LINE - 2.0
    }
}

impl End<'_> {
    pub(crate) fn tag(&self) -> Tag {
        let Self { look, x, y, text } = *self;
        let group = look.paint(Tag::of("g", "look")).put(look.mark(x + 13.0, y, 4.0));
        group.put(words("end", x + 22.0, y + 4.0, "start", text))
    }
}

/// Places at least a line apart, between the bounds as far as that goes; `wanted` is in order.
pub(crate) fn spread(wanted: &[f64], top: f64, bottom: f64) -> Vec<f64> {
    let mut places: Vec<f64> = Vec::with_capacity(wanted.len());
    for y in wanted {
        let least = places.last().map_or(top, |last| last + LINE);
        places.push(y.max(least));
    }
    let mut most = bottom;
    for place in places.iter_mut().rev() {
        *place = place.min(most);
        most = *place - LINE;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_at_the_ends_keep_their_distance_and_stay_inside() {
        assert_eq!(spread(&[10.0, 11.0, 100.0], 0.0, 200.0), [10.0, 25.0, 100.0]);
        assert_eq!(spread(&[98.0, 99.0, 100.0], 0.0, 100.0), [70.0, 85.0, 100.0]);
        assert_eq!(spread(&[], 0.0, 100.0), [0.0; 0]);
    }
}
