//! Answers to offers: whether a call is taken, and on which ports.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use metrics::counter;
use model::SessionId;
use model::recording::flag;
use segment::Sealer;
use siprec::{InviteInfo, MediaAddress, Oddity, OfferedStream, Refusal, SessionKey, Srs};

use super::call::{Call, Story, StreamPorts};
use super::trunks::Treatment;
use super::{Recorder, agreed, begin, facts, terms};
use crate::capture::Order;
use crate::capture::ports::{PortError, PortPair};
use crate::journal::{AppendRecord, Moment, SessionTag};

/// Why a call is refused, as a metric's label; the answer follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    NothingUsable,
    Unable,
    NoPorts,
    NoKey,
    Journal,
}

impl Why {
    fn label(self) -> &'static str {
        match self {
            Self::NothingUsable => "nothing_usable",
            Self::Unable => "unable",
            Self::NoPorts => "no_ports",
            Self::NoKey => "no_key",
            Self::Journal => "journal",
        }
    }

    /// 503 makes the SRC try another recorder (RFC 3263 §4.3); the others would be refused there
    /// as well.
    fn refusal(self, retry_after_secs: u32) -> Refusal {
        match self {
            Self::NothingUsable => Refusal::NotAcceptable,
            Self::Unable | Self::NoPorts | Self::NoKey | Self::Journal => {
                Refusal::Busy { retry_after_secs }
            }
        }
    }
}

impl Recorder {
    pub(super) fn offered(
        &mut self,
        now: Instant,
        srs: &mut Srs,
        key: SessionKey,
        invite: InviteInfo,
        offer: &[OfferedStream],
    ) {
        match self.take_call(now, key, &invite, offer) {
            Ok(media) => {
                counter!("linekeeper_calls_total").increment(1);
                self.tell_calls();
                srs.accept(now, key, &media);
            }
            Err(why) => {
                let peer = invite.peer;
                tracing::warn!(call_id = invite.call_id, %peer, why = why.label(), "call refused");
                counter!("linekeeper_calls_refused_total", "reason" => why.label()).increment(1);
                srs.refuse(now, key, why.refusal(self.settings.retry_after_secs));
            }
        }
    }

    /// Everything that must be in place before the 200: ports, ids, key, journal.
    fn take_call(
        &mut self,
        now: Instant,
        key: SessionKey,
        invite: &InviteInfo,
        offer: &[OfferedStream],
    ) -> Result<Vec<Option<MediaAddress>>, Why> {
        let treatment = self.treatment(invite.trunk.as_deref());
        let tenant = treatment.tenant.clone().unwrap_or_else(|| self.settings.tenant.clone());
        if let Some(unable) = self.unable() {
            tracing::warn!(%unable, "no calls can be taken");
            return Err(Why::Unable);
        }
        let wanted: Vec<&OfferedStream> =
            offer.iter().filter(|stream| wanted(stream, &treatment)).collect();
        if wanted.is_empty() {
            return Err(Why::NothingUsable);
        }
        let tenant_key = self.parts.policy.borrow().as_ref().and_then(|policy| policy.key(&tenant));
        let session = new_session_id().ok_or(Why::NoKey)?;
        let (sealer, sealed_key) =
            Sealer::new(session, &tenant_key.ok_or(Why::NoKey)?).map_err(|error| {
                tracing::error!(%error, "no data key could be made");
                Why::NoKey
            })?;
        let pairs = self.open_pairs(now, &wanted).map_err(|error| {
            tracing::error!(error = %error, "no RTP ports for a call");
            Why::NoPorts
        })?;

        let mut story = Story {
            headers: invite.headers.clone(),
            trunk: invite.trunk.clone(),
            numbering: treatment.numbering.clone(),
            media_sources: treatment.media_sources.clone(),
            ..Story::default()
        };
        if let Some(trunk) = &invite.trunk {
            story.headers.push(("trunk".to_owned(), trunk.clone()));
            let proof = invite.proof.as_str().to_owned();
            story.headers.push(("trunk-authentication".to_owned(), proof));
        }
        // Whether there is metadata is known when the call is over: it may come by UPDATE.
        let odd = invite.oddities.iter().filter(|oddity| **oddity != Oddity::NoMetadata);
        story.flags.extend(odd.map(|oddity| oddity.flag().to_owned()));
        if invite.trunk.is_none() {
            story.flags.insert(flag::UNTRUSTED_SOURCE.to_owned());
        }
        let recording = session.first_recording();
        let tag = SessionTag { session, recording, tenant };
        let mut call = Call::new(key, tag.clone(), sealer, story);
        let at = Moment::now();
        let ids = facts::call_ids(&invite.call_id, &invite.headers);
        if let Err(error) = begin(&mut call, &self.parts.journal, at, recording, ids) {
            tracing::error!(%error, "the start of a call was not journaled");
            self.give_back(now, pairs);
            return Err(Why::Journal);
        }
        let record = AppendRecord::Key { body: sealed_key.to_bytes() };
        if let Err(error) = self.parts.journal.append(&tag, at, record) {
            tracing::error!(%error, "the key of a call was not journaled");
            self.give_back(now, pairs);
            self.unwritten.push_back(call.end_record(at, recording, "refused", true));
            return Err(Why::Journal);
        }
        let media = self.open_streams(&mut call, offer, invite.peer, &treatment, pairs);
        tracing::info!(
            %session,
            call_id = invite.call_id,
            peer = %invite.peer,
            streams = call.story.streams.len(),
            "call accepted"
        );
        self.keys.insert(session, key);
        self.calls.insert(key, call);
        Ok(media)
    }

