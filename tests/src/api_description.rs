//! Elasticsearch's own description of its REST API (`scripts/es spec`).

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// All documented APIs of a version, by name.
pub fn api_description(version: &str) -> BTreeMap<String, Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/es");
    let printed = Command::new(script).args(["spec", version]).output().expect("scripts/es runs");
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    let folder = String::from_utf8(printed.stdout).expect("a path");
    let files = std::fs::read_dir(folder.trim()).expect("the description");
    let files = files.map(|file| file.expect("a file").path()).filter(|file| !file.ends_with("_common.json"));
    files
        .flat_map(|file| {
            let text = std::fs::read_to_string(file).expect("a description");
            serde_json::from_str::<BTreeMap<String, Value>>(&text).expect("JSON")
        })
        .collect()
}
