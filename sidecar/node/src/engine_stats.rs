//! `outrigger engine stats` for people: what is known of an index, and the curve from effort to
//! recall as a table.

use std::fmt::{Display, Formatter, Result};

use ivf_index::{Point, Summary};

/// Prints a summary as text.
pub(crate) struct AsText<'a>(pub(crate) &'a Summary);

impl Display for AsText<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> Result {
        let Summary { key, element, dims, metric, cursor, slots, disk_bytes, trained_on, spill, curve } =
            self.0;
        writeln!(out, "{key}")?;
        writeln!(
            out,
            "  {dims} {element} dims, {metric}; {slots} entries up to _seq_no {cursor}; {disk_bytes} bytes"
        )?;
        let Some(trained_on) = trained_on else { return writeln!(out, "  no lists: searches are exact") };
        let twice = if *spill { ", each in two lists" } else { "" };
        writeln!(out, "  lists trained on {trained_on} vectors{twice}; per query on one thread:")?;
        let heads = ["k", "allowed error", "recall", "lists", "scanned", "compared", "microseconds"];
        writeln!(out, "  {}", row(heads.map(String::from)))?;
        curve.iter().try_for_each(|point| writeln!(out, "  {}", row(cells(point))))
    }
}

fn cells(point: &Point) -> [String; 7] {
    let or_dash = |number: Option<String>| number.unwrap_or_else(|| "-".into());
    [
        point.k.to_string(),
        point.error.to_string(),
        format!("{:.4}", point.recall),
        point.nprobe.to_string(),
        or_dash(point.scanned.map(|entries| entries.to_string())),
        point.depth.to_string(),
        or_dash(point.microseconds.map(|microseconds| format!("{microseconds:.0}"))),
    ]
}

fn row(cells: [String; 7]) -> String {
    let [k, rest @ ..] = cells;
    rest.iter().fold(format!("{k:>5}"), |row, cell| format!("{row}{cell:>14}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_is_a_row_and_what_was_not_measured_a_dash() {
        let point = Point {
            k: 10,
            error: 0.05,
            nprobe: 171,
            depth: 51,
            slack: 2.0,
            recall: 0.95791,
            scanned: Some(19_558),
            microseconds: Some(51.7),
        };
        let old = Point { k: 100, scanned: None, microseconds: None, ..point };
        let summary = Summary {
            key: "uuid/0/h/vector".into(),
            element: "float".into(),
            dims: 384,
            metric: "cosine".into(),
            cursor: 107_999,
            slots: 108_000,
            disk_bytes: 175_000_000,
            trained_on: Some(108_000),
            spill: false,
            curve: vec![point, old],
        };
        let text = AsText(&summary).to_string();
        let rows: Vec<Vec<&str>> =
            text.lines().skip(4).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[0], ["10", "0.05", "0.9579", "171", "19558", "51", "52"]);
        assert_eq!(rows[1], ["100", "0.05", "0.9579", "171", "-", "51", "-"]);
        let exact = Summary { trained_on: None, curve: Vec::new(), ..summary };
        assert!(AsText(&exact).to_string().ends_with("no lists: searches are exact\n"));
    }
}
