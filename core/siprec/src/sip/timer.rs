//! Session timers (RFC 4028): how we learn that an SRC is gone that never said BYE.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::address::{param, parse_params};
use super::message::Message;

/// The shortest interval that may be agreed (§4).
const FLOOR: Duration = Duration::from_secs(90);

/// Far beyond any call; keeps arithmetic on instants from overflowing.
const CEILING: Duration = Duration::from_secs(7 * 24 * 3600);

/// What was agreed in the last 2xx to an INVITE or UPDATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    pub interval_secs: u32,
    pub refresher: Refresher,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refresher {
    /// The SRC sends a re-INVITE or UPDATE in time.
    Peer,
    /// We do.
    Us,
}

/// The answer to what a request says about timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Negotiation {
    /// No timer. An SRC without `timer` support must not be given one: it would let it
    /// expire, and OpenSIPS then drops the call.
    None,
    Agreed(Terms),
    /// 422 with this `Min-SE`.
    TooShort {
        min_secs: u32,
    },
}

impl Terms {
    /// The value of `Session-Expires` in our 2xx. Over there, the SRC is the UAC.
    pub fn header(&self) -> String {
        let refresher = match self.refresher {
            Refresher::Peer => "uac",
            Refresher::Us => "uas",
        };
        format!("{};refresher={refresher}", self.interval_secs)
    }

    pub fn interval(&self) -> Duration {
        Duration::from_secs(u64::from(self.interval_secs)).min(CEILING)
    }

    /// When the session is over unless it was refreshed. A little early, because firewalls
    /// close on the second (§10).
    pub fn expiry(&self, refreshed: Instant) -> Instant {
        let interval = self.interval();
        refreshed + interval - (interval / 3).min(Duration::from_secs(32))
    }

    /// When we refresh, if it is ours to do: after half the interval (§10).
    pub fn refresh(&self, refreshed: Instant) -> Option<Instant> {
        (self.refresher == Refresher::Us).then(|| refreshed + self.interval() / 2)
    }
}

/// Decides for an INVITE or UPDATE of the SRC (§9).
///
/// `can_refresh` tells whether the SRC takes UPDATE: without it we do not promise to refresh.
pub fn negotiate(
    request: &Message,
    minimum: Duration,
    default: Duration,
    can_refresh: bool,
) -> Negotiation {
    if !request.has_option("supported", "timer") && !request.has_option("require", "timer") {
        return Negotiation::None;
    }
    let min_secs = minimum.max(FLOOR).as_secs().try_into().unwrap_or(u32::MAX);
    let asked = request.text("session-expires").and_then(|value| {
        let (delta, params) = value.split_at(value.find(';').unwrap_or(value.len()));
        let refresher = param(&parse_params(params), "refresher").map(str::to_ascii_lowercase);
        Some((delta.trim().parse::<u32>().ok()?, refresher))
    });
    let peer_min_secs = request
        .text("min-se")
        .and_then(|value| value.split(';').next()?.trim().parse::<u32>().ok())
        .unwrap_or(0);
    let (interval_secs, refresher) = match asked {
        Some((secs, _)) if secs < min_secs => return Negotiation::TooShort { min_secs },
        Some((secs, refresher)) => (secs, refresher),
        None => {
            let default_secs = default.as_secs().try_into().unwrap_or(u32::MAX);
            (peer_min_secs.max(min_secs).max(default_secs), None)
        }
    };
    let refresher = match refresher.as_deref() {
        Some("uas") if can_refresh => Refresher::Us,
        Some("uas") => return Negotiation::None,
        _ => Refresher::Peer,
    };
    Negotiation::Agreed(Terms { interval_secs, refresher })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(headers: &str) -> Negotiation {
        let text = format!("INVITE sip:x SIP/2.0\r\n{headers}\r\n\r\n");
        let message = Message::from_datagram(text.as_bytes()).expect("a SIP message");
        negotiate(&message, Duration::from_secs(90), Duration::from_secs(1800), true)
    }

    fn agreed(interval_secs: u32, refresher: Refresher) -> Negotiation {
        Negotiation::Agreed(Terms { interval_secs, refresher })
    }

    #[test]
    fn the_src_refreshes_unless_it_asked_us_to() {
        let peer = agreed(1800, Refresher::Peer);
        assert_eq!(decide("Supported: timer"), peer);
        assert_eq!(decide("k: 100rel, timer\r\nx: 1800"), peer);
        assert_eq!(decide("k: timer\r\nx: 1800;refresher=uac"), peer);
        assert_eq!(decide("k: timer\r\nx: 90 ; refresher = UAS"), agreed(90, Refresher::Us));
        assert_eq!(decide("k: timer\r\nMin-SE: 7200"), agreed(7200, Refresher::Peer));
    }

    #[test]
    fn an_src_without_timer_support_gets_no_timer() {
        assert_eq!(decide("Session-Expires: 30"), Negotiation::None);
        assert_eq!(decide("Supported:"), Negotiation::None);
    }

    #[test]
    fn a_short_interval_is_refused_with_the_shortest_we_take() {
        assert_eq!(decide("k: timer\r\nx: 89"), Negotiation::TooShort { min_secs: 90 });
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn a_session_expires_a_little_early() {
        let now = Instant::now();
        let terms = |interval_secs| Terms { interval_secs, refresher: Refresher::Us };
        assert_eq!(terms(1800).expiry(now) - now, Duration::from_secs(1768));
        assert_eq!(terms(90).expiry(now) - now, Duration::from_secs(60));
        assert_eq!(terms(90).refresh(now), Some(now + Duration::from_secs(45)));
        assert!(terms(u32::MAX).expiry(now) > now);
    }
}
