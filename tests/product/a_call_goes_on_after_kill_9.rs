//! A recorder that is killed goes on with its calls, and what had arrived is there.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use caller::{CallReport, StreamReport, Transport};
use e2e::audio::{assert_is, correlation};
use e2e::calls::{place_beside, plan};
use e2e::manager::ServiceManager;
use e2e::product::{DataDir, Product, has_flag};
use e2e::{sipp, wait_until};
use serde_json::Value;
use storage_ports::survived::survived;

/// RTP frames are 20 ms.
const FRAME_MS: u64 = 20;

/// What may be missing of what had arrived when the process was killed: a sweep and a commit of
/// 100 ms each, and the commit then under way, for which a busy test machine is given as much
/// again.
const LOSS_LIMIT_MS: u64 = 200 + 200;

/// How far the marked gap may be from the true one, for each restart: what was lost before it, and
/// the frame before and the frame after.
const GAP_SLACK_MS: u64 = LOSS_LIMIT_MS + 2 * FRAME_MS;

const UDP_CALLS: u32 = 25;
const TCP_CALLS: u32 = 15;
const SIPP_CALLS: u32 = 10;

/// Set it to 50 to try for longer.
const RESTARTS_VARIABLE: &str = "LINEKEEPER_TEST_RESTARTS";
const BETWEEN_RESTARTS: Duration = Duration::from_secs(3);

/// One restart, in Unix time.
#[derive(Clone, Copy, Debug)]
struct Restart {
    killed: bool,
    down_unix_ms: u64,
    up_unix_ms: u64,
}

#[test]
fn fifty_calls_outlive_five_restarts_and_each_gap_is_told() {
    let restarts =
        std::env::var(RESTARTS_VARIABLE).map_or(5, |text| text.parse().expect("a number"));
    let product = Product::start();
    let sip = product.sip;
    let seconds = 10 + restarts * 5;
    let mut wanted = plan(sip, f64::from(seconds));
    (wanted.calls, wanted.rate_per_sec) = (UDP_CALLS, 25.0);
    // Over UDP the same address is there again.
    wanted.transport = Transport::Udp;
    let by_udp = place_beside(wanted.clone());
    // Over TCP the caller connects anew when it has something to say; we never do.
    (wanted.calls, wanted.transport) = (TCP_CALLS, Transport::Tcp);
    let by_tcp = place_beside(wanted);
    let sipp_calls = if sipp::is_installed() { SIPP_CALLS } else { 0 };
    let by_sipp: Vec<_> = (0..sipp_calls)
        .map(|_| {
            let (asked, after) = (restarts as usize, seconds - restarts * 3);
            std::thread::spawn(move || sipp::call_through(sip, "u1", seconds, asked, after))
        })
        .collect();
    if sipp_calls == 0 {
        e2e::skip("the calls of SIPp that outlive restarts", "SIPp is not installed");
    }
    let all = (UDP_CALLS + TCP_CALLS + sipp_calls) as usize;
    wait_until("fifty live calls", Duration::from_secs(30), || {
        (product.get("/v1/live").1["recordings"].as_array()?.len() == all).then_some(())
    });

    let (product, done) = restart_often(product, restarts);

    let sipp_ids: Vec<_> = by_sipp
        .into_iter()
        .map(|call| call.join().expect("SIPp's scenario went through"))
        .collect();
    let mut reports = by_udp.join().expect("calls were placed");
    reports.extend(by_tcp.join().expect("calls were placed"));
    let mut worst_ms = 0;
    for (number, report) in reports.iter().enumerate() {
        let recording = product.wait_for(&report.call_id, "stored");
        let id = recording["id"].as_str().expect("an id");
        let pcap = product.export(id, "pcap");
        let told_ms = told_gaps_ms(&recording, done.len());
        for stream in &report.streams {
            let frames = rtp_frames(&pcap, stream.ssrc);
            worst_ms = worst_ms.max(assert_only_restarts_cost(stream, &frames, &done, &recording));
            let missing_ms = (stream.frames - frames.len() as u64) * FRAME_MS;
            let slack_ms = GAP_SLACK_MS * done.len() as u64;
            let apart_ms = told_ms.abs_diff(missing_ms);
            assert!(apart_ms <= slack_ms, "told {told_ms} ms of {missing_ms} ms: {recording}");
        }
        if number % 20 == 0 {
            assert_heard_where_it_was_said(&product, report, &recording);
        }
    }
    for call_id in &sipp_ids {
        let recording = product.wait_for(call_id, "stored");
        let told_ms = told_gaps_ms(&recording, done.len());
        for track in recording["tracks"].as_array().expect("tracks") {
            let received = track["packets_received"].as_u64().expect("a count");
            let missing_ms = (u64::from(seconds) * 50).saturating_sub(received) * FRAME_MS;
            let slack_ms = GAP_SLACK_MS * done.len() as u64;
            let apart_ms = told_ms.abs_diff(missing_ms);
            assert!(apart_ms <= slack_ms, "told {told_ms} ms of {missing_ms} ms: {recording}");
        }
    }
    assert_eq!(product.recordings().len(), all, "every call is one recording");
    product.verify_all();
    let verified = product.command(&["verify", "--all"]).stdout;
    let named = String::from_utf8_lossy(&verified).matches(": gap from ").count();
    assert_eq!(named, all * done.len(), "every gap is named");
    let kills = done.iter().filter(|restart| restart.killed).count();
    survived(
        "process killed (kill -9) at a random moment, and restarted",
        &format!("{kills} kills and {} orderly stops under {all} live calls", done.len() - kills),
        &format!(
            "every call goes on as one recording with every gap marked; of what had arrived at most \
             {worst_ms} ms are missing"
        ),
    );
}

