//! The name that somebody meant.

/// The nearest of `names` by edits, if it is near: at most a third of its letters differ.
pub fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted: Vec<char> = wanted.chars().take(64).map(|c| c.to_ascii_lowercase()).collect();
    let scored = names.into_iter().map(|n| {
        let letters: Vec<char> = n.chars().map(|c| c.to_ascii_lowercase()).collect();
        (edits(&wanted, &letters), letters.len(), n)
    });
    let best = scored.min_by_key(|(d, ..)| *d)?;
    (3 * best.0 <= best.1).then_some(best.2)
}

/// Insertions, removals and replacements from one word to the other.
fn edits(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let next = (diagonal + usize::from(x != y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = row[j + 1];
            row[j + 1] = next;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_edits() {
        let count = |a: &str, b: &str| edits(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>());
        assert_eq!([count("", "abc"), count("kitten", "sitting"), count("same", "same")], [3, 3, 0]);
        assert_eq!(nearest("esp32c3", ["esp32-c3", "esp32-s3"]), Some("esp32-c3"));
        assert_eq!(nearest("x", ["esp32-c3"]), None);
        assert_eq!(nearest("x", []), None);
    }
}
