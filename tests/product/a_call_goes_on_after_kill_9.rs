//! A recorder that is killed goes on with its calls, and what had arrived is there.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use caller::Transport;
use e2e::audio::{assert_is, correlation};
use e2e::calls::{place_beside, plan};
use e2e::product::{Product, has_flag};
use e2e::wait_until;

/// RTP frames are 20 ms.
const FRAME_MS: u64 = 20;

/// What may be missing of what had arrived when the process was killed: a sweep and a commit of
/// 100 ms each, and the commit then under way, for which a busy test machine is given as much
/// again.
const LOSS_LIMIT_MS: u64 = 200 + 200;

#[test]
fn ten_calls_outlive_kill_9_and_nobody_is_asked() {
    let product = Product::start();
    let sip = product.sip;
    let mut wanted = plan(sip, 14.0);
    (wanted.calls, wanted.rate_per_sec) = (10, 20.0);
    // Over UDP the same address is there again; what happens over TCP is up to the SRC.
    wanted.transport = Transport::Udp;
    let calls = place_beside(wanted);
    wait_until("ten live calls", Duration::from_secs(20), || {
        (product.get("/v1/live").1["recordings"].as_array()?.len() == 10).then_some(())
    });
    std::thread::sleep(Duration::from_secs(3));
    let killed_unix_ms = unix_ms();
    let data = product.kill();
    let product = Product::start_on(data, &sip.to_string(), &[]);
    let back_unix_ms = unix_ms();
    let reports = calls.join().expect("calls were placed");
    for report in &reports {
        let recording = product.wait_for(&report.call_id, "stored");
        assert!(has_flag(&recording, "interrupted"), "{recording}");
        let id = recording["id"].as_str().expect("an id");
        let marks = recording["marks"].as_array().expect("marks");
        assert!(marks.iter().any(|mark| mark["kind"] == "gap"), "the gap is marked: {recording}");
        let wav = product.export_wav(id);
        let pcap = product.export(id, "pcap");
        assert_eq!(wav.channels.len(), report.streams.len(), "{recording}");
        for (stream, channel) in report.streams.iter().zip(&wav.channels) {
            let frames = rtp_frames(&pcap, stream.ssrc);
            let begun_unix_ms = stream.first_sent_unix_ms.expect("it was sent");
            let sent_by = |unix_ms: u64| unix_ms.saturating_sub(begun_unix_ms) / FRAME_MS;
            // The frames before the first one that is missing, and the first one after the gap.
            let before = (0..).take_while(|frame| frames.contains(frame)).count() as u64;
            let missing_ms = sent_by(killed_unix_ms).saturating_sub(before) * FRAME_MS;
            assert!(missing_ms <= LOSS_LIMIT_MS, "{missing_ms} ms before the kill: {recording}");
            let after = (sent_by(back_unix_ms) + 10..stream.frames).filter(|n| !frames.contains(n));
            assert_eq!(after.count(), 0, "nothing is missing once it is back: {recording}");
            // What came before the kill and what came after are where they were said.
            let samples = stream.source.samples(channel.len()).expect("speech");
            let rate = 8 * 1000;
            assert_is("the first seconds", &stream.source, 100, &channel[..2 * rate]);
            let tail = samples.len() - 2 * rate;
            let (found, shift) = correlation(&samples[tail..], &channel[tail..], 320);
            assert!(found > 0.98, "the last seconds: {found:.4} at {shift}: {recording}");
        }
    }
    product.verify_all();
}

fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(now.as_millis()).expect("a few centuries")
}

/// The numbers of the frames of one stream in a capture of raw IPv4 packets, the first one 0.
fn rtp_frames(pcap: &[u8], ssrc: u32) -> BTreeSet<u64> {
    const PCAP_HEADER: usize = 24;
    const PACKET_HEADER: usize = 16;
    const IP_AND_UDP: usize = 20 + 8;
    let word = |bytes: &[u8]| u32::from_le_bytes(bytes[..4].try_into().expect("four bytes"));
    let mut numbers = Vec::new();
    let mut at = PCAP_HEADER;
    while at + PACKET_HEADER < pcap.len() {
        let length = word(&pcap[at + 8..]) as usize;
        let rtp = &pcap[at + PACKET_HEADER + IP_AND_UDP..at + PACKET_HEADER + length];
        at += PACKET_HEADER + length;
        // Sender reports carry their SSRC elsewhere.
        if rtp.len() > 12 && rtp[8..12] == ssrc.to_be_bytes() && rtp[1] & 0x7f == 0 {
            numbers.push(u16::from_be_bytes([rtp[2], rtp[3]]));
        }
    }
    let first = *numbers.first().expect("the capture has this stream");
    numbers.into_iter().map(|number| u64::from(number.wrapping_sub(first))).collect()
}

#[test]
fn a_call_whose_bye_came_while_the_recorder_was_down_is_closed() {
    let product = Product::start();
    let sip = product.sip;
    let mut wanted = plan(sip, 3.0);
    wanted.transport = Transport::Udp;
    let calls = place_beside(wanted);
    let call_id = wait_until("a live call", Duration::from_secs(10), || {
        let (_, live) = product.get("/v1/live");
        live["recordings"][0]["id"].as_str().map(str::to_owned)
    });
    std::thread::sleep(Duration::from_millis(1500));
    // Stopped in an orderly way: the next start resumes, and the BYE, repeated, is understood.
    let data = product.interrupt();
    std::thread::sleep(Duration::from_millis(2500));
    let product = Product::start_on(data, &sip.to_string(), &[]);
    calls.join().expect("calls were placed");
    let recording = product.wait_for(&call_id, "stored");
    assert_eq!(recording["end_reason"], "bye", "{recording}");
    assert!(has_flag(&recording, "interrupted"), "{recording}");
}
