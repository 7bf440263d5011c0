//! A running `outrigger`, with its data directory and its log.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::{Api, eventually};

/// See the head of this file.
#[derive(Debug)]
pub struct Outrigger {
    child: Child,
    url: String,
    admin_url: String,
    log: PathBuf,
}

/// The program beside the test binary (`target/<profile>/deps/<test>`).
fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("the test binary has a path");
    let program = test.ancestors().nth(2).expect("target/<profile>").join("outrigger");
    assert!(program.exists(), "{} is missing: cargo build -p outrigger", program.display());
    program
}

impl Outrigger {
    /// Starts it on free ports and waits until it is ready.
    pub async fn start(elasticsearch: &str, data_dir: &Path) -> Self {
        Self::start_with(elasticsearch, data_dir, &[]).await
    }

    /// The same with further flags.
    pub async fn start_with(elasticsearch: &str, data_dir: &Path, flags: &[&str]) -> Self {
        let this = Self::spawn(elasticsearch, data_dir, flags).await;
        this.ready().await;
        this
    }

    /// Starts it and waits only until it serves.
    pub async fn spawn(elasticsearch: &str, data_dir: &Path, flags: &[&str]) -> Self {
        let file = tempfile::Builder::new().prefix("outrigger-test-").suffix(".log").tempfile();
        let (file, log) = file.expect("the log can be made").keep().expect("the log can be kept");
        // Through a shell that makes a file which may not grow an error, not the end (see `limit_files`).
        let child = Command::new("sh")
            .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
            .arg(binary())
            .arg("serve")
            .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .args([
                "--upstream",
                elasticsearch,
                "--snapshot-interval",
                "1s",
                "--log",
                "info,shard_sync=debug",
            ])
            .arg("--data-dir")
            .arg(data_dir)
            .args(flags)
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .expect("outrigger starts");
        let mut this = Self { child, url: String::new(), admin_url: String::new(), log };
        let (listen, admin) = eventually("outrigger serves", Duration::from_secs(20), || {
            let ports = serving(&this.log());
            assert!(ports.is_some() || this.is_running(), "outrigger has ended");
            std::future::ready(ports)
        })
        .await;
        this.url = format!("http://{listen}");
        this.admin_url = format!("http://{admin}");
        this
    }

    /// Waits until every index is learnt.
    pub async fn ready(&self) {
        let admin = self.admin();
        eventually("outrigger is ready", Duration::from_secs(120), || async {
            let reply = admin.try_get("/health/ready").await?;
            (reply.status == 200 && reply.body["learning"].is_null()).then_some(())
        })
        .await;
    }

    /// Waits until `index` is learnt and searchable here; its report.
    pub async fn learnt(&self, index: &str) -> Value {
        self.learnt_by(&self.api(), index).await
    }

    /// The same, asked by calls that carry credentials.
    pub async fn learnt_by(&self, api: &Api, index: &str) -> Value {
        let path = format!("/_ivf/{index}/_stats");
        eventually(&format!("[{index}] is learnt"), Duration::from_secs(120), || async {
            let reply = api.try_get(&path).await?;
            (reply.status == 200 && reply.body["ready"] == true).then_some(reply.body)
        })
        .await
    }

    /// `http://host:port` of the Elasticsearch port.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Calls on the Elasticsearch port.
    pub fn api(&self) -> Api {
        Api::new(&self.url)
    }

    /// The value of a metric, of which labels are a part.
    pub async fn metric(&self, name: &str) -> u64 {
        let metrics = self.admin().get("/metrics").await.text;
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = value.unwrap_or_else(|| panic!("no {name} in {metrics}"));
        value.parse().unwrap_or_else(|_| panic!("{name} is {value}"))
    }

    /// Calls on the admin port.
    pub fn admin(&self) -> Api {
        Api::new(&self.admin_url)
    }

    /// Ends it as `kill -9` does.
    pub fn kill(mut self) {
        self.child.kill().expect("outrigger can be killed");
        self.child.wait().expect("outrigger ends");
    }

    /// Ends it as an operator does, and waits; panics when it does not end well.
    pub fn terminate(mut self) {
        let asked = Command::new("kill").arg(self.child.id().to_string()).status().expect("kill runs");
        assert!(asked.success());
        let status = self.child.wait().expect("outrigger ends");
        assert!(status.success(), "outrigger ended with {status}; log: {}", self.log.display());
    }

    /// Sends a signal: `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// From now on no file of it may grow beyond so many bytes, as on a full disk; `None`: as it was.
    pub fn limit_files(&self, bytes: Option<u64>) {
        let limit = bytes.map_or("unlimited".to_owned(), |bytes| bytes.to_string());
        let process = self.child.id().to_string();
        let limited =
            Command::new("prlimit").args(["--pid", &process, &format!("--fsize={limit}:")]).output();
        assert!(limited.is_ok_and(|output| output.status.success()), "prlimit works");
    }

    /// Whether the process is still there.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The file that it logs to.
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Outrigger {
    fn drop(&mut self) {
        // Already ended where the test ended it.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("--- end of outrigger's log ({}):", self.log.display());
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        } else {
            // Only kept where a test failed.
            let _ = std::fs::remove_file(&self.log);
        }
    }
}

/// Sends a signal to a process that a test started. It may have ended meanwhile.
pub(crate) fn signal(pid: u32, name: &str) {
    let sent =
        Command::new("kill").args([format!("-{name}"), pid.to_string()]).stderr(Stdio::null()).status();
    assert!(sent.is_ok(), "kill runs");
}

/// The two addresses that it got, once its log says that it serves.
fn serving(log: &str) -> Option<(String, String)> {
    let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let said = lines.find(|line| line["message"] == "serving")?;
    let address = |name: &str| said[name].as_str().map(str::to_owned);
    Some((address("listen")?, address("admin_listen")?))
}
