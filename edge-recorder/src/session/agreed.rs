//! What capture is told of a stream: the offer, and then what was agreed.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use model::SessionId;
use model::trunk::Network;
use sha2::{Digest as _, Sha256};
use siprec::{NegotiatedStream, OfferedStream, PayloadFormat};

use super::call::StreamPorts;
use crate::capture::gate::{Expected, Keys, Security};

/// SRTCP counts reports in 31 bits. Each start of the recorder has its own million of them: at one
/// in five seconds that is 60 days, and a call outlives two thousand starts before one comes again.
const REPORTS_PER_START: u32 = 1 << 20;

/// What holds for all streams of a call.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Who signals.
    pub signaling: Option<IpAddr>,
    /// Count of starts of the recorder.
    pub epoch: u64,
    pub packets_per_sec: u32,
    /// Where audio may come from. Empty: from anywhere.
    pub sources: Vec<Network>,
}

/// Of a stream that is offered. Its keys come with the answer.
pub fn by_offer(stream: &OfferedStream, terms: &Terms) -> Expected {
    let is_secure = ["RTP/SAVP", "RTP/SAVPF"]
        .iter()
        .any(|profile| stream.protocol.eq_ignore_ascii_case(profile));
    Expected {
        rtp: stream.address,
        rtcp: None,
        rtcp_mux: false,
        signaling: terms.signaling,
        clock_rates: clock_rates(&stream.formats),
        security: if is_secure { Security::KeysToCome } else { Security::Plain },
        packets_per_sec: terms.packets_per_sec,
        sources: terms.sources.clone(),
    }
}

/// Of a stream that is agreed.
pub fn by_answer(
    stream: &NegotiatedStream,
    ports: Option<&StreamPorts>,
    terms: &Terms,
) -> Expected {
    let keying = stream.srtp.as_ref().map(|keys| keys.keying());
    let security = match keying {
        None => Security::Plain,
        // Of a dialog that a newer version wrote down.
        Some(None) => Security::KeysToCome,
        Some(Some((theirs, ours))) => Security::Srtp(Box::new(Keys {
            theirs,
            ours,
            first_report: (terms.epoch as u32).wrapping_mul(REPORTS_PER_START) & 0x7fff_ffff,
            rollover: ports.and_then(|ports| ports.rollover),
        })),
    };
    Expected {
        rtp: stream.remote,
        rtcp: stream.remote_rtcp,
        rtcp_mux: stream.rtcp_mux,
        signaling: terms.signaling,
        clock_rates: clock_rates(&stream.formats),
        security,
        packets_per_sec: terms.packets_per_sec,
        sources: terms.sources.clone(),
    }
}

fn clock_rates(formats: &[PayloadFormat]) -> Vec<(u8, u32)> {
    // Events repeat the time at which they began (RFC 4733 §2.5.1.2): no measure of jitter.
    let rate = |format: &PayloadFormat| match format.is_telephone_event() {
        true => 0,
        false => format.clock_rate,
    };
    formats.iter().map(|format| (format.payload_type, rate(format))).collect()
}

/// Our name in the reports of a call: the same after a restart, and nothing that tells the call's
/// id or the machine (RFC 7022 §4.2, 96 bits).
pub fn cname(session: SessionId) -> String {
    let hash = Sha256::new().chain_update("cname").chain_update(session.to_string()).finalize();
    STANDARD_NO_PAD.encode(&hash[..12])
}

#[test]
fn a_name_in_reports_is_of_one_call_and_tells_nothing_of_it() {
    let session = |n| SessionId::at(1_700_000_000_000, [n; 10]);
    assert_eq!(cname(session(1)), cname(session(1)));
    assert_ne!(cname(session(1)), cname(session(2)));
    assert_eq!(cname(session(1)).len(), 16);
}

#[test]
fn no_report_has_an_index_of_an_earlier_start() {
    let first = |epoch: u64| (epoch as u32).wrapping_mul(REPORTS_PER_START) & 0x7fff_ffff;
    let all: std::collections::BTreeSet<_> = (1..=2_048).map(first).collect();
    assert_eq!(all.len(), 2_048);
    assert!(all.iter().all(|index| index % REPORTS_PER_START == 0));
}
