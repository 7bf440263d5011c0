//! The audit log of all this: one line for each request, also where the file was moved away meanwhile.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use outrigger_tests::{Outrigger, eventually};
use serde_json::{Value, json};

use crate::MARKER;
use crate::attempt::CREDENTIALS;

pub(crate) async fn the_log_is_opened_again(outrigger: &Outrigger, audit: &Path) {
    let moved = audit.with_extension("moved");
    std::fs::rename(audit, &moved).unwrap();
    outrigger.signal("HUP");
    eventually("the log is there again", Duration::from_secs(20), || async { audit.exists().then_some(()) })
        .await;
}

pub(crate) fn every_decision_has_its_line(audit: &Path, sent: usize) {
    let text = std::fs::read_to_string(audit.with_extension("moved")).unwrap()
        + &std::fs::read_to_string(audit).unwrap();
    let mut lines: HashMap<String, Vec<Value>> = HashMap::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_ne!(line["event.action"], "lost", "{line}");
        let id = line["opaque_id"].as_str().unwrap_or_default().to_owned();
        lines.entry(id).or_default().push(line);
    }
    let decided = lines.iter().filter(|(id, _)| id.starts_with("sent-"));
    let mut count = 0;
    for (id, lines) in decided {
        let [line] = lines.as_slice() else { panic!("{id} has {} lines", lines.len()) };
        let is_inside = id.len() > "sent-100000".len();
        assert_eq!(line["tenant"], "acme", "{line}");
        assert_eq!(line["tenant.rule"], "header", "{line}");
        assert!(line["origin.address"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'), "{line}");
        if is_inside {
            assert_ne!(line["event.action"], "refused", "{line}");
        } else {
            assert_eq!(
                (&line["event.action"], &line["http.status"]),
                (&json!("refused"), &json!(403)),
                "{line}"
            );
            assert!(line["reason"].as_str().unwrap().starts_with("isolation_"), "{line}");
            assert!(line["detail"].as_str().unwrap().starts_with("tenant [acme]"), "{line}");
        }
        count += 1;
    }
    assert_eq!(count, sent, "requests with a line");
    for secret in [
        CREDENTIALS,
        "YWNtZTpodW50ZXIy",
        MARKER,
        "match_all",
        "scroll_id=",
        "DXF1ZXJ5",
        "FGluY2x1ZGVfY29udGV4dF91dWlk",
    ] {
        assert!(!text.contains(secret), "the log holds {secret}");
    }
}
