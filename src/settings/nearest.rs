//! "Did you mean": the known word nearest to one that is not known.
//!
//! `sources` and `file` ask it about variables and keys. Short words, so no cleverness: a few
//! hundred steps per question, and only after a mistake.

/// The candidate that takes the fewest edits, if they are few enough to be a typing error.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let edits_max = (word.len() / 3).clamp(1, 3);
    let measured = candidates.map(|candidate| (edits(word, candidate), candidate));
    measured.filter(|(edits, _)| *edits <= edits_max).min().map(|(_, candidate)| candidate)
}

/// Letters to insert, remove or change (Levenshtein), row by row.
fn edits(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in to.bytes().enumerate() {
            let change = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        for (from, to, count) in
            [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("workers", "wrokers", 2), ("a", "b", 1)]
        {
            assert_eq!(edits(from, to), count, "{from} {to}");
        }
    }

    #[test]
    fn only_a_typing_error_has_a_nearest_word() {
        let words = ["workers", "bind", "backlog"];
        assert_eq!(nearest("worker", words.into_iter()), Some("workers"));
        assert_eq!(nearest("wrokers", words.into_iter()), Some("workers"));
        assert_eq!(nearest("bnd", words.into_iter()), Some("bind"));
        assert_eq!(nearest("frob", words.into_iter()), None);
    }
}
