//! Takes options out of a connection text that tokio-postgres does not know.
//!
//! `database` calls it before the driver parses the rest. Promises: what stands in a password or in
//! any other value is no option; a text that is not well formed comes back as it was, so that the
//! driver refuses it. Does not know what the options mean.
//! Source: libpq, "Connection Strings", for both forms.

use percent_encoding::percent_decode_str;

/// A connection text, and what was taken out of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// For the driver.
    pub(super) rest: String,
    /// Names and values, in their order.
    pub(super) options: Vec<(String, String)>,
}

/// Takes out the options whose names `are_ours`.
pub(super) fn take(text: &str, are_ours: impl Fn(&str) -> bool) -> Taken {
    match text.split_once("://") {
        Some(("postgres" | "postgresql", _)) => of_url(text, are_ours),
        _ => of_pairs(text, are_ours).unwrap_or_else(|| untouched(text)),
    }
}

fn untouched(text: &str) -> Taken {
    Taken { rest: text.to_owned(), options: Vec::new() }
}

/// `postgres://…?name=value&…`, percent-encoded. A password may hold a `?`, and ends with the `@`.
fn of_url(text: &str, are_ours: impl Fn(&str) -> bool) -> Taken {
    let host = text.find('@').unwrap_or_default();
    let Some(mark) = text[host..].find('?').map(|at| host + at) else { return untouched(text) };
    let (mut kept, mut options) = (Vec::new(), Vec::new());
    for pair in text[mark + 1..].split('&') {
        let decoded = |text| percent_decode_str(text).decode_utf8().map(String::from);
        match pair.split_once('=').map(|(name, value)| (decoded(name), decoded(value))) {
            Some((Ok(name), Ok(value))) if are_ours(&name) => options.push((name, value)),
            _ => kept.push(pair),
        }
    }
    let base = &text[..mark];
    let rest = if kept.is_empty() { base.to_owned() } else { [base, &kept.join("&")].join("?") };
    Taken { rest, options }
}

/// `name=value name = 'va\'lue' …`
fn of_pairs(text: &str, are_ours: impl Fn(&str) -> bool) -> Option<Taken> {
    let (mut rest, mut options) = (String::new(), Vec::new());
    let mut left = text.trim_start();
    while !left.is_empty() {
        let (name, after) = left.split_once('=')?;
        let (value, after) = value(after.trim_start())?;
        let name = name.trim_end();
        match are_ours(name) {
            true => options.push((name.to_owned(), value)),
            false => rest.push_str(&left[..left.len() - after.len()]),
        }
        rest.push(' ');
        left = after.trim_start();
    }
    Some(Taken { rest, options })
}

/// The value at the beginning of a text, and what comes after it; `None` where a quote stays open.
fn value(text: &str) -> Option<(String, &str)> {
    let quoted = text.strip_prefix('\'');
    let mut letters = quoted.unwrap_or(text).chars();
    let mut value = String::new();
    loop {
        let before = letters.as_str();
        match letters.next() {
            Some('\\') => value.push(letters.next()?),
            Some('\'') if quoted.is_some() => return Some((value, letters.as_str())),
            Some(letter) if quoted.is_none() && letter.is_whitespace() => {
                return Some((value, before));
            }
            Some(letter) => value.push(letter),
            None => return quoted.is_none().then_some((value, "")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(text: &str) -> (String, Vec<(String, String)>) {
        let Taken { rest, options } = take(text, |name| name.starts_with("ssl"));
        (rest.split_whitespace().collect::<Vec<_>>().join(" "), options)
    }

    #[test]
    fn options_are_taken_out_of_both_forms() {
        let mode = |value: &str| vec![("sslmode".to_owned(), value.to_owned())];
        for (text, rest, value) in [
            ("postgres://u@h/d?sslmode=require", "postgres://u@h/d", "require"),
            (
                "postgres://u:a?sslmode=x@h/d?a=b&sslmode=y&c=d",
                "postgres://u:a?sslmode=x@h/d?a=b&c=d",
                "y",
            ),
            ("postgres://h?sslmode=a%20%26b", "postgres://h", "a &b"),
            ("host=h sslmode=require user=u", "host=h user=u", "require"),
            (r"sslmode = 'it\'s' host=h", "host=h", "it's"),
            (r"password='a sslmode=no' sslmode=a\ b", "password='a sslmode=no'", "a b"),
            ("host=h password= sslmode=x", "host=h password= sslmode=x", ""),
        ] {
            let expected = if value.is_empty() { Vec::new() } else { mode(value) };
            assert_eq!(taken(text), (rest.to_owned(), expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_well_formed_comes_back_as_it_was() {
        for text in
            ["sslmode", "host=h sslmode='x", "a=b sslmode", "postgres://h", r"sslmode=x\", ""]
        {
            assert_eq!(taken(text), (text.to_owned(), Vec::new()), "{text}");
        }
    }
}
