//! The configuration of an edge recorder: one TOML file, parsed once.
//!
//! A key that is not known is an error that names it, because a misspelt limit that is ignored
//! shows only when the limit would have been needed.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};

use model::trunk::Trunks;
use model::{EdgeId, TenantId};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(default)]
    pub edge: EdgeConfig,
    #[serde(default)]
    pub sip: SipConfig,
    #[serde(default)]
    pub rtp: RtpConfig,
    pub journal: JournalConfig,
    #[serde(default)]
    pub admin: AdminConfig,
}

/// Why a configuration cannot be used. The message says which key and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("read the configuration file {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the configuration file {} is not valid", path.display())]
    Parse {
        path: PathBuf,
        #[source]
        source: Box<toml::de::Error>,
    },
    #[error("{key}: {problem}")]
    Invalid { key: &'static str, problem: String },
}

impl Config {
    /// Everything at its default, with the journal in `dir`.
    pub fn new(journal_dir: impl Into<PathBuf>) -> Self {
        Self {
            edge: EdgeConfig::default(),
            sip: SipConfig::default(),
            rtp: RtpConfig::default(),
            journal: JournalConfig {
                dir: journal_dir.into(),
                commit_ms: default_commit_ms(),
                segment_secs: default_segment_secs(),
                min_free_bytes: default_min_free_bytes(),
                file_bytes: default_file_bytes(),
                buffer_bytes: default_buffer_bytes(),
                upload_bytes_per_sec: None,
            },
            admin: AdminConfig::default(),
        }
    }

    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let config: Self = toml::from_str(&text).map_err(|source| ConfigError::Parse {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        config.check()?;
        Ok(config)
    }

    /// What the types of the single keys cannot say.
    pub fn check(&self) -> Result<(), ConfigError> {
        let invalid =
            |key, problem: &str| Err(ConfigError::Invalid { key, problem: problem.to_owned() });
        if self.sip.tls.is_some() != self.sip.tls_listen.is_some() {
            return invalid(
                "sip.tls_listen",
                "needs [sip.tls] with certificate and key, and vice versa",
            );
        }
        if let Some(problem) = self.sip.trunks.problem() {
            return invalid("sip.trunks", &problem);
        }
        let needs_names = |trunk: &model::trunk::Trunk| !trunk.tls_names.is_empty();
        let has_authorities =
            self.sip.tls.as_ref().is_some_and(|tls| tls.client_authorities.is_some());
        if self.sip.trunks.0.iter().any(needs_names) && !has_authorities {
            return invalid(
                "sip.tls.client_authorities",
                "is missing: a trunk is known by the tls_names of its certificate",
            );
        }
        if self.sip.realm.is_empty() || self.sip.realm.contains(['"', '\\', '\r', '\n']) {
            return invalid("sip.realm", "must be a name without quotes");
        }
        if self.rtp.ports.pairs() == 0 {
            return invalid("rtp.ports", "holds no even port followed by an odd one");
        }
        if self.rtp.address.is_some_and(|address| address.is_unspecified()) {
            return invalid("rtp.address", "must be an address to which a caller can send audio");
        }
        Ok(())
    }

    /// The address to which RTP sockets are bound.
    ///
    /// The one of SIP: who limited SIP to one interface does not expect audio ports on the others.
    pub fn rtp_bind(&self) -> IpAddr {
        self.rtp.bind.unwrap_or(self.sip.listen.ip())
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EdgeConfig {
    /// The name under which people see this recorder. Unique among the recorders of a site.
    pub name: EdgeId,
    /// Whose calls arrive here.
    pub tenant: TenantId,
}

impl Default for EdgeConfig {
    fn default() -> Self {
        let name = EdgeId::new("edge-1").expect("a constant that follows the rules of names");
        Self { name, tenant: TenantId::default() }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SipConfig {
    /// UDP and TCP. Loopback until told otherwise: a recorder that listens everywhere answers
    /// everybody.
    pub listen: SocketAddr,
    /// SIP over TLS, usually port 5061. Needs `tls`.
    pub tls_listen: Option<SocketAddr>,
    pub tls: Option<TlsConfig>,
    /// The host that our answers name as contact, when callers cannot use the address that they
    /// send to: behind an address translator, its outer address.
    pub advertised_host: Option<String>,
    /// From whom calls are accepted. Empty: from everybody, and each recording is flagged
    /// `untrusted_source`. Those of the policy snapshot come after these.
    pub trunks: Trunks,
    /// What becomes of those who are no trunk.
    pub strangers: Strangers,
    /// The realm of digest authentication. Stored hashes of passwords contain it.
    pub realm: String,
    /// What we ask a refused caller to wait before it tries this recorder again. Long enough for
    /// a restart, short enough to come back into use soon.
    pub retry_after_secs: u32,
    /// TCP and TLS connections that may be open at once, so that a flood of them leaves file
    /// descriptors for audio.
    pub max_connections: NonZeroU32,
    /// How many of them one address may have that is of no trunk, so that one host cannot take all.
    pub max_connections_per_address: NonZeroU32,
}

/// What becomes of a caller that is no trunk, when there are trunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strangers {
    /// No answer over UDP, 403 on a connection.
    #[default]
    Refuse,
    /// Recorded, and flagged `untrusted_source`.
    Record,
}

impl Default for SipConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 5060)),
            tls_listen: None,
            tls: None,
            advertised_host: None,
            trunks: Trunks::default(),
            strangers: Strangers::default(),
            realm: "linekeeper".to_owned(),
            retry_after_secs: 30,
            max_connections: NonZeroU32::new(1_000).expect("a constant above zero"),
            max_connections_per_address: NonZeroU32::new(500).expect("a constant above zero"),
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM: our certificate, then those of the authorities between it and the root.
    pub certificate: PathBuf,
    /// PEM: the private key of the first certificate.
    pub key: PathBuf,
    /// PEM: authorities whose clients are accepted. Set it for mutual TLS, which RFC 7866 §12.1
    /// asks for; without it any client may connect.
    #[serde(default)]
    pub client_authorities: Option<PathBuf>,
    /// Whether a client without a certificate is turned away. If not, it is a stranger unless its
    /// address or password says otherwise.
    #[serde(default = "default_require_client_certificate")]
    pub require_client_certificate: bool,
}

impl TlsConfig {
    pub fn new(certificate: PathBuf, key: PathBuf) -> Self {
        Self {
            certificate,
            key,
            client_authorities: None,
            require_client_certificate: default_require_client_certificate(),
        }
    }
}

fn default_require_client_certificate() -> bool {
    true
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RtpConfig {
    /// The address that our SDP answers name. Absent: the one from which we reach the caller,
    /// which is right unless an address translator stands between.
    pub address: Option<IpAddr>,
    /// The local address of the sockets. Absent: that of `sip.listen`.
    pub bind: Option<IpAddr>,
    /// Two ports per stream: RTP on the even one, RTCP on the next.
    pub ports: PortRange,
    /// How long a port rests after a call, so that late packets of one call cannot land in the
    /// next.
    pub quarantine_secs: u32,
    /// Per socket. The kernel grants at most `net.core.rmem_max`; its usual 212 kB hold 5 s of a
    /// G.711 stream.
    pub receive_buffer_bytes: u32,
    /// Packets of one stream that are recorded in a second; the rest is counted and dropped. Audio
    /// has 50 to 400, video up to 1,500.
    pub packets_per_sec: NonZeroU32,
    /// Whether a stream is taken of which no codec is known here. Its packets are kept, and a later
    /// version may be able to play them; without it, the client is told at once that it offers
    /// nothing that can be played.
    pub unknown_codecs: bool,
    pub capture: CaptureMode,
}

impl Default for RtpConfig {
    fn default() -> Self {
        Self {
            address: None,
            bind: None,
            ports: PortRange { first: 20_000, last: 29_999 },
            quarantine_secs: 10,
            receive_buffer_bytes: 425_984,
            packets_per_sec: NonZeroU32::new(2_000).expect("2,000 is not zero"),
            unknown_codecs: true,
            capture: CaptureMode::Auto,
        }
    }
}

/// How packets are taken from the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CaptureMode {
    /// The cheapest one that this machine can do.
    #[default]
    Auto,
    /// One socket per stream, visited ten times a second. Needs no privileges.
    Sweep,
    /// A packet ring in front of the sockets.
    Ring,
}

impl std::str::FromStr for CaptureMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "sweep" => Ok(Self::Sweep),
            "ring" => Ok(Self::Ring),
            other => Err(format!("{other:?} is not a capture engine: use auto, sweep or ring")),
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JournalConfig {
    /// Must be on a disk that survives a restart of the machine: calls wait here until the
    /// object store has them.
    pub dir: PathBuf,
    /// How often what arrived is made durable. A killed process loses at most this and the
    /// commit under way.
    #[serde(default = "default_commit_ms")]
    pub commit_ms: NonZeroU32,
    /// A slice of the journal is closed and uploaded at this age. Also about the most audio that
    /// is lost if this machine never comes back; shorter costs more requests to the store.
    #[serde(default = "default_segment_secs")]
    pub segment_secs: NonZeroU32,
    /// Below this, new calls are refused so that calls in progress can finish.
    #[serde(default = "default_min_free_bytes")]
    pub min_free_bytes: u64,
    /// Size of one journal file. Larger ones are recycled later, smaller ones synced more often.
    #[serde(default = "default_file_bytes")]
    pub file_bytes: NonZeroU64,
    /// What may wait in memory for the disk. 64 MB are 3 s of 1,000 calls; commits of up to
    /// 0.8 s were measured.
    #[serde(default = "default_buffer_bytes")]
    pub buffer_bytes: NonZeroU64,
    /// The most that goes to the object store in a second, on average over an object. Absent: as
    /// fast as it takes it. For a line that calls need too: after an outage everything that has
    /// piled up would leave at once. A G.711 call of two streams needs 19 kB.
    #[serde(default)]
    pub upload_bytes_per_sec: Option<NonZeroU64>,
}

fn default_commit_ms() -> NonZeroU32 {
    NonZeroU32::new(100).expect("a constant above zero")
}

fn default_segment_secs() -> NonZeroU32 {
    NonZeroU32::new(5).expect("a constant above zero")
}

fn default_min_free_bytes() -> u64 {
    2 << 30
}

fn default_file_bytes() -> NonZeroU64 {
    NonZeroU64::new(64 << 20).expect("a constant above zero")
}

fn default_buffer_bytes() -> NonZeroU64 {
    NonZeroU64::new(64 << 20).expect("a constant above zero")
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdminConfig {
    /// Health, metrics and drain. Loopback: whoever reaches it can take this recorder out of use.
    pub listen: SocketAddr,
    /// How long a drain waits for the last call. After it the process exits and the next start
    /// resumes what is left.
    pub drain_deadline_secs: u64,
    /// `GET /healthz` over TLS and nothing else, for health checks from other machines. Absent:
    /// no such port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthPortConfig>,
}

/// A port that tells whether calls can be recorded, and that may be reached from anywhere.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthPortConfig {
    pub listen: SocketAddr,
    /// PEM: our certificate, then those of the authorities between it and the root.
    pub certificate: PathBuf,
    /// PEM: the private key of the first certificate.
    pub key: PathBuf,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9060)),
            drain_deadline_secs: 4 * 60 * 60,
            health: None,
        }
    }
}

