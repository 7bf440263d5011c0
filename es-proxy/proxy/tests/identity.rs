//! Who a request is from, whatever its headers hold: random values, repeated, in odd case, with blanks and bytes of
//! all kinds. The upstream is an Elasticsearch for which every other spelling of credentials is another user, so
//! that callers who were taken for each other show at once. For long: `scripts/fuzz identity`.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::listener::Listener;
use common::ports::NoHits;
use common::{Upstream, one_index, proxy_from, proxy_on, send};
use es_proxy::{Mode, Modes, TenantConfig, Tenants};
use prometheus_client::registry::Registry;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// A header as it is on the wire: its name and its value, blanks around it included.
type Header = (String, Vec<u8>);

const CREDENTIALS: [&str; 4] =
    ["authorization", "es-security-runas-user", "es-secondary-authorization", "es-client-authentication"];

fn trimmed(value: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !is_blank(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_blank(byte)).map_or(start, |last| last + 1);
    &value[start..end]
}

fn values<'h>(headers: &'h [Header], name: &str) -> Vec<&'h [u8]> {
    let named = headers.iter().filter(|(given, _)| given.eq_ignore_ascii_case(name));
    named.map(|(_, value)| trimmed(value)).collect()
}

/// The user whom credentials name: nobody else's name is the same.
fn user_of(headers: &[Header]) -> Option<String> {
    let given: Vec<_> = CREDENTIALS.iter().map(|name| values(headers, name)).collect();
    let hex = |value: &&[u8]| value.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let name: Vec<String> =
        given.iter().map(|values| values.iter().map(hex).collect::<Vec<_>>().join("+")).collect();
    given.iter().any(|values| !values.is_empty()).then(|| name.join("/"))
}

/// Answers who a request is from.
struct Elasticsearch {
    address: SocketAddr,
    /// Nobody is known.
    refuses: Arc<AtomicBool>,
    /// Requests that were no such question.
    served: Arc<AtomicUsize>,
    _listener: Listener,
}

impl Elasticsearch {
    async fn start() -> Self {
        let (refuses, served) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (refusing, counted) = (Arc::clone(&refuses), Arc::clone(&served));
        let listener = Listener::serving(move |stream| {
            let (refuses, served) = (Arc::clone(&refusing), Arc::clone(&counted));
            async move {
                serve(stream, &refuses, &served).await;
            }
        });
        Self { address: listener.address, refuses, served, _listener: listener }
    }
}

const NOT_KNOWN: &str = r#"{"error":{"type":"security_exception","reason":"unable to authenticate user [a] for REST request [/_security/_authenticate]"},"status":401}"#;

async fn serve(stream: TcpStream, refuses: &AtomicBool, served: &AtomicUsize) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut headers: Vec<Header> = Vec::new();
        let mut line = Vec::new();
        stream.read_until(b'\n', &mut line).await.ok().filter(|count| *count > 0)?;
        let is_question = line.starts_with(b"GET /_security/_authenticate");
        loop {
            line.clear();
            stream.read_until(b'\n', &mut line).await.ok().filter(|count| *count > 0)?;
            let text = line.strip_suffix(b"\r\n")?;
            if text.is_empty() {
                break;
            }
            let colon = text.iter().position(|byte| *byte == b':')?;
            headers.push((String::from_utf8_lossy(&text[..colon]).into_owned(), text[colon + 1..].to_vec()));
        }
        let (status, body) = match user_of(&headers) {
            _ if !is_question => {
                served.fetch_add(1, Ordering::SeqCst);
                ("200 OK", "{}".to_owned())
            }
            Some(user) if !refuses.load(Ordering::SeqCst) => {
                let realm = r#"{"name":"file1","type":"file"}"#;
                let body = format!(
                    r#"{{"username":"{user}","roles":[],"full_name":null,"email":null,"metadata":{{}},"enabled":true,"authentication_realm":{realm},"lookup_realm":{realm},"authentication_type":"realm"}}"#
                );
                ("200 OK", body)
            }
            _ => ("401 Unauthorized\r\nWWW-Authenticate: ApiKey", NOT_KNOWN.to_owned()),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nX-elastic-product: Elasticsearch\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).await.ok()?;
    }
}

