//! The second request of the *fetch* way: the documents of our hits, from Elasticsearch itself.

use super::KnnSearch;

impl KnnSearch {
    /// The body of a `_search` that returns the documents `ids`, with all that the client wants of
    /// them and what is needed to know that they are still the versions that we compared.
    pub fn fetch_body(&self, ids: &[&str]) -> String {
        let _ = ids;
        String::new()
    }

    /// The query part of that search's URL, without the `?`; may be empty.
    pub fn fetch_query(&self) -> String {
        String::new()
    }
}
