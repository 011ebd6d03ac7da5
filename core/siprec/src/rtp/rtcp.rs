//! As much RTCP as a recorder needs (RFC 3550 §6): reports and goodbyes in, receiver reports out.
//!
//! An SRS must support RTCP (RFC 7866 §8.1.1). From the SRC it wants the sender report, whose pair
//! of NTP time and RTP timestamp puts the streams of a call on one clock. To the SRC it says that
//! it is there and what it lost.

/// A packet of a compound that we have a use for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rtcp {
    SenderReport {
        ssrc: u32,
        info: SenderInfo,
        blocks: Vec<ReportBlock>,
    },
    ReceiverReport {
        ssrc: u32,
        blocks: Vec<ReportBlock>,
    },
    /// These sources send no more (§6.6).
    Bye {
        ssrcs: Vec<u32>,
    },
}

/// §6.4.1
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderInfo {
    /// Seconds since 1900 in the upper half, a fraction in the lower.
    pub ntp: u64,
    /// The same instant in ticks of the stream.
    pub rtp_timestamp: u32,
    pub packets: u32,
    pub octets: u32,
}

impl SenderInfo {
    /// The middle 32 bits of `ntp`, which a receiver report echoes as `last_sr`.
    pub fn compact_ntp(&self) -> u32 {
        (self.ntp >> 16) as u32
    }
}

/// §6.4.1
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportBlock {
    /// The source that this is about.
    pub ssrc: u32,
    /// Lost of 256 since the report before.
    pub fraction_lost: u8,
    /// Negative when there were duplicates. 24 bits on the wire.
    pub cumulative_lost: i32,
    pub extended_highest_sequence: u32,
    /// In ticks of the stream.
    pub interarrival_jitter: u32,
    /// [`SenderInfo::compact_ntp`] of the last sender report, 0 without one.
    pub last_sr: u32,
    /// Since then, in 1/65536 seconds.
    pub delay_since_last_sr: u32,
}

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const BYE: u8 = 203;

const BLOCK_BYTES: usize = 24;

/// Reads a compound packet. Packets of other kinds are skipped; what follows a broken one is lost,
/// since its length tells where the next begins.
pub fn parse(mut datagram: &[u8]) -> Vec<Rtcp> {
    let mut packets = Vec::new();
    while let [first, packet_type, high, low, ..] = *datagram {
        let bytes = (usize::from(u16::from_be_bytes([high, low])) + 1) * 4;
        let Some((packet, rest)) = datagram.split_at_checked(bytes) else { break };
        if first >> 6 != 2 || !super::packet::RTCP_PACKET_TYPES.contains(&packet_type) {
            break;
        }
        packets.extend(read(packet_type, usize::from(first & 0x1f), &packet[4..]));
        datagram = rest;
    }
    packets
}

fn read(packet_type: u8, count: usize, content: &[u8]) -> Option<Rtcp> {
    let word =
        |at: usize| content.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
    let blocks = |from: usize| -> Vec<ReportBlock> {
        let blocks = content.get(from..).unwrap_or_default().chunks_exact(BLOCK_BYTES);
        blocks.take(count).map(read_block).collect()
    };
    match packet_type {
        SENDER_REPORT => Some(Rtcp::SenderReport {
            ssrc: word(0)?,
            info: SenderInfo {
                ntp: u64::from(word(4)?) << 32 | u64::from(word(8)?),
                rtp_timestamp: word(12)?,
                packets: word(16)?,
                octets: word(20)?,
            },
            blocks: blocks(24),
        }),
        RECEIVER_REPORT => Some(Rtcp::ReceiverReport { ssrc: word(0)?, blocks: blocks(4) }),
        BYE => Some(Rtcp::Bye { ssrcs: (0..count).map_while(|index| word(index * 4)).collect() }),
        _ => None,
    }
}

/// `block` has [`BLOCK_BYTES`] bytes.
fn read_block(block: &[u8]) -> ReportBlock {
    let word =
        |at: usize| u32::from_be_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
    ReportBlock {
        ssrc: word(0),
        fraction_lost: block[4],
        // The shift there and back extends the sign of 24 bits.
        cumulative_lost: (word(4) << 8) as i32 >> 8,
        extended_highest_sequence: word(8),
        interarrival_jitter: word(12),
        last_sr: word(16),
        delay_since_last_sr: word(20),
    }
}

/// A receiver report and the CNAME that every compound must carry (§6.1).
///
/// With no block it is the empty report of one who has received nothing yet (§6.4.2). At most 31
/// blocks fit; further ones are left out.
pub fn receiver_report(ssrc: u32, blocks: &[ReportBlock], cname: &str) -> Vec<u8> {
    let blocks = &blocks[..blocks.len().min(31)];
    let mut compound = Vec::with_capacity(8 + blocks.len() * BLOCK_BYTES + 64);
    begin(&mut compound, blocks.len(), RECEIVER_REPORT, 1 + blocks.len() * BLOCK_BYTES / 4);
    compound.extend(ssrc.to_be_bytes());
    write_blocks(&mut compound, blocks);
    source_description(&mut compound, ssrc, cname);
    compound
}

/// The end of a compound: these sources send no more (§6.6).
pub fn append_bye(compound: &mut Vec<u8>, ssrcs: &[u32]) {
    let ssrcs = &ssrcs[..ssrcs.len().min(31)];
    begin(compound, ssrcs.len(), BYE, ssrcs.len());
    compound.extend(ssrcs.iter().flat_map(|ssrc| ssrc.to_be_bytes()));
}

