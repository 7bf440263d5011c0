//! The table of endpoints against Elasticsearch's own description of its API: it must have decided about each.

use crate::isolation::endpoints::{self, Place, Rule};
use crate::isolation::parameters;

/// Every endpoint of Elasticsearch 9.2's own description: method, path, parameters.
const DOCUMENTED: &str = include_str!("../documented.tsv");

#[test]
fn the_table_has_decided_about_every_documented_endpoint() {
    let (mut undecided, mut misjudged) = (Vec::new(), Vec::new());
    for line in DOCUMENTED.lines().filter(|line| !line.starts_with('#')) {
        let mut columns = line.split('\t');
        let (method, path) = (columns.next().unwrap(), columns.next().unwrap());
        let raw: Vec<&str> =
            path.split('/').skip(1).map(|part| if part.starts_with('{') { "acme-1" } else { part }).collect();
        let raw = if path == "/" { Vec::new() } else { raw };
        match endpoints::find(method, &raw) {
            None => undecided.push(format!("{method} {path}")),
            // A placeholder that names something must be one of ours that is judged.
            Some(row) if matches!(row.rule, Rule::Allowed(..)) => {
                for (part, place) in path.split('/').skip(1).zip(endpoints::places(row.path)) {
                    let names =
                        ["{index}", "{alias}", "{name}", "{target}", "{new_index}", "{source}", "{dest}"];
                    let is_setting = part == "{name}" && path.contains("/_settings/");
                    if names.contains(&part) && !is_setting && place != Place::Names {
                        misjudged.push(format!("{part}: {method} {path}"));
                    }
                }
                for parameter in columns.next().unwrap_or_default().split(',').filter(|name| !name.is_empty())
                {
                    let is_refused = [
                        "pipeline",
                        "scroll_id",
                        "source",
                        "source_content_type",
                        "index",
                        "name",
                        "project_routing",
                    ]
                    .contains(&parameter);
                    if parameters::is_harmless(parameter) == is_refused {
                        misjudged.push(format!("{parameter}: {method} {path}"));
                    }
                }
            }
            Some(_) => {}
        }
    }
    assert!(undecided.is_empty(), "{undecided:#?}");
    assert!(misjudged.is_empty(), "{misjudged:#?}");
}
