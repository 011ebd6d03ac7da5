//! The trunks of the configuration and of the policy, in the words of the protocol and of calls.

use std::sync::{Arc, RwLock};

use metrics::gauge;
use model::TenantId;
use model::numbering::NumberingPlan;
use model::trunk::{Digest, Network, Recognition, Trunk, Trunks};
use siprec::OfferedStream;
use siprec::sip::digest::Account;
use siprec::trunk as protocol;

use super::Recorder;

/// Who may connect: read by the listeners, written by the recorder.
pub type Door = Arc<RwLock<protocol::Trunks>>;

/// How the calls of a trunk are treated; the same for all that come from no trunk.
#[derive(Clone, Debug, Default)]
pub struct Treatment {
    pub tenant: Option<TenantId>,
    pub codecs: Vec<String>,
    pub media_sources: Vec<Network>,
    pub numbering: Option<NumberingPlan>,
    /// Whether a stream of which no codec is known is refused.
    pub known_codecs_only: bool,
}

impl Treatment {
    /// Whether one of the codecs of a stream is taken. Digits and comfort noise are no codecs.
    pub fn takes(&self, stream: &OfferedStream) -> bool {
        if self.known_codecs_only && !stream.formats.iter().any(|format| format.is_known()) {
            return false;
        }
        let is_speech = |encoding: &str| {
            !["telephone-event", "CN"].iter().any(|other| encoding.eq_ignore_ascii_case(other))
        };
        let mut encodings = stream.formats.iter().map(|format| format.encoding.as_str());
        self.codecs.is_empty()
            || encodings.any(|encoding| {
                is_speech(encoding)
                    && self.codecs.iter().any(|codec| codec.eq_ignore_ascii_case(encoding))
            })
    }
}

impl Recorder {
    /// Takes over the trunks of the policy, when they have changed.
    pub fn renew_trunks(&mut self, srs: &mut siprec::Srs) {
        if !self.parts.policy.has_changed().unwrap_or(false) && self.trunks.is_some() {
            return;
        }
        let mut all = self.settings.trunks.clone();
        if let Some(policy) = &*self.parts.policy.borrow_and_update() {
            for trunk in &policy.trunks.0 {
                if all.find(trunk.name.as_str()).is_some() {
                    tracing::warn!(
                        trunk = %trunk.name,
                        "a trunk of the policy has the name of a configured one, which counts"
                    );
                } else {
                    all.0.push(trunk.clone());
                }
            }
        }
        if self.trunks.as_ref() == Some(&all) {
            return;
        }
        for trunk in all.0.iter().filter(|trunk| trunk.is_known_by_address_alone()) {
            tracing::info!(trunk = %trunk.name, "known by its address alone: over UDP unauthenticated");
        }
        let protocol = protocol_trunks(&all, &self.settings.realm);
        srs.set_trunks(protocol.clone());
        *self.parts.door.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = protocol;
        tracing::info!(trunks = all.0.len(), "trunks in force");
        self.trunks = Some(all);
    }

    pub(super) fn treatment(&self, trunk: Option<&str>) -> Treatment {
        let trunk = self.trunks.as_ref().zip(trunk).and_then(|(all, name)| all.find(name));
        let known_codecs_only = !self.settings.unknown_codecs;
        let nobodys = Treatment { known_codecs_only, ..Treatment::default() };
        trunk.map_or(nobodys, |trunk| Treatment {
            tenant: trunk.tenant.clone(),
            codecs: trunk.codecs.clone(),
            media_sources: trunk.media_sources.clone(),
            numbering: trunk.numbering.clone(),
            known_codecs_only,
        })
    }

    /// What the protocol counted, and the calls of each trunk.
    pub(super) fn tell_counts(&self, srs: &mut siprec::Srs) {
        crate::metrics::tell_sip_counts(srs.take_counts());
        for trunk in self.trunks.iter().flat_map(|all| &all.0) {
            let name = trunk.name.as_str();
            gauge!("linekeeper_trunk_calls_active", "trunk" => name.to_owned())
                .set(srs.sessions_of(Some(name)) as f64);
        }
    }
}

fn protocol_trunks(trunks: &Trunks, realm: &str) -> protocol::Trunks {
    protocol::Trunks::new(trunks.0.iter().map(|trunk| protocol_trunk(trunk, realm)).collect())
}

fn protocol_trunk(trunk: &Trunk, realm: &str) -> protocol::Trunk {
    protocol::Trunk {
        name: trunk.name.to_string(),
        sources: trunk.sources.iter().copied().map(protocol_network).collect(),
        tls_names: trunk.tls_names.clone(),
        account: trunk.digest.as_ref().map(|digest| account(digest, realm)),
        recognition: match trunk.recognition {
            Recognition::Strict => siprec::Recognition::Strict,
            Recognition::StandardOrMetadata => siprec::Recognition::StandardOrMetadata,
            Recognition::AnyInvite => siprec::Recognition::AnyInvite,
        },
        max_sessions: trunk.max_calls,
        reserved_sessions: trunk.reserved_calls,
        max_new_per_sec: trunk.max_calls_per_sec,
    }
}

fn protocol_network(network: Network) -> protocol::Network {
    protocol::Network { address: network.address, prefix_bits: network.prefix_bits }
}

fn account(digest: &Digest, realm: &str) -> Account {
    match &digest.password {
        Some(password) => Account::with_password(&digest.user, realm, password.reveal()),
        None => Account::with_hashes(
            &digest.user,
            digest.sha256.as_ref().map(|secret| secret.reveal()),
            digest.md5.as_ref().map(|secret| secret.reveal()),
        ),
    }
}

#[cfg(test)]
mod tests {
    use siprec::{Direction, PayloadFormat};

    use super::*;

    fn stream(encodings: &[&str]) -> OfferedStream {
        let format = |encoding: &&str| PayloadFormat {
            payload_type: 96,
            encoding: (*encoding).to_owned(),
            clock_rate: 8_000,
            channels: 1,
            fmtp: None,
        };
        OfferedStream {
            index: 0,
            media: "audio".to_owned(),
            label: None,
            formats: encodings.iter().map(format).collect(),
            address: None,
            direction: Direction::SendOnly,
            port_zero: false,
            protocol: "RTP/AVP".to_owned(),
            usable: true,
        }
    }

    #[test]
    fn a_stream_is_taken_for_one_codec_that_is_allowed() {
        let any = Treatment::default();
        assert!(any.takes(&stream(&["x-own", "telephone-event"])));
        let codecs = vec!["pcmu".to_owned(), "telephone-event".to_owned()];
        let some = Treatment { codecs, ..Treatment::default() };
        assert!(some.takes(&stream(&["G729", "PCMU"])));
        assert!(!some.takes(&stream(&["G729", "telephone-event"])));
        let known = Treatment { known_codecs_only: true, ..Treatment::default() };
        assert!(known.takes(&stream(&["x-own", "PCMA"])));
        assert!(!known.takes(&stream(&["x-own"])));
    }
}
