//! Raw requests of all kinds that have fooled proxies: each trick at each kind of endpoint.
//!
//! A case is bytes on one connection, what of them a server must take for requests ([`Case::meant`]), and how
//! it ends. Behind the trick there is always a request for `/_smuggled` or `/_second`: the former must never be
//! seen by Elasticsearch, the latter is an honest request that came early.
//!
//! To add a trick, add a line to one of the tables: [`FRAMINGS`] (where a body ends), [`CHUNKS`] (bodies in
//! chunks), [`HEADS`] (lines of the head), [`LINES`] (request lines).

mod tables;

use tables::{CHUNKS, FRAMINGS, HEADS, LINES};

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All requests were served, and the client said that the last one is.
    Served,
    /// What was meant is served; then the connection is closed, whatever follows.
    Closed,
    /// 400 after what was meant, and the connection is closed.
    Refused,
    /// The last request broke off within its body: an error or none, nothing whole reached Elasticsearch.
    Broken,
}

/// A request as it is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meant {
    pub line: String,
    pub body: Vec<u8>,
    /// Elasticsearch gets it; we answer it ourselves otherwise.
    pub goes_on: bool,
}

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: String,
    pub raw: Vec<u8>,
    pub meant: Vec<Meant>,
    pub end: End,
}

/// Kinds of endpoints by what happens to a body here.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    pub name: &'static str,
    pub line: &'static str,
    pub content_type: &'static str,
    /// Exactly 24 bytes long, so that tables can speak of its length.
    pub body: &'static str,
    pub goes_on: bool,
}

/// Passed unread (also with a method that rarely has a body), read whole, watched, translated, kept here.
pub const ENDPOINTS: [Endpoint; 7] = [
    Endpoint {
        name: "pass",
        line: "POST /_cluster/reroute",
        content_type: "application/json",
        body: "{\"commands\":[        ]}\n",
        goes_on: true,
    },
    Endpoint {
        name: "GET",
        line: "GET /_analyze",
        content_type: "application/json",
        body: "{\"text\":\"a b c d\"     }\n",
        goes_on: true,
    },
    Endpoint {
        name: "search",
        line: "POST /i/_search",
        content_type: "application/json",
        body: "{\"size\":0,\"from\":0     }",
        goes_on: true,
    },
    Endpoint {
        name: "msearch",
        line: "POST /i/_msearch",
        content_type: "application/x-ndjson",
        body: "{}\n{\"size\":1,\"from\":0 }\n",
        goes_on: true,
    },
    Endpoint {
        name: "bulk",
        line: "POST /_bulk",
        content_type: "application/x-ndjson",
        body: "{\"delete\":{\"_id\":\"xy\"}}\n",
        goes_on: true,
    },
    Endpoint {
        name: "mapping",
        line: "PUT /new",
        content_type: "application/json",
        body: "{\"mappings\":{         }}",
        goes_on: true,
    },
    Endpoint {
        name: "own",
        line: "POST /_ivf/nowhere/at/all",
        content_type: "application/json",
        body: "{\"k\":1                 }",
        goes_on: false,
    },
];

/// What follows an honest request.
const SECOND: &str = "GET /_second HTTP/1.1\r\nHost: es\r\nConnection: close\r\n\r\n";
/// What follows a trick.
const SMUGGLED: &str = "GET /_smuggled HTTP/1.1\r\nHost: es\r\nConnection: close\r\n\r\n";

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for endpoint in &ENDPOINTS {
        cases.extend(FRAMINGS.iter().map(|framing| framed(endpoint, framing)));
        cases.extend(CHUNKS.iter().map(|chunks| chunked(endpoint, chunks)));
        cases.extend(HEADS.iter().map(|head| headed(endpoint, head)));
    }
    cases.extend(LINES.iter().map(lined));
    cases.extend(others());
    cases
}

fn request(endpoint: &Endpoint, headers: &str, body: &str) -> Vec<u8> {
    format!(
        "{} HTTP/1.1\r\nHost: es\r\nContent-Type: {}\r\n{headers}\r\n{body}",
        endpoint.line, endpoint.content_type
    )
    .into_bytes()
}

fn meant(endpoint: &Endpoint, body: &str) -> Meant {
    Meant { line: endpoint.line.to_owned(), body: body.as_bytes().to_vec(), goes_on: endpoint.goes_on }
}

fn second() -> Meant {
    Meant { line: "GET /_second".to_owned(), body: Vec::new(), goes_on: true }
}

/// What is meant where the first request is honest, and what follows it.
fn following(end: End, first: Meant, raw: &mut Vec<u8>) -> Vec<Meant> {
    raw.extend_from_slice(if end == End::Served { SECOND } else { SMUGGLED }.as_bytes());
    match end {
        End::Served => vec![first, second()],
        End::Closed => vec![first],
        End::Refused | End::Broken => Vec::new(),
    }
}

fn framed(endpoint: &Endpoint, &(name, headers, in_chunks, end): &(&str, &str, bool, End)) -> Case {
    let body =
        if in_chunks { format!("18\r\n{}\r\n0\r\n\r\n", endpoint.body) } else { endpoint.body.to_owned() };
    let mut raw = request(endpoint, headers, &body);
    if name == "no length" {
        // The body is read as the next request, and that is none.
        raw.extend_from_slice(SMUGGLED.as_bytes());
        return Case {
            name: format!("{}: {name}", endpoint.name),
            raw,
            meant: vec![meant(endpoint, "")],
            end,
        };
    }
    let meant = following(end, meant(endpoint, endpoint.body), &mut raw);
    Case { name: format!("{}: {name}", endpoint.name), raw, meant, end }
}

