//! The header of an RTP packet (RFC 3550 §5.1), and telling RTP from RTCP (RFC 5761 §4).

/// A datagram on an RTP port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    Rtp(RtpHeader<'a>),
    /// One or several RTCP packets, for [`super::rtcp::parse`].
    Rtcp(&'a [u8]),
}

impl<'a> Packet<'a> {
    pub fn parse(datagram: &'a [u8]) -> Result<Self, PacketError> {
        match RtpHeader::parse(datagram) {
            Err(PacketError::Rtcp { .. }) => Ok(Self::Rtcp(datagram)),
            rtp => rtp.map(Self::Rtp),
        }
    }
}

/// The fixed header, and slices of everything behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpHeader<'a> {
    /// On audio: the first packet after silence (RFC 3551 §4.1).
    pub marker: bool,
    pub payload_type: u8,
    pub sequence: u16,
    pub timestamp: u32,
    pub ssrc: u32,
    csrcs: &'a [u8],
    /// Profile-defined 16 bits and content of the header extension (RFC 3550 §5.3.1).
    pub extension: Option<(u16, &'a [u8])>,
    /// Without padding. Empty in keep-alives (RFC 6263 §4.6).
    pub payload: &'a [u8],
}

/// Why a datagram is no RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    #[error("{bytes} bytes are too short for RTP")]
    TooShort { bytes: usize },
    #[error("version {version}, not 2: STUN, DTLS or noise")]
    Version { version: u8 },
    #[error("RTCP packet of type {packet_type}")]
    Rtcp { packet_type: u8 },
    #[error("padding of {padding} bytes in {bytes} bytes")]
    Padding { padding: u8, bytes: usize },
}

const FIXED_HEADER_BYTES: usize = 12;

/// What RTCP packet types look like where RTP has its marker bit and payload type. RFC 5761 §4
/// keeps RTP payload types 64 to 95 unused for this.
pub(super) const RTCP_PACKET_TYPES: std::ops::RangeInclusive<u8> = 192..=223;

