//! TLS on both sides, seen from raw sockets: who gets in, what a stranger is told, whom we trust, and that
//! certificates change under load without a failed request.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::authority::{Authority, Pair, ask, ask_for, connect, owned, server};
use common::ports::FakeCluster;
use common::{Upstream, metrics, proxy_on, proxy_with, send};
use es_proxy::{Mode, Modes, ProxyConfig, TenantConfig, Tenants};
use es_tls::{
    ClientAuth, Fingerprint, Reload, ServerSettings, ServerTls, TlsMetrics, UpstreamSettings, UpstreamTls,
    Verify, Versions,
};
use prometheus_client::registry::Registry;
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Who the caller is, as Elasticsearch tells it.
const ANN: &str = "HTTP/1.1 200 OK\r\nX-elastic-product: Elasticsearch\r\ncontent-type: application/json\r\ncontent-length: 107\r\n\r\n\
    {\"username\":\"ann\",\"authentication_realm\":{\"name\":\"file1\",\"type\":\"file\"},\"authentication_type\":\"realm\"}     ";
/// The same where a PKI realm took our certificate for it.
const PKI: &str = "HTTP/1.1 200 OK\r\nX-elastic-product: Elasticsearch\r\ncontent-type: application/json\r\ncontent-length: 107\r\n\r\n\
    {\"username\":\"sidecar\",\"authentication_realm\":{\"name\":\"pki1\",\"type\":\"pki\"},\"authentication_type\":\"realm\"}   ";
const OK: &str = "HTTP/1.1 200 OK\r\nX-elastic-product: Elasticsearch\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";

/// A sidecar with these settings in front of `upstream`.
async fn serving(upstream: &Upstream, settings: ServerSettings) -> (SocketAddr, Arc<ServerTls>) {
    let tls = ServerTls::open(settings, &TlsMetrics::default()).unwrap();
    let proxy = proxy_with(upstream.address, |config| config.tls = Some(Arc::clone(&tls))).await;
    (proxy, tls)
}

fn is_ok(answer: &std::io::Result<String>) -> bool {
    answer.as_ref().is_ok_and(|text| text.starts_with("HTTP/1.1 200") && text.ends_with("{}"))
}

#[tokio::test]
async fn both_versions_are_spoken_and_only_the_configured_ones() {
    let (authority, upstream) = (Authority::new(), Upstream::answering(OK).await);
    let pair = authority.issue("sidecar");
    let (proxy, _) = serving(&upstream, server(&pair)).await;
    for version in [&TLS12, &TLS13] {
        let client = authority.client_with(&[version], None, &[b"h2", b"http/1.1"]);
        let answer = ask(&client, proxy).await;
        assert!(is_ok(&answer), "{version:?}: {answer:?}");
        let stream = connect(&client, proxy).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        let old = ask(&authority.client_with(&[version], None, &[b"http/1.0"]), proxy).await;
        assert!(is_ok(&old), "{version:?}, only HTTP/1.0 offered: {old:?}");
    }
    let only_h2 = authority.client_with(&[&TLS13], None, &[b"h2"]);
    assert!(ask(&only_h2, proxy).await.is_err(), "nobody is left to speak a protocol that is not there");

    let settings = ServerSettings { versions: Versions { v12: false, v13: true }, ..server(&pair) };
    let (modern, _) = serving(&upstream, settings).await;
    assert!(is_ok(&ask(&authority.client_with(&[&TLS13], None, &[]), modern).await));
    assert!(ask(&authority.client_with(&[&TLS12], None, &[]), modern).await.is_err());
}

