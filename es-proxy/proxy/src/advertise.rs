//! Which address a node is shown with to clients that look for nodes by themselves (*sniff*): they would
//! talk past us if they saw Elasticsearch's own.
//!
//! The node beside us becomes us. Another node is behind a sidecar of its own, which is known by a list, or
//! stands beside its node and listens on the port that we listen on.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use es_wire::ListedNode;

/// A name or IP address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    host: String,
    port: u16,
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("[{text}] must look like host:9201");
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let port: u16 = port.parse().map_err(|_| bad())?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_name = |host: &str| {
            !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        };
        let is_host = match bare {
            Some(bare) => bare.parse::<std::net::Ipv6Addr>().is_ok(),
            None => is_name(host),
        };
        if port == 0 || !is_host {
            return Err(bad());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// What other nodes are shown with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Others {
    /// The node's host, our port.
    #[default]
    Beside,
    /// Our own address: one sidecar for all nodes.
    Us,
    /// What Elasticsearch publishes.
    Keep,
}

/// What nodes are shown with, the one beside us apart: `NODE=host:port` for single ones, by name or address, and
/// one of `beside`, `self`, `keep` for all others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdvertisedNodes {
    named: Vec<(String, HostPort)>,
    others: Others,
}

impl FromStr for AdvertisedNodes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut this = Self::default();
        let mut rule = None;
        for part in text.split(',').map(str::trim) {
            match (part.split_once('='), part) {
                (Some((node, address)), _) if !node.trim().is_empty() => {
                    this.named.push((node.trim().to_owned(), address.trim().parse()?));
                }
                (None, "beside" | "self" | "keep") if rule.is_none() => rule = Some(part),
                (None, "beside" | "self" | "keep") => {
                    return Err(format!("[{text}] has more than one of beside, self, keep"));
                }
                _ => return Err(format!("[{part}] is neither NODE=host:port nor one of beside, self, keep")),
            }
        }
        this.others = match rule {
            Some("self") => Others::Us,
            Some("keep") => Others::Keep,
            _ => Others::Beside,
        };
        Ok(this)
    }
}

impl fmt::Display for AdvertisedNodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (node, address) in &self.named {
            write!(f, "{node}={address},")?;
        }
        f.write_str(match self.others {
            Others::Beside => "beside",
            Others::Us => "self",
            Others::Keep => "keep",
        })
    }
}

/// How nodes are shown to clients that sniff.
#[derive(Clone, Debug, Default)]
pub struct Advertise {
    /// The node beside us; by default the address that the client's connection arrived on.
    pub own: Option<HostPort>,
    /// Single nodes, and all others.
    pub nodes: AdvertisedNodes,
}

impl Advertise {
    /// Whether all addresses stay as Elasticsearch publishes them.
    pub(crate) fn keeps_all(&self) -> bool {
        self.own.is_none() && self.nodes.named.is_empty() && self.nodes.others == Others::Keep
    }

    /// What the address that Elasticsearch publishes becomes; `None` where it stays.
    /// `arrived` is the address that the client's connection arrived on.
    pub(crate) fn address(
        &self,
        published: &str,
        node: Option<&ListedNode>,
        is_own: bool,
        arrived: SocketAddr,
    ) -> Option<String> {
        let published = Published::of(published)?;
        if let Some((_, address)) = self.nodes.named.iter().find(|(name, _)| published.is_of(name, node)) {
            return Some(address.to_string());
        }
        let arrived = SocketAddr::new(arrived.ip().to_canonical(), arrived.port());
        let own = || self.own.as_ref().map_or_else(|| arrived.to_string(), HostPort::to_string);
        match self.nodes.others {
            Others::Keep => (is_own && self.own.is_some()).then(own),
            _ if is_own => Some(own()),
            Others::Us => Some(own()),
            Others::Beside => {
                let port = self.own.as_ref().map_or(arrived.port(), |own| own.port);
                Some(published.beside(node, port))
            }
        }
    }
}

/// An `http.publish_address`: `ip:port`, or `host/ip:port` where a name was configured.
struct Published<'a> {
    text: &'a str,
    /// Without its slash; empty where there is none.
    name: &'a str,
    address: SocketAddr,
}

