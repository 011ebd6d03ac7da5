//! The recorder as its operator sees it.

use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use model::WallTime;
use model::command::CommandBody;
use storage_ports::{EventQueue, Message};

use crate::support::{Site, Src, assert_said, new_command_id, now, trunks};

/// The message with all its causes, as an operator gets it.
fn report(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_recorder_refuses_new_calls_and_keeps_the_others() {
    let site = Site::new().await;
    let recorder = site.start().await;
    assert_eq!(recorder.wait_for_health(200).await, "ok\n");
    let mut src = Src::udp(recorder.ready.sip).await;
    assert_eq!(src.invite(Some(&src.metadata())).await.status, 200);
    assert_eq!(recorder.http("POST", "/drain").await.0, 202);
    let why = recorder.wait_for_health(503).await;
    assert!(why.contains("draining"), "{why}");

    let mut late = Src::udp(recorder.ready.sip).await;
    let refused = late.invite(None).await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.header("Retry-After"), Some("30"));
    let mut probe = Src::udp(recorder.ready.sip).await;
    assert_eq!(probe.request("OPTIONS", "", "").await.status, 503);

    let said = src.speak(5).await;
    assert_eq!(src.bye().await.status, 200);
    // And now that the last call is over, it goes by itself, with everything delivered.
    recorder.exited().await;
    let mut events = site.events();
    let session = events.session(&src.call_id).await;
    events.stored_end(session).await;
    assert_said(&site.stored(session).await.datagrams(1), &said[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_recorder_on_the_same_journal_is_refused() {
    let site = Site::new().await;
    let recorder = site.start().await;
    let error = site.try_start(site.config.clone()).await.err().expect("the journal is locked");
    let text = report(&error);
    assert!(text.contains("in use by another process"), "{text}");
    recorder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named_with_its_key() {
    let site = Site::new().await;
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    for (address, transport) in
        [(udp.local_addr().unwrap(), "UDP"), (tcp.local_addr().unwrap(), "TCP")]
    {
        let mut config = site.config.clone();
        config.sip.listen = address;
        let error = site.try_start(config).await.err().expect("the port is in use");
        let text = report(&error);
        for part in [address.to_string().as_str(), transport, "sip.listen", "in use"] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
    }
    let mut config = site.config.clone();
    config.admin.listen = tcp.local_addr().unwrap();
    let text = report(&site.try_start(config).await.err().unwrap());
    assert!(text.contains("admin.listen"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_free_ports_the_caller_is_sent_elsewhere() {
    let mut site = Site::new().await;
    // Room for one call of two streams.
    let first = site.config.rtp.ports.first;
    site.config.rtp.ports = format!("{first}-{}", first + 3).parse().unwrap();
    let recorder = site.start().await;
    let mut one = Src::udp(recorder.ready.sip).await;
    assert_eq!(one.invite(None).await.status, 200);
    let mut two = Src::udp(recorder.ready.sip).await;
    let refused = two.invite(None).await;
    assert_eq!(refused.status, 503);
    assert!(refused.header("Retry-After").is_some());
    assert_eq!(one.bye().await.status, 200);
    recorder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_no_trunk_is_forbidden_and_a_trunk_is_not_flagged() {
    let mut site = Site::new().await;
    site.config.sip.trunks = trunks(&["192.0.2.0/24"]);
    let recorder = site.start().await;
    assert_eq!(Src::tcp(recorder.ready.sip).await.invite(None).await.status, 403);
    recorder.stop().await;

    site.config.sip.trunks = trunks(&["192.0.2.0/24", "127.0.0.1"]);
    let recorder = site.start().await;
    let mut events = site.events();
    let mut src = Src::udp(recorder.ready.sip).await;
    assert_eq!(src.invite(None).await.status, 200);
    assert_eq!(src.bye().await.status, 200);
    let session = events.session(&src.call_id).await;
    let ended = events.stored_end(session).await;
    assert!(!format!("{ended:?}").contains("untrusted_source"));
    recorder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_tenants_key_no_call_is_taken_until_it_comes() {
    let site = Site::without_policy();
    let recorder = site.start().await;
    let why = recorder.wait_for_health(503).await;
    assert!(why.contains("public key of tenant default"), "{why}");
    assert_eq!(Src::udp(recorder.ready.sip).await.invite(None).await.status, 503);
    site.put_policy().await;
    let (ok, _) = site.command(&mut site.events(), CommandBody::PolicyChanged).await;
    assert!(ok);
    recorder.wait_for_health(200).await;
    let mut src = Src::udp(recorder.ready.sip).await;
    assert_eq!(src.invite(None).await.status, 200);
    recorder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_tell_of_calls_and_positions() {
    let site = Site::new().await;
    let recorder = site.start().await;
    let mut src = Src::udp(recorder.ready.sip).await;
    assert_eq!(src.invite(None).await.status, 200);
    src.speak(5).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let (status, text) = recorder.http("GET", "/metrics").await;
    assert_eq!(status, 200);
    for name in [
        "linekeeper_position_seconds{position=\"received\"}",
        "linekeeper_position_seconds{position=\"synced\"}",
        "linekeeper_position_seconds{position=\"stored\"}",
        "linekeeper_position_seconds{position=\"announced\"}",
        "linekeeper_calls_active",
        "linekeeper_rtp_packets_total",
        "linekeeper_rtp_lost_packets_total",
        "linekeeper_journal_sync_seconds_bucket",
        "linekeeper_oldest_unstored_seconds",
    ] {
        assert!(text.contains(name), "{name} is not in:\n{text}");
    }
    recorder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_command_is_put_aside_with_the_reason() {
    let site = Site::new().await;
    let recorder = site.start().await;
    let queue = site.engines.commands(&site.config.edge.name);
    queue.send(&[Message::now("{\"version\":1}".to_owned())]).await.unwrap();
    let deadline = std::time::Instant::now() + crate::support::PATIENCE;
    while queue.depth().await.unwrap().dead_letters == 0 {
        assert!(std::time::Instant::now() < deadline, "the message was not put aside");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let dead = queue.dead_letters(1).await.unwrap();
    assert!(dead[0].reason.contains("not a command"), "{}", dead[0].reason);
    recorder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_carried_out_once_and_never_late() {
    let site = Site::new().await;
    let recorder = site.start().await;
    let mut events = site.events();
    let mut src = Src::udp(recorder.ready.sip).await;
    assert_eq!(src.invite(None).await.status, 200);
    let session = events.session(&src.call_id).await;
    let recording = session.first_recording();
    let id = new_command_id();
    site.send_command(id, now(), CommandBody::Pause { recording }).await;
    assert!(events.outcome(id).await.0);
    assert!(site.command(&mut events, CommandBody::Resume { recording }).await.0);
    // The queue delivers the first one again, and then one from before an outage.
    site.send_command(id, now(), CommandBody::Pause { recording }).await;
    let late = new_command_id();
    let at = WallTime::from_unix_ms(now().unix_ms() - 61_000);
    site.send_command(late, at, CommandBody::Stop { recording }).await;
    let (ok, detail) = events.outcome(late).await;
    assert!(!ok && detail.contains("too long"), "{detail}");

    let said = src.speak(5).await;
    assert_eq!(src.bye().await.status, 200);
    events.stored_end(session).await;
    assert_said(&site.stored(session).await.datagrams(0), &said[0]);
    let queue = site.engines.commands(&site.config.edge.name);
    assert_eq!(queue.depth().await.unwrap().waiting, 0, "every command was acknowledged");
    recorder.stop().await;
}
