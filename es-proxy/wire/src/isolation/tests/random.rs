//! Random names and bodies: what passes means nothing outside, and nothing makes it panic.

use proptest::prelude::*;

use super::bound;
use crate::IndexPatterns;
use crate::isolation::Body;

proptest! {
    /// Whatever an expression is: if it is let through, nothing outside can be meant by it.
    #[test]
    fn what_passes_means_nothing_outside(
        pattern in "a[ab]?\\*?",
        parts in prop::collection::vec("-?[ab.*<>{}_]{1,6}", 1..4),
        index in "[ab.]{1,6}",
    ) {
        let list = parts.join(",");
        let passes = bound(&pattern, |bounds| bounds.names(&list).is_ok());
        let patterns: IndexPatterns = pattern.parse().unwrap();
        let meant = list.split(',').filter(|part| !part.starts_with(['-', '<'])).any(|part| crate::matches_wildcard(part, &index));
        prop_assert!(!(passes && meant && !patterns.contains(&index)), "{list} means {index}");
    }

    #[test]
    fn no_body_makes_it_panic(text in "[\\[\\]{}\",:a-e0-9\\\\u\n ]{0,40}", names in proptest::option::of("[a*]{1,3}")) {
        for body in [Body::Query, Body::PointInTime, Body::Bulk, Body::Msearch, Body::Context, Body::Reindex, Body::Aliases, Body::Alias, Body::Mapping, Body::Settings, Body::Index, Body::Rollover, Body::Template] {
            bound("a*", |bounds| drop(bounds.body(body, names.as_deref(), text.as_bytes())));
        }
    }

    /// A lookup that is put anywhere into a random query is found.
    #[test]
    fn a_lookup_is_found_at_any_depth(keys in prop::collection::vec("index|term|terms|wrapper|pit|_index|doc|x", 0..12), array in any::<u16>()) {
        let mut body = String::from(r#"{"index":"secret","id":"1","path":"p"}"#);
        for (at, key) in keys.iter().enumerate() {
            body = if array >> at & 1 == 1 { format!("{{\"{key}\":[{body}]}}") } else { format!("{{\"{key}\":{body}}}") };
        }
        let body = format!("{{\"query\":{body}}}");
        prop_assert!(bound("acme-*", |bounds| bounds.body(Body::Query, None, body.as_bytes()).is_err()), "{body}");
    }
}