    /// The SRC changes the streams: those that we have keep their ports, new ones get some.
    pub(super) fn reoffered(
        &mut self,
        now: Instant,
        srs: &mut Srs,
        key: SessionKey,
        offer: &[OfferedStream],
    ) {
        let Some((peer, mut call)) = srs.peer(key).zip(self.calls.remove(&key)) else {
            srs.refuse(now, key, Refusal::NotAcceptable);
            return;
        };
        let treatment = self.treatment(call.story.trunk.as_deref());
        let new: Vec<&OfferedStream> = offer
            .iter()
            .filter(|stream| wanted(stream, &treatment))
            .filter(|stream| !has_ports(&call, stream))
            .collect();
        let pairs = self.open_pairs(now, &new).unwrap_or_else(|error| {
            // The streams that there are go on; the new one is refused alone.
            tracing::error!(session = %call.session(), error = %error, "no RTP ports for a stream");
            BTreeMap::new()
        });
        let media = self.open_streams(&mut call, offer, peer, &treatment, pairs);
        self.calls.insert(key, call);
        srs.accept(now, key, &media);
    }

    /// One pair per stream, or none for any.
    fn open_pairs(
        &mut self,
        now: Instant,
        streams: &[&OfferedStream],
    ) -> Result<BTreeMap<usize, PortPair>, PortError> {
        let mut pairs = BTreeMap::new();
        for stream in streams {
            match self.parts.ports.allocate(now) {
                Ok(pair) => {
                    pairs.insert(stream.index, pair);
                }
                Err(error) => {
                    self.give_back(now, pairs);
                    return Err(error);
                }
            }
        }
        Ok(pairs)
    }

    fn give_back(&mut self, now: Instant, pairs: BTreeMap<usize, PortPair>) {
        for pair in pairs.into_values() {
            let port = pair.port;
            drop(pair);
            self.parts.ports.release(port, now);
        }
    }

    /// Hands new pairs to capture, and says per m-line where we receive it.
    fn open_streams(
        &mut self,
        call: &mut Call,
        offer: &[OfferedStream],
        peer: SocketAddr,
        treatment: &Treatment,
        mut pairs: BTreeMap<usize, PortPair>,
    ) -> Vec<Option<MediaAddress>> {
        let session = call.session();
        call.signaling = Some(peer.ip());
        let terms = terms(&self.settings, &self.parts.journal, call);
        let answer = offer.iter().map(|stream| {
            if !wanted(stream, treatment) {
                return None;
            }
            let index = u16::try_from(stream.index).ok()?;
            if let Some(pair) = pairs.remove(&stream.index) {
                let towards = stream.address.unwrap_or(peer).ip();
                let host =
                    self.settings.rtp_address.unwrap_or_else(|| self.parts.routes.towards(towards));
                let advertised = SocketAddr::new(host, pair.port);
                let stream_ports = StreamPorts { port: pair.port, advertised, rollover: None };
                call.story.streams.insert(index, stream_ports);
                self.parts.capture.order(Order::Open {
                    session,
                    stream: index,
                    ports: pair,
                    expected: Box::new(agreed::by_offer(stream, &terms)),
                    cname: agreed::cname(session),
                    // Whose stream this is shows in the metadata, if anywhere. Until it is known
                    // not to be part of what is paused, it is.
                    paused: !call.story.paused.is_empty(),
                });
            }
            call.story.streams.get(&index).map(|ports| MediaAddress { rtp: ports.advertised })
        });
        answer.collect()
    }
}

fn wanted(stream: &OfferedStream, treatment: &Treatment) -> bool {
    stream.usable
        && !stream.port_zero
        && treatment.takes(stream)
        && u16::try_from(stream.index).is_ok()
}

fn has_ports(call: &Call, stream: &OfferedStream) -> bool {
    u16::try_from(stream.index).is_ok_and(|index| call.story.streams.contains_key(&index))
}

/// `None` when the operating system has no random bytes.
fn new_session_id() -> Option<SessionId> {
    let mut random = [0; 10];
    getrandom::fill(&mut random).ok()?;
    let unix_ms = u64::try_from(Moment::now().wall().unix_ms()).unwrap_or(0);
    Some(SessionId::at(unix_ms, random))
}
