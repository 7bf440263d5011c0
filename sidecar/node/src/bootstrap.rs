//! Bootstrap checks, as Elasticsearch has them: what is fine while clients come from this machine alone, plain HTTP
//! and an Elasticsearch without security, is an error where they come from elsewhere, unless `allow_insecure` says
//! that it is wanted. Plain HTTP is a matter of the configuration (`config::check`). Whether Elasticsearch is open is
//! known when it has answered: until then no request is served; if it is open, the program ends. One that becomes open
//! later makes this node not ready, for ending then would take down what works.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::anyhow;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use shard_sync::Openness;
use tokio::sync::watch;

use crate::config::Config;

const OPEN: &str = "Elasticsearch has no security: whoever reaches it may read and change everything";
const UNVERIFIED: &str = "Elasticsearch's certificate is not verified (upstream_verify = none)";

/// Whether it may be open to everybody.
pub(crate) fn may_be_insecure(allowed: Option<bool>, listen: SocketAddr) -> bool {
    allowed.unwrap_or(is_local(listen))
}

fn is_local(listen: SocketAddr) -> bool {
    listen.ip().to_canonical().is_loopback()
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    what: &'static str,
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Bootstrap {
    /// It is an error if Elasticsearch is open.
    is_enforced: bool,
    /// Shared with the request path.
    held_back: Arc<AtomicBool>,
    openness: watch::Receiver<Openness>,
    /// What is unsafe as long as the process runs.
    by_choice: Vec<String>,
    open: Gauge,
}

impl Bootstrap {
    /// The checks of this configuration. Where they are enforced requests are held back from now on.
    pub(crate) fn new(config: &Config, openness: watch::Receiver<Openness>, registry: &mut Registry) -> Self {
        let (listen, held_back) = (config.proxy.listen, Arc::clone(&config.proxy.held_back));
        let is_enforced = !may_be_insecure(config.allow_insecure, listen);
        held_back.store(is_enforced, Ordering::Relaxed);
        let is_plain = config.proxy.tls.is_none() && !is_local(listen);
        let plain = format!("clients speak plain HTTP to {listen} (allow_insecure): set tls_certificate");
        let by_choice = [(config.tls.is_unverified(), UNVERIFIED.to_owned()), (is_plain, plain)];
        let insecure = Family::<Labels, Gauge>::default();
        let gauge = |what| insecure.get_or_create(&Labels { what }).clone();
        gauge("unverified_elasticsearch").set(i64::from(config.tls.is_unverified()));
        gauge("plain_http").set(i64::from(is_plain));
        let open = gauge("open_elasticsearch");
        let text = "1 for what makes this node unsafe; plain HTTP on a loopback address does not";
        registry.register("outrigger_insecure", text, insecure);
        let by_choice = by_choice.into_iter().filter(|(is_so, _)| *is_so).map(|(_, what)| what).collect();
        Self { is_enforced, held_back, openness, by_choice, open }
    }

    /// Follows what is known of Elasticsearch. Ends only with the error that ends the program.
    pub(crate) async fn follow(&self) -> anyhow::Error {
        for warning in &self.by_choice {
            tracing::warn!("{warning}");
        }
        let mut openness = self.openness.clone();
        let mut is_first = true;
        while let Ok(now) = openness.wait_for(|now| *now != Openness::Unknown).await.map(|now| *now) {
            let is_open = now == Openness::Open;
            self.open.set(i64::from(is_open));
            match (is_open && self.is_enforced, is_first) {
                (true, true) => {
                    return anyhow!(
                        "{OPEN}, also through this sidecar. Turn on its security (xpack.security.enabled), listen on \
                         127.0.0.1, or say --allow-insecure"
                    );
                }
                (true, false) => tracing::error!("{OPEN}; it was not so before. This node is not ready"),
                (false, _) => self.held_back.store(false, Ordering::Relaxed),
            }
            is_first = false;
            if openness.changed().await.is_err() {
                break;
            }
        }
        // The feed has ended, and the program ends with it.
        std::future::pending().await
    }

    /// Why this node is not to be used, if Elasticsearch is open and must not be.
    pub(crate) fn not_ready(&self) -> Option<String> {
        (self.is_enforced && self.is_open()).then(|| format!("{OPEN} (allow_insecure is not set)"))
    }

    /// What is unsafe now.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let open = self.is_open().then(|| OPEN.to_owned());
        self.by_choice.iter().cloned().chain(open).collect()
    }

    fn is_open(&self) -> bool {
        *self.openness.borrow() == Openness::Open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks(is_enforced: bool) -> (watch::Sender<Openness>, Bootstrap) {
        let (known, openness) = watch::channel(Openness::Unknown);
        let held_back = Arc::new(AtomicBool::new(is_enforced));
        let (by_choice, open) = Default::default();
        (known, Bootstrap { is_enforced, held_back, openness, by_choice, open })
    }

    /// Lets the checks see what is known.
    async fn see(following: &mut std::pin::Pin<&mut impl Future<Output = anyhow::Error>>) -> Option<String> {
        tokio::select! {
            biased;
            error = following => Some(error.to_string()),
            () = tokio::task::yield_now() => None,
        }
    }

    #[tokio::test]
    async fn an_open_elasticsearch_ends_the_program_when_it_is_met_and_not_later() {
        let (known, checks) = checks(true);
        let mut following = std::pin::pin!(checks.follow());
        assert!(see(&mut following).await.is_none() && checks.held_back.load(Ordering::Relaxed));
        known.send_replace(Openness::Open);
        let told = see(&mut following).await.unwrap();
        assert!(told.contains("--allow-insecure") && told.contains("xpack.security.enabled"), "{told}");
        assert!(checks.held_back.load(Ordering::Relaxed), "nobody got through");

        let (known, checks) = self::checks(true);
        let mut following = std::pin::pin!(checks.follow());
        known.send_replace(Openness::Guarded);
        assert!(see(&mut following).await.is_none() && !checks.held_back.load(Ordering::Relaxed));
        assert!(checks.not_ready().is_none() && checks.warnings().is_empty());
        known.send_replace(Openness::Open);
        assert!(see(&mut following).await.is_none());
        assert_eq!((checks.open.get(), checks.warnings().len()), (1, 1));
        assert!(checks.not_ready().unwrap().contains("no security"));
        known.send_replace(Openness::Guarded);
        assert!(see(&mut following).await.is_none() && checks.not_ready().is_none());
        assert_eq!(checks.open.get(), 0);
    }

    #[tokio::test]
    async fn where_it_is_allowed_it_is_warned_of() {
        let (known, checks) = checks(false);
        let mut following = std::pin::pin!(checks.follow());
        known.send_replace(Openness::Open);
        assert!(see(&mut following).await.is_none() && checks.not_ready().is_none());
        assert_eq!((checks.open.get(), checks.warnings()), (1, vec![OPEN.to_owned()]));
    }
}
