//! The SRCs that may record here, and by what they are known.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::Recognition;
use crate::sip::digest::Account;

/// An SRC, or several that are alike. What is said of its identity must all hold.
#[derive(Clone, Debug)]
pub struct Trunk {
    pub name: String,
    /// Where its signaling comes from. Empty: from anywhere, if something else identifies it.
    pub sources: Vec<Network>,
    /// Names that its client certificate may have, for TLS; `*.` stands for any one label.
    pub tls_names: Vec<String>,
    pub account: Option<Account>,
    pub recognition: Recognition,
    /// Sessions at the same time.
    pub max_sessions: Option<NonZeroU32>,
    /// Sessions that are kept free for it.
    pub reserved_sessions: u32,
    /// New sessions in a second, in bursts of up to twice as many.
    pub max_new_per_sec: Option<NonZeroU32>,
}

/// By what a trunk showed that it is the one.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub enum Proof {
    /// Nothing but the address of a datagram, which anybody on the way can write.
    Datagram,
    /// The address of a connection.
    Connection,
    /// A certificate.
    Certificate,
    /// A password.
    Digest,
}

impl Proof {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Datagram => "unauthenticated",
            Self::Connection => "address",
            Self::Certificate => "certificate",
            Self::Digest => "digest",
        }
    }
}

/// Who sends a request, as far as its way here tells.
#[derive(Clone, Debug)]
pub(crate) struct Sender<'a> {
    pub ip: IpAddr,
    /// Names in the client's certificate, if it came by TLS and showed one.
    pub tls_names: &'a [String],
}

/// All trunks, in their order: the first that fits is the one.
#[derive(Clone, Debug, Default)]
pub struct Trunks {
    trunks: Arc<[Trunk]>,
}

impl Trunks {
    pub fn new(trunks: Vec<Trunk>) -> Self {
        Self { trunks: trunks.into() }
    }

    /// Without any, everybody may record.
    pub fn is_empty(&self) -> bool {
        self.trunks.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Trunk> {
        self.trunks.iter()
    }

    pub fn find(&self, name: &str) -> Option<&Trunk> {
        self.trunks.iter().find(|trunk| trunk.name == name)
    }

    /// Whether a peer at this address may turn out to be a trunk.
    pub fn may_be_at(&self, ip: IpAddr) -> bool {
        self.is_empty() || self.trunks.iter().any(|trunk| trunk.may_be_at(ip))
    }

    /// The trunks that the sender may be, as far as address and certificate tell.
    pub(crate) fn candidates<'a>(
        &'a self,
        sender: &'a Sender<'_>,
    ) -> impl Iterator<Item = &'a Trunk> {
        self.trunks.iter().filter(|trunk| trunk.fits(sender))
    }
}

impl Trunk {
    fn may_be_at(&self, ip: IpAddr) -> bool {
        self.sources.is_empty() || self.sources.iter().any(|network| network.contains(ip))
    }

    fn fits(&self, sender: &Sender<'_>) -> bool {
        let certificate_fits = || {
            let mut pairs = sender
                .tls_names
                .iter()
                .flat_map(|name| self.tls_names.iter().map(move |wanted| (name, wanted)));
            pairs.any(|(name, wanted)| name_fits(name, wanted))
        };
        self.may_be_at(sender.ip) && (self.tls_names.is_empty() || certificate_fits())
    }

    pub(crate) fn proof(&self, is_stream: bool) -> Proof {
        if self.account.is_some() {
            Proof::Digest
        } else if !self.tls_names.is_empty() {
            Proof::Certificate
        } else if is_stream {
            Proof::Connection
        } else {
            Proof::Datagram
        }
    }
}

/// Names of hosts are compared without case (RFC 5922 §7.2); a `*` in the certificate matches
/// nothing but itself, because the wildcard is ours to give.
fn name_fits(name: &str, wanted: &str) -> bool {
    if name.eq_ignore_ascii_case(wanted) {
        return true;
    }
    let Some(parent) = wanted.strip_prefix("*.") else { return false };
    let Some((label, rest)) = name.split_once('.') else { return false };
    !label.is_empty() && label != "*" && rest.eq_ignore_ascii_case(parent)
}

/// An address and how many of its first bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    pub address: IpAddr,
    pub prefix_bits: u8,
}

impl Network {
    pub fn contains(self, address: IpAddr) -> bool {
        match (self.address.to_canonical(), address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let shift = 32 - u32::from(self.prefix_bits.min(32));
                let mask = u32::MAX.checked_shl(shift).unwrap_or(0);
                (network.to_bits() ^ address.to_bits()) & mask == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let shift = 128 - u32::from(self.prefix_bits.min(128));
                let mask = u128::MAX.checked_shl(shift).unwrap_or(0);
                (network.to_bits() ^ address.to_bits()) & mask == 0
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_of_ours_stands_for_one_label() {
        assert!(name_fits("SBC1.example.com", "sbc1.EXAMPLE.com"));
        assert!(name_fits("sbc1.example.com", "*.example.com"));
        assert!(!name_fits("a.sbc1.example.com", "*.example.com"));
        assert!(!name_fits("example.com", "*.example.com"));
        assert!(!name_fits("*.example.com", "sbc1.example.com"));
        assert!(!name_fits("sbc1.example.com.evil.example", "*.example.com"));
    }

    #[test]
    fn a_trunk_is_known_by_all_that_is_said_of_it() {
        let trunk = Trunk {
            name: "sbc".to_owned(),
            sources: vec![Network { address: "192.0.2.0".parse().unwrap(), prefix_bits: 24 }],
            tls_names: vec!["sbc.example.com".to_owned()],
            account: None,
            recognition: Recognition::AnyInvite,
            max_sessions: None,
            reserved_sessions: 0,
            max_new_per_sec: None,
        };
        let fits = |ip: &str, names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            trunk.fits(&Sender { ip: ip.parse().unwrap(), tls_names: &names })
        };
        assert!(fits("192.0.2.9", &["other", "sbc.example.com"]));
        assert!(!fits("192.0.2.9", &["other"]));
        assert!(!fits("192.0.2.9", &[]));
        assert!(!fits("198.51.100.1", &["sbc.example.com"]));
    }
}
