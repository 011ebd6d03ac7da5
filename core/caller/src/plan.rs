//! What to call, how, and who is said to be on the line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use siprec::rtp::srtp::Suite;

use crate::report::CallError;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    Udp,
    /// What RFC 3261 §18.1.1 asks for: a SIPREC INVITE is larger than a packet.
    #[default]
    Tcp,
    Tls,
}

impl Transport {
    pub(crate) fn via(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
        }
    }
}

impl FromStr for Transport {
    type Err = CallError;

    fn from_str(text: &str) -> Result<Self, CallError> {
        match text.to_ascii_lowercase().as_str() {
            "udp" => Ok(Self::Udp),
            "tcp" => Ok(Self::Tcp),
            "tls" => Ok(Self::Tls),
            _ => Err(CallError::Plan { problem: format!("transport {text}: use udp, tcp or tls") }),
        }
    }
}

/// Whose certificates to believe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsTrust {
    /// The authorities in this PEM file.
    Authorities(PathBuf),
    /// Anybody. For a recorder with a certificate it made itself.
    Anybody,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    #[default]
    Pcmu,
    Pcma,
    /// Wideband, of which speech of 8 kHz fills the lower half.
    G722,
    Opus,
}

impl Codec {
    pub const SUPPORTED: &str = "pcmu, pcma, g722, opus";

    /// Static, of RFC 3551 table 4, but for Opus.
    pub fn payload_type(self) -> u8 {
        match self {
            Self::Pcmu => 0,
            Self::Pcma => 8,
            Self::G722 => 9,
            Self::Opus => 111,
        }
    }

    /// The value of `a=rtpmap`. That of G.722 names half its rate (RFC 3551 §4.5.2), that of Opus
    /// two channels whatever it carries (RFC 7587 §7).
    pub fn rtpmap(self) -> &'static str {
        match self {
            Self::Pcmu => "PCMU/8000",
            Self::Pcma => "PCMA/8000",
            Self::G722 => "G722/8000",
            Self::Opus => "opus/48000/2",
        }
    }

    /// Ticks of the RTP clock in 20 ms.
    pub fn ticks_per_frame(self) -> u32 {
        if self == Self::Opus { 960 } else { 160 }
    }
}

impl FromStr for Codec {
    type Err = CallError;

    fn from_str(text: &str) -> Result<Self, CallError> {
        match text.to_ascii_lowercase().as_str() {
            "pcmu" | "g711u" | "ulaw" => Ok(Self::Pcmu),
            "pcma" | "g711a" | "alaw" => Ok(Self::Pcma),
            "g722" => Ok(Self::G722),
            "opus" => Ok(Self::Opus),
            _ => Err(CallError::Codec { name: text.to_owned() }),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MetadataStyle {
    /// A complete document by RFC 7865.
    #[default]
    Full,
    /// No metadata part; the body is the offer alone.
    None,
    /// The complete document, cut off in the middle.
    Broken,
    /// This text.
    Custom(String),
}

/// Where the mark of an SRC is in `Contact` (RFC 7866 §6.1), or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContactStyle {
    /// `<sip:…>;+sip.src`
    #[default]
    Standard,
    /// `<sip:…;+sip.src>`, as Avaya writes it.
    InsideUri,
    /// `<sip:…>;src`, as BroadWorks and older AudioCodes write it.
    Src,
    Unmarked,
}

/// Somebody on the recorded call. `{n}` in either text becomes the number of the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    pub name: String,
    /// Address of record, a SIP or tel URI.
    pub aor: String,
}

impl Party {
    pub fn new(name: &str, aor: &str) -> Self {
        Self { name: name.to_owned(), aor: aor.to_owned() }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct CallPlan {
    pub target: SocketAddr,
    pub transport: Transport,
    /// For [`Transport::Tls`].
    pub tls: TlsTrust,
    /// The name to ask for in TLS, and the host in the Request-URI. Default: the address.
    pub host: Option<String>,
    pub calls: u32,
    /// How many calls begin in a second.
    pub rate_per_sec: f64,
    /// How long each call talks.
    pub seconds: f64,
    /// 1: both parties mixed. 2: a stream for each.
    pub streams: u8,
    pub codec: Codec,
    /// Encrypts the media with a key in the offer (RFC 4568).
    pub srtp: Option<Suite>,
    /// 8 kHz, 16 bit, one channel or one for each stream; repeated to the end of the call.
    /// Without one, speech is made up.
    pub wav: Option<PathBuf>,
    /// Other seeds speak otherwise; the same seed says the same again.
    pub seed: u64,
    pub metadata: MetadataStyle,
    /// `a=label` on the m-lines: `1`, `2`.
    pub labels: bool,
    /// `Require: siprec`
    pub require: bool,
    pub contact: ContactStyle,
    /// The first is heard on the first stream.
    pub participants: [Party; 2],
    /// Headers to add to every INVITE.
    pub headers: Vec<(String, String)>,
    /// `Session-Expires` to ask for (RFC 4028), refreshed at half time; `None`: no timer.
    pub session_expires_secs: Option<u32>,
    /// 64·T1, after which a request without any answer has failed (RFC 3261 §17.1.1.2, timer B).
    pub answer_timeout: Duration,
}

impl CallPlan {
    /// One call of ten seconds over TCP.
    pub fn to(target: SocketAddr) -> Self {
        Self {
            target,
            transport: Transport::default(),
            tls: TlsTrust::Anybody,
            host: None,
            calls: 1,
            rate_per_sec: 10.0,
            seconds: 10.0,
            streams: 2,
            codec: Codec::default(),
            srtp: None,
            wav: None,
            seed: 1,
            metadata: MetadataStyle::default(),
            labels: true,
            require: true,
            contact: ContactStyle::default(),
            participants: [
                Party::new("Ana Novak {n}", "sip:+15550100{n}@pbx.example.com"),
                Party::new("Ben Okoye {n}", "sip:+15550199{n}@pbx.example.com"),
            ],
            headers: Vec::new(),
            session_expires_secs: Some(1800),
            answer_timeout: Duration::from_secs(32),
        }
    }

    pub(crate) fn check(&self) -> Result<(), CallError> {
        let problem = |problem: &str| Err(CallError::Plan { problem: problem.to_owned() });
        if !matches!(self.streams, 1 | 2) {
            return problem("a call has 1 or 2 streams");
        }
        if !(self.rate_per_sec.is_finite() && self.rate_per_sec > 0.0) {
            return problem("calls per second must be more than 0");
        }
        // A month; also keeps `Duration::from_secs_f64` from panicking.
        if !(0.0..=2_678_400.0).contains(&self.seconds) {
            return problem("seconds must be between 0 and 2678400");
        }
        let breaks_lines = |text: &str| text.contains(['\r', '\n']);
        if self.headers.iter().any(|(name, value)| breaks_lines(name) || breaks_lines(value)) {
            return problem("a header must not contain a line break");
        }
        Ok(())
    }

    pub(crate) fn host(&self) -> String {
        self.host.clone().unwrap_or_else(|| self.target.to_string())
    }
}
