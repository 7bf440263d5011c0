//! A node of a real Elasticsearch, from `scripts/es`; ended with the test process at the latest.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use tokio::process::Command;

use crate::Api;

/// See the head of this file.
#[derive(Debug)]
pub struct Elasticsearch {
    name: String,
    url: String,
    pid: AtomicU32,
    /// What the superuser `elastic` is asked with; `None` where there is no security.
    password: Option<String>,
}

fn script() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../scripts/es")
}

pub(crate) async fn es(arguments: &[&str]) -> String {
    let output = Command::new(script()).args(arguments).output().await.expect("scripts/es runs");
    assert!(
        output.status.success(),
        "scripts/es {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("scripts/es prints text")
}

fn pid_of(line: &Value) -> u32 {
    line["pid"].as_u64().and_then(|pid| pid.try_into().ok()).expect("a pid")
}

fn written(security: &Value) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), security.to_string()).expect("it can be written");
    file
}

impl Elasticsearch {
    /// The version that tests run against.
    pub fn version() -> String {
        std::env::var("OUTRIGGER_TEST_ES").unwrap_or_else(|_| "9.2.0".into())
    }

    /// Whether the version that tests run against is `major.minor` or later.
    pub fn version_at_least(major: u32, minor: u32) -> bool {
        let version = Self::version();
        let mut numbers = version.split('.').map(|part| part.parse::<u32>().expect("a version number"));
        (numbers.next(), numbers.next()) >= (Some(major), Some(minor))
    }

    /// Starts an empty node. `label` tells the nodes of several tests apart.
    pub async fn start(label: &str) -> Self {
        Self::start_with(label, &[]).await
    }

    /// Starts an empty node with settings (`key=value`).
    pub async fn start_with(label: &str, settings: &[&str]) -> Self {
        Self::launch(label, &Self::version(), settings, None).await
    }

    /// The same with a version of its own.
    pub async fn start_version(label: &str, version: &str, settings: &[&str]) -> Self {
        Self::launch(label, version, settings, None).await
    }

    /// Starts an empty node with the stand-in for security: `security` has users (among them `elastic`, a
    /// superuser), roles, API keys and tokens as `scripts/es.d/security/Realm.java` says.
    pub async fn start_secured(label: &str, security: &Value) -> Self {
        Self::launch(label, &Self::version(), &[], Some(security)).await
    }

    async fn launch(label: &str, version: &str, settings: &[&str], security: Option<&Value>) -> Self {
        let process = std::process::id().to_string();
        let name = format!("test-{label}-{process}");
        let mut arguments =
            vec!["start", version, "--name", &name, "--fresh", "--heap", "512m", "--exit-with", &process];
        for setting in settings {
            arguments.extend(["--setting", setting]);
        }
        let file = security.map(written);
        let path = file.as_ref().map(|file| file.path().to_str().expect("a plain path").to_owned());
        if let Some(path) = &path {
            arguments.extend(["--security", path]);
        }
        let printed = es(&arguments).await;
        let line: Value = serde_json::from_str(printed.trim()).expect("scripts/es prints JSON");
        let url = line["url"].as_str().expect("a url").to_owned();
        let password = security.map(|told| {
            told["users"]["elastic"]["password"].as_str().expect("the user elastic has a password").to_owned()
        });
        Self { name, url, pid: AtomicU32::new(pid_of(&line)), password }
    }

    /// Gives the node other users, roles and keys; they hold for every request from now on.
    pub async fn set_security(&self, security: &Value) {
        let file = written(security);
        es(&["security", &self.name, file.path().to_str().expect("a plain path")]).await;
    }

    /// Whether this machine's Java can run a version.
    pub async fn can_run(version: &str) -> bool {
        let runnable = es(&["versions"]).await;
        runnable.lines().any(|line| line.starts_with(&format!("{version}\tJava")))
    }

    /// Ends the process and starts another version of it on the same data and port.
    pub async fn upgrade(&self, version: &str) {
        let printed = es(&["restart", &self.name, "--version", version]).await;
        let line: Value = serde_json::from_str(printed.trim()).expect("scripts/es prints JSON");
        self.pid.store(pid_of(&line), Ordering::Relaxed);
    }

    /// Ends the process (hard, when `kill`) and starts it again on the same data and port.
    pub async fn restart(&self, kill: bool) {
        let mut arguments = vec!["restart", self.name.as_str()];
        if kill {
            arguments.push("--kill");
        }
        let printed = es(&arguments).await;
        let line: Value = serde_json::from_str(printed.trim()).expect("scripts/es prints JSON");
        self.pid.store(pid_of(&line), Ordering::Relaxed);
    }

    /// Stops its process as a long pause of its machine does; what is returned lets it go on.
    pub fn pause(&self) -> impl FnOnce() + Send + 'static {
        let pid = self.pid.load(Ordering::Relaxed);
        crate::outrigger::signal(pid, "STOP");
        move || crate::outrigger::signal(pid, "CONT")
    }

    /// `http://host:port`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Calls on it, as the superuser where it has security.
    pub fn api(&self) -> Api {
        let api = self.anonymous();
        self.password.as_deref().map_or(api.clone(), |password| api.as_user("elastic", password))
    }

    /// Calls on it without credentials.
    pub fn anonymous(&self) -> Api {
        Api::new(&self.url)
    }
}

impl Drop for Elasticsearch {
    fn drop(&mut self) {
        forget(&self.name);
    }
}

/// Ends a node or a cluster and removes its data. Not awaited: it also ends with this process.
pub(crate) fn forget(name: &str) {
    let stopped = std::process::Command::new(script()).args(["stop", name, "--kill", "--forget"]).output();
    if let Err(error) = stopped {
        eprintln!("scripts/es stop {name}: {error}");
    }
}
