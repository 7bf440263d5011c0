//! Raw requests of all kinds that have fooled proxies: each trick at each kind of endpoint.
//!
//! A case is bytes on one connection, what of them a server must take for requests ([`Case::meant`]), and how
//! it ends. Behind the trick there is always a request for `/_smuggled` or `/_second`: the former must never be
//! seen by Elasticsearch, the latter is an honest request that came early.
//!
//! To add a trick, add a line to one of the tables: [`FRAMINGS`] (where a body ends), [`CHUNKS`] (bodies in
//! chunks), [`HEADS`] (lines of the head), [`LINES`] (request lines).

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

/// Passed unread, read whole, watched, translated, kept here.
pub const ENDPOINTS: [Endpoint; 6] = [
    Endpoint {
        name: "pass",
        line: "POST /_cluster/reroute",
        content_type: "application/json",
        body: "{\"commands\":[        ]}\n",
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

/// Headers that say where a body of 24 bytes ends: name, headers, whether the body is sent in chunks, the end.
pub const FRAMINGS: &[(&str, &str, bool, End)] = &[
    ("content-length", "Content-Length: 24\r\n", false, End::Served),
    ("content-length in odd case", "cOnTeNt-LeNgTh: 24\r\n", false, End::Served),
    ("content-length with blanks", "Content-Length: \t 24 \t\r\n", false, End::Served),
    ("content-length without a blank", "Content-Length:24\r\n", false, End::Served),
    ("content-length with zeros", "Content-Length: 0000000024\r\n", false, End::Served),
    ("content-length twice the same", "Content-Length: 24\r\nContent-Length: 24\r\n", false, End::Served),
    ("content-length twice, differing", "Content-Length: 24\r\nContent-Length: 0\r\n", false, End::Refused),
    ("content-length twice, zero first", "Content-Length: 0\r\nContent-Length: 24\r\n", false, End::Refused),
    (
        "content-length twice with a header between",
        "Content-Length: 24\r\nA: b\r\nContent-Length: 5\r\n",
        false,
        End::Refused,
    ),
    ("content-length as a list", "Content-Length: 24, 24\r\n", false, End::Refused),
    ("content-length as a differing list", "Content-Length: 24, 0\r\n", false, End::Refused),
    ("content-length with a comma", "Content-Length: 24,\r\n", false, End::Refused),
    ("content-length with a plus", "Content-Length: +24\r\n", false, End::Refused),
    ("content-length with a minus", "Content-Length: -24\r\n", false, End::Refused),
    ("content-length minus zero", "Content-Length: -0\r\n", false, End::Refused),
    ("content-length in hexadecimal", "Content-Length: 0x18\r\n", false, End::Refused),
    ("content-length as a float", "Content-Length: 24.0\r\n", false, End::Refused),
    ("content-length with an exponent", "Content-Length: 24e0\r\n", false, End::Refused),
    ("content-length in quotes", "Content-Length: \"24\"\r\n", false, End::Refused),
    ("content-length with an underscore", "Content-Length: 2_4\r\n", false, End::Refused),
    ("content-length with a blank within", "Content-Length: 2 4\r\n", false, End::Refused),
    ("content-length with a parameter", "Content-Length: 24;a=b\r\n", false, End::Refused),
    ("content-length empty", "Content-Length: \r\n", false, End::Refused),
    ("content-length a word", "Content-Length: many\r\n", false, End::Refused),
    ("content-length past 64 bits", "Content-Length: 18446744073709551640\r\n", false, End::Refused),
    ("content-length of 64 bits", "Content-Length: 18446744073709551615\r\n", false, End::Refused),
    (
        "content-length past all bits",
        "Content-Length: 99999999999999999999999999999999\r\n",
        false,
        End::Refused,
    ),
    ("content-length in other digits", "Content-Length: \u{ff12}\u{ff14}\r\n", false, End::Refused),
    ("content-length with a vertical tab", "Content-Length: \x0b24\r\n", false, End::Refused),
    ("content-length with NUL", "Content-Length: 24\0\r\n", false, End::Refused),
    ("content-length with a blank before the colon", "Content-Length : 24\r\n", false, End::Refused),
    ("content-length with a tab before the colon", "Content-Length\t: 24\r\n", false, End::Refused),
    ("content-length folded", "Content-Length:\r\n 24\r\n", false, End::Refused),
    ("content-length folded after a digit", "Content-Length: 2\r\n 4\r\n", false, End::Refused),
    ("content-length with a lone return", "Content-Length: 24\rX: y\r\n", false, End::Refused),
    ("chunked", "Transfer-Encoding: chunked\r\n", true, End::Served),
    ("chunked in odd case", "tRANSFER-eNCODING: cHuNkEd\r\n", true, End::Served),
    ("chunked with a tab", "Transfer-Encoding:\tchunked\t\r\n", true, End::Served),
    ("chunked without a blank", "Transfer-Encoding:chunked\r\n", true, End::Served),
    ("chunked with TE", "TE: trailers, gzip\r\nTransfer-Encoding: chunked\r\n", true, End::Served),
    ("CL.TE", "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", true, End::Closed),
    ("TE.CL", "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", true, End::Closed),
    (
        "CL.TE with a length that is right",
        "Content-Length: 35\r\nTransfer-Encoding: chunked\r\n",
        true,
        End::Closed,
    ),
    ("CL.TE with zero", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", true, End::Closed),
    (
        "CL.TE.CL",
        "Content-Length: 6\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\n",
        true,
        End::Closed,
    ),
    (
        "TE.CL with a length that is none",
        "Transfer-Encoding: chunked\r\nContent-Length: none\r\n",
        true,
        End::Closed,
    ),
    (
        "CL.TE with a length that is none",
        "Content-Length: none\r\nTransfer-Encoding: chunked\r\n",
        true,
        End::Refused,
    ),
    ("CL.TE with identity", "Content-Length: 24\r\nTransfer-Encoding: identity\r\n", false, End::Refused),
    ("xchunked", "Transfer-Encoding: xchunked\r\n", true, End::Refused),
    ("xchunked with a length", "Transfer-Encoding: xchunked\r\nContent-Length: 4\r\n", true, End::Refused),
    ("chunkedx", "Transfer-Encoding: chunkedx\r\n", true, End::Refused),
    ("chunked in quotes", "Transfer-Encoding: \"chunked\"\r\n", true, End::Refused),
    ("chunked with a parameter", "Transfer-Encoding: chunked;q=1\r\n", true, End::Refused),
    ("chunked with a vertical tab", "Transfer-Encoding: \x0bchunked\r\n", true, End::Refused),
    ("chunked with a form feed", "Transfer-Encoding: \x0cchunked\r\n", true, End::Refused),
    ("chunked with NUL", "Transfer-Encoding: chunked\0\r\n", true, End::Refused),
    ("chunked with a lone return", "Transfer-Encoding: chunked\rX: y\r\n", true, End::Refused),
    ("chunked with a no-break space", "Transfer-Encoding: \u{a0}chunked\r\n", true, End::Refused),
    ("chunked with a blank before the colon", "Transfer-Encoding : chunked\r\n", true, End::Refused),
    ("chunked with a tab before the colon", "Transfer-Encoding\t: chunked\r\n", true, End::Refused),
    (
        "chunked with a line before it that is blank",
        "X: y\r\n Transfer-Encoding: chunked\r\n",
        true,
        End::Refused,
    ),
    ("chunked folded", "Transfer-Encoding:\r\n chunked\r\n", true, End::Refused),
    ("chunked folded with a tab", "Transfer-Encoding:\r\n\tchunked\r\n", true, End::Refused),
    ("chunked by another name", "Transfer_Encoding: chunked\r\nContent-Length: 24\r\n", false, End::Served),
    ("chunked with a prefix", "X-Transfer-Encoding: chunked\r\nContent-Length: 24\r\n", false, End::Served),
    ("chunked then identity", "Transfer-Encoding: chunked, identity\r\n", true, End::Refused),
    (
        "chunked then identity in two lines",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        true,
        End::Refused,
    ),
    ("identity then chunked", "Transfer-Encoding: identity, chunked\r\n", true, End::Served),
    (
        "chunked twice in two lines",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        true,
        End::Served,
    ),
    (
        "identity then chunked in two lines",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
        true,
        End::Served,
    ),
    ("chunked then a comma", "Transfer-Encoding: chunked,\r\n", true, End::Refused),
    ("chunked then nonsense", "Transfer-Encoding: chunked, cow\r\n", true, End::Refused),
    ("transfer-encoding empty", "Transfer-Encoding: \r\n", true, End::Refused),
    ("transfer-encoding gzip", "Transfer-Encoding: gzip\r\n", true, End::Refused),
    ("no length", "", false, End::Refused),
];

/// Bodies in chunks: name, what is sent, what it means, the end. What follows is in the same bytes.
pub const CHUNKS: &[(&str, &str, &str, End)] = &[
    ("in two", "2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n", "abcde", End::Served),
    ("in upper case", "A\r\n0123456789\r\n0\r\n\r\n", "0123456789", End::Served),
    ("in lower case", "a\r\n0123456789\r\n0\r\n\r\n", "0123456789", End::Served),
    ("with zeros", "00000000002\r\nab\r\n0000\r\n\r\n", "ab", End::Served),
    ("with a blank after the size", "2 \r\nab\r\n0 \t\r\n\r\n", "ab", End::Served),
    ("with an extension", "2;a=b\r\nab\r\n0;c\r\n\r\n", "ab", End::Served),
    ("with a quoted extension", "2;a=\"b;c\"\r\nab\r\n0\r\n\r\n", "ab", End::Served),
    ("with trailers", "2\r\nab\r\n0\r\nX: y\r\nContent-Length: 3\r\n\r\n", "ab", End::Served),
    (
        "with a trailer that says chunked",
        "2\r\nab\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "ab",
        End::Served,
    ),
    ("empty", "0\r\n\r\n", "", End::Served),
    ("with a line feed after the size", "2\nab\r\n0\r\n\r\n", "", End::Broken),
    ("with a line feed after an extension", "2;a\nab\r\n0\r\n\r\n", "", End::Broken),
    ("with line feeds only", "2\nab\n0\n\n", "", End::Broken),
    ("with a line feed after the data", "2\r\nab\n0\r\n\r\n", "", End::Broken),
    ("with a return after the size", "2\rab\r\n0\r\n\r\n", "", End::Broken),
    ("with something else after the data", "2\r\nabXX0\r\n\r\n", "", End::Broken),
    ("with more data than said", "2\r\nabc\r\n0\r\n\r\n", "", End::Broken),
    ("with a minus", "-2\r\nab\r\n0\r\n\r\n", "", End::Broken),
    ("with a plus", "+2\r\nab\r\n0\r\n\r\n", "", End::Broken),
    ("with 0x", "0x2\r\nab\r\n0\r\n\r\n", "", End::Broken),
    ("with an underscore", "0_2\r\nab\r\n0\r\n\r\n", "", End::Broken),
    ("with a blank before the size", " 2\r\nab\r\n0\r\n\r\n", "", End::Broken),
    ("with a tab before the size", "\t2\r\nab\r\n0\r\n\r\n", "", End::Broken),
    ("with a blank within the size", "2 0\r\nab\r\n0\r\n\r\n", "", End::Broken),
    ("with an empty size", "\r\nab\r\n0\r\n\r\n", "", End::Broken),
    ("with only an extension", ";a\r\nab\r\n0\r\n\r\n", "", End::Broken),
    ("with a word", "two\r\nab\r\n0\r\n\r\n", "", End::Broken),
    ("with NUL in the size", "2\0\r\nab\r\n0\r\n\r\n", "", End::Broken),
    ("with a size past 64 bits", "10000000000000002\r\nab\r\n0\r\n\r\n", "", End::Broken),
    ("with a size past 128 bits", "100000000000000000000000000000002\r\nab\r\n0\r\n\r\n", "", End::Broken),
    ("with the greatest size", "FFFFFFFFFFFFFFFF\r\nab\r\n0\r\n\r\n", "", End::Broken),
    ("with half of a last chunk", "2\r\nab\r\n0\r\n", "", End::Broken),
    ("with a last chunk that has data", "2\r\nab\r\n0\r\nab\r\n\r\n", "", End::Broken),
    ("with a trailer that is none", "2\r\nab\r\n0\r\n: x\r\n\r\n", "", End::Broken),
    ("with a trailer without a colon", "2\r\nab\r\n0\r\nabc\r\n\r\n", "", End::Broken),
    ("with a trailer with NUL", "2\r\nab\r\n0\r\nX: \0\r\n\r\n", "", End::Broken),
];

/// Further lines of a head: name, lines, the end. The request is honest otherwise.
pub const HEADS: &[(&str, &str, End)] = &[
    ("nothing else", "", End::Served),
    ("a folded header", "X-Opaque-Id: a\r\n b\r\n", End::Refused),
    ("a header folded with a tab", "X-Opaque-Id: a\r\n\tb\r\n", End::Refused),
    ("a folded header that smuggles", "X: y\r\n \r\n GET /_smuggled HTTP/1.1\r\n", End::Refused),
    ("NUL in a name", "X\0Y: a\r\n", End::Refused),
    ("NUL in a value", "X-Opaque-Id: a\0b\r\n", End::Refused),
    ("a bell in a value", "X-Opaque-Id: a\x07b\r\n", End::Refused),
    ("DEL in a value", "X-Opaque-Id: a\x7fb\r\n", End::Refused),
    ("a lone return in a value", "X-Opaque-Id: a\rX-Injected: b\r\n", End::Refused),
    ("two returns at the end of a line", "X-Opaque-Id: a\r\r\n", End::Refused),
    ("a blank before the colon", "X-Opaque-Id : a\r\n", End::Refused),
    ("a tab before the colon", "X-Opaque-Id\t: a\r\n", End::Refused),
    ("an empty name", ": a\r\n", End::Refused),
    ("a line without a colon", "abc\r\n", End::Refused),
    ("a name in parentheses", "X(Y): a\r\n", End::Refused),
    ("a name with a slash", "X/Y: a\r\n", End::Refused),
    ("a name above ASCII", "X\u{e9}: a\r\n", End::Refused),
    ("a value above ASCII", "X-Opaque-Id: \u{e9}\r\n", End::Served),
    ("a value of blanks", "X-Other:    \t \r\n", End::Served),
    ("a second host", "Host: other\r\n", End::Served),
    ("a host with a path", "Host: es/_cluster\r\n", End::Served),
    ("escapes of line ends in a value", "X-Opaque-Id: a%0d%0aX-Injected: b\r\n", End::Served),
    (
        "an upgrade to h2c",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
        End::Served,
    ),
    (
        "an upgrade to a WebSocket",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n",
        End::Served,
    ),
    (
        "an upgrade to nonsense (pingora, CVE-2026-2833)",
        "Connection: Upgrade\r\nUpgrade: foo\r\n",
        End::Served,
    ),
    ("an upgrade that no Connection names", "Upgrade: h2c\r\n", End::Served),
    ("Connection names the length", "Connection: content-length, content-type\r\n", End::Served),
    ("Connection names the encoding", "Connection: transfer-encoding\r\n", End::Served),
    (
        "Connection names the credentials",
        "Authorization: Basic eDp5\r\nConnection: authorization, es-security-runas-user\r\n",
        End::Served,
    ),
    ("Connection names the host", "Connection: host, x-opaque-id\r\n", End::Served),
    ("Connection names itself", "Connection: connection\r\n", End::Served),
    (
        "Proxy-Connection and Keep-Alive",
        "Proxy-Connection: keep-alive\r\nKeep-Alive: timeout=1\r\n",
        End::Served,
    ),
    ("Trailer names the length", "Trailer: Content-Length\r\n", End::Served),
    (
        "a method that another header names",
        "X-HTTP-Method-Override: DELETE\r\nX-Method-Override: DELETE\r\n",
        End::Served,
    ),
    (
        "a path that another header names",
        "X-Original-URL: /_smuggled\r\nX-Rewrite-URL: /_smuggled\r\n",
        End::Served,
    ),
    (
        "forwarded headers",
        "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Host: other\r\nForwarded: for=1.2.3.4\r\n",
        End::Served,
    ),
];

/// Whole request lines without a body: name, line, what Elasticsearch gets of it, the end.
pub const LINES: &[(&str, &str, &str, End)] = &[
    ("a plain line", "GET /a HTTP/1.1", "GET /a", End::Served),
    ("OPTIONS of all", "OPTIONS * HTTP/1.1", "OPTIONS *", End::Served),
    ("GET of all", "GET * HTTP/1.1", "", End::Refused),
    ("TRACE", "TRACE /a HTTP/1.1", "TRACE /a", End::Served),
    ("HEAD", "HEAD /a HTTP/1.1", "HEAD /a", End::Served),
    ("a method in lower case", "get /a HTTP/1.1", "get /a", End::Served),
    ("a method of one's own", "FOO /a HTTP/1.1", "FOO /a", End::Served),
    ("CONNECT", "CONNECT es:9200 HTTP/1.1", "", End::Refused),
    ("CONNECT with a path", "CONNECT /a HTTP/1.1", "", End::Refused),
    ("the authority as target", "GET es:9200 HTTP/1.1", "", End::Refused),
    ("a relative target", "GET a HTTP/1.1", "", End::Refused),
    ("an absolute target", "GET http://other/a?b HTTP/1.1", "GET /a?b", End::Served),
    ("an absolute target with credentials", "GET http://u:p@other:1/a HTTP/1.1", "GET /a", End::Served),
    ("a double slash", "GET //other/a HTTP/1.1", "GET //other/a", End::Served),
    ("dots", "GET /a/../b/./c HTTP/1.1", "GET /a/../b/./c", End::Served),
    ("encoded dots and slashes", "GET /a/%2e%2e%2fb%5c HTTP/1.1", "GET /a/%2e%2e%2fb%5c", End::Served),
    (
        "escaped line ends",
        "GET /a%0d%0aGET%20/_smuggled%20HTTP/1.1 HTTP/1.1",
        "GET /a%0d%0aGET%20/_smuggled%20HTTP/1.1",
        End::Served,
    ),
    ("an escaped NUL", "GET /a%00b HTTP/1.1", "GET /a%00b", End::Served),
    ("a fragment", "DELETE /a#b HTTP/1.1", "DELETE /a", End::Served),
    ("a fragment in the query", "GET /a?b#c HTTP/1.1", "GET /a?b", End::Served),
    ("angle brackets", "GET /<a> HTTP/1.1", "GET /%3Ca%3E", End::Served),
    ("bytes above ASCII", "GET /\u{e9} HTTP/1.1", "GET /%C3%83%C2%A9", End::Served),
    ("parameters in the path", "GET /a;b=c HTTP/1.1", "GET /a;b=c", End::Served),
    ("a backslash", "GET /a\\b HTTP/1.1", "GET /a\\b", End::Served),
    ("a blank in the target", "GET /a b HTTP/1.1", "", End::Refused),
    ("NUL in the target", "GET /a\0b HTTP/1.1", "", End::Refused),
    ("a tab in the target", "GET /a\tb HTTP/1.1", "", End::Refused),
    ("a lone return in the target", "GET /a\rb HTTP/1.1", "", End::Refused),
    ("a second request line by a lone feed", "GET /a HTTP/1.1\nGET /_smuggled HTTP/1.1", "", End::Refused),
    ("tabs for blanks", "GET\t/a\tHTTP/1.1", "", End::Refused),
    ("two blanks", "GET  /a  HTTP/1.1", "", End::Refused),
    ("a blank at the beginning", " GET /a HTTP/1.1", "", End::Refused),
    ("a method with parentheses", "G(T /a HTTP/1.1", "", End::Refused),
    ("a method with NUL", "G\0T /a HTTP/1.1", "", End::Refused),
    ("no version", "GET /a", "", End::Refused),
    ("a version of its own", "GET /a HTTP/1.2", "", End::Refused),
    ("version 2.0", "GET /a HTTP/2.0", "", End::Refused),
    ("version 9.9", "GET /a HTTP/9.9", "", End::Refused),
    ("version 1.1 with a blank", "GET /a HTTP/ 1.1", "", End::Refused),
    ("version 01.1", "GET /a HTTP/01.1", "", End::Refused),
    ("version in lower case", "GET /a http/1.1", "", End::Refused),
    ("another protocol", "GET /a ICY/1.1", "", End::Refused),
    ("no target", "GET HTTP/1.1", "", End::Refused),
];

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for endpoint in &ENDPOINTS {
        cases.extend(FRAMINGS.iter().map(|framing| framed(endpoint, framing)));
        cases.extend(CHUNKS.iter().map(|chunks| chunked(endpoint, chunks)));
        cases.extend(HEADS.iter().map(|head| headed(endpoint, head)));
    }
    cases.extend(LINES.iter().map(lined));
    // A target that only our eyes on the socket make readable is refused where it comes behind another request.
    cases.extend(LINES.iter().filter(|line| !line.2.contains("/%")).map(pipelined));
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

/// The same behind an honest request on the same connection.
fn pipelined(&(name, line, goes_on_as, end): &(&str, &str, &str, End)) -> Case {
    let mut case = lined(&(name, line, goes_on_as, end));
    let first = b"GET /_first HTTP/1.1\r\nHost: es\r\n\r\n";
    case.raw.splice(0..0, first.iter().copied());
    case.meant.insert(0, Meant { line: "GET /_first".to_owned(), body: Vec::new(), goes_on: true });
    case.name = format!("pipelined {}", case.name);
    case
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
            End::Closed,
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