/// Kills and stops in turn, at moments that fit no rhythm of the recorder.
fn restart_often(mut product: Product, restarts: u32) -> (Product, Vec<Restart>) {
    let sip = product.sip.to_string();
    let mut done = Vec::new();
    for number in 0..restarts {
        let jitter_ms = u64::from(std::process::id().wrapping_mul(number * 2 + 7) % 500);
        std::thread::sleep(BETWEEN_RESTARTS + Duration::from_millis(jitter_ms));
        let killed = number % 3 != 2;
        let down_unix_ms = unix_ms();
        let data = if killed { product.kill() } else { product.interrupt() };
        product = Product::start_on(data, &sip, &[]);
        done.push(Restart { killed, down_unix_ms, up_unix_ms: unix_ms() });
    }
    (product, done)
}

/// The length of all gaps of a recording together; there must be one for each restart.
fn told_gaps_ms(recording: &Value, restarts: usize) -> u64 {
    assert!(has_flag(recording, "interrupted"), "{recording}");
    let marks = recording["marks"].as_array().expect("marks");
    let gaps: Vec<_> = marks.iter().filter(|mark| mark["kind"] == "gap").collect();
    assert_eq!(gaps.len(), restarts, "one gap for each restart: {recording}");
    let ms = |mark: &Value, name: &str| mark[name].as_u64().expect("both ends of a gap");
    gaps.iter().map(|gap| ms(gap, "to_ms").saturating_sub(ms(gap, "from_ms"))).sum()
}

/// Nothing is missing that came while a recorder was there, but for what a kill may cost. Returns
/// the most that one has cost.
fn assert_only_restarts_cost(
    stream: &StreamReport,
    frames: &BTreeSet<u64>,
    restarts: &[Restart],
    recording: &Value,
) -> u64 {
    let begun_unix_ms = stream.first_sent_unix_ms.expect("it was sent");
    let sent_by = |unix_ms: u64| unix_ms.saturating_sub(begun_unix_ms) / FRAME_MS;
    let mut worst_ms = 0;
    let mut from = 0;
    for restart in restarts {
        let down = sent_by(restart.down_unix_ms);
        let missing = (from..down).filter(|frame| !frames.contains(frame)).count() as u64;
        let limit_ms = if restart.killed { LOSS_LIMIT_MS } else { GAP_SLACK_MS };
        assert!(missing * FRAME_MS <= limit_ms, "{missing} frames before {restart:?}: {recording}");
        worst_ms = worst_ms.max(missing * FRAME_MS);
        // A sender on a busy machine is late by a few frames.
        from = sent_by(restart.up_unix_ms) + 10;
    }
    let after = (from..stream.frames).filter(|frame| !frames.contains(frame)).count();
    assert_eq!(after, 0, "nothing is missing once it is back: {recording}");
    worst_ms
}