impl<'a> Published<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let (name, address) = text.rsplit_once('/').unwrap_or(("", text));
        Some(Self { text, name, address: address.parse().ok()? })
    }

    /// Whether a name of the list means this node.
    fn is_of(&self, wanted: &str, node: Option<&ListedNode>) -> bool {
        let ip = self.address.ip().to_string();
        wanted == self.text
            || wanted == self.address.to_string()
            || (!self.name.is_empty() && wanted == self.name)
            || (wanted == ip && !self.address.ip().is_loopback())
            || node.is_some_and(|node| wanted == node.name || wanted == node.ip || wanted == node.id)
    }

    /// The same host with another port. A node that offers HTTP to its own machine alone is reached where
    /// other nodes reach it.
    fn beside(&self, node: Option<&ListedNode>, port: u16) -> String {
        let elsewhere = node
            .and_then(|node| node.ip.parse::<IpAddr>().ok())
            .filter(|ip| self.address.ip().is_loopback() && !ip.is_loopback());
        match elsewhere {
            Some(ip) => SocketAddr::new(ip, port).to_string(),
            None if self.name.is_empty() => SocketAddr::new(self.address.ip(), port).to_string(),
            None => format!("{}/{}", self.name, SocketAddr::new(self.address.ip(), port)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, ip: &str) -> ListedNode {
        ListedNode { id: format!("id-{name}"), name: name.into(), ip: ip.into(), http: String::new() }
    }

    fn advertise(own: &str, nodes: &str) -> Advertise {
        Advertise {
            own: (!own.is_empty()).then(|| own.parse().unwrap()),
            nodes: if nodes.is_empty() { AdvertisedNodes::default() } else { nodes.parse().unwrap() },
        }
    }

    #[test]
    fn rules_are_read_and_printed() {
        for (text, printed) in [
            ("beside", "beside"),
            ("self", "self"),
            ("es-1=a:1, 10.0.0.2:9200=[::1]:9201", "es-1=a:1,10.0.0.2:9200=[::1]:9201,beside"),
            ("keep,es-1=a_b.c:1", "es-1=a_b.c:1,keep"),
        ] {
            assert_eq!(text.parse::<AdvertisedNodes>().unwrap().to_string(), printed);
        }
        for bad in
            ["", "all", "=a:1", "a=b", "a=b:0", "a=b:x", "beside,self", "a=b/c:1", "a=::1:1", "a=[x]:1"]
        {
            bad.parse::<AdvertisedNodes>().unwrap_err();
        }
    }

    #[test]
    fn each_node_gets_the_address_of_its_sidecar() {
        let arrived: SocketAddr = "10.0.0.1:9201".parse().unwrap();
        let (one, two) = (node("one", "10.0.0.1"), node("two", "10.0.0.2"));
        for (own, nodes, published, listed, is_own, shown) in [
            // Ours: where the client found us, or what was configured.
            ("", "", "127.0.0.1:9200", &one, true, Some("10.0.0.1:9201")),
            ("es.example:443", "", "es-1/127.0.0.1:9200", &one, true, Some("es.example:443")),
            ("", "one=b:2", "127.0.0.1:9200", &one, true, Some("b:2")),
            // Others: beside their nodes.
            ("", "", "10.0.0.2:9200", &two, false, Some("10.0.0.2:9201")),
            ("", "", "es-2/10.0.0.2:9200", &two, false, Some("es-2/10.0.0.2:9201")),
            ("", "", "[fe80::1]:9200", &two, false, Some("[fe80::1]:9201")),
            ("es.example:443", "", "10.0.0.2:9200", &two, false, Some("10.0.0.2:443")),
            ("", "", "127.0.0.1:9200", &two, false, Some("10.0.0.2:9201")),
            // By any of its names.
            ("", "two=b:2", "10.0.0.2:9200", &two, false, Some("b:2")),
            ("", "10.0.0.2=b:2", "10.0.0.2:9200", &two, false, Some("b:2")),
            ("", "10.0.0.2:9200=b:2", "es-2/10.0.0.2:9200", &two, false, Some("b:2")),
            ("", "es-2=b:2,self", "es-2/10.0.0.2:9200", &two, false, Some("b:2")),
            ("", "three=b:2,self", "10.0.0.2:9200", &two, false, Some("10.0.0.1:9201")),
            ("es.example:443", "self", "10.0.0.2:9200", &two, false, Some("es.example:443")),
            // As Elasticsearch publishes it.
            ("", "keep", "10.0.0.2:9200", &two, false, None),
            ("", "keep", "10.0.0.1:9200", &one, true, None),
            ("a:1", "keep", "10.0.0.1:9200", &one, true, Some("a:1")),
            // Not an address.
            ("", "", "somewhere", &two, false, None),
        ] {
            let got = advertise(own, nodes).address(published, Some(listed), is_own, arrived);
            assert_eq!(got.as_deref(), shown, "{own} {nodes} {published}");
        }
        assert!(advertise("", "keep").keeps_all());
        assert!(!advertise("a:1", "keep").keeps_all());
    }

    #[test]
    fn a_v4_address_in_v6_dress_is_shown_as_v4() {
        let arrived: SocketAddr = "[::ffff:10.0.0.1]:9201".parse().unwrap();
        let shown = Advertise::default().address("127.0.0.1:9200", None, true, arrived);
        assert_eq!(shown.as_deref(), Some("10.0.0.1:9201"));
    }
}
