//! How many lists a search visits in each shard, where the request itself says so: for experiments. By
//! header, or by a parameter of the URL that Elasticsearch never sees.

use es_wire::NotOurs;
use http::HeaderMap;
use http::request::Parts;
use http::uri::PathAndQuery;

use crate::upstream::NPROBE;

const PARAMETER: &str = "ivf_nprobe";
/// As in a mapping.
const LARGEST: usize = 65_536;

/// Moves the parameter of the URL into the header, so that Elasticsearch, to whom it means nothing, gets
/// the URL without it.
pub(crate) fn take_from_url(parts: &mut Parts) {
    let Some(query) = parts.uri.query().filter(|query| query.contains(PARAMETER)) else { return };
    let is_ours = |pair: &&str| pair.split('=').next() == Some(PARAMETER);
    let (ours, others): (Vec<&str>, Vec<&str>) = query.split('&').partition(is_ours);
    let Some(value) = ours.last().and_then(|pair| pair.split_once('=')?.1.parse().ok()) else { return };
    let separator = if others.is_empty() { "" } else { "?" };
    let rest: Result<PathAndQuery, _> =
        format!("{}{separator}{}", parts.uri.path(), others.join("&")).parse();
    let mut uri = parts.uri.clone().into_parts();
    uri.path_and_query = rest.ok();
    if let Ok(uri) = uri.try_into() {
        parts.uri = uri;
        parts.headers.insert(NPROBE, value);
    }
}

/// What the header says; whatever is no number of lists makes the search Elasticsearch's.
pub(crate) fn wanted(headers: &HeaderMap) -> Result<Option<usize>, NotOurs> {
    let Some(value) = headers.get(NPROBE) else { return Ok(None) };
    let lists = value.to_str().ok().and_then(|text| text.parse().ok());
    lists.filter(|lists| (1..=LARGEST).contains(lists)).map(Some).ok_or(NotOurs("nprobe"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(uri: &str) -> (String, Option<String>) {
        let mut parts = http::Request::builder().uri(uri).body(()).unwrap().into_parts().0;
        take_from_url(&mut parts);
        let header = parts.headers.get(NPROBE).map(|value| value.to_str().unwrap().to_owned());
        (parts.uri.to_string(), header)
    }

    #[test]
    fn the_parameter_leaves_the_url() {
        for (uri, rest, value) in [
            ("/a/_search?ivf_nprobe=7", "/a/_search", Some("7")),
            ("/a/_search?pretty&ivf_nprobe=7&size=3", "/a/_search?pretty&size=3", Some("7")),
            ("/a/_search?size=3", "/a/_search?size=3", None),
            ("/a/_search?q=ivf_nprobe", "/a/_search?q=ivf_nprobe", None),
            ("/a/_search?ivf_nprobe", "/a/_search?ivf_nprobe", None),
        ] {
            assert_eq!(taken(uri), (rest.to_owned(), value.map(str::to_owned)), "{uri}");
        }
    }

    #[test]
    fn only_numbers_of_lists_are_understood() {
        let of = |value: &str| wanted(&HeaderMap::from_iter([(NPROBE, value.parse().unwrap())]));
        assert_eq!(
            (wanted(&HeaderMap::new()), of("1"), of("65536")),
            (Ok(None), Ok(Some(1)), Ok(Some(65_536)))
        );
        for value in ["0", "65537", "-1", "x", ""] {
            assert_eq!(of(value), Err(NotOurs("nprobe")), "{value}");
        }
    }
}
