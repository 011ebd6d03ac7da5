//! What a player and a download get: ranges, tags, and parts that are not there.

use axum::http::Method;
use lambdas::api::MediaBy;
use model::TenantId;
use model::object_key::{ObjectKey, Output};
use storage_ports::PutMode;

use crate::harness::{Api, Call};

/// Larger than what is read from the store at a time.
static AUDIO: [u8; 600_000] = {
    let mut bytes = [0; 600_000];
    let mut at = 0;
    while at < bytes.len() {
        bytes[at] = (at / 251) as u8 ^ (at % 251) as u8;
        at += 1;
    }
    bytes
};

async fn built(api: &Api) -> Call {
    let mut call = Call::started(api, 1, TenantId::default()).await;
    call.ended(api).await;
    let peaks = format!("{{\"version\":2,\"data\":[{}0]}}", "1,2,".repeat(1_000));
    call.built(api, &AUDIO, &peaks).await;
    call
}

#[tokio::test]
async fn audio_that_is_not_there_yet_says_why() {
    let api = Api::new().await;
    let mut call = Call::started(&api, 1, TenantId::default()).await;
    for part in ["audio", "audio?format=wav", "peaks"] {
        let path = format!("/v1/recordings/{}/{part}", call.id);
        let message = api.get_as("supervisor", &path).await.refused(409, "not_playable_yet");
        assert!(message.contains("in progress"), "{message}");
    }
    call.ended(&api).await;
    let path = format!("/v1/recordings/{}/audio", call.id);
    let message = api.get_as("supervisor", &path).await.refused(409, "not_playable_yet");
    assert!(message.contains("has just ended"), "{message}");
}

#[tokio::test]
async fn a_player_can_seek() {
    let api = Api::new().await;
    let call = built(&api).await;
    let bearer = api.bearer("supervisor").await;
    let path = format!("/v1/recordings/{}/audio", call.id);
    let ask = async |method, range: &str, more: &[(&str, &str)]| {
        let mut headers = vec![("authorization", bearer.as_str()), ("accept-encoding", "gzip, br")];
        if !range.is_empty() {
            headers.push(("range", range));
        }
        headers.extend(more);
        api.ask(method, &path, &headers).await
    };

    let whole = ask(Method::GET, "", &[]).await;
    assert_eq!(whole.status, 200);
    assert!(whole.body == AUDIO[..], "the bytes differ");
    assert_eq!(whole.header("content-type"), "audio/webm");
    assert_eq!(whole.header("accept-ranges"), "bytes");
    assert_eq!(whole.header("content-encoding"), "");
    assert_eq!(whole.header("content-length"), "600000");
    assert!(whole.header("content-disposition").contains(&format!("{}.webm", call.id)));

    for (range, part) in [
        ("bytes=0-0", 0..1),
        ("bytes=100-299999", 100..300_000),
        ("bytes=599990-", 599_990..600_000),
        ("bytes=-5", 599_995..600_000),
    ] {
        let answer = ask(Method::GET, range, &[]).await;
        assert_eq!(answer.status, 206, "{range}");
        assert!(answer.body == AUDIO[part.clone()], "{range}: the bytes differ");
        let shown = format!("bytes {}-{}/600000", part.start, part.end - 1);
        assert_eq!(answer.header("content-range"), shown);
    }
    let past = ask(Method::GET, "bytes=600000-", &[]).await;
    past.refused(416, "bad_range");
    assert_eq!(past.header("content-range"), "bytes */600000");

    let head = ask(Method::HEAD, "", &[]).await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), "600000");

    let tag = whole.header("etag").to_owned();
    assert_eq!(ask(Method::GET, "", &[("if-none-match", &tag)]).await.status, 304);
    assert_eq!(ask(Method::GET, "bytes=0-9", &[("if-range", &tag)]).await.status, 206);
    assert_eq!(ask(Method::GET, "bytes=0-9", &[("if-range", "\"older\"")]).await.status, 200);
}

#[tokio::test]
async fn peaks_come_as_json() {
    let api = Api::new().await;
    let call = built(&api).await;
    let path = format!("/v1/recordings/{}/peaks", call.id);
    let answer = api.get_as("supervisor", &path).await;
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.json()["version"], 2);
    let bearer = api.bearer("supervisor").await;
    let headers = [("authorization", bearer.as_str()), ("accept-encoding", "gzip")];
    let packed = api.ask(Method::GET, &path, &headers).await;
    assert_eq!(packed.header("content-encoding"), "gzip");
    assert!(packed.body.len() < answer.body.len() / 10);
}

#[tokio::test]
async fn a_track_that_does_not_exist_is_not_found() {
    let api = Api::new().await;
    let call = built(&api).await;
    let path = format!("/v1/recordings/{}/audio?format=wav&track=2", call.id);
    let message = api.get_as("supervisor", &path).await.refused(404, "not_found");
    assert!(message.contains("the call has 2"), "{message}");
}

