//! `_knn_search`, the deprecated endpoint: a knn query that takes `num_candidates` documents of each shard and
//! shows `k` of them.

use super::accept::{parse_search, some_filter};
use super::{KnnSearch, NotOurs, Reach};
use crate::scan::{members, repeats_a_key, unquote};
use crate::{Capabilities, Params};

/// Reads a body and its URL parameters, or says why it must be passed on.
pub fn parse_knn_search(body: &[u8], params: &Params, caps: &Capabilities) -> Result<KnnSearch, NotOurs> {
    const KNOWN: [&str; 5] = ["routing", "pretty", "human", "filter_path", "error_trace"];
    if params.0.iter().any(|(name, _)| !KNOWN.contains(&name.as_str())) {
        return Err(NotOurs("parameter"));
    }
    let text = std::str::from_utf8(body).map_err(|_| NotOurs("malformed"))?;
    if repeats_a_key(text)? {
        return Err(NotOurs("duplicate_key"));
    }
    let (mut knn, mut filter, mut documents) = (None, None, String::new());
    for member in members(text)? {
        match &*unquote(member.key)? {
            "knn" => knn = Some(member.value),
            "filter" => filter = some_filter(member.value)?,
            "_source" | "fields" | "docvalue_fields" => {
                documents.push_str(&format!(",{}:{}", member.key, member.value));
            }
            _ => return Err(NotOurs("unknown_key")),
        }
    }
    let knn = knn.ok_or(NotOurs("no_knn"))?;
    has_its_four_members(knn)?;
    let search = format!("{{\"knn\":{knn}{documents}}}");
    let search = parse_search(search.as_bytes(), params, caps)?;
    Ok(KnnSearch {
        reach: Reach::EachShard,
        size: search.k,
        k: search.num_candidates,
        filter: filter.map(Into::into),
        ..search
    })
}

/// The section of a search could have more, and could leave some of them out.
fn has_its_four_members(knn: &str) -> Result<(), NotOurs> {
    if !knn.starts_with('{') {
        return Err(NotOurs("malformed"));
    }
    let members = members(knn)?;
    for member in &members {
        match &*unquote(member.key)? {
            "query_vector" if !member.value.starts_with('[') => return Err(NotOurs("vector")),
            "field" | "query_vector" | "k" | "num_candidates" => {}
            _ => return Err(NotOurs("unknown_key")),
        }
    }
    if members.len() == 4 { Ok(()) } else { Err(NotOurs("k")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str, body: &str) -> Result<KnnSearch, &'static str> {
        let caps = Capabilities::of("8.10.4".parse().unwrap()).unwrap();
        let params = Params::parse(query).unwrap();
        parse_knn_search(body.as_bytes(), &params, &caps).map_err(|NotOurs(reason)| reason)
    }

    fn body(knn: &str, beside: &str) -> String {
        format!(r#"{{"knn":{{"field":"v","query_vector":[1,2],"k":2,"num_candidates":5{knn}}}{beside}}}"#)
    }

    #[test]
    fn candidates_are_what_is_found_and_k_what_is_shown() {
        let search = read("routing=a", &body("", r#","filter":{"term":{"a":1}},"_source":false"#)).unwrap();
        assert_eq!((search.k, search.num_candidates, search.size, search.from), (5, 5, 2, 0));
        assert_eq!((search.reach, search.filter.as_deref()), (Reach::EachShard, Some(r#"{"term":{"a":1}}"#)));
        assert!(!search.needs_documents() && read("", &body("", "")).unwrap().needs_documents());
    }

    #[test]
    fn what_only_a_search_may_say_is_elasticsearchs() {
        for (query, body) in [
            ("size=3", body("", "")),
            ("", body("", r#","size":3"#)),
            ("", body("", r#","aggs":{}"#)),
            ("", body("", r#","stored_fields":["a"]"#)),
            ("", body(r#","boost":2"#, "")),
            ("", body(r#","filter":[]"#, "")),
            ("", body(r#","k":3"#, "")),
            ("", r#"{"knn":{"field":"v","query_vector":[1,2],"k":2}}"#.to_owned()),
            ("", r#"{"knn":{"field":"v","query_vector":"0102","k":2,"num_candidates":5}}"#.to_owned()),
            ("", r#"{"knn":{"field":"v","query_vector":[1,2],"k":6,"num_candidates":5}}"#.to_owned()),
            ("", r#"{"knn":[]}"#.to_owned()),
            ("", "{}".to_owned()),
            ("", "[]".to_owned()),
        ] {
            assert!(read(query, &body).is_err(), "{query} {body}");
        }
    }
}
