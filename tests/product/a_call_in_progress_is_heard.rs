//! Listening to a call while it lasts: pieces that play by themselves, join without a seam, and are
//! what is being said.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use caller::Transport;
use e2e::audio::correlation;
use e2e::calls::{place_beside, plan};
use e2e::product::Product;
use e2e::wait_until;

const SAMPLES_PER_MS: usize = 8;
/// A segment of 5 s, its upload, and the last moment, in which packets may still overtake others.
const MOST_BEHIND_MS: u64 = 7_000;

#[test]
fn a_call_is_heard_while_it_lasts_piece_by_piece_without_a_seam() {
    if Command::new("ffmpeg").arg("-version").stdout(Stdio::null()).status().is_err() {
        e2e::skip("a_call_is_heard_while_it_lasts_piece_by_piece_without_a_seam", "no ffmpeg");
        return;
    }
    let product = Product::start();
    let mut wanted = plan(product.sip, 24.0);
    wanted.transport = Transport::Udp;
    let call = place_beside(wanted);
    let id = wait_until("a live call", Duration::from_secs(20), || {
        product.get("/v1/live").1["recordings"][0]["id"].as_str().map(str::to_owned)
    });
    let began = Instant::now();
    let (mut heard, mut seams) = ([Vec::new(), Vec::new()], Vec::new());
    let (mut from_ms, mut least_behind_ms) = (0, u64::MAX);
    wait_until("the call to be heard", Duration::from_secs(60), || {
        let piece = product.live_piece(&id, from_ms);
        if let Some(webm) = &piece.webm {
            assert_eq!(piece.from_ms, from_ms, "the next one begins where the last one ended");
            assert!((1_000..=10_000).contains(&(piece.next_from_ms - from_ms)));
            let sides = decoded(webm);
            let samples = (piece.next_from_ms - from_ms) as usize * SAMPLES_PER_MS;
            for (heard, side) in heard.iter_mut().zip(sides) {
                assert_eq!(side.len(), samples, "as long as it says");
                heard.extend(side);
            }
            seams.push(heard[0].len());
            from_ms = piece.next_from_ms;
            let now_ms = u64::try_from(began.elapsed().as_millis()).expect("a short test");
            if piece.is_in_progress {
                least_behind_ms = least_behind_ms.min(now_ms.saturating_sub(from_ms));
            }
        }
        // What was said until then is enough; the rest is the recording's.
        (from_ms >= 18_000).then_some(())
    });
    assert!(least_behind_ms <= MOST_BEHIND_MS, "{least_behind_ms} ms behind at best");
    // Back to what was heard before.
    let again = product.live_piece(&id, 2_000);
    assert_eq!((again.from_ms, again.next_from_ms), (2_000, 12_000));

    let reports = call.join().expect("the call was placed");
    for (stream, heard) in reports[0].streams.iter().zip(&heard) {
        let sent = stream.source.samples(heard.len()).expect("made-up speech cannot fail");
        let (found, shift) = correlation(&sent, heard, 40 * SAMPLES_PER_MS);
        assert!(found > 0.9, "correlation {found:.3} at shift {shift}");
        // A second around each seam is as right as the rest.
        for seam in seams.iter().filter(|seam| **seam + 4_000 < heard.len()) {
            let around = seam - 4_000..seam + 4_000;
            let (found, _) = correlation(&sent[around.clone()], &heard[around], 320);
            assert!(found > 0.85, "correlation {found:.3} at {} ms", seam / SAMPLES_PER_MS);
        }
    }
    product.wait_for(&reports[0].call_id, "stored");
    assert_eq!(product.live_piece(&id, 0).status, 409, "it has become a recording");
}

/// Left and right at 8 kHz.
fn decoded(webm: &[u8]) -> [Vec<i16>; 2] {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(webm).expect("a temporary file");
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(file.path())
        .args(["-f", "s16le", "-ar", "8000", "-ac", "2", "-"])
        .output()
        .expect("ffmpeg starts");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let sample = |pair: &[u8]| i16::from_le_bytes([pair[0], pair[1]]);
    let side = |at: usize| output.stdout.chunks_exact(4).map(|both| sample(&both[at..])).collect();
    [side(0), side(2)]
}
