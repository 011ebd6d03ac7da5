//! Opus in WebM: what the browser plays.
//!
//! - Every element has a known size, the duration is known, and an index (Cues) in front of the
//!   media names each cluster: a player seeks with one ranged read.
//! - `CodecDelay` and `DiscardPadding` trim what the encoder adds at either end, so that what is
//!   heard is the call to the sample (RFC 9559 §5.1.4.1.28, §5.1.3.5.7).
//! - One lane is mono, more are stereo; see [`crate::mix`].
//!
//! Numbers of elements are those of RFC 9559 §5. `CodecPrivate` is the OpusHead of RFC 7845 §5.1.

use std::io::{Cursor, Seek, SeekFrom, Write};

use crate::call::Call;
use crate::mix::Selection;
use crate::opus::{self, EncodeError, OPUS_HZ, PACKET_MS, Shape};

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

/// Writes a file packet by packet. Its index has its place in front, and is filled in at the end.
pub struct Writer<W> {
    out: W,
    shape: Shape,
    /// Where the segment's content begins in the file, and its clusters within that.
    body_at: u64,
    first_cluster_at: u64,
    clusters: Vec<ClusterAt>,
    /// Content of the cluster under way, and its time.
    cluster: Vec<u8>,
    cluster_ms: u64,
    written: u64,
    packets: u64,
}

/// Time and place within the segment.
#[derive(Clone, Copy, Debug, Default)]
struct ClusterAt {
    ms: u64,
    at: u64,
}

impl<W: Write + Seek> Writer<W> {
    pub fn new(mut out: W, shape: Shape) -> Result<Self, EncodeError> {
        let body_at = header().len() as u64 + SEGMENT_HEAD_BYTES as u64;
        let count = (shape.packets * PACKET_MS).div_ceil(CLUSTER_MS);
        let clusters = vec![ClusterAt::default(); count as usize];
        let front = front(&shape, &clusters);
        out.write_all(&header())?;
        out.write_all(&segment_head(0))?;
        out.write_all(&front)?;
        Ok(Self {
            out,
            shape,
            body_at,
            first_cluster_at: front.len() as u64,
            clusters: Vec::with_capacity(clusters.len()),
            cluster: Vec::new(),
            cluster_ms: 0,
            written: front.len() as u64,
            packets: 0,
        })
    }

    /// Adds the next packet; one more than the shape says is left out.
    pub fn push(&mut self, packet: &[u8]) -> Result<(), EncodeError> {
        if self.packets == self.shape.packets {
            return Ok(());
        }
        let at_ms = self.packets * PACKET_MS;
        self.packets += 1;
        if self.cluster.is_empty() || at_ms >= self.cluster_ms + CLUSTER_MS {
            self.end_cluster()?;
            self.cluster_ms = at_ms;
            put_uint(&mut self.cluster, id::TIMESTAMP, at_ms);
        }
        // Within CLUSTER_MS, so it fits.
        let offset = (at_ms - self.cluster_ms) as i16;
        if self.packets == self.shape.packets && self.shape.padding > 0 {
            let padding_ns = self.shape.padding * 1_000_000_000 / OPUS_HZ;
            let mut group = Vec::new();
            put(&mut group, id::BLOCK, &block(offset, 0, packet));
            put(&mut group, id::DISCARD_PADDING, &(padding_ns as i64).to_be_bytes());
            put(&mut self.cluster, id::BLOCK_GROUP, &group);
        } else {
            const KEYFRAME: u8 = 0x80;
            put(&mut self.cluster, id::SIMPLE_BLOCK, &block(offset, KEYFRAME, packet));
        }
        Ok(())
    }

    fn end_cluster(&mut self) -> Result<(), EncodeError> {
        if self.cluster.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(self.cluster.len() + 12);
        put(&mut bytes, id::CLUSTER, &self.cluster);
        self.cluster.clear();
        self.clusters.push(ClusterAt { ms: self.cluster_ms, at: self.written });
        self.written += bytes.len() as u64;
        self.out.write_all(&bytes)?;
        Ok(())
    }

    /// Fills in what is known only now.
    pub fn finish(mut self) -> Result<W, EncodeError> {
        self.end_cluster()?;
        let front = front(&self.shape, &self.clusters);
        if front.len() as u64 != self.first_cluster_at {
            let fewer = "fewer packets than the shape of the file says";
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, fewer).into());
        }
        self.out.seek(SeekFrom::Start(self.body_at - SEGMENT_HEAD_BYTES as u64))?;
        self.out.write_all(&segment_head(self.written))?;
        self.out.write_all(&front)?;
        self.out.seek(SeekFrom::End(0))?;
        Ok(self.out)
    }
}