#[tokio::test]
async fn client_certificates_are_wanted_as_configured() {
    let (ours, theirs, upstream) = (Authority::new(), Authority::new(), Upstream::answering(OK).await);
    let sidecar = ours.issue("sidecar");
    let (good, expired, strange) = (ours.issue("feed"), ours.issue_expired("old"), theirs.issue("stranger"));
    for version in [&TLS12, &TLS13] {
        for (client_auth, absent_is_fine) in [(ClientAuth::Required, false), (ClientAuth::Optional, true)] {
            let settings = ServerSettings { client_auth, client_ca: owned(&ours.file()), ..server(&sidecar) };
            let (proxy, _) = serving(&upstream, settings).await;
            let known =
                ask_for(&ours.client_with(&[version], Some(&good), &[]), proxy, "/_ivf/_whoami").await;
            assert!(
                known.as_ref().is_ok_and(|told| told.contains("\"certificate\":\"CN=feed\"")),
                "{known:?}"
            );
            for (shows, fine) in [
                (None, absent_is_fine),
                (Some(&good), true),
                (Some(&expired), false),
                (Some(&strange), false),
            ] {
                let answer = ask(&ours.client_with(&[version], shows, &[]), proxy).await;
                assert_eq!(is_ok(&answer), fine, "{version:?} {client_auth} {shows:?}: {answer:?}");
            }
        }
    }
}

