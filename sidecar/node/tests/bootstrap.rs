//! The bootstrap checks, by the program itself and an Elasticsearch that is made of a few answers: when it refuses to
//! start, when it ends, when it only warns.

#![allow(missing_docs, reason = "a test")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

/// Longest wait for something that the program does soon.
const SOON: Duration = Duration::from_secs(30);

const SECURED: u8 = 0;
const OPEN: u8 = 1;
/// It has security, and does not know us.
const UNKNOWN_USER: u8 = 2;

/// What is said to a request line.
fn answer(line: &str, state: u8) -> (u16, &'static str) {
    match (line.split(' ').nth(1).unwrap_or_default(), state) {
        (_, UNKNOWN_USER) => (401, r#"{"error":{"type":"security_exception"},"status":401}"#),
        ("/", _) => (200, r#"{"version":{"number":"9.2.0"}}"#),
        (path, SECURED) if path.starts_with("/_xpack") => {
            (200, r#"{"features":{"security":{"enabled":true}}}"#)
        }
        (path, _) if path.starts_with("/_xpack") => (200, r#"{"features":{"security":{"enabled":false}}}"#),
        _ => (503, r#"{"error":{"type":"cluster_block_exception"},"status":503}"#),
    }
}

/// An Elasticsearch with these answers, from now on until the test ends.
fn elasticsearch(at: SocketAddr, state: &Arc<AtomicU8>) {
    let (listener, state) = (TcpListener::bind(at).unwrap(), Arc::clone(state));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, state) = (stream.unwrap(), Arc::clone(&state));
            std::thread::spawn(move || converse(stream, &state));
        }
    });
}

fn converse(mut stream: TcpStream, state: &AtomicU8) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|read| read > 0) {
        let mut header = String::new();
        while reader.read_line(&mut header).is_ok_and(|read| read > 2) {
            header.clear();
        }
        let (status, body) = answer(&line, state.load(Ordering::SeqCst));
        let head = "content-type: application/json\r\nx-elastic-product: Elasticsearch";
        let length = body.len();
        let response = format!("HTTP/1.1 {status} X\r\n{head}\r\ncontent-length: {length}\r\n\r\n{body}");
        if stream.write_all(response.as_bytes()).is_err() {
            return;
        }
        line.clear();
    }
}

fn free() -> SocketAddr {
    let [address] = different();
    address
}

/// Addresses that were free a moment ago. All are held until all are found: one could be found twice otherwise.
fn different<const N: usize>() -> [SocketAddr; N] {
    [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap()).map(|held| held.local_addr().unwrap())
}