#[tokio::test]
async fn an_object_that_is_gone_is_our_fault_and_not_the_clients() {
    let api = Api::new().await;
    let call = built(&api).await;
    let key = ObjectKey::output(&call.tenant, call.id, 1, Output::Webm);
    api.state.objects.delete(&key).await.unwrap();
    let path = format!("/v1/recordings/{}/audio", call.id);
    let message = api.get_as("supervisor", &path).await.refused(500, "internal");
    assert!(!message.contains("t/default"), "{message}");
}

#[tokio::test]
async fn a_signed_url_plays_without_signing_in_and_cannot_be_bent() {
    let api = Api::with(MediaBy::SignedUrl).await;
    let call = built(&api).await;
    let path = format!("/v1/recordings/{}/audio", call.id);
    let answer = api.get_as("supervisor", &path).await;
    assert_eq!(answer.status, 307);
    let url = answer.header("location").to_owned();

    let played = api.ask(Method::GET, &url, &[("range", "bytes=10-19")]).await;
    assert_eq!(played.status, 206);
    assert!(played.body == AUDIO[10..20], "the bytes differ");
    assert_eq!(played.header("content-type"), "audio/webm");

    for (from, to) in [
        ("audio.webm", "peaks.json"),
        ("expires=1", "expires=2"),
        ("type=audio%2Fwebm", "type=text%2Fhtml"),
        ("signature=", "signature=A"),
        ("?expires", "?expired"),
        ("objects/t/", "objects/../t/"),
    ] {
        let bent = url.replacen(from, to, 1);
        assert_ne!(bent, url);
        api.ask(Method::GET, &bent, &[]).await.refused(404, "not_found");
    }
}

#[tokio::test]
async fn wav_is_made_when_it_is_asked_for() {
    let api = Api::new().await;
    let call = built(&api).await;
    let bearer = api.bearer("supervisor").await;
    let path = format!("/v1/recordings/{}/audio?format=wav", call.id);
    let headers = [("authorization", bearer.as_str())];
    let whole = api.ask(Method::GET, &path, &headers).await;
    assert_eq!(whole.status, 200, "{:?}", whole.body);
    assert_eq!(whole.header("content-type"), "audio/wav");
    assert!(whole.header("content-disposition").contains(&format!("{}.wav", call.id)));
    // A second of two channels of 16 bits at 8 kHz.
    assert_eq!(whole.body.len(), 44 + 8_000 * 2 * 2);
    assert_eq!(&whole.body[..4], b"RIFF");

    let part = [("authorization", bearer.as_str()), ("range", "bytes=44-47")];
    let answer = api.ask(Method::GET, &path, &part).await;
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (206, &whole.body[44..48]));

    for (track, is_loud) in [(0, true), (1, false)] {
        let path = format!("{path}&track={track}");
        let answer = api.ask(Method::GET, &path, &headers).await;
        assert_eq!(answer.body.len(), 44 + 8_000 * 2, "track {track}");
        let middle = i16::from_le_bytes([answer.body[8_044], answer.body[8_045]]);
        assert_eq!(middle.unsigned_abs() > 30_000, is_loud, "track {track}: {middle}");
        assert_ne!(answer.header("etag"), whole.header("etag"));
    }
}

#[tokio::test]
async fn one_track_or_one_channel_comes_as_webm_and_all_without_loss_as_flac() {
    let api = Api::new().await;
    let call = built(&api).await;
    let path = format!("/v1/recordings/{}/audio", call.id);
    for (query, begin, content_type) in [
        ("track=0", &b"\x1a\x45\xdf\xa3"[..], "audio/webm"),
        ("track=1", b"\x1a\x45\xdf\xa3", "audio/webm"),
        ("mono=1", b"\x1a\x45\xdf\xa3", "audio/webm"),
        ("format=flac", b"fLaC", "audio/flac"),
    ] {
        let answer = api.get_as("supervisor", &format!("{path}?{query}")).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, content_type));
        assert!(answer.body.starts_with(begin), "{query}");
        let channels = match content_type {
            // In the stream's information (RFC 9639 §8.2), less one, after 4 + 4 + 10 + 2.5 bytes.
            "audio/flac" => (answer.body[20] >> 1 & 7) + 1,
            _ => {
                let head = answer.body.windows(8).position(|bytes| bytes == b"OpusHead");
                answer.body[head.expect("a header of Opus") + 9]
            }
        };
        assert_eq!(channels, if query == "format=flac" { 2 } else { 1 }, "{query}");
    }
    let path = format!("{path}?track=2");
    api.get_as("supervisor", &path).await.refused(404, "not_found");
}

#[tokio::test]
async fn damage_to_the_original_is_never_served_as_audio() {
    let api = Api::new().await;
    let call = built(&api).await;
    let key = ObjectKey::packets(&call.tenant, call.id);
    let mut bytes = api.state.objects.get(&key).await.unwrap().to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    api.state.objects.put(&key, bytes.into(), PutMode::Replace).await.unwrap();
    for part in ["audio?format=wav", "audio?format=wav&track=1"] {
        let path = format!("/v1/recordings/{}/{part}", call.id);
        api.get_as("supervisor", &path).await.refused(500, "internal");
    }
}