/// What `_whoami` says to a client with this tenant header.
async fn whoami(client: &tokio_rustls::TlsConnector, proxy: SocketAddr, header: &str) -> String {
    let mut stream = connect(client, proxy).await.unwrap();
    let request = format!(
        "GET /_ivf/_whoami HTTP/1.1\r\nHost: es\r\n{header}Connection: close\r\nX-Opaque-Id: 1\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn a_certificate_says_on_whose_account() {
    let (authority, upstream) = (Authority::new(), Upstream::answering(OK).await);
    let settings = ServerSettings {
        client_auth: ClientAuth::Optional,
        client_ca: owned(&authority.file()),
        ..server(&authority.issue("sidecar"))
    };
    let tls = ServerTls::open(settings, &TlsMetrics::default()).unwrap();
    let text = r#"{"subject":{"certificates":["CN=feed"]},"name":{"certificates":["batch-*"]},
        "dns":{"certificates":["DNS:*.acme.example"]},"address":{"certificates":["IP Address:10.9.8.7"]},
        "gate":{"headers":["gate"]}}"#;
    let tenants = TenantConfig {
        tenants: serde_json::from_str(text).unwrap(),
        header_from: vec!["127.0.0.0/8".parse().unwrap()],
        unverified: serde_json::from_str(r#"{"other":{"requests_per_second":1}}"#).unwrap(),
        ..TenantConfig::default()
    };
    let proxy = proxy_with(upstream.address, |config| {
        config.tls = Some(tls);
        config.tenants = Arc::new(Tenants::new(tenants).unwrap());
    })
    .await;
    let issue = |name: &str, hosts: &[&str]| authority.issue_for(name, hosts, false);
    let gate = "X-Tenant-Id: gate\r\n";
    for (shows, header, tenant, rule) in [
        (Some(issue("feed", &["x"])), "", "subject", "certificate"),
        // What was verified stands before what is only said.
        (Some(issue("feed", &["x"])), gate, "subject", "certificate"),
        (Some(issue("batch-7", &["x"])), "", "name", "certificate"),
        (Some(issue("stranger-1", &["eu.acme.example"])), "", "dns", "certificate"),
        (Some(issue("stranger-2", &["10.9.8.7"])), "", "address", "certificate"),
        (Some(issue("stranger-3", &["acme.example.org"])), "", "default", "default"),
        (Some(issue("stranger-4", &["x"])), gate, "gate", "header"),
        (Some(issue("DNS:eu.acme.example", &["x"])), "", "default", "default"),
        (None, "", "default", "default"),
        (None, gate, "gate", "header"),
    ] {
        let told = whoami(&authority.client_with(&[&TLS13], shows.as_ref(), &[]), proxy, header).await;
        let expected = format!(r#""tenant":"{tenant}","rule":"{rule}""#);
        assert!(told.contains(&expected), "{shows:?} {header}: {told}");
        assert_eq!(told.contains("limits_of_address"), rule == "default", "{told}");
    }
}

#[tokio::test]
async fn a_plain_request_is_told_that_this_is_https() {
    let (authority, upstream) = (Authority::new(), Upstream::answering(OK).await);
    let (proxy, _) = serving(&upstream, server(&authority.issue("sidecar"))).await;
    // Larger than what the kernel buffers: the answer arrives all the same.
    let body = "x".repeat(100_000);
    let request = format!("POST /_bulk HTTP/1.1\r\nHost: es\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let answer = send(proxy, &request).await;
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    assert!(answer.contains("connection: close") && answer.contains("speaks HTTPS"), "{answer}");
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    assert!(body.contains("\"root_cause\"") && body.ends_with("\"status\":400}"), "{body}");
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn slow_handshakes_end_and_are_in_nobodys_way() {
    let (authority, upstream) = (Authority::new(), Upstream::answering(OK).await);
    let tls = ServerTls::open(server(&authority.issue("sidecar")), &TlsMetrics::default()).unwrap();
    let limit = Duration::from_secs(2);
    let mut registry = Registry::default();
    let proxy = proxy_on(
        upstream.address,
        FakeCluster::empty(),
        Arc::new(Modes::new(Mode::Serve)),
        &mut registry,
        |config: &mut ProxyConfig| {
            (config.tls, config.tls_handshake_timeout, config.workers) = (Some(tls), limit, 1);
        },
    )
    .await;
    // Some say nothing, some begin a record that never ends.
    let began = Instant::now();
    let mut slow = Vec::new();
    for number in 0..100 {
        let mut stream = TcpStream::connect(proxy).await.unwrap();
        if number % 2 == 0 {
            stream.write_all(&[0x16, 3, 1, 1, 0, 1, 0]).await.unwrap();
        }
        slow.push(stream);
    }
    let answer = tokio::time::timeout(limit, ask(&authority.client(), proxy)).await;
    assert!(is_ok(&answer.expect("answered while the others wait")));
    for mut stream in slow {
        // An end or a reset; what counts is that it comes.
        let _ =
            tokio::time::timeout(Duration::from_secs(10), stream.read(&mut [0])).await.expect("it is closed");
    }
    assert!(began.elapsed() >= limit);
    let text = metrics(&registry);
    assert!(text.contains("outrigger_tls_handshakes_total{outcome=\"timeout\"} 100"), "{text}");
    assert!(text.contains("outrigger_tls_handshakes_total{outcome=\"ok\"} 1\n"), "{text}");
    assert!(text.contains("outrigger_tls_handshakes_in_progress 0"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_change_under_load_without_a_failed_request() {
    let (authority, upstream) = (Authority::new(), Upstream::answering(OK).await);
    let (first, second) = (authority.issue("first"), authority.issue("second"));
    let used = authority.issue("used");
    used.become_as(&first);
    let (proxy, tls) = serving(&upstream, server(&used)).await;
    let client = authority.client();
    let mut old = connect(&client, proxy).await.unwrap();

    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (client, stop, asked) = (client.clone(), Arc::clone(&stop), Arc::clone(&asked));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let answer = ask(&client, proxy).await;
                    assert!(is_ok(&answer), "{answer:?}");
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for round in 0..10 {
        let before = asked.load(Ordering::Relaxed);
        match round % 3 {
            0 => used.become_as(&second),
            // The certificate of one, the key of the other.
            1 => drop(std::fs::copy(&first.certificate, &used.certificate).unwrap()),
            _ => std::fs::write(&used.key, "broken").unwrap(),
        }
        tls.reload_if_changed();
        while asked.load(Ordering::Relaxed) < before + 20 {
            tokio::task::yield_now().await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    for each in load {
        each.await.unwrap();
    }
    let new = connect(&client, proxy).await.unwrap();
    assert_eq!(new.get_ref().1.peer_certificates().unwrap()[0], second.leaf());
    old.write_all(b"GET / HTTP/1.1\r\nHost: es\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    old.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "connections outlive the certificate: {answer}");
}

#[tokio::test]
async fn sessions_are_resumed_until_the_certificate_changes() {
    let (authority, upstream) = (Authority::new(), Upstream::answering(OK).await);
    let (used, other) = (authority.issue("used"), authority.issue("other"));
    let (proxy, tls) = serving(&upstream, server(&used)).await;
    let client = authority.client();
    let kind = async |client| {
        let mut stream = connect(client, proxy).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: es\r\nConnection: close\r\n\r\n").await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.unwrap();
        stream.get_ref().1.handshake_kind().unwrap()
    };
    assert_eq!(kind(&client).await, rustls::HandshakeKind::Full);
    assert_eq!(kind(&client).await, rustls::HandshakeKind::Resumed);
    used.become_as(&other);
    tls.reload_if_changed();
    assert_eq!(kind(&client).await, rustls::HandshakeKind::Full);
}

/// What a client gets where Elasticsearch is at `node` and trusted by these settings.
async fn through(node: SocketAddr, settings: UpstreamSettings) -> String {
    let tls = UpstreamTls::open(settings, &TlsMetrics::default()).unwrap();
    through_tls(node, tls).await
}

async fn through_tls(node: SocketAddr, tls: Arc<UpstreamTls>) -> String {
    let proxy = proxy_with(node, |config| {
        config.upstream[0].tls = true;
        config.upstream_tls = Some(tls);
    })
    .await;
    send(proxy, "GET /_cat HTTP/1.1\r\nHost: es\r\nX-Opaque-Id: me\r\n\r\n").await
}

#[track_caller]
fn refused(answer: &str, why: &str) {
    assert!(answer.starts_with("HTTP/1.1 502 Bad Gateway"), "{answer}");
    assert!(answer.contains("\"type\":\"ssl_handshake_exception\"") && answer.contains(why), "{answer}");
    assert!(answer.to_lowercase().contains("x-opaque-id: me\r\n"), "{answer}");
}

#[track_caller]
fn served(answer: &str) {
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn elasticsearch_is_trusted_by_authority_or_fingerprint_and_else_refused() {
    let (ours, theirs, upstream) = (Authority::new(), Authority::new(), Upstream::answering(OK).await);
    let pair = ours.issue("es");
    let node = Authority::node(&pair, upstream.address, None).await;
    let by_ca =
        |authority: &Authority| UpstreamSettings { ca: owned(&authority.file()), ..Default::default() };
    let by_print =
        |der: &[u8]| UpstreamSettings { fingerprint: Some(Fingerprint::of(der)), ..Default::default() };

    served(&through(node, by_ca(&ours)).await);
    refused(&through(node, by_ca(&theirs)).await, "UnknownIssuer");
    served(&through(node, by_print(&pair.leaf())).await);
    served(&through(node, by_print(&ours.der())).await);
    refused(&through(node, by_print(&theirs.der())).await, "fingerprint");
    served(&through(node, UpstreamSettings { verify: Verify::None, ..Default::default() }).await);

    let named =
        Authority::node(&ours.issue_for("named", &["es.example"], false), upstream.address, None).await;
    refused(&through(named, by_ca(&ours)).await, "127.0.0.1");
    served(&through(named, UpstreamSettings { verify: Verify::Certificate, ..by_ca(&ours) }).await);

    let expired = Authority::node(&ours.issue_expired("expired"), upstream.address, None).await;
    refused(&through(expired, by_ca(&ours)).await, "expired");

    // As Elasticsearch without TLS answers what is no HTTP to it.
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = plain.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = plain.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        stream.read_to_end(&mut Vec::new()).await
    });
    refused(&through(address, by_ca(&ours)).await, "no TLS connection to Elasticsearch");
}

/// Elasticsearch is verified by the authority, and shown what it issued.
fn showing(authority: &Authority, pair: Option<Pair>) -> UpstreamSettings {
    let identity = pair.map(|pair| (pair.certificate, pair.key));
    UpstreamSettings { ca: owned(&authority.file()), identity, ..Default::default() }
}

#[tokio::test]
async fn elasticsearch_may_ask_for_our_certificate() {
    let (ours, theirs, upstream) = (Authority::new(), Authority::new(), Upstream::answering(ANN).await);
    let node = Authority::node(&ours.issue("es"), upstream.address, Some(&ours)).await;
    let answer = through(node, showing(&ours, Some(ours.issue("sidecar")))).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("ann"), "{answer}");
    for shown in [None, Some(theirs.issue("stranger"))] {
        let answer = through(node, showing(&ours, shown)).await;
        assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    }
}

#[tokio::test]
async fn no_client_is_served_under_our_own_certificate() {
    // A PKI realm that comes before the others accepts the certificate, whatever the request carries.
    let (ours, upstream) = (Authority::new(), Upstream::answering(PKI).await);
    let node = Authority::node(&ours.issue("es"), upstream.address, Some(&ours)).await;
    let answer = through(node, showing(&ours, Some(ours.issue("sidecar")))).await;
    assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("security_exception"), "{answer}");
    assert!(answer.contains("www-authenticate: Basic realm=\"security\", charset=\"UTF-8\"\r\n"), "{answer}");
    let asked = upstream.request().await;
    assert!(asked.starts_with("GET /_security/_authenticate "), "{asked}");
    let next = tokio::time::timeout(Duration::from_millis(300), upstream.request()).await;
    assert!(next.is_err(), "the client's request never left: {next:?}");
}

/// Also where we must ask who it is because Elasticsearch might take our certificate for it.
#[tokio::test]
async fn a_second_set_of_credentials_makes_no_bound_tenant_an_unbound_one() {
    let (ours, upstream) = (Authority::new(), Upstream::answering(ANN).await);
    let node = Authority::node(&ours.issue("es"), upstream.address, Some(&ours)).await;
    let settings = showing(&ours, Some(ours.issue("sidecar")));
    let tls = UpstreamTls::open(settings, &TlsMetrics::default()).unwrap();
    let tenants = r#"{"b":{"users":["ann"],"bound_to":["b-*"]}}"#;
    let tenants = TenantConfig { tenants: serde_json::from_str(tenants).unwrap(), ..TenantConfig::default() };
    let proxy = proxy_with(node, |config| {
        config.upstream[0].tls = true;
        config.upstream_tls = Some(tls);
        config.tenants = Arc::new(Tenants::new(tenants).unwrap());
    })
    .await;
    let head = "DELETE /secret HTTP/1.1\r\nHost: es\r\nAuthorization: Basic YTpi\r\n";
    for (more, reason) in [
        ("", "tenant [b] is bound to [b-*]"),
        ("es-secondary-authorization: Basic YTpi\r\n", "it is not clear who sends the request"),
    ] {
        let refused = send(proxy, &format!("{head}{more}\r\n")).await;
        assert!(refused.starts_with("HTTP/1.1 403") && refused.contains(reason), "{more}: {refused}");
        assert!(upstream.request().await.starts_with("GET /_security/_authenticate "));
    }
    let next = tokio::time::timeout(Duration::from_millis(300), upstream.request()).await;
    assert!(next.is_err(), "the client's request never left: {next:?}");
}

#[tokio::test]
async fn authorities_of_elasticsearch_are_read_again() {
    let (first, second, upstream) = (Authority::new(), Authority::new(), Upstream::answering(OK).await);
    let node = Authority::node(&second.issue("es"), upstream.address, None).await;
    let file = first.file();
    let settings = UpstreamSettings { ca: Some(file.clone()), ..Default::default() };
    let tls = UpstreamTls::open(settings, &TlsMetrics::default()).unwrap();
    refused(&through_tls(node, Arc::clone(&tls)).await, "UnknownIssuer");
    std::fs::write(&file, "broken").unwrap();
    tls.reload_if_changed();
    refused(&through_tls(node, Arc::clone(&tls)).await, "UnknownIssuer");
    std::fs::copy(second.file(), &file).unwrap();
    tls.reload_if_changed();
    served(&through_tls(node, tls).await);
}

#[tokio::test]
async fn large_bodies_cross_both_sides() {
    let (authority, upstream) = (Authority::new(), Upstream::streaming(8 << 20).await);
    let pair = authority.issue("both");
    let node = Authority::node(&pair, upstream.address, None).await;
    let metrics = TlsMetrics::default();
    let upstream_tls =
        UpstreamTls::open(UpstreamSettings { ca: owned(&authority.file()), ..Default::default() }, &metrics);
    let server_tls = ServerTls::open(server(&pair), &metrics).unwrap();
    let proxy = proxy_with(node, |config| {
        config.upstream[0].tls = true;
        config.upstream_tls = Some(upstream_tls.unwrap());
        config.tls = Some(server_tls);
    })
    .await;
    let mut stream = connect(&authority.client(), proxy).await.unwrap();
    let body = vec![b'y'; 3 << 20];
    let head = format!(
        "POST /_bulk HTTP/1.1\r\nHost: es\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.len() > 8 << 20 && answer.ends_with(b"xxxx"), "{}", answer.len());
    assert!(upstream.request().await.ends_with("yyyy"));
}
