//! The audit log: one line of JSON for each decision about a request, and for each change of what a tenant
//! may do. Who, on whose account, what, decided how and why; never a body, a query or a credential.
//!
//! Keys are those of Elasticsearch's own audit log where it has them. Lines go through a bounded queue to a
//! thread of their own ([`writer`]): a slow disk slows no request, and what is lost is counted, in a metric
//! and in the log itself. The file is rotated by others: on SIGHUP it is opened again.

mod events;
mod line;
mod writer;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use http::Response;
use http::request::Parts;
use prometheus_client::registry::Registry;

use crate::body::ResponseBody;
use crate::door::{Caller, Peer};
use crate::telemetry::Served;
pub use events::AuditEvents;
use events::Event;
use line::Line;
use writer::Writer;

/// Where the lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditTarget {
    /// Standard output; the log of the program itself goes to standard error.
    Stdout,
    /// The end of a file.
    File(PathBuf),
}

impl std::str::FromStr for AuditTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("it needs the name of a file, or stdout".into()),
            "stdout" => Ok(Self::Stdout),
            path => Ok(Self::File(path.into())),
        }
    }
}

impl std::fmt::Display for AuditTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stdout => f.write_str("stdout"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// See the head of this file.
pub struct AuditLog {
    events: AuditEvents,
    /// Which of several sidecars this is.
    node: Box<str>,
    writer: Writer,
}

/// A change of what a tenant may do. Nothing in it may be a secret.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// Who did it, as far as that is known: a user, the admin port.
    pub by: &'a str,
    /// From where.
    pub origin: Option<SocketAddr>,
    /// Whose.
    pub tenant: &'a str,
    /// What: `limits`, `quotas`, a request that was granted.
    pub what: &'a str,
    /// What it was, as JSON.
    pub from: &'a str,
    /// What it is now, as JSON.
    pub to: &'a str,
}

/// What a refusal says beyond its word; travels with the response to here.
#[derive(Clone, Debug)]
pub(crate) struct Detail(pub(crate) Arc<str>);

/// What is kept of a request until it is decided.
pub(crate) struct Asked {
    method: http::Method,
    path: String,
    opaque_id: Option<http::HeaderValue>,
    /// Once it is let in.
    pub(crate) caller: Option<Caller>,
}

impl Asked {
    pub(crate) fn of(parts: &Parts) -> Self {
        Self {
            method: parts.method.clone(),
            path: line::shown_path(parts.uri.path()),
            opaque_id: parts.headers.get("x-opaque-id").cloned(),
            caller: None,
        }
    }
}

impl AuditLog {
    /// Opens the target and starts the writing thread.
    pub fn start(
        target: AuditTarget,
        events: AuditEvents,
        node: &str,
        registry: &mut Registry,
    ) -> io::Result<Self> {
        Ok(Self { events, node: node.into(), writer: Writer::start(target, registry)? })
    }

    /// Opens the file again, before the next line at the latest.
    pub fn reopen(&self) {
        self.writer.reopen();
    }

    /// Writes what is queued and ends; later lines are lost.
    pub fn close(&self) {
        self.writer.close();
    }

    /// A request was decided about.
    pub(crate) fn decided(
        &self,
        peer: &Peer,
        asked: &Asked,
        route: &str,
        (response, served): (&Response<ResponseBody>, Served),
    ) {
        let status = response.status().as_u16();
        let event = Event::of(served, status);
        if !self.events.has(event) {
            return;
        }
        let mut line = Line::new(event.name(), &self.node, SystemTime::now());
        // A door that refuses knows the caller when the request does not yet.
        let caller = asked.caller.as_ref().or_else(|| response.extensions().get());
        line.origin(peer.address);
        if let Some(names) = &peer.certificate {
            line.text("tls.client.subject", line::cut(names.shown()));
        }
        if let Some(caller) = caller {
            line.caller(caller);
        }
        line.text("request.method", asked.method.as_str());
        line.text("url.path", &asked.path);
        line.text("route", route);
        line.text("way", served.way);
        line.text("reason", served.reason);
        if let Some(Detail(detail)) = response.extensions().get() {
            line.text("detail", detail);
        }
        line.number("http.status", u64::from(status));
        if let Some(id) = asked.opaque_id.as_ref().and_then(|id| id.to_str().ok()) {
            line.text("opaque_id", line::cut(id));
        }
        self.writer.write(line.finish());
    }

    /// Limits or quotas of a tenant were changed.
    pub fn changed(&self, change: &Change<'_>) {
        if !self.events.has(Event::Changed) {
            return;
        }
        let mut line = Line::new(Event::Changed.name(), &self.node, SystemTime::now());
        if let Some(origin) = change.origin {
            line.origin(origin);
        }
        line.text("user.name", change.by);
        line.text("change.tenant", change.tenant);
        line.text("change.what", change.what);
        line.text("change.from", line::cut(change.from));
        line.text("change.to", line::cut(change.to));
        self.writer.write(line.finish());
    }
}
