//! Did you mean …?

/// The candidate that `name` is most likely a slip of, if one is near enough.
pub fn suggest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // The distance costs time in proportion to both lengths, and nobody mistypes hundreds of characters.
    const LONGEST: usize = 100;
    if name.len() > LONGEST {
        return None;
    }
    let folded = |text: &str| text.to_lowercase().replace('-', "_");
    let name = folded(name);
    let limit = match name.chars().count() {
        0 => return None,
        1..=2 => 1,
        3..=5 => 2,
        n => n / 3,
    };
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= LONGEST)
        .map(|candidate| (strsim::damerau_levenshtein(&name, &folded(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= limit && *distance < candidate.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_only() {
        let keys = ["command", "entrypoint", "environment", "depends_on", "db"];
        assert_eq!(suggest("comand", keys), Some("command"));
        assert_eq!(suggest("enviroment", keys), Some("environment"));
        assert_eq!(suggest("depends-on", keys), Some("depends_on"));
        assert_eq!(suggest("bd", keys), Some("db"));
        assert_eq!(suggest("xyz", keys), None);
        assert_eq!(suggest("", keys), None);
    }
}
