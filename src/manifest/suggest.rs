//! "Did you mean …?": the known word nearest to a misspelt one.

/// The candidate that `word` was probably meant to be; `None` when nothing is near.
///
/// Case and separators are forgiven first (`hostnetwork`, `host_network`); then as many
/// insertions, deletions, substitutions and swaps of neighbours as a third of the word's length, or
/// a missing end (`cmd` is too far from `command`, `vol` is near `volumes`).
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // The distance is quadratic in the length, and nobody misspells a word this long by a little.
    const LONGEST_WORD: usize = 64;
    const SHORTEST_PREFIX: usize = 3;
    // Of a manifest's longest list of keys, with an error for each: some seconds altogether.
    const MOST_CANDIDATES: usize = 1000;
    if word.len() > LONGEST_WORD {
        return None;
    }
    let folded = fold(word);
    let allowed = (folded.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .take(MOST_CANDIDATES)
        .filter(|candidate| *candidate != word && candidate.len() <= LONGEST_WORD)
        .map(|candidate| (candidate, fold(candidate)))
        .map(|(candidate, known)| {
            let begins = folded.chars().count() >= SHORTEST_PREFIX && known.starts_with(&folded);
            (strsim::damerau_levenshtein(&folded, &known), begins, candidate)
        })
        .filter(|(distance, begins, candidate)| {
            *begins || (*distance <= allowed && *distance < candidate.chars().count())
        })
        .min_by_key(|(distance, _, _)| *distance)
        .map(|(_, _, candidate)| candidate)
}

/// `, did you mean X?`, or nothing.
pub fn hint<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    closest(word, candidates).map(|found| format!(", did you mean {found}?")).unwrap_or_default()
}

fn fold(word: &str) -> String {
    word.chars().filter(|c| !matches!(c, '-' | '_' | ' ')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: [&str; 5] = ["image", "imagePullPolicy", "name", "volumeMounts", "env"];

    #[test]
    fn finds_what_was_meant() {
        assert_eq!(closest("imagee", FIELDS), Some("image"));
        assert_eq!(closest("imgae", FIELDS), Some("image"));
        assert_eq!(closest("volume_mounts", FIELDS), Some("volumeMounts"));
        assert_eq!(closest("IMAGE", FIELDS), Some("image"));
        assert_eq!(closest("envs", FIELDS), Some("env"));
        assert_eq!(closest("vol", FIELDS), Some("volumeMounts"));
    }

    #[test]
    fn is_silent_when_nothing_is_near() {
        assert_eq!(closest("replicas", FIELDS), None);
        assert_eq!(closest("x", FIELDS), None);
        assert_eq!(closest(&"image".repeat(1000), FIELDS), None);
        assert_eq!(hint("replicas", FIELDS), "");
    }
}
