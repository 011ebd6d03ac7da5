//! Offer and answer of a recording session (RFC 3264, RFC 7866 §7.2).

use std::net::{IpAddr, SocketAddr};

use rsip::StatusCode;

use crate::sdp::{Crypto, Direction, MediaDescription, Origin, SessionDescription, answer, offer};
use crate::stream::{MediaAddress, NegotiatedStream, OfferedStream, SrtpKeys};

/// An offer that waits for the shell's addresses.
#[derive(Debug)]
pub enum Offer {
    /// From the SRC: we answer in the 200.
    Theirs(SessionDescription),
    /// The INVITE had none: our offer goes into the 200, the answer comes with the ACK.
    Ours,
}

/// Why no stream of an offer is taken (RFC 3261 §20.43).
pub struct NotAcceptable {
    pub status: StatusCode,
    pub warning: String,
}

impl Offer {
    /// The m-lines as the shell sees them.
    pub fn streams(&self) -> Vec<OfferedStream> {
        match self {
            Self::Theirs(description) => {
                description.media.iter().enumerate().map(|(i, media)| offered(i, media)).collect()
            }
            Self::Ours => our_proposal().media.iter().enumerate().map(proposed).collect(),
        }
    }

    /// The addresses for m-lines that can be recorded; others are refused.
    pub fn usable_addresses(&self, media: &[Option<MediaAddress>]) -> Vec<Option<SocketAddr>> {
        let address = |index: usize| media.get(index).copied().flatten().map(|media| media.rtp);
        match self {
            Self::Theirs(description) => description
                .media
                .iter()
                .enumerate()
                .map(|(index, media)| address(index).filter(|_| media.is_recordable()))
                .collect(),
            Self::Ours => vec![address(0)],
        }
    }

    /// Whether 488 is the answer: something was offered and nothing is taken.
    ///
    /// An offer of nothing at all is fine: a persistent recording session starts so (RFC 7866
    /// §10), and a session on hold may have all its ports at zero.
    pub fn refusal(&self, local: &[Option<SocketAddr>], own: IpAddr) -> Option<NotAcceptable> {
        if local.iter().any(Option::is_some) {
            return None;
        }
        let Self::Theirs(description) = self else {
            return Some(NotAcceptable::new(304, "Media type not available", own));
        };
        let mut wanted = description.media.iter().filter(|media| !media.port_zero()).peekable();
        wanted.peek()?;
        let heard: Vec<_> = wanted.filter(|media| media.is_audio_or_video()).collect();
        let is_rtp = |media: &&MediaDescription| media.is_plain_rtp() || media.is_secure_rtp();
        let without_key =
            |media: &&MediaDescription| media.is_secure_rtp() && media.usable_crypto().is_none();
        Some(if heard.is_empty() {
            NotAcceptable::new(304, "Media type not available", own)
        } else if heard.iter().all(without_key) {
            // Nothing of RFC 3261 §20.43 says it, so in words.
            NotAcceptable::new(399, "No usable key in a=crypto", own)
        } else if !heard.iter().any(is_rtp) {
            NotAcceptable::new(302, "Incompatible transport protocol", own)
        } else {
            NotAcceptable::new(305, "Incompatible media format", own)
        })
    }
}

impl NotAcceptable {
    pub fn new(code: u16, text: &str, own: IpAddr) -> Self {
        let warning = match own {
            IpAddr::V4(ip) => format!("{code} {ip} \"{text}\""),
            IpAddr::V6(ip) => format!("{code} [{ip}] \"{text}\""),
        };
        Self { status: StatusCode::NotAcceptableHere, warning }
    }
}

fn offered(index: usize, media: &MediaDescription) -> OfferedStream {
    OfferedStream {
        index,
        media: media.media.clone(),
        label: media.label.clone(),
        formats: media.formats.clone(),
        address: media.address,
        direction: media.direction,
        port_zero: media.port_zero(),
        protocol: media.protocol.clone(),
        usable: media.is_recordable(),
    }
}