fn chunked(endpoint: &Endpoint, &(name, body, means, end): &(&str, &str, &str, End)) -> Case {
    let mut raw = request(endpoint, "Transfer-Encoding: chunked\r\n", body);
    let meant = following(end, meant(endpoint, means), &mut raw);
    Case { name: format!("{}: chunks {name}", endpoint.name), raw, meant, end }
}

fn headed(endpoint: &Endpoint, &(name, lines, end): &(&str, &str, End)) -> Case {
    let mut raw = request(endpoint, &format!("{lines}Content-Length: 24\r\n"), endpoint.body);
    let meant = following(end, meant(endpoint, endpoint.body), &mut raw);
    Case { name: format!("{}: {name}", endpoint.name), raw, meant, end }
}

fn lined(&(name, line, goes_on_as, end): &(&str, &str, &str, End)) -> Case {
    let mut raw = format!("{line}\r\nHost: es\r\n\r\n").into_bytes();
    let first = Meant { line: goes_on_as.to_owned(), body: Vec::new(), goes_on: true };
    let meant = following(end, first, &mut raw);
    Case { name: format!("line: {name}"), raw, meant, end }
}

/// Honest requests that stand in front of another in one piece with it: name, line, the rest, its body.
pub const BEFORE: &[(&str, &str, &str, &str)] = &[
    ("a GET", "GET /_first", "\r\n", ""),
    (
        "a length",
        "POST /_first",
        "Content-Length: 26\r\n\r\nGET /_smuggled HTTP/1.1\n\r\n",
        "GET /_smuggled HTTP/1.1\n\r\n",
    ),
    (
        "chunks",
        "POST /i/_search",
        "Transfer-Encoding: chunked\r\n\r\n4;a=b\r\n{}\n\n\r\n0\r\nA: b\r\n\r\n",
        "{}\n\n",
    ),
];

/// A case behind an honest request on the same connection.
pub fn behind(&(name, line, rest, body): &(&str, &str, &str, &str), case: &Case) -> Case {
    let mut raw = format!("{line} HTTP/1.1\r\nHost: es\r\n{rest}").into_bytes();
    raw.extend_from_slice(&case.raw);
    let first = Meant { line: line.to_owned(), body: body.as_bytes().to_vec(), goes_on: true };
    let meant = std::iter::once(first).chain(case.meant.iter().cloned()).collect();
    Case { name: format!("behind {name}: {}", case.name), raw, meant, end: case.end }
}

/// What fits into no table.
fn others() -> Vec<Case> {
    let case = |name: &str, raw: &str, lines: &[&str], end: End| Case {
        name: name.to_owned(),
        raw: raw.as_bytes().to_vec(),
        meant: lines
            .iter()
            .map(|line| Meant { line: (*line).to_owned(), body: Vec::new(), goes_on: true })
            .collect(),
        end,
    };
    vec![
        case(
            "HTTP/1.0 closes",
            "GET /a HTTP/1.0\r\n\r\nGET /_smuggled HTTP/1.0\r\n\r\n",
            &["GET /a"],
            End::Closed,
        ),
        case(
            "HTTP/1.0 with keep-alive",
            "GET /_a HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /_second HTTP/1.0\r\n\r\n",
            &["GET /_a", "GET /_second"],
            End::Closed,
        ),
        case(
            "HTTP/1.0 in chunks (pingora, CVE-2026-2835)",
            "GET /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n0\r\n\r\nGET /_smuggled HTTP/1.1\r\n\r\n",
            &[],
            End::Refused,
        ),
        case(
            "HTTP/1.0 with both lengths (pingora, CVE-2026-2835)",
            "GET /a HTTP/1.0\r\nContent-Length: 29\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\nGET /_smuggled HTTP/1.1\r\n\r\n",
            &[],
            End::Refused,
        ),
        case(
            "a line that is too long",
            &format!(
                "GET /{} HTTP/1.1\r\nHost: es\r\n\r\nGET /_smuggled HTTP/1.1\r\n\r\n",
                "a".repeat(5_000)
            ),
            &[],
            End::Refused,
        ),
        case(
            "headers that are too long",
            &format!("GET /a HTTP/1.1\r\nA: {}\r\n\r\nGET /_smuggled HTTP/1.1\r\n\r\n", "a".repeat(17_000)),
            &[],
            End::Refused,
        ),
        case(
            "headers that are far too long",
            &format!("GET /a HTTP/1.1\r\nA: {}\r\n\r\nGET /_smuggled HTTP/1.1\r\n\r\n", "a".repeat(70_000)),
            &[],
            End::Refused,
        ),
        case(
            "more headers than are read",
            &format!("GET /a HTTP/1.1\r\n{}\r\nGET /_smuggled HTTP/1.1\r\n\r\n", "A: b\r\n".repeat(200)),
            &[],
            End::Refused,
        ),
        case(
            "HTTP/2 begins",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nGET /_smuggled HTTP/1.1\r\n\r\n",
            &[],
            End::Refused,
        ),
        case("TLS begins", "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03\r\n\r\n", &[], End::Refused),
        case(
            "line feeds only",
            "GET /a HTTP/1.1\nHost: es\n\nGET /_smuggled HTTP/1.1\n\n",
            &[],
            End::Refused,
        ),
        case(
            "a line feed that ends a header",
            "GET /a HTTP/1.1\r\nX: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /_smuggled HTTP/1.1\r\n\r\n",
            &[],
            End::Refused,
        ),
        case(
            "a line feed that ends a head",
            "GET /a HTTP/1.1\r\nX: y\r\n\nGET /_smuggled HTTP/1.1\r\n\r\n",
            &[],
            End::Refused,
        ),
        case(
            "empty lines before a request",
            "\r\n\r\nGET /a HTTP/1.1\r\nHost: es\r\nConnection: close\r\n\r\n",
            &["GET /a"],
            End::Served,
        ),
    ]
}
