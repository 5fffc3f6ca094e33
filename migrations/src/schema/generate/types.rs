//! What becomes of values when their column's type changes.
//!
//! `column` asks; it calls nothing. Pure.
//! It promises that what it calls widening keeps every value, and that what it calls narrowing is
//! done by PostgreSQL's assignment casts, which refuse what does not fit.
//! Source: PostgreSQL manual, "Data Types"; "ALTER TABLE", notes on rewriting.

/// The fate of a column's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Every value stays.
    Widens {
        /// Whether the table is written anew.
        rewrites: bool,
    },
    /// The same kind of value with less room.
    Narrows,
    /// Only people know how.
    Unknown,
}

/// `timestamp(3) without time zone[]` taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Form<'a> {
    name: String,
    /// What stands in the parentheses.
    sizes: Vec<i64>,
    /// `[]` or nothing.
    array: &'a str,
}

impl<'a> Form<'a> {
    fn parse(data_type: &'a str) -> Self {
        let (element, array) = match data_type.find("[]") {
            Some(at) => data_type.split_at(at),
            None => (data_type, ""),
        };
        let open = element.find('(').zip(element.find(')'));
        let Some((open, close)) = open.filter(|_| !element.contains('"')) else {
            return Self { name: element.to_owned(), sizes: Vec::new(), array };
        };
        let sizes = element[open + 1..close].split(',').filter_map(|size| size.trim().parse().ok());
        let name = format!("{}{}", &element[..open], &element[close + 1..]);
        Self { name, sizes: sizes.collect(), array }
    }

    /// How long a text may be; none = without limit.
    fn text_len(&self) -> Option<Option<i64>> {
        match self.name.as_str() {
            "text" => Some(None),
            "character varying" | "character" => Some(self.sizes.first().copied()),
            _ => None,
        }
    }

    /// Whether a value fits wherever there is more room; a `bit(4)` is no `bit(8)`, and what the
    /// numbers of other people's types mean is not known.
    fn has_room(&self) -> bool {
        let has_room = ["bit varying", "time", "timestamp", "interval"];
        has_room.iter().any(|name| self.name.starts_with(name))
    }

    fn integer_rank(&self) -> Option<u8> {
        let ranks = ["smallint", "integer", "bigint"];
        let place = ranks.iter().position(|name| *name == self.name)?;
        u8::try_from(place).ok()
    }
}

/// What becomes of the values of a column; both as `format_type` writes them.
pub(super) fn fate(from: &str, to: &str) -> Fate {
    let (from, to) = (Form::parse(from), Form::parse(to));
    if from.array != to.array {
        return if to.name == "text" && to.array.is_empty() {
            Fate::Widens { rewrites: true }
        } else {
            Fate::Unknown
        };
    }
    match (from.text_len(), to.text_len(), from.integer_rank(), to.integer_rank()) {
        (Some(have), Some(want), ..) if to.name != "character" || from.name == "character" => {
            let rewrites = from.name == "character" || to.name == "character";
            by_room(have, want, rewrites)
        }
        (_, Some(None), ..) if to.name != "character" => Fate::Widens { rewrites: true },
        (.., Some(have), Some(want)) if have < want => Fate::Widens { rewrites: true },
        (.., Some(_), Some(_)) => Fate::Narrows,
        (.., Some(_), None) if to.name == "numeric" && to.sizes.is_empty() => {
            Fate::Widens { rewrites: true }
        }
        _ if from.name == "real" && to.name == "double precision" => {
            Fate::Widens { rewrites: true }
        }
        _ if from.name != to.name => Fate::Unknown,
        _ if from.name == "numeric" => numeric(&from.sizes, &to.sizes),
        _ if from.has_room() => {
            by_room(from.sizes.first().copied(), to.sizes.first().copied(), false)
        }
        _ => Fate::Unknown,
    }
}

fn by_room(have: Option<i64>, want: Option<i64>, rewrites: bool) -> Fate {
    match (have, want) {
        (_, None) => Fate::Widens { rewrites },
        (Some(have), Some(want)) if have <= want => Fate::Widens { rewrites },
        _ => Fate::Narrows,
    }
}

/// `numeric(precision, scale)`: room before and after the point.
fn numeric(have: &[i64], want: &[i64]) -> Fate {
    let room = |sizes: &[i64]| {
        let scale = sizes.get(1).copied().unwrap_or(0);
        sizes.first().map(|precision| (precision - scale, scale))
    };
    match (room(have), room(want)) {
        (_, None) => Fate::Widens { rewrites: false },
        (Some((before, after)), Some((more_before, more_after)))
            if before <= more_before && after <= more_after =>
        {
            Fate::Widens { rewrites: after != more_after }
        }
        _ => Fate::Narrows,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_changes_widen_or_narrow_and_the_rest_is_for_people() {
        let moves = Fate::Widens { rewrites: false };
        let rewrites = Fate::Widens { rewrites: true };
        for (from, to, expected) in [
            ("character varying(255)", "character varying(300)", moves),
            ("character varying(300)", "character varying(100)", Fate::Narrows),
            ("character varying(300)", "text", moves),
            ("text", "character varying", moves),
            ("text", "character varying(9)", Fate::Narrows),
            ("character varying(9)[]", "character varying(10)[]", moves),
            ("character varying(9)[]", "character varying(9)", Fate::Unknown),
            ("character(3)", "text", rewrites),
            ("text", "character(3)", Fate::Unknown),
            ("integer", "bigint", rewrites),
            ("bigint", "integer", Fate::Narrows),
            ("integer", "numeric", rewrites),
            ("integer", "numeric(4,2)", Fate::Unknown),
            ("numeric(10,2)", "numeric(12,2)", moves),
            ("numeric(10,2)", "numeric(12,4)", rewrites),
            ("numeric(10,2)", "numeric(10,4)", Fate::Narrows),
            ("numeric(10,2)", "numeric", moves),
            ("numeric", "numeric(10,2)", Fate::Narrows),
            ("numeric(10)", "numeric(12)", moves),
            ("real", "double precision", rewrites),
            ("timestamp(3) without time zone", "timestamp without time zone", moves),
            ("timestamp without time zone", "timestamp(0) without time zone", Fate::Narrows),
            ("timestamp without time zone", "timestamp with time zone", Fate::Unknown),
            ("interval(3)", "interval", moves),
            ("bit varying(4)", "bit varying(8)", moves),
            ("bit(4)", "bit(8)", Fate::Unknown),
            ("geometry(Point,1)", "geometry(Polygon,1)", Fate::Unknown),
            ("mood", "text", rewrites),
            ("mood[]", "text", rewrites),
            ("mood[]", "text[]", rewrites),
            ("text", "mood", Fate::Unknown),
            ("text", "numeric", Fate::Unknown),
            ("\"a(1)\"", "\"a(2)\"", Fate::Unknown),
        ] {
            assert_eq!(fate(from, to), expected, "{from} -> {to}");
        }
    }
}