/// One stream of the offer we make ourselves; the SRC is the one who would send.
fn proposed((index, media): (usize, &MediaDescription)) -> OfferedStream {
    let direction = Direction::SendOnly;
    OfferedStream { address: None, direction, usable: true, ..offered(index, media) }
}

/// Our key for each m-line that is encrypted. One that we have for the same suite stays, so that
/// an offer that changes something else does not make the SRC begin anew; others are drawn.
pub fn own_crypto(
    offer: &SessionDescription,
    known: &[Option<Crypto>],
    mut draw: impl FnMut(&mut [u8]),
) -> Vec<Option<Crypto>> {
    let own = |(index, media): (usize, &MediaDescription)| {
        let offered = media.usable_crypto()?;
        let bytes = offered.keying().ok()?.suite.key_and_salt_bytes();
        let known = known.get(index).and_then(Option::as_ref);
        let known = known.filter(|known| known.suite.eq_ignore_ascii_case(&offered.suite));
        let key = known.and_then(|known| known.keys.first()).map(|key| key.key_and_salt.clone());
        let key = key.unwrap_or_else(|| {
            let mut key = vec![0; bytes];
            draw(&mut key);
            key
        });
        Some(Crypto::answering(offered, key))
    };
    offer.media.iter().enumerate().map(own).collect()
}

/// Our own offer with a place-holder for the address: what formats it has.
fn our_proposal() -> SessionDescription {
    let unspecified = SocketAddr::from(([0, 0, 0, 0], 9));
    let origin = Origin { session_id: 0, version: 0, address: unspecified.ip() };
    offer::parse(&answer::build_offer(&[unspecified], &origin)).unwrap_or_default()
}

/// What is recorded when `remote` is what the SRC says, `local` is where we listen, and `crypto`
/// is what we protect our RTCP with.
pub fn negotiated(
    remote: &SessionDescription,
    local: &[Option<SocketAddr>],
    crypto: &[Option<Crypto>],
) -> Vec<NegotiatedStream> {
    let stream = |(index, media): (usize, &MediaDescription)| {
        let local = local.get(index).copied().flatten().filter(|_| !media.port_zero());
        let ours = crypto.get(index).and_then(Option::as_ref);
        let srtp = media.usable_crypto().zip(ours);
        NegotiatedStream {
            index,
            label: media.label.clone(),
            formats: media.formats.clone(),
            remote: media.address,
            local,
            direction: if media.direction.sends() {
                Direction::SendOnly
            } else {
                Direction::Inactive
            },
            removed: local.is_none(),
            protocol: media.protocol.clone(),
            rtcp_mux: media.rtcp_mux,
            media: media.media.clone(),
            remote_rtcp: media.rtcp_address(),
            srtp: srtp
                .map(|(theirs, ours)| SrtpKeys { theirs: theirs.clone(), ours: ours.clone() }),
        }
    };
    remote.media.iter().enumerate().map(stream).collect()
}

/// What is recorded when the SRC never answered our offer: whatever arrives.
pub fn unanswered(ours: &[u8], local: &[Option<SocketAddr>]) -> Vec<NegotiatedStream> {
    let ours = offer::parse(ours).unwrap_or_default();
    let mut streams = negotiated(&ours, local, &[]);
    for stream in &mut streams {
        stream.remote = None;
        stream.remote_rtcp = None;
        stream.direction = Direction::SendOnly;
    }
    streams
}

/// Our description for a re-INVITE without an offer: what we have, all of it active, since
/// the SRC decides in its answer (RFC 3261 §14.2).
pub fn offer_again(
    remote: &SessionDescription,
    local: &[Option<SocketAddr>],
    crypto: &[Option<Crypto>],
    origin: &Origin,
) -> Vec<u8> {
    let mut remote = remote.clone();
    for media in &mut remote.media {
        media.signalled_direction = Direction::SendOnly;
    }
    answer::build(&remote, local, crypto, origin)
}
