//! A trunk: one SRC, or several that are alike, that may record here, and how its calls are
//! treated. The same table stands in a recorder's configuration file and in its policy snapshot.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;

use serde::{Deserialize, Deserializer, Serialize};

use crate::id::{TenantId, TrunkId};
use crate::numbering::NumberingPlan;

/// Who the trunk is, and what it may do.
///
/// What is said of its identity must all hold: an address of `sources` *and* a certificate of
/// `tls_names` *and* the password of `digest`. A trunk of which only addresses are known is as
/// safe as the network it is on: over UDP anybody there can write any address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trunk {
    /// The name under which people and metrics know it.
    pub name: TrunkId,
    /// Addresses and networks of its signaling. Empty: any, if its certificate or password is
    /// asked for.
    #[serde(default)]
    pub sources: Vec<Network>,
    /// Names that its client certificate may have: a DNS name or URI of the SAN (RFC 5922 §7.1), or
    /// the CN. `*.example.com` takes any one label. Such a trunk must come by TLS.
    #[serde(default)]
    pub tls_names: Vec<String>,
    /// Digest authentication (RFC 7616, RFC 8760).
    #[serde(default)]
    pub digest: Option<Digest>,
    #[serde(default)]
    pub recognition: Recognition,
    /// Whose calls these are. Absent: the recorder's tenant.
    #[serde(default)]
    pub tenant: Option<TenantId>,
    /// Addresses and networks from which its audio may come. Empty: from wherever the SRC says.
    #[serde(default)]
    pub media_sources: Vec<Network>,
    /// Encoding names (`PCMU`, `opus`) that are taken. Empty: all.
    #[serde(default)]
    pub codecs: Vec<String>,
    /// Telephone numbers as this trunk writes them.
    #[serde(default)]
    pub numbering: Option<NumberingPlan>,
    /// Calls at the same time; more are answered 503.
    #[serde(default)]
    pub max_calls: Option<NonZeroU32>,
    /// Calls that the other trunks leave room for.
    #[serde(default)]
    pub reserved_calls: u32,
    /// New calls in a second, in bursts of up to twice as many; more are answered 503.
    #[serde(default)]
    pub max_calls_per_sec: Option<NonZeroU32>,
}

impl Trunk {
    /// A trunk that is known by its addresses alone.
    pub fn at(name: TrunkId, sources: Vec<Network>) -> Self {
        Self {
            name,
            sources,
            tls_names: Vec::new(),
            digest: None,
            recognition: Recognition::default(),
            tenant: None,
            media_sources: Vec::new(),
            codecs: Vec::new(),
            numbering: None,
            max_calls: None,
            reserved_calls: 0,
            max_calls_per_sec: None,
        }
    }

    /// What is wrong with it, for the operator.
    pub fn problem(&self) -> Option<String> {
        if self.sources.is_empty() && self.tls_names.is_empty() && self.digest.is_none() {
            return Some("needs sources, tls_names or digest, or it would be everybody".to_owned());
        }
        let digest = self.digest.as_ref()?;
        digest.problem().map(|problem| format!("digest: {problem}"))
    }

    /// Whether nothing but the address of a datagram tells that it is this trunk.
    pub fn is_known_by_address_alone(&self) -> bool {
        self.tls_names.is_empty() && self.digest.is_none()
    }
}

/// Which INVITEs of a trunk are for recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recognition {
    /// Only what RFC 7866 §6.2 allows; others get 421.
    Strict,
    /// Any sign of SIPREC: an option tag, a Contact parameter or a metadata part.
    StandardOrMetadata,
    /// Any INVITE: one real INVITE in six breaks the rule.
    #[default]
    AnyInvite,
}

/// The account of a trunk. Either the password, or what is kept of one: then only that hash is
/// offered to the client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Digest {
    pub user: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// Hex SHA-256 of `user:realm:password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Secret>,
    /// Hex MD5 of `user:realm:password`, for clients that know no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub md5: Option<Secret>,
}

impl Digest {
    fn problem(&self) -> Option<&'static str> {
        let is_hex = |secret: &Option<Secret>, digits: usize| {
            secret.as_ref().is_none_or(|Secret(text)| {
                text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
            })
        };
        if self.user.is_empty() || self.user.contains(['"', '\\', ':']) {
            Some("user must be a name without quotes and colons")
        } else if self.password.is_none() && self.sha256.is_none() && self.md5.is_none() {
            Some("needs password, sha256 or md5")
        } else if !is_hex(&self.sha256, 64) {
            Some("sha256 must be 64 hexadecimal digits")
        } else if !is_hex(&self.md5, 32) {
            Some("md5 must be 32 hexadecimal digits")
        } else {
            None
        }
    }
}

/// A password or what can be used like one. Does not print.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// An address, or a network in CIDR notation (RFC 4632 §3.1): `192.0.2.7`, `10.1.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    pub address: IpAddr,
    pub prefix_bits: u8,
}

impl Network {
    pub fn contains(self, address: IpAddr) -> bool {
        // A dual-stack socket shows IPv4 peers as ::ffff:a.b.c.d.
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix_bits)).unwrap_or(0);
                network.to_bits() & mask == address.to_bits() & mask
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix_bits)).unwrap_or(0);
                network.to_bits() & mask == address.to_bits() & mask
            }
            _ => false,
        }
    }
}

