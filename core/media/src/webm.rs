//! Opus in WebM: what the browser plays.
//!
//! - Every element has a known size, the duration is known, and an index (Cues) in front of the
//!   media names each cluster: a player seeks with one ranged read.
//! - `CodecDelay` and `DiscardPadding` trim what the encoder adds at either end, so that what is
//!   heard is the call to the sample (RFC 9559 §5.1.4.1.28, §5.1.3.5.7).
//! - One lane is mono, more are stereo; see [`crate::mix`].
//!
//! Numbers of elements are those of RFC 9559 §5. `CodecPrivate` is the OpusHead of RFC 7845 §5.1.

use crate::assemble::Assembled;
use crate::opus::{OPUS_HZ, OpusError, PACKET_MS, Packets};

/// Media per cluster. A block's time within its cluster is 16 bits of milliseconds.
const CLUSTER_MS: u64 = 5_000;
const TRACK: u64 = 1;
/// How long a decoder needs to settle after a seek: 80 ms (RFC 7845 §4.6).
const SEEK_PRE_ROLL_NS: u64 = 80_000_000;

mod id {
    pub const EBML: u32 = 0x1A45_DFA3;
    pub const EBML_VERSION: u32 = 0x4286;
    pub const EBML_READ_VERSION: u32 = 0x42F7;
    pub const EBML_MAX_ID_LENGTH: u32 = 0x42F2;
    pub const EBML_MAX_SIZE_LENGTH: u32 = 0x42F3;
    pub const DOC_TYPE: u32 = 0x4282;
    pub const DOC_TYPE_VERSION: u32 = 0x4287;
    pub const DOC_TYPE_READ_VERSION: u32 = 0x4285;
    pub const SEGMENT: u32 = 0x1853_8067;
    pub const SEEK_HEAD: u32 = 0x114D_9B74;
    pub const SEEK: u32 = 0x4DBB;
    pub const SEEK_ID: u32 = 0x53AB;
    pub const SEEK_POSITION: u32 = 0x53AC;
    pub const INFO: u32 = 0x1549_A966;
    pub const TIMESTAMP_SCALE: u32 = 0x2A_D7B1;
    pub const DURATION: u32 = 0x4489;
    pub const MUXING_APP: u32 = 0x4D80;
    pub const WRITING_APP: u32 = 0x5741;
    pub const TRACKS: u32 = 0x1654_AE6B;
    pub const TRACK_ENTRY: u32 = 0xAE;
    pub const TRACK_NUMBER: u32 = 0xD7;
    pub const TRACK_UID: u32 = 0x73C5;
    pub const TRACK_TYPE: u32 = 0x83;
    pub const FLAG_LACING: u32 = 0x9C;
    pub const CODEC_ID: u32 = 0x86;
    pub const CODEC_PRIVATE: u32 = 0x63A2;
    pub const CODEC_DELAY: u32 = 0x56AA;
    pub const SEEK_PRE_ROLL: u32 = 0x56BB;
    pub const AUDIO: u32 = 0xE1;
    pub const SAMPLING_FREQUENCY: u32 = 0xB5;
    pub const CHANNELS: u32 = 0x9F;
    pub const CUES: u32 = 0x1C53_BB6B;
    pub const CUE_POINT: u32 = 0xBB;
    pub const CUE_TIME: u32 = 0xB3;
    pub const CUE_TRACK_POSITIONS: u32 = 0xB7;
    pub const CUE_TRACK: u32 = 0xF7;
    pub const CUE_CLUSTER_POSITION: u32 = 0xF1;
    pub const CLUSTER: u32 = 0x1F43_B675;
    pub const TIMESTAMP: u32 = 0xE7;
    pub const SIMPLE_BLOCK: u32 = 0xA3;
    pub const BLOCK_GROUP: u32 = 0xA0;
    pub const BLOCK: u32 = 0xA1;
    pub const DISCARD_PADDING: u32 = 0x75A2;
}

