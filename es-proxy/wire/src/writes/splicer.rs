//! The response to a bulk of which some items never reached Elasticsearch: they are put into `items` at the
//! positions that they had in the request, while the response streams.

use std::collections::VecDeque;

use crate::writes::gate::RefusedItem;
use crate::writes::items::Items;

/// See the head of this file.
pub struct ItemSplicer {
    items: Items,
    refused: VecDeque<RefusedItem>,
    /// Position in the request of the item that comes next.
    position: usize,
    /// Bytes of what stands around the items that were written.
    written: usize,
    /// Something stands in `items`.
    any: bool,
}

impl ItemSplicer {
    /// `refused` in the order of the request.
    pub fn new(refused: Vec<RefusedItem>) -> Self {
        Self { items: Items::default(), refused: refused.into(), position: 0, written: 0, any: false }
    }

    /// Reads the next bytes of the response; what the client shall get is appended to `out`.
    pub fn feed(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        let mut came = Vec::new();
        self.items.feed(chunk, |item| came.push(item.to_vec()));
        let Some(begin) = self.items.begin() else { return };
        if self.written == 0 {
            out.extend_from_slice(&with_errors(&self.items.around()[..begin]));
            self.written = begin;
        }
        for item in came {
            self.push_refused(false, out);
            self.push(&item, out);
        }
        if self.items.around().len() > self.written {
            self.push_refused(true, out);
            out.extend_from_slice(&self.items.around()[self.written..]);
            self.written = self.items.around().len();
        }
    }

    /// What was read of a response without items, or of one that was no response to a bulk.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if self.written == 0 {
            out.extend_from_slice(self.items.around());
            self.written = self.items.around().len();
        }
    }

    /// The whole response where no item reached Elasticsearch.
    pub fn without_elasticsearch(refused: Vec<RefusedItem>) -> String {
        let mut out = Vec::new();
        Self::new(refused).feed(b"{\"errors\":true,\"took\":0,\"items\":[]}", &mut out);
        String::from_utf8(out).unwrap_or_default()
    }

    /// Writes the refused items that come next, or all that are left.
    fn push_refused(&mut self, all: bool, out: &mut Vec<u8>) {
        while let Some(item) = self.refused.pop_front_if(|item| all || item.position <= self.position) {
            self.push(item.json.as_bytes(), out);
        }
    }

    fn push(&mut self, item: &[u8], out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.any, true) {
            out.push(b',');
        }
        out.extend_from_slice(item);
        self.position += 1;
    }
}

/// What stands before the items, saying that there were errors.
fn with_errors(head: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(head);
    let Some((before, after)) = text.split_once("\"errors\"") else { return head.to_vec() };
    format!("{before}\"errors\"{}", after.replacen("false", "true", 1)).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn refused(positions: &[usize]) -> Vec<RefusedItem> {
        positions
            .iter()
            .map(|position| RefusedItem::plain(*position, format!("{{\"r\":{position}}}")))
            .collect()
    }

    fn spliced(text: &str, positions: &[usize], chunk: usize) -> String {
        let (mut splicer, mut out) = (ItemSplicer::new(refused(positions)), Vec::new());
        for part in text.as_bytes().chunks(chunk) {
            splicer.feed(part, &mut out);
        }
        splicer.finish(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_item_stands_where_it_stood_in_the_request() {
        for total in 1..7usize {
            for mask in 1..1u32 << total {
                let positions: Vec<usize> = (0..total).filter(|at| mask >> at & 1 == 1).collect();
                let kept: Vec<Value> =
                    (0..total).filter(|at| !positions.contains(at)).map(|at| json!({"k": at})).collect();
                let text = json!({"errors": false, "took": 3, "items": kept, "ingest_took": 7}).to_string();
                let expected: Vec<Value> = (0..total)
                    .map(|at| if positions.contains(&at) { json!({"r": at}) } else { json!({"k": at}) })
                    .collect();
                for chunk in [1, 5, 1000] {
                    let answer: Value = serde_json::from_str(&spliced(&text, &positions, chunk)).unwrap();
                    let all = json!({"errors": true, "took": 3, "items": expected, "ingest_took": 7});
                    assert_eq!(answer, all, "{text}");
                }
            }
        }
    }

    #[test]
    fn pretty_responses_and_none_at_all() {
        let text = "{\n  \"errors\" : false,\n  \"took\" : 1,\n  \"items\" : [\n    {\n      \"k\" : 0\n    }\n  ]\n}\n";
        let answer: Value = serde_json::from_str(&spliced(text, &[1], 4)).unwrap();
        assert_eq!(answer, json!({"errors": true, "took": 1, "items": [{"k": 0}, {"r": 1}]}));
        let alone: Value =
            serde_json::from_str(&ItemSplicer::without_elasticsearch(refused(&[0, 1]))).unwrap();
        assert_eq!(alone, json!({"errors": true, "took": 0, "items": [{"r": 0}, {"r": 1}]}));
        assert_eq!(spliced("{\"took\":1}", &[0], 3), "{\"took\":1}");
    }
}
