//! The keys of a stream that is encrypted (RFC 4568): ours in the offer, theirs in the answer.

use siprec::rtp::srtp::{Keying, Suite};
use siprec::sdp::{Crypto, MediaDescription};

use crate::report::CallError;

/// Our key for what we send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnKey {
    line: Crypto,
    keying: Keying,
}

impl OwnKey {
    pub fn random(suite: Suite, tag: u32) -> Result<Self, CallError> {
        let mut key = vec![0; suite.key_and_salt_bytes()];
        getrandom::fill(&mut key).map_err(CallError::Random)?;
        let line = Crypto::new(tag, suite, key);
        let keying =
            line.keying().map_err(|error| CallError::Plan { problem: error.to_string() })?;
        Ok(Self { line, keying })
    }

    /// As it stands in the offer.
    pub fn line(&self) -> String {
        self.line.to_line()
    }

    pub fn tag(&self) -> u32 {
        self.line.tag
    }

    pub fn keying(&self) -> &Keying {
        &self.keying
    }

    /// What the recorder protects its reports with, by its answer (RFC 4568 §7.1.3).
    pub fn answered_by(&self, answer: &MediaDescription) -> Result<Keying, String> {
        let [line] = answer.crypto.as_slice() else {
            return Err(format!("{} keys answer one", answer.crypto.len()));
        };
        if line.tag != self.line.tag || line.suite != self.line.suite {
            return Err("the answer has another tag or suite than the offer".to_owned());
        }
        if line.keys == self.line.keys {
            return Err("the answer has our own key".to_owned());
        }
        line.keying().map_err(|error| error.to_string())
    }
}