/// The program; ended with the test.
struct Sidecar {
    child: Child,
    listen: SocketAddr,
    admin: SocketAddr,
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Sidecar {
    fn start(folder: &Path, upstream: SocketAddr, flags: &[&str]) -> Self {
        let [listen, admin] = different();
        let child = Command::new(env!("CARGO_BIN_EXE_outrigger"))
            .args(["serve", "--workers", "1", "--log-format", "text", "--listen", &listen.to_string()])
            .args(["--admin-listen", &admin.to_string(), "--upstream", &format!("http://{upstream}")])
            .arg("--data-dir")
            .arg(folder.join("data"))
            .args(flags)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { child, listen, admin }
    }

    /// One call; nothing while the port is not there.
    fn call(port: SocketAddr, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(port).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    }

    /// Waits until a call of the admin port says something.
    fn says(&mut self, path: &str, wanted: &[&str]) -> String {
        self.port_says(self.admin, path, wanted)
    }

    /// Waits until a call says something.
    fn port_says(&mut self, port: SocketAddr, path: &str, wanted: &[&str]) -> String {
        let began = Instant::now();
        let mut last = None;
        while began.elapsed() < SOON {
            assert!(self.child.try_wait().unwrap().is_none(), "it has ended; before it said {last:?}");
            last = Self::call(port, path);
            if let Some(text) = last.as_ref().filter(|text| wanted.iter().all(|part| text.contains(part))) {
                return text.clone();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{path} never says {wanted:?}: {last:?}");
    }

    /// Waits until it ends by itself: its status, and what it said.
    fn ends(&mut self) -> (Option<i32>, String) {
        let began = Instant::now();
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None => assert!(began.elapsed() < SOON, "it goes on"),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (status.code(), said)
    }
}

/// A certificate and its key, as flags.
fn tls(folder: &Path) -> Vec<String> {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    let (certificate_file, key_file) = (folder.join("tls.crt"), folder.join("tls.key"));
    std::fs::write(&certificate_file, params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    let text = |path: &Path| path.display().to_string();
    vec!["--tls-certificate".to_owned(), text(&certificate_file), "--tls-key".to_owned(), text(&key_file)]
}

/// Checked as on an address that others reach, without being reached by them.
fn checked(folder: &Path, upstream: SocketAddr) -> Sidecar {
    let mut flags = tls(folder);
    flags.push("--allow-insecure=false".to_owned());
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    Sidecar::start(folder, upstream, &flags)
}

fn printed(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outrigger"));
    command.arg("config").args(arguments).envs(environment.iter().copied()).output().unwrap()
}

#[test]
fn plain_http_is_an_error_where_others_listen_unless_it_is_wanted() {
    for (arguments, environment) in [
        (&["--listen", "0.0.0.0:9201"][..], &[][..]),
        (&["--listen", "[::]:9201", "--allow-insecure=false"], &[]),
        (&["--allow-insecure=false"], &[]),
        (&[], &[("OUTRIGGER_LISTEN", "0.0.0.0:9201")]),
        (&[], &[("OUTRIGGER_ALLOW_INSECURE", "false")]),
    ] {
        let refused = printed(arguments, environment);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(78), "{arguments:?} {environment:?}: {said}");
        assert!(said.contains("plain HTTP") && said.contains("tls_certificate"), "{said}");
        assert!(said.contains("--allow-insecure"), "{said}");
    }
    for (arguments, environment) in [
        (&["--listen", "0.0.0.0:9201", "--allow-insecure"][..], &[][..]),
        (&["--listen", "0.0.0.0:9201"], &[("OUTRIGGER_ALLOW_INSECURE", "true")]),
        (&["--allow-insecure", "--listen", "0.0.0.0:9201"], &[("OUTRIGGER_ALLOW_INSECURE", "false")]),
    ] {
        let allowed = printed(arguments, environment);
        let text = String::from_utf8_lossy(&allowed.stdout).into_owned();
        assert!(allowed.status.success() && text.contains("allow_insecure = true"), "{arguments:?}: {text}");
    }
}

#[test]
fn an_open_elasticsearch_is_not_served_to_others() {
    let (folder, upstream) = (tempfile::tempdir().unwrap(), free());
    let mut sidecar = checked(folder.path(), upstream);
    // As long as nobody knows, it waits.
    sidecar.says("/health/ready", &["503", "Elasticsearch has not answered yet"]);
    elasticsearch(upstream, &Arc::new(AtomicU8::new(OPEN)));
    let (code, said) = sidecar.ends();
    assert_eq!(code, Some(1), "{said}");
    for part in ["no security", "xpack.security.enabled", "--allow-insecure"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn one_that_becomes_open_later_makes_the_node_not_ready() {
    let (folder, upstream, state) = (tempfile::tempdir().unwrap(), free(), Arc::new(AtomicU8::new(SECURED)));
    elasticsearch(upstream, &state);
    let mut sidecar = checked(folder.path(), upstream);
    sidecar.says("/health/ready", &["names and mappings have not been read yet"]);
    sidecar.says("/metrics", &[r#"outrigger_insecure{what="open_elasticsearch"} 0"#]);
    state.store(OPEN, Ordering::SeqCst);
    sidecar.says("/health/ready", &["503", "Elasticsearch has no security"]);
    sidecar.says("/metrics", &[r#"outrigger_insecure{what="open_elasticsearch"} 1"#]);
    state.store(SECURED, Ordering::SeqCst);
    sidecar.says("/health/ready", &["names and mappings have not been read yet"]);
}

#[test]
fn one_that_has_security_later_and_refuses_us_is_no_longer_open_to_anybody() {
    let (folder, upstream, state) = (tempfile::tempdir().unwrap(), free(), Arc::new(AtomicU8::new(OPEN)));
    elasticsearch(upstream, &state);
    let mut sidecar = Sidecar::start(folder.path(), upstream, &[]);
    // Of somebody on this machine nothing is asked.
    sidecar.port_says(sidecar.listen, "/_ivf/_tenants", &["HTTP/1.1 200"]);
    state.store(UNKNOWN_USER, Ordering::SeqCst);
    sidecar.port_says(sidecar.listen, "/_ivf/_tenants", &["HTTP/1.1 401", "security_exception"]);
}

#[test]
fn whoever_is_refused_by_elasticsearch_knows_that_it_is_not_open() {
    let (folder, upstream, state) =
        (tempfile::tempdir().unwrap(), free(), Arc::new(AtomicU8::new(UNKNOWN_USER)));
    elasticsearch(upstream, &state);
    let mut sidecar = checked(folder.path(), upstream);
    sidecar.says("/health/ready", &["503", "Elasticsearch has not answered yet"]);
    sidecar.says("/metrics", &[r#"outrigger_feed_errors_total{kind="contact"}"#]);
    // It was met already: now it is one that became open.
    state.store(OPEN, Ordering::SeqCst);
    sidecar.says("/health/ready", &["503", "Elasticsearch has no security"]);
}

#[test]
fn on_this_machine_alone_it_is_only_warned_of() {
    for flags in [&[][..], &["--allow-insecure"]] {
        let (folder, upstream) = (tempfile::tempdir().unwrap(), free());
        elasticsearch(upstream, &Arc::new(AtomicU8::new(OPEN)));
        let mut sidecar = Sidecar::start(folder.path(), upstream, flags);
        sidecar.says("/health/ready", &["warnings", "Elasticsearch has no security"]);
        let metrics = sidecar.says("/metrics", &[r#"outrigger_insecure{what="open_elasticsearch"} 1"#]);
        assert!(metrics.contains(r#"outrigger_insecure{what="plain_http"} 0"#), "{metrics}");
        assert!(metrics.contains(r#"outrigger_insecure{what="unverified_elasticsearch"} 0"#), "{metrics}");
    }
}
