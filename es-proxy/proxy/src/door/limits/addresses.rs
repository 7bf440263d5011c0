//! Limits of callers that nobody vouches for, each by its address. Only so many addresses are remembered:
//! one that is forgotten begins anew.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use quick_cache::sync::Cache;

use crate::door::limits::Gates;
use crate::door::limits::fair::Flow;
use crate::door::tenant::{AddressLimits, Class};

/// Addresses that are remembered: about 1 KB each.
const REMEMBERED: usize = 16_384;

/// See the head of this file.
pub(crate) struct Addresses {
    limits: AddressLimits,
    /// Counts of all addresses together.
    all: Gates,
    each: Cache<IpAddr, Arc<Gates>>,
}

impl Addresses {
    pub(crate) fn new(limits: AddressLimits) -> Self {
        let all = Gates::new("all addresses", &AddressLimits::new(), None);
        all.count_all();
        let room = if limits.is_empty() { 0 } else { REMEMBERED };
        Self { limits, all, each: Cache::new(room) }
    }

    /// The limits of an address; `None` where there are none.
    pub(crate) fn of(&self, address: IpAddr) -> Option<Arc<Gates>> {
        if self.limits.is_empty() {
            return None;
        }
        let made = || {
            let whose = "unverified callers, from one address";
            Ok::<_, std::convert::Infallible>(Arc::new(Gates::new(whose, &self.limits, Some(&self.all))))
        };
        self.each.get_or_insert_with(&key(address), made).ok()
    }

    /// Counts of a class, of all addresses together.
    pub(crate) fn counted(&self, class: Class) -> Option<&super::Counts> {
        self.all.counted(class)
    }

    /// How many addresses are remembered.
    pub(crate) fn remembered(&self) -> usize {
        self.each.len()
    }
}

/// Where an address waits: with a random key, so that none can be chosen that waits with a tenant.
pub(crate) fn flow_of(address: IpAddr) -> Flow {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    Flow { key: KEY.hash_one(key(address)), weight: 1 }
}

/// One customer has many addresses of version 6: all of a network of 64 bits are one.
fn key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => (u128::from(address) >> 64 << 64).to_be_bytes().into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses() -> Addresses {
        Addresses::new(serde_json::from_str(r#"{"search":{"requests_per_second":0.001,"burst":1}}"#).unwrap())
    }

    #[tokio::test]
    async fn each_address_has_limits_of_its_own() {
        let addresses = addresses();
        let admit = async |text: &str| {
            let gates = addresses.of(text.parse().unwrap()).unwrap();
            gates.of(Class::Search).admit(None).await.is_ok()
        };
        for (address, is_let_in) in [
            ("10.0.0.1", true),
            ("10.0.0.1", false),
            ("::ffff:10.0.0.1", false),
            ("10.0.0.2", true),
            ("2001:db8::1", true),
            ("2001:db8::2", false),
            ("2001:db8:0:1::2", true),
        ] {
            assert_eq!(admit(address).await, is_let_in, "{address}");
        }
        assert_eq!(
            addresses.counted(Class::Search).unwrap().admitted.load(std::sync::atomic::Ordering::Relaxed),
            4
        );
    }

    #[test]
    fn only_so_many_are_remembered() {
        let addresses = addresses();
        for number in 0..3 * REMEMBERED as u32 {
            addresses.of(std::net::Ipv4Addr::from(number).into());
        }
        assert!(addresses.remembered() <= REMEMBERED, "{}", addresses.remembered());
        assert!(Addresses::new(AddressLimits::new()).of([127, 0, 0, 1].into()).is_none());
    }
}
