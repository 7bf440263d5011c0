//! The credentials of a request: which of its headers name a caller, of what kind they are, and a print of
//! them under which things can be remembered. The print is keyed with a random key of this process and
//! cannot be turned back; credentials themselves are never kept.

use std::hash::Hasher;

use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderName};
use siphasher::sip128::{Hasher128, SipHasher24};

const RUN_AS: HeaderName = HeaderName::from_static("es-security-runas-user");
const SECONDARY: HeaderName = HeaderName::from_static("es-secondary-authorization");
const CLIENT: HeaderName = HeaderName::from_static("es-client-authentication");

/// All headers from which Elasticsearch learns who somebody is.
pub(crate) const CREDENTIALS: [HeaderName; 4] = [AUTHORIZATION, RUN_AS, SECONDARY, CLIENT];

/// Of what kind the credentials of a request are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Credentials {
    /// There are none.
    None,
    /// A user name and a password.
    Password,
    /// An API key, a token (with the secret of the client that shows it, where a JWT realm asks for one), or a user
    /// who acts as another.
    Other,
    /// Those of more than one caller.
    Unclear,
}

impl Credentials {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut given = headers.get_all(AUTHORIZATION).iter();
        match (given.next(), given.next()) {
            (_, Some(_)) => Self::Unclear,
            _ if headers.contains_key(SECONDARY) => Self::Unclear,
            _ if [RUN_AS, CLIENT].iter().any(|name| headers.get_all(name).iter().nth(1).is_some()) => {
                Self::Unclear
            }
            (None, None) if headers.contains_key(RUN_AS) => Self::Unclear,
            (None, None) => {
                if headers.contains_key(CLIENT) {
                    Self::Other
                } else {
                    Self::None
                }
            }
            (Some(value), None) => {
                let scheme = value.as_bytes().split(|byte| *byte == b' ').next().unwrap_or_default();
                let is_alone = !headers.contains_key(RUN_AS) && !headers.contains_key(CLIENT);
                if scheme.eq_ignore_ascii_case(b"basic") && is_alone { Self::Password } else { Self::Other }
            }
        }
    }
}

/// What stands for the credentials of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Print(u128);

/// Makes [`Print`]s.
pub(crate) struct Printer {
    key: [u8; 16],
}

impl Printer {
    /// With a key of its own. The operating system always has one, or nothing else works either.
    pub(crate) fn new() -> Self {
        let mut key = [0; 16];
        getrandom::fill(&mut key).expect("the operating system has random numbers");
        Self { key }
    }

    /// Of all headers that name a caller, each with its length, so that no two sets run together.
    pub(crate) fn print(&self, headers: &HeaderMap) -> Print {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        for (at, name) in CREDENTIALS.iter().enumerate() {
            for value in headers.get_all(name) {
                hasher.write_usize(at);
                hasher.write_usize(value.len());
                hasher.write(value.as_bytes());
            }
        }
        Print(hasher.finish128().as_u128())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        let mut headers = HeaderMap::new();
        pairs.for_each(|(name, value)| {
            headers.append(name, value);
        });
        headers
    }

    #[test]
    fn only_a_lone_password_is_one() {
        let basic = ("authorization", "Basic YTpi");
        let other = ("es-security-runas-user", "b");
        for (given, expected) in [
            (vec![], Credentials::None),
            (vec![basic], Credentials::Password),
            (vec![("authorization", "basic YTpi")], Credentials::Password),
            (vec![("authorization", "ApiKey x")], Credentials::Other),
            (vec![("authorization", "Bearer x")], Credentials::Other),
            (vec![("authorization", "Negotiate x")], Credentials::Other),
            (vec![basic, other], Credentials::Other),
            (vec![other], Credentials::Unclear),
            (vec![basic, basic], Credentials::Unclear),
            (vec![basic, other, other], Credentials::Unclear),
            (vec![basic, ("es-secondary-authorization", "x")], Credentials::Unclear),
            (vec![basic, ("es-client-authentication", "x")], Credentials::Other),
            (
                vec![("authorization", "Bearer x"), ("es-client-authentication", "SharedSecret x")],
                Credentials::Other,
            ),
            (vec![("es-client-authentication", "x")], Credentials::Other),
            (
                vec![basic, ("es-client-authentication", "x"), ("es-client-authentication", "y")],
                Credentials::Unclear,
            ),
        ] {
            assert_eq!(Credentials::of(&headers(&given)), expected, "{given:?}");
        }
    }

    #[test]
    fn prints_differ_where_credentials_do_and_between_processes() {
        let printer = Printer::new();
        let sets = [
            headers(&[]),
            headers(&[("authorization", "Basic YTpi")]),
            headers(&[("authorization", "Basic YTpj")]),
            headers(&[("authorization", "Basic YTpi"), ("es-security-runas-user", "b")]),
            headers(&[("authorization", "Basic YTpi"), ("es-security-runas-user", "c")]),
            headers(&[("authorization", "b"), ("es-security-runas-user", "Basic YTpi")]),
        ];
        let prints: std::collections::HashSet<_> = sets.iter().map(|set| printer.print(set)).collect();
        assert_eq!(prints.len(), sets.len());
        let noisy = headers(&[("authorization", "Basic YTpi"), ("x-opaque-id", "1")]);
        assert_eq!(printer.print(&noisy), printer.print(&sets[1]));
        assert_ne!(Printer::new().print(&sets[1]), printer.print(&sets[1]));
    }
}