/// What came before the first restart and what came after the last are where they were said.
fn assert_heard_where_it_was_said(product: &Product, report: &CallReport, recording: &Value) {
    let wav = product.export_wav(recording["id"].as_str().expect("an id"));
    assert_eq!(wav.channels.len(), report.streams.len(), "{recording}");
    for (stream, channel) in report.streams.iter().zip(&wav.channels) {
        let samples = stream.source.samples(channel.len()).expect("speech");
        let rate = 8 * 1000;
        assert_is("the first seconds", &stream.source, 100, &channel[..2 * rate]);
        let tail = samples.len() - 2 * rate;
        let (found, shift) = correlation(&samples[tail..], &channel[tail..], 320);
        assert!(found > 0.98, "the last seconds: {found:.4} at {shift}: {recording}");
    }
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
fn where_somebody_keeps_the_sockets_a_restart_costs_no_packet() {
    const CALLS: u32 = 5;
    let manager = ServiceManager::start();
    let product = Product::start_under(&manager, DataDir::new(), "127.0.0.1:0");
    let sip = product.sip;
    let mut wanted = plan(sip, 16.0);
    (wanted.calls, wanted.rate_per_sec) = (CALLS, 25.0);
    wanted.transport = Transport::Udp;
    let calls = place_beside(wanted);
    wait_until("live calls", Duration::from_secs(20), || {
        let live = product.get("/v1/live").1["recordings"].as_array()?.len();
        (live == CALLS as usize).then_some(())
    });
    assert_eq!(manager.kept(), CALLS as usize * 4, "RTP and RTCP of two streams each");
    std::thread::sleep(Duration::from_secs(2));
    let mut done = Vec::new();
    let mut product = product;
    for killed in [false, true] {
        let down_unix_ms = unix_ms();
        let data = if killed { product.kill() } else { product.interrupt() };
        // Nobody is there, and the SRCs do not notice.
        std::thread::sleep(Duration::from_secs(1));
        product = Product::start_under(&manager, data, &sip.to_string());
        done.push(Restart { killed, down_unix_ms, up_unix_ms: unix_ms() });
        std::thread::sleep(Duration::from_secs(2));
    }
    let reports = calls.join().expect("calls were placed");
    let mut lost = 0;
    for report in &reports {
        let recording = product.wait_for(&report.call_id, "stored");
        let pcap = product.export(recording["id"].as_str().expect("an id"), "pcap");
        let told_ms = told_gaps_ms(&recording, done.len());
        for stream in &report.streams {
            let frames = rtp_frames(&pcap, stream.ssrc);
            let missing = stream.frames - frames.len() as u64;
            // One of the two was killed, with what it had read and not yet written.
            assert!(missing * FRAME_MS <= LOSS_LIMIT_MS, "{missing} frames: {recording}");
            let apart_ms = told_ms.abs_diff(missing * FRAME_MS);
            assert!(apart_ms <= 2 * GAP_SLACK_MS, "told {told_ms} ms of {missing}: {recording}");
            lost += missing;
        }
    }
    wait_until("the sockets to be given back", Duration::from_secs(20), || {
        (manager.kept() == 0).then_some(())
    });
    product.verify_all();
    survived(
        "restart under a service manager that keeps the sockets",
        "an orderly stop and a kill -9 under live calls, 1 s each without any process",
        &format!("of {} streams {lost} packets are missing, all of the kill", reports.len() * 2),
    );
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
