//! Queries without a knn, and what a knn query may stand in.

use serde_json::{Value, json};

use super::draw::Draw;

/// How deep compound queries go.
const DEPTH: usize = 3;

impl Draw<'_> {
    /// A query without a knn.
    pub(super) fn plain_query(&mut self) -> Value {
        let (word, other) = (self.word(), self.word());
        let number = self.between(0, 300);
        match self.below(18) {
            0 | 1 => json!({"match": {"t": word}}),
            2 => json!({"match": {"t": {"query": format!("{word} {other}"), "operator": "and"}}}),
            3 | 4 => json!({"term": {"a": word}}),
            5 => json!({"terms": {"tags": [word, other]}}),
            6 | 7 => json!({"range": {"n": {"gte": number}}}),
            8 => json!({"range": {"day": {"gte": "2024-03-01", "lt": "2024-09-01"}}}),
            9 => json!({"exists": {"field": "x"}}),
            10 => json!({"prefix": {"a": &word[..1]}}),
            11 => json!({"term": {"ok": self.chance(0.5)}}),
            12 => json!({"match_all": {}}),
            13 => json!({"ids": {"values": [self.id(), self.id(), self.id()]}}),
            14 => json!({"match_phrase": {"t": format!("{word} {other}")}}),
            15 => json!({"query_string": {"query": format!("t:{word} OR a:{other}")}}),
            16 => {
                json!({"bool": {"must": {"match": {"t": word}}, "must_not": {"term": {"a": other}}, "boost": 1.5}})
            }
            _ => json!({"term": {"n": {"value": number, "_name": "number"}}}),
        }
    }

    /// A filter that depends on the document alone.
    pub(super) fn filter(&mut self) -> Value {
        match self.below(6) {
            0 => json!([]),
            1 => json!([self.plain_query()]),
            2 => json!([self.plain_query(), self.plain_query()]),
            _ => self.plain_query(),
        }
    }

    /// A query with one knn or several somewhere in it.
    pub(super) fn mixed_query(&mut self) -> Value {
        self.nested_query(0)
    }

    fn nested_query(&mut self, depth: usize) -> Value {
        if depth >= DEPTH {
            return self.knn_query();
        }
        match self.below(9) {
            0 | 1 => self.knn_query(),
            2 => self.in_bool(depth),
            3 => json!({"constant_score": {"filter": self.nested_query(depth + 1), "boost": 1.5}}),
            4 => {
                json!({"dis_max": {"queries": [self.nested_query(depth + 1), self.plain_query()], "tie_breaker": 0.3}})
            }
            5 => {
                json!({"boosting": {"positive": self.nested_query(depth + 1), "negative": self.plain_query(), "negative_boost": 0.5}})
            }
            6 => {
                json!({"function_score": {"query": self.nested_query(depth + 1), "field_value_factor": {"field": "n", "factor": 0.01, "modifier": "log1p"}}})
            }
            7 => {
                json!({"bool": {"must": [self.nested_query(depth + 1)], "filter": self.plain_query()}})
            }
            _ => json!({"bool": {"should": [self.knn_query(), self.nested_query(depth + 1)]}}),
        }
    }

    pub(super) fn in_bool(&mut self, depth: usize) -> Value {
        let mut clauses = json!({});
        for clause in ["must", "should", "filter", "must_not"] {
            if self.chance(0.4) {
                clauses[clause] = match self.below(3) {
                    0 => self.nested_query(depth + 1),
                    1 => json!([self.plain_query()]),
                    _ => json!([self.nested_query(depth + 1), self.plain_query()]),
                };
            }
        }
        if clauses.get("should").is_some() && self.chance(0.2) {
            clauses["minimum_should_match"] = json!(1);
        }
        if clauses.as_object().is_some_and(|clauses| clauses.is_empty()) {
            clauses["should"] = json!([self.knn_query(), self.plain_query()]);
        }
        json!({"bool": clauses})
    }
}