impl std::str::FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (address, prefix) = match text.split_once('/') {
                Some((address, prefix)) => (address, Some(prefix)),
                None => (text, None),
            };
            let address: IpAddr = address.trim().parse().ok()?;
            let longest = if address.is_ipv4() { 32 } else { 128 };
            let prefix_bits = match prefix {
                Some(prefix) => prefix.trim().parse().ok().filter(|bits| *bits <= longest)?,
                None => longest,
            };
            Some(Self { address, prefix_bits })
        };
        parse().ok_or_else(|| {
            format!("{text:?} is not an address or network: write it as 192.0.2.7 or 10.1.0.0/16")
        })
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> String {
        format!("{}/{}", network.address, network.prefix_bits)
    }
}

/// Trunks in their order: the first that fits a caller is the one. In a file, an entry may be a
/// bare address or network, which is then also the name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Trunks(pub Vec<Trunk>);

impl Trunks {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is wrong with one of them, or with two of one name.
    pub fn problem(&self) -> Option<String> {
        let Self(trunks) = self;
        trunks.iter().enumerate().find_map(|(index, trunk)| {
            let problem = match trunk.problem() {
                Some(problem) => problem,
                None if trunks[..index].iter().any(|other| other.name == trunk.name) => {
                    "there are two of this name".to_owned()
                }
                None => return None,
            };
            Some(format!("trunk {}: {problem}", trunk.name))
        })
    }

    pub fn find(&self, name: &str) -> Option<&Trunk> {
        self.0.iter().find(|trunk| trunk.name.as_str() == name)
    }
}

impl<'de> Deserialize<'de> for Trunks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entries = Vec::<Entry>::deserialize(deserializer)?;
        Ok(Self(entries.into_iter().map(|Entry(trunk)| trunk).collect()))
    }
}

struct Entry(Trunk);

/// By hand, because an untagged enum would not say which key it does not know.
impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Entry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address, a network or a table with a name")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Entry, E> {
                let network: Network = text.parse().map_err(E::custom)?;
                // Names have no `/` and `:`.
                let name: String = text
                    .chars()
                    .map(|letter| match letter {
                        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' => letter,
                        _ => '-',
                    })
                    .collect();
                let name = TrunkId::new(name.trim_start_matches('-')).map_err(E::custom)?;
                Ok(Entry(Trunk::at(name, vec![network])))
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Entry, A::Error> {
                Trunk::deserialize(serde::de::value::MapAccessDeserializer::new(map)).map(Entry)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Trunks, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn an_address_alone_is_a_trunk() {
        let trunks = read(r#"["192.0.2.7", "10.1.0.0/16", "::1"]"#).unwrap();
        let names: Vec<_> = trunks.0.iter().map(|trunk| trunk.name.as_str()).collect();
        assert_eq!(names, ["192.0.2.7", "10.1.0.0-16", "1"]);
        assert_eq!(trunks.problem(), None);
        let written = serde_json::to_string(&trunks).unwrap();
        assert_eq!(read(&written).unwrap(), trunks, "what is written is read");
    }

    #[test]
    fn a_misspelt_key_of_a_trunk_is_named() {
        let error = read(r#"[{"name": "sbc", "source": ["192.0.2.7"]}]"#).unwrap_err();
        assert!(error.contains("`source`"), "{error}");
        let error = read(r#"["192.0.2.7/33"]"#).unwrap_err();
        assert!(error.contains("10.1.0.0/16"), "{error}");
    }

    #[test]
    fn what_makes_a_trunk_unusable_is_told_with_its_name() {
        for (json, problem) in [
            (r#"[{"name": "sbc"}]"#, "trunk sbc: needs sources"),
            (r#"["192.0.2.7", "192.0.2.7"]"#, "two of this name"),
            (r#"[{"name": "sbc", "digest": {"user": "a"}}]"#, "needs password"),
            (r#"[{"name": "sbc", "digest": {"user": "a", "md5": "00"}}]"#, "32 hexadecimal"),
            (r#"[{"name": "sbc", "digest": {"user": "a:b", "password": "x"}}]"#, "user must"),
        ] {
            let found = read(json).unwrap().problem().expect(json);
            assert!(found.contains(problem), "{found}");
        }
    }

    #[test]
    fn a_password_does_not_print() {
        let json = r#"[{"name": "sbc", "digest": {"user": "src", "password": "hunter2"}}]"#;
        let trunks = read(json).unwrap();
        assert!(!format!("{trunks:?}").contains("hunter2"));
        assert_eq!(trunks.0[0].digest.as_ref().unwrap().password, Some(Secret::new("hunter2")));
    }

    #[test]
    fn a_trunk_is_known_by_its_network() {
        let network: Network = "10.1.0.0/16".parse().unwrap();
        assert!(network.contains("10.1.255.3".parse().unwrap()));
        assert!(network.contains("::ffff:10.1.2.3".parse().unwrap()));
        assert!(!network.contains("10.2.0.1".parse().unwrap()));
        let everywhere: Network = "0.0.0.0/0".parse().unwrap();
        assert!(everywhere.contains("203.0.113.9".parse().unwrap()));
        assert!(!everywhere.contains("2001:db8::1".parse().unwrap()));
        let one: Network = "2001:db8::1".parse().unwrap();
        assert!(one.contains("2001:db8::1".parse().unwrap()));
        assert!(!one.contains("2001:db8::2".parse().unwrap()));
    }
}
