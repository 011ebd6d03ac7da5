//! Real calls over loopback to a real recorder of signaling, with the audio checked.

mod recorder;

use std::time::Duration;

use caller::{
    CallPlan, CallReport, Caller, Codec, EndedBy, FRAME_SAMPLES, MetadataStyle, Outcome, Progress,
    RtpTarget, SourceId, StreamReport, Transport, place, place_until, send_rtp,
};
use recorder::{Conduct, Recorder};
use siprec::Direction;
use siprec::rtp::RtpHeader;

fn plan(recorder: &Recorder, transport: Transport) -> CallPlan {
    CallPlan { transport, seconds: 0.5, ..CallPlan::to(recorder.address) }
}

/// G.711 μ-law, decoded.
fn decoded(code: u8) -> i32 {
    let code = !code;
    let magnitude = (((i32::from(code) & 0x0f) << 3) + 0x84) << ((code >> 4) & 7);
    if code & 0x80 != 0 { 0x84 - magnitude } else { magnitude - 0x84 }
}

/// Every packet carries what its source said at the time in its timestamp.
fn assert_spoken(packets: &[Vec<u8>], report: &StreamReport) {
    assert_eq!(packets.len() as u64, report.packets_sent);
    let said = report.source.samples(report.frames as usize * FRAME_SAMPLES).unwrap();
    let mut loud = 0;
    let first = RtpHeader::parse(&packets[0]).unwrap();
    for packet in packets {
        let header = RtpHeader::parse(packet).unwrap();
        assert_eq!(header.ssrc, report.ssrc);
        let at = header.timestamp.wrapping_sub(first.timestamp) as usize;
        for (code, said) in header.payload.iter().zip(&said[at..]) {
            let (heard, said) = (decoded(*code), i32::from(*said));
            assert!((heard - said).abs() <= (said.abs() / 16).max(16), "{heard} for {said}");
            loud += usize::from(heard.abs() > 500);
        }
    }
    assert!(loud > 100, "silence would pass the test as well");
}