/// A sender report and CNAME, as an SRC sends them.
pub fn sender_report(ssrc: u32, info: &SenderInfo, cname: &str) -> Vec<u8> {
    let mut compound = Vec::with_capacity(92);
    begin(&mut compound, 0, SENDER_REPORT, 6);
    compound.extend(ssrc.to_be_bytes());
    compound.extend(info.ntp.to_be_bytes());
    for word in [info.rtp_timestamp, info.packets, info.octets] {
        compound.extend(word.to_be_bytes());
    }
    source_description(&mut compound, ssrc, cname);
    compound
}

/// `count` is below 32; `words` follow the first.
fn begin(packet: &mut Vec<u8>, count: usize, packet_type: u8, words: usize) {
    let words = u16::try_from(words).expect("at most 31 blocks, or 256 bytes of text");
    packet.extend([0x80 | count as u8, packet_type]);
    packet.extend(words.to_be_bytes());
}

fn write_blocks(packet: &mut Vec<u8>, blocks: &[ReportBlock]) {
    for block in blocks {
        // The count stops at the ends of its 24 bits rather than wrap (appendix A.3).
        let lost = block.cumulative_lost.clamp(-0x80_0000, 0x7f_ffff) as u32 & 0xff_ffff;
        packet.extend(block.ssrc.to_be_bytes());
        packet.extend((u32::from(block.fraction_lost) << 24 | lost).to_be_bytes());
        let rest = [
            block.extended_highest_sequence,
            block.interarrival_jitter,
            block.last_sr,
            block.delay_since_last_sr,
        ];
        packet.extend(rest.iter().flat_map(|word| word.to_be_bytes()));
    }
}

/// One chunk with one item, CNAME (§6.5.1).
fn source_description(packet: &mut Vec<u8>, ssrc: u32, cname: &str) {
    let mut end = cname.len().min(255);
    while !cname.is_char_boundary(end) {
        end -= 1;
    }
    let cname = &cname.as_bytes()[..end];
    // The list of items ends with at least one zero and fills its word.
    let item_words = (2 + cname.len()) / 4 + 1;
    begin(packet, 1, SOURCE_DESCRIPTION, 1 + item_words);
    packet.extend(ssrc.to_be_bytes());
    packet.extend([1, cname.len() as u8]);
    packet.extend(cname);
    packet.extend(std::iter::repeat_n(0, item_words * 4 - 2 - cname.len()));
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: ReportBlock = ReportBlock {
        ssrc: 7,
        fraction_lost: 3,
        cumulative_lost: -2,
        extended_highest_sequence: 0x0001_ffff,
        interarrival_jitter: 11,
        last_sr: 12,
        delay_since_last_sr: 13,
    };

    #[test]
    fn our_receiver_report_is_read_back_the_same() {
        let compound = receiver_report(9, &[BLOCK], "linekeeper@192.0.2.1");
        assert_eq!(parse(&compound), [Rtcp::ReceiverReport { ssrc: 9, blocks: vec![BLOCK] }]);
    }

    #[test]
    fn our_sender_report_is_read_back_the_same() {
        let info =
            SenderInfo { ntp: 0x1122_3344_5566_7788, rtp_timestamp: 1, packets: 2, octets: 3 };
        assert_eq!(info.compact_ntp(), 0x3344_5566);
        let report = Rtcp::SenderReport { ssrc: 9, info, blocks: vec![] };
        assert_eq!(parse(&sender_report(9, &info, "x")), [report]);
    }

    #[test]
    fn every_compound_fills_its_words_whatever_the_name() {
        for length in 0..300 {
            let compound = receiver_report(1, &[], &"é".repeat(length));
            assert_eq!(compound.len() % 4, 0);
            // The description after the 8 bytes of the report ends exactly with the datagram.
            let words = u16::from_be_bytes([compound[10], compound[11]]);
            assert_eq!(8 + (usize::from(words) + 1) * 4, compound.len());
            assert_eq!(compound.last(), Some(&0));
        }
    }

    #[test]
    fn a_loss_beyond_24_bits_stops_at_the_end() {
        let block = ReportBlock { cumulative_lost: i32::MAX, ..BLOCK };
        let parsed = parse(&receiver_report(1, &[block], ""));
        let Rtcp::ReceiverReport { blocks, .. } = &parsed[0] else { panic!("{parsed:?}") };
        assert_eq!(blocks[0].cumulative_lost, 0x7f_ffff);
    }

    #[test]
    fn our_goodbye_stands_behind_a_report_and_is_read_back() {
        let mut compound = receiver_report(9, &[], "x");
        append_bye(&mut compound, &[9]);
        let report = Rtcp::ReceiverReport { ssrc: 9, blocks: vec![] };
        assert_eq!(parse(&compound), [report, Rtcp::Bye { ssrcs: vec![9] }]);
    }

    #[test]
    fn a_goodbye_names_its_sources() {
        let bye = [0x82, 203, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2];
        assert_eq!(parse(&bye), [Rtcp::Bye { ssrcs: vec![1, 2] }]);
    }

    #[test]
    fn unknown_packets_are_skipped_and_broken_ones_end_the_compound() {
        let feedback = [0x81, 205, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2];
        let bye = [0x81, 203, 0, 1, 0, 0, 0, 1];
        let goodbye = Rtcp::Bye { ssrcs: vec![1] };
        assert_eq!(parse(&[&feedback[..], &bye].concat()), std::slice::from_ref(&goodbye));
        assert_eq!(parse(&[&bye[..], &[0x80, 201, 0, 9, 0]].concat()), [goodbye]);
        assert_eq!(parse(&[0x80, 200, 0, 0]), []);
        assert_eq!(parse(&[0x9f, 203, 0, 0]), [Rtcp::Bye { ssrcs: vec![] }]);
        assert_eq!(parse(&[]), []);
    }
}