/// A value of which there are few, so that they meet again, or one of any bytes.
fn value(random: &mut Xoshiro256PlusPlus) -> Vec<u8> {
    const FEW: &[&[u8]] = &[
        b"",
        b"Basic YTpi",
        b"basic YTpi",
        b"Basic  YTpi",
        b"Basic\tYTpi",
        b"Basic YTpi,Basic YTpj",
        b"Basic YTpi, ApiKey eDp5",
        b"Basic YTpj",
        b"ApiKey eDp5",
        b"ApiKey eDp5=",
        b"Bearer x",
        b"Bearer",
        b"a",
        b"A",
        b"\"a\"",
        b"a,b",
        b"default",
        b"other",
        b"127.0.0.1",
        b"../a",
        b"%61",
        "\u{e4}".as_bytes(),
        b"\xe4",
    ];
    let mut value = if random.gen_bool(0.7) {
        FEW.choose(random).unwrap().to_vec()
    } else {
        let length = *[1, 2, 17, 300, 3_000].choose(random).unwrap();
        (0..length)
            .map(|_| *[b'\t', b' ', b'"', b'\\', b'a', b'Z', 0x80, 0xc3, 0xff].choose(random).unwrap())
            .collect()
    };
    for _ in 0..random.gen_range(0..3) {
        value.insert(0, *[b' ', b'\t'].choose(random).unwrap());
        value.push(*[b' ', b'\t'].choose(random).unwrap());
    }
    value
}

fn headers(random: &mut Xoshiro256PlusPlus) -> Vec<Header> {
    const NAMES: &[&str] = &[
        "authorization",
        "authorization",
        "authorization",
        "es-security-runas-user",
        "es-secondary-authorization",
        "es-client-authentication",
        "x-tenant-id",
        "x-opaque-id",
        "x-forwarded-for",
        "forwarded",
        "x-real-ip",
        "es_security_runas_user",
        "authorization_",
    ];
    let cased = |name: &str, random: &mut Xoshiro256PlusPlus| -> String {
        let upper = |character: char, yes| if yes { character.to_ascii_uppercase() } else { character };
        name.chars().map(|character| upper(character, random.gen_bool(0.3))).collect()
    };
    (0..random.gen_range(0..5))
        .map(|_| (cased(NAMES.choose(random).unwrap(), random), value(random)))
        .collect()
}

/// What must be said of a request with these headers: user, tenant, rule.
fn expected(headers: &[Header]) -> (Option<String>, &'static str, &'static str) {
    let [authorization, run_as, secondary, client] = CREDENTIALS.map(|name| values(headers, name));
    let is_named = authorization.len() == 1 || (run_as.is_empty() && client.len() == 1);
    let is_clear = [&authorization, &run_as, &client].iter().all(|values| values.len() < 2);
    let is_clear = is_named && is_clear && secondary.is_empty();
    let (tenant, rule) = match values(headers, "x-tenant-id").as_slice() {
        [] => ("default", "default"),
        [b"a"] => ("a", "header"),
        _ => ("other", "unknown_header"),
    };
    (user_of(headers).filter(|_| is_clear), tenant, rule)
}

async fn ask(proxy: SocketAddr, headers: &[Header]) -> Result<serde_json::Value, String> {
    let mut request = b"GET /_ivf/_whoami HTTP/1.1\r\nHost: es\r\nConnection: close\r\n".to_vec();
    for (name, value) in headers {
        request.extend_from_slice(&[name.as_bytes(), b":", value, b"\r\n"].concat());
    }
    request.extend_from_slice(b"\r\n");
    let mut stream = TcpStream::connect(proxy).await.map_err(|error| error.to_string())?;
    stream.write_all(&request).await.map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    let reading = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
    reading.map_err(|_| "no answer")?.map_err(|error| error.to_string())?;
    let (start, end) = (answer.iter().position(|b| *b == b'{'), answer.iter().rposition(|b| *b == b'}'));
    let body = start.zip(end).map(|(start, end)| &answer[start..=end]);
    let text = || String::from_utf8_lossy(&answer).into_owned();
    serde_json::from_slice(body.ok_or_else(text)?).map_err(|error| format!("{error}: {}", text()))
}

