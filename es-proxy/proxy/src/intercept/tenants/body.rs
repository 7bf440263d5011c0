//! Bodies of calls about tenants. What is wrong is said with the name of the field.

use http::request::Parts;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::intercept::tenants::{Refusal, bad_request};

/// Reads a body; `what` it is, for people.
pub(super) fn read<T: DeserializeOwned>(parts: &Parts, what: &str, text: &str) -> Result<T, Refusal> {
    parse(text).map_err(|wrong| {
        bad_request(parts, "x_content_parse_exception", &format!("[{what}] failed to parse{wrong}"))
    })
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let at = if path == "." { String::new() } else { format!(" field [{path}]") };
        format!("{at}: {}", error.into_inner())
    })?;
    reader.end().map_err(|error| format!(": {error}"))?;
    let body: Value = serde_json::from_str(text).map_err(|error| format!(": {error}"))?;
    let limits = body["limits"].as_object().into_iter().flatten();
    let limits = limits.map(|(class, limits)| (format!(" field [limits.{class}]"), limits));
    let quotas = body.get("quotas").map(|quotas| (" field [quotas]".to_owned(), quotas));
    // Serde takes a list of values for a struct.
    let mut structs = [(String::new(), &body)].into_iter().chain(quotas).chain(limits);
    match structs.find(|(_, value)| value.is_array()) {
        Some((at, _)) => Err(format!("{at}: expected an object, found a list")),
        None => Ok(read),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::tenant::TenantSpec;

    #[test]
    fn what_is_wrong_names_its_field() {
        for (text, named) in [
            ("", ": EOF"),
            ("[]", ": expected an object"),
            (r#"[["alice"]]"#, ": expected an object"),
            ("{} {}", ": trailing characters"),
            (r#"{"users":"a"}"#, " field [users]: invalid type"),
            (r#"{"users":["a",1]}"#, " field [users[1]]: invalid type"),
            (r#"{"user":["a"]}"#, " field [user]: unknown field"),
            (
                r#"{"limits":{"knn":{"requests_per_second":"fast"}}}"#,
                " field [limits.knn.requests_per_second]: ",
            ),
            (r#"{"limits":{"knn":{"rps":1}}}"#, " field [limits.knn.rps]: unknown field"),
            (
                r#"{"limits":{"searches":{}}}"#,
                " field [limits.searches]: [searches] is none of the classes search, knn",
            ),
            (r#"{"limits":{"knn":[5]}}"#, " field [limits.knn]: expected an object"),
            (
                r#"{"limits":{"bulk":{"bytes_per_second":"1xb"}}}"#,
                " field [limits.bulk.bytes_per_second]: [1xb]",
            ),
            (r#"{"quotas":{"indices":-1}}"#, " field [quotas.indices]: "),
            (r#"{"quotas":[5]}"#, " field [quotas]: expected an object"),
        ] {
            let wrong = parse::<TenantSpec>(text).unwrap_err();
            assert!(wrong.starts_with(named), "{text}: {wrong}");
        }
        let fine = r#"{"users":["a"],"limits":{"knn":{"burst":2}},"quotas":{"indices":1}}"#;
        assert_eq!(parse::<TenantSpec>(fine).unwrap().quotas.indices, Some(1));
    }
}
