//! Prepared requests: one file, read before the clock starts.
//!
//! The format is what an orchestrator can write without thought: a line `METHOD PATH LENGTH`, then
//! LENGTH bytes of body and a newline; repeated. One request per entry, in the order sent.

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Uri};
use http_body_util::Full;

use crate::Target;

/// The requests of one run.
pub(crate) struct Prepared {
    requests: Vec<Entry>,
    headers: HeaderMap,
    content_type: HeaderValue,
}

struct Entry {
    method: Method,
    path: Uri,
    body: Bytes,
}

impl Prepared {
    /// Reads a file of requests for one server.
    pub(crate) fn read(target: &Target) -> anyhow::Result<Self> {
        let file = &target.requests;
        let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let requests = parse(Bytes::from(bytes))?;
        ensure!(!requests.is_empty(), "{} holds no requests", file.display());
        let mut headers = HeaderMap::from_iter([(
            HOST,
            HeaderValue::try_from(target.server.trim_start_matches("https://"))?,
        )]);
        headers.extend(named(&target.header)?);
        Ok(Self { requests, headers, content_type: HeaderValue::try_from(&target.content_type)? })
    }

    pub(crate) fn len(&self) -> usize {
        self.requests.len()
    }

    /// The request with this number, counted round and round.
    pub(crate) fn request(&self, number: usize) -> Request<Full<Bytes>> {
        let entry = &self.requests[number % self.requests.len()];
        let mut request = Request::new(Full::new(entry.body.clone()));
        *request.method_mut() = entry.method.clone();
        *request.uri_mut() = entry.path.clone();
        let headers = request.headers_mut();
        headers.extend(self.headers.clone());
        if !entry.body.is_empty() {
            headers.insert(CONTENT_TYPE, self.content_type.clone());
            headers.insert(CONTENT_LENGTH, HeaderValue::from(entry.body.len()));
        }
        request
    }
}

/// Headers as they stand on a command line, each as NAME:VALUE.
pub(crate) fn named(headers: &[String]) -> anyhow::Result<HeaderMap> {
    let mut all = HeaderMap::new();
    for header in headers {
        let (name, value) = header.split_once(':').with_context(|| format!("{header} is no NAME:VALUE"))?;
        all.append(HeaderName::try_from(name.trim())?, HeaderValue::try_from(value.trim())?);
    }
    Ok(all)
}

fn parse(mut rest: Bytes) -> anyhow::Result<Vec<Entry>> {
    let mut requests = Vec::new();
    while !rest.is_empty() {
        let end = rest.iter().position(|&byte| byte == b'\n').context("the last head has no end")?;
        let head = rest.split_to(end + 1);
        let head = std::str::from_utf8(&head)?.trim_end();
        let &[method, path, length] = head.split(' ').collect::<Vec<_>>().as_slice() else {
            bail!("a request starts with `METHOD PATH LENGTH`, not {head:?}");
        };
        let length: usize = length.parse()?;
        ensure!(rest.len() > length && rest[length] == b'\n', "the body of {method} {path} is cut off");
        let body = rest.split_to(length);
        rest = rest.slice(1..);
        requests.push(Entry { method: method.parse()?, path: path.parse()?, body });
    }
    Ok(requests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_may_hold_newlines_and_be_empty() -> anyhow::Result<()> {
        let requests = parse(Bytes::from_static(b"GET /a?b=c 0\n\nPOST /_bulk 4\n{}\n\n\n"))?;
        assert_eq!(requests.len(), 2);
        assert_eq!((&requests[0].method, requests[0].path.to_string()), (&Method::GET, "/a?b=c".to_owned()));
        assert!(requests[0].body.is_empty());
        assert_eq!(requests[1].body, "{}\n\n");
        Ok(())
    }

    #[test]
    fn a_body_that_is_cut_off_is_refused() {
        assert!(parse(Bytes::from_static(b"POST /_bulk 4\n{}\n")).is_err());
        assert!(parse(Bytes::from_static(b"POST /_bulk\n{}\n")).is_err());
    }
}
