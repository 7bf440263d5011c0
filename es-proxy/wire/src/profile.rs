//! The `ivf` part of a search's profile: what our index did for each knn, put where Elasticsearch has
//! its own account of it.

use std::sync::Arc;

use crate::json::Splice;
use crate::pretty::pretty;
use crate::scan::{Malformed, Member, elements, members, unquote};

/// What was done on one shard, as JSON: one object for each knn of the request.
#[derive(Clone, Debug, PartialEq)]
pub struct ShardProfile {
    /// The concrete index.
    pub index: Arc<str>,
    /// Shard number.
    pub shard: u32,
    /// Objects, in the order of the knn in the request.
    pub knn: Vec<String>,
}

/// Adds `"ivf":[…]` to the profile of each shard: inside `dfs`, where the vector profile of a top-level
/// knn stands, or beside `searches` where there is no `dfs`. `None`: nothing to add, or no profile there.
pub fn with_profiles(response: &str, profiles: &[ShardProfile]) -> Option<String> {
    let mut splice = Splice::new(response);
    add(response.trim_ascii(), profiles, &mut splice).ok()?;
    if splice.is_empty() {
        return None;
    }
    let whole = splice.finish();
    Some(if response.starts_with("{\n") { pretty(&whole) } else { whole })
}

fn add(response: &str, profiles: &[ShardProfile], splice: &mut Splice<'_>) -> Result<(), Malformed> {
    let response = members(response)?;
    let Some(profile) = value(&response, "profile") else { return Ok(()) };
    let profile = members(profile)?;
    let Some(shards) = value(&profile, "shards") else { return Ok(()) };
    for shard in elements(shards)? {
        let parts = members(shard)?;
        let Some(id) = value(&parts, "id") else { continue };
        let id = unquote(id)?;
        let ours = profiles.iter().find(|ours| id.ends_with(&format!("][{}][{}]", ours.index, ours.shard)));
        let Some(ours) = ours else { continue };
        let object = value(&parts, "dfs").unwrap_or(shard);
        let comma = if members(object)?.is_empty() { "" } else { "," };
        let brace = &object[object.len() - 1..];
        splice.insert_before(brace, format!("{comma}\"ivf\":[{}]", ours.knn.join(",")));
    }
    Ok(())
}

fn value<'a>(members: &[Member<'a>], key: &str) -> Option<&'a str> {
    let quoted = |member: &&Member<'a>| unquote(member.key).is_ok_and(|name| name == key);
    members.iter().find(quoted).map(|member| member.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours() -> Vec<ShardProfile> {
        let of = |shard: u32| ShardProfile {
            index: "t".into(),
            shard,
            knn: vec![format!("{{\"n\":{shard}}}"), "{}".into()],
        };
        vec![of(0), of(1)]
    }

    #[test]
    fn each_shard_gets_its_own() {
        let response = r#"{"took":1,"profile":{"shards":[{"id":"[N][t][0]","dfs":{"knn":[]},"searches":[]},{"id":"[N][t][1]","searches":[]},{"id":"[N][other][1]","dfs":{}}]}}"#;
        let expected = r#"{"took":1,"profile":{"shards":[{"id":"[N][t][0]","dfs":{"knn":[],"ivf":[{"n":0},{}]},"searches":[]},{"id":"[N][t][1]","searches":[],"ivf":[{"n":1},{}]},{"id":"[N][other][1]","dfs":{}}]}}"#;
        assert_eq!(with_profiles(response, &ours()).unwrap(), expected);
    }

    #[test]
    fn an_empty_part_and_a_laid_out_answer() {
        let response = "{\n  \"profile\" : {\n    \"shards\" : [\n      {\n        \"id\" : \"[N][t][1]\",\n        \"dfs\" : { }\n      }\n    ]\n  }\n}\n";
        let shown = with_profiles(response, &ours()).unwrap();
        assert!(shown.starts_with("{\n"), "{shown}");
        let value: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(value["profile"]["shards"][0]["dfs"]["ivf"][0]["n"], 1);
    }

    #[test]
    fn where_there_is_no_profile_nothing_is_added() {
        for response in
            ["", "{}", r#"{"hits":{}}"#, r#"{"profile":{}}"#, r#"{"profile":{"shards":[{}]}}"#, "[1"]
        {
            assert_eq!(with_profiles(response, &ours()), None, "{response}");
        }
    }
}