/// Encodes a call. In memory: an hour of two parties is about 20 MB.
pub fn write(call: &Assembled) -> Result<Vec<u8>, OpusError> {
    let mut packets = Packets::new(call)?;
    let clusters = clusters(&mut packets)?;

    let info = info(call);
    let tracks = tracks(&packets);
    // Offsets count from the first byte within the segment. Everything before the clusters has a
    // length that does not depend on the offsets, because those are all written with 8 bytes.
    let front_length = |cues: &[u8]| {
        seek_head(0, 0, 0).len() as u64 + (info.len() + tracks.len() + cues.len()) as u64
    };
    let unplaced = cues(&clusters, 0);
    let cues = cues(&clusters, front_length(&unplaced));
    let info_at = seek_head(0, 0, 0).len() as u64;
    let tracks_at = info_at + info.len() as u64;
    let cues_at = tracks_at + tracks.len() as u64;

    let mut body = seek_head(info_at, tracks_at, cues_at);
    body.extend_from_slice(&info);
    body.extend_from_slice(&tracks);
    body.extend_from_slice(&cues);
    for cluster in clusters {
        body.extend_from_slice(&cluster.bytes);
    }
    let mut out = header();
    put(&mut out, id::SEGMENT, &body);
    Ok(out)
}

struct Cluster {
    at_ms: u64,
    bytes: Vec<u8>,
}

fn clusters(packets: &mut Packets<'_>) -> Result<Vec<Cluster>, OpusError> {
    let mut clusters = Vec::new();
    let mut at_ms = 0;
    let mut packet = packets.next_packet()?;
    while packet.is_some() {
        let cluster_ms = at_ms;
        let mut content = Vec::new();
        put_uint(&mut content, id::TIMESTAMP, cluster_ms);
        while let Some(opus) = packet.take_if(|_| at_ms < cluster_ms + CLUSTER_MS) {
            packet = packets.next_packet()?;
            // Within CLUSTER_MS, so it fits.
            let offset = (at_ms - cluster_ms) as i16;
            if packet.is_none() && packets.padding > 0 {
                let padding_ns = packets.padding * 1_000_000_000 / OPUS_HZ;
                let mut group = Vec::new();
                put(&mut group, id::BLOCK, &block(offset, 0, &opus));
                put(&mut group, id::DISCARD_PADDING, &(padding_ns as i64).to_be_bytes());
                put(&mut content, id::BLOCK_GROUP, &group);
            } else {
                const KEYFRAME: u8 = 0x80;
                put(&mut content, id::SIMPLE_BLOCK, &block(offset, KEYFRAME, &opus));
            }
            at_ms += PACKET_MS;
        }
        let mut bytes = Vec::with_capacity(content.len() + 12);
        put(&mut bytes, id::CLUSTER, &content);
        clusters.push(Cluster { at_ms: cluster_ms, bytes });
    }
    Ok(clusters)
}

/// Track, time within the cluster, flags, frame (RFC 9559 §10.2).
fn block(offset_ms: i16, flags: u8, frame: &[u8]) -> Vec<u8> {
    let offset = offset_ms.to_be_bytes();
    let mut block = vec![0x80 | TRACK as u8, offset[0], offset[1], flags];
    block.extend_from_slice(frame);
    block
}

fn header() -> Vec<u8> {
    let mut content = Vec::new();
    put_uint(&mut content, id::EBML_VERSION, 1);
    put_uint(&mut content, id::EBML_READ_VERSION, 1);
    put_uint(&mut content, id::EBML_MAX_ID_LENGTH, 4);
    put_uint(&mut content, id::EBML_MAX_SIZE_LENGTH, 8);
    put(&mut content, id::DOC_TYPE, b"webm");
    // Version 4 has CodecDelay, SeekPreRoll and DiscardPadding; a reader of version 2 copes.
    put_uint(&mut content, id::DOC_TYPE_VERSION, 4);
    put_uint(&mut content, id::DOC_TYPE_READ_VERSION, 2);
    let mut out = Vec::new();
    put(&mut out, id::EBML, &content);
    out
}

fn seek_head(info_at: u64, tracks_at: u64, cues_at: u64) -> Vec<u8> {
    let mut content = Vec::new();
    for (target, at) in [(id::INFO, info_at), (id::TRACKS, tracks_at), (id::CUES, cues_at)] {
        let mut seek = Vec::new();
        put(&mut seek, id::SEEK_ID, &target.to_be_bytes());
        put(&mut seek, id::SEEK_POSITION, &at.to_be_bytes());
        put(&mut content, id::SEEK, &seek);
    }
    let mut out = Vec::new();
    put(&mut out, id::SEEK_HEAD, &content);
    out
}