/// UDP ports, both ends included. Written `20000-29999`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortRange {
    pub first: u16,
    pub last: u16,
}

impl PortRange {
    /// The lowest even port.
    pub fn first_even(self) -> u32 {
        u32::from(self.first).next_multiple_of(2)
    }

    /// How many even ports in the range are followed by an odd one in it.
    pub fn pairs(self) -> u32 {
        (u32::from(self.last) + 1).saturating_sub(self.first_even()) / 2
    }
}

impl std::str::FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (first, last) = text.split_once('-')?;
            Some(Self { first: first.trim().parse().ok()?, last: last.trim().parse().ok()? })
        };
        parse()
            .filter(|range| range.first > 0 && range.first < range.last)
            .ok_or_else(|| format!("{text:?} is not a range of ports: write it as 20000-29999"))
    }
}

impl TryFrom<String> for PortRange {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<PortRange> for String {
    fn from(range: PortRange) -> String {
        range.to_string()
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn a_journal_directory_is_all_that_must_be_said() {
        let config = parse("[journal]\ndir = \"/var/lib/linekeeper\"").unwrap();
        config.check().unwrap();
        assert_eq!(config.sip.listen.port(), 5060);
        assert_eq!(config.rtp.ports.pairs(), 5_000);
        assert_eq!(config.journal.segment_secs.get(), 5);
        assert!(config.admin.listen.ip().is_loopback());
    }

    #[test]
    fn a_misspelt_key_is_an_error_that_names_it() {
        for (text, key) in [
            ("[journal]\ndir = \"/x\"\nsegment_sec = 5", "segment_sec"),
            ("[journal]\ndir = \"/x\"\n[sip]\nlisten_on = \"127.0.0.1:5060\"", "listen_on"),
            ("[journal]\ndir = \"/x\"\n[rpt]", "rpt"),
            ("[journal]\ndir = \"/x\"\n[sip.tls]\ncertificate = \"a\"\nkeys = \"b\"", "keys"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }

    #[test]
    fn a_bad_value_says_how_to_write_it() {
        for (text, hint) in [
            ("[rtp]\nports = \"20000\"", "20000-29999"),
            ("[rtp]\nports = \"30000-20000\"", "20000-29999"),
            ("[sip]\ntrunks = [\"10.0.0.0/33\"]", "10.1.0.0/16"),
            ("[[sip.trunks]]\nname = \"sbc\"\nsource = []", "`source`"),
            ("[rtp]\ncapture = \"magic\"", "magic"),
        ] {
            let error = parse(&format!("[journal]\ndir = \"/x\"\n{text}")).unwrap_err().to_string();
            assert!(error.contains(hint), "{error}");
        }
    }

    #[test]
    fn tls_without_a_certificate_is_refused() {
        let text = "[journal]\ndir = \"/x\"\n[sip]\ntls_listen = \"127.0.0.1:5061\"";
        let error = parse(text).unwrap().check().unwrap_err().to_string();
        assert!(error.contains("sip.tls_listen"), "{error}");
    }

    #[test]
    fn an_odd_start_costs_one_port() {
        let range: PortRange = "20001-20004".parse().unwrap();
        assert_eq!((range.first_even(), range.pairs()), (20_002, 1));
        let range: PortRange = "65534-65535".parse().unwrap();
        assert_eq!((range.first_even(), range.pairs()), (65_534, 1));
        assert_eq!("20001-20002".parse::<PortRange>().unwrap().pairs(), 0);
    }

    #[test]
    fn a_trunk_is_a_table_or_an_address() {
        let config = parse(
            "[journal]\ndir = \"/x\"\n[[sip.trunks]]\nname = \"sbc\"\nsources = [\"10.1.0.0/16\"]\n\
             recognition = \"strict\"\n[sip.trunks.digest]\nuser = \"src\"\npassword = \"p\"\n\
             [sip.trunks.numbering]\ncountry_code = \"44\"\nnational_prefix = \"0\"",
        );
        let config = config.unwrap();
        config.check().unwrap();
        assert_eq!(config.sip.trunks.0[0].recognition, model::trunk::Recognition::Strict);
        let config = parse("[journal]\ndir = \"/x\"\n[sip]\ntrunks = [\"192.0.2.7\"]").unwrap();
        assert_eq!(config.sip.trunks.0[0].name.as_str(), "192.0.2.7");
    }

    #[test]
    fn a_trunk_that_would_be_everybody_or_nobody_is_refused() {
        let complaint = |sip: &str| {
            let config = parse(&format!("[journal]\ndir = \"/x\"\n{sip}")).unwrap();
            config.check().unwrap_err().to_string()
        };
        let error = complaint("[[sip.trunks]]\nname = \"sbc\"");
        assert!(error.contains("sip.trunks: trunk sbc: needs sources"), "{error}");
        let error = complaint("[[sip.trunks]]\nname = \"sbc\"\ntls_names = [\"sbc.example.com\"]");
        assert!(error.contains("sip.tls.client_authorities"), "{error}");
    }
}