async fn check(proxy: SocketAddr, headers: &[Header]) -> Result<(), String> {
    let told = ask(proxy, headers).await?;
    let (user, tenant, rule) = expected(headers);
    if user_of(headers).is_none() {
        // Elasticsearch says so itself.
        return if told["status"] == 401 { Ok(()) } else { Err(format!("nobody is told {told}")) };
    }
    let is_right = told["username"].as_str() == user.as_deref()
        && told["verified"] == user.is_some()
        && told["tenant"] == tenant
        && told["rule"] == rule;
    if is_right { Ok(()) } else { Err(format!("{told}, but it is {user:?} of {tenant} by {rule}")) }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[tokio::test]
async fn nobody_is_taken_for_somebody_else() {
    let (seed, only) = (setting("IDENTITY_SEED").unwrap_or(1), setting("IDENTITY_CASE"));
    let end = setting("IDENTITY_MINUTES").map(|minutes| Instant::now() + Duration::from_secs(60 * minutes));
    let text = r#"{"a":{"headers":["a"]},"b":{"users":["nobody"]}}"#;
    let tenants = TenantConfig {
        tenants: serde_json::from_str(text).unwrap(),
        header_from: vec!["127.0.0.0/8".parse().unwrap()],
        ..TenantConfig::default()
    };
    let modes = Arc::new(Modes::new(Mode::Serve));
    let elasticsearch = Elasticsearch::start().await;
    let proxy = proxy_from(
        elasticsearch.address,
        one_index::cluster(false),
        Arc::new(NoHits),
        modes,
        &mut Registry::default(),
        |config| {
            config.tenants = Arc::new(Tenants::new(tenants).unwrap());
            // So few that they are forgotten and asked for again.
            config.identity_cache = 16;
        },
    )
    .await;
    let mut number = only.unwrap_or(0);
    loop {
        let seed_of = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(number);
        let headers = headers(&mut Xoshiro256PlusPlus::seed_from_u64(seed_of));
        if let Err(fault) = check(proxy, &headers).await {
            let shown: Vec<_> =
                headers.iter().map(|(name, value)| format!("{name}:{}", value.escape_ascii())).collect();
            panic!("IDENTITY_SEED={seed} IDENTITY_CASE={number}: {fault}\n{shown:#?}");
        }
        number += 1;
        match end {
            _ if only.is_some() => break,
            Some(end) if Instant::now() < end => {}
            None if number < 500 => {}
            _ => break,
        }
    }
    println!("{number} sets of headers, seed {seed}");
}

/// Without that, a bound tenant whose password is just being changed comes in as nobody's.
#[tokio::test]
async fn whom_elasticsearch_refuses_is_let_in_as_nobody_nowhere_where_tenants_are_bound() {
    let elasticsearch = Elasticsearch::start().await;
    let credentials = |text: &str| vec![("authorization".to_owned(), text.as_bytes().to_vec())];
    let user = user_of(&credentials("Basic YTpi")).unwrap();
    // Of the requests below four are nobody's.
    let limits = r#"{"search":{"requests_per_second":0.001,"burst":4}}"#;
    let text =
        format!(r#"{{"b":{{"users":["{user}"],"bound_to":["b-*"]}},"default":{{"limits":{limits}}}}}"#);
    let tenants = TenantConfig { tenants: serde_json::from_str(&text).unwrap(), ..TenantConfig::default() };
    let modes = Arc::new(Modes::new(Mode::Serve));
    let cluster = one_index::cluster(false);
    let proxy = proxy_on(elasticsearch.address, cluster, modes, &mut Registry::default(), |config| {
        config.tenants = Arc::new(Tenants::new(tenants).unwrap());
        config.identity_ttl = Duration::from_secs(600);
    })
    .await;
    let ask = |path: &'static str, who: &'static str| async move {
        send(proxy, &format!("GET {path} HTTP/1.1\r\nHost: es\r\nAuthorization: {who}\r\n\r\n")).await
    };
    let served = || elasticsearch.served.load(Ordering::SeqCst);
    elasticsearch.refuses.store(true, Ordering::SeqCst);
    for who in ["Basic YTpi", "Basic YTpj"] {
        let refused = ask("/i/_search?q=%22", who).await;
        assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
        assert!(refused.to_lowercase().contains("www-authenticate: apikey\r\n"), "{refused}");
        assert!(refused.contains("for REST request [/i/_search?q=%22]\"},\"status\":401}"), "{refused}");
    }
    assert_eq!(served(), 0, "Elasticsearch might have taken the request itself");

    // What was said of them holds no longer than it is true.
    elasticsearch.refuses.store(false, Ordering::SeqCst);
    let outside = ask("/i/_search", "Basic YTpi").await;
    assert!(
        outside.starts_with("HTTP/1.1 403") && outside.contains("tenant [b] is bound to [b-*]"),
        "{outside}"
    );
    assert_eq!(served(), 0);
    for (path, who) in [("/b-1/_search", "Basic YTpi"), ("/i/_search", "Basic YTpj")] {
        let inside = ask(path, who).await;
        assert!(inside.starts_with("HTTP/1.1 200"), "a request counts once: {inside}");
    }
    assert_eq!(served(), 2);
    assert!(ask("/i/_search", "Basic YTpj").await.starts_with("HTTP/1.1 429"));
}

#[tokio::test]
async fn fields_that_a_caller_does_not_see_in_mappings_are_not_listed() {
    for (mapping, listed) in [
        (r#"{"i":{"mappings":{"properties":{"v":{"dims":2}}}}}"#.to_owned(), true),
        // What is in another's mapping is in nobody's way.
        (
            format!(
                r#"{{"h":{{"mappings":{{"properties":{{"\ud800":{{"dims":{}1{}}}}}}}}},"i":{{"mappings":{{"properties":{{"v":{{"dims":2}}}}}}}}}}"#,
                "[".repeat(500),
                "]".repeat(500)
            ),
            true,
        ),
        // As where a role hides the field.
        (r#"{"i":{"mappings":{"properties":{"k":{"properties":{"v":{"dims":2}}}}}}}"#.to_owned(), false),
        ("{}".to_owned(), false),
    ] {
        let head =
            "HTTP/1.1 200 OK\r\nX-elastic-product: Elasticsearch\r\ncontent-type: application/json\r\n";
        let response = format!("{head}content-length: {}\r\n\r\n{mapping}", mapping.len());
        let upstream = Upstream::answering(Box::leak(response.into_boxed_str())).await;
        let modes = Arc::new(Modes::new(Mode::Serve));
        let cluster = one_index::cluster(false);
        let proxy = proxy_on(upstream.address, cluster, modes, &mut Registry::default(), |_| {}).await;
        let answer =
            send(proxy, "GET /_ivf/i HTTP/1.1\r\nHost: es\r\nAuthorization: Basic YTpi\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(answer.contains(r#""dims":2"#), listed, "{mapping}: {answer}");
        assert_eq!(answer.contains(r#"{"indices":{}}"#), !listed, "{mapping}: {answer}");
        let asked = upstream.request().await;
        assert!(asked.starts_with("GET /i/_mapping?") && asked.contains("Basic YTpi"), "{asked}");
    }
}

#[tokio::test]
async fn whoever_has_a_long_list_of_groups_is_known_too() {
    let groups = vec!["CN=some group,OU=groups,DC=example,DC=org"; 20_000];
    let realm = serde_json::json!({"name": "ad1", "type": "active_directory"});
    let body = serde_json::json!({
        "username": "ann", "roles": ["r"], "metadata": {"ldap_groups": groups}, "enabled": true,
        "authentication_realm": realm, "lookup_realm": realm, "authentication_type": "realm",
    })
    .to_string();
    let head = "HTTP/1.1 200 OK\r\nX-elastic-product: Elasticsearch\r\ncontent-type: application/json\r\n";
    let response = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    let upstream = Upstream::answering(Box::leak(response.into_boxed_str())).await;
    let tenants = r#"{"b":{"users":["bob"],"bound_to":["b-*"]}}"#;
    let tenants = TenantConfig { tenants: serde_json::from_str(tenants).unwrap(), ..TenantConfig::default() };
    let modes = Arc::new(Modes::new(Mode::Serve));
    let cluster = one_index::cluster(false);
    let proxy = proxy_on(upstream.address, cluster, modes, &mut Registry::default(), |config| {
        config.tenants = Arc::new(Tenants::new(tenants).unwrap());
    })
    .await;
    let request = "GET /_ivf/_whoami HTTP/1.1\r\nHost: es\r\nAuthorization: Basic YTpi\r\n\r\n";
    let answer = send(proxy, request).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(r#""username":"ann""#), "{answer}");
}