fn info(call: &Assembled) -> Vec<u8> {
    let duration_ms = call.samples as f64 * 1_000.0 / f64::from(call.sample_rate);
    let mut content = Vec::new();
    put_uint(&mut content, id::TIMESTAMP_SCALE, 1_000_000);
    put(&mut content, id::DURATION, &duration_ms.to_be_bytes());
    put(&mut content, id::MUXING_APP, b"linekeeper");
    put(&mut content, id::WRITING_APP, b"linekeeper");
    let mut out = Vec::new();
    put(&mut out, id::INFO, &content);
    out
}

fn tracks(packets: &Packets<'_>) -> Vec<u8> {
    let mut audio = Vec::new();
    put(&mut audio, id::SAMPLING_FREQUENCY, &(OPUS_HZ as f64).to_be_bytes());
    put_uint(&mut audio, id::CHANNELS, packets.channels as u64);

    let mut opus_head = b"OpusHead\x01".to_vec();
    opus_head.push(packets.channels as u8);
    opus_head.extend_from_slice(&(packets.pre_skip as u16).to_le_bytes());
    opus_head.extend_from_slice(&packets.sample_rate.to_le_bytes());
    // No gain, and channel mapping family 0: mono, or left and right.
    opus_head.extend_from_slice(&[0, 0, 0]);

    let mut entry = Vec::new();
    put_uint(&mut entry, id::TRACK_NUMBER, TRACK);
    put_uint(&mut entry, id::TRACK_UID, TRACK);
    put_uint(&mut entry, id::TRACK_TYPE, 2);
    put_uint(&mut entry, id::FLAG_LACING, 0);
    put(&mut entry, id::CODEC_ID, b"A_OPUS");
    put(&mut entry, id::CODEC_PRIVATE, &opus_head);
    put_uint(&mut entry, id::CODEC_DELAY, packets.pre_skip * 1_000_000_000 / OPUS_HZ);
    put_uint(&mut entry, id::SEEK_PRE_ROLL, SEEK_PRE_ROLL_NS);
    put(&mut entry, id::AUDIO, &audio);
    let mut content = Vec::new();
    put(&mut content, id::TRACK_ENTRY, &entry);
    let mut out = Vec::new();
    put(&mut out, id::TRACKS, &content);
    out
}

/// `first_at`: offset of the first cluster.
fn cues(clusters: &[Cluster], first_at: u64) -> Vec<u8> {
    let mut content = Vec::new();
    let mut at = first_at;
    for cluster in clusters {
        let mut position = Vec::new();
        put_uint(&mut position, id::CUE_TRACK, TRACK);
        put(&mut position, id::CUE_CLUSTER_POSITION, &at.to_be_bytes());
        let mut point = Vec::new();
        put_uint(&mut point, id::CUE_TIME, cluster.at_ms);
        put(&mut point, id::CUE_TRACK_POSITIONS, &position);
        put(&mut content, id::CUE_POINT, &point);
        at += cluster.bytes.len() as u64;
    }
    let mut out = Vec::new();
    put(&mut out, id::CUES, &content);
    out
}

/// An element: id, size, content (RFC 8794 §4 to §6). An id carries its own length marker.
fn put(out: &mut Vec<u8>, id: u32, content: &[u8]) {
    let id = id.to_be_bytes();
    let zeros = id.iter().take_while(|byte| **byte == 0).count();
    out.extend_from_slice(&id[zeros..]);
    put_size(out, content.len() as u64);
    out.extend_from_slice(content);
}

/// The shortest variable-size integer (RFC 8794 §4). All ones mean unknown and are avoided.
fn put_size(out: &mut Vec<u8>, size: u64) {
    let bytes = (1..8).find(|bytes| size < (1 << (7 * bytes)) - 1).unwrap_or(8);
    let marked = size | 1 << (7 * bytes);
    out.extend_from_slice(&marked.to_be_bytes()[8 - bytes..]);
}

fn put_uint(out: &mut Vec<u8>, id: u32, value: u64) {
    let bytes = value.to_be_bytes();
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count().min(7);
    put(out, id, &bytes[zeros..]);
}

#[test]
fn sizes_are_as_short_as_they_can_be() {
    let cases: [(u64, &[u8]); 5] = [
        (0, &[0x80]),
        (126, &[0xfe]),
        (127, &[0x40, 0x7f]),
        (16_382, &[0x7f, 0xfe]),
        (16_383, &[0x20, 0x3f, 0xff]),
    ];
    for (size, expected) in cases {
        let mut out = Vec::new();
        put_size(&mut out, size);
        assert_eq!(out, expected, "{size}");
    }
}
