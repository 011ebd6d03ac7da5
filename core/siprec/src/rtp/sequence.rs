//! Gives every RTP packet of a stream a number that never wraps.
//!
//! RTP counts packets in 16 bits (RFC 3550 §5.1). At 50 packets a second the count wraps
//! every 22 minutes, so an ordinary call wraps it. Code after this module compares
//! [`ExtendedSeq`] and need not think about wrapping.

/// RTP's 16-bit sequence number plus the wraps counted so far (RFC 3550 §6.4.1).
///
/// Negative for packets that were sent before the first one we received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtendedSeq(pub i64);

/// Extends the sequence numbers of one SSRC.
#[derive(Clone, Debug, Default)]
pub struct SequenceUnwrapper {
    newest: Option<ExtendedSeq>,
}

impl SequenceUnwrapper {
    /// Extends `seq` to the value nearest the newest packet so far, earlier or later.
    pub fn extend(&mut self, seq: u16) -> ExtendedSeq {
        let extended = match self.newest {
            None => ExtendedSeq(i64::from(seq)),
            Some(ExtendedSeq(newest)) => {
                // Read as i16, the 16-bit difference is the short way round the circle.
                let distance = seq.wrapping_sub(newest as u16) as i16;
                ExtendedSeq(newest + i64::from(distance))
            }
        };
        self.newest = self.newest.max(Some(extended));
        extended
    }

    /// The newest number so far.
    pub fn newest(&self) -> Option<ExtendedSeq> {
        self.newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_packet_is_not_a_wrap() {
        let mut unwrapper = SequenceUnwrapper::default();
        unwrapper.extend(65_535);
        unwrapper.extend(1);
        assert_eq!(unwrapper.extend(0), ExtendedSeq(65_536));
        assert_eq!(unwrapper.extend(2), ExtendedSeq(65_538));
    }

    #[test]
    fn a_packet_sent_before_the_first_is_numbered_below_it() {
        let mut unwrapper = SequenceUnwrapper::default();
        unwrapper.extend(1);
        assert_eq!(unwrapper.extend(65_535), ExtendedSeq(-1));
        assert_eq!(unwrapper.newest(), Some(ExtendedSeq(1)));
    }

    #[test]
    fn an_hour_of_packets_is_counted_without_a_wrap() {
        let mut unwrapper = SequenceUnwrapper::default();
        for sent in 0..180_000_i64 {
            assert_eq!(unwrapper.extend((sent + 60_000) as u16), ExtendedSeq(sent + 60_000));
        }
    }
}