/// A whole call in memory: an hour of two parties is about 20 MB.
pub fn write(call: &Call, selection: Selection) -> Result<Vec<u8>, EncodeError> {
    let shape = Shape::of(call, selection)?;
    let mut writer = Writer::new(Cursor::new(Vec::new()), shape)?;
    for number in 0..shape.minutes() {
        for packet in opus::minute(call, selection, number)?.packets() {
            writer.push(packet)?;
        }
    }
    Ok(writer.finish()?.into_inner())
}

/// Some seconds of a call, to be played by themselves. `from` and `samples` are of the call.
pub fn write_part(
    call: &Call,
    selection: Selection,
    from: u64,
    samples: u64,
) -> Result<Vec<u8>, EncodeError> {
    let (shape, packets) = opus::part(call, selection, from, samples)?;
    let mut writer = Writer::new(Cursor::new(Vec::new()), shape)?;
    for packet in packets {
        writer.push(&packet)?;
    }
    Ok(writer.finish()?.into_inner())
}

/// Everything before the clusters: its length depends on their number alone.
fn front(shape: &Shape, clusters: &[ClusterAt]) -> Vec<u8> {
    let (info, tracks, cues) = (info(shape), tracks(shape), cues(clusters));
    let info_at = seek_head(0, 0, 0).len() as u64;
    let tracks_at = info_at + info.len() as u64;
    let cues_at = tracks_at + tracks.len() as u64;
    [seek_head(info_at, tracks_at, cues_at), info, tracks, cues].concat()
}

/// Id of the segment and its size in the longest form, so that it can be filled in.
const SEGMENT_HEAD_BYTES: usize = 12;

fn segment_head(content_bytes: u64) -> [u8; SEGMENT_HEAD_BYTES] {
    let mut head = [0; SEGMENT_HEAD_BYTES];
    head[..4].copy_from_slice(&id::SEGMENT.to_be_bytes());
    head[4..].copy_from_slice(&(content_bytes | 1 << 56).to_be_bytes());
    head
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

fn info(shape: &Shape) -> Vec<u8> {
    let duration_ms = shape.samples as f64 * 1_000.0 / f64::from(shape.sample_rate);
    let mut content = Vec::new();
    put_uint(&mut content, id::TIMESTAMP_SCALE, 1_000_000);
    put(&mut content, id::DURATION, &duration_ms.to_be_bytes());
    put(&mut content, id::MUXING_APP, b"linekeeper");
    put(&mut content, id::WRITING_APP, b"linekeeper");
    let mut out = Vec::new();
    put(&mut out, id::INFO, &content);
    out
}

fn tracks(shape: &Shape) -> Vec<u8> {
    let mut audio = Vec::new();
    put(&mut audio, id::SAMPLING_FREQUENCY, &(OPUS_HZ as f64).to_be_bytes());
    put_uint(&mut audio, id::CHANNELS, shape.channels as u64);

    let mut opus_head = b"OpusHead\x01".to_vec();
    opus_head.push(shape.channels as u8);
    opus_head.extend_from_slice(&(shape.pre_skip as u16).to_le_bytes());
    opus_head.extend_from_slice(&shape.sample_rate.to_le_bytes());
    // No gain, and channel mapping family 0: mono, or left and right.
    opus_head.extend_from_slice(&[0, 0, 0]);

    let mut entry = Vec::new();
    put_uint(&mut entry, id::TRACK_NUMBER, TRACK);
    put_uint(&mut entry, id::TRACK_UID, TRACK);
    put_uint(&mut entry, id::TRACK_TYPE, 2);
    put_uint(&mut entry, id::FLAG_LACING, 0);
    put(&mut entry, id::CODEC_ID, b"A_OPUS");
    put(&mut entry, id::CODEC_PRIVATE, &opus_head);
    put_uint(&mut entry, id::CODEC_DELAY, shape.pre_skip * 1_000_000_000 / OPUS_HZ);
    put_uint(&mut entry, id::SEEK_PRE_ROLL, SEEK_PRE_ROLL_NS);
    put(&mut entry, id::AUDIO, &audio);
    let mut content = Vec::new();
    put(&mut content, id::TRACK_ENTRY, &entry);
    let mut out = Vec::new();
    put(&mut out, id::TRACKS, &content);
    out
}

/// Every number is written with 8 bytes: the index is as long before it is known as after.
fn cues(clusters: &[ClusterAt]) -> Vec<u8> {
    let mut content = Vec::new();
    for cluster in clusters {
        let mut position = Vec::new();
        put_uint(&mut position, id::CUE_TRACK, TRACK);
        put(&mut position, id::CUE_CLUSTER_POSITION, &cluster.at.to_be_bytes());
        let mut point = Vec::new();
        put(&mut point, id::CUE_TIME, &cluster.ms.to_be_bytes());
        put(&mut point, id::CUE_TRACK_POSITIONS, &position);
        put(&mut content, id::CUE_POINT, &point);
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