impl<'a> RtpHeader<'a> {
    /// Reads a datagram that may be anything.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, PacketError> {
        let mut header = Self::parse_sealed(datagram)?;
        if datagram[0] & 0x20 != 0 {
            let bytes = datagram.len();
            // The last byte counts the padding, itself included.
            let padding = header.payload.last().copied().unwrap_or(0);
            let kept = header.payload.len().checked_sub(usize::from(padding));
            let kept = kept.filter(|_| padding > 0);
            header.payload =
                &header.payload[..kept.ok_or(PacketError::Padding { padding, bytes })?];
        }
        Ok(header)
    }

    /// Reads a packet whose payload is encrypted (RFC 3711 §3.1). The header is not, but the byte
    /// that counts the padding is, so that `payload` is everything behind the header.
    pub fn parse_sealed(datagram: &'a [u8]) -> Result<Self, PacketError> {
        let bytes = datagram.len();
        let too_short = PacketError::TooShort { bytes };
        let [first, second, ..] = *datagram else { return Err(too_short) };
        if first >> 6 != 2 {
            return Err(PacketError::Version { version: first >> 6 });
        }
        if RTCP_PACKET_TYPES.contains(&second) {
            return Err(PacketError::Rtcp { packet_type: second });
        }
        let (fixed, rest) = datagram.split_at_checked(FIXED_HEADER_BYTES).ok_or(too_short)?;
        let csrc_bytes = usize::from(first & 0x0f) * 4;
        let (csrcs, mut rest) = rest.split_at_checked(csrc_bytes).ok_or(too_short)?;
        let mut extension = None;
        if first & 0x10 != 0 {
            let (head, after) = rest.split_first_chunk::<4>().ok_or(too_short)?;
            let words = u16::from_be_bytes([head[2], head[3]]);
            let (content, after) =
                after.split_at_checked(usize::from(words) * 4).ok_or(too_short)?;
            extension = Some((u16::from_be_bytes([head[0], head[1]]), content));
            rest = after;
        }
        let word = |at: usize| {
            u32::from_be_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]])
        };
        Ok(Self {
            marker: second & 0x80 != 0,
            payload_type: second & 0x7f,
            sequence: u16::from_be_bytes([fixed[2], fixed[3]]),
            timestamp: word(4),
            ssrc: word(8),
            csrcs,
            extension,
            payload: rest,
        })
    }

    /// Who contributed to a mixed packet.
    pub fn csrcs(&self) -> impl Iterator<Item = u32> + 'a {
        self.csrcs.chunks_exact(4).map(|id| u32::from_be_bytes([id[0], id[1], id[2], id[3]]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Version 2, payload type 0, sequence 5, timestamp 160, SSRC 0x11223344.
    const PLAIN: [u8; 12] = [0x80, 0x00, 0, 5, 0, 0, 0, 160, 0x11, 0x22, 0x33, 0x44];

    fn packet(first: u8, tail: &[u8]) -> Vec<u8> {
        let mut packet = PLAIN.to_vec();
        packet[0] = first;
        packet.extend_from_slice(tail);
        packet
    }

    #[test]
    fn a_plain_packet_is_read() {
        let bytes = packet(0x80, b"audio");
        let header = RtpHeader::parse(&bytes).unwrap();
        assert_eq!((header.marker, header.payload_type), (false, 0));
        assert_eq!((header.sequence, header.timestamp), (5, 160));
        assert_eq!((header.ssrc, header.payload), (0x1122_3344, b"audio".as_slice()));
    }

    #[test]
    fn contributors_extension_and_padding_are_not_payload() {
        let tail = [
            &[0, 0, 0, 1, 0, 0, 0, 2][..],   // two CSRCs
            &[0xbe, 0xde, 0, 1, 9, 8, 7, 6], // extension of one word
            b"audio",
            &[0, 0, 3], // padding
        ]
        .concat();
        let bytes = packet(0x80 | 0x20 | 0x10 | 2, &tail);
        let header = RtpHeader::parse(&bytes).unwrap();
        assert_eq!(header.csrcs().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(header.extension, Some((0xbede, [9, 8, 7, 6].as_slice())));
        assert_eq!(header.payload, b"audio");
    }

    #[test]
    fn a_marker_does_not_make_a_payload_type_rtcp() {
        let mut bytes = packet(0x80, b"");
        bytes[1] = 0x80 | 101;
        let header = RtpHeader::parse(&bytes).unwrap();
        assert_eq!((header.marker, header.payload_type), (true, 101));
    }

    #[test]
    fn rtcp_is_told_from_rtp() {
        for packet_type in [192, 200, 201, 202, 203, 204, 205, 206, 207, 223] {
            let bytes = [0x80, packet_type, 0, 0];
            assert_eq!(RtpHeader::parse(&bytes), Err(PacketError::Rtcp { packet_type }));
            assert_eq!(Packet::parse(&bytes), Ok(Packet::Rtcp(&bytes)));
        }
    }

    #[test]
    fn what_is_cut_short_or_overstates_itself_is_an_error() {
        let full = packet(0x80 | 0x10 | 3, &[0; 20]);
        assert!(RtpHeader::parse(&full).is_ok());
        for bytes in 0..28 {
            assert_eq!(RtpHeader::parse(&full[..bytes]), Err(PacketError::TooShort { bytes }));
        }
        for padding in [0, 6] {
            let bytes = packet(0x80 | 0x20, &[0, 0, 0, 0, padding]);
            assert_eq!(RtpHeader::parse(&bytes), Err(PacketError::Padding { padding, bytes: 17 }));
        }
        assert!(matches!(
            RtpHeader::parse(&packet(0x80 | 0x20, &[])),
            Err(PacketError::Padding { .. })
        ));
    }

    #[test]
    fn stun_on_the_rtp_port_is_not_rtp() {
        let stun = [0x00, 0x01, 0, 0, 0x21, 0x12, 0xa4, 0x42];
        assert_eq!(RtpHeader::parse(&stun), Err(PacketError::Version { version: 0 }));
    }
}