fn answered(reports: &[CallReport]) -> bool {
    reports.iter().all(|report| report.outcome == Outcome::Answered)
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_answered_heard_and_ended_over_udp_and_tcp() {
    for transport in [Transport::Udp, Transport::Tcp] {
        let recorder = Recorder::start(Conduct::default());
        let plan = CallPlan { calls: 3, rate_per_sec: 50.0, ..plan(&recorder, transport) };
        let reports = place(plan, |_| {}).await.unwrap();
        assert!(answered(&reports) && reports.len() == 3, "{transport:?} {reports:?}");
        recorder.until("three ends", |noticed| noticed.ended == ["Bye"; 3]).await;
        recorder.noticed(|noticed| {
            assert_eq!(noticed.rtp.len(), 6);
            for packets in noticed.rtp.values() {
                let ssrc = RtpHeader::parse(&packets[0]).unwrap().ssrc;
                let mut streams = reports.iter().flat_map(|report| &report.streams);
                let report = streams.find(|stream| stream.ssrc == ssrc).unwrap();
                assert_eq!((report.frames, report.packets_sent), (25, 25));
                assert_spoken(packets, report);
            }
            let [ana, ben] = &noticed.speakers;
            assert!(ana[0].starts_with("Ana Novak") && ben[0].starts_with("Ben Okoye"));
        });
        for report in &reports {
            assert_eq!(report.ended_by, Some(EndedBy::Us));
            assert!((500..1500).contains(&report.duration_ms), "{report:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn during_a_hold_nothing_is_sent_and_after_it_the_speaker_has_gone_on() {
    let recorder = Recorder::start(Conduct::default());
    let plan = CallPlan { seconds: 60.0, ..plan(&recorder, Transport::Tcp) };
    let caller = Caller::connect(plan).await.unwrap();
    let mut call = caller.call(0).unwrap();
    assert_eq!(call.answered().await, Outcome::Answered);
    tokio::time::sleep(Duration::from_millis(200)).await;
    call.hold().await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let count = |noticed: &recorder::Noticed| noticed.rtp.values().map(Vec::len).sum::<usize>();
    let before = recorder.noticed(count);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(recorder.noticed(count), before);
    call.resume().await.unwrap();
    recorder.until("more packets", |noticed| count(noticed) > before + 4).await;
    let report = call.hang_up().await.unwrap();
    assert_eq!(report.ended_by, Some(EndedBy::Us));
    recorder.until("the end", |noticed| noticed.ended == ["Bye"]).await;
    recorder.noticed(|noticed| {
        let (on, off) = (vec![Direction::SendOnly; 2], vec![Direction::Inactive; 2]);
        assert_eq!(noticed.directions, [on.clone(), off, on]);
        for (packets, stream) in noticed.rtp.values().zip(&report.streams) {
            assert_spoken(packets, stream);
            assert!(stream.frames >= stream.packets_sent + 15, "{stream:?}");
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorder_that_hangs_up_ends_the_call() {
    let after = Some(Duration::from_millis(200));
    for transport in [Transport::Udp, Transport::Tcp] {
        let recorder = Recorder::start(Conduct { hang_up_after: after, ..Conduct::default() });
        let plan = CallPlan { seconds: 30.0, ..plan(&recorder, transport) };
        let reports = place(plan, |_| {}).await.unwrap();
        assert_eq!(reports[0].ended_by, Some(EndedBy::Peer));
        recorder.until("the end", |noticed| noticed.ended == ["HungUp"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_reported_with_its_status() {
    for transport in [Transport::Udp, Transport::Tcp] {
        let recorder = Recorder::start(Conduct { busy: true, ..Conduct::default() });
        let reports = place(plan(&recorder, transport), |_| {}).await.unwrap();
        let Outcome::Refused { status, .. } = reports[0].outcome else { panic!("{reports:?}") };
        assert_eq!(status, 503);
        assert_eq!(reports[0].streams[0].packets_sent, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorder_that_does_not_answer_is_given_up() {
    let deaf = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let plan = CallPlan {
        transport: Transport::Udp,
        answer_timeout: Duration::from_millis(1700),
        ..CallPlan::to(deaf.local_addr().unwrap())
    };
    let reports = place(plan, |_| {}).await.unwrap();
    assert_eq!(reports[0].outcome, Outcome::Timeout);
    // Sent at once, after 0.5 s and after 1.5 s.
    deaf.set_nonblocking(true).unwrap();
    let mut buffer = [0; 65_536];
    let repeats = std::iter::from_fn(|| deaf.recv_from(&mut buffer).ok()).count();
    assert_eq!(repeats, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_is_made_again_for_the_bye() {
    let close_after = Some(Duration::from_millis(200));
    let recorder = Recorder::start(Conduct { close_after, ..Conduct::default() });
    let reports = place(plan(&recorder, Transport::Tcp), |_| {}).await.unwrap();
    assert_eq!(reports[0].ended_by, Some(EndedBy::Us), "{reports:?}");
    assert_eq!(reports[0].streams[0].packets_sent, 25);
    recorder.until("the end", |noticed| noticed.ended == ["Bye"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_hangs_up_every_call_and_begins_no_more() {
    let recorder = Recorder::start(Conduct::default());
    let plan = CallPlan {
        calls: 1000,
        rate_per_sec: 10.0,
        seconds: 60.0,
        ..plan(&recorder, Transport::Tcp)
    };
    let stop = tokio::time::sleep(Duration::from_millis(450));
    let reports = place_until(plan, |_| {}, stop).await.unwrap();
    assert!((1..=6).contains(&reports.len()), "{}", reports.len());
    assert!(reports.iter().all(|report| report.ended_by == Some(EndedBy::Us)), "{reports:?}");
    recorder.until("all ends", |noticed| noticed.ended.len() == reports.len()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_call_is_hung_up() {
    let recorder = Recorder::start(Conduct::default());
    let plan = CallPlan { seconds: 60.0, ..plan(&recorder, Transport::Udp) };
    let caller = Caller::connect(plan).await.unwrap();
    let mut call = caller.call(0).unwrap();
    assert_eq!(call.answered().await, Outcome::Answered);
    drop(call);
    recorder.until("the end", |noticed| noticed.ended == ["Bye"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_can_be_left_out_broken_or_changed_during_the_call() {
    let recorder = Recorder::start(Conduct::default());
    let none = CallPlan {
        metadata: MetadataStyle::None,
        labels: false,
        require: false,
        ..plan(&recorder, Transport::Tcp)
    };
    assert!(answered(&place(none, |_| {}).await.unwrap()));
    recorder.noticed(|noticed| {
        assert_eq!((noticed.unreadable_metadata, noticed.speakers[0].len()), (0, 0));
    });
    let broken = CallPlan { metadata: MetadataStyle::Broken, ..plan(&recorder, Transport::Tcp) };
    assert!(answered(&place(broken, |_| {}).await.unwrap()));
    recorder.noticed(|noticed| assert_eq!(noticed.unreadable_metadata, 1));
    let caller = Caller::connect(plan(&recorder, Transport::Tcp)).await.unwrap();
    let mut call = caller.call(4).unwrap();
    assert_eq!(call.answered().await, Outcome::Answered);
    recorder.until("Ana", |noticed| noticed.speakers[0] == ["Ana Novak 4"]).await;
    let eve = "<recording><participant id='e'><name>Eve</name><send>s</send></participant>\
               <stream id='s'><label>1</label></stream></recording>";
    call.send_metadata(eve.to_owned()).await.unwrap();
    recorder.until("Eve", |noticed| noticed.speakers[0] == ["Eve"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_told_and_a_report_survives_json() {
    let recorder = Recorder::start(Conduct::default());
    let told = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let telling = std::sync::Arc::clone(&told);
    let plan = CallPlan { streams: 1, codec: Codec::Pcma, ..plan(&recorder, Transport::Udp) };
    let reports = place(plan, move |progress| telling.lock().unwrap().push(progress)).await;
    let reports = reports.unwrap();
    let told = told.lock().unwrap();
    assert!(matches!(told[0], Progress::Answered { index: 0, .. }), "{told:?}");
    assert_eq!(told[1], Progress::Ended { index: 0, by: EndedBy::Us });
    let json = serde_json::to_string(&reports).unwrap();
    assert!(json.contains("\"outcome\":\"answered\""), "{json}");
    assert_eq!(serde_json::from_str::<Vec<CallReport>>(&json).unwrap(), reports);
}

#[tokio::test(flavor = "multi_thread")]
async fn audio_alone_is_sent_in_full() {
    let sink = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    sink.set_nonblocking(true).unwrap();
    let target = RtpTarget {
        address: sink.local_addr().unwrap(),
        source: SourceId::Speech { seed: 5 },
        codec: Codec::Pcmu,
    };
    let reports = send_rtp(vec![target], 0.5).await.unwrap();
    let mut buffer = [0; 2048];
    let mut packets = Vec::new();
    while let Ok((length, _)) = sink.recv_from(&mut buffer) {
        packets.push(buffer[..length].to_vec());
    }
    assert_eq!(packets.len(), 25);
    assert_spoken(&packets, &reports[0]);
}
