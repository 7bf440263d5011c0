//! Names with `*` for any number of characters, as Elasticsearch takes them in patterns of indices and fields.

/// Whether a pattern covers a name.
pub fn matches_wildcard(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(start) else { return false };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let end = pieces.pop().unwrap_or_default();
    for piece in pieces {
        // The earliest place is the best: it leaves most for what follows.
        let Some(at) = name.find(piece) else { return false };
        name = &name[at + piece.len()..];
    }
    name.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_characters() {
        for (pattern, name, expected) in [
            ("orders", "orders", true),
            ("orders", "orders1", false),
            ("logs-*", "logs-", true),
            ("logs-*", "log", false),
            ("*-live", "x-live", true),
            ("*-live", "live", false),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "abbcc", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("*", "", true),
        ] {
            assert_eq!(matches_wildcard(pattern, name), expected, "{pattern} {name}");
        }
    }
}
