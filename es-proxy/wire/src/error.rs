//! Elasticsearch's error envelope for answers that we give ourselves.

use crate::json::push_json_string;

/// `{"error":{"root_cause":[{type,reason}],type,reason},"status":N}`: how Elasticsearch reports an
/// error that has no further cause.
pub fn error_body(status: u16, kind: &str, reason: &str) -> String {
    let mut out = String::with_capacity(128 + 2 * reason.len());
    out.push_str("{\"error\":{\"root_cause\":[{");
    push_kind_and_reason(&mut out, kind, reason);
    out.push_str("}],");
    push_kind_and_reason(&mut out, kind, reason);
    push_status(&mut out, status);
    out
}

/// The same with a cause. As in Elasticsearch `root_cause` names the innermost exception that is
/// Elasticsearch's own, so it is given apart.
pub fn error_body_caused_by(
    status: u16,
    outer: (&str, &str),
    root_cause: (&str, &str),
    caused_by: (&str, &str),
) -> String {
    let mut out = String::with_capacity(192 + outer.1.len() + root_cause.1.len() + caused_by.1.len());
    out.push_str("{\"error\":{\"root_cause\":[{");
    push_kind_and_reason(&mut out, root_cause.0, root_cause.1);
    out.push_str("}],");
    push_kind_and_reason(&mut out, outer.0, outer.1);
    out.push_str(",\"caused_by\":{");
    push_kind_and_reason(&mut out, caused_by.0, caused_by.1);
    out.push('}');
    push_status(&mut out, status);
    out
}

/// The 429 body on which the official clients' back-off is built.
pub fn rejected_body(reason: &str) -> String {
    error_body(429, "es_rejected_execution_exception", reason)
}

fn push_kind_and_reason(out: &mut String, kind: &str, reason: &str) {
    out.push_str("\"type\":");
    push_json_string(out, kind);
    out.push_str(",\"reason\":");
    push_json_string(out, reason);
}

fn push_status(out: &mut String, status: u16) {
    out.push_str("},\"status\":");
    out.push_str(&status.to_string());
    out.push('}');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_envelope_is_the_one_elasticsearch_prints() {
        assert_eq!(
            rejected_body("slow \"down\""),
            r#"{"error":{"root_cause":[{"type":"es_rejected_execution_exception","reason":"slow \"down\""}],"type":"es_rejected_execution_exception","reason":"slow \"down\""},"status":429}"#
        );
    }

    #[test]
    fn cause_comes_after_the_reason() {
        assert_eq!(
            error_body_caused_by(400, ("a", "b"), ("c", "d"), ("e", "f")),
            r#"{"error":{"root_cause":[{"type":"c","reason":"d"}],"type":"a","reason":"b","caused_by":{"type":"e","reason":"f"}},"status":400}"#
        );
    }
}
